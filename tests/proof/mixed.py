"""
Scenarios nobody thought of: a random venue with random faults, a random way there, a recorder that is restarted.
"""

import random

from virtual import Absence, Scenario, markets_of

from recorder.simulator.drive import Link
from recorder.simulator.mixtures import random_faults

QUIET_S = 25.0
"""At the end: what was withheld can still be proved."""


def random_scenario(seed: int, *, duration_s: float = 150.5) -> Scenario:
    """
    The same seed gives the same.
    """
    rng = random.Random(f"proof {seed}")
    connections = rng.choice([1, 1, 2, 3])
    plain = Scenario(
        server=rng.choice(["2026-05", "2026-05", "2025-09", "velocity"]),
        connections=connections,
        copies=connections > 1 and rng.random() < 0.3,
        absences=_absences(rng, duration_s),
        markets=rng.choice([2, 4, 6]),
        duration_s=duration_s,
        seed=seed,
        two_feeds=rng.random() < 0.15,
        before_hour_s=duration_s * rng.uniform(0.2, 0.8) if rng.random() < 0.4 else None,
        links={index: _link(rng, duration_s) for index in range(connections) if rng.random() < 0.5},
    )
    faults = tuple(random_faults(seed, duration_s - QUIET_S, markets_of(plain)))
    return Scenario(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"faults": faults})


def _absences(rng: random.Random, duration_s: float) -> tuple[Absence, ...]:
    if rng.random() < 0.6:
        return ()
    at = rng.uniform(20, duration_s - 60)
    return (Absence(at, at + rng.uniform(0.5, 15), rng.choice(["kill", "kill", "stop"])),)


def _link(rng: random.Random, duration_s: float) -> Link:
    def at() -> float:
        return round(rng.uniform(5, duration_s - 40), 3)

    begins, dies = at(), at()
    return Link(
        latency_ms=rng.choice([1.0, 20.0, 80.0]),
        jitter_ms=rng.choice([0.0, 5.0]),
        cuts_s=tuple(at() for _ in range(rng.randrange(3))),
        stalls_s=((begins, begins + rng.uniform(0.5, 14)),) if rng.random() < 0.4 else (),
        dead_s=((dies, dies + 30),) if rng.random() < 0.2 else (),
    )
