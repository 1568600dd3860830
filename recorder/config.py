"""
The configuration: every setting, its default, unit and range, once.

A file is TOML and read strictly: an unknown table or key, a wrong type or a value out of range is a `ConfigError` that
names file, key, value and what is allowed, of all mistakes at once; how values fit together is looked at when each is
right. Nothing is corrected silently, because a setting that was meant otherwise is
found only when the recording is needed. Ranges stand beside the defaults, in the structs; what needs more than a range
is in `config_values.py`; what it all asks for, stream by stream, in `config_streams.py`. `config/velocity-mainnet.toml`
shows every key, and a test holds it to these defaults.

Of the package this module imports only the venue's constants and market lists; nothing there imports it.
"""

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from recorder import config_values as values
from recorder.config_ops import Lake, Metrics, Notify, check_metrics, check_notify
from recorder.config_values import PLAINTEXT_WORDS, Wrong, noted
from recorder.errors import ConfigError, whose
from recorder.records import QualitySettings
from recorder.redaction import secrets_in
from recorder.venue.markets import NETWORKS
from recorder.venue.protocol import Channel

MAX_FILE_BYTES = 1 << 20
MOST_NAMED = 20
"""Of the mistakes in one file."""

# The thresholds of the monitor are journaled, so their defaults are with the record that carries them.
_QUALITY = QualitySettings()

_EXAMPLES = "see the examples in config/"


class Venue(msgspec.Struct, frozen=True):
    """
    `[venue]`: whom to listen to.
    """

    name: str
    """Label in every file, and what a data root is bound to."""
    url: str
    """`wss://host/ws`; the server answers any path but `/ws` with 400. A query string is allowed."""
    network: str
    """Which shipped market list names the indices of trade frames and scales sizes."""
    allow_plaintext: str = ""
    """`ws://` to another machine can be altered on its way; it takes `PLAINTEXT_WORDS` here to use it."""
    copy_urls: tuple[str, ...] = ()
    """Where the second copy and those after it come from (`capture.redundancy`), in order; `url` for what is left."""
    pins: tuple[str, ...] = ()
    """SHA-256 of public keys (SubjectPublicKeyInfo), base64: the certificate chain must hold one, and be valid too."""
    proxy: str = ""
    """`http://host:port` to tunnel through. Empty: none; proxy variables of the environment are never followed."""


class Markets(msgspec.Struct, frozen=True):
    """
    `[markets]`: what to listen to: every market × channel × grouping.
    """

    perp: tuple[str, ...] = ()
    """Symbols, or `"*"` for all perps the list has as listed. Resolved, in the list's spelling."""
    spot: tuple[str, ...] = ()
    """The same for spot markets; tokens without a book are not in `"*"`."""
    channels: tuple[Channel, ...] = ("orderbook", "trades")
    grouping: tuple[int, ...] = (1,)
    """Ticks a level of the books covers: one number or several. 1 is the finest there is."""


class Storage(msgspec.Struct, frozen=True):
    """
    `[storage]`: where to put it.
    """

    root: Path
    """The data root; a relative path starts at the working directory."""
    stop_free_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 67_108_864
    """With less than this free, capture stops until there is half as much again."""
    stop_free_inodes: Annotated[int, Meta(ge=0, le=1 << 32)] = 256
    """Likewise, in files and folders; journal goes early below four times this."""
    expire_free_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 1_073_741_824
    """With less than this free, sealed journal is removed before `journal.keep_days`."""
    reserve_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 8_388_608
    """Of a file that takes space until the disk is full, so that what is in memory can be written then; 0: none."""


class Capture(msgspec.Struct, frozen=True):
    """
    `[capture]`: connections and their timers.
    """

    open_timeout_s: Annotated[float, Meta(ge=1, le=10)] = 10.0
    """For TCP, TLS and handshake together; a server that drips its answer must not hold us longer."""
    heartbeat_timeout_s: Annotated[float, Meta(ge=6, le=120)] = 11.0
    """Without a heartbeat for this long a connection is dead. One comes each 5 s; the vendor's client waits 11 s."""
    idle_timeout_s: Annotated[float, Meta(ge=6, le=600)] = 10.5
    """Without any whole message for this long: also catches a giant frame that never ends."""
    silent_after_s: Annotated[float, Meta(ge=2, le=50)] = _QUALITY.silent_after_s
    """A subscribed market without a book for this long is resubscribed; books come each 0.4 to 1 s."""
    ack_timeout_s: Annotated[float, Meta(ge=1, le=120)] = 10.0
    """For the acknowledgement of a subscribe."""
    subscribe_interval_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    """Between two requests, so that a hundred subscriptions are not a burst."""
    retry_rejected_s: Annotated[float, Meta(ge=10, le=86_400)] = 300.0
    """Until a rejected or unacknowledged market is asked for again; it may be listed later."""
    reconnect_first_s: Annotated[float, Meta(ge=0, le=60)] = 1.0
    """Longest wait before the first reconnect; each further failure doubles it, with full jitter."""
    reconnect_max_s: Annotated[float, Meta(ge=1, le=600)] = 30.0
    """Where the doubling ends. Reconnecting never does."""
    healthy_after_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """A connection that lived this long sets the wait back to the first."""
    all_silent_retry_s: Annotated[float, Meta(ge=10, le=600)] = 60.0
    """With every book silent, reconnect after this long; doubles to 600 s while it does not help."""
    max_frame_bytes: Annotated[int, Meta(ge=65_536, le=16_777_216)] = 4_194_304
    """Largest message taken; the largest known, an old ungrouped book, is about 24 kB."""
    max_queue: Annotated[int, Meta(ge=16, le=65_536)] = 1024
    """Messages the websocket library may hold before it stops reading the socket."""
    ping_interval_s: Annotated[float, Meta(ge=1, le=600)] = 20.0
    """Between our pings: the server sends none, and a half-open connection shows no other way."""
    ping_timeout_s: Annotated[float, Meta(ge=1, le=600)] = 20.0
    """For the pong."""
    markets_per_connection: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Split the markets over connections of at most this many; 0: all on one."""
    redundancy: Annotated[int, Meta(ge=1, le=4)] = 1
    """Record everything so many times, over connections of their own; each frame is in the lake once."""
    compression: bool = True
    """Offer permessage-deflate, which makes the traffic several times smaller."""


class Journal(msgspec.Struct, frozen=True):
    """
    `[journal]`: how often what was heard is made durable, and how long it is kept.
    """

    commit_interval_ms: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Between two syncs: what a crash can cost."""
    commit_bytes: Annotated[int, Meta(ge=4096, le=67_108_864)] = 262_144
    """Sync earlier when this much is waiting."""
    segment_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    """A journal file ends after this long; the seal reads closed ones."""
    segment_bytes: Annotated[int, Meta(ge=1_048_576, le=1_073_741_824)] = 67_108_864
    """Or at this size."""
    frame_s: Annotated[float, Meta(ge=0.1, le=60)] = 2.0
    """A new zstd frame at least this often: damage inside a file costs at most one."""
    level: Annotated[int, Meta(ge=1, le=19)] = 1
    """zstd level; higher ones cost the writer more CPU for each frame."""
    queue_bytes: Annotated[int, Meta(ge=1_048_576, le=4_294_967_296)] = 67_108_864
    """Held in memory while the disk is slow; what is beyond is dropped by name."""
    keep_days: Annotated[float, Meta(ge=0.1, le=36_500)] = 7.0
    """Days a file stays after its hours are sealed and read back, by the clock and by what was recorded since."""
    keep_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    """Sealed files beyond this total go earlier, oldest first; 0: no limit."""


class Quality(msgspec.Struct, frozen=True):
    """
    `[quality]`: when something counts as a hole. At most 50 s each: an hour is judged from the minute after it.
    """

    heartbeat_gap_s: Annotated[float, Meta(ge=6, le=50)] = _QUALITY.heartbeat_gap_s
    """An interval between heartbeats longer than this is an event; twice the regular 5 s."""
    trade_wait_s: Annotated[float, Meta(ge=0, le=50)] = _QUALITY.trade_wait_s
    """How long a missing fill id may still arrive: fills of one slot come newest first."""
    halted_after_s: Annotated[float, Meta(ge=10, le=50)] = _QUALITY.halted_after_s
    """When all books of all connections are silent for this long while heartbeats come, the venue is halted."""


class Seal(msgspec.Struct, frozen=True):
    """
    `[seal]`: turning closed hours into Parquet.
    """

    enabled: bool = True
    """Seal while recording. Off: run `drift-recorder seal` yourself; the journal is kept until then."""


class Log(msgspec.Struct, frozen=True):
    """
    `[log]`: what goes to standard error.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """auto: text, with priorities instead of times where systemd's journal reads it; json: an object a line."""


class Config(msgspec.Struct, frozen=True):
    """
    A whole configuration, checked.
    """

    venue: Venue
    markets: Markets
    storage: Storage
    capture: Capture = Capture()
    journal: Journal = Journal()
    quality: Quality = Quality()
    seal: Seal = Seal()
    log: Log = Log()
    metrics: Metrics = Metrics()
    lake: Lake = Lake()
    notify: Notify = Notify()


TABLES: dict[str, type[msgspec.Struct]] = {field.name: field.type for field in msgspec.structs.fields(Config)}
"""The tables of a file, in order."""


def load_config(path: Path) -> Config:
    """
    Read and check a file.

    Raises:
        ConfigError: it cannot be read, is no TOML, or holds mistakes.
    """
    file = values.one_line(str(path))
    try:
        with path.open("rb") as source:
            raw = source.read(MAX_FILE_BYTES + 1)
            status = os.fstat(source.fileno())
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}{whose(error)}"
        hint = "check its owner and mode" if isinstance(error, PermissionError) else f"give a TOML file, {_EXAMPLES}"
        raise ConfigError(file=file, key="file", problem=problem, allowed=hint) from None
    if len(raw) > MAX_FILE_BYTES:
        problem = f"is larger than {MAX_FILE_BYTES} bytes"
        raise ConfigError(file=file, key="file", problem=problem, allowed=f"give a TOML file, {_EXAMPLES}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise ConfigError(file=file, key="file", problem=problem, allowed="TOML is always UTF-8: save it so") from None
    config = parse_config(text, file=file)
    _refuse_open_secrets(file, status, list(secrets_in(tomllib.loads(text.removeprefix("\ufeff")))))
    return config


def _refuse_open_secrets(file: str, status: os.stat_result, keys: list[str]) -> None:
    """
    A file with a secret is for its owner; one that another owns may be for the group too, or we could not read it.
    """
    theirs = 0o007 if status.st_uid != os.geteuid() else 0o077
    if keys and status.st_mode & theirs:
        raise ConfigError(
            file=file,
            key=keys[0],
            problem=f"is a secret, and others may read the file (mode {status.st_mode & 0o777:04o})",
            allowed="chmod 600 it, or 640 where root owns it and the recorder's group reads it",
        )


def parse_config(text: str, *, file: str) -> Config:
    """
    Check the text of a file; `file` is its name for messages.

    Raises:
        ConfigError: it is no TOML or holds mistakes; each is named.
    """
    try:
        # A file saved on Windows: tomllib takes CRLF, but not a byte order mark.
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ConfigError(file=file, key="TOML", problem="nested too deeply", allowed=_EXAMPLES) from None
    except ValueError as error:
        raise ConfigError(file=file, key="TOML", problem=values.one_line(str(error)), allowed=_EXAMPLES) from None
    wrong: list[Wrong] = []
    config = _config(document, wrong)
    if config is None:
        lines = [f"{file}: {each.key}: {each.problem}; {each.allowed}" for each in wrong[1:MOST_NAMED]]
        more = [f"{file}: and {len(wrong) - MOST_NAMED} further mistakes"] if len(wrong) > MOST_NAMED else []
        first = wrong[0]
        raise ConfigError(
            file=file, key=first.key, problem=first.problem, allowed=first.allowed, further=[*lines, *more]
        )
    return config


def _config(document: dict[str, Any], wrong: list[Wrong]) -> Config | None:
    """
    None, and what is wrong, if anything is. What a table means is looked at where its keys and types are right.
    """
    for name, value in document.items():
        with noted(wrong):
            _refuse_strange(name, value)
    given = {name: document.get(name, {}) for name in TABLES}
    tables: dict[str, dict[str, Any]] = {}
    for name, struct in TABLES.items():
        if isinstance(given[name], dict):
            known = len(wrong)
            table = _table(name, struct, given[name], wrong)
            if len(wrong) == known:
                tables[name] = table
    # Of a network that has no list, any list does to see what else is wrong.
    network = tables.get("venue", {}).get("network")
    meaning: dict[str, Callable[[dict[str, Any]], msgspec.Struct]] = {
        "venue": lambda table: _venue(Venue(**table), wrong),
        "markets": lambda table: _markets(table, network if network in NETWORKS else NETWORKS[0], wrong),
        "storage": lambda table: Storage(**{**table, "root": values.root_folder(table["root"])}),
        "metrics": lambda table: check_metrics(Metrics(**table)),
        "notify": lambda table: check_notify(Notify(**table)),
    }
    parts: dict[str, Any] = {}
    for name, table in tables.items():
        with noted(wrong):
            parts[name] = meaning[name](table) if name in meaning else TABLES[name](**table)
    config = None if wrong else Config(**parts)
    if config is not None:
        _fit_together(config, wrong)
    return None if wrong else config


def _refuse_strange(name: str, value: object) -> None:
    if name not in TABLES:
        home = _home(name)
        if home:
            raise Wrong(name, "stands outside its table", f"put it under [{home}]")
        hint = values.did_you_mean(name, TABLES)
        what = "table" if isinstance(value, dict) else "key"
        raise Wrong(
            values.one_line(name), f"unknown {what}{hint}", values.allowed_words(f"[{known}]" for known in TABLES)
        )
    if not isinstance(value, dict):
        raise Wrong(name, f"{values.show(value)} is not a table", f"begin it with a line [{name}]")


def _table(name: str, struct: type[msgspec.Struct], given: dict[str, Any], wrong: list[Wrong]) -> dict[str, Any]:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for key in given:
        if key not in fields:
            home = _home(key)
            hint = f", it belongs under [{home}]" if home else values.did_you_mean(key, fields)
            wrong.append(Wrong(f"{name}.{values.one_line(key)}", f"unknown key{hint}", values.allowed_words(fields)))
    for key, field in fields.items():
        if field.required and key not in given:
            allowed = f"add under [{name}] a line {key} = {_REQUIRED[key]}"
            wrong.append(Wrong(f"{name}.{key}", "missing", allowed))
    if struct is Markets:  # its members have forms of their own
        return given
    taken = {}
    for key, value in given.items():
        if key in fields:
            with noted(wrong):
                taken[key] = values.convert(f"{name}.{key}", value, fields[key].type)
    return taken


def _venue(venue: Venue, wrong: list[Wrong]) -> Venue:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", venue.name):
        allowed = "allowed: 1 to 64 letters, digits, - and _"
        wrong.append(Wrong("venue.name", f"{values.show(venue.name)} cannot be a label", allowed))
    if venue.network not in NETWORKS:
        hint = values.did_you_mean(venue.network, NETWORKS)
        problem = f"{values.show(venue.network)} has no market list{hint}"
        wrong.append(Wrong("venue.network", problem, values.allowed_words(NETWORKS)))
    if venue.allow_plaintext not in {"", PLAINTEXT_WORDS}:
        allowed = f'allowed: "" or exactly "{PLAINTEXT_WORDS}"'
        wrong.append(Wrong("venue.allow_plaintext", f"{values.show(venue.allow_plaintext)} are not the words", allowed))
    for key, addresses in (("venue.url", (venue.url,)), ("venue.copy_urls", venue.copy_urls)):
        for address in addresses:
            with noted(wrong):
                values.check_url(key, address, plaintext_allowed=venue.allow_plaintext == PLAINTEXT_WORDS)
                if venue.pins and not address.startswith("wss:"):
                    raise Wrong(
                        "venue.pins", f"{key} is not encrypted, so it has no key to pin", "allowed: with wss:// only"
                    )
    with noted(wrong):
        values.check_pins("venue.pins", venue.pins)
    with noted(wrong):
        values.check_proxy("venue.proxy", venue.proxy)
    return venue


def _markets(given: dict[str, Any], network: str, wrong: list[Wrong]) -> Markets:
    forms: dict[str, Callable[[Any], Any]] = {
        "perp": lambda value: values.symbols("perp", value, network),
        "spot": lambda value: values.symbols("spot", value, network),
        "channels": values.channels,
        "grouping": values.groupings,
    }
    taken: dict[str, Any] = {}
    for key, form in forms.items():
        if key in given:
            with noted(wrong):
                taken[key] = form(given[key])
    if not any(taken.get(key, given.get(key)) for key in ("perp", "spot")):
        raise Wrong("markets", "names no market", 'give perp or spot a list of symbols, or "*" for all listed')
    return Markets(**taken)


def _fit_together(config: Config, wrong: list[Wrong]) -> None:
    capture, journal = config.capture, config.journal
    named, further = len(config.venue.copy_urls), capture.redundancy - 1
    if named > further:
        wrong.append(
            Wrong(
                "venue.copy_urls",
                f"names {named} more {'server' if named == 1 else 'servers'}, with capture.redundancy = {further + 1}",
                f"allowed: up to {further}, one for each copy after the first, or raise capture.redundancy",
            )
        )
    for key, value, limit, limit_value in (
        ("capture.reconnect_first_s", capture.reconnect_first_s, "capture.reconnect_max_s", capture.reconnect_max_s),
        ("capture.max_frame_bytes", capture.max_frame_bytes, "journal.queue_bytes", journal.queue_bytes),
        ("journal.commit_bytes", journal.commit_bytes, "journal.queue_bytes", journal.queue_bytes),
        ("journal.commit_bytes", journal.commit_bytes, "journal.segment_bytes", journal.segment_bytes),
        (
            "storage.stop_free_bytes",
            config.storage.stop_free_bytes,
            "storage.expire_free_bytes",
            config.storage.expire_free_bytes,
        ),
        ("journal.frame_s", journal.frame_s, "journal.segment_s", journal.segment_s),
    ):
        if value > limit_value:
            allowed = f"allowed: up to {limit_value:.15g}, or raise {limit}"
            wrong.append(Wrong(key, f"{value:.15g} is more than {limit}", allowed))


_REQUIRED = {
    "name": '"velocity-mainnet"',
    "url": '"wss://dlob.velocity.exchange/ws"',
    "network": '"velocity-mainnet-beta"',
    "root": '"data"',
}
"""What a line of each key without a default may look like."""


def _home(key: str) -> str | None:
    """
    The one table that has this key.
    """
    homes = [name for name, struct in TABLES.items() if key in struct.__struct_fields__]
    return homes[0] if len(homes) == 1 else None
