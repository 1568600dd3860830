"""
The configuration as the stages take it. Pure.
"""

from typing import TypeVar

import msgspec

from recorder.capture.session import SessionSettings
from recorder.capture.tape import TapeSettings
from recorder.capture.wire import ClientSettings
from recorder.config import Config
from recorder.config_streams import copies, quality_settings, streams
from recorder.journal.writer import JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.redaction import redacted

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
    return ClientSettings(
        open_timeout_s=config.capture.open_timeout_s,
        max_frame_bytes=config.capture.max_frame_bytes,
        max_queue=config.capture.max_queue,
        ping_interval_s=config.capture.ping_interval_s,
        ping_timeout_s=config.capture.ping_timeout_s,
        compression=config.capture.compression,
        pins=config.venue.pins,
        proxy=config.venue.proxy,
    )


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
        urls=list(dict.fromkeys(redacted(url) for url in urls)),
        streams=streams(config),
        quality=quality_settings(config),
        journal=journal_settings(config),
        copies=len(urls),
    )


def _pick(kind: type[_S], source: msgspec.Struct) -> _S:
    return kind(**{name: getattr(source, name) for name in kind.__struct_fields__})
