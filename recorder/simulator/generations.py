"""
The versions of the server that a recorder may meet, as data: where they differ in what a client can see.

`2026-05` is the last server of Drift, `2025-09` one before grouped books became the default, `velocity` that of the
relaunch. Source: frames captured from the first two (`tests/fixtures/`), the public code of all three.
"""

from typing import Literal

import msgspec

ServerName = Literal["2026-05", "2025-09", "velocity"]
PublisherName = Literal["typescript", "rust"]


class Generation(msgspec.Struct, frozen=True):
    """
    One version of the server with its publishers.
    """

    name: ServerName
    default_grouping: int | None
    """Of a book that was asked for without grouping; None: ungrouped, with all levels, as strings."""
    initial: Literal["none", "ungrouped", "all"]
    """Which book channels have a stored copy, sent once after the acknowledgement."""
    initial_levels: int | None
    """Levels a side of a stored ungrouped copy, at most."""
    deep_when_crossed: bool
    """A grouped book shows 20 levels and as many more as are crossed; before November 2025 plain 20."""
    forwards_all_feeds: bool
    """The bug of two feeds: all frames of both, interleaved, and no memory of slots."""
    dies_of_bad_channel: bool
    """A `channel` that is no string ends the process."""
    indicative_keys: bool
    """Trades may name a maker's indicative key; since March 2026."""
    spot: bool
    """Spot markets are published; else asking for one is acknowledged and silent."""
    external_books: bool
    """Spot books show the orders of other venues of the chain as well; until May 2026."""


GENERATIONS: dict[ServerName, Generation] = {
    "2026-05": Generation(
        "2026-05",
        default_grouping=1,
        initial="none",
        initial_levels=None,
        deep_when_crossed=True,
        forwards_all_feeds=True,
        dies_of_bad_channel=True,
        indicative_keys=True,
        spot=True,
        external_books=False,
    ),
    "2025-09": Generation(
        "2025-09",
        default_grouping=None,
        initial="ungrouped",
        initial_levels=100,
        deep_when_crossed=False,
        forwards_all_feeds=True,
        dies_of_bad_channel=True,
        indicative_keys=False,
        spot=True,
        external_books=True,
    ),
    "velocity": Generation(
        "velocity",
        default_grouping=1,
        initial="all",
        initial_levels=None,
        deep_when_crossed=True,
        forwards_all_feeds=False,
        dies_of_bad_channel=False,
        indicative_keys=True,
        spot=False,
        external_books=False,
    ),
}

STALE_ORACLE_SLOTS = 160
"""With an oracle older than this (64 s) the pool's levels leave the book, and nothing says so."""

FEED_SILENT_S = 3
"""A server that listens to one feed of two goes over to the other after this long without a frame of its own."""
FEED_LEADS_S = 10
"""Or when the other has been ahead in slots for this long."""
