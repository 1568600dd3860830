"""
Recorded twice, by two connections or two processes on one root: the union is in the lake, each frame once, and there is
no hole where either heard it. That is also how one upgrades.
"""

import datetime as dt
import os
import random
import signal
import socket
import time

import polars as pl
import pytest
from children import Bench, wait_until
from peers import Loop, Proxy

from recorder.analysis import Lake
from recorder.lake.verify import verify
from recorder.records import SECOND_NS, Connected, ConnectFailed, Disconnected


@pytest.fixture
def bench(tmp_path):
    """
    A venue.
    """
    made = Bench(tmp_path, tick_ms=50)
    yield made
    made.close()


def nothing_is_missing(bench, since, until):
    """
    All that the venue published is in the lake, once.
    """
    bench.seal()
    account = bench.account(since=since, until=until)
    print(account)
    assert account.published > 100
    assert account.stored == account.published
    assert (account.twice, account.unexplained) == (0, [])
    assert verify(bench.root).problems == []
    assert books_in_holes(bench, since, until) == [], "coverage calls missing what the other one heard"
    return account


def books_in_holes(bench, since, until):
    """
    Stretches that coverage calls missing though a book of theirs was recorded within. One without is the venue's own:
    its process may stand still on a busy machine, and what it then did not publish nobody could hear.
    """
    lake = Lake(bench.root)
    # From the last book to the stop nothing was heard.
    begin, end = (dt.datetime.fromtimestamp(at / SECOND_NS, dt.UTC) for at in (since, until - SECOND_NS))
    spans = lake.spans().filter(state="missing", channel="orderbook").collect()
    missing = spans.filter((pl.col("end") > begin) & (pl.col("start") < end)).drop("channel")
    within = (pl.col("recv_ts") > pl.col("start")) & (pl.col("recv_ts") < pl.col("end"))
    return missing.join(lake.books().select("symbol", "recv_ts").collect(), on="symbol").filter(within).to_dicts()


def hears(bench, number, *, since=0):
    """
    Wait until so many connections have brought a book of every market within the last second, and since an instant. One
    that has only begun has not subscribed everything yet.
    """

    def heard():
        books = {}
        for entry in bench.frames():
            if entry.recv_ts > max(time.time_ns() - SECOND_NS, since) and entry.payload.startswith(
                b'{"channel":"orderbook'
            ):
                books.setdefault((entry.run, entry.connection), set()).add(entry.payload[:40])
        return sum(len(channels) == len(bench.markets) for channels in books.values()) >= number

    wait_until(heard)


@pytest.mark.timeout(120)
def test_a_dead_endpoint_beside_a_good_one_costs_nothing(bench):
    """
    Two copies from two addresses, one of which nobody listens at: the other brings everything.
    """
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"ws://127.0.0.1:{nobody.getsockname()[1]}/ws"
        config = bench.config(url=dead, venue=f'copy_urls = ["{bench.url}"]', extra="[capture]\nredundancy = 2")
        recorder = bench.recorder(config)
        bench.carrying(recorder)
        since = time.time_ns() + SECOND_NS
        time.sleep(3)
        until = time.time_ns()
        assert recorder.stop() == 0

    account = nothing_is_missing(bench, since, until)

    assert account.events["connect_failed"] >= 1
    assert {fact.url for fact in bench.facts(ConnectFailed)} == {dead}


@pytest.mark.timeout(120)
def test_of_two_connections_either_may_fall(bench):
    """
    Each is reset in turn, by a proxy of its own; never both.
    """
    with Loop() as loop:
        proxies = [Proxy(loop, bench.port), Proxy(loop, bench.port)]
        config = bench.config(
            url=proxies[0].url,
            venue=f'copy_urls = ["{proxies[1].url}"]',
            extra="[capture]\nredundancy = 2\nreconnect_first_s = 0.3",
        )
        recorder = bench.recorder(config)
        hears(bench, 2)
        since = time.time_ns() + SECOND_NS
        time.sleep(1.2)
        for proxy in (proxies[0], proxies[1], proxies[0]):
            opened = len(bench.facts(Connected))
            proxy.set("reset")
            proxy.set("pass")
            wait_until(lambda: len(bench.facts(Connected)) > opened)  # noqa: B023  # waited for at once
            # What the one that was reset had brought before is no sign that it is back.
            hears(bench, 2, since=time.time_ns())
        until = time.time_ns()
        assert recorder.stop() == 0

    account = nothing_is_missing(bench, since, until)

    assert len([fact for fact in bench.facts(Disconnected) if fact.cause == "network"]) == 3
    assert account.events["disconnected"] >= 3


@pytest.mark.timeout(150)
def test_of_two_processes_either_may_be_killed(bench):
    """
    Beside each other on one root; in turn one is killed and started again, at a random moment, while the other lives.
    """
    # The gate must say the same of the same commit, as far as a real clock lets it.
    seed = 5 if os.environ.get("CI") else random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    config = bench.config()
    pair = [bench.recorder(config, "--beside", name=f"beside-{number}") for number in range(2)]
    hears(bench, 2)
    since = time.time_ns() + SECOND_NS
    time.sleep(1.2)
    for number in (0, 1, 0):
        time.sleep(chance.uniform(0, 0.5))
        pair[number].kill()
        time.sleep(chance.uniform(0, 0.5))
        pair[number] = bench.recorder(config, "--beside", name=f"beside-{number}")
        time.sleep(1)
        hears(bench, 2)
    until = time.time_ns()
    assert [child.stop() for child in pair] == [0, 0]

    nothing_is_missing(bench, since, until)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_upgrade_leaves_no_hole(bench, end):
    """
    The new one starts beside the old, is seen to record, and the old one ends: nothing that the venue sent from the
    first to the last is missing, and nothing is there twice.
    """
    config = bench.config()
    old = bench.recorder(config, name="old")
    bench.carrying(old)
    since = time.time_ns() + SECOND_NS
    time.sleep(1.5)
    new = bench.recorder(config, "--beside", name="new")
    hears(bench, 2)
    old.signal(end)
    old.wait(30)
    time.sleep(1.5)
    bench.recording(new)
    until = time.time_ns()
    assert new.stop() == 0

    account = nothing_is_missing(bench, since, until)

    assert "recorder_down" not in account.events
    assert account.events["recorder_started"] == 2
