"""
One connection's conversation with the venue, as a pure state machine: frames and time in, actions out.

The shell (`client.py`) owns the socket: it calls `opened` when the handshake succeeded, `heard` for each frame,
`tick` several times a second, `ended` when the socket is gone, and performs the actions it is handed. Time is an
argument everywhere: integer ns of a clock that never steps back.

Rules, with their reasons in `venue/protocol.py`:

* Requests are paced. Replies come in their order, and errors name no market: an error belongs to the oldest request of
  its channel that is unanswered. An acknowledgement passes over the requests before it, so these come last; so do those
  whose data comes already. An unsubscribe has no reply.
* What is not acknowledged in time or refused is a fact, and is asked for again slowly, for ever. Data is as good as an
  acknowledgement, and better than an error.
* No heartbeat for 11 s, or nothing at all for the idle limit: the peer is dead, whatever the socket says. Time in which
  we stood still ourselves does not count.
* After `Abort` nothing is sent until the next `opened`.
* A silent book is asked for again once; still silent, it moves to the probation connection, so that its markets'
  reconnects never cost healthy ones a frame. Only when *every* book is silent does a connection reconnect for it, at
  growing intervals: a halted venue is not hammered.
* Where everything is recorded more than once, copies are cut one after the other: while one is away, the next stays,
  whatever it lacks, as long as it brings anything at all. What still came there is lost by no one but us.
"""

from collections import deque
from random import Random
from typing import Literal

import msgspec

from recorder.records import SECOND_NS, Cause, Fact, NotAcknowledged, Rejected, Requested, Stream
from recorder.venue.protocol import BOOK_CHANNELS, CLOSE_UNSUPPORTED, FrameKind, Peek, ack_text, request

PROMOTE_AFTER_S = 30.0
"""A stream that speaks on probation for this long goes home; four times as long after each return."""
PROMOTE_MAX_S = 3600.0
ALL_SILENT_MAX_S = 600.0
FAULT_OURS_S = 300.0
"""After close 1003 the request was at fault: another at once would loop."""
AWAY_S = 60.0
"""A copy that has been down, or has not been heeded, for this long is nothing to wait for."""
STALL_S = 2.0
"""Between two ticks: we stood still, and what came meanwhile is still to be read."""
STRAY_ERRORS = 100
"""Errors that answer no request of ours and are noted, at once; then one a second. The frames are journaled anyway."""
BURST = 5
"""Requests sent at once, at most, to catch up when ticks come late."""


class SessionSettings(msgspec.Struct, frozen=True):
    """
    Limits of a conversation; see `config.py` for what they mean.
    """

    heartbeat_timeout_s: float = 11.0
    idle_timeout_s: float = 10.5
    silent_after_s: float = 5.0
    ack_timeout_s: float = 10.0
    subscribe_interval_ms: int = 20
    retry_rejected_s: float = 300.0
    reconnect_first_s: float = 1.0
    reconnect_max_s: float = 30.0
    healthy_after_s: float = 30.0
    all_silent_retry_s: float = 60.0


class Send(msgspec.Struct, frozen=True):
    """
    Write this text to the socket.
    """

    text: str


class Note(msgspec.Struct, frozen=True):
    """
    Journal this fact.
    """

    fact: Fact


class Abort(msgspec.Struct, frozen=True):
    """
    Cut the connection at once: never wait for a polite close of a peer that may be dead.
    """

    cause: Cause
    why: str


class ToProbation(msgspec.Struct, frozen=True):
    """
    Carry this stream on the probation connection from now on.
    """

    stream: Stream
    why: str


class GoHome(msgspec.Struct, frozen=True):
    """
    This stream speaks on probation: subscribe it on its own connection again.
    """

    stream: Stream


Action = Send | Note | Abort | ToProbation | GoHome


_Op = Literal["subscribe", "unsubscribe"]


class _Want(msgspec.Struct):
    """
    One stream this connection should carry.
    """

    stream: Stream
    state: Literal["queued", "asked", "live", "refused"] = "queued"
    asked: int = 0
    last: int = 0
    """Last data frame on this connection; 0 for none."""
    speaks_since: int = 0
    resubscribed: bool = False
    complained: bool = False
    retry_at: int = 0
    doubted: int = 0
    """When the venue said that some request had failed, and it may have been this one; 0 if it never did."""
    promote_after_s: float = PROMOTE_AFTER_S
    why: str = ""


class _Request(msgspec.Struct):
    """
    A subscribe that went out and has no reply yet.
    """

    stream: Stream
    sent: int
    passed: bool = False
    """A later one was acknowledged before it."""


class Session:
    """
    The state machine of one configured connection; survives its reconnects.
    """

    def __init__(
        self, streams: list[Stream], settings: SessionSettings, random: Random, *, probation: bool = False
    ) -> None:
        """
        Args:
            streams: what to subscribe, in this order.
            settings: limits.
            random: for jitter.
            probation: this is the connection for silent streams: they stay, and go home when they speak.
        """
        self._settings = settings
        self._silent_ns = int(settings.silent_after_s * SECOND_NS)
        self._random = random
        self._probation = probation
        self._wants = {stream: _Want(stream) for stream in streams}
        self._queue: deque[tuple[_Op, Stream]] = deque()
        self._unanswered: deque[_Request] = deque()
        self._open = False
        self._opened = 0
        self._last_heartbeat = 0
        self._last_frame = 0
        self._last_tick = 0
        self._resumed = 0
        """When we went on after standing still: no silence is counted from before."""
        self._next_send = 0
        self._failures = 0
        self._stray_errors = 0.0
        self._stray_last = 0
        self._all_silent_wait_s = 0.0
        self._all_silent_next = 0
        self._last_data = 0
        self._data_since = 0
        """Since when data came with no longer pause than a silence."""
        self._left: int | None = None
        """When it was last lost, until it is whole again; None before the first time."""

    @property
    def streams(self) -> list[Stream]:
        """
        What this connection should carry, in order.
        """
        return list(self._wants)

    @property
    def pacing(self) -> bool:
        """
        Requests are waiting for their turn: tick soon.
        """
        return self._open and bool(self._queue)

    def live(self) -> list[Stream]:
        """
        The streams asked for on the open connection.
        """
        return [want.stream for want in self._wants.values() if want.state in {"asked", "live"}]

    def recorded(self) -> list[Stream]:
        """
        The streams that are acknowledged, or bring data, on the open connection.
        """
        return [want.stream for want in self._wants.values() if want.state == "live"] if self._open else []

    def away(self, now: int) -> bool:
        """
        Whether it was lost a moment ago and has not everything back: the handshake, and an answer to each request.
        """
        if not self._wants or self._left is None or now - self._left > AWAY_S * SECOND_NS:
            return False
        limit_ns = int(self._settings.ack_timeout_s * SECOND_NS)
        return not self._open or bool(self._queue) or any(now - r.sent < limit_ns for r in self._unanswered)

    # ---- the socket's life

    def opened(self, now: int) -> list[Action]:
        """
        The handshake succeeded: ask for everything.
        """
        self._open = True
        self._opened = self._last_heartbeat = self._last_frame = now
        self._last_tick = self._resumed = self._next_send = now
        self._unanswered.clear()
        self._queue.clear()
        for want in self._wants.values():
            want.state = "queued"
            want.last = want.speaks_since = want.retry_at = want.doubted = 0
            want.resubscribed = want.complained = False
            want.why = ""
            self._queue.append(("subscribe", want.stream))
        return self._send_due(now)

    def ended(self, now: int, *, opened: bool, close_code: int | None = None) -> float:
        """
        The connection is gone, or could not be made. Returns the seconds to wait before the next attempt.

        Full jitter: deployments drop all clients at once, and they must not come back at once.
        """
        if opened:
            self._gone(now)
        settings = self._settings
        if opened and now - self._opened >= settings.healthy_after_s * SECOND_NS:
            self._failures = 0
        ceiling = min(settings.reconnect_max_s, settings.reconnect_first_s * 2 ** min(self._failures, 16))
        self._failures += 1
        if close_code == CLOSE_UNSUPPORTED:
            return FAULT_OURS_S
        return self._random.uniform(0, ceiling)

    # ---- frames

    def heard(self, now: int, seen: Peek, stream: Stream | None = None) -> list[Action]:
        """
        A frame came.

        Args:
            now: its receive time.
            seen: its kind and members.
            stream: for data: the stream it belongs to, as the monitor resolved it; None if nobody asked for it.
        """
        self._last_frame = now
        if seen.kind == FrameKind.DATA:
            want = self._wants.get(stream) if stream is not None else None
            # Queued and yet heard: on its way from before an unsubscribe that has been taken back.
            if want is not None and want.state != "queued":
                self._spoke(want, now)
            return _NOTHING
        if seen.kind == FrameKind.HEARTBEAT:
            self._last_heartbeat = now
        elif seen.kind == FrameKind.ACK:
            self._acknowledged(seen.text)
        elif seen.kind == FrameKind.ERROR:
            return self._refused(now, seen)
        return _NOTHING

    def _spoke(self, want: _Want, now: int) -> None:
        if now - self._last_data > self._silent_ns:
            self._data_since = now
        self._last_data = now
        if not want.last or want.resubscribed:
            want.speaks_since = now
            want.resubscribed = False
        want.last = now
        if want.state != "live":
            # Whatever was said of the request, it was heeded.
            want.state = "live"
            want.retry_at = 0
        if want.stream.channel in BOOK_CHANNELS:
            self._all_silent_wait_s = 0.0

    def _acknowledged(self, text: str) -> None:
        request_ = next((r for r in self._unanswered if ack_text(r.stream) == text), None)
        if request_ is None:
            return
        for earlier in self._unanswered:
            if earlier is request_:
                break
            earlier.passed = True
        self._unanswered.remove(request_)
        want = self._wants.get(request_.stream)
        if want is not None and want.state != "queued":
            want.state = "live"
            want.retry_at = 0
            want.complained = False

    def _refused(self, now: int, seen: Peek) -> list[Action]:
        if not seen.name and seen.text.startswith("Error subscribing"):
            # The venue's own message bus failed. It acknowledges all the same, and does not say what; a silent book is
            # asked for again anyway, but a trade stream would be silent for ever.
            for each in self._wants.values():
                if each.state in {"asked", "live"} and each.last <= each.asked:
                    each.doubted = now
        asked = [r for r in self._unanswered if r.stream.channel == seen.name]
        if not asked or not seen.text.startswith("Error subscribing"):
            self._stray_errors = max(self._stray_errors - self._seconds_since(self._stray_last, now), 0) + 1
            self._stray_last = now
            return [Note(Rejected(None, seen.text))] if self._stray_errors <= STRAY_ERRORS else _NOTHING
        # The oldest of the likeliest: `min` keeps the order of what is equal.
        refused = min(asked, key=lambda r: (r.passed, self._heeded(r)))
        self._unanswered.remove(refused)
        want = self._wants.get(refused.stream)
        if want is not None and not self._heeded(refused):
            want.state = "refused"
            want.retry_at = now + int(self._settings.retry_rejected_s * SECOND_NS)
        return [Note(Rejected(refused.stream, seen.text))]

    def _heeded(self, request_: _Request) -> bool:
        """
        Whether data came after a request, which is as good as an acknowledgement.
        """
        want = self._wants.get(request_.stream)
        return want is not None and want.last > request_.sent

    # ---- time

    def tick(self, now: int, *, stay: bool = False) -> list[Action]:
        """
        Time has come to `now`: send what is due, judge what is overdue.

        `stay`: another copy of these streams is away, so what still comes here is all there is.
        """
        if not self._open:
            return []
        if now - self._last_tick > STALL_S * SECOND_NS:
            self._resumed = now
        self._last_tick = now
        settings = self._settings
        quiet_s = self._seconds_since(self._last_heartbeat, now)
        idle_s = self._seconds_since(self._last_frame, now)
        if quiet_s > settings.heartbeat_timeout_s and not (stay and idle_s < settings.silent_after_s):
            why = f"no heartbeat for {quiet_s:.1f} s"
            if idle_s < settings.silent_after_s:
                # Then what is lost until we are back, we lost: the peer was not dead.
                return [self._abort(now, "recorder", f"{why}, though other frames came: we ended it to begin anew")]
            return [self._abort(now, "network", why)]
        if idle_s > settings.idle_timeout_s:
            return [self._abort(now, "network", f"nothing heard for {idle_s:.1f} s")]
        actions = self._overdue(now)
        actions += self._silent(now, stay=stay)
        if self._open:
            actions += self._send_due(now)
        return actions

    def _seconds_since(self, instant: int, now: int) -> float:
        return (now - max(instant, self._resumed)) / SECOND_NS

    def _abort(self, now: int, cause: Cause, why: str) -> Abort:
        self._gone(now)
        return Abort(cause, why)

    def _gone(self, now: int) -> None:
        if self._open:
            self._left = now
        self._open = False

    def _send_due(self, now: int) -> list[Action]:
        actions: list[Action] = []
        interval = self._settings.subscribe_interval_ms * 1_000_000
        self._next_send = max(self._next_send, now - (BURST - 1) * interval)
        while self._queue and self._next_send <= now:
            op, stream = self._queue.popleft()
            want = self._wants.get(stream)
            if op == "unsubscribe":
                actions.append(Send(request(stream, op)))
            elif want is not None:
                actions += self._ask(want, now)
            self._next_send += interval
        return actions

    def _ask(self, want: _Want, now: int) -> list[Action]:
        want.asked = now
        want.retry_at = 0
        if want.state != "live":
            want.state = "asked"
        self._unanswered.append(_Request(want.stream, now))
        fact = Requested(want.stream, why=want.why)
        want.why = ""
        return [Note(fact), Send(request(want.stream))]

    def _ask_again(self, want: _Want, why: str) -> None:
        want.why = why
        if ("subscribe", want.stream) not in self._queue:
            self._queue.append(("subscribe", want.stream))

    def _overdue(self, now: int) -> list[Action]:
        """
        Judge the requests that nobody answered in time, and ask again for what was refused long enough ago.
        """
        actions: list[Action] = []
        limit_s, retry_ns = self._settings.ack_timeout_s, int(self._settings.retry_rejected_s * SECOND_NS)
        while self._unanswered and self._seconds_since(self._unanswered[0].sent, now) > limit_s:
            request_ = self._unanswered.popleft()
            want = self._wants.get(request_.stream)
            # Servers of 2023 acknowledged nothing: data is as good.
            if want is None or want.state != "asked":
                continue
            want.retry_at = want.retry_at or now + retry_ns
            if not want.complained:
                want.complained = True
                waited_s = (now - request_.sent) / SECOND_NS
                actions.append(Note(NotAcknowledged(request_.stream, request_.sent, waited_s)))
        for want in self._wants.values():
            if want.retry_at and now >= want.retry_at:
                want.retry_at = 0
                self._ask_again(want, "refused or unanswered before")
            if want.doubted and self._seconds_since(want.doubted, now) > limit_s:
                want.doubted = 0
                if want.last <= want.asked:
                    self._ask_again(want, "the venue's message bus failed")
        return actions

    def _silent(self, now: int, *, stay: bool) -> list[Action]:
        limit_s = self._settings.silent_after_s
        books = [w for w in self._wants.values() if w.stream.channel in BOOK_CHANNELS and w.state in {"asked", "live"}]
        silent = [w for w in books if self._seconds_since(max(w.asked, w.last), now) > limit_s]
        actions: list[Action] = []
        if self._probation:
            for want in books:
                if want not in silent and want.last and now - want.speaks_since > want.promote_after_s * SECOND_NS:
                    want.promote_after_s = min(want.promote_after_s * 4, PROMOTE_MAX_S)
                    want.speaks_since = now
                    actions.append(GoHome(want.stream))
        if not silent:
            return actions
        again = [w for w in silent if not w.resubscribed]
        for want in again:
            want.resubscribed = True
            want.asked = now
            self._ask_again(want, f"no book for {limit_s:g} s")
        hopeless = [w for w in silent if w not in again]
        if not hopeless:
            return actions
        if len(hopeless) == len(books):
            if not stay:
                actions += self._all_silent(now, max(w.last for w in books))
        elif not self._probation and len(silent) < len(books):
            actions += [ToProbation(w.stream, "silent after another subscribe") for w in hopeless]
        return actions

    def _all_silent(self, now: int, since: int) -> list[Action]:
        if now < self._all_silent_next:
            return []
        if self._seconds_since(self._last_frame, now) > self._settings.heartbeat_timeout_s / 2:
            # Not even the heartbeat that was due: the line may be dead, which its own limits tell soon.
            return []
        comes = self._last_data > max(since, self._opened) + self._silent_ns
        if comes and now - self._data_since <= self._silent_ns:
            # Other data is just coming back, and the books may follow.
            return []
        first = self._settings.all_silent_retry_s
        self._all_silent_wait_s = min(self._all_silent_wait_s * 2, ALL_SILENT_MAX_S) or first
        self._all_silent_next = now + int(self._all_silent_wait_s * SECOND_NS)
        why = "every book is silent on a connection that is open"
        if comes:
            # What of it is lost until we are back, we lost.
            return [self._abort(now, "recorder", f"{why}, though other data came: we ended it to begin anew")]
        return [self._abort(now, "venue", why)]

    # ---- changes

    def add(
        self, stream: Stream, *, why: str = "", promote_after_s: float = PROMOTE_AFTER_S, new: bool = False
    ) -> list[Action]:
        """
        Carry another stream; it is asked for in its turn.

        Args:
            stream: not carried yet; else nothing happens.
            why: for the record.
            promote_after_s: on probation: how long it must speak before it goes home.
            new: nobody has carried it before. It is expected from now on, so that is a fact also while nothing can be
                asked for.
        """
        if stream in self._wants:
            return []
        self._wants[stream] = _Want(stream, why=why, promote_after_s=promote_after_s)
        if self._open:
            self._queue.append(("subscribe", stream))
            return []
        return [Note(Requested(stream, why=why))] if new else []

    def remove(self, stream: Stream, *, why: str = "") -> list[Action]:
        """
        No longer carry a stream. The venue does not acknowledge an unsubscribe; replies to requests before still come.
        """
        if self._wants.pop(stream, None) is None:
            return []
        if ("subscribe", stream) in self._queue:
            self._queue.remove(("subscribe", stream))
        if self._open:
            # Unsubscribing from what was not subscribed does nothing.
            self._queue.append(("unsubscribe", stream))
        # Noted also while nothing is asked for on this connection: it was on the one before, and is expected back.
        return [Note(Requested(stream, op="unsubscribe", why=why))]


_NOTHING: list[Action] = []
