"""
Live and at seal the same: each run of a mixture folded by itself as it was recorded, and by the seals of its hours.

The live monitor knows one run, and folds on over the hours; a seal folds all runs that were there, hour by hour, with
what the hour before handed over. What a run tells of itself must be what the lake says of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from mixed import random_scenario
from virtual import record

from recorder.journal.reader import SegmentFile, read_merged, segments
from recorder.lake.layout import JOURNAL, hour_of
from recorder.lake.plan import window
from recorder.lake.root import Binding, read_binding
from recorder.lake.survey import HourJournal, survey_hour
from recorder.quality.events import cut
from recorder.quality.gaps import settled
from recorder.quality.monitor import Monitor
from recorder.quality.pairing import Pairing
from recorder.quality.state import MonitorState, Pace
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, Event
from recorder.venue.markets import MarketList, market_list
from recorder.venue.protocol import FrameKind, Peek, peek

SEEN_BY_THE_SEAL_ALONE = frozenset({"recorder_down", "unsubscribed"})
"""That nobody recorded, before a run or after it, and until when a stream was wanted by nobody."""
KNOWN_FROM_RUNS_BEFORE = frozenset({"trade_gap", "trade_repeat", "trade_unnumbered", "schema_drift", "two_feeds"})
"""Fill ids and feeds are the venue's: a seal goes on counting where the run before ended, a run begins anew."""
TOLD_BY_RUNS_AFTER_NS = 30 * SECOND_NS
"""The cause of a gap this near to a run's end may be what came after that."""


def sealed(inputs: Sequence[SegmentFile], binding: Binding, listed: MarketList, last: int) -> dict[str, Event]:
    """
    Events of all hours, those of several put together, by id; what came late is in the gaps it was missing of.
    """
    whole: dict[str, Event] = {}
    carry = None
    for hour in range(hour_of(min(segment.start for segment in inputs)), hour_of(last) + 1, HOUR_NS):
        journal = HourJournal(window(inputs, hour), hour, until=1 << 62, binding=binding)
        survey = survey_hour(journal, listed, carry, closed=True)
        carry = survey.carry
        for part in settled(part for event in survey.events if (part := cut(event, hour)) is not None):
            before = whole.get(part.event_id)
            if part.kind == "trade_late" or before is None:
                whole.setdefault(part.event_id, part)
                continue
            assert before.continues, (before, part)
            assert before.end == hour == part.start, (before, part)
            whole[part.event_id] = msgspec.structs.replace(part, start=before.start)
    return whole


def paces_before(entries: Sequence[Entry], listed: MarketList) -> dict[str, dict[str, Pace]]:
    """
    What pace each stream had kept to when a run began, by run: a seal remembers that, a run knows it not.
    """
    monitor = Monitor(listed, MonitorState(now=entries[0].recv_ts))
    known: dict[str, dict[str, Pace]] = {}
    for entry in entries:
        monitor.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
        if entry.run not in known:
            known[entry.run] = dict(monitor.state().paces)
    return known


def told_live(entries: Sequence[Entry], listed: MarketList, paces: dict[str, Pace], *, copies: bool) -> Iterator[Event]:
    """
    What the monitor of one run tells of its entries.
    """
    monitor = Monitor(listed, MonitorState(now=entries[0].recv_ts, paces=paces))
    pairing = Pairing() if copies else None
    for entry in entries:
        seen: Peek | None = peek(entry.payload) if entry.kind == EntryKind.FRAME else None
        duplicate = False
        if pairing is not None and seen is not None and seen.kind is FrameKind.DATA:
            duplicate, _ = pairing.frame(entry, seen)
        elif pairing is not None and entry.kind == EntryKind.FACT:
            pairing.fact(entry)
        monitor.step(entry, seen, duplicate=duplicate)
    monitor.finish(entries[-1].recv_ts + 61 * SECOND_NS, closed=True)
    yield from settled(monitor.events)


def differences(seed: int, root: Path) -> list[tuple[Event | None, Event | None]]:
    """
    (live, sealed) of each event of a mixture that is not the same.
    """
    scenario = random_scenario(seed)
    root.mkdir()
    record(scenario, root)
    binding, inputs = read_binding(root), segments(root / JOURNAL)
    listed = market_list(binding.network)
    entries = list(read_merged(inputs, start=0, end=1 << 62))
    at_seal = sealed(inputs, binding, listed, entries[-1].recv_ts)
    runs = list(dict.fromkeys(entry.run for entry in entries))
    found: list[tuple[Event | None, Event | None]] = []
    known = paces_before(entries, listed) if len(runs) > 1 else {}
    for number, run in enumerate(runs):
        mine = [entry for entry in entries if entry.run == run]
        apart = SEEN_BY_THE_SEAL_ALONE | (KNOWN_FROM_RUNS_BEFORE if number else frozenset())
        judged_later = mine[-1].recv_ts - TOLD_BY_RUNS_AFTER_NS if number + 1 < len(runs) else 1 << 62

        def comparable(event: Event, run: str = run, apart: frozenset[str] = apart, later: int = judged_later) -> bool:
            return event.run == run and event.kind not in apart and (event.kind != "trade_gap" or event.end <= later)

        live = {
            e.event_id: e for e in told_live(mine, listed, known.get(run, {}), copies=scenario.copies) if comparable(e)
        }
        theirs = {e.event_id: e for e in at_seal.values() if comparable(e)}
        pairs = [(live.get(each), theirs.get(each)) for each in sorted(live.keys() | theirs.keys())]
        found += [(a, b) for a, b in pairs if a is None or b is None or _as_told(a) != _as_told(b)]
    return found


def _as_told(event: Event) -> Event:
    # An hour's part begins anew, and of the last one nobody knows yet whether it goes on.
    return msgspec.structs.replace(event, true_start=event.start, continues=False)


@pytest.mark.parametrize("seed", [*range(12), 2013])
def test_what_a_run_tells_of_itself_is_what_the_lake_says_of_it(seed, tmp_path):
    """
    Redundant connections, restarts, hours' turns and all faults that mixtures have: the same events, to the last word.
    """
    assert differences(seed, tmp_path / "root") == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_hundreds_of_runs_tell_of_themselves_is_what_the_lake_says_of_them(tmp_path):
    """
    The long form.
    """
    wrong = {seed: found for seed in range(300) if (found := differences(seed, tmp_path / str(seed)))}

    assert wrong == {}
