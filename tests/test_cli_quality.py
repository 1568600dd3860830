"""
`drift-recorder quality` and `coverage`, on a small lake that was sealed, and on none.
"""

import json
import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from analysis_cases import Writer
from lake_cases import HOUR, NEXT, Run, S, make_root
from recorder import cli_quality
from recorder.cli import main
from recorder.cli_quality import GAPS_FOUND
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS
from recorder.show_quality import label, print_events
from recorder.terminal import WIDTH_OF_A_FILE, PlainConsole, lasting, many


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """
    Two hours: recorded from 10:10 on, down from 10:40 to 10:42, silent over the hour's end, stopped at 11:30.
    """
    root = make_root(tmp_path_factory.mktemp("lake") / "root")
    first = Run(root, HOUR + 600 * S)
    first.connect(HOUR + 600 * S)
    first.hear(HOUR + 601 * S, HOUR + 2400 * S)
    first.close()
    second = Run(root, HOUR + 2520 * S, nonce="bbbbbb")
    second.connect(HOUR + 2520 * S)
    second.hear(HOUR + 2521 * S, NEXT - 20 * S)
    for at in range(NEXT - 20 * S, NEXT + 20 * S, S):  # connected, and nothing comes but heartbeats
        second.put(4, at, b"", -1, 0)
        if at // S % 5 == 0:
            second.frame(at, b'{"channel":"heartbeat"}')
    second.hear(NEXT + 20 * S, NEXT + 1800 * S)
    second.close(NEXT + 1800 * S)
    seal(root, open_hour=True)
    return root


def run(verb: str, *arguments: object, width: int = WIDTH_OF_A_FILE) -> Result:
    """
    Run a verb in a terminal of some width, without colours.
    """
    wide = pytest.MonkeyPatch()
    wide.setattr(cli_quality, "make_console", lambda: PlainConsole(width=width, highlight=False, markup=False))
    try:
        return CliRunner().invoke(main, [verb, *map(str, arguments)], prog_name="drift-recorder")
    finally:
        wide.undo()


def lines(result: Result) -> list[dict[str, Any]]:
    """
    What --json printed.
    """
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- quality


def test_quality_lists_every_event_whole_with_its_evidence(root):
    """
    The silence over the hour's end is one, as long as it really was.
    """
    result = run("quality", root)

    assert result.exit_code == 0
    assert re.search(r"^\d+ events, \d+ of them tell of a gap$", result.stdout, re.MULTILINE)
    (silent,) = re.findall(r"^10:59:39.000 +41.0 s +silent +SOL-PERP books +venue$", result.stdout, re.MULTILINE)
    assert silent
    assert "2 min 01 s  recorder_down" in result.stdout
    assert "    no book for 41.0 s, until the next frame" in result.stdout


def test_what_lasted_at_once_counts_once():
    """
    Of two streams, and of two kinds: no table may add up to more time than there was.
    """
    console = PlainConsole(width=120, highlight=False, markup=False, record=True, file=StringIO())
    of = {"cause": "network", "evidence": "", "missing": None, "gap": True}
    spans = [("silent", 0, 10), ("silent", 4, 14), ("disconnected", 2, 20), ("silent", 30, 31)]
    events = [of | {"kind": kind, "start": HOUR + a * S, "end": HOUR + b * S} for kind, a, b in spans]

    print_events(console, events, left_out=len(events))

    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["disconnected", "network", "1", "18.0", "s", "18.0", "s", "–"] in rows
    assert ["silent", "network", "3", "15.0", "s", "10.0", "s", "–"] in rows
    assert ["every", "gap", "4", "21.0", "s", "18.0", "s"] in rows


def test_a_stream_is_called_as_coverage_calls_it():
    """
    Also one of a coarser grouping.
    """
    console = PlainConsole(width=120, highlight=False, markup=False, record=True, file=StringIO())
    of = {"cause": "venue", "evidence": "", "missing": None, "gap": True, "kind": "silent", "continues": False}
    of |= {"start": HOUR, "end": HOUR + S, "connection": 0, "symbol": "SOL-PERP"}
    channels = ("orderbook", "orderbook/100", "orderbook_indicative/10", "trades")

    print_events(console, [of | {"channel": channel} for channel in channels], left_out=0)

    told = re.findall(r"SOL-PERP (\S+)", console.export_text())
    assert told == ["books", "books/100", "indicative/10", "trades"]
    assert f"SOL-PERP {told[1]}" == label({"symbol": "SOL-PERP", "channel": "orderbook", "grouping": 100})


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("verb", ["quality", "coverage"])
def test_nothing_is_wider_than_the_terminal(root, verb, width):
    """
    80 columns are enough.
    """
    result = run(verb, root, *(["--evidence"] if verb == "coverage" else []), width=width)

    assert result.exit_code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= width


@pytest.mark.parametrize("verb", ["quality", "coverage"])
def test_a_pipe_gets_plain_text(root, verb):
    """
    No colours, no cursor movements.
    """
    result = CliRunner().invoke(main, [verb, str(root)])

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_quality_shows_what_is_asked_for(root):
    """
    By kind, cause, market and time; and what concerns every market with each of them.
    """
    assert {e["kind"] for e in lines(run("quality", root, "--json", "--kind", "silent"))} == {"silent"}
    assert {e["cause"] for e in lines(run("quality", root, "--json", "--cause", "recorder"))} == {"recorder"}
    of_market = lines(run("quality", root, "--json", "--market", "sol-perp"))
    assert {e["symbol"] for e in of_market} == {"SOL-PERP", None}
    before = lines(run("quality", root, "--json", "--to", "2025-03-01T10:30"))
    assert {e["kind"] for e in before} == {"recorder_started", "connected"}
    assert lines(run("quality", root, "--json", "--kind", "overflow")) == []


def test_quality_as_json_has_every_column_and_exact_instants(root):
    """
    Nanoseconds, for programs that join with the lake.
    """
    (event,) = lines(run("quality", root, "--json", "--kind", "silent", "--market", "BTC-PERP"))

    assert (event["start"], event["end"]) == ("2025-03-01T10:59:39.000000000Z", "2025-03-01T11:00:20.000000000Z")
    assert event["gap"] is True
    assert event["continues"] is False
    assert {"event_id", "cause", "scope", "missing", "evidence"} <= set(event)


def test_a_long_list_shows_its_end(root):
    """
    And says so.
    """
    result = run("quality", root, "--limit", 2)
    events = len(lines(run("quality", root, "--json")))

    assert f"The last 2 of {events} (--limit 0 lists all):" in result.stdout
    assert re.search(r"recorder_stopped .*\n.*\n.* 30 min 00 s  recorder_down .* goes on\n.*\n$", result.stdout)
    assert "The last" not in run("quality", root, "--limit", 0).stdout


# ---- coverage


def test_coverage_draws_each_stream_and_adds_its_seconds(root):
    """
    From when the recording began to where it ends; nobody missed what was before.
    """
    result = run("coverage", root, width=80)
    text = result.stdout.splitlines()

    assert result.exit_code == 0
    assert text[0] == "test (mainnet-beta): 2025-03-01 10:00 to 2025-03-01 12:00 UTC, 2 hours"
    (books,) = [line for line in text if re.match(r"SOL-PERP books +[cmMsSu]+$", line)]
    (trades,) = [line for line in text if re.match(r"SOL-PERP trades +[cmMsSu]+$", line)]
    # Cells of two minutes from 10:10: the start, the restart at 10:40, the silence over 11:00, the end at 11:30.
    assert books.split()[-1] == "m" + "c" * 14 + "Mm" + "c" * 7 + "mm" + "c" * 14 + "M" * 15
    assert "c" in trades
    (row,) = [line.split() for line in text if re.match(r"SOL-PERP books +2 ", line)]
    assert row[3] == f"{1799 + 1059 + 1780:,}"
    assert re.search(r"^2025-03-01 +pending +BTC-PERP, SOL-PERP$", result.stdout, re.MULTILINE)


def test_coverage_of_part_of_an_hour_is_about_that_part(root):
    """
    Seconds are those of the range, to the second.
    """
    result = run("coverage", root, "--from", "2025-03-01T10:39", "--to", "2025-03-01T10:43", "--market", "BTC-PERP")

    assert re.search(r"^BTC-PERP books +1 +[\d,]+ +49\.58 % +– +2 min 01 s +– ", result.stdout, re.MULTILINE)
    assert "10:39" in result.stdout


def test_coverage_tells_why(root):
    """
    With --evidence, for each stream and hour.
    """
    result = run("coverage", root, "--evidence", "--channel", "orderbook", width=400)

    assert "SOL-PERP books, 2025-03-01 10:00" in result.stdout
    assert re.search(r"cadence 1000 ms, [\d,]+ of [\d,]+ ticks; heartbeats", result.stdout)
    assert "trades" not in result.stdout.partition("unproven")[2].partition("rows and lost")[0]


def test_coverage_as_json_has_the_stretches(root):
    """
    One object a stream and hour.
    """
    rows = lines(run("coverage", root, "--json", "--market", "SOL-PERP", "--channel", "orderbook"))

    assert [row["start"] for row in rows] == ["2025-03-01T10:00:00.000000000Z", "2025-03-01T11:00:00.000000000Z"]
    assert rows[0]["spans"][0] == {
        "start": "2025-03-01T10:00:00.000000000Z",
        "end": "2025-03-01T10:10:00.000000000Z",
        "state": "missing",
        "why": "not running",
    }
    assert [a["end"] for a in rows[0]["spans"][:-1]] == [b["start"] for b in rows[0]["spans"][1:]]
    assert rows[0]["spans"][-1]["end"] == rows[1]["start"]


# ---- scripts


@pytest.mark.parametrize("verb", ["quality", "coverage"])
@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize(
    ("range_", "code"),
    [
        (["--from", "2025-03-01T10:30", "--to", "2025-03-01T10:50"], GAPS_FOUND),
        (["--from", "2025-03-01T10:45", "--to", "2025-03-01T10:59"], 0),
        (["--to", "2025-03-01T10:09"], 0),
        # The first run began at 10:10, and the last entry is of 11:30.
        (["--from", "2025-03-01T10:05", "--to", "2025-03-01T10:20"], GAPS_FOUND),
        (["--from", "2025-03-01T10:45", "--to", "2025-03-01T10:59", "--market", "BTC-PERP"], 0),
        (["--from", "2025-03-01T11:10", "--to", "2025-03-01T11:20"], 0),
        (["--from", "2025-03-01T11:10", "--to", "2025-03-01T11:50"], GAPS_FOUND),
        (["--from", "2025-03-01T11:10", "--to", "2025-03-01T13:00"], GAPS_FOUND),
    ],
)
def test_a_script_can_ask_whether_there_are_gaps(root, verb, form, range_, code):
    """
    The exit code says so, and the output is the same. Before the first run there was nothing to have a gap in, unless
    it is asked for; and what is not sealed is not known.
    """
    arguments = [root, *range_, *form, "--channel", "orderbook"] if verb == "coverage" else [root, *range_, *form]

    result = run(verb, *arguments, "--fail-on-gaps")

    assert result.exit_code == code, result.output
    assert result.stdout == run(verb, *arguments).stdout


@pytest.mark.parametrize(
    "asked",
    [
        ("--market", "DOGE-PERP"),
        ("--channel", "book"),
        ("--from", "2025-03-01T08"),
    ],
)
def test_what_nobody_recorded_is_a_gap_for_a_script(root, asked):
    """
    A market, a channel or hours of which the lake holds nothing: silence is no proof.
    """
    assert run("coverage", root, *asked, "--fail-on-gaps").exit_code == 10


@pytest.mark.parametrize("verb", ["quality", "coverage"])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--market", "SOLPERP"], 1, r"no market 'SOLPERP'; near: SOL-PERP"),
        (["--from", "yesterday"], 2, r"'--from': 'yesterday' is no instant; write it as 2026-11-22, "),
        (["--from", "2025-03-02", "--to", "2025-03-01"], 1, r"--to \(2025-03-01 00:00\) lies before --from"),
        (["--from", "2030-01-01"], 1, r"nothing from 2030-01-01 00:00 on is sealed yet, the last hour ends 20"),
        (["--from", "2030-01-01", "--to", "2031-01-01"], 1, r"no hour between .* is sealed; sealed are those from"),
        (["--colour"], 2, r"[Nn]o such option"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_in_one_line(root, verb, arguments, code, words):
    """
    With what would be right.
    """
    result = run(verb, root, *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert re.fullmatch(rf"drift-recorder: .*{words}.*\n", result.stderr)


def test_an_unknown_kind_is_refused_with_near_ones():
    """
    A misspelled kind must not look like one that never happened.
    """
    near = run("quality", "x", "--kind", "silence")
    far = run("quality", "x", "--kind", "zzz")

    assert (near.exit_code, far.exit_code) == (2, 2)
    assert "no kind 'silence'; near: silent" in near.stderr
    assert "no kind 'zzz'; there are: recorder_started, " in far.stderr


@pytest.mark.parametrize("verb", ["quality", "coverage"])
def test_a_root_with_nothing_sealed_says_what_to_do(tmp_path, verb):
    """
    And a folder that is no root, that it is none.
    """
    Writer(tmp_path / "root")

    nothing, no_root = run(verb, tmp_path / "root"), run(verb, tmp_path)

    assert (nothing.exit_code, no_root.exit_code) == (1, 3)
    assert re.search(r"no hour is sealed yet; `drift-recorder seal .*root --open` publishes", nothing.stderr)
    assert "is not a data root" in no_root.stderr


def test_earlier_hours_are_left_out_and_counted(tmp_path):
    """
    Unless told otherwise a day is shown, the last.
    """
    writer = Writer(tmp_path)
    for hour in range(30):
        writer.hour(HOUR + hour * HOUR_NS, {})

    result = run("quality", tmp_path)

    assert "24 hours, 6 earlier hours not shown (--from)" in result.stdout
    assert "0 events, none of them tells of a gap" in result.stdout


# ---- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.004, "<0.1 s"),
        (0.4, "0.4 s"),
        (59.99, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3599.9, "1 h 00 min"),
        (11_400, "3 h 10 min"),
        (187_200, "2 d 04 h"),
    ],
)
def test_durations_read_like_a_clock(seconds, words):
    """
    And what lasted at all is not shown as nothing.
    """
    assert lasting(seconds) == words


def test_one_is_singular():
    """
    1 hour.
    """
    assert [many(n, "hour") for n in (0, 1, 2, 1200)] == ["0 hours", "1 hour", "2 hours", "1,200 hours"]
    assert many(2, "entry", "entries") == "2 entries"


def test_a_console_that_is_no_terminal_has_room():
    """
    Tables in a file are not folded to 80 columns.
    """
    assert Console().is_terminal is False
    assert cli_quality.make_console().width == WIDTH_OF_A_FILE
    assert datetime.fromtimestamp(HOUR // S, UTC).hour == 10
