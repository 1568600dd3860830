"""
The command line: what each verb prints, its exit codes, and one line for every mistake.
"""

import asyncio
import contextlib
import errno
import http
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from websockets.asyncio.server import serve as serve_websocket

from recorder import __version__, durable
from recorder.cli import main
from recorder.clock import wall_ns
from recorder.journal.entry import encode_header
from recorder.journal.names import run_name, segment_name
from recorder.journal.reader import segments
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.lake.root import bind
from recorder.records import (
    HOUR_NS,
    EntryKind,
    QualitySettings,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)
from recorder.simulator.kinds import Silence
from recorder.simulator.server import SimulatorOptions, serve
from recorder.venue.markets import NETWORKS

PROJECT = Path(__file__).parents[1]
CONTEXT = click.Context(main)
VERBS = main.list_commands(CONTEXT)
SOL = Stream("perp", "SOL-PERP", "orderbook", 1)
MARKUP = "[bold red]x[/] \x1b[31m:smile:"


def invoke(*arguments):
    """
    Run the command line in this process.
    """
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="drift-recorder")


def refused(result, code, *words):
    """
    Hold a refusal to its form: this exit code, nothing but one line on standard error, these words in it.
    """
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("drift-recorder: ")
    assert lines[0].isprintable()
    for word in words:
        assert str(word) in lines[0]
    assert "; " in lines[0], "what to do is missing"


def process(*arguments, **options):
    """
    Run the command line as a process of its own.
    """
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "recorder", *map(str, arguments)],
        capture_output=True,
        env=environment,
        check=False,
        timeout=100,
        **options,
    )


def config_file(folder, *, url="ws://127.0.0.1:1/ws", root=None, extra="", perp='["SOL-PERP"]'):
    """
    A configuration file; its path.
    """
    path = folder / "config.toml"
    path.write_text(
        f"""
        [venue]
        name = "test"
        url = "{url}"
        network = "mainnet-beta"
        [markets]
        perp = {perp}
        [storage]
        root = "{root or folder / "root"}"
        [seal]
        enabled = false
        {extra}
        """
    )
    return path


BOOK = (
    b'{"channel":"orderbook_perp_0_grouped_1","data":"{\\"bids\\":[{\\"size\\":2,\\"price\\":1,\\"sources\\":{}}],'
    b'\\"asks\\":[],\\"marketName\\":\\"SOL-PERP\\",\\"marketType\\":\\"perp\\",\\"marketIndex\\":0,'
    b'\\"ts\\":1795374370490,\\"slot\\":7}"}'
)


def write_run(root, *, host="a-host", frames=50, hours_ago=2):
    """
    A journal of one run of one minute, in a bound root; the hour it is in.
    """
    bind(root, venue="test", network="mainnet-beta")
    start = wall_ns() // HOUR_NS * HOUR_NS - hours_ago * HOUR_NS
    run = run_name(start, "abc123")
    folder = root / JOURNAL / run
    folder.mkdir()
    header = SegmentHeader(1, run, host, __version__, "test", "mainnet-beta", [SOL], QualitySettings())
    journal = Journal(folder, header=lambda: header, settings=JournalSettings())
    journal.start()
    facts = [
        RunStarted(run, host, 1, __version__, "test", "mainnet-beta", ["ws://x/ws"], [SOL]),
        RunStopped("over"),
    ]
    place = {"connection": -1, "attempt": 0}
    journal.append(EntryKind.FACT, **place, recv_ts=start, payload=encode_fact(facts[0]))
    for number in range(frames):
        at = start + (number + 1) * 1_000_000_000
        journal.append(EntryKind.FRAME, connection=0, attempt=1, recv_ts=at, payload=BOOK)
    journal.append(EntryKind.FACT, **place, recv_ts=start + 3500 * 10**9, payload=encode_fact(facts[1]))
    assert journal.close(5)
    return start


@pytest.fixture
def root(tmp_path):
    """
    A root with one run, sealed.
    """
    folder = tmp_path / "a [bold]* root"
    write_run(folder)
    assert invoke("seal", folder).exit_code == 0
    return folder


# ---- help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    """
    With what it does, and what each argument and option means.
    """
    result = invoke(verb, "--help")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: drift-recorder {verb}")
    for parameter in main.get_command(CONTEXT, verb).params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in result.stdout
            assert parameter.help, parameter.name


def test_the_help_names_the_exit_codes_there_are():
    """
    Scripts rely on them.
    """
    from recorder import errors  # noqa: PLC0415

    text = " ".join(invoke("--help").stdout.split())
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RecorderError)
    }

    listed = {
        int(code) for code in re.findall(r"(\d+) [a-z]", text.partition("Exit codes:")[2].partition("Options")[0])
    }
    assert listed == {0, 9, 10, 11, 130, *codes}


def test_without_a_verb_the_help_is_shown():
    """
    A first try must not end in an error message.
    """
    result = invoke()

    assert "Commands:" in result.stderr + result.stdout
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("native", "more"), [(True, ""), (False, " (without its compiled part: sealing takes longer)")]
)
def test_the_version_is_told(monkeypatch, native, more):
    """
    Of the package, and whether it was installed without a compiler.
    """
    monkeypatch.setattr("recorder.venue.normalize.is_native", lambda: native)

    assert invoke("--version").stdout == f"drift-recorder, version {__version__}{more}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frob"], ["No such command 'frob'", "drift-recorder --help"]),
        (["seal"], ["Missing argument 'ROOT'", "drift-recorder seal --help"]),
        (["run", "x.toml", "--for", "-3"], ["--for", "-3", "x>=0.1"]),
        (["run", "x.toml", "--fro", "3"], ["No such option", "--fro", "--for"]),
        (["seal", "x", "--hour", "yesterday"], ["--hour", "yesterday"]),
        (["check", "x.toml", "--listen", "0"], ["--listen", "0"]),
        (["demo", "--for", "3"], ["--for", "3", "10"]),
        (["markets", "mainnet"], ["'mainnet'", "velocity-mainnet-beta"]),
        (["simulate", "--silence", "SOL-PERP"], ["silence", "'SOL-PERP'", "MARKET:FROM-TO"]),
        (["simulate", "--markets", "XYZ"], ["'XYZ'", "SOL-PERP"]),
        (
            ["simulate", "--faults", "/nonexistent.toml"],
            ["/nonexistent.toml: --faults: No such file or directory", "give a TOML file"],
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, words):
    """
    Naming what is wrong, its value, and what to give instead.
    """
    refused(invoke(*arguments), 2, *words)


# ---- configuration


def test_a_configuration_that_is_not_there(tmp_path):
    """
    For both verbs that read one.
    """
    for verb in ("run", "check"):
        refused(invoke(verb, tmp_path / "no.toml"), 2, tmp_path / "no.toml", "No such file", "give a TOML file")
        refused(invoke(verb, tmp_path), 2, tmp_path, "Is a directory")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[venue\n", ["TOML"]),
        (
            'venue = {name="t",url="wss://h/ws",network="devnet",naem=1}\nmarkets.perp="*"\nstorage.root="x"',
            ["venue.naem", "unknown key", "name"],
        ),
        ("\x00", ["TOML"]),
    ],
)
def test_a_configuration_with_a_mistake(tmp_path, text, words):
    """
    The file, the key, the value, and what is allowed.
    """
    (tmp_path / "c.toml").write_text(text)

    refused(invoke("run", tmp_path / "c.toml"), 2, tmp_path / "c.toml", *words)


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_configuration_with_several_mistakes(tmp_path, verb):
    """
    A line for each.
    """
    (tmp_path / "c.toml").write_text(
        '[venue]\nname = "a b"\nurl = "x"\nnetwork = "mainnet-beta"\n[storage]\nroot = 1\n'
    )

    result = invoke(verb, tmp_path / "c.toml")

    keys = ["storage.root", "venue.name", "venue.url", "markets"]
    assert result.exit_code == 2
    assert [line.split(": ")[:3] for line in result.stderr.splitlines()] == [
        ["drift-recorder", str(tmp_path / "c.toml"), key] for key in keys
    ]


def test_a_configuration_name_cannot_break_the_line(tmp_path):
    """
    A file name may hold anything but a slash and NUL.
    """
    refused(invoke("run", tmp_path / "a\nb\x1b[31m.toml"), 2, "No such file")


# ---- check


def test_check_shows_what_will_be_recorded(tmp_path):
    """
    Streams, connections, root and market list; nothing is asked over the network, and nothing is written.
    """
    result = invoke("check", config_file(tmp_path))

    assert result.exit_code == 0
    assert "SOL-PERP  perp  orderbook, trades" in result.stdout
    assert f"2 streams on 1 connection, into {tmp_path / 'root'}; market list mainnet-beta" in result.stdout
    assert not (tmp_path / "root").exists()


def test_check_shows_what_each_connection_will_carry(tmp_path):
    """
    By the numbers that rows and events name them by, copy after copy.
    """
    path = config_file(tmp_path, perp='["SOL-PERP", "BTC-PERP", "ETH-PERP"]')
    text = path.read_text() + "[capture]\nmarkets_per_connection = 2\nredundancy = 2\n"
    path.write_text(text.replace("network =", 'copy_urls = ["wss://other/ws"]\nnetwork ='))

    result = invoke("check", path)

    shown = [line.split() for line in result.stdout.splitlines()]
    first, second = "ws://127.0.0.1:1/ws", "wss://other/ws"
    assert result.exit_code == 0
    assert ["0", "1", first, "2", "4", "BTC-PERP,", "SOL-PERP"] in shown
    assert ["1", "1", first, "1", "2", "ETH-PERP"] in shown
    assert ["2", "2", second, "2", "4", "BTC-PERP,", "SOL-PERP"] in shown
    assert ["3", "2", second, "1", "2", "ETH-PERP"] in shown
    assert "6 streams, 2 times over, on 4 connections, into" in result.stdout


def test_check_connect_asks_each_address(tmp_path):
    """
    A second server that is not there, or does not know a market, is found before the day it is needed.
    """
    with simulator() as url, simulator() as second:
        path = config_file(tmp_path, url=url)
        text = path.read_text() + "[capture]\nredundancy = 3\n"
        path.write_text(text.replace("network =", f'copy_urls = ["{second}"]\nnetwork ='))
        both = invoke("check", path, "--connect", "--listen", "1")
        path.write_text(path.read_text().replace(second, "ws://127.0.0.1:1/ws"))
        one = invoke("check", path, "--connect", "--listen", "1")

    assert both.exit_code == 0, both.stderr
    assert len(re.findall(r"SOL-PERP orderbook +yes +\d", both.stdout)) == 2
    refused(one, 8, "ws://127.0.0.1:1/ws", "connection refused", "check `venue.copy_urls`")


def test_check_tells_of_unlisted_markets_with_near_names(tmp_path):
    """
    A slip of the keyboard would otherwise be found after a day of silence; but the market may be newer than the list.
    """
    result = invoke("check", config_file(tmp_path, perp='["SOL-PREP", "BTC-PERP"]'))

    assert result.exit_code == 0
    notes = [line for line in result.stdout.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert "perp market SOL-PREP (near: SOL-PERP" in notes[0]


def test_top_without_a_terminal_is_refused(tmp_path):
    """
    It would wait for keys that cannot come, at the cost of half a core, for ever.
    """
    refused(invoke("top", tmp_path), 2, "top", "terminal", "status ROOT")


def test_check_prints_names_as_they_are(tmp_path):
    """
    A market called like markup is not styled away.
    """
    result = invoke("check", config_file(tmp_path, perp='["[bold]X-PERP", ":smile:"]'))

    if result.exit_code == 2:
        refused(result, 2, "[bold]X-PERP")
    else:
        assert "[bold]X-PERP" in result.stdout
        assert ":smile:" in result.stdout


class Served(threading.Thread):
    """
    A server on a loop of its own, for verbs that run one themselves.
    """

    def __init__(self, serving):
        super().__init__(daemon=True)
        self._serving = serving
        self._ready = threading.Event()
        self.url = ""

    def run(self):
        """
        Serve until told to stop.
        """
        asyncio.run(self._serve())

    async def _serve(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()

        def ready(url):
            self.url = url
            self._ready.set()

        await self._serving(ready, self._over)

    def __enter__(self):
        self.start()
        assert self._ready.wait(5)
        return self.url

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(5)


def simulator(**options):
    """
    The simulated venue.
    """
    return Served(lambda ready, stop: serve(SimulatorOptions(tick_ms=50, **options), ready, stop))


def websocket(handle, **options):
    """
    A websocket server of the test's own.
    """

    async def serving(ready, stop):
        async with serve_websocket(handle, "127.0.0.1", 0, **options) as server:
            ready(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws")
            await stop.wait()

    return Served(serving)


def test_check_connect_counts_what_comes(tmp_path):
    """
    From a venue that knows every market.
    """
    with simulator() as url:
        result = invoke("check", config_file(tmp_path, url=url), "--connect", "--listen", "1")

    assert result.exit_code == 0, result.stderr
    assert "with compression" in result.stdout
    assert re.search(r"SOL-PERP orderbook +yes +[1-9]", result.stdout)


def test_check_connect_says_which_book_does_not_come(tmp_path):
    """
    A server acknowledges what nobody publishes; that the table says 0 is easily overlooked.
    """
    with simulator(faults=(Silence(market="BTC-PERP", from_s=0, to_s=60),)) as url:
        path = config_file(tmp_path, url=url, perp='["SOL-PERP", "BTC-PERP"]')
        result = invoke("check", path, "--connect", "--listen", "1")

    assert result.exit_code == 0, result.stderr
    notes = [line for line in result.stdout.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert notes[0].startswith("note: BTC-PERP orderbook was acknowledged, but brought no book in ")


def test_check_connect_names_the_market_nobody_knows(tmp_path):
    """
    The venue's own error does not: the one without an answer is found by asking for all.
    """
    with simulator() as url:
        path = config_file(tmp_path, url=url, perp='["SOL-PERP", "NOPE-PERP"]')
        result = invoke("check", path, "--connect", "--listen", "1")

    refused(result, 8, url, "NOPE-PERP orderbook, NOPE-PERP trades", "check the market names")
    assert "the venue answered: orderbook: Error subscribing to channel" in result.stdout


def test_check_connect_to_nothing(tmp_path):
    """
    Nothing listens on port 1.
    """
    result = invoke("check", config_file(tmp_path), "--connect", "--listen", "1")

    refused(result, 8, "ws://127.0.0.1:1/ws", "connection refused", "check `venue.url`")


def test_check_connect_to_a_server_that_answers_400(tmp_path):
    """
    As the real one does on a wrong path.
    """

    def refuse(connection, _):
        return connection.respond(http.HTTPStatus.BAD_REQUEST, "Bad Request")

    with websocket(lambda _: None, process_request=refuse) as url:
        result = invoke("check", config_file(tmp_path, url=url), "--connect", "--listen", "1")

    refused(result, 8, url, "HTTP 400 instead of a websocket")


def test_check_connect_to_a_server_that_hangs_up(tmp_path):
    """
    Before any answer: that is no matter of market names.
    """

    async def hang_up(connection):
        await connection.close(1013, "try \x1b[31m later")

    with websocket(hang_up) as url:
        result = invoke("check", config_file(tmp_path, url=url), "--connect", "--listen", "1")

    refused(result, 8, url, "1013 try \\x1b[31m later")


# ---- roots


def test_check_refuses_a_root_that_run_would_refuse(tmp_path):
    """
    A check that passes must not be followed by a run that fails for what could be seen.
    """
    (tmp_path / "file").write_text("x")

    refused(invoke("check", config_file(tmp_path, root=tmp_path / "file")), 3, "is a file")


def test_inspect_shows_one_entry_whole(root):
    """
    Rows name their frame by run and number: this is where one looks it up.
    """
    segment = segments(root / JOURNAL)[0].path

    shown = invoke("inspect", segment, "--seq", 1)

    assert shown.exit_code == 0
    assert '"fact":"run_started"' in shown.stdout
    refused(invoke("inspect", segment, "--seq", 10**9), 5, "has no entry 1000000000; it has 1 to")


@pytest.mark.parametrize("verb", ["run", "seal", "verify", "inspect"])
def test_a_root_that_cannot_be(tmp_path, verb):
    """
    Below a file, or not there.
    """
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "root"
    argument = config_file(tmp_path, root=below) if verb == "run" else below

    refused(invoke(verb, argument), 3, below)


@pytest.mark.parametrize("verb", ["run", "seal", "verify", "inspect"])
def test_a_foreign_folder_is_no_root(tmp_path, verb):
    """
    Nothing is written beside what is somebody else's.
    """
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters [bold].txt").write_text("x")
    argument = config_file(tmp_path, root=home) if verb == "run" else home

    refused(invoke(verb, argument), 5 if verb == "inspect" else 3, home)
    assert [path.name for path in home.iterdir()] == ["letters [bold].txt"]


def test_a_root_of_another_venue_is_refused(tmp_path):
    """
    With what it is of.
    """
    bind(tmp_path / "root", venue="other", network="devnet")

    refused(invoke("run", config_file(tmp_path)), 3, tmp_path / "root", "belongs to venue other on devnet")


def test_a_root_in_use_is_refused_and_beside_is_the_way(tmp_path):
    """
    The message says how; then it works.
    """
    write_run(tmp_path / "root")
    run = next(path for path in (tmp_path / "root" / JOURNAL).iterdir() if path.is_dir())
    lock = durable.Lock(run / "lock", holder="the test")
    try:
        refused(invoke("run", config_file(tmp_path)), 4, tmp_path / "root", run.name, "--beside")
        beside = process("run", config_file(tmp_path), "--beside", "--for", "0.5")
    finally:
        lock.release()

    assert beside.returncode == 0, beside.stderr


@pytest.mark.parametrize("verb", ["seal", "verify"])
def test_a_seal_at_work_is_waited_for_by_hand(root, verb):
    """
    Two at once would undo each other; exit code 4 is what the recorder skips quietly.
    """
    lock = durable.Lock(root / "manifest" / "seal.lock", holder="the test")
    try:
        refused(invoke(verb, root), 4, root, "another seal or verify is at work")
    finally:
        lock.release()


@pytest.fixture
def full_disk(tmp_path):
    """
    A file system of 64 kB.
    """
    folder = tmp_path / "full"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("NOT TESTED: a full disk takes root, to mount one")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"NOT TESTED: no tmpfs can be mounted here: {made.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_refused_before_recording(tmp_path, full_disk):
    """
    With what to do.
    """
    with contextlib.suppress(OSError), (full_disk / "filler").open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    (full_disk / "root").mkdir(exist_ok=True)

    result = invoke("run", config_file(tmp_path, root=full_disk / "root"))

    refused(result, 3, full_disk / "root", "No space left on device", "free space on it")


# ---- seal, verify, inspect


def test_seal_says_what_it_made_and_then_that_nothing_is_left(tmp_path):
    """
    In one line an hour; and whether there was anything at all to seal.
    """
    bind(tmp_path, venue="test", network="mainnet-beta")
    none = invoke("seal", tmp_path, "--open")
    shown = invoke("inspect", tmp_path)
    write_run(tmp_path)

    first, second = invoke("seal", tmp_path), invoke("seal", tmp_path)

    assert none.stdout == "nothing to seal: no hour is over yet\n"
    assert "no hour is published yet; `drift-recorder seal" in shown.stdout

    assert re.fullmatch(r"\S+: sealed: 50 books and trades of 50 frames, \d+ files\n", first.stdout)
    hint = f"`drift-recorder seal {tmp_path} --open` publishes the hour so far, too"
    assert (first.stderr, second.stdout) == ("", f"nothing to seal: every closed hour is sealed; {hint}\n")


def test_an_hour_that_is_not_in_the_journal(root):
    """
    The message says which are.
    """
    refused(invoke("seal", root, "--hour", "2001-01-01T00"), 7, "2001-01-01T00", "it holds ")


def test_verify_of_a_good_root(root):
    """
    Counts, and exit code 0.
    """
    result = invoke("verify", root)

    assert result.exit_code == 0, result.stdout
    assert "all as it was written" in result.stdout


def test_verify_names_each_damage(root):
    """
    A flipped byte in a Parquet file, a manifest that is none, a segment cut in two: all in one report, exit code 9.
    """
    books = next((root / "lake" / "books").rglob("*.parquet"))
    data = bytearray(books.read_bytes())
    data[len(data) // 3] ^= 1
    books.write_bytes(data)
    segment = segments(root / JOURNAL)[0].path
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)

    result = invoke("verify", root)

    assert result.exit_code == 9
    assert result.stderr == ""
    assert str(books.relative_to(root)) in result.stdout
    assert str(segment.relative_to(root)) in result.stdout
    assert re.search(r"\d problems?$", result.stdout.splitlines()[-1])


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{", b'{"format":99}', b"", b"[]"])
def test_a_damaged_manifest_given_to_any_verb(root, content):
    """
    Said by inspect and verify, mended by seal.
    """
    manifest = next((root / "manifest").glob("*.json"))
    manifest.write_bytes(content)

    refused(invoke("inspect", manifest), 6, manifest)
    shown = invoke("inspect", root)
    assert shown.exit_code == 0, shown.stderr
    assert manifest.stem in shown.stdout
    assert invoke("verify", root).exit_code == 9
    assert "sealed" in invoke("seal", root).stdout
    assert invoke("verify", root).exit_code == 0


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"format":99,"venue":"x","network":"y"}', b"[]"])
def test_a_damaged_binding_given_to_any_verb(root, tmp_path, content):
    """
    Nobody guesses whose data it is.
    """
    (root / "root.json").write_bytes(content)

    for verb, argument in (
        ("seal", root),
        ("verify", root),
        ("inspect", root),
        ("run", config_file(tmp_path, root=root)),
    ):
        refused(invoke(verb, argument), 3, root)


FOREIGN = {
    "text.txt": b"hello",
    "empty": b"",
    "x.parquet": b"PAR1 and nothing more",
    "empty.parquet": b"",
    "x.json": b"{}",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_inspect_refuses_what_is_not_ours(tmp_path, name):
    """
    In one line, whatever the name promises.
    """
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])

    refused(invoke("inspect", path), 6 if name.endswith(".parquet") else 5, path)


def test_inspect_refuses_what_is_no_file(tmp_path):
    """
    A pipe would hang, a device never end.
    """
    os.mkfifo(tmp_path / "pipe")

    refused(invoke("inspect", tmp_path / "pipe"), 5, tmp_path / "pipe")
    refused(invoke("inspect", "/dev/zero"), 5, "/dev/zero")
    refused(invoke("inspect", tmp_path), 5, tmp_path, "root.json")
    refused(invoke("inspect", tmp_path / "no"), 3, tmp_path / "no", "is not there")


def test_inspect_shows_a_root_a_segment_a_parquet_file_and_a_manifest(root):
    """
    What it is of, how much it holds, and the first rows.
    """
    segment = segments(root / JOURNAL)[0]
    books = next((root / "lake" / "books").rglob("*.parquet"))
    shown = {
        "root": invoke("inspect", root).stdout,
        "segment": invoke("inspect", segment.path, "--lines", "3").stdout,
        "parquet": invoke("inspect", books, "--lines", "2").stdout,
        "manifest": invoke("inspect", next((root / "manifest").glob("*.json"))).stdout,
    }

    assert "test (mainnet-beta)" in shown["root"]
    assert "sealed" in shown["root"]
    assert "complete" not in shown["root"] + shown["manifest"]  # an hour that is sealed may have holes
    assert segment.run in shown["segment"]
    assert "first 3 entries" in shown["segment"]
    assert re.search(r"50 +orderbook_perp_0_grouped_1", shown["segment"])
    assert "first 2 rows" in shown["parquet"]
    assert "SOL-PERP" in shown["parquet"]
    assert "50 of them frames" in shown["manifest"]
    assert not any("\x1b" in text for text in shown.values())


def test_a_torn_segment_is_shown_as_far_as_it_goes(root):
    """
    A torn tail is what a crash leaves; damage in the middle is named.
    """
    segment = segments(root / JOURNAL)[0].path
    data = segment.read_bytes()
    open_segment = segment.with_name(segment.name + ".open")
    open_segment.write_bytes(data[: len(data) * 2 // 3])
    torn = invoke("inspect", open_segment)
    segment.write_bytes(data[: len(data) // 2] + b"\x00" * 40 + data[len(data) // 2 + 40 :])
    damaged = invoke("inspect", segment)

    assert torn.exit_code == damaged.exit_code == 0
    assert "damaged" not in torn.stdout
    assert "damaged" in damaged.stdout


def test_text_from_outside_is_shown_as_it_is(tmp_path):
    """
    Neither markup nor control characters of a segment's header or a frame reach the terminal.
    """
    write_run(tmp_path / "root", host=MARKUP)
    segment = segments(tmp_path / "root" / JOURNAL)[0].path

    result = invoke("inspect", segment)

    assert "[bold red]x[/] \\x1b[31m:smile:" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_segment_with_nothing_readable_in_it_is_said_to_be_damaged(tmp_path):
    """
    Its name says that it is ours.
    """
    path = tmp_path / segment_name(0)
    path.write_bytes(b"not zstd at all")

    result = invoke("inspect", path)

    assert "damaged" in result.stdout + result.stderr or result.exit_code == 5


def test_times_beyond_the_calendar_are_shown_as_numbers(tmp_path):
    """
    A foreign or damaged segment may hold any integer.
    """
    header = SegmentHeader(1, "r", "h", "v", "test", "mainnet-beta", [])
    import zstandard  # noqa: PLC0415

    from recorder.journal.entry import encode_entry  # noqa: PLC0415

    far = (1 << 63) - 1
    data = encode_header(header, seq=1, recv_ts=far) + encode_entry(EntryKind.FRAME, 0, 1, 1, far, b"{}")
    path = tmp_path / segment_name(far)
    path.write_bytes(zstandard.compress(data))

    result = invoke("inspect", path)

    assert result.exit_code == 0, result.exception
    assert "2262-04-11" in result.stdout or f"{far} ns" in result.stdout


# ---- markets


@pytest.mark.parametrize("network", NETWORKS)
def test_markets_lists_each_network(network):
    """
    And says what it leaves out.
    """
    some, everything = invoke("markets", network), invoke("markets", network, "--all")

    assert some.exit_code == everything.exit_code == 0
    assert "SOL-PERP" in some.stdout
    assert len(everything.stdout) >= len(some.stdout) - 200
    assert "left out" not in everything.stdout


def test_markets_without_a_network_names_them():
    """
    And the option narrows to a type.
    """
    result = invoke("markets")

    assert all(network in result.stdout for network in NETWORKS)
    perps = invoke("markets", "mainnet-beta", "--type", "perp").stdout
    assert "perp" in perps
    assert "spot" not in perps.splitlines()[5]


# ---- the process and its surroundings


def test_a_reader_that_has_enough_ends_it_quietly():
    """
    `drift-recorder markets … | head -1`: no traceback, no message, exit code 0, whatever the buffering.
    """
    for unbuffered in ("", "1"):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": unbuffered}
        command = [sys.executable, "-m", "recorder", "markets", "mainnet-beta", "--all"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
            child.stdout.close()
            errors = child.stderr.read()
            assert (child.wait(20), errors) == (0, b"")


def test_an_output_that_is_closed_is_no_crash():
    """
    `drift-recorder markets … >&-`, as some job schedulers start things.
    """
    words = [sys.executable, "-m", "recorder", "markets", "devnet"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    result = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, env=environment, check=False)

    assert (result.returncode, result.stderr) == (0, b"")


HUNGRY = """
import atexit, sys
import click
from recorder import cli, errors

atexit.register(print, "Python ended in order", file=sys.stderr)

@cli.main.command()
def hungry():
    raise {error}

cli.main(["hungry"])
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("MemoryError", "out of memory; free some on this machine, or raise our limit"),
        ("errors.OutOfMemory('out of memory; see X')", "out of memory; see X"),
    ],
)
def test_without_memory_it_ends_at_once_with_a_line(error, words):
    """
    Not by Python's own end, which needs memory itself: there a thread's end may crash the process.
    """
    command = [sys.executable, "-c", HUNGRY.format(error=error)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    result = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=100)

    assert (result.returncode, result.stderr.decode()) == (1, f"drift-recorder: {words}\n")


@pytest.mark.parametrize("form", ["book_snapshot_5", "raw"])
def test_a_reader_that_has_enough_of_an_export_ends_it_quietly(root, form):
    """
    Rows are written by polars, which has its own word for that; more lines than a pipe holds, by ourselves.
    """
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "recorder", "export", root, form, "--market", "SOL-PERP", "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
        child.stdout.close()
        errors = child.stderr.read()
        assert (child.wait(30), errors) == (0, b"")


def test_a_file_that_cannot_be_written_is_told_whatever_words_are_in_its_name(root, tmp_path):
    """
    Also those that polars has for a reader that went away.
    """
    output = tmp_path / "not there (os error 32)" / "trades.csv"

    result = process("export", root, "trades", "-o", output)

    assert result.returncode == 1
    assert str(output.parent) in result.stderr.decode()


def test_a_pipe_or_socket_that_breaks_elsewhere_is_told(monkeypatch, capsys):
    """
    Only of our own output is its end no error.
    """

    def breaks(*_, **__):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(main, "get_command", lambda *_: click.Command("check", callback=breaks))
    with pytest.raises(SystemExit) as end:
        main.main(["check"], "drift-recorder")

    assert end.value.code == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_there_are_no_colours_in_a_file(root):
    """
    Nor progress bars; and lines are not broken at 80 columns.
    """
    for arguments in (("inspect", root), ("seal", root, "--open"), ("verify", root), ("markets",)):
        done = process(*arguments)
        assert done.returncode == 0
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.stderr == b""


def test_a_terminal_without_the_characters_gets_numbers(root):
    """
    An ASCII locale must not end in a traceback.
    """
    done = process("markets", env={"PYTHONIOENCODING": "ascii:strict", "COLUMNS": "60"})

    assert done.returncode == 0, done.stderr


def test_simulate_says_where_it_listens_and_stops_by_itself():
    """
    The line is what scripts wait for.
    """
    done = process("simulate", "--port", "0", "--for", "0.3")

    assert done.returncode == 0
    assert re.fullmatch(rb"listening on ws://127\.0\.0\.1:\d+/ws\n", done.stdout)
    assert done.stderr == b""


@pytest.mark.parametrize("verb", [("simulate",), ("serve", "{root}"), ("replay", "{root}")])
def test_a_port_that_is_taken(verb, root):
    """
    Names the number and the way out.
    """
    with simulator() as url:
        port = url.rpartition(":")[2].partition("/")[0]
        done = process(*(each.format(root=root) for each in verb), "--port", port)

    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"drift-recorder: 127.0.0.1:{port}: Address already in use; choose another --port")


def test_run_records_and_publishes(tmp_path):
    """
    The happy path in one command, read back by the other verbs.
    """
    with simulator() as url:
        recorded = process("run", config_file(tmp_path, url=url), "--for", "2")

    assert recorded.returncode == 0, recorded.stderr
    assert b"published so far" in recorded.stdout
    assert invoke("verify", tmp_path / "root").exit_code == 0
    assert "so far" in invoke("inspect", tmp_path / "root").stdout
    assert json.loads((tmp_path / "root" / "root.json").read_bytes())["venue"] == "test"
