"""
Another configuration while recording: what is added and removed, what is refused, and what the lake says of it.
"""

import asyncio
import logging
import os
import signal
import threading
from collections import Counter
from random import Random

import msgspec
import polars as pl
import pytest

from loopback import config_text, entries, facts, followed, recording, simulator, unheard, until
from recorder import show_status
from recorder.analysis import Lake
from recorder.capture.client import IDLE, Capture
from recorder.config import load_config, parse_config
from recorder.daemon import recorder as daemon
from recorder.daemon.reload import change
from recorder.daemon.supervision import Supervision
from recorder.errors import ConfigError
from recorder.lake.layout import parse_hour
from recorder.lake.sealing import seal
from recorder.records import (
    SECOND_NS,
    Connected,
    ConnectFailed,
    Disconnected,
    EntryKind,
    JobFailed,
    Requested,
    Stream,
)
from recorder.simulator.core import Venue
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Restart, Silence, StopHeartbeats
from recorder.simulator.markets import DEFAULT_MARKETS
from virtual_recorder import VirtualRecorder

HOUR = parse_hour("2026-03-01T10")
START = HOUR + 3000 * SECOND_NS
SOL, BTC, ETH = (Stream("perp", f"{name}-PERP", "orderbook", 1) for name in ("SOL", "BTC", "ETH"))
PERPS = [market for market in DEFAULT_MARKETS if market.symbol in {"SOL-PERP", "BTC-PERP", "ETH-PERP"}]
ALL_THREE = '["SOL-PERP", "BTC-PERP", "ETH-PERP"]'


# ---- what may change


def parsed(markets='perp = ["SOL-PERP"]'):
    """
    A configuration with these lines under `[markets]`.
    """
    venue = '[venue]\nname = "t"\nurl = "wss://h/ws"\nnetwork = "mainnet-beta"\n'
    return parse_config(f'{venue}[markets]\n{markets}\n[storage]\nroot = "r"\n', file="test")


def test_markets_channels_and_groupings_are_a_change_of_streams():
    """
    Whatever stands under `[markets]` comes to streams, and these come and go.
    """
    before, after = parsed(), parsed('perp = ["BTC-PERP", "SOL-PERP"]\nchannels = ["orderbook"]')

    wanted = change(before, after)

    trades = Stream("perp", "SOL-PERP", "trades")
    assert (wanted.fixed, wanted.added, wanted.removed) == ([], [BTC], [trades])
    assert change(after, after) == msgspec.structs.replace(wanted, added=[], removed=[])
    assert change(before, parsed('perp = ["sol-perp"]')).added == []


def test_every_other_key_is_fixed():
    """
    The root is bound and locked, the venue is who it is, and the stages took their settings at the start.
    """
    before = parsed()
    other = {
        "venue": {"name": "u", "url": "wss://i/ws", "network": "devnet", "allow_plaintext": "x", "copy_urls": ("y",)},
        "storage": {"root": "s"},
        "seal": {"enabled": False},
        "log": {"level": "debug", "format": "json"},
        "metrics": {"listen": "", "allow_network": "x"},
        "notify": {
            "kinds": ("silent",),
            "scopes": (),
            "command": ("x",),
            "url": "x",
            "url_credential": "x",
        },
    }
    for table in msgspec.structs.fields(before):
        if table.name == "markets":
            continue
        struct = getattr(before, table.name)
        for key in struct.__struct_fields__:
            of = other.get(table.name, {})
            value = of[key] if key in of else (getattr(struct, key) or 0) + 1
            altered = msgspec.structs.replace(struct, **{key: value})

            wanted = change(before, msgspec.structs.replace(before, **{table.name: altered}))

            assert wanted.fixed == [f"{table.name}.{key}"]
            assert not wanted.added


# ---- in virtual time, and in the lake


def sealed(root, script, *, until_s, streams=(BTC, SOL), venue=None, **options):
    """
    An hour and the beginning of the next, from ten minutes before its end; at each second of `script`, other streams.
    """
    venue = venue or Venue(PERPS, start=START)
    recorder = VirtualRecorder(root, venue, list(streams), start=START, **options)
    for at_s, wanted in sorted(script.items()):
        recorder.until(START + round(at_s * SECOND_NS))
        recorder.reload(list(wanted))
    recorder.until(START + until_s * SECOND_NS)
    recorder.stop()
    seal(root)
    return recorder


def events(root, *ordinary):
    """
    Kinds of events, without those of any run.
    """
    quality = Lake(root).quality().collect()
    of_any_run = {
        *("recorder_started", "recorder_stopped", "recorder_down", "connected", "reloaded", "added", "unsubscribed"),
        *ordinary,
    }
    ours = (pl.col("kind") == "disconnected") & (pl.col("cause") == "recorder")
    return Counter(quality.filter(~ours)["kind"].to_list()) - Counter(dict.fromkeys(of_any_run, 1 << 20))


def covered(root):
    """
    The markets that have a row in `coverage`, by hour.
    """
    rows = Lake(root).coverage().select(pl.col("start").dt.hour().alias("hour"), "symbol", "rows").collect()
    return {(row["hour"], row["symbol"]): row["rows"] for row in rows.iter_rows(named=True)}


def told(root, kind):
    """
    (symbol, channel, cause, start, end) of the events of a kind, in seconds after the start.
    """
    rows = Lake(root).events().filter(pl.col("kind") == kind).with_columns(pl.col("start", "end").cast(pl.Int64))
    return [
        (r["symbol"], r["channel"], r["cause"], (r["start"] - START) / SECOND_NS, (r["end"] - START) / SECOND_NS)
        for r in rows.collect().iter_rows(named=True)
    ]


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("back_s", [180, 660])
def test_a_market_that_is_taken_out_and_comes_back_is_a_hole_of_ours(tmp_path, back_s, copies):
    """
    From its last book to its first one, also over the hour's end; its fills are missing for the same reason.
    """
    trades = Stream("perp", "BTC-PERP", "trades")

    script = {120: (SOL,), back_s: (BTC, SOL, trades)}
    sealed(tmp_path, script, until_s=760, streams=(BTC, SOL, trades), copies=copies)

    books, fills = sorted(told(tmp_path, "unsubscribed"), key=lambda each: each[1])
    assert books[:3] == ("BTC-PERP", "orderbook", "recorder")
    assert 119 <= books[3] <= 120.1
    assert back_s <= books[4] < back_s + 1.5
    assert fills[:3] == ("BTC-PERP", "trades", "recorder")
    assert {cause for _, _, cause, *_ in told(tmp_path, "trade_gap")} <= {"recorder"}
    assert told(tmp_path, "silent") == told(tmp_path, "cadence_hole") == []
    missing = Lake(tmp_path).spans("BTC-PERP").filter(pl.col("state") == "missing", pl.col("channel") == "orderbook")
    assert set(missing.collect()["why"]) <= {"unsubscribed", "not running", "connected", "recorder_down"}
    ours = missing.filter(pl.col("why") == "unsubscribed").select(pl.col("end") - pl.col("start")).sum().collect()
    # The hours in which it is asked for have rows; of those between nobody speaks.
    assert ours.item().total_seconds() == pytest.approx(books[4] - books[3], abs=0.8)


def test_a_market_that_is_taken_out_for_good_is_told_of_once(tmp_path):
    """
    In the hour in which that was; it is no hole of the hours that follow.
    """
    sealed(tmp_path, {120: (SOL,)}, until_s=760)

    (out,) = told(tmp_path, "unsubscribed")
    assert out[4] == 600
    assert Lake(tmp_path).quality().filter(pl.col("kind") == "unsubscribed").collect()["continues"].to_list() == [True]


def test_a_first_connect_that_takes_long_is_no_silence_of_the_venue(tmp_path):
    """
    A connection that reload adds is down until it has brought what it was added for.
    """
    sealed(tmp_path, {60: (BTC, ETH, SOL)}, until_s=300, limit=2, copies=2, apart_s=8)

    assert told(tmp_path, "silent") == []
    down = [each for each in told(tmp_path, "disconnected") if 59 < each[3] < 70]
    assert [(cause, round(start), 68 <= end < 69.5) for _, _, cause, start, end in down] == [("recorder", 60, True)]


@pytest.mark.parametrize("fault", ["no heartbeats", "no books"])
def test_copies_are_never_cut_both_at_once(tmp_path, fault):
    """
    What the venue still sends is heard by one while the other begins anew: no fill is lost, nobody blamed.
    """
    trades = Stream("perp", "SOL-PERP", "trades")
    faults = {
        "no heartbeats": [StopHeartbeats(from_s=60, to_s=200)],
        "no books": [Silence(from_s=60, to_s=200, channels="books")],
    }
    venue = Venue(PERPS, start=START, faults=faults[fault])

    recorder = sealed(tmp_path, {}, until_s=300, streams=(BTC, SOL, trades), copies=2, venue=venue)

    cuts = [each for each in told(tmp_path, "disconnected") if each[2] != "recorder" or each[3] < 299]
    assert len(cuts) >= 2
    # Where not even a fill came, nothing is lost by beginning anew.
    assert {cause for _, _, cause, *_ in cuts} <= {"recorder", *(["venue"] if fault == "no books" else [])}
    assert told(tmp_path, "trade_gap") == []
    assert all(line.attempt <= 12 for _, line in recorder.lines().values())


@pytest.mark.parametrize("limit", [0, 1, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_market_added_and_one_removed_make_no_false_hole(tmp_path, limit, copies):
    """
    Also in several copies and on connections of their own: no event but what was meant, a row of coverage in each hour
    in which a market was asked for, and not one frame less of the market that stays.
    """
    root, still = tmp_path / "root", tmp_path / "still"

    sealed(root, {60: (BTC, ETH, SOL), 120: (ETH, SOL)}, until_s=700, limit=limit, copies=copies)
    sealed(still, {}, until_s=700, limit=limit, copies=copies)

    assert events(root) == events(still) == {}
    rows = covered(root)
    assert set(rows) == {(10, "SOL-PERP"), (10, "BTC-PERP"), (10, "ETH-PERP"), (11, "SOL-PERP"), (11, "ETH-PERP")}
    assert 295 <= rows[10, "BTC-PERP"] <= 302
    assert 1345 <= rows[10, "ETH-PERP"] <= 1351
    stays = [Lake(each).books("SOL-PERP", units="raw").select("recv_ts", "slot").collect() for each in (root, still)]
    assert len(stays[0]) == len(stays[1])
    gaps = stays[0]["recv_ts"].diff().dt.total_milliseconds().drop_nulls()
    assert gaps.max() < 450
    assert Lake(root).undecodable().collect().is_empty()


@pytest.mark.parametrize("at_s", [60, 602])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_market_added_on_an_open_connection_is_missing_until_its_first_book(tmp_path, at_s, copies):
    """
    From the request on; before it nobody asked. From the first book on it is complete, whenever in the hour that is.
    """
    sealed(tmp_path, {at_s: (BTC, ETH, SOL)}, until_s=1000, copies=copies)

    first = (
        Lake(tmp_path).books("ETH-PERP", units="raw").select(pl.col("recv_ts").cast(pl.Int64)).first().collect().item()
    )
    first_s = (first - START) / SECOND_NS
    added = told(tmp_path, "added")
    assert [each[:3] for each in added] == [("ETH-PERP", "orderbook", "recorder")] * copies
    # The request is paced.
    assert all(at_s <= start < at_s + 0.5 and first_s <= end < first_s + 0.1 for *_, start, end in added)
    spans = [(row["state"], row["why"]) for row in Lake(tmp_path).spans("ETH-PERP").collect().iter_rows(named=True)]
    begins = spans.index(("missing", "added"))
    assert spans[begins - 1 : begins + 2] == [
        ("missing", "nobody asked"),
        ("missing", "added"),
        ("complete", "ticks"),
    ]
    assert not {state for state, _ in spans[:begins]} & {"complete", "suspect"}


def test_a_market_removed_at_the_end_of_an_hour_has_no_row_in_the_next(tmp_path):
    """
    Five seconds before the turn: frames may still be on their way, but nobody asks for them in the next hour.
    """
    sealed(tmp_path, {595: (SOL,)}, until_s=700)

    assert set(covered(tmp_path)) == {(10, "SOL-PERP"), (10, "BTC-PERP"), (11, "SOL-PERP")}
    assert events(tmp_path) == {}


def test_a_market_added_while_the_venue_is_away_is_missed_from_then_on(tmp_path):
    """
    Not from the start of the run, and not only from the next connect; the new connection's outage begins with the wish.
    """
    venue = Venue(PERPS, start=START, faults=[Restart(from_s=50.0, to_s=80.0)])

    sealed(tmp_path, {60: (BTC, ETH, SOL)}, until_s=120, limit=2, venue=venue)

    down = Lake(tmp_path).quality().filter(kind="disconnected", cause="network").sort("connection").collect()
    began = {row["connection"]: (row["start"].timestamp() - START / 1e9) for row in down.iter_rows(named=True)}
    assert set(began) == {0, 2}
    assert began[0] == pytest.approx(49.6, abs=0.5)
    assert began[2] == pytest.approx(60, abs=0.01)


def test_a_market_removed_on_probation_leaves_nothing_behind(tmp_path):
    """
    Its silence ends with the unsubscribe, and its connection with it.
    """
    venue = Venue(PERPS, start=START, faults=[Silence(from_s=20.0, to_s=10_000.0, market="BTC-PERP")])

    sealed(tmp_path, {36: (SOL,)}, until_s=300, venue=venue)

    (silent,) = Lake(tmp_path).quality().filter(kind="silent").collect().iter_rows(named=True)
    assert silent["symbol"] == "BTC-PERP"
    assert silent["end"].timestamp() == pytest.approx(START / 1e9 + 36, abs=0.01)
    assert "an unsubscribe" in silent["evidence"]
    assert events(tmp_path) == {"silent": 1}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_meanwhile_what_is_wanted_is_carried_and_what_came_is_stored(tmp_path, seed):
    """
    Markets come and go at random, on connections that break, at a venue that restarts and keeps one market silent: at
    the end each copy carries what the last file says, and each frame that came is a row or the double of one.
    """
    random = Random(seed)
    copies, limit = random.choice([1, 2, 3]), random.choice([0, 1, 2])
    cuts = {index: tuple(sorted(random.uniform(1, 200) for _ in range(random.choice([0, 1, 3])))) for index in range(9)}
    faults = [Restart(from_s=70.0, to_s=80.0), Silence(from_s=100.0, to_s=150.0, market="ETH-PERP")]
    venue = Venue(PERPS, start=START, faults=random.sample(faults, random.choice([0, 1, 2])))
    links = {index: Link(latency_ms=3 + index, cuts_s=at) for index, at in cuts.items()}
    everything = [BTC, ETH, SOL, *(Stream("perp", m.symbol, "trades") for m in PERPS)]
    script = {random.uniform(0, 190): random.sample(everything, random.randint(1, len(everything))) for _ in range(12)}

    recorder = sealed(
        tmp_path, script, until_s=260, streams=everything, venue=venue, copies=copies, limit=limit, links=links
    )

    wanted = sorted(script[max(script)])
    for copy in recorder.copies:
        carried = Counter(stream for line in copy.everything() for stream in line.session.streams)
        assert sorted(carried) == wanted
        assert max(carried.values()) <= 2, "at home, and on probation until it has settled"
        assert not limit or all(len({s.symbol for s in line.session.streams}) <= limit for line in copy.lines)
    lake = Lake(tmp_path)
    rows = sum(len(table.select("seq").collect()) for table in (lake.books(units="raw"), lake.trades(units="raw")))
    removed = lake.coverage().collect()["duplicates_removed"].sum()
    assert rows + removed == len(recorder.heard) > 500
    assert lake.undecodable().collect().is_empty()
    allowed = {"silent", "disconnected", "connect_failed", "cadence_hole", "trade_gap", "halted"}
    assert events(tmp_path).keys() <= allowed


# ---- over sockets


def books(root):
    """
    How many books of each market are committed.
    """
    names = {b"orderbook_perp_0_": "SOL", b"orderbook_perp_1_": "BTC", b"orderbook_perp_2_": "ETH"}
    heard = [e.payload[:60] for e in entries(root) if e.kind == EntryKind.FRAME]
    return Counter(name for payload in heard for mark, name in names.items() if mark in payload)


class Reloading:
    """
    A recorder with a file that is read again.
    """

    def __init__(self, root, url, file):
        self.root, self.url, self.file = root, url, file
        self.times = 0
        self.write()

    def write(self, perp='["SOL-PERP", "BTC-PERP"]', extra=""):
        """
        Another configuration.
        """
        self.file.write_text(config_text(self.url, self.root, f"{extra}\n[seal]\nenabled = false", perp=perp))

    def reread(self):
        """
        As `drift-recorder run` does.
        """
        self.times += 1
        return load_config(self.file)

    def recording(self):
        """
        Begins it.
        """
        return recording(self.root, text=self.file.read_text(), reread=self.reread)


def hang_up():
    """
    SIGHUP to this process, which records.
    """
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_signal_adds_and_removes_markets_on_the_same_connection(tmp_path, caplog):
    """
    Nothing is connected again; each request is a fact with its reason; the log tells what changed, and the lake has it.
    """
    caplog.set_level("INFO", "recorder")
    root, ledger = tmp_path / "root", tmp_path / "ledger"

    async def scenario():
        async with simulator(ledger=ledger) as url:
            reloading = Reloading(root, url, tmp_path / "config.toml")
            async with reloading.recording():
                await until(lambda: books(root)["BTC"] > 5)
                reloading.write('["SOL-PERP", "ETH-PERP"]')
                hang_up()
                await until(lambda: books(root)["ETH"] > 5)
                before = books(root)
                await until(lambda: books(root)["ETH"] > before["ETH"] + 5)
                assert books(root)["BTC"] == before["BTC"]
                reloading.write('["SOL-PERP", "ETH-PERP"]')
                hang_up()
                await until(lambda: "read again: nothing to change" in caplog.text)
            return before

    asyncio.run(scenario())
    seal(root, open_hour=True)

    assert len(facts(root, Connected)) == 1
    changed = [(fact.stream.label(), fact.op) for fact in facts(root, Requested) if "read again" in fact.why]
    assert changed == [
        ("BTC-PERP orderbook", "unsubscribe"),
        ("BTC-PERP trades", "unsubscribe"),
        ("ETH-PERP orderbook", "subscribe"),
        ("ETH-PERP trades", "subscribe"),
    ]
    assert "added ETH-PERP orderbook, ETH-PERP trades; removed BTC-PERP orderbook, BTC-PERP trades" in caplog.text
    assert not unheard(ledger, root)
    # Both stand still with a busy machine, which leaves events of its own; in virtual time there are none.
    assert events(root, "cadence_hole", "loop_stall") == {}
    assert {symbol for _, symbol in covered(root)} == {"SOL-PERP", "BTC-PERP", "ETH-PERP"}


def test_a_connection_that_has_nothing_to_carry_is_closed_without_alarm(tmp_path, caplog):
    """
    It is our own, orderly close: on record, told once and at INFO, and nobody calls the connection down afterwards.
    """
    caplog.set_level("INFO", "recorder")
    root, file = tmp_path / "root", tmp_path / "config.toml"

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, file)
            reloading.write(extra="[capture]\nmarkets_per_connection = 1")
            async with reloading.recording():
                await until(lambda: books(root)["BTC"] > 3)
                reloading.write('["SOL-PERP"]', extra="[capture]\nmarkets_per_connection = 1")
                hang_up()
                await until(lambda: IDLE in caplog.text)
                await until(lambda: not all(line.up for line in followed(root).connections))
                return followed(root)

    status = asyncio.run(scenario())

    told = [record for record in caplog.records if IDLE in record.message]
    assert [(record.levelname, "disconnected: " in record.message) for record in told] == [("INFO", True)]
    # A machine that stands still has warnings of its own.
    alarms = [record.message for record in caplog.records if record.levelno > logging.INFO]
    assert [words for words in alarms if "loop_stall" not in words and "cadence_hole" not in words] == []
    assert sorted((line.up, show_status.is_wanted(line)) for line in status.connections) == [
        (False, False),
        (True, True),
    ]
    assert IDLE not in str(show_status.rows(status))


BAD = {
    "no TOML": ("[venue", "TOML: "),
    "a mistake": ('[venue]\nname = "a b"', "venue.url: missing"),
    "gone": (None, "cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_file_changes_nothing_and_says_what_the_start_would_say(tmp_path, caplog, bad):
    """
    In the log and on record; and once it is mended, it is taken.
    """
    root, file = tmp_path / "root", tmp_path / "config.toml"
    text, _ = bad

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, file)
            async with reloading.recording() as recorder:
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text)
                with pytest.raises(ConfigError) as told:
                    load_config(file)
                hang_up()
                await until(lambda: facts(root, JobFailed))
                assert not recorder.running.done()
                reloading.write(ALL_THREE)
                hang_up()
                await until(lambda: books(root)["ETH"])
            return str(told.value).replace("\n", " | ")

    said = asyncio.run(scenario())

    assert [(fact.job, fact.error) for fact in facts(root, JobFailed)] == [("reload", said)]
    assert bad[1] in said
    assert f"the new configuration is refused, recording goes on by the old one: {said}" in caplog.text
    assert len(facts(root, Connected)) == 1


def test_what_the_connections_did_not_take_over_is_still_a_change(tmp_path, monkeypatch):
    """
    A fault of our own in the middle of it; asked again, it is taken over.
    """
    root = tmp_path / "root"
    carry, faults = Capture.carry, [RuntimeError("a fault")]

    def fails_once(self, wanted):
        if faults:
            raise faults.pop()
        carry(self, wanted)

    monkeypatch.setattr(Capture, "carry", fails_once)

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, tmp_path / "config.toml")
            async with reloading.recording():
                reloading.write(ALL_THREE)
                hang_up()
                await until(lambda: facts(root, JobFailed))
                hang_up()
                await until(lambda: books(root)["ETH"])

    asyncio.run(scenario())

    assert [fact.error for fact in facts(root, JobFailed)] == ["our own fault: RuntimeError: a fault"]


def test_what_cannot_change_while_recording_is_refused_by_name(tmp_path):
    """
    All of it, and the markets in the same file too: half of a change is none that anybody meant.
    """
    root = tmp_path / "root"

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, tmp_path / "config.toml")
            async with reloading.recording():
                reloading.write(ALL_THREE, "[journal]\nlevel = 3\nsegment_s = 30\n[capture]\nredundancy = 2")
                hang_up()
                await until(lambda: facts(root, JobFailed))
                before = books(root)["SOL"]
                await until(lambda: books(root)["SOL"] > before + 5)

    asyncio.run(scenario())

    keys = "capture.redundancy, journal.segment_s, journal.level"
    assert [fact.error for fact in facts(root, JobFailed)] == [
        f"{keys}: cannot change while recording; they take a restart"
    ]
    assert books(root)["ETH"] == 0
    assert {fact.stream.symbol for fact in facts(root, Requested)} == {"SOL-PERP", "BTC-PERP"}


def test_a_change_during_a_reconnect_is_asked_for_with_the_next_connection(tmp_path):
    """
    While nothing listens; the wish is on record at once.
    """
    root = tmp_path / "root"

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, tmp_path / "config.toml")
            port = int(url.split(":")[2].split("/")[0])
            context = reloading.recording()
            recorder = await context.__aenter__()
            await until(lambda: books(root)["BTC"])
        # The venue is gone.
        await until(lambda: facts(root, ConnectFailed))
        reloading.write('["SOL-PERP", "ETH-PERP"]')
        hang_up()
        await until(lambda: any(fact.why for fact in facts(root, Requested)))
        async with simulator(port=port):
            await until(lambda: books(root)["ETH"] > 3)
        assert not recorder.running.done()
        await context.__aexit__(None, None, None)

    asyncio.run(scenario())

    ops = [(fact.stream.symbol, fact.op) for fact in facts(root, Requested) if fact.stream.channel == "orderbook"]
    assert ops[:2] == [("BTC-PERP", "subscribe"), ("SOL-PERP", "subscribe")]
    assert ops[2:4] == [("BTC-PERP", "unsubscribe"), ("ETH-PERP", "subscribe")]
    assert sorted(ops[4:]) == [("ETH-PERP", "subscribe"), ("SOL-PERP", "subscribe")]


def test_two_signals_at_once_are_one_reading_and_a_later_one_another(tmp_path):
    """
    The last file counts, whenever it was written.
    """
    root = tmp_path / "root"

    def standing():
        last = {fact.stream: fact.op for fact in facts(root, Requested)}
        return {stream.symbol for stream, op in last.items() if op == "subscribe"}

    async def scenario():
        async with simulator() as url:
            reloading = Reloading(root, url, tmp_path / "config.toml")
            async with reloading.recording():
                await until(lambda: books(root)["BTC"])
                reloading.write(ALL_THREE)
                hang_up()
                hang_up()
                await until(lambda: books(root)["ETH"])
                once = reloading.times
                reloading.write('["ETH-PERP"]')
                hang_up()
                await asyncio.sleep(0)
                reloading.write('["SOL-PERP"]')
                hang_up()
                await until(lambda: standing() == {"SOL-PERP"})
            return once, reloading.times

    once, times = asyncio.run(scenario())

    assert once == 1
    assert times in {2, 3}
    assert standing() == {"SOL-PERP"}


def test_a_file_on_a_disk_that_hangs_is_refused_and_a_stop_meanwhile_is_quick(tmp_path, monkeypatch):
    """
    Each signal gets its answer, names are looked up as ever, and the end waits for no reading.
    """
    monkeypatch.setattr(daemon, "REREAD_S", 0.2)
    held = threading.Event()
    config = config_text("ws://127.0.0.1:1/ws", tmp_path)

    async def scenario():
        supervision = Supervision({}, send=said.append)
        options = {"reread": held.wait, "supervision": supervision}
        async with recording(text=config, root=tmp_path, **options) as recorder:
            for times in (1, 2):
                hang_up()
                await until(lambda: len(facts(tmp_path, JobFailed)) == times)  # noqa: B023
            monkeypatch.setattr(daemon, "REREAD_S", 60)
            hang_up()
            await until(lambda: "\n".join(said).count("RELOADING=1") == 3)
            began = asyncio.get_running_loop().time()
            recorder.stop("SIGTERM")
            await recorder.running
            return asyncio.get_running_loop().time() - began

    said = []
    try:
        took_s = asyncio.run(scenario())
    finally:
        held.set()

    assert took_s < 30
    assert "STOPPING=1" in said[-1]
    assert [fact.error for fact in facts(tmp_path, JobFailed)] == [
        "it could not be read within 0.2 s; does its disk hang?"
    ] * 2


def test_without_a_file_to_read_nothing_is_changed(tmp_path):
    """
    A recorder inside another program has none; the signal is not its own.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, url) as recorder:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            recorder.reload()
            await until(lambda: books(tmp_path)["SOL"] > 3)
            assert not recorder.running.done()

    asyncio.run(scenario())

    assert facts(tmp_path, JobFailed) == []
    assert len(facts(tmp_path, Disconnected)) == 1
