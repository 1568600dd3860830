"""
What events mean for the seconds of a stream, where several connections and runs may have carried it. Pure.

Every kind of event has one effect (`EFFECTS`). Each connection of each run that carried a stream is judged by its own
events, and at each instant the best of them counts: what one missed, another may have heard. But only a connection
that is known to have carried the stream at that instant, and of which no event speaks, outweighs another.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from recorder.quality.events import channel_of
from recorder.quality.intervals import Span, Spans, difference, shared, union
from recorder.quality.state import UNKNOWN_CONNECTION
from recorder.records import Event, Stream

Carrier = tuple[str, int]
"""(run, connection). `UNKNOWN_CONNECTION` of a run that meant to carry a stream, and has on none that is known."""
Effect = Literal["absent", "doubtful", "late", "counted", "unnumbered", "none"]

EFFECTS: Mapping[str, Effect] = {
    # Nothing of the stream came, or not all of it.
    "recorder_down": "absent",
    "connected": "absent",
    "disconnected": "absent",
    "not_acknowledged": "absent",
    "rejected": "absent",
    "silent": "absent",
    "added": "absent",
    "unsubscribed": "absent",
    "cadence_hole": "absent",
    "halted": "absent",
    "overflow": "absent",
    "disk_full": "absent",
    "journal_damaged": "absent",
    "seal_failed": "absent",
    # Things came, and something is wrong with them.
    "heartbeat_gap": "doubtful",
    "two_feeds": "doubtful",
    "frozen": "doubtful",
    "slot_regression": "doubtful",
    "slot_jump": "doubtful",
    "clock_skew": "doubtful",
    "undecodable": "doubtful",
    # Things came, and their receive times are not true.
    "backlog": "late",
    "loop_stall": "late",
    "clock_step": "late",
    # Judged by the fill counter itself.
    "trade_gap": "counted",
    # Its ids prove nothing there.
    "trade_unnumbered": "unnumbered",
    # Nothing is lost by these, or another event says what is.
    "recorder_started": "none",
    "recorder_stopped": "none",
    "reloaded": "none",
    "expired": "none",
    "connect_failed": "none",
    "trade_repeat": "none",
    "trade_late": "none",
    "unrequested": "none",
    "schema_drift": "none",
    "identity_conflict": "none",
    "sync_failed": "none",
    "job_failed": "none",
}
"""By kind. A kind that is not here, of a later version, is taken for doubtful."""

NOT_RUNNING = "not running"
"""In place of a kind: before the first run ever, of which no event tells."""
_NOBODY: Carrier = ("", -1)


class Effects(msgspec.Struct, frozen=True):
    """
    What the events of an hour mean for one stream: for each kind the instants at which it is the best that is known.
    """

    absent: dict[str, Spans] = {}
    doubtful: dict[str, Spans] = {}
    late: dict[str, Spans] = {}
    any_absent: dict[str, Spans] = {}
    """By any connection, also where another outweighs it: tells why a book is not there."""
    counted: list[Event] = []
    """Gaps of the stream's own fill counter."""
    unnumbered: Spans = []
    """Where fills came that its ids do not count."""
    undecodable: list[Span] = []
    """Frames of the stream that could not be decoded: the first and the last of a run."""


class _Voice(msgspec.Struct):
    """
    What one carrier says.
    """

    spans: dict[str, list[Span]] = {}

    def of(self, *effects: Effect) -> Spans:
        """
        Where events with one of these effects lie.
        """
        return union(*(spans for kind, spans in self.spans.items() if effect_of(kind) in effects))


def effect_of(kind: str) -> Effect:
    """
    Of a kind of event, also of one that a later version has.
    """
    if kind == NOT_RUNNING:
        return "absent"
    return EFFECTS.get(kind, "doubtful")


def effects(
    stream: Stream,
    events: Iterable[Event],
    carriers: Iterable[Carrier],
    *,
    since: Mapping[Carrier, int],
    until: int,
    not_running: Spans,
) -> Effects:
    """
    What an hour's events mean for a stream.

    Args:
        stream: whose.
        events: of the hour, cut to it.
        carriers: every one that brought, or should have brought, the stream.
        since: of the carriers that still do at the hour's end: since when they surely do.
        until: ns up to which the hour is over.
        not_running: when no recorder was running, of which no event tells.
    """
    voices: dict[Carrier, _Voice] = {carrier: _Voice() for carrier in carriers}
    asked = bool(voices)
    counted: list[Event] = []
    unnumbered: list[Span] = []
    undecodable: list[Span] = []
    for event in events:
        effect = effect_of(event.kind)
        if effect == "none" or not _concerns(event, stream):
            continue
        # What the fills of a market say holds whoever brought them.
        if effect == "counted":
            counted.append(event)
            continue
        if effect == "unnumbered":
            unnumbered.append((event.start, event.end))
            continue
        if event.kind == "undecodable" and event.channel is not None:
            undecodable.append((event.start, event.end))
        for carrier in _said_by(event, voices, asked=asked):
            voices.setdefault(carrier, _Voice()).spans.setdefault(event.kind, []).append((event.start, event.end))
    if not_running:
        for carrier in list(voices) or [_NOBODY]:
            voices.setdefault(carrier, _Voice()).spans.setdefault(NOT_RUNNING, []).extend(not_running)
    best = _best(voices, since, until)
    return msgspec.structs.replace(best, counted=counted, unnumbered=union(unnumbered), undecodable=undecodable)


def _best(voices: dict[Carrier, _Voice], since: Mapping[Carrier, int], until: int) -> Effects:
    """
    At each instant what the best carrier says.
    """
    well = {
        carrier: difference(union([(since[carrier], until)]), voice.of("absent", "doubtful", "late"))
        for carrier, voice in voices.items()
        if carrier in since
    }
    # Something doubtful by another is better than nothing by this one; unless that one only meant to carry the stream.
    doubted = {
        carrier: difference(voice.of("doubtful", "late"), voice.of("absent"))
        for carrier, voice in voices.items()
        if carrier[1] != UNKNOWN_CONNECTION
    }
    well_of, doubted_of = _Others(well), _Others(doubted)
    bad: dict[Effect, dict[str, list[Span]]] = {"absent": {}, "doubtful": {}, "late": {}}
    everything: dict[str, list[Span]] = {}
    for carrier, voice in voices.items():
        outweighed = well_of.than(carrier)
        better = union(outweighed, doubted_of.than(carrier))
        for kind, spans in voice.spans.items():
            effect = effect_of(kind)
            overruled = better if effect == "absent" else outweighed
            bad[effect].setdefault(kind, []).extend(difference(union(spans), overruled))
            if effect == "absent":
                everything.setdefault(kind, []).extend(spans)
    return Effects(
        absent=_joined(bad["absent"]),
        doubtful=_joined(bad["doubtful"]),
        late=_joined(bad["late"]),
        any_absent=_joined(everything),
    )


class _Others:
    """
    What others than one carrier have. An hour of a recorder that crashes and is started again has hundreds of them:
    for each, all of the others would be looked at.
    """

    def __init__(self, having: Mapping[Carrier, Spans]) -> None:
        self._having = having
        self._all = union(*having.values())
        self._shared = shared(having.values())

    def than(self, carrier: Carrier) -> Spans:
        """
        All but what this one alone has.
        """
        own = self._having.get(carrier)
        return difference(self._all, difference(own, self._shared)) if own else self._all


def _joined(by_kind: dict[str, list[Span]]) -> dict[str, Spans]:
    """
    As spans, without kinds that have none.
    """
    return {kind: joined for kind, spans in by_kind.items() if (joined := union(spans))}


def _concerns(event: Event, stream: Stream) -> bool:
    """
    Whether an event speaks of a stream, or of what carried it.
    """
    if event.symbol is not None and event.symbol != stream.symbol:
        return False
    if event.channel is not None and event.channel != channel_of(stream):
        return event.kind == "seal_failed" and same_table(event.channel, stream)
    # A broken frame that names no market may have been anybody's: books prove by their ticks that it was not theirs.
    return event.kind != "undecodable" or event.symbol is not None


def same_table(table: str, stream: Stream) -> bool:
    """
    Whether a table of the lake takes the stream's rows.
    """
    if stream.channel == "trades":
        return table == "trades"
    if stream.channel == "priorityfees":
        return table == "priority_fees"
    indicative = stream.channel == "orderbook_indicative"
    grouped = f"_grouped_{stream.grouping}" if stream.grouping not in {None, 1} else ""
    suffix = "_indicative" if indicative else ""
    return table in {f"books{grouped}{suffix}", *((f"books_ungrouped{suffix}",) if not grouped else ())}


def _said_by(event: Event, voices: Mapping[Carrier, _Voice], *, asked: bool) -> list[Carrier]:
    """
    The carriers an event is of. A stream that no connection came to ask for may have been meant for any.
    """
    if not asked:
        return [_NOBODY]
    # A run that died and left a stream to nobody speaks for all: the event says that none beside it asked.
    if event.run is None or (event.kind == "recorder_down" and event.symbol is not None):
        return list(voices)
    said_by = [
        (run, connection)
        for run, connection in voices
        if run == event.run and (connection == UNKNOWN_CONNECTION or event.connection in {None, connection})
    ]
    if not said_by and event.connection is not None and event.symbol is not None and event.channel is not None:
        # A silence goes along where the stream is moved, and is told of the connection that it began on.
        return [(event.run, event.connection)]
    return said_by
