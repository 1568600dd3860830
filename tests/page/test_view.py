"""
What the page shows of the present, of recordings made in virtual time.
"""

import json
import os

import msgspec
import pytest

from recorder.journal.names import is_run_name, run_name
from recorder.journal.reader import read_merged, segments
from recorder.journal.tail import Tail
from recorder.lake.layout import JOURNAL, parse_hour
from recorder.lake.sealing import seal
from recorder.page import view as view_module
from recorder.page.follow import ALL, Follower
from recorder.page.past import calendar, disk
from recorder.page.view import TRADES, View
from recorder.records import HOUR_NS, SECOND_NS, Stream
from recorder.simulator.core import Venue
from recorder.simulator.kinds import Drop, Garbage, Restart, Silence, WithholdFills
from recorder.simulator.markets import DEFAULT_MARKETS
from virtual_recorder import NETWORK, VirtualRecorder

HOUR = parse_hour("2026-03-01T10")
START = HOUR + 600 * SECOND_NS
IDLE = 12
"""Reads in a row that bring nothing: all has come."""
PERPS = [market for market in DEFAULT_MARKETS if market.symbol in {"SOL-PERP", "BTC-PERP"}]
STREAMS = [
    Stream("perp", symbol, channel, 1 if channel == "orderbook" else None)
    for symbol in ("SOL-PERP", "BTC-PERP")
    for channel in ("orderbook", "trades")
]


def at(seconds: float) -> int:
    """
    So long after the start, ns.
    """
    return START + round(seconds * SECOND_NS)


def record(root, *faults, until_s=60.0, stop=False, start=START, **options):
    """
    A recording of both markets; one that is not stopped has just been killed, with everything committed.
    """
    recorder = VirtualRecorder(root, Venue(PERPS, start=start, faults=list(faults)), STREAMS, start=start, **options)
    recorder.until(start + round(until_s * SECOND_NS))
    if stop:
        recorder.stop()
    else:
        recorder.journal.close(10)
    return recorder


def record_two(root):
    """
    A minute of one run, and half a minute of another that began beside it: both hear the same; the names of both.
    """
    first, second = (run_name(began, "aaaaaa") for began in (START, at(30)))
    record(root)
    recorder = VirtualRecorder(root, Venue(PERPS, start=START), STREAMS, start=at(30), beside=[first])
    recorder.until(at(60))
    recorder.journal.close(10)
    return first, second


def follow(root, now, *, into=None):
    """
    What a view has made of all that is in the journal.
    """
    follower, view, idle = Follower(root / JOURNAL, now=now), into or View(NETWORK), 0
    # A run that brings nothing is given a moment.
    while idle < IDLE:
        batch = follower.read()
        for header in batch.headers:
            view.adopt(header)
        idle = 0 if batch.entries else idle + 1
        view.take(batch.entries, batch.whole)
    follower.close()
    return view


def test_a_market_is_shown_with_its_book_and_trades(tmp_path):
    """
    Natural units, best levels first, ages up to now.
    """
    record(tmp_path, stop=True)

    shown = follow(tmp_path, at(60)).picture(at(59.9), "SOL-PERP")

    row = next(row for row in shown["rows"] if row["m"] == "SOL-PERP")
    book = shown["book"]
    assert [row["m"] for row in shown["rows"]] == ["BTC-PERP", "SOL-PERP"]
    assert (row["state"], row["type"]) == ("live", "perp")
    assert row["bid"] == book["bids"][0][0] < book["asks"][0][0] == row["ask"]
    assert book["bids"] == sorted(book["bids"], reverse=True)
    assert book["asks"] == sorted(book["asks"])
    assert 0 <= row["age"] < 1000
    assert 2 < row["rate"] < 20
    assert 0 < len(shown["trades"]) <= TRADES
    assert shown["trades"] == sorted(shown["trades"], key=lambda trade: -trade["n"])
    assert all(abs(trade["price"] / row["bid"] - 1) < 0.2 for trade in shown["trades"])


def test_a_silence_is_seen_and_told_as_the_hole_it_was(tmp_path):
    """
    While it lasts the market is silent; once it is over there is an event with its length, judged as the seal does.
    """
    record(tmp_path, Silence(from_s=20, to_s=33, market="SOL-PERP"), until_s=60)
    view = follow(tmp_path, at(60))

    holes = [hole for hole in view.picture(at(60), None)["holes"] if hole["kind"] == "silent"]

    assert [hole["place"] for hole in holes] == ["SOL-PERP orderbook"]
    assert 13 < holes[0]["lasted_s"] < 15
    assert any(
        hole["kind"] == "noticed" and "SOL-PERP" in hole["words"] for hole in view.picture(at(60), None)["holes"]
    )


def test_a_hole_stands_with_the_time_at_which_it_was_over(tmp_path):
    """
    That fills are missing is certain ten seconds after the one that follows them.
    """
    record(tmp_path, WithholdFills(from_s=20, to_s=25, market="SOL-PERP"), until_s=60)

    holes = [hole for hole in follow(tmp_path, at(60)).picture(at(60), None)["holes"] if hole["kind"] == "trade_gap"]

    assert [hole["place"] for hole in holes] == ["SOL-PERP trades"]
    assert at(25) < holes[0]["at"] * 1_000_000 < at(30)


def test_a_market_that_is_silent_now_says_so(tmp_path):
    """
    Its age counts up; the other is live.
    """
    record(tmp_path, Silence(from_s=20, to_s=3000, market="SOL-PERP"), until_s=32)

    rows = {row["m"]: row for row in follow(tmp_path, at(32)).picture(at(32), None)["rows"]}

    assert (rows["SOL-PERP"]["state"], rows["BTC-PERP"]["state"]) == ("silent", "live")
    assert 11_000 < rows["SOL-PERP"]["age"] < 13_000


def test_a_recorder_that_writes_no_more_is_not_called_recording(tmp_path):
    """
    Nothing but the age of its last entry can be known of one that was killed; one that ended said why.
    """
    record(tmp_path / "killed", until_s=30)
    view = follow(tmp_path / "killed", at(30))

    assert view.picture(at(30.5), None)["recorder"]["state"] == "recording"
    assert view.picture(at(40), None)["recorder"]["state"] == "silent"
    assert view.picture(at(40), None)["recorder"]["age"] >= 9000
    record(tmp_path / "ended", until_s=30, stop=True)
    ended = follow(tmp_path / "ended", at(31)).picture(at(31), None)["recorder"]
    assert ended["state"] == "stopped"
    assert ended["why"]


def test_what_two_connections_heard_is_shown_once(tmp_path):
    """
    With everything recorded twice a trade is still one trade.
    """
    record(tmp_path, copies=2, stop=True)

    trades = follow(tmp_path, at(60)).picture(at(60), "SOL-PERP")["trades"]

    ids = [trade["id"] for trade in trades]
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_a_second_run_is_followed_and_the_time_between_is_a_hole(tmp_path):
    """
    A recorder that was killed and started again: the page goes on with the new run, and tells what is missing.
    """
    record(tmp_path, until_s=20)
    record(tmp_path, until_s=20, start=at(30))

    shown = follow(tmp_path, at(50)).picture(at(50), None)

    assert len([path for path in (tmp_path / JOURNAL).iterdir() if is_run_name(path.name)]) == 2
    down = [hole for hole in shown["holes"] if hole["kind"] == "recorder_down"]
    assert [round(hole["lasted_s"]) for hole in down] == [10]
    assert len(shown["recorder"]["runs"]) == 1
    # The list of trades goes over it in order of time, and does not hide that it goes over it.
    assert shown["trades"] == sorted(shown["trades"], key=lambda trade: -trade["at"])
    (after,) = [n for n, trade in enumerate(shown["trades"]) if trade["after"]]
    assert shown["trades"][after]["at"] >= at(30) // 1_000_000 > at(20) // 1_000_000 >= shown["trades"][after + 1]["at"]


@pytest.mark.parametrize("behind", [0, 1], ids=["the first", "the second"])
def test_runs_beside_one_another_are_judged_in_order_however_far_apart_they_are_read(tmp_path, monkeypatch, behind):
    """
    What one recorded while the other was read comes seconds later, and is no step of anybody's clock.
    """
    runs, take, kept = record_two(tmp_path), Tail.take, []

    def taken(tail):
        entries = take(tail)
        if tail._folder.name != runs[behind] or not (entries or kept):
            return entries
        if not kept:
            kept.extend(entry for entry in entries if entry.recv_ts > at(55))
            return [entry for entry in entries if entry.recv_ts <= at(55)]
        rest = kept[0:]
        kept.clear()
        return rest

    monkeypatch.setattr(Tail, "take", taken)
    view = follow(tmp_path, at(60))
    shown = view.picture(at(60), None)

    assert not view.overtaken
    assert [hole for hole in shown["holes"] if not hole.get("quiet")] == []
    assert view._folded > at(59)
    assert shown["recorder"]["runs"] == list(runs)
    assert shown["recorder"]["since"] == START // 1_000_000, "one of them has recorded all the while"


def test_what_comes_after_later_entries_were_judged_is_not_judged_with_another_time(tmp_path):
    """
    A run that stood still for long and goes on: all has to be read anew, and the view says why.
    """
    first, second = record_two(tmp_path)
    entries = list(read_merged(segments(tmp_path / JOURNAL), start=0, end=1 << 62))
    view = View(NETWORK)
    view.take([entry for entry in entries if entry.run == second], ALL)
    assert (view.overtaken, view._folded > at(59)) == ("", True)

    view.take([entry for entry in entries if entry.run == first], ALL)

    assert view.overtaken.startswith(f"run {first} came ")
    assert view.picture(at(60), None)["counts"] == {}


def test_a_run_that_began_before_another_ended_has_recorded_without_a_pause(tmp_path):
    """
    A recorder that takes over goes on with what the page calls recording; one that was restarted begins anew.
    """
    record(tmp_path / "over", until_s=40, stop=True)
    began = VirtualRecorder(tmp_path / "over", Venue(PERPS, start=START), STREAMS, start=at(30))
    began.until(at(60))
    began.journal.close(10)
    record(tmp_path / "again", until_s=20, stop=True)
    record(tmp_path / "again", until_s=30, start=at(30))

    over, again = (follow(tmp_path / name, at(60)).picture(at(60), None)["recorder"] for name in ("over", "again"))

    assert (over["since"], len(over["runs"])) == (START // 1_000_000, 1)
    assert again["since"] == at(30) // 1_000_000


def test_of_a_recorder_that_was_killed_while_it_was_cut_off_that_is_told_first(tmp_path):
    """
    Long after, its last segment alone would have markets silent, and not say that nobody was connected.
    """
    record(tmp_path, Restart(from_s=40, to_s=500), until_s=110)
    for segment in tmp_path.glob("journal/*/*.zst*"):
        os.utime(segment, ns=(at(110), at(110)))
    assert len(list(tmp_path.glob("journal/*/*.zst*"))) > 1

    holes = follow(tmp_path, at(2000)).picture(at(2000), None)["holes"]

    assert holes[0]["words"].startswith("connection 0: down: ")
    assert at(39) < holes[0]["at"] * 1_000_000 < at(42)


def test_a_run_that_ended_before_what_is_read_is_no_hole_before_it(tmp_path, monkeypatch):
    """
    Opened long after a restart, the page knows nothing of the time between, and says nothing of it.
    """
    monkeypatch.setattr(view_module, "TRADES", 10_000)
    record(tmp_path, until_s=50)
    record(tmp_path, until_s=500, start=at(70))

    shown = follow(tmp_path, at(570)).picture(at(570), "SOL-PERP")

    assert shown["counts"] == {}
    assert min(trade["at"] for trade in shown["trades"]) > at(200) // 1_000_000
    assert not any(trade["after"] for trade in shown["trades"])


@pytest.mark.parametrize(("market", "count"), [("SOL-PERP", 1), ("BTC-PERP", 0)])
def test_trades_that_are_missing_are_marked_where_they_are(tmp_path, market, count):
    """
    Of the market they are missing of, and of no other.
    """
    record(tmp_path, WithholdFills(from_s=20, to_s=30, market="SOL-PERP"), until_s=60)

    trades = follow(tmp_path, at(60)).picture(at(60), market)["trades"]

    marked = [n for n, trade in enumerate(trades) if trade["after"]]
    assert len(marked) == count
    for n in marked:
        assert trades[n]["id"] - trades[n + 1]["id"] > 1


def test_outages_and_rubbish_from_the_venue_stop_nothing(tmp_path):
    """
    A frame that is no JSON, and one with markup in it, are passed over, or told as text.
    """
    rubbish = ['{"channel":', '{"channel":"<img src=x onerror=alert(1)>","data":"1"}', '{"error":"<b>no</b>"}']
    faults = [Garbage(at_s=10 + n, text=text) for n, text in enumerate(rubbish)]
    record(tmp_path, *faults, Drop(at_s=20), until_s=60)

    shown = follow(tmp_path, at(60)).picture(at(60), "<script>")

    assert {"disconnected", "undecodable"} & {hole["kind"] for hole in shown["holes"]}
    assert shown["chosen"] == "BTC-PERP"
    json.loads(msgspec.json.encode(shown))


def test_nothing_is_shown_of_an_empty_journal(tmp_path):
    """
    Before a recorder has begun there is nothing to tell, and nothing fails.
    """
    (tmp_path / JOURNAL).mkdir()

    shown = follow(tmp_path, at(0)).picture(at(0), None)

    assert (shown["rows"], shown["book"], shown["recorder"]["state"]) == ([], None, "unknown")


def test_only_the_last_minutes_are_read(tmp_path):
    """
    A page that is opened must not read a day of journal first.
    """
    record(tmp_path, until_s=900)

    follower = Follower(tmp_path / JOURNAL, now=at(900))
    entries = []
    while fresh := follower.read().entries:
        entries += fresh
    follower.close()

    assert at(900 - 300 - 61) < entries[0].recv_ts <= at(900 - 300)
    assert entries[-1].recv_ts > at(898)


def test_who_is_told_to_let_go_while_reading_lets_go_when_it_has_read(tmp_path, monkeypatch):
    """
    The page's server ends while a thread reads: no file stays open.
    """
    record(tmp_path, until_s=90)
    follower, take, closed = Follower(tmp_path / JOURNAL, now=at(90)), Tail.take, []

    def taken(tail):
        follower.close()
        return take(tail)

    monkeypatch.setattr(Tail, "take", taken)
    monkeypatch.setattr(Tail, "close", lambda tail: closed.append(tail) or tail._reading.close())

    assert follower.read().entries
    assert len(closed) == 1


def test_the_calendar_tells_each_hour_in_its_states(tmp_path):
    """
    Of all markets and of each; what is not sealed is None, the hour so far is marked.
    """
    record(tmp_path, Silence(from_s=600, to_s=960, market="SOL-PERP"), until_s=1200, stop=True)
    seal(tmp_path, open_hour=True)

    told = calendar(tmp_path, now=at(1300))

    place = (HOUR // 1_000_000 - told["start"]) // 3_600_000
    assert told["problem"] == ""
    assert set(told["hours"]) == {"", "SOL-PERP", "BTC-PERP"}
    assert all(len(hours) == told["days"] * 24 for hours in told["hours"].values())
    assert told["begun"] == START // 1_000_000, "before it nothing was asked for"
    assert [n for n, hour in enumerate(told["hours"][""]) if hour is not None] == [place]
    *sol, _, sol_expired = told["hours"]["SOL-PERP"][place]
    *btc, _, _ = told["hours"]["BTC-PERP"][place]
    assert sum(sol) == pytest.approx(1, abs=1e-3)
    assert (sol[2] > btc[2], sol_expired) == (True, False)
    # Twenty of fifty minutes were recorded; the ten before the first run are no hole.
    assert btc[2] == pytest.approx(0.6, abs=0.01)


def test_the_time_before_a_later_run_is_a_hole_in_the_calendar(tmp_path):
    """
    Also where that run is the first of its hour; and where the hour of the first run is not sealed, it begins with it.
    """
    record(tmp_path, until_s=1500, stop=True)
    assert calendar(tmp_path, now=at(1600))["begun"] == HOUR // 1_000_000
    record(tmp_path, until_s=60, stop=True, start=START + HOUR_NS)
    seal(tmp_path, open_hour=True)

    told = calendar(tmp_path, now=at(3800))

    place = (HOUR // 1_000_000 - told["start"]) // 3_600_000
    first, later = told["hours"]["BTC-PERP"][place : place + 2]
    assert first[2] == pytest.approx(25 / 50, abs=0.01)
    assert later[2] == pytest.approx(59 / 60, abs=0.01)


def test_a_lake_that_cannot_be_read_says_why(tmp_path):
    """
    The calendar is empty with its reason; the rest of the page goes on.
    """
    assert "is not a data root" in calendar(tmp_path, now=at(0))["problem"]


def test_the_disk_is_told_with_what_the_journal_takes(tmp_path):
    """
    Bytes and days left, from the files of the last hour.
    """
    record(tmp_path, until_s=600)

    told = disk(tmp_path, now=at(600))

    files = [path.stat().st_size for path in (tmp_path / JOURNAL).glob("*/*.zst*")]
    assert (told["segments"], told["bytes"]) == (len(files), sum(files))
    assert told["daily"] == pytest.approx(told["bytes"] * 144, rel=0.05)
    assert told["days"] == pytest.approx(told["free"] / told["daily"], rel=0.01)
    # Who has stopped fills no disk.
    later = disk(tmp_path, now=at(900))
    assert (later["bytes"], later["daily"], later["days"]) == (told["bytes"], None, None)
    assert 0 < told["free"] < told["total"]


def test_a_connection_that_opened_long_before_is_counted(tmp_path):
    """
    The page begins to read when somebody looks, which may be days after.
    """
    record(tmp_path, until_s=700.0)

    recorder = follow(tmp_path, at(700)).picture(at(700), None)["recorder"]

    assert (recorder["state"], recorder["connections"]) == ("recording", 1)
