"""
Event rows: ids, cuts, order, and runs of like findings.
"""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality_cases import HOUR, SOL
from recorder.quality.events import build, channel_of, cut, in_order, printable
from recorder.quality.kinds import KINDS
from recorder.quality.tallies import MAX_TALLIES, TALLY_IDLE_NS, Tallies, Tally
from recorder.records import HOUR_NS, Stream


def add(
    tallies: Tallies, now: int, evidence: str = "e", *, kind: str = "undecodable", symbol: str | None = None
) -> bool:
    """
    Count one finding of connection 0.
    """
    return tallies.add(kind, now, cause="venue", evidence=evidence, run="a", connection=0, symbol=symbol)


@given(
    start=st.integers(HOUR - 2 * HOUR_NS, HOUR + 2 * HOUR_NS),
    length=st.integers(0, 3 * HOUR_NS),
    hour_aligned=st.booleans(),
)
def test_the_parts_of_an_event_tile_it(start, length, hour_aligned):
    """
    Cut into hours, an event is all there, once, under one id, its count in its last part.
    """
    if hour_aligned:
        start -= start % HOUR_NS
    event = build("trade_gap", cause="venue", start=start, end=start + length, evidence="e", missing=7)
    first = HOUR - 3 * HOUR_NS

    parts = [p for h in range(first, first + 9 * HOUR_NS, HOUR_NS) if (p := cut(event, h)) is not None]

    assert sum(p.end - p.start for p in parts) == length
    assert (parts[0].start, parts[-1].end) == (start, start + length)
    assert all(a.end == b.start for a, b in pairwise(parts))
    assert {p.event_id for p in parts} == {event.event_id}
    assert {p.true_start for p in parts} == {start}
    assert [p.continues for p in parts] == [True] * (len(parts) - 1) + [False]
    assert [p.missing for p in parts] == [None] * (len(parts) - 1) + [7]


def test_a_moment_at_the_hour_belongs_to_the_hour_it_begins():
    """
    Neither to both nor to none.
    """
    event = build("connected", cause="recorder", start=HOUR, end=HOUR, evidence="e")

    assert cut(event, HOUR) == event
    assert cut(event, HOUR - HOUR_NS) is None


def test_an_event_that_goes_on_keeps_saying_so():
    """
    An open hour's events end where it does, for now.
    """
    event = msgspec.structs.replace(
        build("silent", cause="venue", start=HOUR, end=HOUR + 5, evidence="e"), continues=True
    )

    assert cut(event, HOUR) == event


@pytest.mark.parametrize(
    "change",
    [
        {"run": "b"},
        {"connection": 1},
        {"symbol": "BTC-PERP"},
        {"channel": "trades"},
        {"start": HOUR + 1},
        {"apart": "2"},
        {"kind": "trade_gap"},
    ],
)
def test_ids_tell_apart_what_is_apart(change):
    """
    Kind, place, beginning, and what tells equals apart; not the end or the words, which are found later.
    """
    fields = {"kind": "silent", "cause": "venue", "start": HOUR, "end": HOUR + 9, "evidence": "e", "run": "a"}
    same = build(**(fields | {"end": HOUR + 10, "evidence": "other", "cause": "network"}))

    assert build(**fields).event_id == same.event_id
    assert build(**(fields | change)).event_id != same.event_id


def test_scopes_come_with_the_kind():
    """
    A reader filters by them.
    """
    for kind, meaning in KINDS.items():
        assert build(kind, cause="unknown", start=1, end=1, evidence="e").scope == meaning.scope


@given(st.permutations(range(6)))
def test_the_order_of_rows_does_not_depend_on_the_order_of_finding(order):
    """
    Equal input must give equal files.
    """
    events = [
        build("silent", cause="venue", start=s, end=e, evidence="e", run=r, connection=c)
        for s, e, r, c in [
            (1, 5, "a", 0),
            (1, 4, "a", 0),
            (1, 5, None, None),
            (0, 9, "b", 1),
            (1, 5, "a", 1),
            (2, 2, "", 0),
        ]
    ]

    assert in_order([events[i] for i in order]) == in_order(events)


def test_a_coarser_book_is_a_channel_of_its_own():
    """
    Its holes are not those of the book beside it.
    """
    assert channel_of(SOL) == "orderbook"
    assert channel_of(msgspec.structs.replace(SOL, grouping=100)) == "orderbook/100"
    assert channel_of(Stream("perp", "SOL-PERP", "trades")) == "trades"


def test_like_findings_are_one_event_from_first_to_last():
    """
    With the number of them.
    """
    tallies = Tallies([])

    assert [add(tallies, t) for t in (10, 20, 30)] == [True, False, False]

    (event,) = tallies.take_all()
    assert (event.start, event.end, event.missing, event.evidence) == (10, 30, 3, "e (3 times)")
    assert tallies.take_all() == []


def test_findings_that_differ_in_words_alone_have_ids_of_their_own():
    """
    One frame may have two unknown members.
    """
    tallies = Tallies([])
    add(tallies, 10, "one", kind="schema_drift")
    add(tallies, 10, "two", kind="schema_drift")

    assert len({e.event_id for e in tallies.take_all()}) == 2


def test_a_run_ends_when_none_came_for_a_minute():
    """
    Not before: a burst a second is one event.
    """
    tallies = Tallies([])
    add(tallies, 0)

    assert tallies.take_idle(TALLY_IDLE_NS - 1) == []
    assert len(tallies.take_idle(TALLY_IDLE_NS)) == 1
    assert add(tallies, TALLY_IDLE_NS + 1) is True


def test_too_many_different_findings_share_one_event_per_kind():
    """
    A hostile venue cannot make the table grow; nothing is uncounted.
    """
    tallies = Tallies([])
    for i in range(5000):
        add(tallies, i, f"finding {i}", kind=("undecodable", "unrequested")[i % 2])

    events = tallies.take_all()

    assert len(events) == MAX_TALLIES + 2
    assert sum(e.missing or 0 for e in events) == 5000
    shared = [e for e in events if "many different findings" in e.evidence]
    assert {e.kind for e in shared} == {"undecodable", "unrequested"}


def test_open_runs_survive_the_carry():
    """
    The next hour counts on.
    """
    tallies = Tallies([])
    for i in range(MAX_TALLIES + 10):
        add(tallies, i, f"finding {i}")
    stored = msgspec.json.decode(msgspec.json.encode(tallies.snapshot()), type=list[Tally])

    again = Tallies(stored)

    assert add(again, 500, "finding 3") is False
    assert add(again, 500, "never seen") is False
    add(tallies, 500, "finding 3")
    add(tallies, 500, "never seen")
    assert again.take_all() == tallies.take_all()


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "line\nbreak", "\ud800 half a pair", "x" * 100_000, "\x00" * 400, "nul\u202e"]
)
def test_words_from_outside_cannot_leave_their_cell(text):
    """
    Venue text goes to terminals and logs.
    """
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown) < 5000
    shown.encode()
    event = build("rejected", cause="venue", start=1, end=1, evidence=text, symbol=text)
    assert event.evidence.isprintable()
    assert (event.symbol or "").isprintable()


def test_ordinary_words_stay_as_they_are():
    """
    Also beyond ASCII.
    """
    assert printable("Größe: 5 µs → ok") == "Größe: 5 µs → ok"
