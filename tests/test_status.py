"""
`status`, `top` and `reload`: a recorder seen from outside, alive, stopped and killed; and told to read its file again.
"""

import asyncio
import io
import json
import signal
import subprocess
import sys

import msgspec
import pytest

from loopback import config_text, entries, followed, recording, simulator, until
from recorder import show_status
from recorder.config import load_config
from recorder.journal.names import run_name, run_started, segment_name
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, manifest_path, parse_hour
from recorder.records import HOUR_NS, NO_CONNECTION
from recorder.simulator.kinds import Silence
from recorder.status import presence, run
from recorder.status.follow import Follower
from recorder.status.markets import MarketLine
from recorder.status.storage import DAY_NS, Storage
from recorder.terminal import PlainConsole
from recorder.top import Top, sparkline

COMMAND = (sys.executable, "-m", "recorder")


async def said(*arguments):
    """
    (exit code, standard output, standard error) of a verb, in a process of its own.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_status_tells_from_outside_what_the_recorder_tells_itself(tmp_path):
    """
    From the journal alone: the same streams in the same state, the same prices, and the process it is.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, url) as recorder:
            await until(lambda: len(entries(tmp_path)) > 120)
            await until(lambda: all(s.state == "recording" for s in followed(tmp_path).streams))
            inside = (await recorder._watch.look()).status
            outside = await asyncio.to_thread(followed, tmp_path)
            code, out, _ = await said("status", tmp_path, "--json")
            shown = await said("status", tmp_path)
            return inside, outside, code, json.loads(out), shown

    inside, outside, code, told, shown = asyncio.run(scenario())

    assert [(s.market, s.channel, s.state) for s in outside.streams] == [
        (s.market, s.channel, s.state) for s in inside.streams
    ]
    assert outside.run == inside.run
    assert outside.process.pid == inside.process.pid
    assert {s.market for s in outside.streams if s.best_bid and s.best_ask} == {
        "SOL-PERP",
        "BTC-PERP",
    }
    assert [c.up for c in outside.connections] == [True]
    assert (code, told["ready"], told["recording"]) == (0, True, True)
    assert (shown[0], "recording everything" in shown[1], "SOL-PERP" in shown[1]) == (0, True, True)
    # A run may have had others before.
    assert "holes are of the last 1 min 30 s of the journal" in shown[1]


def test_a_silent_market_is_named_and_the_exit_code_says_so(tmp_path):
    """
    What a script asks once a minute.
    """

    async def scenario():
        faults = (Silence(market="SOL-PERP", from_s=0.0, to_s=60.0),)
        async with simulator(faults=faults) as url, recording(tmp_path, url):
            await until(lambda: len(entries(tmp_path)) > 100)
            return await said("status", tmp_path)

    code, out, _ = asyncio.run(scenario())

    assert code == 11
    assert "not everything" in out
    assert "SOL-PERP orderbook" in out


@pytest.mark.parametrize("killed", [False, True])
def test_a_recorder_that_is_gone_is_told_as_gone(tmp_path, killed):
    """
    Stopped or killed, since when, and how things were left.
    """
    config = tmp_path / "config.toml"

    async def scenario():
        async with simulator() as url:
            config.write_text(config_text(url, tmp_path / "root"))
            process = await asyncio.create_subprocess_exec(*COMMAND, "run", str(config), stderr=subprocess.DEVNULL)
            root = tmp_path / "root"
            await until(lambda: (root / "journal").is_dir() and len(entries(root)) > 60, 20)
            process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
            await process.wait()
            screen = Top(root, look_back_s=60, every_s=0.2)
            async with screen.run_test(size=(80, 24)):
                await until(lambda: screen._shown)
                top = str(screen.query_one("#connections").render()), screen._shown["perp SOL-PERP"]
            return await said("status", root), await said("reload", root), followed(root), top

    (code, out, _), (refused, _, error), status, (heard, cells) = asyncio.run(scenario())

    assert code == 11
    assert "not recording" in out
    assert ("died, or was killed," if killed else "stopped (SIGTERM)") in out
    assert (refused, "no recorder is at work" in error) == (3, True)
    # What it did in its last seconds is no rate, and makes no forecast: in the value itself, so that nobody shows it.
    assert {stream.rate for stream in status.streams} == {0.0}
    assert (status.disk.bytes_a_day, status.disk.days_left) == (None, None)
    assert (status.journal.commit_p99_ms, status.process.rss_bytes, status.process.loop_lag_p99_ms) == (None,) * 3
    assert "frames/s" not in heard
    assert [str(cell) for cell in cells[4:6]] == ["–", "–"]


def test_a_root_without_a_journal_and_a_folder_that_is_none(tmp_path):
    """
    The one is told, the other refused.
    """
    from recorder.lake.root import bind  # noqa: PLC0415

    root = tmp_path / "root"
    bind(root, venue="test", network="mainnet-beta")

    status = followed(root)
    code, _, error = asyncio.run(said("status", tmp_path / "elsewhere"))

    assert (status.recording, status.ready, status.run) == (False, False, None)
    assert "none has recorded anything yet" in status.problems[0]
    assert code == 3
    assert "elsewhere" in error


def test_reload_tells_what_was_added_and_removed_and_why_it_was_refused(tmp_path):
    """
    The outcome, not that a signal was sent; recording goes on whatever it is.
    """
    config = tmp_path / "config.toml"
    root = tmp_path / "root"

    async def scenario():
        async with simulator() as url:
            config.write_text(config_text(url, root))
            async with recording(root, text=config.read_text(), reread=lambda: load_config(config)):
                await until(lambda: len(entries(root)) > 20)
                config.write_text(config_text(url, root, perp='["SOL-PERP", "ETH-PERP"]'))
                taken = await said("reload", root)
                same = await said("reload", root)
                config.write_text(
                    config_text(url, root, perp='["SOL-PERP", "ETH-PERP"]') + "[capture]\nmax_queue = 99\n"
                )
                fixed = await said("reload", root)
                config.write_text("perp = [")
                broken = await said("reload", root)
                before = len(entries(root))
                await until(lambda: len(entries(root)) > before + 20)
                return taken, same, fixed, broken, await asyncio.to_thread(followed, root)

    taken, same, fixed, broken, status = asyncio.run(scenario())

    assert taken[0] == 0
    assert "added ETH-PERP orderbook, ETH-PERP trades; removed BTC-PERP orderbook, BTC-PERP trades" in taken[1]
    assert (same[0], "nothing to change" in same[1]) == (0, True)
    assert (fixed[0], "capture.max_queue: cannot change while recording" in fixed[2]) == (2, True)
    assert (broken[0], "TOML" in broken[2]) == (2, True)
    assert {s.market for s in status.streams} == {"SOL-PERP", "ETH-PERP"}
    assert (status.reload.taken, "TOML" in status.reload.words) == (False, True)


def test_only_the_process_that_holds_the_lock_is_signalled(tmp_path, monkeypatch):
    """
    A number used again, another container, a lock without a word: each is refused with what to do.
    """
    from recorder.durable import Lock  # noqa: PLC0415
    from recorder.errors import RootError  # noqa: PLC0415

    sent = []
    monkeypatch.setattr(presence.signal, "pidfd_send_signal", lambda *_: sent.append(1))
    run = "20261127T015048.547430Z-31cd87"
    folder = tmp_path / "journal" / run
    folder.mkdir(parents=True)
    lock = Lock(folder / "lock", holder="")
    with pytest.raises(RootError, match="does not say which process"):
        presence.ask_to_reload(tmp_path, run)
    presence.announce(tmp_path, run)
    presence.ask_to_reload(tmp_path, run)
    assert sent == [1]

    own = presence.this_process()
    monkeypatch.setattr(presence, "_started", lambda _: own.started + 1)
    with pytest.raises(RootError, match="is gone"):
        presence.ask_to_reload(tmp_path, run)
    monkeypatch.setattr(presence, "_namespace", lambda: 1)
    with pytest.raises(RootError, match="another container"):
        presence.ask_to_reload(tmp_path, run)
    monkeypatch.undo()
    lock.release()
    with pytest.raises(RootError, match="is gone"):
        presence.ask_to_reload(tmp_path, run)
    assert sent == [1]


def test_top_shows_markets_at_every_size(tmp_path):
    """
    Sorted, filtered, paused, with the columns a screen has room for, and quit by its key.
    """
    columns = {}

    async def scenario():
        async with simulator() as url, recording(tmp_path, url):
            await until(lambda: len(entries(tmp_path)) > 40)
            screen = Top(tmp_path, look_back_s=60, every_s=0.2)
            async with screen.run_test(size=(80, 24)) as pilot:
                table = screen.query_one("#markets")
                await until(lambda: table.row_count == 2 and screen._shown)
                for size, count in (((80, 24), 8), ((120, 40), 10), ((200, 50), 13)):
                    await pilot.resize_terminal(*size)
                    await until(lambda count=count: len(table.columns) == count)
                    columns[size] = [str(column.label) for column in table.columns.values()]
                both = list(screen._shown)
                await pilot.press("r")
                turned = list(screen._shown)
                await pilot.press("slash", *"sol", "enter")
                filtered = list(screen._shown)
                await pilot.press("escape", "s", "p", "space")
                paused = "PAUSED" in str(screen.query_one("#headline").render())
                await pilot.press("q")
            return both, turned, filtered, paused, screen.failure

    both, turned, filtered, paused, failure = asyncio.run(scenario())

    assert all(names[:3] == ["market▼", "bid", "ask"] for names in columns.values())
    assert both == ["perp BTC-PERP", "perp SOL-PERP"]
    assert turned == both[::-1]
    assert filtered == ["perp SOL-PERP"]
    assert paused
    assert failure is None


@pytest.mark.parametrize(("width", "columns"), [(200, 9), (100, 7), (80, 5), (50, 2), (22, 0)])
def test_a_narrow_terminal_has_fewer_numbers_and_all_names(monkeypatch, width, columns):
    """
    Half a price is worse than none, and a number without its market is none.
    """
    ask = 96_251.6
    line = MarketLine(
        "1MBONK-PERP", "perp", "recording", "", 96_219.7, ask, 3.3, 2.5, 11.3, 2714.0, 400, 12.4, 12, 2, 0, [0]
    )
    down = msgspec.structs.replace(line, market="SOL", state="down", holes=0)
    monkeypatch.setattr(show_status, "by_market", lambda _: [line, down])
    console = PlainConsole(file=io.StringIO(), width=width)

    show_status.print_markets(console, None, everything=True)

    heads, first, second = (row.rstrip() for row in console.file.getvalue().splitlines())
    assert len(heads.split()) == 2 + columns
    assert max(map(len, (heads, first, second))) <= width
    assert first.split()[:2] == ["1MBONK-PERP", "recording"]
    assert second.split()[:2] == ["SOL", "down"]
    assert ("96,251.6" in first) == ("ask" in heads)
    assert "2.5" not in second, "what is down has no rate"


def test_the_trend_is_drawn_between_its_own_bounds():
    """
    Whatever the price is.
    """
    assert sparkline([]) == ""
    assert sparkline([5.0, 5.0]) == "▄▄"
    assert sparkline([1.0, 8.0, 4.5]) == "▁█▅"


def test_a_long_past_is_read_in_passes(tmp_path, monkeypatch):
    """
    So that a screen can show something meanwhile.
    """
    monkeypatch.setattr(run, "PASS", 10)

    async def record():
        async with simulator() as url, recording(tmp_path, url):
            await until(lambda: len(entries(tmp_path)) > 80)

    asyncio.run(record())
    follower = Follower(tmp_path)
    passes = 0
    try:
        # Since when it runs is told by its name: the entry that says so may be long past, and is not read.
        assert follower._run is None
        follower.advance()
        assert follower._run.started == run_started(follower._run.name)
        while follower.behind:
            passes += 1
            follower.advance()
        last = follower._run.last_ts
    finally:
        follower.close()

    assert last == entries(tmp_path)[-1].recv_ts
    assert entries(tmp_path)[-1].connection == NO_CONNECTION


def stored_for(root, days, *, journal_days, rows_days=None):
    """
    A root of so many days, a gigabyte of journal and 24 MB of lake in each, of which the journal of so many days is
    still there, and the rows of so many; now, ns. The journal is all holes.
    """
    start = parse_hour("2026-03-01T00")
    now = start + days * DAY_NS
    run = root / JOURNAL / run_name(start, "abcdef")
    run.mkdir(parents=True)
    (root / "manifest").mkdir()
    for at in range(start, now, HOUR_NS):
        if at >= now - journal_days * DAY_NS:
            with (run / segment_name(at)).open("wb") as file:
                file.truncate(10**9 // 24)
        if at < now - HOUR_NS:
            listed = [{"path": "x", "table": "books", "symbol": "SOL-PERP", "rows": 9, "bytes": 10**6}]
            gone = rows_days is not None and at < now - rows_days * DAY_NS
            made = {"complete": True, "files": [] if gone else listed, "expired": listed if gone else []}
            (root / manifest_path(at)).write_text(json.dumps(made))
    return now


def test_journal_of_long_ago_that_has_gone_is_no_retention_at_work(tmp_path):
    """
    After three weeks without a recorder, the journal grows for a week again.
    """
    now = stored_for(tmp_path, 30, journal_days=0.25)
    for hour in manifests.hours(tmp_path):
        if now - 21 * DAY_NS < hour < now - 6 * HOUR_NS:
            (tmp_path / manifest_path(hour)).unlink()

    stored = Storage(tmp_path).look(now, alive=True)

    assert stored.disk.bytes_a_day == pytest.approx(1024e6, rel=0.02)


@pytest.mark.parametrize(
    ("days", "rows_days", "a_day"),
    [
        (5, None, 1024e6),
        # Kept for a week, the journal grows for a week.
        (12, None, 24e6),
        (12, 9, 0),
    ],
    ids=["journal is all there", "journal goes", "rows go too"],
)
def test_how_long_the_disk_will_last_counts_what_retention_takes_away(tmp_path, days, rows_days, a_day):
    """
    Else a disk that is large enough for ever would be called full in days, each day.
    """
    now = stored_for(tmp_path, days, journal_days=min(days, 7), rows_days=rows_days)

    stored = Storage(tmp_path).look(now, alive=True)

    assert stored.disk.bytes_a_day == pytest.approx(a_day, rel=0.02, abs=1e5)
    if a_day:
        assert stored.disk.days_left == pytest.approx(stored.disk.free_bytes / stored.disk.bytes_a_day, abs=0.01)
    else:
        assert stored.disk.days_left is None
    assert stored.sealed_rows == 9 * 24 * (rows_days or days) - 9
    assert stored.bytes == 10**6
