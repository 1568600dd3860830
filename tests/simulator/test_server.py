"""
The simulator on a real socket.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from recorder.errors import ConfigError
from recorder.simulator.alter import GARBAGE
from recorder.simulator.kinds import Drop, Freeze, Garbage, HalfOpen, NewMarket, Restart, Silence, WithholdFills
from recorder.simulator.ledger import digest, read_ledger
from recorder.simulator.markets import synthetic_markets
from recorder.simulator.replay import read_capture
from recorder.simulator.server import SimulatorOptions, serve
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES

CAPTURES = sorted((Path(__file__).parents[1] / "fixtures").glob("dlob-real-server*.jsonl.zst"))
WITHIN_S = 20.0
SOON_S = 1.5
"""When a venue's fault begins: after the client is there, even where the machine stands still for a second."""
SUBSCRIBE = '{"type":"subscribe","marketType":"perp","channel":"orderbook","market":"SOL-PERP"}'


@contextlib.asynccontextmanager
async def simulator(**options):
    """
    A running simulator; its URL.
    """
    listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    running = asyncio.create_task(serve(SimulatorOptions(**options), listening.set_result, stop))
    await asyncio.wait([running, listening], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield await listening
    finally:
        stop.set()
        await running


async def frames_until_closed(connection):
    """
    All texts up to the end of the connection.
    """
    texts = []
    try:
        async for text in connection:
            texts.append(text)  # noqa: PERF401  # what came before an unclean end counts too
    except ConnectionClosed:
        pass
    return texts


def test_a_client_is_acknowledged_and_gets_books():
    """
    Over a compressed connection, as from the real server.
    """

    async def scenario():
        async with simulator(tick_ms=20) as url, connect(url) as client:
            await client.send(SUBSCRIBE)
            texts = [await client.recv() for _ in range(3)]
            return client.response.headers.get("Sec-WebSocket-Extensions", ""), texts

    extensions, texts = asyncio.run(scenario())

    assert "permessage-deflate" in extensions
    assert json.loads(texts[0])["message"].startswith("Subscribe received for channel: orderbook")
    for text in texts[1:]:
        assert json.loads(text)["channel"] == "orderbook_perp_0_grouped_1"
        assert len(json.loads(json.loads(text)["data"])["bids"]) >= 20


@pytest.mark.parametrize("path", ["/", "/ws/", "/wss", "/WS", "/ws/x"])
def test_any_other_path_is_answered_with_http_400(path):
    """
    The path must be exactly `/ws`.
    """

    async def scenario():
        async with simulator() as url:
            with pytest.raises(InvalidStatus) as raised:
                await connect(url.removesuffix("/ws") + path)
            return raised.value.response.status_code

    assert asyncio.run(scenario()) == 400


def test_a_query_string_is_allowed():
    """
    It is not part of the path.
    """

    async def scenario():
        async with simulator() as url, connect(f"{url}?a=b") as client:
            await client.ping()

    asyncio.run(scenario())


def test_a_drop_without_code_is_seen_as_an_unclean_end():
    """
    No close frame: 1006 to the client. The next connection works.
    """

    async def scenario():
        async with simulator(tick_ms=20, faults=(Drop(SOON_S),)) as url:
            async with connect(url) as client:
                await client.send(SUBSCRIBE)
                texts = await frames_until_closed(client)
                code = client.close_code
            async with connect(url) as client:
                await client.send(SUBSCRIBE)
                return code, texts, await client.recv()

    code, texts, again = asyncio.run(scenario())

    assert code == 1006
    assert len(texts) > 3
    assert "message" in json.loads(again)


def test_a_request_without_a_channel_closes_with_1003():
    """
    The reason is the error as JSON.
    """

    async def scenario():
        async with simulator() as url, connect(url) as client:
            await client.send('{"type":"subscribe"}')
            await frames_until_closed(client)
            return client.close_code, client.close_reason

    assert asyncio.run(scenario()) == (1003, '{"error":"Error subscribing to channel"}')


def test_the_ledger_says_what_the_client_heard(tmp_path):
    """
    Frame by frame, by hash and in order; and how it all ended.
    """
    path = tmp_path / "ledger.jsonl"

    async def scenario():
        async with simulator(tick_ms=20, ledger=path) as url, connect(url) as client:
            await client.send(SUBSCRIBE)
            await client.send(SUBSCRIBE.replace("orderbook", "trades"))
            await client.send(SUBSCRIBE.replace("SOL-PERP", "NOPE"))
            texts = []
            while len(texts) < 40 or not any('{"channel":"trades' in text for text in texts):
                texts.append(await client.recv())
            return texts

    heard = asyncio.run(scenario())
    lines = read_ledger(path)

    sent = [line.sha for line in lines if line.what == "sent"]
    data = [digest(text) for text in heard if "data" in json.loads(text)]
    assert len(data) > 30
    assert sent[: len(data)] == data
    # A tick is missed where the machine has no time for it, and a heartbeat comes where the test takes five seconds.
    aside = {"sent", "dropped", "tick", "ticks_missed", "unheard", "heartbeat"}
    assert Counter(line.what for line in lines if line.what not in aside) == {
        "started": 1,
        "connected": 1,
        "ack": 2,
        "error": 1,
        "disconnected": 1,
        "stopped": 1,
    }
    (end,) = [line for line in lines if line.what == "disconnected"]
    # Between the client's close frame and the end of its connection, frames may still come due: they are dropped.
    assert (end.code, end.count) == (1000, sum(line.seq is not None for line in lines))


def test_a_slow_client_loses_data_frames_and_no_acknowledgement(tmp_path):
    """
    Data frames are dropped, not queued, for a client with 300,000 bytes waiting; each drop is in the ledger.
    """
    path = tmp_path / "ledger.jsonl"
    markets = tuple(synthetic_markets(60))

    async def scenario():
        options = {"tick_ms": 10, "markets": markets, "ledger": path, "compression": False}
        async with simulator(**options) as url, connect(url, compression=None, max_queue=1) as client:
            for market in markets:
                request = json.loads(SUBSCRIBE) | {"market": market.symbol, "marketType": market.market_type}
                await client.send(json.dumps(request))
            while not any(line.what == "dropped" for line in read_ledger(path)):  # noqa: ASYNC110  # a file tells it
                await asyncio.sleep(0.2)
            await client.send(SUBSCRIBE.replace("orderbook", "trades"))
            # While nothing is read: the last one too.
            async with asyncio.timeout(WITHIN_S):
                while sum(line.what == "ack" for line in read_ledger(path)) <= len(markets):  # noqa: ASYNC110  # a file
                    await asyncio.sleep(0.1)
            heard = [await client.recv() for _ in range(100)]
            client.transport.abort()
            return heard

    heard = asyncio.run(scenario())
    lines = read_ledger(path)

    assert len(heard) == 100
    due = [line.seq for line in lines if line.what in {"sent", "dropped"}]
    (end,) = [line for line in lines if line.what == "disconnected"]
    assert due == list(range(1, end.count + 1))
    assert sum(line.length for line in lines if line.what == "sent") > BACKLOG_LIMIT_BYTES


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_a_replayed_capture_arrives_byte_for_byte_and_ends_with_1001(path):
    """
    As fast as the client reads, nothing lost, nothing added but the acknowledgement.
    """

    async def scenario():
        async with simulator(replay=path, speed=0, once=True) as url, connect(url, max_size=1 << 22) as client:
            await client.send(SUBSCRIBE)
            return await frames_until_closed(client), client.close_code

    texts, code = asyncio.run(scenario())

    assert "message" in json.loads(texts[0])
    assert texts[1:] == [frame.text for frame in read_capture(path)]
    assert code == 1001


def test_a_verbatim_replay_needs_no_subscribe_and_adds_nothing():
    """
    The captured acknowledgements and heartbeats are sent, ours are not.
    """
    path = CAPTURES[0]

    async def scenario():
        options = {"replay": path, "speed": 0.0, "once": True, "verbatim": True}
        async with simulator(**options) as url, connect(url, max_size=1 << 22) as client:
            await client.send(SUBSCRIBE)
            return await frames_until_closed(client)

    assert asyncio.run(scenario()) == [frame.text for frame in read_capture(path, verbatim=True)]


def test_a_replay_keeps_its_pace_and_stays_open(tmp_path):
    """
    At half speed a capture of 0.2 s takes 0.4 s; without `once` the connection then lives on.
    """
    path = tmp_path / "capture.jsonl"
    texts = [f'{{"channel":"trades_perp_0","data":"{{\\"fillRecordId\\":{number}}}"}}' for number in range(3)]
    path.write_text(
        "".join(json.dumps({"recv_ts_ns": at * 10**8, "frame": text}) + "\n" for at, text in enumerate(texts))
    )

    async def scenario():
        loop = asyncio.get_running_loop()
        async with simulator(replay=path, speed=0.5) as url, connect(url) as client:
            began = loop.time()
            await client.send(SUBSCRIBE)
            await client.recv()
            for text in texts:
                assert await client.recv() == text
            took_s = loop.time() - began
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.3)
            return took_s

    assert 0.39 < asyncio.run(scenario()) < WITHIN_S


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"faults": (Silence(from_s=1, to_s=2, market="NOPE-PERP"),)}, "NOPE-PERP is not simulated"),
        ({"faults": (Freeze(from_s=1, to_s=2, market="SOL-PERP,NOPE"),)}, "NOPE is not simulated"),
        ({"faults": (Silence(from_s=1, to_s=2),), "replay": CAPTURES[0]}, "a replay sends what was captured"),
        ({"faults": (WithholdFills(from_s=1, to_s=2),), "replay": CAPTURES[0]}, "it can have drop"),
        ({"publisher": "rust"}, "velocity only"),
    ],
)
def test_what_would_have_no_effect_is_an_error(options, named):
    """
    Otherwise a test would wait for a silence that never comes.
    """
    with pytest.raises(ConfigError, match=named):
        asyncio.run(serve(SimulatorOptions(**options)))


def test_groups_of_markets_and_markets_to_come_may_be_named():
    """
    Whatever selects something, now or later.
    """
    faults = (
        Silence(from_s=1, to_s=2, market="perp:*"),
        Freeze(from_s=1, to_s=2, market="sol-perp,spot:SOL"),
        NewMarket(1, market="LATER-PERP"),
        Silence(from_s=3, to_s=4, market="LATER-PERP"),
    )

    asyncio.run(serve(SimulatorOptions(faults=faults, for_s=0.01)))


def test_a_half_open_connection_gets_not_even_a_pong():
    """
    Another one does; at the end of the fault the dead one is cut.
    """

    async def scenario():
        faults = (HalfOpen(from_s=SOON_S, to_s=SOON_S + 2),)
        async with simulator(tick_ms=20, faults=faults) as url, connect(url, ping_interval=None) as client:
            await client.send(SUBSCRIBE)
            await asyncio.sleep(SOON_S + 0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(await client.ping(), 0.2)
            async with connect(url) as other:
                await asyncio.wait_for(await other.ping(), WITHIN_S)
                await other.send(SUBSCRIBE)
                await other.recv()
            await frames_until_closed(client)
            return client.close_code

    assert asyncio.run(scenario()) == 1006


async def connected(url):
    """
    As soon as it can be had.
    """
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(InvalidStatus):
                return await connect(url)
            await asyncio.sleep(0.1)


def test_a_server_that_restarts_refuses_handshakes():
    """
    As the load balancer in front of the real one does.
    """

    async def scenario():
        async with simulator(faults=(Restart(from_s=SOON_S, to_s=SOON_S + 2, code=1001),)) as url:
            async with connect(url) as client:
                await frames_until_closed(client)
            with pytest.raises(InvalidStatus) as raised:
                await connect(url)
            async with await connected(url) as again:
                await again.send(SUBSCRIBE)
                return client.close_code, raised.value.response.status_code, await again.recv()

    code, status, text = asyncio.run(scenario())

    assert (code, status) == (1001, 503)
    assert "message" in json.loads(text)


def test_garbage_of_every_kind_goes_over_the_wire_as_it_is():
    """
    Bytes that are no UTF-8 in a text frame, and a binary frame, among them.
    """
    faults = tuple(Garbage(SOON_S + number / 100, what=what) for number, what in enumerate(GARBAGE))

    async def scenario():
        async with simulator(faults=faults) as url, connect(url) as client:
            return [await client.recv(decode=False) for _ in faults]

    heard = asyncio.run(scenario())

    assert heard == [text.encode("utf-8", "surrogatepass") for text in GARBAGE.values()]


def test_a_stalled_client_is_closed_with_1008_and_sees_1006(tmp_path):
    """
    The close frame queues behind the backlog; then the socket is destroyed.
    """
    path = tmp_path / "ledger.jsonl"
    markets = tuple(synthetic_markets(96))

    async def scenario():
        options = {"tick_ms": 10, "markets": markets, "ledger": path, "compression": False}
        limits = {"close_timeout_s": 0.5, "check_s": 1.0}
        async with simulator(**options, **limits) as url, connect(url, compression=None, max_queue=1) as client:
            for market in markets:
                request = json.loads(SUBSCRIBE) | {"market": market.symbol, "marketType": market.market_type}
                await client.send(json.dumps(request))
            while not any(line.what == "disconnected" for line in read_ledger(path)):  # noqa: ASYNC110  # a file tells
                await asyncio.sleep(0.3)
            await asyncio.sleep(1)
            texts = await frames_until_closed(client)
            return texts, client.close_code

    texts, code = asyncio.run(scenario())
    lines = read_ledger(path)

    assert code == 1006
    assert len(texts) > 300
    assert [line.code for line in lines if line.what == "disconnected"] == [1008]
    assert any(line.what == "dropped" for line in lines)


def test_the_relaunched_servers_initial_book_comes_over_the_wire():
    """
    The options reach the core.
    """

    async def scenario():
        options = {"server": "velocity", "publisher": "rust", "initial_delay_ms": 0, "tick_ms": 5000}
        async with simulator(**options) as url, connect(url) as client:
            await client.send(SUBSCRIBE)
            return [await asyncio.wait_for(client.recv(), 4) for _ in range(2)]

    _, book = asyncio.run(scenario())

    assert json.loads(book)["data"].startswith('{"asks":')


PROGRAM = """
import asyncio, pathlib, sys
from recorder.simulator.server import SimulatorOptions, serve
options = SimulatorOptions(ledger=pathlib.Path(sys.argv[1]), for_s=float(sys.argv[2]) or None)
asyncio.run(serve(options, lambda url: print(f"listening on {url}", flush=True)))
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None])
def test_it_stops_cleanly_on_a_signal_or_when_its_time_is_over(tmp_path, end):
    """
    Clients are closed with 1001, the ledger is whole.
    """
    ledger = tmp_path / "ledger.jsonl"
    arguments = [sys.executable, "-c", PROGRAM, str(ledger), "0" if end else str(SOON_S)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}) as child:
        url = child.stdout.readline().split()[-1]

        async def scenario():
            async with connect(url) as client:
                if end:
                    child.send_signal(end)
                await frames_until_closed(client)
                return client.close_code

        assert asyncio.run(scenario()) == 1001
        assert child.wait(10) == 0

    assert read_ledger(ledger)[-1].what == "stopped"
