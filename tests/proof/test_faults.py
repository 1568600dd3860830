"""
Each fault alone: named by an event of the right kind and cause, whose bounds contain it and little more.
"""

import pytest
from cases import CASES, kinds_with_a_case
from judge import judge

from recorder.simulator.kinds import KINDS

LIMITS: dict[str, str] = {}
"""Cases that are not as they should be yet, with the reason. The slow suite tells which are right by now."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_alone_is_told_as_what_it_is(case):
    """
    Nothing unexplained, nothing invented, the right words.
    """
    verdict = judge(case)

    if case.name in LIMITS and not verdict.right:
        pytest.xfail(f"{'; '.join(verdict.faults())}: {LIMITS[case.name]}")
    assert verdict.faults() == []


def test_every_kind_of_fault_has_a_case():
    """
    Of the simulator's, so that a new one is not forgotten here.
    """
    assert kinds_with_a_case() == {str(kind.__struct_config__.tag) for kind in KINDS}


def test_limits_are_of_cases_there_are():
    """
    A renamed case would lose its reason.
    """
    assert set(LIMITS) <= {case.name for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_limit_is_still_one(name):
    """
    What is right by now leaves the table, so that it cannot go wrong again unseen.
    """
    (case,) = [case for case in CASES if case.name == name]

    assert not judge(case).right
