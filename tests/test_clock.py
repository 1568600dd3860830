"""
Time: anchored once, never stepping back in a run.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import clock
from recorder.clock import ManualClock, SystemClock
from recorder.records import SECOND_NS

START = 1_791_360_000 * SECOND_NS


class Times:
    """
    The machine's two clocks, in our hands.
    """

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 77

    def pass_by(self, ns: int) -> None:
        """
        Both go on.
        """
        self.wall += ns
        self.monotonic += ns

    def time_ns(self) -> int:
        """
        What may be set.
        """
        return self.wall

    def monotonic_ns(self) -> int:
        """
        What may not.
        """
        return self.monotonic


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    """
    Instead of the machine's.
    """
    hands = Times()
    monkeypatch.setattr(clock, "time", hands)
    return hands


@pytest.mark.parametrize("at", [1, 2])
def test_a_process_that_is_stopped_as_it_looks_at_the_clocks_looks_again(times, monkeypatch, at):
    """
    Else all times of the run would be wrong by as much, or a clock seem to have been set that was not.
    """
    looks = iter(range(1, 9))
    monotonic_ns = times.monotonic_ns

    def stopped_between():
        if next(looks, 0) == at:
            times.pass_by(3 * SECOND_NS)
        return monotonic_ns()

    monkeypatch.setattr(times, "monotonic_ns", stopped_between)
    ours = SystemClock()

    assert ours.now() == times.wall
    assert ours.offset() == 0


def test_a_run_begins_at_wall_time_and_goes_on_by_the_monotonic_clock(times):
    """
    Setting the wall clock changes nothing by itself.
    """
    ours = SystemClock()
    assert ours.now() == START

    times.pass_by(5 * SECOND_NS)
    times.wall += 3600 * SECOND_NS
    assert ours.now() == START + 5 * SECOND_NS


@pytest.mark.parametrize("step", [0, 1, SECOND_NS, 3600 * SECOND_NS, -1, -SECOND_NS, -3600 * SECOND_NS])
def test_the_offset_tells_how_far_the_wall_clock_was_set(times, step):
    """
    With its sign, whatever time has passed.
    """
    ours = SystemClock()
    times.pass_by(9 * SECOND_NS)
    times.wall += step

    assert ours.offset() == step


def test_a_forward_step_is_taken_once(times):
    """
    Time is true again, and the step is told.
    """
    ours = SystemClock()
    times.wall += 90 * SECOND_NS

    assert ours.advance_to_wall() == 90 * SECOND_NS
    assert (ours.now(), ours.offset()) == (START + 90 * SECOND_NS, 0)


@pytest.mark.parametrize("step", [0, -1, -3600 * SECOND_NS])
def test_a_backward_step_is_never_taken(times, step):
    """
    Within a run time does not step back: the caller begins another.
    """
    ours = SystemClock()
    times.pass_by(SECOND_NS)
    times.wall += step

    with pytest.raises(ValueError, match="begin a new run"):
        ours.advance_to_wall()
    assert ours.now() == START + SECOND_NS


@given(st.lists(st.tuples(st.integers(0, 10 * SECOND_NS), st.integers(-(10**13), 10**13)), max_size=30))
def test_time_never_steps_back_whatever_the_wall_clock_does(steps):
    """
    Set either way at any time, and followed forwards whenever it can be.
    """
    hands = Times()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(clock, "time", hands)
        ours = SystemClock()
        last = ours.now()
        for passed, step in steps:
            hands.pass_by(passed)
            hands.wall += step
            if ours.offset() > 0:
                ours.advance_to_wall()
            assert ours.now() >= last
            last = ours.now()


def test_the_machines_own_clocks_give_the_present():
    """
    Within a second of each other, in nanoseconds since the epoch, and durations that do not shrink.
    """
    ours = SystemClock()
    assert abs(ours.now() - clock.wall_ns()) < SECOND_NS
    assert abs(ours.offset()) < SECOND_NS
    before = clock.monotonic_ns()
    clock.pause(0.001)
    assert clock.monotonic_ns() - before >= 1_000_000
    assert clock.process_cpu_s() > 0


def test_a_manual_clock_stands_until_it_is_set():
    """
    And refuses to step back, like the other.
    """
    manual = ManualClock(START)
    manual.set(START)
    manual.set(START + 5)
    assert manual.now() == START + 5
    with pytest.raises(ValueError, match="step back"):
        manual.set(START)
    assert manual.now() == START + 5
