"""
A recorder under way in this process, on a simulator on loopback, and what it has committed so far.
"""

import asyncio
import contextlib
import signal
import time
from collections import Counter

from recorder.clock import wall_ns
from recorder.config import parse_config
from recorder.daemon import Recorder
from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.records import HOUR_NS, SECOND_NS, EntryKind, decode_fact
from recorder.simulator.ledger import digest, read_ledger
from recorder.simulator.server import SimulatorOptions, serve
from recorder.status.follow import Follower

WITHIN_S = 60.0
"""For what takes a second or two: a hang is meant, and not a machine that needs long to start Python."""


def config_text(url, root, extra="", *, perp='["SOL-PERP", "BTC-PERP"]'):
    """
    A configuration of two markets.
    """
    return f"""
        [venue]
        name = "test"
        url = "{url}"
        network = "mainnet-beta"
        [markets]
        perp = {perp}
        [storage]
        root = "{root}"
        [metrics]
        listen = ""
        {extra}
    """


@contextlib.asynccontextmanager
async def simulator(**options):
    """
    A running simulator; its URL.
    """
    listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    options = {"tick_ms": 50, **options}
    running = asyncio.create_task(serve(SimulatorOptions(**options), listening.set_result, stop))
    try:
        yield await listening
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def recording(root, url="", *, text=None, seal=False, extra="", **options):
    """
    A recorder under way in this loop; stopped at the end.
    """
    config = parse_config(text or config_text(url, root, extra), file="test")
    recorder = Recorder(config, seal=seal, **options)
    running = asyncio.create_task(recorder.run())
    recorder.running = running
    try:
        await until(lambda: running.done() or entries(root))
        yield recorder
    finally:
        recorder.stop("the test is over")
        await asyncio.wait_for(asyncio.wait([running]), WITHIN_S)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
    await running


async def until(happened, within_s=WITHIN_S):
    """
    Wait for a condition.
    """
    async with asyncio.timeout(within_s):
        while not happened():  # noqa: ASYNC110  # files and threads set no event
            await asyncio.sleep(0.02)


def within_an_hour(seconds):
    """
    Wait for the hour's turn if it comes within so many seconds: what is counted by the hour would be in two of them.
    """
    left_s = (HOUR_NS - wall_ns() % HOUR_NS) / SECOND_NS
    if left_s < seconds:
        time.sleep(left_s + 0.1)


def entries(root):
    """
    All that is committed.
    """
    return list(read_merged(segments(root / JOURNAL), start=0, end=1 << 62))


def facts(root, *kinds):
    """
    The facts of these kinds, in order.
    """
    told = [decode_fact(entry.payload) for entry in entries(root) if entry.kind == EntryKind.FACT]
    return [fact for fact in told if isinstance(fact, kinds)]


def followed(root):
    """
    How the recorder is doing, by one look from outside.
    """
    follower = Follower(root)
    try:
        follower.advance()
        return follower.status()
    finally:
        follower.close()


def unheard(ledger, root):
    """
    What the venue sent, by its own account, and is not committed. Other than the time between two books this does not
    tell of a venue that stood still with the machine.
    """
    sent = Counter(line.sha for line in read_ledger(ledger) if line.what == "sent")
    assert sent.total() > 0
    return sent - Counter(digest(e.payload.decode()) for e in entries(root) if e.kind == EntryKind.FRAME)
