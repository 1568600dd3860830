"""
What was removed by rule, in one go. Pure.
"""

from typing import Literal

import msgspec

from recorder.lake.layout import hour_label, hour_of


class Removal(msgspec.Struct, frozen=True):
    """
    What was removed in one go, or would be.
    """

    what: Literal["journal", "lake"]
    first: int
    """Of what was removed: the earliest instant, ns, …"""
    last: int
    """… and the end of the latest hour, or the begin of the latest segment."""
    files: int
    bytes: int
    by_rule: bool = True
    """Of a recorder that puts it on record; else nobody has said so yet."""

    @property
    def words(self) -> str:
        """
        For people.
        """
        unit = "journal files whose hours are sealed" if self.what == "journal" else "files of the lake"
        return (
            f"{self.files:,} {unit}, {self.bytes / 1e6:,.1f} MB, "
            f"of {hour_label(hour_of(self.first))} to {hour_label(hour_of(self.last))}"
        )
