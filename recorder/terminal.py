"""
The console that all verbs print to, and words for numbers and durations.
"""

from typing import Any

from rich.console import Console

WIDTH_OF_A_FILE = 160


class PlainConsole(Console):
    """
    Prints text as it is: what a file or a venue says is never markup.
    """

    def on_broken_pipe(self) -> None:
        """
        Leave it to the verb's caller: whoever read our output has had enough.
        """
        raise BrokenPipeError


def console() -> Console:
    """
    For tables: as wide as the terminal, and wide enough for a file when there is none.
    """
    options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    made = PlainConsole(**options)
    return made if made.is_terminal else PlainConsole(**options, width=WIDTH_OF_A_FILE)


def many(count: int, one: str, more: str | None = None) -> str:
    """
    `1 hour`, `1,200 hours`.
    """
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def lasting(seconds: float) -> str:
    """
    A duration: `0.4 s`, `12 min 05 s`, `3 h 10 min`, `2 d 04 h`.
    """
    if round(seconds, 1) < 60:
        # Nothing that lasted is shown as nothing.
        return f"{seconds:.1f} s" if seconds >= 0.05 or not seconds else "<0.1 s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
