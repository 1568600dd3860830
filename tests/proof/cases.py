"""
What the recorder should say of each fault: the kinds and causes of its events, and their bounds.

A fault either makes holes (each must lie in an event of one of `kinds`, contained whole, and exceeded by nothing but
what lies between the frames received before and after), or it shows (an event of one of `kinds` reaches over it), or it
is nothing to be told (then no event may be raised: the data is whole, and rows carry flags where that helps).
"""

from typing import Literal

import msgspec
from virtual import Absence, Scenario

from recorder.simulator.drive import Link
from recorder.simulator.kinds import (
    Alter,
    AnyFault,
    Backlog,
    BusFails,
    Cadence,
    ClockSkew,
    Drop,
    Freeze,
    Garbage,
    HalfOpen,
    Halt,
    LateFills,
    NewMarket,
    PublisherDown,
    ReorderFills,
    RepeatFills,
    RepeatFrames,
    Restart,
    ShiftSlots,
    Silence,
    SkipFrames,
    SlowTicks,
    StaleOracle,
    StaleStore,
    StopHeartbeats,
    TwoFeeds,
    WithholdFills,
    kind_of,
)

Effect = Literal["hole", "shows", "nothing"]

OUTAGE = frozenset({"disconnected", "connect_failed", "heartbeat_gap", "trade_gap", "silent", "cadence_hole"})
"""What an outage may bring with it."""
SLOTS = frozenset({"slot_regression", "slot_jump", "two_feeds"})
EXCESS_LIMIT_S = 0.06
"""Latency and jitter of the simulated way."""
SILENCE = frozenset({"silent", "halted", "disconnected", "connect_failed", "cadence_hole", "trade_gap"})


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """
    A fault alone, and what is to be said of it.
    """

    name: str
    scenario: Scenario
    effect: Effect
    kinds: frozenset[str] = frozenset()
    """Any of these names it."""
    causes: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    """Other kinds that may be raised in consequence."""
    window: tuple[float, float] | None = None
    """When it shows, in seconds; of the fault by default."""
    slack_s: float = 0.5
    """How far an event may exceed that, or fall short: a tick, unless the evidence is coarser."""
    excess_limit_s: float = EXCESS_LIMIT_S
    """How far an event of a hole may reach beyond the frames received before and after it."""


def _case(
    name: str,
    effect: Effect,
    *faults: AnyFault,
    kinds: str = "",
    causes: str = "venue",
    also: frozenset[str] = frozenset(),
    window: tuple[float, float] | None = None,
    slack_s: float = 0.5,
    excess_limit_s: float = EXCESS_LIMIT_S,
    **scenario: object,
) -> Case:
    return Case(
        name=name,
        scenario=Scenario(faults=faults, **{"markets": 3, **scenario}),  # type: ignore[arg-type]
        effect=effect,
        kinds=frozenset(kinds.split()),
        causes=frozenset(causes.split()),
        also=also,
        window=window,
        slack_s=slack_s,
        excess_limit_s=excess_limit_s,
    )


SOL = "SOL-PERP"

CASES: tuple[Case, ...] = (
    # ---- connections
    _case("drop, no close frame", "hole", Drop(60.2), kinds="disconnected", causes="network", also=OUTAGE),
    _case("drop, 1001", "hole", Drop(60.2, code=1001), kinds="disconnected", also=OUTAGE),
    _case("half_open", "hole", HalfOpen(from_s=40, to_s=80), kinds="disconnected", causes="network", also=OUTAGE),
    _case(
        "backlog, 4 s, nothing dropped",
        "shows",
        Backlog(from_s=41, to_s=45),
        kinds="backlog",
        causes="network unknown",
        also=frozenset({"heartbeat_gap"}),
    ),
    _case(
        "backlog, 4 s, data dropped",
        "hole",
        Backlog(from_s=41, to_s=45, buffer_bytes=0),
        kinds="cadence_hole backlog disconnected silent trade_gap",
        causes="network unknown venue recorder",
        also=OUTAGE | {"backlog"},
        markets=40,
        excess_limit_s=4.1,  # receive times lie in a backlog: what is missing may be told in the venue's time
    ),
    _case(
        "backlog, closed with 1008",
        "hole",
        Backlog(from_s=49, to_s=54, buffer_bytes=0),
        kinds="cadence_hole backlog disconnected silent trade_gap",
        causes="network unknown venue recorder",
        also=OUTAGE | {"backlog"},
        markets=60,
        excess_limit_s=5.2,
        calm=True,
    ),
    _case(
        "restart, 7 s", "hole", Restart(from_s=40, to_s=47), kinds="disconnected", causes="venue network", also=OUTAGE
    ),
    _case("restart, 1012", "hole", Restart(from_s=40, to_s=47, code=1012), kinds="disconnected", also=OUTAGE),
    _case(
        "bus_fails at the start",
        "hole",
        BusFails(from_s=0, to_s=20),
        kinds="silent connected disconnected rejected not_acknowledged",
        causes="venue recorder",
        also=OUTAGE | {"rejected", "not_acknowledged"},
    ),
    _case(
        "stop_heartbeats, 29 s",
        "shows",
        StopHeartbeats(from_s=41, to_s=70),
        kinds="heartbeat_gap",
        causes="venue unknown",
        also=OUTAGE,
        window=(45.0, 51.0),
        slack_s=5.5,
    ),
    _case(
        "stop_heartbeats, one missing",
        "nothing",
        StopHeartbeats(from_s=41, to_s=46),
        also=frozenset({"heartbeat_gap"}),
    ),
    # ---- publishers
    _case("silence of one market, 20 s", "hole", Silence(from_s=40, to_s=60, market=SOL), kinds="silent", also=SILENCE),
    _case("silence of one market, 2 s", "hole", Silence(from_s=40, to_s=42, market=SOL), kinds="cadence_hole"),
    _case(
        "silence of all, 2 s",
        "hole",
        Silence(from_s=40, to_s=42),
        kinds="cadence_hole",
        causes="venue network unknown",
    ),
    _case(
        "silence of all, 8 s",
        "hole",
        Silence(from_s=40, to_s=48),
        kinds="silent halted cadence_hole",
        also=SILENCE,
    ),
    _case(
        "silence of all, 70 s",
        "hole",
        Silence(from_s=30, to_s=100, channels="all"),
        kinds="silent halted disconnected trade_gap",
        also=SILENCE,
    ),
    _case(
        "silence of trades",
        "hole",
        Silence(from_s=40, to_s=60, channels="trades"),
        kinds="trade_gap",
    ),
    _case(
        "publisher_down, 4 s",
        "hole",
        PublisherDown(from_s=40, to_s=44),
        kinds="cadence_hole trade_gap",
        causes="venue network unknown",
        also=frozenset({"trade_repeat"}),
    ),
    _case(
        "publisher_down, 12 s",
        "hole",
        PublisherDown(from_s=40, to_s=52),
        kinds="silent halted disconnected trade_gap",
        also=SILENCE | {"trade_repeat"},
    ),
    _case("skip_frames", "hole", SkipFrames(from_s=40, to_s=60, market=SOL), kinds="cadence_hole"),
    _case(
        "skip_frames, all markets, each third", "hole", SkipFrames(from_s=40, to_s=60, every=3), kinds="cadence_hole"
    ),
    _case("repeat_frames", "nothing", RepeatFrames(from_s=40, to_s=60)),
    _case("slow_ticks", "nothing", SlowTicks(from_s=40, to_s=60)),
    _case("cadence, 400 to 1000 ms and back", "nothing", Cadence(from_s=40, to_s=80)),
    _case("cadence, 400 to 200 ms and back", "nothing", Cadence(from_s=40, to_s=80, tick_ms=200)),
    _case("freeze, all", "shows", Freeze(from_s=40, to_s=70, market=SOL), kinds="frozen"),
    _case("freeze, slot", "shows", Freeze(from_s=40, to_s=70, market=SOL, what="slot"), kinds="frozen"),
    # Books that did not change by themselves stand before and after the fault: one in five, each tick.
    _case(
        "freeze, content",
        "shows",
        Freeze(from_s=40, to_s=70, market=SOL, what="content"),
        kinds="frozen",
        slack_s=1.0,
    ),
    _case("halt", "shows", Halt(from_s=40, to_s=100), kinds="frozen halted", slack_s=1.6),
    _case(
        "shift_slots, back",
        "hole",
        ShiftSlots(from_s=40, to_s=60, market=SOL),
        kinds="silent",
        also=SILENCE | SLOTS,
    ),
    _case(
        "shift_slots, ahead",
        "hole",
        ShiftSlots(from_s=40, to_s=60, market=SOL, slots=60),
        kinds="silent disconnected",
        also=SILENCE | SLOTS,
    ),
    _case(
        "shift_slots, back, two feeds",
        "shows",
        ShiftSlots(from_s=40, to_s=60, market=SOL),
        kinds="slot_regression two_feeds",
        also=SLOTS,
        two_feeds=True,
        window=(0.0, 130.0),
        slack_s=5.0,
    ),
    _case("two_feeds", "shows", TwoFeeds(from_s=40, to_s=80), kinds="two_feeds", also=SLOTS),
    _case(
        "two_feeds, 2025-09",
        "shows",
        TwoFeeds(from_s=40, to_s=80),
        kinds="two_feeds",
        also=SLOTS,
        server="2025-09",
    ),
    _case("two_feeds, velocity", "nothing", TwoFeeds(from_s=40, to_s=80), server="velocity"),
    _case(
        "two_feeds, velocity goes over",
        "hole",
        TwoFeeds(from_s=40, to_s=80, slots_behind=-4),
        kinds="cadence_hole",
        causes="venue network unknown",
        also=SLOTS,
        server="velocity",
    ),
    _case(
        "silence of one of two feeds, velocity",
        "hole",
        Silence(from_s=40, to_s=60, feed=1),
        kinds="cadence_hole",
        causes="venue network unknown",
        also=SLOTS,
        server="velocity",
        two_feeds=True,
    ),
    _case("clock_skew, 60 s behind", "shows", ClockSkew(from_s=40, to_s=60, by_ms=-60_000), kinds="clock_skew"),
    _case("clock_skew, 5 s ahead", "shows", ClockSkew(from_s=40, to_s=60, by_ms=5_000), kinds="clock_skew"),
    _case("stale_store, velocity", "nothing", StaleStore(from_s=0, to_s=60), server="velocity"),
    _case("stale_oracle", "nothing", StaleOracle(from_s=40, to_s=60, behind_slots=200)),
    _case("new_market", "nothing", NewMarket(40)),
    # ---- fills
    _case("withhold_fills", "hole", WithholdFills(from_s=40, to_s=60, every=3), kinds="trade_gap"),
    _case("withhold_fills, all", "hole", WithholdFills(from_s=40, to_s=60), kinds="trade_gap"),
    _case("reorder_fills", "nothing", ReorderFills(from_s=40, to_s=60)),
    _case("late_fills", "nothing", LateFills(from_s=40, to_s=60)),
    _case(
        "repeat_fills", "shows", RepeatFills(from_s=40, to_s=60), kinds="trade_repeat", window=(48.0, 57.0), slack_s=10
    ),
    # ---- frames that are not as they should be
    *(
        _case(
            f"garbage, {what}",
            "shows",
            Garbage(60.2, what=what),
            kinds="undecodable schema_drift",
            window=(60.21, 60.21),
        )
        for what in ("brace", "empty", "null", "html", "deep", "bad_utf8", "control", "long", "array", "unknown_object")
    ),
    _case(
        "garbage, unknown_channel",
        "shows",
        Garbage(60.2, what="unknown_channel"),
        kinds="schema_drift unrequested undecodable",
        window=(60.21, 60.21),
    ),
    _case(
        "garbage, unrequested", "shows", Garbage(60.2, what="unrequested"), kinds="unrequested", window=(60.21, 60.21)
    ),
    _case("garbage, bus_error", "shows", Garbage(60.2, what="bus_error"), kinds="rejected", window=(60.21, 60.21)),
    _case(
        "garbage, stale_heartbeat", "nothing", Garbage(60.2, what="stale_heartbeat"), also=frozenset({"schema_drift"})
    ),
    _case("garbage, binary", "nothing", Garbage(60.2, what="binary")),
    *(
        _case(f"alter, {what}", "shows", Alter(from_s=40, to_s=60, what=what, market=SOL), kinds="schema_drift")
        for what in ("envelope_member", "payload_member", "level_member", "source")
    ),
    *(
        _case(
            f"alter, {what}",
            "shows",
            Alter(from_s=40, to_s=60, what=what, market=SOL),
            kinds="undecodable",
            # What names no channel is of no stream, which then is silent, and moves to another connection.
            also=frozenset({"silent", "disconnected", "cadence_hole"}) | SLOTS,
            slack_s=10.5,
        )
        for what in ("truncated", "bad_utf8", "html")
    ),
    _case(
        "alter, other_name",
        "shows",
        Alter(from_s=40, to_s=60, what="other_name", market=SOL),
        kinds="identity_conflict",
        causes="venue unknown",
        window=(40.0, 40.2),
        also=frozenset({"silent", "cadence_hole", "disconnected", "unrequested", "trade_gap"}) | SLOTS,
        slack_s=1.0,
    ),
    *(
        _case(
            f"alter, {what}",
            "nothing",
            Alter(from_s=40, to_s=60, what=what, market=SOL),
            also=frozenset({"schema_drift"}),
        )
        for what in ("null_level", "strings", "unsorted", "sorted_members", "no_slot", "no_ts", "prelaunch", "huge")
    ),
    *(
        _case(
            f"alter, {what}",
            "nothing",
            Alter(from_s=40, to_s=60, what=what, market=SOL),
            also=frozenset({"schema_drift"}),
        )
        for what in ("object_data", "prefixed", "stored_name")
    ),
    _case(
        "alter, no_fill_id",
        "shows",
        Alter(from_s=40, to_s=60, what="no_fill_id", market=SOL, channels="trades"),
        kinds="trade_unnumbered",
        window=(40.0, 60.0),
        # From the fill before them to the fill after them.
        slack_s=10.0,
    ),
    _case(
        "alter, explanation",
        "nothing",
        Alter(from_s=40, to_s=60, what="explanation", market=SOL, channels="trades"),
        also=frozenset({"schema_drift"}),
    ),
    # ---- the way there
    _case("link cut", "hole", links={0: Link(cuts_s=(60.2,))}, kinds="disconnected", causes="network", also=OUTAGE),
    _case(
        "link dead",
        "hole",
        links={0: Link(dead_s=((50.2, 90),))},
        kinds="disconnected silent",
        causes="network",
        also=OUTAGE,
    ),
    _case(
        "link stalled, 3 s",
        "shows",
        links={0: Link(stalls_s=((51.0, 54.0),))},
        kinds="backlog",
        causes="network unknown",
        window=(51.0, 54.0),
        also=frozenset({"heartbeat_gap"}),
    ),
    _case(
        "link stalled, 7 s",
        "shows",
        links={0: Link(stalls_s=((51.0, 58.0),))},
        kinds="backlog",
        causes="network unknown",
        window=(51.0, 58.0),
        also=frozenset({"heartbeat_gap"}),
    ),
    # ---- ourselves
    _case("killed", "hole", absences=(Absence(60.2, 70),), kinds="recorder_down", causes="recorder", also=OUTAGE),
    _case(
        "stopped", "hole", absences=(Absence(60.2, 70, "stop"),), kinds="recorder_down", causes="recorder", also=OUTAGE
    ),
    # ---- where one thing meets another
    _case(
        "link dead 2 s before a kill",
        "hole",
        links={0: Link(dead_s=((60.2, 100),))},
        absences=(Absence(62.3, 64.0),),
        kinds="recorder_down silent cadence_hole disconnected trade_gap",
        causes="recorder network unknown venue",
        also=OUTAGE | {"recorder_down"},
    ),
    _case(
        "silence of all from 2 s before a stop",
        "hole",
        Silence(from_s=60, to_s=63),
        absences=(Absence(62.3, 62.9, "stop"),),
        kinds="recorder_down silent cadence_hole disconnected connected",
        causes="recorder network unknown venue",
        also=OUTAGE | {"recorder_down"},
    ),
    _case(
        "silence of one market, 2 s, over an hour's end",
        "hole",
        Silence(from_s=59, to_s=61, market=SOL),
        kinds="cadence_hole",
        before_hour_s=60.0,
    ),
    _case(
        "skip_frames, one book at an hour's end",
        "hole",
        SkipFrames(from_s=59.9, to_s=60.5, market=SOL, every=1),
        kinds="cadence_hole",
        before_hour_s=60.2,
    ),
    _case(
        "silence of one market, 20 s, over an hour's end",
        "hole",
        Silence(from_s=50, to_s=70, market=SOL),
        kinds="silent",
        also=SILENCE,
        before_hour_s=60.0,
    ),
    _case(
        "initial book in the middle of a silence, velocity",
        "hole",
        Silence(from_s=55, to_s=64, market=SOL),
        links={0: Link(cuts_s=(58.2,))},
        kinds="silent cadence_hole disconnected trade_gap",
        causes="venue network",
        also=OUTAGE,
        server="velocity",
    ),
    _case(
        "initial books in a long silence, velocity",
        "hole",
        Silence(from_s=40, to_s=80, market=SOL),
        kinds="silent",
        also=SILENCE | {"frozen"},
        server="velocity",
    ),
    _case(
        "outage, then repeats of what came before it",
        "hole",
        RepeatFills(from_s=50, to_s=70, every=2, after_s=8.0),
        links={0: Link(cuts_s=(60.9,))},
        kinds="disconnected trade_gap",
        causes="network",
        also=OUTAGE | {"trade_repeat"},
    ),
    _case(
        "silence of the only market of a connection, 25 s",
        "hole",
        Silence(from_s=40, to_s=65, market="BTC-PERP"),
        kinds="silent disconnected",
        also=SILENCE,
        connections=3,
    ),
    _case(
        "silence of one market, recorded twice over, one of the two cut meanwhile",
        "hole",
        Silence(from_s=40, to_s=60, market=SOL),
        kinds="silent",
        also=OUTAGE,
        connections=2,
        copies=True,
        links={1: Link(cuts_s=(50.2,))},
    ),
)

SLOW_AND_CLEAN = Scenario(markets=12, duration_s=1200.5, connections=2, links={1: Link(latency_ms=40, jitter_ms=15)})
"""Nothing is wrong: the publisher's timer jitters and is slow now and then, as a real one."""


def window_of(case: Case) -> tuple[float, float]:
    """
    When the fault is on, in seconds from the start.
    """
    if case.window is not None:
        return case.window
    for fault in case.scenario.faults:
        return (fault.from_s, fault.to_s) if hasattr(fault, "from_s") else (fault.at_s, fault.at_s)
    for link in case.scenario.links.values():
        for begins, ends in (*link.stalls_s, *link.dead_s, *((at, at) for at in link.cuts_s)):
            return begins, ends
    absence = case.scenario.absences[0]
    return absence.at_s, absence.back_s


def kinds_with_a_case() -> set[str]:
    """
    Kinds of faults that have a case.
    """
    return {kind_of(fault) for case in CASES for fault in case.scenario.faults}
