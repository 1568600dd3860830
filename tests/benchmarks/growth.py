"""
What a frame costs as markets grow: the same number of frames, of 10, 100 and 1,000 markets.
"""

from bench import Bench
from processes import outcome
from sealing import plainly, sealed
from table import GROWTH, Measured


def measure(bench: Bench) -> list[Measured]:
    """
    Reader, monitor, seal and files for each number of markets.
    """
    sizes = bench.sizes
    return [
        result
        for name, markets in zip(GROWTH, sizes.growth, strict=True)
        for result in _of(bench, name, markets, sizes.growth_books)
    ]


def _of(bench: Bench, name: int, markets: int, books: int) -> list[Measured]:
    root = bench.sealable(markets, books)
    count = len(bench.frames(markets, books))
    speed, peak, files = (
        Measured(f"{name} markets, {what}") for what in ("seal", "seal, peak memory", "files an hour")
    )
    bench.say(f"{name} markets: reader and monitor")
    heard = outcome("hearing.py", root, str(bench.sizes.rounds))
    for number in range(bench.sizes.rounds):
        bench.say(f"{name} markets: seal, round {number + 1} of {bench.sizes.rounds}")
        told = sealed(root)
        speed.ours.append(count / told["cpu_s"])
        peak.ours.append(told["peak_mb"])
    plain = plainly(bench, bench.frames_file(markets, books))
    speed.plain, peak.plain = [count / plain["cpu_s"]], [plain["peak_mb"]]
    files.ours = [told["files"]]
    speed.note = f"{count:,} frames, {told['books'] / markets:,.0f} books a market; small files cost more a frame"
    return [
        Measured(f"{name} markets, reader after the socket, a frame", heard["reader_us"], heard["json_us"]),
        Measured(f"{name} markets, live monitor, a frame", heard["monitor_us"], heard["json_us"]),
        speed,
        peak,
        files,
    ]
