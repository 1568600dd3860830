"""
The ledger under every fault there is, alone and mixed.
"""

import json

import pytest

from recorder.records import SECOND_NS, Stream
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Link, listen
from recorder.simulator.faults import read_script
from recorder.simulator.kinds import KINDS, Moment, Span, edges, kind_of, selects
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.mixtures import random_faults
from recorder.venue.protocol import request

START = 1_795_367_000 * SECOND_NS
MARKETS = DEFAULT_MARKETS[:3] + DEFAULT_MARKETS[4:5]
REQUESTS = [
    request(Stream(market.market_type, market.symbol, channel, grouping))
    for market in MARKETS
    for channel, grouping in (("orderbook", 1), ("trades", None))
]


def ran(faults, *, until_s=30, links=None, **options):
    """
    Events and ledger lines of two clients.
    """
    lines = []
    venue = Venue(MARKETS, start=START, faults=faults, **options)
    drive = Drive(venue, start=START, links=links, ledger=lines.append)
    return list(listen(drive, {0: REQUESTS, 1: REQUESTS[:3]}, until=START + until_s * SECOND_NS)), lines


@pytest.mark.parametrize("server", ["2026-05", "velocity"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__struct_config__.tag)
def test_under_every_fault_each_frame_is_sent_dropped_or_withheld(kind, server, accounted):
    """
    And what was heard is what was sent. The fault's line has its true bounds and its definition.
    """
    given = {"at_s": 8.0} if issubclass(kind, Moment) else {"from_s": 8.0, "to_s": 21.5}
    fault = kind(**given, **({"what": "payload_member"} if kind.__name__ == "Alter" else {}))

    events, lines = ran([fault], server=server)

    accounted(events, lines)
    marks = [line for line in lines if line.what in {"fault", "fault_end"}]
    assert [line.fault for line in marks] == [kind_of(fault)] * len(edges(fault))
    assert [line.t_ns for line in marks] == [START + round(at * SECOND_NS) for at in edges(fault)]
    assert {line.start_ns for line in marks} == {START + 8 * SECOND_NS}
    assert marks[-1].end_ns == START + round(edges(fault)[-1] * SECOND_NS)
    assert json.loads(marks[0].text)["kind"] == kind_of(fault)


@pytest.mark.parametrize("seed", range(12))
def test_under_random_mixtures_each_frame_is_sent_dropped_or_withheld(seed, accounted):
    """
    Over any server, over a bad network, however faults overlap.
    """
    faults = random_faults(seed, 60, MARKETS)
    server = ("2026-05", "2025-09", "velocity")[seed % 3]
    links = {0: Link(jitter_ms=80, cuts_s=(20.0,), stalls_s=((35.0, 41.0),)), 1: Link(dead_s=((30.0, 50.0),))}

    events, lines = ran(faults, until_s=60, links=links, server=server, two_feeds=seed % 4 == 1)

    accounted(events, lines)


def test_the_same_seed_gives_the_same_mixture():
    """
    In order of beginning, all within the duration, no two alike.
    """
    for seed in range(50):
        faults = random_faults(seed, 120, MARKETS)
        assert faults == random_faults(seed, 120, MARKETS)
        begins = [edges(fault)[0] for fault in faults]
        assert begins == sorted(begins)
        assert len(set(faults)) == len(faults)
        for fault in faults:
            assert 0 <= edges(fault)[0] <= edges(fault)[-1] <= 120
            if isinstance(fault, Span):
                assert fault.from_s < fault.to_s
    assert random_faults(1, 120, MARKETS) != random_faults(2, 120, MARKETS)


def test_every_kind_occurs_in_some_mixture():
    """
    Nothing that can break is left out.
    """
    seen = {type(fault) for seed in range(60) for fault in random_faults(seed, 600, MARKETS)}

    assert seen == set(KINDS)


def test_mixtures_concern_markets_that_are_simulated():
    """
    Each selects at least one.
    """
    for seed in range(30):
        for fault in random_faults(seed, 300, MARKETS):
            selector = getattr(fault, "market", None)
            if selector is not None and kind_of(fault) != "new_market":
                assert any(selects(selector, market_type=m.market_type, symbol=m.symbol) for m in MARKETS)


def test_a_mixture_can_be_written_as_a_script(tmp_path):
    """
    What a seed broke can be cut down by hand: each definition in the ledger is a table of the script.
    """
    faults = random_faults(5, 600, MARKETS)
    tables = []
    for fault in faults:
        _, lines = [], []
        venue = Venue((), start=START, faults=[fault])
        while venue.next_due() < START + 700 * SECOND_NS and not lines:
            lines = [o.line for o in venue.step(venue.next_due()) if getattr(getattr(o, "line", None), "fault", None)]
        members = json.loads(lines[0].text)
        written = [f"{name} = {json.dumps(value)}" for name, value in members.items() if value is not None]
        tables.append("\n".join(["[[fault]]", *written]))
    path = tmp_path / "script.toml"
    path.write_text("\n\n".join(tables))

    assert read_script(path) == faults
