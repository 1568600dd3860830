"""
Every figure of the budget table, each beside a plain recorder in the same run: `python tests/benchmarks/figures.py`.

Input comes from the simulated venue, the same on every machine; durations are medians of several rounds, candidates in
turns, and belong to this machine. Nothing here is a test: machines are shared and noisy. All of it takes about a
quarter of an hour; `--only` measures a part, `--soak 30` makes the run at live load half an hour long. What a crash can
cost is no figure but a proof: `tests/faults/`.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import asking
import growth
import hearing
import live
import msgspec
import parquet
import queries
import sealing
import startup
from bench import QUICK, Bench, Sizes
from table import PARTS, Measured, markdown, plain_text, replaced

import capture

MEASURES: dict[str, Callable[[Bench], list[Measured]]] = {
    "capture": capture.measure,
    "live": live.measure,
    "journal": sealing.journal,
    "seal": sealing.measure,
    "parquet": parquet.measure,
    "queries": queries.measure,
    "day": asking.measure,
    "monitor": hearing.measure,
    "growth": growth.measure,
    "start": startup.measure,
}


def sizes(options: argparse.Namespace) -> Sizes:
    """
    How much to measure, as asked for.
    """
    chosen = {
        "rounds": options.rounds,
        "live_s": options.seconds,
        "soak_minutes": options.soak,
        "start_frames": options.start_frames,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return msgspec.structs.replace(QUICK if options.quick else Sizes(), **given)


def arguments() -> argparse.ArgumentParser:
    """
    What the command understands.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="of each measurement (3)")
    parser.add_argument("--quick", action="store_true", help="tiny input: shows that all runs, measures nothing")
    parser.add_argument("--seconds", type=float, help="at live load (60)")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="at live load, with a line a minute")
    parser.add_argument("--start-frames", type=int, help="in each of the day's 1,440 segments (240)")
    parser.add_argument("--json", action="store_true", help="print every round's values instead of the table")
    parser.add_argument("--load", nargs="+", type=Path, metavar="FILE", help="take what --json printed; later ones win")
    parser.add_argument("--markdown", action="store_true", help="print the README's table")
    parser.add_argument("--write", type=Path, metavar="README", help="replace the table in it")
    return parser


def measured(options: argparse.Namespace) -> list[Measured]:
    """
    What was measured now, or is loaded.
    """
    if options.load:
        found = [m for path in options.load for m in msgspec.json.decode(path.read_bytes(), type=list[Measured])]
        return list({m.name: m for m in found}.values())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), sizes(options))
        return [figure for part in options.only or PARTS for figure in MEASURES[part](bench)]


def main() -> None:
    """
    Measure and tell.
    """
    parser = arguments()
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write needs every figure: collect parts with --json, then --load them all")
    results = measured(options)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(results)).decode())
    elif options.markdown:
        print(markdown(results))
    else:
        print(plain_text(results))
    if options.write:
        readme = options.write.read_text(encoding="utf-8")
        options.write.write_text(replaced(readme, results), encoding="utf-8")


if __name__ == "__main__":
    main()
