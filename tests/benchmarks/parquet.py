"""
The bytes of a sealed book, of the study's books and of simulated ones.
"""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import study
from bench import Bench
from load import TICK_MS, write_frames, write_journal
from processes import outcome
from sealing import a_day, plainly, sealed
from table import Measured


class StudyHour(msgspec.Struct, frozen=True):
    """
    An hour of the study's books, by both recorders.
    """

    root: Path
    """Sealed."""
    plain: Path
    """Folder of the plain recorder's files."""
    ours_told: dict[str, Any]
    plain_told: dict[str, Any]


@cache
def study_hour(bench: Bench) -> StudyHour:
    """
    Made once for all parts that read it.
    """
    bench.say("an hour of the study's books")
    root, plain, frames = (bench.folder / f"study-{name}" for name in ("root", "plain", "frames"))
    write_frames(frames, study.frames(bench.sizes.study_books))
    write_journal(root, study.STREAMS, study.frames(bench.sizes.study_books))
    plain.mkdir()
    return StudyHour(root, plain, sealed(root), outcome("plain.py", "write", frames, plain))


def measure(bench: Bench) -> list[Measured]:
    """
    Both, each beside one file of the plain recorder.
    """
    hour = study_hour(bench)
    markets, books = bench.sizes.markets, bench.sizes.books
    bench.say("Parquet of simulated books")
    simulated = sealed(bench.sealable(markets, books))
    plain_simulated = plainly(bench, bench.frames_file(markets, books))
    days = a_day(bench.frames(markets, books))
    return [
        Measured(
            "Parquet, a 20-level book of the study",
            [hour.ours_told["bytes_a_book"]],
            [hour.plain_told["bytes_a_book"]],
            note=f"{bench.sizes.study_books:,} books of each of {len(study.MARKETS)} markets, scalar columns included",
        ),
        Measured(
            "Parquet, a simulated book",
            [simulated["bytes_a_book"]],
            [plain_simulated["bytes_a_book"]],
            note=f"{markets} markets, {simulated['books'] // markets:,} books each",
        ),
        Measured(
            "lake, a day of all of Drift",
            [simulated["bytes"] * days / 1e9],
            [plain_simulated["bytes"] * days / 1e9],
            note=f"{markets} markets; from {books // markets * TICK_MS / 60_000:.0f} minutes, whole hours are smaller",
        ),
    ]
