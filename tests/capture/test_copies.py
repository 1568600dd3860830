"""
Who carries which stream: moves and changes within each copy of the recording, without a socket.
"""

from random import Random

from recorder.capture.copies import RELOADED, Copy, Line
from recorder.capture.session import PROMOTE_AFTER_S, Session, SessionSettings
from recorder.records import SECOND_NS, Moved, Requested, Stream

T0 = 1_000 * SECOND_NS
SOL, BTC, ETH = (Stream("perp", s, "orderbook", 1) for s in ("SOL-PERP", "BTC-PERP", "ETH-PERP"))


def line(index, *streams, probation=False):
    """
    A connection that is down.
    """
    session = Session(list(streams), SessionSettings(), Random(1), probation=probation)
    return Line(index, "ws://x/ws", session, apart_s=0)


def copy(first, *connections):
    """
    A copy whose connections are numbered from `first`, the one for probation last.
    """
    lines = [line(first + number, *streams) for number, streams in enumerate(connections)]
    return Copy(lines, line(first + len(connections), probation=True))


def carried(of):
    """
    What each connection carries, the one for probation last.
    """
    return [each.session.streams for each in of.everything()]


def said(told):
    """
    Facts with the connections they are about.
    """
    return [(each.index, fact) for each, fact in told]


def test_a_silent_stream_moves_within_its_copy():
    """
    The other copy may hear it well, and has nothing to do with it.
    """
    first, second = copy(0, [SOL, BTC]), copy(2, [SOL, BTC])

    told = second.to_probation(second.lines[0], BTC, "silent")

    assert carried(first) == [[SOL, BTC], []]
    assert carried(second) == [[SOL], [BTC]]
    assert said(told) == [(2, Moved(BTC, 3, "silent")), (2, Requested(BTC, op="unsubscribe"))]
    assert second.probation.wanted.is_set()
    assert not first.probation.wanted.is_set()


def test_it_goes_home_when_home_has_brought_a_frame():
    """
    Until then both carry it; a frame on probation settles nothing.
    """
    of = copy(0, [SOL, BTC])
    of.to_probation(of.lines[0], BTC, "silent")
    of.go_home(BTC)

    assert carried(of) == [[SOL, BTC], [BTC]]
    assert of.trying
    assert of.settle(of.probation, BTC) == of.settle(of.lines[0], SOL) == []
    told = of.settle(of.lines[0], BTC)

    assert said(told) == [(0, Moved(BTC, 0, "it speaks again")), (1, Requested(BTC, op="unsubscribe"))]
    assert carried(of) == [[SOL, BTC], []]
    assert not of.trying


def test_a_change_touches_nothing_but_what_changes():
    """
    What is new is expected from now on, though its connection is down; what is gone is no longer.
    """
    of = copy(0, [SOL, BTC])

    told = of.carry([[SOL, ETH]])

    assert said(told) == [
        (0, Requested(BTC, op="unsubscribe", why=RELOADED)),
        (0, Requested(ETH, why=RELOADED)),
    ]
    assert carried(of) == [[SOL, ETH], []]
    assert of.carry([[SOL, ETH]]) == []


def test_a_stream_on_probation_is_removed_there():
    """
    And is remembered no more: if it is added again, it begins at home, with the first wait.
    """
    of = copy(0, [SOL, BTC])
    of.to_probation(of.lines[0], BTC, "silent")

    told = of.carry([[SOL]])

    assert said(told) == [(1, Requested(BTC, op="unsubscribe", why=RELOADED))]
    assert carried(of) == [[SOL], []]
    of.carry([[SOL, BTC]])
    assert carried(of) == [[SOL, BTC], []]
    of.to_probation(of.lines[0], BTC, "silent")
    of.probation.session.opened(T0)
    (want,) = of.probation.session._wants.values()
    assert want.promote_after_s == PROMOTE_AFTER_S


def test_a_stream_on_trial_is_removed_everywhere():
    """
    At home and on probation; a frame still under way settles nothing.
    """
    of = copy(0, [SOL, BTC])
    of.to_probation(of.lines[0], BTC, "silent")
    of.go_home(BTC)

    told = of.carry([[SOL]])

    assert [(index, fact.op) for index, fact in said(told)] == [(0, "unsubscribe"), (1, "unsubscribe")]
    assert not of.trying
    assert of.settle(of.lines[0], BTC) == []
    of.go_home(BTC)
    assert carried(of) == [[SOL], []]


def test_a_home_that_was_emptied_is_wanted_again_when_its_stream_speaks():
    """
    All its others were removed while its last one was on probation.
    """
    of = copy(0, [SOL, BTC])
    of.to_probation(of.lines[0], BTC, "silent")
    of.carry([[BTC]])
    of.lines[0].wanted.clear()

    assert carried(of) == [[], [BTC]]
    of.go_home(BTC)

    assert of.lines[0].wanted.is_set()
    assert carried(of) == [[BTC], [BTC]]
