"""
Metrics, health and status of a recorder under way: asked as Prometheus and an operator would, and as a rude client.
"""

import asyncio
import json
import re
import socket
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopback import entries, recording, simulator, until
from recorder.daemon import endpoint as module
from recorder.simulator.kinds import Silence
from recorder.status.report import stream_statuses

QUIET_S = 6.0
"""By then a recorder has been asked how it does, however slow the machine."""
LISTEN = '[metrics]\nlisten = "127.0.0.1:0"'
CONFIG = """
    [venue]
    name = "test"
    url = "{url}"
    network = "mainnet-beta"
    [markets]
    perp = ["SOL-PERP", "BTC-PERP"]
    [storage]
    root = "{root}"
    [metrics]
    listen = "{listen}"
"""


def config(url, root, listen="127.0.0.1:0"):
    """
    Two markets, and an endpoint on a free port.
    """
    return CONFIG.format(url=url, root=root, listen=listen)


def fetched(recorder, path, method="GET", host=None):
    """
    (status, text) of one request, on a thread.
    """

    def fetch():
        address = "http://{}:{}".format(*recorder.endpoint.address)
        request = urllib.request.Request(address + path, method=method, headers={"Host": host} if host else {})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return asyncio.to_thread(fetch)


async def listening(recorder):
    """
    Wait until it does.
    """
    await until(lambda: recorder.endpoint.address is not None)


def samples(text):
    """
    Values by name and labels, as Prometheus reads them.
    """
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def seen(recorder):
    """
    How its streams are doing now.
    """
    return stream_statuses(recorder.tape.streams, recorder.tape.flows(), recorder.tape.counts, now=0)


def test_metrics_tell_what_is_recorded(tmp_path):
    """
    In a form Prometheus reads, with the numbers that are in the journal.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            await listening(recorder)
            await until(lambda: len(entries(tmp_path)) > 60)
            first = await fetched(recorder, "/metrics")
            await asyncio.sleep(1.1)
            second = await fetched(recorder, "/metrics")
            return first, second

    (status, text), (_, later) = asyncio.run(scenario())
    told, then = samples(text), samples(later)
    book = (("channel", "orderbook"), ("connection", "0"), ("market", "SOL-PERP"))
    journaled = [e for e in entries(tmp_path) if b"orderbook_perp_0" in e.payload[:60]]

    assert status == 200
    assert 0 < told["drift_recorder_frames_total", book] < then["drift_recorder_frames_total", book] <= len(journaled)
    assert told["drift_recorder_streams_configured", ()] == 4
    assert then["drift_recorder_ready", ()] == 1
    assert then["drift_recorder_latency_seconds_count", book] == then["drift_recorder_frames_total", book]
    assert then["drift_recorder_journal_commit_seconds_count", ()] > 0
    assert then["drift_recorder_connection_up", (("connection", "0"),)] == 1
    assert 0 < then["process_resident_memory_bytes", ()] < 1e9
    assert then["drift_recorder_capture_paused", ()] == 0
    assert then["drift_recorder_disk_free_bytes", ()] > 0
    # A file system that does not count them has no such figure.
    assert then.get(("drift_recorder_disk_free_inodes", ()), 1) > 0
    assert told.keys() <= then.keys()


def test_names_and_units_are_prometheus_own(tmp_path):
    """
    A prefix, base units, `_total` for counters only, help for each.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            await listening(recorder)
            return (await fetched(recorder, "/metrics"))[1]

    text = asyncio.run(scenario())
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"(drift_recorder|process)_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|ns|minutes|kb|mb)(_|$)", family.name), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_ready_means_that_everything_configured_is_recorded(tmp_path):
    """
    503 names what is not; alive is another question.
    """

    async def scenario():
        quiet = Silence(market="SOL-PERP", from_s=0.0, to_s=QUIET_S)
        async with (
            simulator(faults=(quiet,)) as url,
            recording(tmp_path, text=config(url, tmp_path)) as recorder,
        ):
            await listening(recorder)
            before = await fetched(recorder, "/readyz")
            alive = await fetched(recorder, "/healthz")
            status = await fetched(recorder, "/status")
            await until(lambda: all(s.state == "recording" for s in seen(recorder)), 25)
            await asyncio.sleep(1)
            return before, alive, status, await fetched(recorder, "/readyz")

    before, alive, (_, status), ready = asyncio.run(scenario())

    assert before[0] == 503
    assert "SOL-PERP orderbook" in before[1]
    assert alive == (200, "alive\n")
    assert ready[1] == "ready: 4 streams are recorded\n"
    told = json.loads(status)
    assert told["ready"] is False
    assert {s["market"]: s["state"] for s in told["streams"] if s["channel"] == "orderbook"}["SOL-PERP"] != "recording"


def test_a_venue_out_of_reach_is_alive_and_not_ready(tmp_path):
    """
    A restart would mend nothing, so health does not ask for one.
    """

    async def scenario():
        async with recording(tmp_path, text=config("ws://127.0.0.1:1/ws", tmp_path)) as recorder:
            await listening(recorder)
            await until(lambda: len(entries(tmp_path)) > 3)
            return (
                await fetched(recorder, "/readyz"),
                await fetched(recorder, "/healthz"),
                await fetched(recorder, "/status"),
            )

    ready, alive, (_, status) = asyncio.run(scenario())

    assert ready[0] == 503
    assert alive[0] == 200
    (connection,) = json.loads(status)["connections"]
    assert (connection["up"], "refused" in connection["why"].lower()) == (False, True)


def test_a_port_that_is_taken_stops_nothing(tmp_path, caplog, monkeypatch):
    """
    It is said once, in words that tell what to do, and tried again: the recorder before us may be about to leave.
    """
    monkeypatch.setattr(module, "RETRY_S", 0.2)

    async def scenario():
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            text = config("{url}", tmp_path, f"127.0.0.1:{other.getsockname()[1]}")
            async with simulator() as url, recording(tmp_path, text=text.replace("{url}", url)) as recorder:
                await until(lambda: len(entries(tmp_path)) > 40)
                await until(lambda: "Address already in use" in caplog.text)
                await asyncio.sleep(0.7)
                said = caplog.text.count("Address already in use")
                other.close()
                await listening(recorder)
                return said, await fetched(recorder, "/healthz")

    said, alive = asyncio.run(scenario())

    assert said == 1
    assert "recording goes on" in caplog.text
    assert alive == (200, "alive\n")


def test_rude_clients_cost_nothing(tmp_path, monkeypatch):
    """
    One that drips, one that only connects, too many at once, other methods, other paths, other names, long lines.
    """
    monkeypatch.setattr(module, "CLIENT_S", 1.5)
    monkeypatch.setattr(module, "CLIENTS", 4)

    async def connected(recorder, text=b""):
        reader, writer = await asyncio.open_connection(*recorder.endpoint.address)
        writer.write(text)
        return reader, writer

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            await listening(recorder)
            idle = [await connected(recorder, b"GET /metr") for _ in range(4)]
            extra, other = await connected(recorder, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            refused = await extra.read()
            begun = asyncio.get_running_loop().time()
            for reader, _ in idle:
                await reader.read()
            lasted = asyncio.get_running_loop().time() - begun
            for _, writer in [*idle, (extra, other)]:
                writer.close()
            answers = [
                await fetched(recorder, "/healthz", method)
                for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
            ]
            elsewhere = await fetched(recorder, "/../../etc/passwd")
            renamed = await fetched(recorder, "/status", host="evil.example")
            reader, writer = await connected(recorder, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n")
            long = await reader.read()
            writer.close()
            codes = [code for code, _ in (*answers, elsewhere, renamed)]
            return refused, lasted, codes, long, recorder.endpoint._open

    refused, lasted, codes, long, left = asyncio.run(scenario())

    assert refused == b""
    assert 0.2 < lasted < 8
    assert codes == [200, 405, 405, 405, 405, 405, 404, 403]
    assert b" 400 " in long[:20] or long == b""
    assert left == 0


def test_nobody_costs_the_recorder_anything_by_looking_often(tmp_path, monkeypatch):
    """
    Looks within a second share one answer.
    """
    made = []
    seen = module.Watch._seen
    monkeypatch.setattr(module.Watch, "_seen", lambda self, *rest: made.append(1) or seen(self, *rest))

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            await listening(recorder)
            looks = await asyncio.gather(*(recorder._watch.look() for _ in range(50)))
            return {id(look) for look in looks}

    assert len(asyncio.run(scenario())) == 1
    assert len(made) == 1


def test_a_disk_that_hangs_hangs_no_more_than_the_looks_at_it(tmp_path, monkeypatch):
    """
    Whoever asks is told; health answers, recording goes on, and a name lookup finds a thread.
    """
    monkeypatch.setattr(module, "ANSWER_S", 0.4)
    go_on = threading.Event()
    monkeypatch.setattr("recorder.status.storage.Storage.look", lambda *_, **__: go_on.wait(30) and None)

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            await listening(recorder)
            stuck = [await fetched(recorder, path) for path in ("/status", "/metrics", "/readyz") * 4]
            alive = await fetched(recorder, "/healthz")
            # A day of scrapes must not wait for the thread one behind the other.
            assert recorder._watch._thread._work_queue.qsize() == 0
            before = len(entries(tmp_path))
            await asyncio.wait_for(asyncio.to_thread(lambda: None), 2)
            await until(lambda: len(entries(tmp_path)) > before + 20)
            go_on.set()
            return stuck, alive

    stuck, alive = asyncio.run(scenario())

    assert {status for status, _ in stuck} == {503}
    assert "is the disk stuck?" in stuck[0][1]
    assert alive[0] == 200


@pytest.mark.parametrize("fault", ["library", "look"])
def test_a_fault_in_the_endpoint_ends_nothing_else(tmp_path, monkeypatch, caplog, fault):
    """
    Whatever it is, recording goes on.
    """

    def broken(*_):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(*((module, "_library", broken) if fault == "library" else (module.Watch, "_seen", broken)))

    async def scenario():
        async with simulator() as url, recording(tmp_path, text=config(url, tmp_path)) as recorder:
            if fault == "library":
                await until(lambda: "recording goes on without it" in caplog.text)
                code = None
            else:
                await listening(recorder)
                code, _ = await fetched(recorder, "/status")
            before = len(entries(tmp_path))
            await until(lambda: len(entries(tmp_path)) > before + 20)
            return code

    assert asyncio.run(scenario()) == (None if fault == "library" else 500)
