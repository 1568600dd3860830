"""
The log: lines that cannot be forged, in three forms, without secrets and without floods.
"""

import io
import json
import logging
import os
import re
import subprocess
import sys
import time

import pytest

from recorder import logs
from recorder.records import SECOND_NS


@pytest.fixture(autouse=True)
def put_back():
    """
    The root logger as it was.
    """
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


@pytest.fixture
def now(monkeypatch):
    """
    Seconds on the monotonic clock, set by the test.
    """
    at = [0.0]
    monkeypatch.setattr(logs, "monotonic_ns", lambda: int(at[0] * SECOND_NS))
    return at


def logging_to(form="text", level="info"):
    """
    (logger, what was written).
    """
    written = io.StringIO()
    logs.set_up(level, form=form, stream=written)
    return logging.getLogger("recorder.test"), written


HOSTILE = "Error \x1b[31m\n2026-11-27 00:00:00.000Z CRITICAL forged\r\u2028\x00 " + "x" * 10_000


def test_what_came_from_outside_is_one_line_in_every_form():
    """
    Not two, not coloured, not endless.
    """
    for form in ("text", "json"):
        log, written = logging_to(form)
        log.warning("the venue says %s", HOSTILE)
        (line,) = written.getvalue().splitlines()
        assert line.isprintable()
        assert len(line) < 3000


def test_text_has_the_time_in_utc_and_the_level():
    """
    As it always had.
    """
    log, written = logging_to()
    log.info("hello %d", 5)
    log.debug("not this")

    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z INFO    hello 5\n", written.getvalue())


def test_json_has_the_fields():
    """
    For machines: what, where, why, without parsing words.
    """
    log, written = logging_to("json")
    log.warning("silent", extra={"fields": {"event": "silent", "symbol": "SOL-PERP", "connection": 0, "channel": None}})

    told = json.loads(written.getvalue())

    assert told.pop("ts").endswith("Z")
    assert told == {
        "level": "warning",
        "logger": "recorder.test",
        "message": "silent",
        "event": "silent",
        "symbol": "SOL-PERP",
        "connection": 0,
    }


def fails():
    """
    Raise with a hostile text.
    """
    raise ValueError(HOSTILE)


def test_a_traceback_is_kept_and_cannot_forge_a_line():
    """
    Indented in text; a member in JSON.
    """
    log, written = logging_to()
    other, as_json = None, None
    try:
        fails()
    except ValueError:
        log.exception("our own fault")
        other, as_json = logging_to("json")
        other.exception("our own fault")

    lines = written.getvalue().splitlines()
    told = json.loads(as_json.getvalue())

    assert all(re.match(r"\d{4}-\d\d-\d\d .{12}Z ERROR   ", line) for line in lines)
    assert any("in fails" in line for line in lines)
    assert any("in fails" in line for line in told["traceback"])


def test_under_the_journal_each_line_has_its_priority(tmp_path, monkeypatch):
    """
    And no time, which the journal has. Only if standard error is still the one systemd opened.
    """
    with (tmp_path / "stderr").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.set_up("debug", stream=stream)
        log = logging.getLogger("recorder.test")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "at %d", level)
        stream.seek(0)
        lines = stream.read().splitlines()

    assert lines == ["<7>at 10", "<6>at 20", "<4>at 30", "<3>at 40", "<2>at 50"]
    assert not logs.goes_to_journal(io.StringIO(), os.environ)
    with (tmp_path / "another").open("w") as other:
        assert not logs.goes_to_journal(other, os.environ)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_of_an_address_is_logged(form):
    """
    Neither its query nor a password in it, wherever it stands in a line.
    """
    log, written = logging_to(form)
    log.warning("connection 0: attempt 1 to %s: refused", "wss://h/ws?api_key=s3cret&x=1")
    log.warning("post to https://user:s3cret@hooks.example/T?token=s3cret failed")

    assert "s3cret" not in written.getvalue()
    assert "wss://h/ws?…" in written.getvalue()


def test_a_flood_of_one_kind_is_counted(now):
    """
    Other kinds go on; the count is told when the minute is over, and then it begins anew.
    """
    log, written = logging_to()
    for number in range(500):
        log.warning("dropped %d", number)
    log.warning("another")
    first = written.getvalue().splitlines()
    now[0] = 61
    log.warning("dropped again")
    later = written.getvalue().splitlines()[len(first) :]

    assert len(first) == logs.BURST + 1
    assert len(later) == 2
    assert f"… and {500 - logs.BURST} more like it within 60 s, the last: dropped 499" in later[0]
    assert " WARNING " in later[0]


def test_lines_of_one_kind_are_told_by_their_key(now):
    """
    Events of all kinds share a template.
    """
    log, written = logging_to()
    for number in range(100):
        log.warning("%s: %s", "silent", number, extra={"kind_of_line": "silent"})
    log.warning("%s: %s", "disconnected", 1, extra={"kind_of_line": "disconnected"})

    assert written.getvalue().count("silent") == logs.BURST
    assert written.getvalue().count("disconnected") == 1


def test_kinds_are_bounded(now):
    """
    However many templates there are.
    """
    log, _ = logging_to()
    for number in range(3 * logs.MAX_KINDS):
        log.info("x", extra={"kind_of_line": f"kind {number}"})

    (limiter,) = logging.getLogger().handlers[0].filters
    assert len(limiter._windows) <= logs.MAX_KINDS


def test_the_count_does_not_wait_for_another_line(now):
    """
    There may be none for hours: a timer tells it.
    """
    written = io.StringIO()
    handler = logs._Handler(written)
    handler.limit(logs.Limiter(handler, burst=1, window_s=0.05))
    for number in range(3):
        handler.handle(logging.LogRecord("x", logging.WARNING, "", 0, "dropped %d", (number,), None))
    now[0] = 0.05

    deadline = time.monotonic() + 20
    while "more like it" not in written.getvalue():
        assert time.monotonic() < deadline, written.getvalue()
        time.sleep(0.01)

    assert "… and 2 more like it" in written.getvalue()
    assert "the last: dropped 2" in written.getvalue()


def test_the_count_is_told_at_the_end():
    """
    A process that ends within the minute says what it held back.
    """
    script = "import logging; from recorder import logs; logs.set_up('info'); log = logging.getLogger('x')\n"
    script += "for n in range(40): log.warning('dropped %d', n)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"… and {40 - logs.BURST} more like it within 60 s, the last: dropped 39" in done.stderr.splitlines()[-1]
