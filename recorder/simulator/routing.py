"""
From the publishers to the subscribers: what the server forwards, forgets, and keeps back.

On a single feed the server drops books with a slot lower than the last of their channel, for as long as its process
lives, whoever listened meanwhile: the feed of a channel stays subscribed for ever. With two feeds the servers of Drift
forward everything; that of the relaunch listens to one of them.
"""

from collections.abc import Mapping

import msgspec

from recorder.records import SECOND_NS
from recorder.simulator.clients import Client
from recorder.simulator.frames import data_frame
from recorder.simulator.generations import FEED_LEADS_S, FEED_SILENT_S, Generation
from recorder.simulator.kinds import PublisherDown, RepeatFrames, Silence, SkipFrames, TwoFeeds, WithholdFills, kind_of
from recorder.simulator.ledger import Line
from recorder.simulator.messages import Frame, Log, Output
from recorder.simulator.publisher import BookChannel, Printed, Published, Publisher

_MS = 1_000_000
_FEES: dict[str, object] = {
    "min": 0,
    "low": 0,
    "medium": 1.25,
    "high": 10_000,
    "veryHigh": 1_050_000,
    "unsafeMax": 250_000_000,
}


class Router:
    """
    Subscriptions, memory of slots, choice of feeds.

    Args of the constructor:
        clients: by number; kept by the caller.
    """

    def __init__(
        self, publisher: Publisher, generation: Generation, clients: Mapping[int, Client], *, start: int
    ) -> None:
        self._publisher, self._generation, self._clients = publisher, generation, clients
        self._subscribers: dict[str, dict[int, None]] = {}
        self._plan: list[tuple[Published, list[BookChannel], list[BookChannel]]] | None = None
        """Markets with their channels that have subscribers, and those that only are remembered; firm ones first."""
        self._last_slots: dict[str, int] = {}
        """By channel that was ever subscribed."""
        self._feed = 1
        self._feed_heard = {1: start, 2: start}
        self._feed_slots = {1: 0, 2: 0}
        """What each has said last."""
        self._led_since: int | None = None
        """The feed we do not listen to is ahead since then."""

    def subscribe(self, client: int, name: str) -> None:
        """
        Send a client what is published under this name.
        """
        self._subscribers.setdefault(name, {})[client] = None
        self._plan = None

    def unsubscribe(self, client: int, name: str) -> bool:
        """
        Whether it was subscribed.
        """
        self._plan = None
        return self._subscribers.get(name, {}).pop(client, client) is None

    def forget(self, client: int) -> None:
        """
        A client is gone.
        """
        for subscribers in self._subscribers.values():
            subscribers.pop(client, None)
        self._plan = None

    def restart(self) -> None:
        """
        The process is a new one: nobody is subscribed and nothing remembered.
        """
        self._subscribers.clear()
        self._last_slots.clear()
        self._plan = None
        self._led_since = None

    def replan(self) -> None:
        """
        There are new markets.
        """
        self._plan = None

    def knows(self, name: str) -> bool:
        """
        Whether anybody ever subscribed to this, since the process began.
        """
        return name in self._subscribers

    def is_subscribed(self, client: int, name: str | None = None) -> bool:
        """
        Whether a client is subscribed to this; None: to anything.
        """
        if name is not None:
            return client in self._subscribers.get(name, ())
        return any(client in subscribers for subscribers in self._subscribers.values())

    def hand_out(
        self,
        now: int,
        frame: Frame,
        outputs: list[Output],
        *,
        withheld: str | None = None,
        due_ns: int | None = None,
    ) -> None:
        """
        A data frame is due to all subscribers of its channel.

        Args:
            now: when.
            frame: what; its text may be empty if it is withheld.
            outputs: what to do about it is added here.
            withheld: why it does not come.
            due_ns: when it was due, if before now.
        """
        for client in self._subscribers.get(frame.channel or "", ()):
            if withheld is None:
                self._clients[client].put(now, frame, outputs, due_ns=due_ns)
            else:
                self._clients[client].withhold(now, frame, withheld, outputs)

    def publish_books(
        self, now: int, second: TwoFeeds | None, outputs: list[Output]
    ) -> list[tuple[Published, list[Printed]]]:
        """
        A tick: all markets.

        Returns:
            What the second feed, if there is one, will say of it.
        """
        self._publisher.advance()
        if self._plan is None:
            self._plan = self._planned()
        lagging: list[tuple[Published, list[Printed]]] = []
        slot, ts_ms = self._publisher.slot(now), now // _MS
        for published, wanted, remembered in self._plan:
            if second is None and self._feed == 1 and len(wanted) == 1 and not remembered:
                text = self._publisher.usual(published, wanted[0], slot=slot, ts_ms=ts_ms)
                name = wanted[0].name
                if text is not None and slot >= self._last_slots.get(name, 0):
                    self._last_slots[name] = slot
                    frame = Frame("sent", text, name)
                    for client in self._subscribers[name]:
                        self._clients[client].put(now, frame, outputs)
                    continue
            silenced = self._silenced(published, "books") if published.faults else None
            if remembered and silenced is None:
                self._remember(remembered, self._publisher.slot_of(published, now))
            if silenced is None:
                for printed in self._publisher.books(published, wanted, now):
                    self._offer(now, published, printed, outputs, two=second is not None)
            elif second is None or self._feed == 1 or self._generation.forwards_all_feeds:
                for channel in wanted:
                    self.hand_out(now, Frame("sent", "", channel.name), outputs, withheld=silenced)
            if second is not None:
                books = self._publisher.books(
                    published, wanted, now, lag_ms=second.lag_ms, slots_behind=second.slots_behind
                )
                lagging.append((published, list(books)))
        return lagging

    def publish_second(self, now: int, books: list[tuple[Published, list[Printed]]], outputs: list[Output]) -> None:
        """
        The second feed says what the first has said.
        """
        for published, prints in books:
            silenced = self._silenced(published, "books", 2) if published.faults else None
            for printed in prints:
                if silenced is None:
                    self._offer(now, published, printed, outputs, two=True, feed=2)
                elif self._feed == 2 or self._generation.forwards_all_feeds:
                    frame = Frame("sent", "", printed.channel.name)
                    self.hand_out(now, frame, outputs, withheld=silenced)

    def publish_trades(self, now: int, outputs: list[Output]) -> None:
        """
        A poll of the chain: all fills it finds.
        """
        for published, fills in self._publisher.polled(now):
            if not self._publisher.publishes(published.market):
                continue
            if not self._subscribers.get(published.trades):
                outputs += [
                    Log(Line(now, "unheard", channel=published.trades, fill_id=told.fill.fill_id)) for told in fills
                ]
                continue
            for told in fills:
                fill_id = told.fill.fill_id
                withheld = self._keeps_back(published, fill_id) if published.faults else None
                if withheld is not None:
                    frame = Frame("sent", "", published.trades, fill_id)
                else:
                    text, altered = self._publisher.trade(published, told.fill)
                    frame = Frame("sent", text, published.trades, fill_id, told.why or ("alter" if altered else None))
                self.hand_out(now, frame, outputs, withheld=withheld, due_ns=told.due_ns)

    def publish_fees(self, now: int, outputs: list[Output]) -> None:
        """
        The channel that mostly does not speak.
        """
        for published in self._publisher.markets:
            if self._subscribers.get(published.fees):
                text = data_frame(published.fees, _FEES)
                self.hand_out(now, Frame("sent", text, published.fees), outputs)

    def _planned(self) -> list[tuple[Published, list[BookChannel], list[BookChannel]]]:
        """
        What is to be printed each tick. Two publishers: that of the firm books goes through all markets first.
        """
        plan: list[tuple[Published, list[BookChannel], list[BookChannel]]] = []
        for indicative in (False, True):
            for published in self._publisher.markets:
                known = [
                    channel
                    for channel in self._publisher.channels(published)
                    if channel.indicative == indicative and channel.name in self._subscribers
                ]
                if known:
                    wanted = [channel for channel in known if self._subscribers[channel.name]]
                    plan.append((published, wanted, [channel for channel in known if channel not in wanted]))
        return plan

    def _remember(self, channels: list[BookChannel], slot: int) -> None:
        for channel in channels:
            self._last_slots[channel.name] = max(slot, self._last_slots.get(channel.name, 0))

    def _offer(
        self,
        now: int,
        published: Published,
        printed: Printed,
        outputs: list[Output],
        *,
        two: bool,
        feed: int = 1,
    ) -> None:
        """
        A book reaches the server: it may be lost before, forgotten for its slot, or go to the subscribers.
        """
        name = printed.channel.name
        frame = Frame("sent", printed.text, name, why="alter" if printed.altered else None)
        if not self._generation.forwards_all_feeds and not self._hears(now, feed, printed.slot, outputs):
            if not two:  # the feed it listens to is gone, and it does not know yet
                self.hand_out(now, frame, outputs, withheld="feed_silent")
            return
        again = False
        for fault in published.faults:
            match fault:
                case SkipFrames(every=every) if published.counted(fault, name, every):
                    self.hand_out(now, frame, outputs, withheld=kind_of(fault))
                    return
                case RepeatFrames(every=every) if published.counted(fault, name, every):
                    again = True
        if not (two and self._generation.forwards_all_feeds):
            if printed.slot < self._last_slots.get(name, 0):
                self.hand_out(now, frame, outputs, withheld="slot_memory")
                return
            self._last_slots[name] = printed.slot
        self.hand_out(now, frame, outputs)
        if again:
            self.hand_out(now, msgspec.structs.replace(frame, why="repeat_frames"), outputs)

    def _hears(self, now: int, feed: int, slot: int, outputs: list[Output]) -> bool:
        """
        Whether the server listens to a feed that says something; it may go over to it for that.
        """
        self._feed_heard[feed] = now
        self._feed_slots[feed] = slot
        if feed == self._feed:
            if slot >= self._feed_slots[3 - feed]:
                self._led_since = None
            return True
        if slot <= self._feed_slots[self._feed]:
            self._led_since = None
        elif self._led_since is None:
            self._led_since = now
        silent = now - self._feed_heard[self._feed] > FEED_SILENT_S * SECOND_NS
        leads = self._led_since is not None and now - self._led_since > FEED_LEADS_S * SECOND_NS
        if not (silent or leads):
            return False
        self._feed, self._led_since = feed, None
        # At a change of feeds slots may jump either way.
        self._last_slots.clear()
        outputs.append(Log(Line(now, "feed_changed", count=feed, why="silent" if silent else "leads")))
        return True

    def _keeps_back(self, published: Published, fill_id: int) -> str | None:
        for fault in published.faults:
            if isinstance(fault, WithholdFills) and fill_id % fault.every == 0:
                return kind_of(fault)
        return self._silenced(published, "trades")

    def _silenced(self, published: Published, channels: str, feed: int = 1) -> str | None:
        for fault in published.faults:
            if isinstance(fault, PublisherDown):
                return kind_of(fault)
            if isinstance(fault, Silence) and fault.channels in {"all", channels} and fault.feed in {None, feed}:
                return kind_of(fault)
        return None
