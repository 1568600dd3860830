"""
The configuration as the stages take it, and what of it can change while they run. Pure.
"""

from typing import TypeVar

import msgspec

from recorder.capture.session import SessionSettings
from recorder.capture.tape import TapeSettings
from recorder.capture.wire import ClientSettings
from recorder.config import TABLES, Config
from recorder.config_streams import copies, quality_settings, streams
from recorder.journal.writer import JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.records import Stream

LIVE_TABLE = "markets"
"""Of the configuration: what a running recorder takes over. All else is read at the start alone."""

_S = TypeVar("_S", bound=msgspec.Struct)


def session_settings(config: Config) -> SessionSettings:
    """
    The conversation's limits, out of the configuration.
    """
    return _pick(SessionSettings, config.capture)


def client_settings(config: Config) -> ClientSettings:
    """
    The sockets' limits, out of the configuration.
    """
    return _pick(ClientSettings, config.capture)


def journal_settings(config: Config) -> JournalSettings:
    """
    The journal's, out of the configuration.
    """
    journal = config.journal
    return JournalSettings(
        commit_interval_s=journal.commit_interval_ms / 1000,
        commit_bytes=journal.commit_bytes,
        segment_s=journal.segment_s,
        segment_bytes=journal.segment_bytes,
        frame_s=journal.frame_s,
        level=journal.level,
        queue_bytes=journal.queue_bytes,
    )


def tape_settings(config: Config) -> TapeSettings:
    """
    What a run says of itself, out of the configuration.
    """
    urls = copies(config)
    return TapeSettings(
        journal_folder=config.storage.root / JOURNAL,
        venue=config.venue.name,
        network=config.venue.network,
        urls=list(dict.fromkeys(urls)),
        streams=streams(config),
        quality=quality_settings(config),
        journal=journal_settings(config),
        copies=len(urls),
    )


def _pick(kind: type[_S], source: msgspec.Struct) -> _S:
    return kind(**{name: getattr(source, name) for name in kind.__struct_fields__})


class Change(msgspec.Struct, frozen=True):
    """
    From one configuration to another, while recording.
    """

    fixed: list[str]
    """Dotted names of keys that differ and cannot change; if there are any, nothing is changed."""
    added: list[Stream]
    removed: list[Stream]


def change(before: Config, after: Config) -> Change:
    """
    What another configuration asks of a recorder that runs by `before`.
    """
    fixed = [
        f"{table}.{key}"
        for table, struct in TABLES.items()
        for key in struct.__struct_fields__
        if table != LIVE_TABLE and getattr(getattr(before, table), key) != getattr(getattr(after, table), key)
    ]
    old, new = streams(before), streams(after)
    return Change(fixed, [s for s in new if s not in old], [s for s in old if s not in new])
