"""
How honest the recorder is, as a table: `python tests/proof/honesty.py [--seeds N] [--fault KIND …] [--clean MINUTES]`.

Each fault alone, seeded random mixtures of them, and a run in which nothing is wrong: recorded in virtual time by the
real session, journal and seal, and held against what the simulated venue really did (`account.py`, `cases.py`).
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in (Path(__file__).parents[2], Path(__file__).parents[1])]

import msgspec
from account import Account
from cases import CASES, SLOW_AND_CLEAN, Case
from judge import Verdict, judge, let_pass, of_probation, ours
from mixed import random_scenario
from terms import MOMENTS, Mark
from virtual import Side


class Mixture(msgspec.Struct, frozen=True):
    """
    What an account of a mixture comes to.
    """

    seed: int
    meant: int
    stored: int
    covered: int
    suspect: int
    unverifiable: int
    unexplained: int
    unstored: int
    fills_missing: int
    fills_wrong: int
    needless: list[Mark]

    @property
    def right(self) -> bool:
        """
        Whether nothing is unexplained, miscounted, or said to be missing that is not.
        """
        return not (self.unexplained or self.unstored or self.fills_wrong or self.needless)

    def words(self) -> str:
        """
        What is not as it should be.
        """
        needless = Counter(mark.kind for mark in self.needless)
        return "; ".join(
            words
            for wrong, words in (
                (self.unexplained, f"{self.unexplained} frames unexplained"),
                (self.unstored, f"{self.unstored} frames heard and not stored"),
                (self.fills_wrong, f"{self.fills_wrong} fills miscounted"),
                (needless, f"nothing is missing in: {', '.join(f'{n} {kind}' for kind, n in needless.items())}"),
            )
            if wrong
        )


def mixture(seed: int) -> Mixture:
    """
    A random scenario, accounted for.
    """
    account, _ = let_pass(random_scenario(seed))
    return Mixture(
        seed=seed,
        meant=account.meant,
        stored=account.states["stored"],
        covered=account.states["covered"],
        suspect=account.states["suspect"],
        unverifiable=account.states["unverifiable"],
        unexplained=len(account.unexplained),
        unstored=len(account.unstored),
        fills_missing=sum(account.fills_missing.values()),
        fills_wrong=account.fills_wrong,
        needless=[mark for mark in account.needless if not of_probation(mark)],
    )


def unusual(account: Account, side: Side) -> list[Mark]:
    """
    What was told of a run beyond its beginning and its end.
    """
    return [mark for mark in account.marks if mark.kind not in MOMENTS and not ours(mark, side)]


def line(verdict: Verdict) -> str:
    """
    A row of the table of faults.
    """
    expected = {"hole": f"{verdict.told}/{verdict.holes} holes", "shows": f"{verdict.told}/1", "nothing": "–"}
    kinds = ", ".join(verdict.kinds) or "–"
    if verdict.in_parts:
        kinds += f" ({verdict.in_parts} in parts)"
    shown = {
        "fault": verdict.name,
        "told": expected[verdict.effect],
        "by": kinds,
        "cause": "–" if not verdict.told else "right" if verdict.cause_right else "WRONG",
        "bounds exceed by": f"{verdict.excess_s:.2f} s" if verdict.effect != "nothing" else "–",
        "false events": str(len(verdict.false)),
        "unexplained": str(verdict.unexplained),
        "": "" if verdict.right else "; ".join(verdict.faults()),
    }
    return "| " + " | ".join(shown.values()) + " |"


HEAD = (
    "| fault alone | told | by | cause | bounds exceed by | false events | unexplained | |\n"
    "|---|---|---|---|---|---|---|---|"
)


def tell_faults(cases: Iterable[Case]) -> int:
    """
    Print the table; how many rows are not as they should be.
    """
    print(HEAD)
    wrong = 0
    for case in cases:
        verdict = judge(case)
        wrong += not verdict.right
        print(line(verdict), flush=True)
    return wrong


def tell_mixtures(seeds: range) -> int:
    """
    Print the sums of random mixtures; how many are not as they should be.
    """
    mixtures = []
    for seed in seeds:
        mixtures.append(mixture(seed))
        if not mixtures[-1].right:
            print(f"mixture {seed}: {mixtures[-1].words()}", flush=True)
    columns = {
        "random mixtures": len(mixtures),
        "books and fills meant": _sum(mixtures, "meant"),
        "stored": _sum(mixtures, "stored"),
        "inside events": _sum(mixtures, "covered"),
        "suspect": _sum(mixtures, "suspect"),
        "unverifiable": _sum(mixtures, "unverifiable"),
        "unexplained": _sum(mixtures, "unexplained"),
        "missing fills": _sum(mixtures, "fills_missing"),
        "miscounted": _sum(mixtures, "fills_wrong"),
        "needless events": sum(len(each.needless) for each in mixtures),
        "mixtures not right": sum(not each.right for each in mixtures),
    }
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    print(f"| {' | '.join(f'{count:,}' for count in columns.values())} |")
    return sum(not each.right for each in mixtures)


def _sum(mixtures: list[Mixture], name: str) -> int:
    return sum(getattr(each, name) for each in mixtures)


def tell_clean(minutes: float) -> int:
    """
    Print what a run in which nothing is wrong was said of; 1 if anything was.
    """
    scenario = msgspec.structs.replace(SLOW_AND_CLEAN, duration_s=minutes * 60 + 0.5)
    account, side = let_pass(scenario)
    said = unusual(account, side)
    print(
        f"\nclean, {minutes:g} minutes at {scenario.markets} markets: {account.meant:,} books and fills meant, "
        f"{account.states['stored']:,} stored, {len(account.unexplained)} unexplained, {len(said)} false events"
    )
    for mark in said[:20]:
        print(f"  {mark.kind} ({mark.cause}) {mark.symbol or ''}: {mark.evidence}")
    return bool(said or account.unexplained)


def main() -> int:
    """
    The command.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().split("\n\n")[1])
    parser.add_argument("--seeds", type=int, default=20, help="how many random mixtures; 0: none")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--fault", action="append", help="only cases whose name has this in it")
    parser.add_argument("--clean", type=float, default=20, metavar="MINUTES", help="of a run without a fault; 0: none")
    chosen = parser.parse_args()
    wrong = tell_faults(c for c in CASES if not chosen.fault or any(part in c.name for part in chosen.fault))
    if chosen.fault:
        return bool(wrong)
    if chosen.seeds:
        wrong += tell_mixtures(range(chosen.first, chosen.first + chosen.seeds))
    if chosen.clean:
        wrong += tell_clean(chosen.clean)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
