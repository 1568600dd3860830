"""
Names of runs and segments: they sort by time, and are read back.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.journal.names import is_run_name, parse_segment_name, run_name, segment_name
from recorder.records import SECOND_NS

INSTANTS = st.integers(0, 9_000_000_000 * SECOND_NS)
HOUR = 1_791_360_000 * SECOND_NS


def test_names_are_utc_to_the_last_digit():
    """
    As written in the layout.
    """
    assert run_name(HOUR + 123_456_789, "0a1b2c") == "20261007T080000.123456Z-0a1b2c"
    assert segment_name(HOUR + 1) == "20261007T080000.000000001Z.zst"
    assert segment_name(HOUR + 1, 12) == "20261007T080000.000000001Z-12.zst"


@given(INSTANTS, st.integers(0, 999_999_999), st.sampled_from(["", ".open"]))
def test_a_segments_name_gives_its_start_and_rewrites(start, again, suffix):
    """
    Open or finished: the name is enough to choose segments.
    """
    assert parse_segment_name(segment_name(start, again) + suffix) == (start, again)


@given(INSTANTS, INSTANTS)
def test_names_sort_by_time(one, other):
    """
    A listing is an index.
    """
    first, second = sorted((one, other))

    assert segment_name(first) <= segment_name(second)
    assert run_name(first, "000000") <= run_name(second, "ffffff")


@given(INSTANTS)
def test_a_runs_name_is_one(started):
    """
    What `run_name` makes is what the reader looks for.
    """
    assert is_run_name(run_name(started, "0a1b2c"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "lock",
        "20261007T080000.000000001Z",
        "20261007T080000.000000001Z.zst.tmp",
        "20261007T080000.000000001Z.zst.open.open",
        "20261007T080000.00000001Z.zst",
        "20261007T080000.000000001Z-.zst",
        "20261007T080000.000000001Z-0.zst",  # another spelling of no rewrite
        "20261007T080000.000000001Z-01.zst",
        "20261007T080000.000000001Z-1234567890.zst",
        "20261307T080000.000000001Z.zst",
        "20261007T250000.000000001Z.zst",
        "20261007T080060.000000001Z.zst",
        "20261007T080000.000000001Z.zst\n",
        "20261007T080000,000000001Z.zst",
        ".20261007T080000.000000001Z.zst",
        "2026100٧T080000.000000001Z.zst",  # a digit, but not one of ours
    ],
)
def test_other_names_are_no_segments(name):
    """
    What people and programs leave in the folder is not read.
    """
    assert parse_segment_name(name) is None


@pytest.mark.parametrize(
    "name", ["", "start.lock", "20261007T080000.123456Z", "20261007T080000.123456Z-0A1B2C", "x" * 30, "2026100٧"]
)
def test_other_names_are_no_runs(name):
    """
    A folder of another name is not a run.
    """
    assert not is_run_name(name)
