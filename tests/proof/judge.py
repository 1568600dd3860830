"""
What an account says of a fault: whether it was told, by which kind and cause, and how far the bounds were off.
"""

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
from account import Account, account
from cases import EXCESS_LIMIT_S, Case, window_of
from holes import excess
from lakes import read_lake
from terms import MOMENTS, Hole, Mark
from virtual import Scenario, Side, record

from recorder.lake.sealing import seal
from recorder.records import SECOND_NS

AFTERMATH_NS = 75 * SECOND_NS
"""A fault may have consequences for so long after its end: reconnects back off, markets come home from probation."""


class Verdict(msgspec.Struct, frozen=True):
    """
    One line of the table.
    """

    name: str
    effect: str
    holes: int
    """Runs of missing books or fills."""
    told: int
    """Of them, or of the one thing that shows: those an event names."""
    kinds: dict[str, int]
    """How many of them by which kinds: all that some of a hole lies in, those that should tell of the fault first."""
    kind_right: bool
    cause_right: bool
    excess_s: float
    """By how much the bounds exceed the frames received before and after, or the fault that shows, at most."""
    in_parts: int
    """Holes that several events cover, and none alone."""
    false: list[Mark]
    """Events that no fault explains."""
    unexplained: int
    unstored: int
    fills_wrong: int
    """By how many the trade gaps miscount."""
    excess_limit_s: float = EXCESS_LIMIT_S

    @property
    def right(self) -> bool:
        """
        Whether all is as it should be.
        """
        return not self.faults()

    def faults(self) -> list[str]:
        """
        What is not as it should be, in words.
        """
        total = max(self.holes, 1) if self.effect == "shows" else self.holes
        return [
            words
            for wrong, words in (
                (self.effect == "hole" and not self.holes, "it had no effect"),
                (self.unexplained, f"{self.unexplained} frames unexplained"),
                (self.unstored, f"{self.unstored} frames heard and not stored"),
                (self.effect != "nothing" and self.told < total, f"told {self.told} of {total}"),
                (self.told and not self.kind_right, "wrong kind"),
                (self.told and not self.cause_right, "wrong cause"),
                (self.excess_s > self.excess_limit_s, f"bounds exceed by {self.excess_s:.2f} s"),
                (self.fills_wrong, f"{self.fills_wrong} fills miscounted"),
                (self.false, f"false: {', '.join(sorted({mark.kind for mark in self.false}))}"),
            )
            if wrong
        ]


def let_pass(scenario: Scenario) -> tuple[Account, Side]:
    """
    Run a scenario, seal its journal, and account for all.
    """
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        lines, side = record(scenario, root)
        seal(root)
        lake = read_lake(root)
    return account(lines, side, lake), side


def ours(mark: Mark, side: Side) -> bool:
    """
    Whether an event tells of our own beginning or end only.
    """
    if mark.kind in MOMENTS:
        return True
    last = max(life.ended for life in side.lives)
    # We stop at the end of each scenario, and nobody records from then to the end of the hour.
    return mark.end >= last and mark.kind in {"disconnected", "recorder_down"} and mark.cause == "recorder"


def of_probation(mark: Mark) -> bool:
    """
    Whether a connection that nobody needed any more was closed.
    """
    return mark.kind == "disconnected" and mark.end - mark.start < 1_000_000 and mark.cause == "recorder"


def _is_whole(marks: list[Mark], most: int) -> bool:
    """
    Whether events follow each other without a pause.
    """
    ordered = sorted(marks, key=lambda mark: mark.start)
    return bool(marks) and all(b.start - a.end <= most for a, b in pairwise(ordered))


def judge(case: Case) -> Verdict:
    """
    Run a case, and hold what the recorder says against what it should.
    """
    account_, side = let_pass(case.scenario)
    start = case.scenario.start
    begins, ends = (start + round(at * SECOND_NS) for at in window_of(case))
    last = max(life.ended for life in side.lives)
    tick = round(1.2 * SECOND_NS)
    holes = [
        h for h in account_.holes if h.last >= begins - tick and not (h.after is None and h.last >= last - SECOND_NS)
    ]
    effect_end = max([ends, *(hole.last for hole in holes)])
    allowed = case.kinds | case.also
    false = [
        mark
        for mark in account_.marks
        if not ours(mark, side)
        and not (of_probation(mark) and mark.start > begins)
        and not (mark.kind in allowed and mark.end >= begins - tick and mark.start <= effect_end + AFTERMATH_NS)
    ]
    # An event that says frames are missing, and none is.
    false += [m for m in account_.needless if m.kind in allowed and not ours(m, side) and not of_probation(m)]
    if case.effect == "shows":
        told = [m for m in account_.marks if m.kind in case.kinds and m.end >= begins - tick and m.start <= ends + tick]
        named = told[:1]
        over = [max(0.0, begins - m.start, m.end - ends) / 1e9 for m in told]
        short = [max(0.0, m.start - begins, ends - m.end) / 1e9 for m in told]
        best = min((max(o, s) for o, s in zip(over, short, strict=True)), default=0.0)
        if _is_whole(told, tick):
            # One after the other: a stream that moves goes on being told of where it is then.
            first, final = min(m.start for m in told), max(m.end for m in told)
            best = min(best, max(abs(begins - first), abs(final - ends)) / 1e9)
        return _verdict(case, account_, holes, named, false, best, len(named), 0)
    marks = [hole.mark for hole in holes if hole.mark is not None]
    # What no id can prove nobody can tell; the account counts it apart.
    in_parts = sum(h.mark is None and all(m.state in {"covered", "unverifiable"} for m in h.missing) for h in holes)
    widest = max((max(reach) for hole in holes if (reach := excess(hole, account_.holes)) is not None), default=0.0)
    return _verdict(case, account_, holes, marks, false, widest, len(marks) + in_parts, in_parts)


def _verdict(
    case: Case,
    account_: Account,
    holes: list[Hole],
    named: list[Mark],
    false: list[Mark],
    widest: float,
    told: int,
    in_parts: int,
) -> Verdict:
    told_by = [{mark.kind for mark in hole.marks} for hole in holes] if case.effect == "hole" else []
    told_by += [{mark.kind} for mark in named] if case.effect == "shows" else []
    counts = Counter(kind for those in told_by for kind in those)
    kinds = dict(sorted(counts.items(), key=lambda each: (each[0] not in case.kinds, -each[1], each[0])))
    parts = [hole.marks for hole in holes if hole.mark is None and hole.marks]
    return Verdict(
        name=case.name,
        effect=case.effect,
        holes=len(holes) if case.effect != "shows" else 0,
        told=told,
        kinds=kinds,
        kind_right={mark.kind for mark in named} <= case.kinds
        and all(any(mark.kind in case.kinds for mark in marks) for marks in parts),
        cause_right={mark.cause for mark in named} <= case.causes
        and all(any(mark.kind in case.kinds and mark.cause in case.causes for mark in marks) for marks in parts),
        excess_s=round(widest, 3),
        in_parts=in_parts,
        false=false,
        unexplained=len(account_.unexplained),
        unstored=len(account_.unstored),
        excess_limit_s=case.slack_s if case.effect == "shows" else case.excess_limit_s,
        fills_wrong=account_.fills_wrong,
    )
