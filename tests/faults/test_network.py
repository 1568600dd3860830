"""
A network that fails: in the kernel, between two namespaces; through a proxy with toxics; and an hour of it in virtual
time. A dead peer is found within 12 s, the first retry comes within one, and nothing is lost without its event.
"""

import time

import pytest
from children import Bench, Child, descriptors, heard_late_s, memory_kb, threads, wait_until
from namespaces import VENUE_ADDRESS, Cable, cable
from peers import Loop, Proxy

from recorder.config_values import PLAINTEXT_WORDS
from recorder.records import SECOND_NS, Connected, ConnectFailed, Disconnected, EntryKind, LoopStalled, decode_fact

FOUND_WITHIN_S = 12.0
RETRY_WITHIN_S = 1.0
PLAINTEXT = f'allow_plaintext = "{PLAINTEXT_WORDS}"'


def told(bench, kind, *, since=0):
    """
    (s since an instant, fact, connection) of each fact of a kind that was recorded after it.
    """
    return [
        ((entry.recv_ts - since) / SECOND_NS, fact, entry.connection)
        for entry in bench.entries()
        if entry.kind == EntryKind.FACT and entry.recv_ts > since
        for fact in [decode_fact(entry.payload)]
        if isinstance(fact, kind)
    ]


def stood_s(bench, *, since):
    """
    For how long the recorder stood still since then, with the machine, by its own account; and the second of which it
    says nothing.
    """
    return 1 + sum(fact.stall_ns for _, fact, _ in told(bench, LoopStalled, since=since)) / SECOND_NS


class Distant(Bench):
    """
    A venue at the other end of a cable.
    """

    def __init__(self, folder, way: Cable):
        self.way = way
        super().__init__(folder, tick_ms=100, venue=("--host", VENUE_ADDRESS))

    def child(self, name, *arguments, **options) -> Child:
        """
        The venue at its end; all others at ours, but a seal, which needs no network.
        """
        before = self.way.at_venue if name == "venue" else self.way.at_client
        return super().child(name, *arguments, **{"before": before, **options})


@pytest.fixture
def distant(tmp_path):
    """
    With a recorder under way.
    """
    with cable() as way:
        bench = Distant(tmp_path, way)
        try:
            yield bench
        finally:
            bench.close()


@pytest.mark.needs("root", "ip", "iptables", "tc")
@pytest.mark.timeout(180)
def test_a_lossy_slow_and_then_dead_line_is_survived_and_told(distant):
    """
    A third of the packets lost, then a line too slow for the venue, then a black hole with both ends left half-open:
    found in time, retried at once, recorded again when it heals; what was not heard lies within events.
    """
    recorder = distant.recorder(distant.config(venue=PLAINTEXT))
    distant.recording(recorder)
    since = time.time_ns() + 2 * SECOND_NS
    sockets = descriptors(recorder.pid)
    distant.recording(recorder)
    for spoil in (lambda: distant.way.lose(0.3), lambda: distant.way.throttle("64kbit")):
        spoil()
        time.sleep(4)
        distant.way.mend()
        distant.recording(recorder)
    wait_until(lambda: distant.frames()[-1].recv_ts > time.time_ns() - SECOND_NS // 2)

    distant.way.lose(1)
    holed = time.time_ns()
    wait_until(lambda: told(distant, Disconnected, since=holed))
    found_s, end, _ = told(distant, Disconnected, since=holed)[0]
    found_s -= stood_s(distant, since=holed)
    distant.way.mend()
    mended = time.time_ns()
    looked_s = (mended - holed) / SECOND_NS - found_s
    wait_until(lambda: told(distant, Connected, since=mended))
    again_s = told(distant, Connected, since=mended)[0][0] - stood_s(distant, since=mended)
    print(f"found after {found_s:.2f} s, connected {again_s:.2f} s after it was mended")
    distant.recording(recorder)
    until = time.time_ns()

    assert found_s <= FOUND_WITHIN_S
    assert end.cause == "network"
    # The first retry comes at once; if it was under way while the hole was mended, TCP tries again after one second, or
    # after as long as it has tried.
    assert again_s <= RETRY_WITHIN_S + 1.2 + looked_s
    assert descriptors(recorder.pid) <= sockets + 1
    assert recorder.stop() == 0
    late_s = heard_late_s([frame for frame in distant.frames() if frame.recv_ts < holed], distant.ledger)
    print(f"up to {max(late_s):.2f} s late through the bottleneck")
    assert max(late_s) > 1, "nothing was held up"
    distant.seal()
    account = distant.account(since=since, until=until)
    print(account)
    assert account.unexplained == []
    assert account.twice == 0
    assert account.covered > 50


@pytest.mark.needs("root", "ip", "iptables", "tc")
def test_a_name_that_does_not_resolve_holds_neither_threads_nor_sockets(distant):
    """
    A resolver that never answers: each attempt ends in time and says so, and a lookup that hangs holds one thread of a
    few, not one more each time.
    """
    config = distant.config(
        url="wss://venue.example/ws", extra="[capture]\nreconnect_first_s = 0.1\nreconnect_max_s = 1"
    )
    recorder = distant.recorder(config)
    wait_until(lambda: len(told(distant, ConnectFailed)) >= 2, 30)
    sockets, running = descriptors(recorder.pid), threads(recorder.pid)
    wait_until(lambda: len(told(distant, ConnectFailed)) >= 6, 30)

    assert {fact.cause for _, fact, _ in told(distant, ConnectFailed)} == {"network"}
    assert all("name resolution" in fact.error for _, fact, _ in told(distant, ConnectFailed))
    assert descriptors(recorder.pid) <= sockets + 2
    assert threads(recorder.pid) <= running + 4
    assert recorder.stop() == 0


# ---- through a proxy

TOXICS = ("deaf", "hole", "drip", "reset")


@pytest.mark.timeout(120)
def test_each_way_a_peer_can_die_is_found_in_time(tmp_path):
    """
    Deaf, a black hole, dripping and reset, each on a connection of its own of one recorder; then all heal.
    """
    with Loop() as loop:
        bench = Bench(tmp_path, tick_ms=100)
        try:
            proxies = [Proxy(loop, bench.port) for _ in TOXICS]
            urls = ", ".join(f'"{proxy.url}"' for proxy in proxies[1:])
            config = bench.config(url=proxies[0].url, venue=f"copy_urls = [{urls}]", extra="[capture]\nredundancy = 4")
            recorder = bench.recorder(config)
            wait_until(lambda: {e.connection for e in bench.frames()} == set(range(4)))
            since = time.time_ns() + SECOND_NS
            time.sleep(1)
            rss, sockets = memory_kb(recorder.pid), descriptors(recorder.pid)
            spoiled = time.time_ns()
            for proxy, toxic in zip(proxies, TOXICS, strict=True):
                proxy.set(toxic)
            ends = {}

            def all_ended():
                for at_s, fact, connection in told(bench, Disconnected, since=spoiled):
                    ends.setdefault(connection, (at_s, fact))
                return len(ends) == len(TOXICS)

            wait_until(all_ended)
            still_s = stood_s(bench, since=spoiled)
            for proxy in proxies:
                proxy.set("pass")
            healed = time.time_ns()
            # Attempts under way and the longest wait between two of them.
            wait_until(lambda: len({c for _, _, c in told(bench, Connected, since=healed)}) == 4, 60)
            bench.recording(recorder)
            until = time.time_ns()
            grown_kb, sockets_then = memory_kb(recorder.pid) - rss, descriptors(recorder.pid)
            assert recorder.stop() == 0
            bench.seal()
            account = bench.account(since=since, until=until)
        finally:
            bench.close()

    print({toxic: round(ends[number][0], 2) for number, toxic in enumerate(TOXICS)}, f"{grown_kb} KiB", account)
    assert all(at_s <= FOUND_WITHIN_S + still_s for at_s, _ in ends.values())
    # Of a reset the kernel tells: it waits for no heartbeat.
    assert ends[TOXICS.index("reset")][0] < 4 + still_s
    assert {fact.cause for _, fact in ends.values()} == {"network"}
    assert sockets_then <= sockets
    assert grown_kb < 4096
    assert account.unexplained == []
    assert account.twice == 0


def test_a_peer_that_accepts_and_says_nothing_is_given_up_and_tried_again(tmp_path):
    """
    Within `open_timeout_s`; the sockets of the attempts before are closed.
    """
    with Loop() as loop:
        bench = Bench(tmp_path)
        try:
            proxy = Proxy(loop, bench.port)
            proxy.set("accept")
            extra = "[capture]\nopen_timeout_s = 1\nreconnect_first_s = 0.2\nreconnect_max_s = 1"
            recorder = bench.recorder(bench.config(url=proxy.url, extra=extra))
            wait_until(lambda: len(told(bench, ConnectFailed)) >= 2)
            sockets = descriptors(recorder.pid)
            wait_until(lambda: len(told(bench, ConnectFailed)) >= 5)
            held = descriptors(recorder.pid)
            proxy.set("pass")
            bench.recording(recorder)
            assert recorder.stop() == 0
        finally:
            bench.close()

    assert {fact.error for _, fact, _ in told(bench, ConnectFailed)} == {"no websocket within 1 s"}
    assert held <= sockets + 1
