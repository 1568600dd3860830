"""
The kinds of events, and what each means: the table that the documents have. Pure.
"""

from collections.abc import Mapping

import msgspec

from recorder.records import Scope


class Kind(msgspec.Struct, frozen=True):
    """
    One kind of event: what it concerns, when it is raised, how its bounds and its cause are found, what it leaves open.

    `scope` is the usual one. What most book streams of a connection had at once (three or more, and four in five) is
    one event of the connection; of fewer, each stream has its own.
    """

    scope: Scope
    raised: str
    bounds: str
    cause: str
    proves_not: str


_OURS = "recorder"
KINDS: Mapping[str, Kind] = {
    "recorder_started": Kind("recorder", "A run began.", "the moment", _OURS, "that anything was heard since"),
    "recorder_stopped": Kind(
        "recorder", "A run ended by itself.", "the moment", _OURS, "that nobody else recorded from then on"
    ),
    "reloaded": Kind(
        "recorder",
        "The configuration was read again, and streams were added or removed.",
        "the moment",
        _OURS,
        "since when a stream that was added is recorded: its `added`, `connected` or first row does",
    ),
    "expired": Kind(
        "recorder",
        "Sealed journal, or rows of the lake, were removed by rule (`journal.keep_days`, `journal.keep_bytes`, "
        "`lake.keep_days`), because the disk was full, or by whoever, and were found to be gone. The evidence says of "
        "which time.",
        "the moment",
        _OURS,
        "that anything is missing of the hour it stands in; of hours removed from the lake, quality and coverage stay",
    ),
    "recorder_down": Kind(
        "recorder",
        "No run was recording: none was there, or the only one stood still. With a symbol: nobody recorded that "
        "stream, for the run that did died beside another.",
        "last committed entry of any run → next start, or the next entry",
        _OURS,
        "how much the venue sent meanwhile",
    ),
    "connected": Kind(
        "connection",
        "The websocket opened.",
        "the moment; as a run starts: start of the run → first book of the last stream asked for, if that is not later "
        "than a silence begins (else `disconnected` reaches from start to book)",
        _OURS,
        "that every stream has begun: trades may stay away for long",
    ),
    "disconnected": Kind(
        "connection",
        "A connection was down: it ended, or could not be made. With connection −1: as the run ended, the one that "
        "some of its streams waited for had not been made yet.",
        "earliest last book of those due on it (when it was due, if it came late; last frame, where none was; start of "
        "the run, before any) → first book after it of the last stream to bring one (a stored copy is none; the "
        "subscribe, where it stays silent and `silent` goes on; first frame, where no book is subscribed)",
        "what the capture could tell as it ended: venue (a close code, every book silent), network (reset, no "
        "heartbeat), recorder (our stop, our limits, or we ended it for silence though other data came; a run too "
        "short to connect), unknown (a first connect that nobody had answered yet)",
        "that anything was lost of a stream which another connection carried too",
    ),
    "connect_failed": Kind(
        "connection",
        "Connects failed; a run of them is one event.",
        "first → last attempt",
        "that of the refusal: network, or venue if it answered",
        "how long the connection was down: `disconnected` does",
    ),
    "heartbeat_gap": Kind(
        "connection",
        "Two heartbeats stood further apart than `quality.heartbeat_gap_s`, by default twice their interval.",
        "heartbeat before → heartbeat after, or the end of the connection or run",
        "venue if other frames came meanwhile; recorder if we stood still; that of the connection's end if it ended; "
        "else unknown",
        "that a book or trade is missing: a heartbeat may be late where data is not",
    ),
    "not_acknowledged": Kind(
        "stream",
        "A subscription was not acknowledged in time.",
        "request → acknowledgement or first frame, or the end of the connection or subscription",
        "venue",
        "that the venue did not understand it: its answer may have been lost with the connection",
    ),
    "rejected": Kind(
        "stream",
        "The venue answered a request with an error.",
        "answer → as `not_acknowledged` (the moment, where the answer cannot be matched to a stream)",
        "venue",
        "which of several requests was meant, where the answer names none",
    ),
    "silent": Kind(
        "stream",
        "A subscribed book brought no frame for `capture.silent_after_s` on a live connection. Where the next one "
        "turns out to be the very next by the publisher's clock, held back on its way, it is a `backlog` instead.",
        "last frame (or the request) → next frame, or the end of the connection or subscription",
        "venue if a heartbeat or another frame came meanwhile; recorder if we stood still; if nothing came at all: "
        "that of the connection's end, unknown if it did not end",
        "how many books were sent meanwhile",
    ),
    "added": Kind(
        "stream",
        "A book stream was added to the configuration while recording, and asked for on a connection that was open "
        "(where one had to be made for it, its `connected` or `disconnected` tells).",
        "the subscribe → its first book, if that is not later than a silence begins (else `silent` begins there), or "
        "the end of the connection or subscription",
        _OURS,
        "that anything was recorded before the subscribe: nobody asked for it; nor, of a first book that is a stored "
        "copy, that live ones came from then on (a `cadence_hole` follows if they did not)",
    ),
    "unsubscribed": Kind(
        "stream",
        "A stream was taken out of the configuration while recording. Told in the hour in which that was, and again in "
        "that in which it comes back.",
        "last book (the unsubscribe, where none had come just before, and of other channels) → first book after it was "
        "asked for again (that request, where it stays silent, and of other channels), or the hour's end",
        _OURS,
        "that it was meant to be missing",
    ),
    "halted": Kind(
        "connection",
        "No market brought a book on any connection for 20 s (three or more were asked for), and heartbeats came: the "
        "venue is halted, or its publishers are down. In place of each stream's `silent`.",
        "last book of the first stream to fall silent → first book of the last to speak again, at most "
        "`capture.silent_after_s` after the first of them; or the end of the connection",
        "venue",
        "that trading was halted: trades may have gone on, unseen by us",
    ),
    "cadence_hole": Kind(
        "stream",
        "Fewer books came than the learned cadence says; `missing` counts them. Both clocks must say so: the "
        "publisher's (`ts`) and ours, so a late book is none, nor is a change of the cadence (but to just half as many "
        "books: what nothing tells from every second one lost is told for half a minute), nor a publisher's timer that "
        "stood still for up to a second in all its markets; a book that another market has between two is missing. So "
        "are those that were due while we moved a stream to another connection, though it still came. More than eight "
        "a minute are told as one, for a minute at a time, with no more than 7.5 s between them. A hole longer than "
        "`capture.silent_after_s` is `silent` instead, unless we stood still in it.",
        "book before → book after, or the end of the run (where books were late: from when the one before was due; "
        "where the hole showed only once a faster cadence or another market told: both by the publisher's clock; at "
        "the beginning: from a stored copy)",
        "venue, since later books came in order on the same connection; recorder if we stood still, or moved it; "
        "unknown where books were late (a server drops them for a slow client), came half as often for a while, or the "
        "run ended",
        "that a book was made: a publisher that began anew made none (the next is off the old grid, as the evidence "
        "says), nor, where books came half as often, that they were lost. Nor that none is missing elsewhere: if every "
        "second one of all markets is lost, that is told for the first half minute, and then taken for the cadence "
        "(also across a restart: the old one is remembered for ten minutes)",
    ),
    "backlog": Kind(
        "connection",
        "Books came later than usual by more than a second, measured against their `ts`, and then caught up. Rows "
        "between bear the flag.",
        "last book in time → first book that was no more than 0.3 s late; or the last book, if the connection ended",
        "recorder if we stood still; venue if heartbeats came on time meanwhile, or other streams' books did; network "
        "if the heartbeat was late as well; unknown if none was due",
        "that anything is missing: what is, `cadence_hole` or `silent` tell. A delay that was there from the "
        "connect on is not seen, nor one that grows by less than 1 % of the time",
    ),
    "slot_regression": Kind(
        "stream",
        "A book's slot was lower than the one before: a publisher on a node that is behind.",
        "book before the first step back → last book that stepped back",
        "venue",
        "that a book is wrong or missing; nor is a step back across a reconnect told",
    ),
    "slot_jump": Kind(
        "stream",
        "A book's slot was far ahead of the one before, by more than time allows (40 slots and twice their time).",
        "book before → book after",
        "venue",
        "that a book is missing; a server that remembers the slot may drop all lower ones from here on (`silent`)",
    ),
    "two_feeds": Kind(
        "connection",
        "A quarter of the steps in slot, or more, go back, or there are twice as many books, of which every other one "
        "keeps to the old pace: the server forwards two feeds. All frames are kept, and each feed is judged by its own "
        "cadence. Also where only one of the two comes from then on, for half a minute, and after an outage; if the "
        "other is back within ten minutes, also for all of the time between",
        "book before the first step back → last step back; then last book of the one that is gone → its return, its "
        "end, or half a minute later; from there → its return, if that is later",
        "venue",
        "whether a feed that is gone was switched off or is lost: `coverage` is suspect meanwhile. Two feeds whose "
        "slots do not step back (equal ones, or the later feed is ahead) look like one of half the cadence, and are "
        "judged as that; of two such that tick at the same time nothing tells whose a book is, so one that only one of "
        "them lost is not seen. Of two feeds of different paces most losses are doubted, or not seen",
    ),
    "frozen": Kind(
        "stream",
        "Books came, and for 10 s and ten books the slot stood still; or the best levels did, for so long that, by "
        "how often they changed before, chance explains it once in 10⁹ times.",
        "last change → next change (of the levels: as far as looked at, each fourth book)",
        "venue",
        "that the market moved: a quiet one stands still, too, if it never did before",
    ),
    "clock_skew": Kind(
        "stream",
        "The publisher's clock (`ts`) stepped by a second or more, or was off from the start (books 2 s from the "
        "future, or 10 s old). What has stayed so for ten minutes is taken as it is.",
        "last book before the step → first books after it came right, or ten minutes",
        "venue: a step of ours is a `clock_step`",
        "which clock is right, if it was off from the start",
    ),
    "trade_gap": Kind(
        "stream",
        "Fill ids are missing: a proof, `missing` is exact. Fills that came without an id are not counted. Beyond "
        "200 of a market in an hour (10,000 of all), the further ones are one event with their count.",
        "receipt of the fill before the missing ids (when it was due, if by its block time it came late) → receipt of "
        "the fill after them (2 s later, where fills came out of order); of many in one event: of the first → of the "
        "last, though fills between them came: `coverage` calls missing only the stretches where ids are",
        "that of the latest outage the bounds touch; venue if there was none; unknown before the first fill we had, "
        "and of many with different causes",
        "when the missing fills were made; nor that none is missing after the last id; nor that they stay away: "
        "`trade_late` takes back what comes after all",
    ),
    "trade_late": Kind(
        "stream",
        "Fills came after they had been told as missing (10 s after the fill that followed). Part of that "
        "`trade_gap`, under its `event_id`: `missing` is negative, so that the sum over the parts is exact. In the "
        "hour that has the gap itself, the gap is smaller instead, and becomes a `trade_late` once nothing is left "
        "of it.",
        "first → last of them; of a gap of which nothing is left: its own",
        "venue",
        "why they were late: their `recv_ts` is when they came",
    ),
    "trade_unnumbered": Kind(
        "stream",
        "Fills came without an id in a market whose fills have ids.",
        "receipt of the fill with an id before them → receipt of the one after them",
        "venue",
        "that a fill is missing: but whether one is, no id can tell",
    ),
    "trade_repeat": Kind(
        "stream",
        "Fills came again; a run of them is one event.",
        "first → last repeat",
        "venue",
        "which of the two is right, if they differ",
    ),
    "undecodable": Kind(
        "connection",
        "Frames that could not be decoded; raw in `undecodable`.",
        "first → last frame",
        "venue",
        "whose frame it was",
    ),
    "unrequested": Kind(
        "connection",
        "Data of streams nobody asked for; raw in `undecodable`.",
        "first → last frame",
        "venue",
        "that it is wrong",
    ),
    "schema_drift": Kind(
        "connection",
        "Members, sources, channels or shapes this version does not know; kept in `extra` or `undecodable`.",
        "first → last frame",
        "venue",
        "that a column is wrong: what is known was read as ever",
    ),
    "identity_conflict": Kind(
        "stream",
        "A book calls its index by another name than the market list: wrong `network`?",
        "the moment",
        "unknown",
        "which of the two is right; the book's name is used",
    ),
    "overflow": Kind(
        "recorder",
        "The journal's queue was full; we dropped frames, counted.",
        "first → last dropped",
        _OURS,
        "which streams they were of",
    ),
    "clock_step": Kind(
        "recorder", "The wall clock moved against the monotonic clock.", "before → after", _OURS, "that frames are lost"
    ),
    "loop_stall": Kind(
        "recorder",
        "Our event loop stood still; receive times inside are late.",
        "stall",
        _OURS,
        "that frames are lost: they wait in the kernel",
    ),
    "sync_failed": Kind(
        "recorder",
        "A journal write or sync failed; kept in memory and written again.",
        "the moment",
        _OURS,
        "that anything is lost",
    ),
    "disk_full": Kind(
        "recorder",
        "Too little space was left, or the journal found none: the recorder closed its connections until there was "
        "more. What that cost until books came again is a `disconnected` of each connection that was open.",
        "capture stopped → capture went on, or the end of the run",
        _OURS,
        "that anything is lost which came before it: it was kept in memory, and written to a reserve",
    ),
    "journal_damaged": Kind(
        "recorder",
        "Journal entries are missing or unreadable; `missing` counts entries.",
        "entry before → entry after",
        _OURS,
        "which streams they were of",
    ),
    "job_failed": Kind(
        "recorder",
        "A scheduled job (seal, retention) ended with an error.",
        "the moment",
        _OURS,
        "that anything is lost: it runs again",
    ),
    "seal_failed": Kind(
        "stream",
        "A partition could not be written; its frames are in the journal.",
        "the hour",
        _OURS,
        "that anything is lost, while the journal is kept",
    ),
}
