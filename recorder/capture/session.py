"""
One connection's conversation with the venue, as a pure state machine: frames and time in, actions out.

The shell (`client.py`) owns the socket: it calls `opened` when the handshake succeeded, `heard` for each frame,
`tick` several times a second, `ended` when the socket is gone, and performs the actions it is handed. Time is an
argument everywhere: integer ns of the recorder's clock.

Rules, with their reasons in `venue/protocol.py`:

* Replies come in the order of the requests, errors name no market: an error belongs to the oldest unanswered request
  of its channel.
* No heartbeat for 11 s, or nothing at all for the idle limit: the peer is dead, whatever the socket says.
* A silent book is asked for again once; still silent, it moves to the probation connection, so that its markets'
  reconnects never cost healthy ones a frame. Only when *every* book is silent does a connection reconnect for it, at
  growing intervals: a halted venue is not hammered.
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
    promote_after_s: float = PROMOTE_AFTER_S
    why: str = ""


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
        self._random = random
        self._probation = probation
        self._wants = {stream: _Want(stream) for stream in streams}
        self._queue: deque[Stream] = deque()
        self._unanswered: deque[Stream] = deque()
        self._opened = 0
        self._last_heartbeat = 0
        self._last_frame = 0
        self._next_send = 0
        self._failures = 0
        self._all_silent_wait_s = 0.0
        self._all_silent_next = 0

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
        return bool(self._queue)

    def live(self) -> list[Stream]:
        """
        The streams asked for on the open connection.
        """
        return [want.stream for want in self._wants.values() if want.state in {"asked", "live"}]

    # ---- the socket's life

    def opened(self, now: int) -> list[Action]:
        """
        The handshake succeeded: ask for everything.
        """
        self._opened = self._last_heartbeat = self._last_frame = self._next_send = now
        self._unanswered.clear()
        self._queue.clear()
        for want in self._wants.values():
            want.state = "queued"
            want.last = want.speaks_since = want.retry_at = 0
            want.resubscribed = want.complained = False
            want.why = ""
            self._queue.append(want.stream)
        return self._send_due(now)

    def ended(self, now: int, *, opened: bool, close_code: int | None = None) -> float:
        """
        The connection is gone, or could not be made. Returns the seconds to wait before the next attempt.

        Full jitter: deployments drop all clients at once, and they must not come back at once.
        """
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
            if stream is not None:
                want = self._wants.get(stream)
                if want is not None:
                    if not want.last or want.resubscribed:
                        want.speaks_since = now
                    want.last = now
                    want.resubscribed = False
                    if want.state == "asked":
                        want.state = "live"
                    if stream.channel in BOOK_CHANNELS:
                        self._all_silent_wait_s = 0.0
            return _NOTHING
        if seen.kind == FrameKind.HEARTBEAT:
            self._last_heartbeat = now
            return _NOTHING
        if seen.kind == FrameKind.ACK:
            self._acknowledged(seen.text)
        elif seen.kind == FrameKind.ERROR:
            return self._refused(now, seen)
        return _NOTHING

    def _acknowledged(self, text: str) -> None:
        for stream in self._unanswered:
            if ack_text(stream) == text:
                self._wants[stream].state = "live"
                self._wants[stream].complained = False
                self._unanswered.remove(stream)
                return

    def _refused(self, now: int, seen: Peek) -> list[Action]:
        if not seen.text.startswith("Error subscribing"):
            return [Note(Rejected(None, seen.text))]
        # The form without a channel is the venue's own message bus failing: an acknowledgement comes as well.
        stream = next((s for s in self._unanswered if s.channel == seen.name), None)
        if stream is None:
            return [Note(Rejected(None, seen.text))]
        self._unanswered.remove(stream)
        want = self._wants[stream]
        want.state = "refused"
        want.retry_at = now + int(self._settings.retry_rejected_s * SECOND_NS)
        return [Note(Rejected(stream, seen.text))]

    # ---- time

    def tick(self, now: int) -> list[Action]:
        """
        Time has come to `now`: send what is due, judge what is overdue.
        """
        settings = self._settings
        quiet_s = (now - self._last_heartbeat) / SECOND_NS
        if quiet_s > settings.heartbeat_timeout_s:
            return [Abort("network", f"no heartbeat for {quiet_s:.1f} s")]
        idle_s = (now - self._last_frame) / SECOND_NS
        if idle_s > settings.idle_timeout_s:
            return [Abort("network", f"nothing heard for {idle_s:.1f} s")]
        actions = self._overdue(now)
        actions += self._silent(now)
        actions += self._send_due(now)
        return actions

    def _send_due(self, now: int) -> list[Action]:
        actions: list[Action] = []
        interval = self._settings.subscribe_interval_ms * 1_000_000
        while self._queue and self._next_send <= now:
            want = self._wants.get(self._queue.popleft())
            if want is None:
                continue
            actions += self._ask(want, now)
            self._next_send = max(self._next_send + interval, now - SECOND_NS)
        return actions

    def _ask(self, want: _Want, now: int) -> list[Action]:
        want.asked = now
        want.retry_at = 0
        if want.state != "live":
            want.state = "asked"
        if want.stream not in self._unanswered:
            self._unanswered.append(want.stream)
        fact = Requested(want.stream, why=want.why)
        want.why = ""
        return [Note(fact), Send(request(want.stream))]

    def _ask_again(self, want: _Want, why: str) -> None:
        want.why = why
        if want.stream not in self._queue:
            self._queue.append(want.stream)

    def _overdue(self, now: int) -> list[Action]:
        actions: list[Action] = []
        limit = self._settings.ack_timeout_s * SECOND_NS
        for stream in list(self._unanswered):
            want = self._wants[stream]
            if now - want.asked <= limit:
                break
            self._unanswered.popleft()
            want.retry_at = now + int(self._settings.retry_rejected_s * SECOND_NS)
            # Servers of 2023 acknowledged nothing: data is as good.
            if not want.last and not want.complained:
                want.complained = True
                actions.append(Note(NotAcknowledged(stream, want.asked, (now - want.asked) / SECOND_NS)))
        for want in self._wants.values():
            if want.retry_at and now >= want.retry_at and not want.last:
                want.retry_at = 0
                self._ask_again(want, "refused or unanswered before")
        return actions

    def _silent(self, now: int) -> list[Action]:
        limit = int(self._settings.silent_after_s * SECOND_NS)
        books = [w for w in self._wants.values() if w.stream.channel in BOOK_CHANNELS and w.state in {"asked", "live"}]
        silent = [w for w in books if now - max(w.asked, w.last) > limit]
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
            self._ask_again(want, f"no book for {self._settings.silent_after_s:g} s")
        hopeless = [w for w in silent if w not in again]
        if not hopeless:
            return actions
        if len(hopeless) == len(books):
            actions += self._all_silent(now)
        elif not self._probation and len(silent) < len(books):
            actions += [ToProbation(w.stream, "silent after another subscribe") for w in hopeless]
        return actions

    def _all_silent(self, now: int) -> list[Action]:
        if now < self._all_silent_next:
            return []
        first = self._settings.all_silent_retry_s
        self._all_silent_wait_s = min(self._all_silent_wait_s * 2, ALL_SILENT_MAX_S) or first
        self._all_silent_next = now + int(self._all_silent_wait_s * SECOND_NS)
        return [Abort("venue", "every book is silent while heartbeats go on")]

    # ---- changes

    def add(self, stream: Stream, *, why: str = "", promote_after_s: float = PROMOTE_AFTER_S) -> None:
        """
        Carry another stream; it is asked for in its turn.
        """
        if stream not in self._wants:
            self._wants[stream] = _Want(stream, why=why, promote_after_s=promote_after_s)
            self._queue.append(stream)

    def remove(self, stream: Stream) -> list[Action]:
        """
        No longer carry a stream. The venue does not acknowledge an unsubscribe.
        """
        want = self._wants.pop(stream, None)
        if want is None:
            return []
        if stream in self._unanswered:
            self._unanswered.remove(stream)
        if stream in self._queue:
            self._queue.remove(stream)
        if want.state == "queued":
            return []
        return [Note(Requested(stream, op="unsubscribe")), Send(request(stream, "unsubscribe"))]


_NOTHING: list[Action] = []
