"""
The conversation with the venue: every rule, in virtual time, and random conversations that must break none.
"""

from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from recorder.capture.session import (
    ALL_SILENT_MAX_S,
    AWAY_S,
    BURST,
    FAULT_OURS_S,
    PROMOTE_AFTER_S,
    PROMOTE_MAX_S,
    Abort,
    Action,
    GoHome,
    Note,
    Send,
    Session,
    SessionSettings,
    ToProbation,
)
from recorder.records import SECOND_NS, NotAcknowledged, Rejected, Requested, Stream
from recorder.venue.protocol import CLOSE_UNSUPPORTED, FrameKind, Peek, ack_text, request

T0 = 1_000 * SECOND_NS
SOL, BTC, ETH = (Stream("perp", s, "orderbook", 1) for s in ("SOL-PERP", "BTC-PERP", "ETH-PERP"))
SOL_TRADES, BTC_TRADES = (msgspec.structs.replace(s, channel="trades", grouping=None) for s in (SOL, BTC))
ERROR = "Error subscribing to channel"
HEARTBEAT = Peek(FrameKind.HEARTBEAT, name="heartbeat")
DATA = Peek(FrameKind.DATA)


def at(seconds: float) -> int:
    """
    That many seconds after the handshake.
    """
    return T0 + round(seconds * SECOND_NS)


def ack(stream: Stream) -> Peek:
    """
    An acknowledgement.
    """
    return Peek(FrameKind.ACK, text=ack_text(stream))


def error(channel: str, text: str = ERROR) -> Peek:
    """
    An error, which names no market.
    """
    return Peek(FrameKind.ERROR, name=channel, text=text)


def sent(actions: list[Action]) -> list[str]:
    """
    What goes to the socket.
    """
    return [a.text for a in actions if isinstance(a, Send)]


def noted(actions: list[Action]) -> list:
    """
    What is journaled, but for requests.
    """
    return [a.fact for a in actions if isinstance(a, Note) and not isinstance(a.fact, Requested)]


def asked(actions: list[Action]) -> list[tuple[str, str, str]]:
    """
    The requests that are journaled: symbol, operation, why.
    """
    return [
        (a.fact.stream.symbol, a.fact.op, a.fact.why)
        for a in actions
        if isinstance(a, Note) and isinstance(a.fact, Requested)
    ]


class Talk:
    """
    A session and its clock: ticks five times a second, heartbeats each 5 s, books each tick for those that speak.
    """

    def __init__(self, streams: list[Stream], *, probation: bool = False, acks: bool = True, **limits: float) -> None:
        limits = {"subscribe_interval_ms": 0} | limits
        self.session = Session(streams, SessionSettings(**limits), Random(1), probation=probation)
        self.acks = acks
        self.t = 0.0
        self.log: list[tuple[float, Action]] = []
        self.take(self.session.opened(T0))

    def take(self, actions: list[Action]) -> list[Action]:
        """
        Note what it wants, and acknowledge what it asks.
        """
        self.log += [(round(self.t, 1), a) for a in actions]
        for fact in [a.fact for a in actions if isinstance(a, Note)] if self.acks else []:
            if isinstance(fact, Requested) and fact.op == "subscribe":
                self.session.heard(at(self.t), ack(fact.stream))
        return actions

    def hear(self, seen: Peek, stream: Stream | None = None) -> list[Action]:
        """
        A frame, now.
        """
        return self.take(self.session.heard(at(self.t), seen, stream))

    def until(self, t: float, *speaking: Stream, heartbeats: bool = True) -> list[Action]:
        """
        Time goes on to `t`; the streams given speak.
        """
        actions: list[Action] = []
        while self.t < t - 1e-6:
            before = self.t
            self.t = round(self.t + 0.2, 3)
            if heartbeats and self.t // 5 > before // 5:
                actions += self.hear(HEARTBEAT)
            for stream in speaking:
                actions += self.hear(DATA, stream)
            actions += self.take(self.session.tick(at(self.t)))
        return actions

    def when(self, kind: type) -> list[float]:
        """
        The seconds of one kind of action.
        """
        return [t for t, a in self.log if isinstance(a, kind)]


# ---- requests


def test_on_opening_everything_is_asked_for_in_order():
    """
    Nothing is resumed by the venue: all over again, in canonical spelling, each request a fact.
    """
    session = Session([SOL, SOL_TRADES, BTC], SessionSettings(subscribe_interval_ms=0), Random(1))

    actions = session.opened(T0)

    assert sent(actions) == [request(SOL), request(SOL_TRADES), request(BTC)]
    assert [type(a) for a in actions] == [Note, Send] * 3
    assert [a.fact for a in actions if isinstance(a, Note)] == [Requested(SOL), Requested(SOL_TRADES), Requested(BTC)]
    assert session.live() == session.streams == [SOL, SOL_TRADES, BTC]


def test_requests_are_paced():
    """
    One each interval; while some wait, the shell ticks faster.
    """
    streams = [Stream("perp", f"M{i}-PERP", "orderbook", 1) for i in range(10)]
    session = Session(streams, SessionSettings(subscribe_interval_ms=20), Random(1))

    counts = [len(sent(session.opened(T0)))]
    assert session.pacing
    counts += [len(sent(session.tick(at(0.01 * i)))) for i in range(1, 19)]

    assert counts == [1] + [0, 1] * 9
    assert not session.pacing


def test_late_ticks_catch_up_a_little_and_never_burst():
    """
    After a pause the venue gets a handful at once, not all.
    """
    streams = [Stream("perp", f"M{i}-PERP", "orderbook", 1) for i in range(50)]
    session = Session(streams, SessionSettings(subscribe_interval_ms=20), Random(1))
    session.opened(T0)

    assert len(sent(session.tick(at(1.5)))) == BURST
    assert len(sent(session.tick(at(1.51)))) == 0
    assert len(sent(session.tick(at(1.52)))) == 1


def test_what_was_not_sent_before_the_end_is_sent_after_the_next_opening():
    """
    No stream is lost between two connections.
    """
    session = Session([SOL, BTC, ETH], SessionSettings(subscribe_interval_ms=1000), Random(1))
    session.opened(T0)
    session.ended(at(0.5), opened=True)

    actions = session.opened(at(2)) + session.tick(at(3)) + session.tick(at(4))

    assert sent(actions) == [request(SOL), request(BTC), request(ETH)]


# ---- replies


def test_acks_are_matched_to_their_requests():
    """
    Then nothing is left to wait for.
    """
    talk = Talk([SOL, SOL_TRADES, BTC])

    assert noted(talk.until(30, SOL, BTC)) == []


def test_an_ack_of_a_coarser_book_looks_the_same_and_goes_to_the_first_asked():
    """
    It does not show the grouping; replies come in order.
    """
    coarse = msgspec.structs.replace(SOL, grouping=100)
    talk = Talk([SOL, coarse], acks=False, ack_timeout_s=2)
    talk.hear(ack(SOL))

    facts = noted(talk.until(3, SOL))

    assert [f.stream for f in facts] == [coarse]


def test_an_error_belongs_to_the_oldest_unanswered_request_of_its_channel():
    """
    It names no market; the order of replies does.
    """
    talk = Talk([SOL, SOL_TRADES, BTC, BTC_TRADES], acks=False)

    assert noted(talk.hear(error("trades"))) == [Rejected(SOL_TRADES, ERROR)]
    talk.hear(ack(SOL))
    assert noted(talk.hear(error("orderbook"))) == [Rejected(BTC, ERROR)]
    assert noted(talk.hear(error("trades"))) == [Rejected(BTC_TRADES, ERROR)]


def test_an_ack_passes_over_the_requests_before_it():
    """
    Replies come in order, so an error after it is not about one it has skipped.
    """
    talk = Talk([SOL, BTC, ETH], acks=False)
    talk.hear(ack(BTC))

    assert noted(talk.hear(error("orderbook"))) == [Rejected(ETH, ERROR)]
    assert noted(talk.hear(error("orderbook"))) == [Rejected(SOL, ERROR)]


def test_a_skipped_request_may_still_be_acknowledged():
    """
    Late is not never.
    """
    talk = Talk([SOL, BTC], acks=False)
    talk.hear(ack(BTC))
    talk.hear(ack(SOL))

    assert noted(talk.until(30, SOL, BTC)) == []


def test_an_error_is_not_about_a_stream_that_speaks():
    """
    Servers of 2023 acknowledge nothing, so all requests stay unanswered; data shows which were heeded.
    """
    talk = Talk([SOL, BTC], acks=False)
    talk.until(0.4, SOL)

    assert noted(talk.hear(error("orderbook"))) == [Rejected(BTC, ERROR)]


@pytest.mark.parametrize(
    "seen",
    [
        error("", "Error subscribing to channel: [object Object]"),
        error("orderbook", "Error unsubscribing from channel"),
        error("candles"),
        error("orderbook", "Maintenance at noon"),
    ],
)
def test_an_error_that_answers_no_request_is_a_fact_without_a_stream(seen):
    """
    The venue's own bus failing (an ack comes as well), the reply to an unsubscribe, a text nobody knows.
    """
    talk = Talk([SOL, BTC], acks=False)

    assert noted(talk.hear(seen)) == [Rejected(None, seen.text)]
    assert talk.session.live() == [SOL, BTC]


def test_after_the_venues_bus_failed_what_brought_nothing_is_asked_for_again():
    """
    Once, though it was acknowledged: a trade stream that is not subscribed looks just like a quiet one.
    """
    talk = Talk([SOL, SOL_TRADES, BTC_TRADES])
    talk.hear(DATA, BTC_TRADES)
    talk.until(2, SOL, BTC_TRADES)
    talk.hear(error("", "Error subscribing to channel: [object Object]"))

    assert asked(talk.until(60, SOL, BTC_TRADES)) == [("SOL-PERP", "subscribe", "the venue's message bus failed")]


def test_the_reply_to_a_request_that_was_taken_back_is_not_taken_for_anothers():
    """
    A removed stream's error still comes in its turn.
    """
    talk = Talk([SOL, BTC], acks=False)
    talk.session.remove(SOL)

    assert noted(talk.hear(error("orderbook"))) == [Rejected(SOL, ERROR)]
    assert talk.session.live() == [BTC]


def test_what_is_refused_is_asked_again_slowly_and_for_ever():
    """
    The market may be listed tomorrow; the others go on.
    """
    talk = Talk([SOL, BTC], acks=False, retry_rejected_s=60)
    talk.hear(ack(SOL))
    talk.hear(error("orderbook"))
    assert talk.session.live() == [SOL]

    actions = talk.until(59, SOL)
    assert asked(actions) == []
    assert asked(talk.until(61, SOL)) == [("BTC-PERP", "subscribe", "refused or unanswered before")]
    assert noted(talk.hear(error("orderbook"))) == [Rejected(BTC, ERROR)]
    assert asked(talk.until(122, SOL)) == [("BTC-PERP", "subscribe", "refused or unanswered before")]


def test_a_refused_stream_that_spoke_before_is_asked_again_too():
    """
    A resubscribe that fails must not lose it.
    """
    talk = Talk([SOL, BTC], acks=False, retry_rejected_s=60)
    talk.hear(ack(SOL))
    talk.hear(ack(BTC))
    talk.until(2, SOL, BTC)
    assert asked(talk.until(7.6, SOL)) == [("BTC-PERP", "subscribe", "no book for 5 s")]
    talk.hear(error("orderbook"))

    assert asked(talk.until(70, SOL)) == [("BTC-PERP", "subscribe", "refused or unanswered before")]


def test_data_outweighs_a_refusal():
    """
    The error was another's; a stream that speaks is watched like any other.
    """
    talk = Talk([SOL, BTC], acks=False)
    talk.hear(error("orderbook"))
    talk.until(2, SOL, BTC)

    assert talk.session.live() == [SOL, BTC]
    assert asked(talk.until(8, BTC)) == [("SOL-PERP", "subscribe", "no book for 5 s")]


def test_no_ack_in_time_is_a_fact_once_and_asked_again_slowly():
    """
    Once a connection: a venue that never acknowledges must not fill the table.
    """
    talk = Talk([SOL, SOL_TRADES], acks=False, ack_timeout_s=10, retry_rejected_s=60)
    talk.hear(ack(SOL))

    facts = noted(talk.until(11, SOL))

    assert [(f.stream, f.requested_ts, round(f.waited_s, 1)) for f in facts] == [(SOL_TRADES, T0, 10.2)]
    actions = talk.until(300, SOL)
    assert noted(actions) == []
    assert len(asked(actions)) == 4


def test_resubscribing_does_not_put_off_the_judgement_of_the_first_request():
    """
    It was not acknowledged in ten seconds, whatever was asked meanwhile.
    """
    talk = Talk([SOL, BTC], acks=False, silent_after_s=4)
    talk.hear(ack(BTC))

    (fact,) = noted(talk.until(10.4, BTC))

    assert isinstance(fact, NotAcknowledged)
    assert (fact.stream, fact.requested_ts) == (SOL, T0)


def test_where_nothing_is_acknowledged_data_is_as_good():
    """
    Servers before 2024.
    """
    talk = Talk([SOL, BTC], acks=False)

    actions = talk.until(60, SOL, BTC)

    assert noted(actions) == []
    assert asked(actions) == []


def test_acks_nobody_waits_for_are_passed_over():
    """
    A second ack, a text of a newer server.
    """
    talk = Talk([SOL])

    assert talk.hear(ack(SOL)) == []
    assert talk.hear(ack(ETH)) == []
    assert talk.hear(Peek(FrameKind.ACK, text="hello")) == []
    assert talk.hear(Peek(FrameKind.UNKNOWN, text="what")) == []
    assert talk.hear(DATA, None) == []


# ---- dead peers


def test_no_heartbeat_for_the_limit_is_a_dead_peer_though_data_comes():
    """
    The vendor's own client uses eleven seconds.
    """
    talk = Talk([SOL])

    actions = talk.until(11, SOL, heartbeats=False)
    assert actions == []
    actions = talk.until(11.4, SOL, heartbeats=False)

    (abort,) = actions[:1]
    # What comes is lost by us, not by the network.
    why = "no heartbeat for 11.2 s, though other frames came: we ended it to begin anew"
    assert abort == Abort("recorder", why)


def stayed(talk: Talk, t: float, *speaking: Stream) -> list[Action]:
    """
    Time goes on to `t` without heartbeats while another copy is away.
    """
    actions: list[Action] = []
    while talk.t < t - 1e-6:
        talk.t = round(talk.t + 0.2, 3)
        for stream in speaking:
            actions += talk.hear(DATA, stream)
        actions += talk.take(talk.session.tick(at(talk.t), stay=True))
    return actions


def test_what_still_brings_data_stays_while_its_like_is_away():
    """
    Without heartbeats, and with every book silent; it goes once it is not alone any more.
    """
    talk = Talk([SOL, SOL_TRADES])

    assert stayed(talk, 40, SOL) == []
    assert [type(a) for a in talk.until(40.4, SOL, heartbeats=False)][:1] == [Abort]

    talk = Talk([SOL, SOL_TRADES])
    talk.until(3, SOL, SOL_TRADES)
    while talk.t < 40:
        talk.hear(HEARTBEAT)
        stayed(talk, talk.t + 5, SOL_TRADES)
    assert talk.when(Abort) == []
    talk.until(talk.t + 1, SOL_TRADES)
    assert [a.cause for _, a in talk.log if isinstance(a, Abort)] == ["recorder"]


def test_a_peer_that_brings_nothing_does_not_stay():
    """
    There is nothing to lose.
    """
    talk = Talk([SOL], acks=False)

    (abort,) = [a for a in stayed(talk, 15) if isinstance(a, Abort)]

    assert (abort.cause, abort.why) == ("network", "nothing heard for 10.6 s")


def test_a_session_is_away_from_its_loss_until_it_has_everything_back():
    """
    The handshake and an answer to each request; or until it has been away for so long that nobody waits.
    """
    talk = Talk([SOL, BTC], acks=False, subscribe_interval_ms=1000)
    assert not talk.session.away(at(1))  # it never was whole

    talk.session.ended(at(5), opened=True)
    assert talk.session.away(at(5.1))
    talk.session.ended(at(20), opened=False)
    assert not talk.session.away(at(5 + AWAY_S + 1))

    talk.session.opened(at(30))
    talk.session.heard(at(30.1), ack(SOL))
    assert talk.session.away(at(30.2))
    talk.session.tick(at(31.1))
    assert talk.session.away(at(31.2))
    talk.session.heard(at(31.3), ack(BTC))
    assert not talk.session.away(at(31.4))


def test_nothing_at_all_for_the_idle_limit_is_a_dead_peer():
    """
    Also with nothing subscribed: heartbeats come from the moment of connecting.
    """
    talk = Talk([])

    talk.until(30)
    actions = talk.until(41, heartbeats=False)

    assert actions == [Abort("network", "nothing heard for 10.6 s")]


@pytest.mark.parametrize("dies_s", [20.0, 20.4, 20.8, 22.0, 24.8])
def test_a_line_that_dies_is_no_silence_of_the_venue(dies_s):
    """
    Whenever the last heartbeat came before: the books fall silent then as well, which is noticed about as soon.
    """
    talk = Talk([SOL, BTC])
    talk.until(dies_s, SOL, BTC)
    talk.acks = False

    talk.until(dies_s + 12, heartbeats=False)

    ((at_s, end),) = [(t, a) for t, a in talk.log if isinstance(a, Abort)]
    assert end.cause == "network"
    assert at_s - dies_s <= 11


def test_nothing_is_sent_after_an_abort_until_the_next_opening():
    """
    The socket is gone; what is due then is asked for by `opened`.
    """
    talk = Talk([SOL])
    talk.until(12, heartbeats=False)
    assert talk.when(Abort) != []

    assert talk.session.tick(at(13)) == []
    talk.session.add(BTC)
    assert not talk.session.pacing
    assert talk.session.tick(at(14)) == []
    assert sent(talk.session.remove(SOL)) == []
    assert sent(talk.session.opened(at(15))) == [request(BTC)]


@pytest.mark.parametrize("first", ["tick", "frames"])
def test_time_in_which_we_stood_still_is_not_the_peers(first):
    """
    A suspended process finds its frames in the socket's buffer; cutting the connection would throw them away.
    """
    talk = Talk([SOL, BTC])
    talk.until(20, SOL, BTC)
    talk.t = 80.0
    if first == "frames":
        talk.hear(DATA, SOL)

    actions = talk.take(talk.session.tick(at(80)))
    actions += talk.until(100, SOL, BTC)

    assert actions == []


def test_a_peer_that_died_while_we_stood_still_is_noticed_after_it():
    """
    The grace is one limit long.
    """
    talk = Talk([SOL])
    talk.until(20, SOL)
    talk.t = 80.0

    talk.until(95, heartbeats=False)

    assert talk.when(Abort)[0] == pytest.approx(80.2 + 10.6, abs=0.3)


# ---- silent books


def test_a_silent_book_is_asked_for_again_once_then_moves_to_probation():
    """
    Heartbeats and the other markets go on, so this connection is not cut for it.
    """
    talk = Talk([SOL, BTC])
    talk.until(20, SOL, BTC)

    actions = talk.until(31.0, BTC)

    assert asked(actions) == [("SOL-PERP", "subscribe", "no book for 5 s")]
    first = next(t for t, a in talk.log if isinstance(a, Note) and a.fact == Requested(SOL, why="no book for 5 s"))
    assert first == 25.2
    moves = [a for a in actions if isinstance(a, ToProbation)]
    assert moves[0] == ToProbation(SOL, "silent after another subscribe")
    assert talk.when(ToProbation)[0] == pytest.approx(30.4, abs=0.1)
    assert talk.when(Abort) == []


def test_a_book_that_speaks_after_the_second_subscribe_stays():
    """
    And has its second subscribe again the next time.
    """
    talk = Talk([SOL, BTC])
    talk.until(10, SOL, BTC)
    talk.until(16, BTC)
    talk.until(20, SOL, BTC)

    actions = talk.until(26, BTC)

    assert asked(actions) == [("SOL-PERP", "subscribe", "no book for 5 s")]
    assert talk.when(ToProbation) == []


def test_quiet_trades_are_not_silent():
    """
    Hours without a trade are ordinary.
    """
    talk = Talk([SOL, SOL_TRADES])

    assert talk.until(3600, SOL) == []


def test_nothing_moves_to_probation_while_no_book_is_healthy():
    """
    With all of them silent it is the connection or the venue.
    """
    talk = Talk([SOL, BTC, SOL_TRADES])
    talk.until(10, SOL, BTC, SOL_TRADES)

    talk.until(60, SOL_TRADES)

    assert talk.when(ToProbation) == []
    assert talk.when(Abort) == [pytest.approx(20.4, abs=0.3)]


def cuts_until(talk: Talk, t: float) -> list[float]:
    """
    Nothing but heartbeats, and a new connection after each cut: the seconds of the cuts.
    """
    begun = len(talk.when(Abort))
    while talk.t < t:
        cuts = len(talk.when(Abort))
        talk.until(talk.t + 1)
        if len(talk.when(Abort)) > cuts:
            talk.take(talk.session.opened(at(talk.t)))
    return talk.when(Abort)[begun:]


def test_with_every_book_silent_the_connection_is_cut_at_growing_intervals():
    """
    A halted venue is not hammered.
    """
    talk = Talk([SOL, BTC], all_silent_retry_s=60)

    cuts = cuts_until(talk, 4000)

    assert cuts[0] == pytest.approx(10.6, abs=0.3)
    gaps = [b - a for a, b in pairwise(cuts)]
    assert gaps == [pytest.approx(gap, abs=1.5) for gap in [60, 120, 240, 480, *[ALL_SILENT_MAX_S] * 5]][: len(gaps)]
    assert len(gaps) >= 8


def test_a_book_that_speaks_makes_the_intervals_short_again():
    """
    The halt is over; the next one is another.
    """
    talk = Talk([SOL], all_silent_retry_s=60)
    cuts_until(talk, 1000)
    talk.until(2000, SOL)

    first, second, *_ = cuts_until(talk, 2200)

    assert first == pytest.approx(2010.4, abs=0.5)
    assert second - first == pytest.approx(60, abs=1.5)


def test_refused_books_do_not_count_as_healthy_or_silent():
    """
    One unknown market never stops the others.
    """
    talk = Talk([SOL, BTC], acks=False)
    talk.hear(ack(SOL))
    talk.hear(error("orderbook"))

    assert [a for a in talk.until(100, SOL) if not isinstance(a, Note | Send)] == []


# ---- probation


def test_on_probation_a_stream_that_speaks_long_enough_goes_home():
    """
    A single book proves little.
    """
    talk = Talk([SOL], probation=True)

    talk.until(60, SOL)

    assert talk.when(GoHome) == [pytest.approx(PROMOTE_AFTER_S + 0.4, abs=0.3)]


def test_a_silence_on_probation_begins_the_trial_anew():
    """
    It must speak without a break.
    """
    talk = Talk([SOL, BTC], probation=True)
    talk.until(20, SOL, BTC)
    talk.until(27, BTC)
    talk.until(60, SOL, BTC)

    homes = [(t, a.stream) for t, a in talk.log if isinstance(a, GoHome)]

    assert homes == [(pytest.approx(30.4, abs=0.3), BTC), (pytest.approx(57.4, abs=0.5), SOL)]


def test_each_return_takes_longer():
    """
    A flapping market does not travel to and fro; four times as long, up to an hour.
    """
    talk = Talk([], probation=True)
    talk.session.add(SOL, why="silent", promote_after_s=PROMOTE_MAX_S / 2)

    talk.until(2 * PROMOTE_MAX_S, SOL)

    first, *later = talk.when(GoHome)
    assert first == pytest.approx(PROMOTE_MAX_S / 2, abs=1)
    assert [round(b - a) for a, b in pairwise([first, *later])] == [PROMOTE_MAX_S]


def test_on_probation_nothing_moves_and_only_all_silent_reconnects():
    """
    Its markets wait there; one that speaks keeps the connection.
    """
    talk = Talk([SOL, BTC], probation=True)

    talk.until(60, BTC)
    assert talk.when(ToProbation) == talk.when(Abort) == []
    talk.until(80)
    assert len(talk.when(Abort)) == 1


# ---- reconnecting


def test_the_first_reconnect_is_within_a_second_and_then_full_jitter_up_to_the_cap():
    """
    Deployments drop all clients at once, and they must not come back at once.
    """
    delays: dict[int, list[float]] = {}
    for seed in range(200):
        session = Session([SOL], SessionSettings(reconnect_first_s=1, reconnect_max_s=30), Random(seed))
        for attempt in range(9):
            delays.setdefault(attempt, []).append(session.ended(at(attempt), opened=False))

    for attempt, of in delays.items():
        ceiling = min(30, 2**attempt)
        assert all(0 <= delay <= ceiling for delay in of)
        assert min(of) < 0.1 * ceiling
        assert max(of) > 0.9 * ceiling


@pytest.mark.parametrize(("lived_s", "ceiling"), [(31, 1), (29, 16)])
def test_only_a_connection_that_lived_makes_the_next_wait_short(lived_s, ceiling):
    """
    A venue that accepts and drops at once is not hammered.
    """
    delays = []
    for seed in range(200):
        session = Session([SOL], SessionSettings(healthy_after_s=30), Random(seed))
        for _ in range(4):
            session.ended(T0, opened=False)
        session.opened(T0)
        delays.append(session.ended(at(lived_s), opened=True))

    assert 0.9 * ceiling < max(delays) <= ceiling


def test_after_a_request_of_ours_was_at_fault_we_do_not_loop():
    """
    Close 1003: the same requests would end the same way.
    """
    session = Session([SOL], SessionSettings(), Random(1))
    session.opened(T0)

    assert session.ended(at(1), opened=True, close_code=CLOSE_UNSUPPORTED) == FAULT_OURS_S


def test_backoff_never_overflows():
    """
    For ever means for ever.
    """
    session = Session([SOL], SessionSettings(), Random(1))

    assert all(session.ended(at(i), opened=False) <= 30 for i in range(5000))


# ---- changes


def test_a_stream_that_is_added_is_asked_for_in_its_turn():
    """
    Without touching the others; adding it twice is adding it once.
    """
    talk = Talk([SOL])
    talk.session.add(BTC, why="configured")
    talk.session.add(BTC)

    actions = talk.until(0.4, SOL)

    assert asked(actions) == [("BTC-PERP", "subscribe", "configured")]
    assert talk.session.streams == [SOL, BTC]


def test_a_stream_that_is_removed_is_unsubscribed_and_forgotten():
    """
    The venue does not acknowledge that; frames on their way change nothing.
    """
    talk = Talk([SOL, BTC])

    assert talk.session.remove(SOL, why="gone") == [Note(Requested(SOL, op="unsubscribe", why="gone"))]
    assert talk.session.remove(SOL) == []
    assert talk.hear(DATA, SOL) == []
    assert talk.until(0.2, BTC) == [Send(request(SOL, "unsubscribe"))]
    assert talk.until(60, BTC) == []
    assert talk.session.streams == [BTC]


def test_what_is_taken_back_and_asked_for_again_ends_up_subscribed():
    """
    The requests go out in the order in which they were meant, whatever the pace.
    """
    talk = Talk([SOL, BTC], subscribe_interval_ms=1000)
    talk.until(3, SOL, BTC)
    talk.session.remove(SOL)
    talk.session.add(SOL)
    talk.session.add(ETH)

    actions = talk.until(10, BTC)

    assert sent(actions)[:3] == [request(SOL, "unsubscribe"), request(SOL), request(ETH)]


@pytest.mark.parametrize("new", [False, True])
def test_a_new_stream_that_cannot_be_asked_for_yet_is_a_fact(new):
    """
    It is expected from now on: what is missed before the connect is a hole, and must not begin earlier. One that only
    changes its connection is known already.
    """
    talk = Talk([SOL])
    talk.session.ended(at(1), opened=True)

    actions = talk.session.add(BTC, why="configured", new=new)

    assert actions == ([Note(Requested(BTC, why="configured"))] if new else [])
    assert sent(talk.session.opened(at(2))) == [request(SOL), request(BTC)]
    assert talk.session.add(ETH, why="configured", new=new) == []


def test_a_stream_that_is_removed_while_the_connection_is_down_is_a_fact():
    """
    It was expected back; the monitor must know that it is not.
    """
    talk = Talk([SOL, BTC])
    talk.session.ended(at(1), opened=True)

    assert talk.session.remove(SOL) == [Note(Requested(SOL, op="unsubscribe"))]
    assert sent(talk.session.opened(at(2))) == [request(BTC)]


def test_a_stream_removed_before_its_turn_is_never_asked_for():
    """
    Only the unsubscribe goes out, which does nothing there.
    """
    session = Session([SOL, BTC], SessionSettings(subscribe_interval_ms=1000), Random(1))
    session.opened(T0)
    session.remove(BTC)

    assert session.tick(at(2)) == [Send(request(BTC, "unsubscribe"))]


# ---- random conversations

STREAMS = [SOL, BTC, ETH, SOL_TRADES, BTC_TRADES]


class Conversations(RuleBasedStateMachine):
    """
    Anything in any order: what is sent, kept and remembered must stay right.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.open = False
        self.wanted: list[Stream] = []
        self.subscribed: set[Stream] = set()
        self.session = Session([], SessionSettings(), Random(0))

    @initialize(
        wanted=st.lists(st.sampled_from(STREAMS), unique=True),
        probation=st.booleans(),
        interval_ms=st.sampled_from([0, 20, 700]),
        seed=st.integers(0, 9),
    )
    def begin(self, wanted, probation, interval_ms, seed):
        """
        A session of either kind.
        """
        limits = SessionSettings(subscribe_interval_ms=interval_ms, retry_rejected_s=40, all_silent_retry_s=30)
        self.session = Session(wanted, limits, Random(seed), probation=probation)
        self.wanted = list(wanted)

    def perform(self, actions: list[Action]) -> None:
        """
        What the shell does with them.
        """
        for action in actions:
            match action:
                case Send(text):
                    assert self.open, "sent while there is no connection"
                    stream = next(s for s in STREAMS if text in {request(s), request(s, "unsubscribe")})
                    if text == request(stream):
                        assert stream in self.wanted, "asked for what nobody wants"
                        self.subscribed.add(stream)
                    else:
                        self.subscribed.discard(stream)
                case Note(fact):
                    msgspec.json.encode(fact)
                case Abort():
                    assert self.open
                    self.open = False
                    self.subscribed.clear()
                case ToProbation(stream) | GoHome(stream):
                    assert stream in self.wanted
                    if isinstance(action, ToProbation):
                        self.wanted.remove(stream)
                        self.perform(self.session.remove(stream))

    @rule()
    def opened(self):
        """
        The handshake succeeds.
        """
        if not self.open:
            self.open = True
            self.subscribed.clear()
            self.perform(self.session.opened(self.now))

    @rule(code=st.sampled_from([None, 1000, 1003, 1008]))
    def ended(self, code):
        """
        The socket is gone.
        """
        delay_s = self.session.ended(self.now, opened=self.open, close_code=code)
        self.open = False
        self.subscribed.clear()
        assert 0 <= delay_s <= FAULT_OURS_S

    @rule(step_s=st.sampled_from([0.02, 0.2, 1.0, 1.9, 2.5, 6.0, 12.0, 100.0]))
    def tick(self, step_s):
        """
        Time goes on.
        """
        self.now += round(step_s * SECOND_NS)
        self.perform(self.session.tick(self.now))

    @rule(speaking=st.sets(st.sampled_from(STREAMS)), seconds=st.integers(1, 40))
    def live(self, speaking, seconds):
        """
        A stretch in which some streams speak and heartbeats come.
        """
        for step in range(seconds * 5):
            self.now += SECOND_NS // 5
            if step % 25 == 0:
                self.perform(self.session.heard(self.now, HEARTBEAT))
            for stream in speaking & self.subscribed:
                self.perform(self.session.heard(self.now, DATA, stream))
            self.perform(self.session.tick(self.now))

    @rule(
        seen=st.sampled_from(
            [
                HEARTBEAT,
                DATA,
                Peek(FrameKind.UNKNOWN),
                Peek(FrameKind.UNDECODABLE),
                Peek(FrameKind.ACK, text="?"),
                *(ack(s) for s in STREAMS),
                error("orderbook"),
                error("trades"),
                error("orderbook", "?"),
                error("", ERROR),
            ]
        ),
        stream=st.sampled_from([None, *STREAMS]),
    )
    def heard(self, seen, stream):
        """
        Any frame.
        """
        actions = self.session.heard(self.now, seen, stream if seen is DATA else None)
        assert not sent(actions)
        self.perform(actions)

    @rule(stream=st.sampled_from(STREAMS))
    def add(self, stream):
        """
        A stream is wanted.
        """
        self.session.add(stream, why="test")
        if stream not in self.wanted:
            self.wanted.append(stream)

    @rule(stream=st.sampled_from(STREAMS))
    def remove(self, stream):
        """
        A stream is wanted no more.
        """
        if stream in self.wanted:
            self.wanted.remove(stream)
        self.perform(self.session.remove(stream))

    @invariant()
    def no_stream_is_lost(self):
        """
        What is wanted is carried; while the connection is open each of them was asked for or will be, in time.
        """
        assert self.session.streams == self.wanted
        if self.open and not self.session.pacing:
            assert set(self.wanted) == self.subscribed
        assert set(self.session.live()) <= set(self.wanted)

    def teardown(self):
        """
        At the end all is asked for, on a venue that answers.
        """
        self.ended(None)
        self.opened()
        for _ in range(50):
            self.now += SECOND_NS // 10
            self.perform(self.session.heard(self.now, HEARTBEAT))
            self.perform(self.session.tick(self.now))
        assert set(self.wanted) == self.subscribed
        assert not self.session.pacing


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
