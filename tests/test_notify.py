"""
Notices: what is told, when, to whom, and that nothing of it can hold up the recording. Webhooks are real, on loopback.
"""

import asyncio
import json
import logging
import sys

import pytest
from aiohttp import web

from loopback import config_text, recording, simulator, unheard, until
from quality_cases import BTC, SOL, at
from recorder.config_ops import Notify
from recorder.daemon import notify as module
from recorder.daemon.notify import Notifier, troubles, ways
from recorder.quality.counts import LineTally
from recorder.quality.events import build
from recorder.quality.state import FlowState
from recorder.simulator.kinds import Silence

KINDS = ("disconnected", "silent", "halted", "overflow", "trade_gap", "recorder_started")
SILENT = ("silent", None, "SOL-PERP", "orderbook")


class Hook:
    """
    A webhook's server: answers as told, one after the other, then with 200.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.got = []
        self.times = []

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/secret-path", self.take)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/secret-path"
        return self

    async def __aexit__(self, *_):
        await self.runner.cleanup()

    async def take(self, request):
        """
        Answer one.
        """
        answer = self.answers.pop(0) if self.answers else 200
        self.times.append(asyncio.get_running_loop().time())
        if answer == "slow":
            await asyncio.sleep(5)
        if answer == "drop":
            request.transport.abort()
        if answer == 200:
            self.got.append(await request.json())
        return web.Response(status=answer if isinstance(answer, int) else 200, headers={"Location": "/elsewhere"})


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """
    Waits as short as a test.
    """
    monkeypatch.setattr(module, "GATHER_S", 0.05)
    monkeypatch.setattr(module, "RETRY_S", 0.1)


def notifier(credentials=None, **settings):
    """
    One with everything chosen.
    """
    settings = Notify(**{"kinds": KINDS, "timeout_s": 1.0, "after_s": 0.0, "per_hour": 3600, **settings})
    return Notifier(settings, venue="test", host="here", run=lambda: "a run", credentials=credentials)


async def beside(one, happening):
    """
    The notifier's task while something happens.
    """
    running = asyncio.create_task(one.run())
    try:
        await happening
    finally:
        running.cancel()
        await asyncio.wait([running])


def gap(number=0):
    """
    An event that has happened.
    """
    of = {"run": "r", "connection": 0, "symbol": "SOL-PERP", "channel": "trades"}
    words = f"ids {number} never came"
    return build("trade_gap", cause="venue", start=at(number), end=at(number + 2), evidence=words, **of)


def test_what_begins_is_told_and_told_again_when_it_is_over():
    """
    With the market, since when, and how long it lasted.
    """

    async def scenario():
        async with Hook() as hook:
            one = notifier(url=hook.url)

            async def happening():
                one.look([(SILENT, at(1), "brings no book")], at(10))
                await until(lambda: len(hook.got) == 1)
                one.look([(SILENT, at(1), "brings no book")], at(20))
                one.look([], at(31))
                await until(lambda: len(hook.got) == 2)

            await beside(one, happening())
            return hook.got

    first, second = asyncio.run(scenario())

    assert first["text"] == "drift-recorder test on here\n✗ SOL-PERP orderbook: silent: brings no book"
    assert second["text"] == "drift-recorder test on here\n✓ SOL-PERP orderbook: silent is over, after 30 s"
    assert (first["venue"], first["run"], first["left_out"]) == ("test", "a run", 0)
    (notice,) = second["notices"]
    assert (notice["state"], notice["kind"], notice["ts"], notice["lasted_s"]) == ("over", "silent", at(1), 30.0)


def test_only_what_was_asked_for_is_told():
    """
    By kind and scope; and what lasts is not told a second time as the event it ends as.
    """
    one = notifier(url="http://127.0.0.1:1/", scopes=("stream",), kinds=("silent", "trade_gap"))

    one.look([(("disconnected", 0, None, None), at(1), ""), (("halted", 0, None, None), at(1), "")], at(2))
    one.happened(build("silent", cause="venue", start=at(1), end=at(2), run="r", symbol="S", channel="o", evidence=""))
    one.happened(build("overflow", cause="recorder", start=at(1), end=at(2), run="r", evidence=""))
    one.happened(gap())

    assert [(notice.kind, notice.state) for notice in one._pending] == [("trade_gap", "happened")]


def test_what_does_not_last_is_not_told(monkeypatch):
    """
    A reconnect of a second wakes nobody.
    """
    now = [0]
    monkeypatch.setattr(module, "monotonic_ns", lambda: now[0] * 10**9)
    one = notifier(url="http://127.0.0.1:1/", after_s=10.0)
    trouble = [(("disconnected", 0, None, None), at(0), "closed")]

    one.look(trouble, at(0))
    now[0] = 9
    one.look(trouble, at(9))
    one.look([], at(9))
    assert one._pending == []
    one.look(trouble, at(20))
    now[0] = 20
    one.look(trouble, at(31))

    assert [notice.state for notice in one._pending] == ["began"]


@pytest.mark.parametrize("trouble", [500, 429, 302, "slow", "drop"])
def test_a_webhook_that_fails_is_tried_again_until_it_takes_it(trouble, caplog):
    """
    Whatever it does; nothing is told twice, and its address is in no log.
    """
    caplog.set_level(logging.INFO)

    async def scenario():
        async with Hook(trouble, trouble) as hook:
            # A busy machine must not be what takes too long.
            one = notifier(url=hook.url, timeout_s=1.5 if trouble == "slow" else 20.0)

            async def happening():
                one.happened(gap())
                await until(lambda: hook.got)
                await asyncio.sleep(0.3)

            await beside(one, happening())
            return hook.got

    (message,) = asyncio.run(scenario())

    assert message["notices"][0]["words"] == "ids 0 never came"
    assert caplog.text.count("not notified") == 2
    assert "notified again" in caplog.text
    assert "secret-path" not in caplog.text


def test_more_than_the_rate_is_gathered_into_one_message():
    """
    The limit delays; it loses nothing while it can be held, and says how much it could not.
    """

    async def scenario():
        async with Hook() as hook:
            one = notifier(url=hook.url, per_hour=3600)
            one._tokens = 1.0
            hook.times.append(asyncio.get_running_loop().time())

            async def happening():
                one.happened(gap())
                await until(lambda: len(hook.got) == 1)
                for number in range(1, 300):
                    one.happened(gap(number))
                await until(lambda: len(hook.got) == 2)

            await beside(one, happening())
            return hook.got, hook.times

    (_, second), (began, _, after) = asyncio.run(scenario())

    assert after - began > 0.9
    assert len(second["notices"]) == module.MOST_PENDING
    assert second["left_out"] == 299 - module.MOST_PENDING
    assert second["text"].endswith(f"and {299 - module.SHOWN} more")


def test_what_began_and_ended_before_anybody_was_told_is_one_notice():
    """
    In the words of both.
    """
    one = notifier(url="http://127.0.0.1:1/")

    one.look([(SILENT, at(1), "brings no book")], at(2))
    one.look([], at(41))

    (notice,) = one._pending
    assert (notice.state, notice.lasted_s) == ("happened", 40.0)
    assert notice.words == "for 40 s, and is over: brings no book"


def test_a_command_gets_the_message_and_is_killed_if_it_hangs(tmp_path, caplog):
    """
    No shell: its words are what was configured, whatever the venue says; with all that it started.
    """
    script = (
        "import sys, pathlib, subprocess, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "body = sys.stdin.read()\n"
        "if not (here / 'once').exists():\n"
        "    (here / 'once').touch()\n"
        "    subprocess.run(['sleep', '60'])\n"
        "(here / 'got').write_text(sys.argv[1] + body)\n"
    )

    async def scenario():
        one = notifier(command=(sys.executable, "-c", script, "$(touch /nowhere) "), timeout_s=1.5)

        async def happening():
            one.happened(gap())
            await until((tmp_path / "got").exists, 20)
            await asyncio.sleep(0.2)

        await beside(one, happening())

    asyncio.run(scenario())
    first, _, body = (tmp_path / "got").read_text().partition(" {")

    assert first == "$(touch /nowhere)"
    assert json.loads("{" + body)["notices"][0]["kind"] == "trade_gap"
    assert "did not end within 1.5 s, and was killed" in caplog.text


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "raise SystemExit(3)")])
def test_a_command_that_fails_is_told_in_the_log(caplog, command):
    """
    And tried again.
    """

    async def scenario():
        one = notifier(command=command)

        async def happening():
            one.happened(gap())
            await until(lambda: caplog.text.count("not notified") == 2)

        await beside(one, happening())

    asyncio.run(scenario())

    assert ("ended with 127 (not found)" if command[0].startswith("/no") else "ended with 3") in caplog.text


def test_a_way_that_fails_for_long_neither_holds_up_the_other_nor_has_it_told_twice(tmp_path, caplog):
    """
    The webhook is down, the command works: it gets each notice once, and once the webhook is back that has them all.
    """
    got = tmp_path / "got"

    async def scenario():
        async with Hook(*[503] * 4) as hook:
            settings = Notify(
                kinds=KINDS, command=("/bin/sh", "-c", f"cat >> {got}; echo >> {got}"), url=hook.url, per_hour=3600
            )
            both = [Notifier(way, venue="t", host="h", run=lambda: "r", credentials=None) for way in ways(settings)]
            running = [asyncio.create_task(one.run()) for one in both]
            for number in range(3):
                for one in both:
                    one.happened(gap(number))
                await until(lambda: got.exists() and got.read_text().count("\n") > number)  # noqa: B023
            await until(lambda: sum(len(message["notices"]) for message in hook.got) == 3, 30)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            return hook.got

    told = asyncio.run(scenario())

    by_command = [json.loads(line)["notices"][0]["words"] for line in got.read_text().splitlines()]
    assert by_command == [f"ids {number} never came" for number in range(3)]
    assert [notice["words"] for message in told for notice in message["notices"]] == by_command
    assert "not notified: the webhook answered 503" in caplog.text


def test_a_fault_of_our_own_in_telling_loses_no_notice(caplog):
    """
    It is tried again with all there was to tell.
    """

    async def scenario():
        async with Hook() as hook:
            one = notifier(url=hook.url)
            post, faults = one._post, [RuntimeError("ours")]

            async def faulty(body):
                if faults:
                    raise faults.pop()
                return await post(body)

            one._post = faulty

            async def happening():
                one.happened(gap())
                await until(lambda: hook.got)

            await beside(one, happening())
            return hook.got

    (message,) = asyncio.run(scenario())

    assert message["notices"][0]["words"] == "ids 0 never came"
    assert "our own fault, in notifying" in caplog.text


@pytest.mark.parametrize("name", ["hook", "credentials_hook"])
def test_the_address_may_be_a_credential(tmp_path, name, caplog):
    """
    A file of systemd's, read anew each time; until it is there, that is said, without its content.
    """

    async def scenario():
        async with Hook() as hook:
            one = notifier(credentials=str(tmp_path), url_credential="hook")

            async def happening():
                one.happened(gap())
                await until(lambda: "cannot be read" in caplog.text)
                (tmp_path / name).write_text(hook.url + "\n")
                await until(lambda: hook.got)

            await beside(one, happening())

    asyncio.run(scenario())

    assert "secret-path" not in caplog.text


def test_troubles_are_what_lasts_by_the_live_monitor():
    """
    A connection that is down stands for all it carries; a halt for all markets; a refusal for itself.
    """
    refused = build("rejected", cause="venue", start=at(5), end=at(5), run="r", symbol="S", channel="o", evidence="no")
    flows = [
        FlowState("r", 0, SOL, at(0), silent=True, last=at(3)),
        FlowState("r", 1, SOL, at(0), silent=True, last=at(4)),
        FlowState("r", 1, BTC, at(0), refusal=refused),
        FlowState("r", 2, SOL, at(0), silent=True, halted=True, last=at(6)),
        FlowState("r", 2, BTC, at(0), silent=True, halted=True, last=at(7)),
    ]

    found = troubles(flows, [(0, at(2), "closed")], disk_full=at(9))

    assert found == [
        (("disk_full", None, None, None), at(9), "the disk is full: nothing is recorded"),
        (("disconnected", 0, None, None), at(2), "closed"),
        (("silent", None, "SOL-PERP", "orderbook"), at(4), "brings no book"),
        (("rejected", None, "BTC-PERP", "orderbook"), at(5), "no"),
        (("halted", 2, None, None), at(6), "no market brings a book, though heartbeats come"),
    ]
    assert LineTally(0).down_since == 0


def test_a_recorder_tells_of_a_silent_market_and_of_its_return(tmp_path, tmp_path_factory):
    """
    The whole way; and a webhook that takes for ever costs no frame.
    """
    ledger = tmp_path_factory.mktemp("venue") / "ledger"

    async def scenario():
        faults = (Silence(market="SOL-PERP", from_s=1.5, to_s=9.0),)
        async with Hook("slow") as hook, simulator(faults=faults, ledger=ledger) as url:
            text = config_text(url, tmp_path) + (
                f'[notify]\nkinds = ["silent"]\nafter_s = 0\nper_hour = 1000\ntimeout_s = 1\nurl = "{hook.url}"\n'
                "[capture]\nsilent_after_s = 2\n"
            )
            async with recording(tmp_path, text=text):
                await until(lambda: [n for m in hook.got for n in m["notices"] if n["state"] != "began"], 25)
            return hook.got

    messages = asyncio.run(scenario())
    notices = [notice for message in messages for notice in message["notices"]]

    assert {notice["symbol"] for notice in notices} == {"SOL-PERP"}
    assert notices[-1]["state"] in {"over", "happened"}
    assert not unheard(ledger, tmp_path)
