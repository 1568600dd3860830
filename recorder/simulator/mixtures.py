"""
Random mixtures of faults, from a seed: what nobody thought of writing into a script.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, get_args

from recorder.simulator.kinds import (
    Alter,
    Altered,
    AnyFault,
    Backlog,
    BusFails,
    Cadence,
    ClockSkew,
    Drop,
    Freeze,
    Garbage,
    Garbled,
    HalfOpen,
    Halt,
    LateFills,
    NewMarket,
    PublisherDown,
    ReorderFills,
    RepeatFills,
    RepeatFrames,
    Restart,
    ShiftSlots,
    Silence,
    SkipFrames,
    SlowTicks,
    StaleOracle,
    StaleStore,
    StopHeartbeats,
    TwoFeeds,
    WithholdFills,
    edges,
)
from recorder.simulator.markets import SimMarket

_MEAN_INTERVAL_S = 20.0
_MIN_SPAN_S, _MAX_SPAN_S = 2.0, 25.0


class _Draw:
    """
    What a kind of fault is made from.
    """

    def __init__(self, rng: random.Random, duration: float, markets: Sequence[SimMarket]) -> None:
        self.rng, self._duration, self._markets = rng, duration, markets
        self.number = 0

    def at(self) -> float:
        return round(self.rng.uniform(0, self._duration), 3)

    def span(self) -> dict[str, Any]:
        begins = self.rng.uniform(0, self._duration * 0.95)
        lasts = self.rng.uniform(_MIN_SPAN_S, _MAX_SPAN_S)
        return {"from_s": round(begins, 3), "to_s": round(max(begins + 0.1, min(begins + lasts, self._duration)), 3)}

    def market(self) -> str:
        kind = self.rng.random()
        if kind < 0.15 or not self._markets:
            return "*"
        if kind < 0.3:
            return "perp:*"
        count = 1 if kind < 0.8 else min(3, len(self._markets))
        return ",".join(f"{market.market_type}:{market.symbol}" for market in self.rng.sample(self._markets, count))

    def new_index(self) -> int:
        self.number += 1
        return 900 + self.number


_MAKERS: dict[type[AnyFault], tuple[float, Callable[[_Draw], AnyFault]]] = {
    Drop: (3, lambda d: Drop(d.at(), code=d.rng.choice([None, None, 1001, 1011, 1012]))),
    HalfOpen: (1.5, lambda d: HalfOpen(**d.span())),
    Backlog: (2, lambda d: Backlog(**d.span(), buffer_bytes=d.rng.choice([0, 200_000, 4_000_000]))),
    Restart: (1.5, lambda d: Restart(**d.span(), code=d.rng.choice([None, 1001, 1012]))),
    BusFails: (0.5, lambda d: BusFails(**d.span())),
    StopHeartbeats: (1.5, lambda d: StopHeartbeats(**d.span())),
    Garbage: (2, lambda d: Garbage(d.at(), what=d.rng.choice(get_args(Garbled)))),
    Silence: (
        4,
        lambda d: Silence(**d.span(), market=d.market(), channels=d.rng.choice(["books", "books", "trades", "all"])),
    ),
    PublisherDown: (1, lambda d: PublisherDown(**d.span(), market=d.market())),
    SkipFrames: (2, lambda d: SkipFrames(**d.span(), market=d.market(), every=d.rng.randrange(2, 20))),
    RepeatFrames: (1.5, lambda d: RepeatFrames(**d.span(), market=d.market(), every=d.rng.randrange(1, 10))),
    SlowTicks: (1, lambda d: SlowTicks(**d.span(), late_ms=d.rng.randrange(50, 3000), every=d.rng.randrange(1, 8))),
    Cadence: (1, lambda d: Cadence(**d.span(), tick_ms=d.rng.choice([200, 750, 1000, 2000]))),
    Freeze: (1.5, lambda d: Freeze(**d.span(), market=d.market(), what=d.rng.choice(["all", "slot", "content"]))),
    ShiftSlots: (
        1.5,
        lambda d: ShiftSlots(**d.span(), market=d.market(), slots=d.rng.choice([-200, -5, 3, 60, 10_000])),
    ),
    TwoFeeds: (1, lambda d: TwoFeeds(**d.span(), lag_ms=d.rng.randrange(20, 390), slots_behind=d.rng.randrange(-3, 6))),
    ClockSkew: (1, lambda d: ClockSkew(**d.span(), market=d.market(), by_ms=d.rng.choice([-60_000, -900, 700, 5_000]))),
    StaleStore: (0.5, lambda d: StaleStore(**d.span(), market=d.market())),
    Alter: (
        3,
        lambda d: Alter(
            **d.span(),
            what=d.rng.choice(get_args(Altered)),
            market=d.market(),
            channels=d.rng.choice(["books", "trades", "all"]),
            every=d.rng.randrange(1, 12),
        ),
    ),
    NewMarket: (0.5, lambda d: NewMarket(d.at(), market=f"NEW{(index := d.new_index())}-PERP", index=index)),
    Halt: (1, lambda d: Halt(**d.span(), market=d.market())),
    StaleOracle: (1, lambda d: StaleOracle(**d.span(), market=d.market(), behind_slots=d.rng.choice([0, 150, 200]))),
    WithholdFills: (2, lambda d: WithholdFills(**d.span(), market=d.market(), every=d.rng.randrange(1, 6))),
    ReorderFills: (1.5, lambda d: ReorderFills(**d.span(), market=d.market())),
    LateFills: (1.5, lambda d: LateFills(**d.span(), market=d.market(), by_s=float(d.rng.randrange(1, 9)))),
    RepeatFills: (
        1.5,
        lambda d: RepeatFills(**d.span(), market=d.market(), every=d.rng.randrange(1, 5), after_s=2.0),
    ),
}


def random_faults(seed: int, duration: float, markets: Sequence[SimMarket]) -> list[AnyFault]:
    """
    A mixture for `duration` seconds: about one fault each 20 s, of any kind, at any time, often several at once.

    Args:
        seed: the same gives the same.
        duration: seconds; every fault begins and ends within.
        markets: those that are simulated.

    Returns:
        In the order they begin.
    """
    draw = _Draw(random.Random(f"faults {seed}"), duration, markets)
    count = 1 + sum(draw.rng.random() < 0.5 for _ in range(int(2 * duration / _MEAN_INTERVAL_S)))
    kinds = draw.rng.choices(list(_MAKERS), [weight for weight, _ in _MAKERS.values()], k=count)
    faults = dict.fromkeys(_MAKERS[kind][1](draw) for kind in kinds)
    return sorted(faults, key=lambda fault: edges(fault)[0])
