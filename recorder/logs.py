"""
The log: one line for each thing that matters, on standard error, as text or JSON.

* Whatever stands in a line that came from outside cannot end it, forge another, or fill the disk: control characters
  are escaped, and it is cut. The query of an address, which may hold a key, is left out.
* Under systemd's journal a line begins with its priority (`<4>`, see sd-daemon(3)) instead of a time, which the journal
  has itself.
* More than so many lines of one kind within a minute are counted instead; the count is told when that minute is over,
  by a timer, and at the end of the process.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from recorder.clock import monotonic_ns
from recorder.quality.events import printable
from recorder.records import SECOND_NS

Format = Literal["auto", "text", "json"]

LONGEST_LINE = 2000
BURST = 30
"""Lines of one kind within …"""
WINDOW_S = 60.0
MAX_KINDS = 1000
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_QUERY = re.compile(r"((?:wss?|https?)://[^\s?\"'<>]{1,300})\?[^\s\"'<>]+")
_USER = re.compile(r"((?:wss?|https?)://)[^\s/@\"'<>]+@")
_FIELDS = "fields"
"""Attribute of a record: more members for JSON, from `extra={"fields": {…}}`."""
_KIND = "kind_of_line"
"""Attribute of a record: what is counted together, from `extra={"kind_of_line": …}`; else the message's template."""


def set_up(level: str, *, form: Format = "auto", stream: TextIO | None = None) -> None:
    """
    Log to standard error from now on.

    Args:
        level: the least that is logged.
        form: `auto` is text, for systemd's journal if that is where standard error goes.
        stream: in place of standard error.
    """
    to = stream or sys.stderr
    handler = _Handler(to)
    handler.setFormatter(_Json() if form == "json" else _Journal() if goes_to_journal(to, os.environ) else _Text())
    handler.limit(Limiter(handler))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("apscheduler", "websockets", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Failed jobs are told by our own listener, in one line.
    logging.getLogger("apscheduler.executors").setLevel(logging.CRITICAL)


def goes_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Whether a stream is the one that systemd's journal reads: not one it was redirected to since.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def safe(text: str) -> str:
    """
    Fit for a line of the log.
    """
    return printable(_USER.sub(r"\1", _QUERY.sub(r"\1?…", text)), LONGEST_LINE)


class _Handler(logging.StreamHandler[TextIO]):
    """
    Tells at its end, or that of the process, what it held back.
    """

    _limiter: "Limiter | None" = None

    def limit(self, limiter: "Limiter") -> None:
        """
        Have all pass by it.
        """
        self._limiter = limiter
        self.addFilter(limiter)

    def close(self) -> None:
        """
        Say the last words.
        """
        if self._limiter is not None:
            self._limiter.close()
        super().close()


class _Text(logging.Formatter):
    """
    `2026-11-22 16:00:00.123Z WARNING message`, UTC; a traceback below it, indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self.prefix(record) + line for line in self.lines(record))

    def prefix(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z {record.levelname:<7} "

    def lines(self, record: logging.LogRecord) -> list[str]:
        return [safe(record.getMessage()), *(f"  {line}" for line in self.traceback(record))]

    def traceback(self, record: logging.LogRecord) -> list[str]:
        if not record.exc_info:
            return []
        return [safe(line) for line in self.formatException(record.exc_info).splitlines()]


class _Journal(_Text):
    """
    Each line with its priority; one without would be told as information.
    """

    def prefix(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>"


class _Json(_Text):
    """
    One object a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        told: dict[str, Any] = {
            "ts": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": safe(record.getMessage()),
        }
        for name, value in getattr(record, _FIELDS, {}).items():
            if value is not None and name not in told:
                told[name] = safe(value) if isinstance(value, str) else value
        if record.exc_info:
            told["traceback"] = self.traceback(record)
        return msgspec.json.encode(told).decode()


class _Window(msgspec.Struct):
    """
    One kind of line.
    """

    began: int
    told: int = 0
    held: int = 0
    level: int = logging.INFO
    last: str = ""


class Limiter(logging.Filter):
    """
    Lets through so many lines of a kind in a while, and tells how many it did not.
    """

    def __init__(self, handler: logging.Handler, *, burst: int = BURST, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._handler = handler
        self._burst = burst
        self._window_ns = int(window_s * SECOND_NS)
        self._windows: dict[str, _Window] = {}
        # Lines come from several threads, and the counts from the timer's.
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """
        Whether it goes through.
        """
        if record.name == _OURS:
            return True
        with self._lock:
            return self._passes(record, monotonic_ns())

    def close(self) -> None:
        """
        Tell all that is held, however young.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._tell_held(None)

    def _passes(self, record: logging.LogRecord, now: int) -> bool:
        self._tell_held(now)
        kind = str(getattr(record, _KIND, None) or f"{record.name} {record.msg}")
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                self._tell_held(None)
            window = self._windows[kind] = _Window(now)
        if window.told < self._burst:
            window.told += 1
            return True
        window.held += 1
        window.level, window.last = record.levelno, record.getMessage()
        if self._timer is None:
            # There may be no other line for hours.
            self._set_timer(window.began + self._window_ns - now)
        return False

    def _set_timer(self, in_ns: int) -> None:
        self._timer = threading.Timer(max(in_ns, 0) / SECOND_NS, self._on_timer)
        self._timer.daemon = True
        self._timer.start()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
            now = monotonic_ns()
            self._tell_held(now)
            left = [window.began + self._window_ns - now for window in self._windows.values() if window.held]
            if left:
                self._set_timer(min(left))

    def _tell_held(self, now: int | None) -> None:
        """
        Of the windows that are over; of all, without a time.
        """
        for kind, window in list(self._windows.items()):
            if now is not None and now - window.began < self._window_ns:
                continue
            del self._windows[kind]
            if window.held:
                words = (
                    f"… and {window.held} more like it within {self._window_ns // SECOND_NS} s, the last: {window.last}"
                )
                self._handler.handle(logging.LogRecord(_OURS, window.level, "", 0, words, None, None))


_OURS = "recorder.logs"
