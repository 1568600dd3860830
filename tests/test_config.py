"""
The configuration: what is taken, and how each mistake is said.
"""

import re
import tomllib
from pathlib import Path

import pytest

from recorder.capture.client import ClientSettings
from recorder.capture.session import SessionSettings
from recorder.config import MOST_NAMED, TABLES, Config, load_config, parse_config
from recorder.config_streams import connections, copies, quality_settings, streams, unlisted
from recorder.config_values import PLAINTEXT_WORDS, is_loopback
from recorder.daemon.settings import client_settings, journal_settings, session_settings
from recorder.errors import ConfigError
from recorder.journal.writer import JournalSettings
from recorder.records import QualitySettings, Stream
from recorder.venue.markets import market_list

CONFIGS = Path(__file__).parent.parent / "config"

VENUE = '[venue]\nname = "t"\nurl = "wss://h/ws"\nnetwork = "mainnet-beta"\n'
MARKETS = '[markets]\nperp = ["SOL-PERP"]\n'
STORAGE = '[storage]\nroot = "data"\n'
GOOD = VENUE + MARKETS + STORAGE


def parse(text: str) -> Config:
    """
    A text as the file `c.toml`.
    """
    return parse_config(text, file="c.toml")


def markets(lines: str, network: str = "mainnet-beta") -> Config:
    """
    The lines of `[markets]` in an otherwise good file.
    """
    return parse(VENUE.replace("mainnet-beta", network) + STORAGE + "[markets]\n" + lines)


def url(address: str, more: str = "") -> str:
    """
    A good file with another address, and lines after it.
    """
    return GOOD.replace('"wss://h/ws"', f'"{address}"\n{more}')


PIN = "A" * 43 + "="


def copy_urls(*addresses: str, redundancy: object = 2) -> str:
    """
    A file that records several copies.
    """
    named = ", ".join(f'"{address}"' for address in addresses)
    return VENUE + f"copy_urls = [{named}]\n" + MARKETS + STORAGE + f"[capture]\nredundancy = {redundancy}\n"


def perp(value: str) -> str:
    """
    A good file with another list of perps.
    """
    return VENUE + STORAGE + f"[markets]\nperp = {value}\n"


MISTAKES = [
    # The file as a whole.
    ("[venue\n", "TOML", "line 1", "config/"),
    ("a = \n", "TOML", "line 1", "config/"),
    (GOOD + VENUE, "TOML", "venue", "config/"),
    ("a = " + "[" * 100_000, "TOML", "nested", "config/"),
    ("", "venue.name", "missing", "add under [venue]"),
    # Tables and keys.
    (GOOD + "[capture_]\n", "capture_", "unknown table, did you mean capture?", "[capture]"),
    (GOOD + "[zzz]\n", "zzz", "unknown table", "[venue], [markets]"),
    ('colour = "red"\n' + GOOD, "colour", "unknown key", "[venue], [markets]"),
    ("grouping = 1\n" + GOOD, "grouping", "outside its table", "under [markets]"),
    ("venue = 3\n", "venue", "3 is not a table", "[venue]"),
    ("[[venue]]\n", "venue", "a list is not a table", "[venue]"),
    (
        GOOD + "[capture]\nheartbeat_timeout = 11\n",
        "capture.heartbeat_timeout",
        "did you mean heartbeat_timeout_s?",
        "idle",
    ),
    (GOOD + "[journal]\nmax_queue = 11\n", "journal.max_queue", "belongs under [capture]", "commit_interval_ms"),
    (GOOD + '[log]\n"le\\nvel" = 1\n', "log.le?vel", "did you mean level?", "level"),
    (VENUE + MARKETS, "storage.root", "missing", 'root = "data"'),
    (GOOD.replace('name = "t"\n', ""), "venue.name", "missing", "velocity-mainnet"),
    (GOOD.replace('url = "wss://h/ws"\n', ""), "venue.url", "missing", "wss://"),
    (GOOD.replace('network = "mainnet-beta"\n', ""), "venue.network", "missing", "velocity-mainnet-beta"),
    # Types and ranges.
    (GOOD.replace('"t"', "7"), "venue.name", "7 is not a string", "quotes"),
    (GOOD.replace('"data"', "7"), "storage.root", "7 is not a string", "quotes"),
    (GOOD + '[capture]\nmax_queue = "64"\n', "capture.max_queue", "'64' is not a whole number", "16 to 65536"),
    (GOOD + "[capture]\nmax_queue = 64.5\n", "capture.max_queue", "64.5 is not a whole number", "16 to 65536"),
    (GOOD + "[capture]\nmax_queue = true\n", "capture.max_queue", "true is not a whole number", "16 to 65536"),
    (GOOD + "[capture]\nmax_queue = 15\n", "capture.max_queue", "15 is out of range", "16 to 65536"),
    (GOOD + f"[capture]\nmax_queue = 0x{'f' * 9000}\n", "capture.max_queue", "a huge number is out of range", "16 to"),
    (GOOD + "[capture]\nopen_timeout_s = 10.5\n", "capture.open_timeout_s", "10.5 is out of range", "1 to 10"),
    (GOOD + "[capture]\nopen_timeout_s = nan\n", "capture.open_timeout_s", "nan is out of range", "1 to 10"),
    (GOOD + "[capture]\nopen_timeout_s = inf\n", "capture.open_timeout_s", "inf is out of range", "1 to 10"),
    (GOOD + "[capture]\nopen_timeout_s = 2026-01-01\n", "capture.open_timeout_s", "2026-01-01 is not a number", "1 to"),
    (GOOD + "[capture]\nheartbeat_timeout_s = 5\n", "capture.heartbeat_timeout_s", "5 is out of range", "6 to 120"),
    (GOOD + "[capture]\nmax_frame_bytes = 1024\n", "capture.max_frame_bytes", "out of range", "65536 to 16777216"),
    (GOOD + "[capture]\ncompression = 1\n", "capture.compression", "1 is not a yes or no", "true or false"),
    (GOOD + "[capture]\ncompression = {}\n", "capture.compression", "a table is not", "true or false"),
    (GOOD + "[journal]\nlevel = 20\n", "journal.level", "20 is out of range", "1 to 19"),
    (GOOD + "[journal]\nkeep_days = -1\n", "journal.keep_days", "-1 is out of range", "0.1 to 36500"),
    (GOOD + '[log]\nlevel = "warn"\n', "log.level", "did you mean warning?", "debug, info, warning, error"),
    (GOOD + "[log]\nlevel = 3\n", "log.level", "3 is unknown", "debug, info"),
    # Settings that do not fit together.
    (GOOD + "[capture]\nreconnect_first_s = 40\n", "capture.reconnect_first_s", "more than capture.rec", "30"),
    (GOOD + "[journal]\nqueue_bytes = 1048576\n", "capture.max_frame_bytes", "more than journal.queue", "1048576"),
    (GOOD + "[journal]\nframe_s = 20\nsegment_s = 10\n", "journal.frame_s", "more than journal.segment_s", "10"),
    (GOOD + "[journal]\ncommit_bytes = 67108864\nsegment_bytes = 1048576\n", "journal.commit_bytes", "more", "1048576"),
    # The venue.
    (GOOD.replace('"t"', '""'), "venue.name", "'' cannot be a label", "1 to 64"),
    (GOOD.replace('"t"', '"a b"'), "venue.name", "'a b' cannot be a label", "letters"),
    (GOOD.replace('"t"', '"../x"'), "venue.name", "'../x' cannot", "letters"),
    (GOOD.replace('"t"', f'"{"x" * 65}"'), "venue.name", "cannot be a label", "64"),
    (GOOD.replace("mainnet-beta", "mainnet"), "venue.network", "did you mean mainnet-beta?", "velocity-devnet"),
    (url(""), "venue.url", "'' is no websocket address", "wss://"),
    (url("h/ws"), "venue.url", "no websocket address", "wss://"),
    (url("https://h/ws"), "venue.url", "no websocket address", "wss://"),
    (url("wss:///ws"), "venue.url", "has no host", "wss://"),
    (url("wss://h:0/ws"), "venue.url", "has no port", "wss://"),
    (url("wss://h:99999/ws"), "venue.url", "Port out of range", "wss://"),
    (url("wss://h:x/ws"), "venue.url", "Port", "wss://"),
    (url("wss://[::1/ws"), "venue.url", "IPv6", "wss://"),
    (url("wss://h"), "venue.url", "path '' is answered with HTTP 400", "/ws"),
    (url("wss://h/ws/"), "venue.url", "path '/ws/' is answered with HTTP 400", "/ws"),
    (url("wss://h/WS"), "venue.url", "HTTP 400", "/ws"),
    (url("wss://h/ws#x"), "venue.url", "#fragment", "wss://"),
    (url("wss://h /ws"), "venue.url", "blank", "wss://"),
    (url("wss://h\\n/ws"), "venue.url", "control character", "wss://"),
    (url("ws://h/ws"), "venue.url", "not encrypted", PLAINTEXT_WORDS),
    (url("ws://h/ws", 'allow_plaintext = "yes"'), "venue.allow_plaintext", "'yes' are not the words", PLAINTEXT_WORDS),
    (VENUE + "copy_urls = 1\n" + MARKETS + STORAGE, "venue.copy_urls", "1 is not a list", "in quotes"),
    (VENUE + "copy_urls = [1]\n" + MARKETS + STORAGE, "venue.copy_urls", "1 is not a string", "in quotes"),
    (copy_urls("wss://b/ws", redundancy=1), "venue.copy_urls", "names 1 more server, with", "up to 0"),
    (copy_urls("wss://b/ws", "wss://c/ws"), "venue.copy_urls", "names 2 more servers, with", "capture.redundancy"),
    (copy_urls("ws://b/ws"), "venue.copy_urls", "not encrypted", PLAINTEXT_WORDS),
    (copy_urls("wss://b"), "venue.copy_urls", "path '' is answered", "/ws"),
    (copy_urls("wss://u:p@b/ws"), "venue.copy_urls", "user name or password", "wss://"),
    (url("wss://h/ws", 'pins = "A"'), "venue.pins", "'A' is not a list", "in quotes"),
    (url("wss://h/ws", 'pins = ["sha256"]'), "venue.pins", "'sha256' is no key pin", "SHA-256 in base64"),
    (url("wss://h/ws", f'pins = ["{"A" * 44}"]'), "venue.pins", "is no key pin", "SHA-256 in base64"),
    (url("wss://h/ws", f'pins = ["{PIN}", "{PIN}"]'), "venue.pins", "stands twice", "once"),
    (url("ws://127.0.0.1/ws", f'pins = ["{PIN}"]'), "venue.pins", "no key to pin", "wss://"),
    (url("wss://h/ws", 'proxy = "socks5://h:1"'), "venue.proxy", "no address of an HTTP proxy", "http://HOST:PORT"),
    (url("wss://h/ws", 'proxy = "http://h"'), "venue.proxy", "no address of an HTTP proxy", "http://HOST:PORT"),
    (url("wss://h/ws", 'proxy = "http://h:99999"'), "venue.proxy", "no address of an HTTP", "http://HOST:PORT"),
    (url("wss://h/ws", 'proxy = "http://u:p@h:1"'), "venue.proxy", "user name or password", "http://HOST:PORT"),
    (url("wss://h/ws", 'proxy = "http://h :1"'), "venue.proxy", "blank", "http://HOST:PORT"),
    (copy_urls(redundancy=0), "capture.redundancy", "0 is out of range", "1 to 4"),
    (copy_urls(redundancy=5), "capture.redundancy", "5 is out of range", "1 to 4"),
    (copy_urls(redundancy="true"), "capture.redundancy", "true is not a whole number", "1 to 4"),
    # Markets.
    (VENUE + STORAGE, "markets", "names no market", '"*"'),
    (perp("[]"), "markets", "names no market", '"*"'),
    (perp('"SOL-PERP"'), "markets.perp", "'SOL-PERP' is not a list", '"*"'),
    (perp("[3]"), "markets.perp", "3 is not a string", "symbols"),
    (perp('["*"]'), "markets.perp", "'*' stands in a list", "without brackets"),
    (perp('[""]'), "markets.perp", "'' is empty", "symbol"),
    (perp('["SOL PERP"]'), "markets.perp", "blank", "exactly"),
    (perp('["SOL-PERP "]'), "markets.perp", "blank", "exactly"),
    (perp('["SOL\\u0000"]'), "markets.perp", "control character", "exactly"),
    (perp('["SOL\\u202e"]'), "markets.perp", "control character", "exactly"),
    (perp(f'["{"X" * 65}"]'), "markets.perp", "too long", "64"),
    (perp('["SOL-PERP", "sol-perp"]'), "markets.perp", "'sol-perp' stands twice", "once"),
    (perp('["NEW-PERP", "new-perp"]'), "markets.perp", "'new-perp' stands twice", "once"),
    (GOOD.replace("perp =", 'spot = ["SOL", "SOL"]\nperp ='), "markets.spot", "'SOL' stands twice", "once"),
    (perp('["A"]\nchannels = []'), "markets.channels", "is empty", "orderbook, orderbook_indicative"),
    (perp('["A"]\nchannels = "trades"'), "markets.channels", "'trades' is not a list", "in a list"),
    (perp('["A"]\nchannels = ["Trades"]'), "markets.channels", "did you mean trades?", "priorityfees"),
    (perp('["A"]\nchannels = ["priorityFees"]'), "markets.channels", "did you mean priorityfees?", "priorityfees"),
    (perp('["A"]\nchannels = [["trades"]]'), "markets.channels", "a list is no channel", "trades"),
    (perp('["A"]\nchannels = ["trades", "trades"]'), "markets.channels", "'trades' stands twice", "once"),
    (perp('["A"]\ngrouping = 5'), "markets.grouping", "5 is no grouping", "allowed: 1, 10, 100, 500, 1000"),
    (perp('["A"]\ngrouping = "10"'), "markets.grouping", "'10' is no grouping", "1, 10"),
    (perp('["A"]\ngrouping = 1.0'), "markets.grouping", "1.0 is no grouping", "1, 10"),
    (perp('["A"]\ngrouping = true'), "markets.grouping", "true is no grouping", "1, 10"),
    (perp('["A"]\ngrouping = []'), "markets.grouping", "is empty", "1, 10"),
    (perp('["A"]\ngrouping = [10, 10]'), "markets.grouping", "10 stands twice", "once"),
    (perp('["A"]\ngrouping = [1, 7]'), "markets.grouping", "7 is no grouping", "1, 10"),
    # Storage.
    (GOOD.replace('"data"', '""'), "storage.root", "'' is empty", "folder"),
    (GOOD.replace('"data"', '" "'), "storage.root", "is empty", "folder"),
    (GOOD.replace('"data"', '"a\\u0000b"'), "storage.root", "control character", "folder"),
    (GOOD.replace('"data"', '"~nobody-of-this-name/x"'), "storage.root", "home folder", "folder"),
]


@pytest.mark.parametrize(("text", "key", "problem", "allowed"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_file_key_problem_and_what_is_allowed(text, key, problem, allowed):
    """
    The message alone must be enough to correct the file, in a line of bearable length for each mistake.
    """
    with pytest.raises(ConfigError) as caught:
        parse(text)

    error = caught.value
    assert error.file == "c.toml"
    assert error.key == key
    assert problem in error.problem
    assert allowed in error.allowed
    lines = str(error).split("\n")
    assert lines[0].startswith(f"c.toml: {key}: ")
    for line in lines:
        assert line.isprintable()
        assert line.startswith("c.toml: ")
        assert len(line) < 600


def test_all_mistakes_are_named_at_once():
    """
    Of each table its keys, types and ranges, and where those are right, what they mean.
    """
    text = """
    colour = "red"
    [venue]
    name = "a b"
    url = "https://h/ws"
    network = "mainnet"
    [markets]
    perp = ["SOL-PERP", "sol-perp"]
    channels = ["Trades"]
    [capture]
    redundancy = 5
    max_queues = 3
    compression = "yes"
    [storage]
    [journal]
    keep_days = 3
    """

    with pytest.raises(ConfigError) as caught:
        parse(text)

    keys = [line.split(": ")[1] for line in str(caught.value).split("\n")]
    assert keys == [
        "colour", "storage.root", "capture.max_queues", "capture.redundancy", "capture.compression",
        "venue.name", "venue.network", "venue.url", "markets.perp", "markets.channels",
    ]  # fmt: skip


def test_what_does_not_fit_together_is_all_named_once_each_value_is_right():
    """
    Before that it would be a guess.
    """
    with pytest.raises(ConfigError) as caught:
        parse(GOOD + "[capture]\nreconnect_first_s = 40\n[journal]\nframe_s = 20\nsegment_s = 10\n")

    lines = str(caught.value).split("\n")
    assert [line.split(": ")[1] for line in lines] == ["capture.reconnect_first_s", "journal.frame_s"]


def test_of_very_many_mistakes_some_are_named_and_the_rest_counted():
    """
    A file that is something else would fill the screen.
    """
    with pytest.raises(ConfigError) as caught:
        parse(GOOD + "[capture]\n" + "".join(f"key{number} = 1\n" for number in range(1000)))

    lines = str(caught.value).split("\n")
    assert len(lines) == MOST_NAMED + 1
    assert lines[-1] == f"c.toml: and {1000 - MOST_NAMED} further mistakes"


def test_a_password_in_the_address_is_refused_and_not_repeated():
    """
    Facts and headers hold the address, and messages end in logs: a secret must get into neither.
    """
    with pytest.raises(ConfigError) as caught:
        parse(url("wss://me:hunter2@h/ws"))

    assert caught.value.key == "venue.url"
    assert "hunter2" not in str(caught.value)


def test_a_key_in_the_query_is_not_repeated():
    """
    A query may carry an access key.
    """
    with pytest.raises(ConfigError) as caught:
        parse(url("ws://h/ws?key=hunter2"))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["wss://h/ws", "wss://h:8443/ws?x=1", "WSS://H/ws", "wss://[2001:db8::1]:443/ws", "ws://127.0.0.1:1/ws",
     "ws://localhost:8765/ws", "ws://[::1]:8765/ws"],
)  # fmt: skip
def test_addresses_of_a_venue_are_taken_as_written(address):
    """
    Any host and port, a query, and plaintext to this machine.
    """
    assert parse(url(address)).venue.url == address


def test_plaintext_elsewhere_takes_the_exact_words():
    """
    Whoever types the words knows what is accepted.
    """
    assert parse(url("ws://h/ws", f'allow_plaintext = "{PLAINTEXT_WORDS}"')).venue.url == "ws://h/ws"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False),
     ("localhost.example", False), ("0.0.0.0", False), ("127.0.0.1.example", False)],
)  # fmt: skip
def test_loopback_is_told_without_asking_the_network(host, expected):
    """
    A name that merely looks local must not be trusted.
    """
    assert is_loopback(host) is expected


def test_the_shortest_file_takes_every_default():
    """
    Only what nobody can guess has to be written.
    """
    config = parse(GOOD)

    assert config.markets.channels == ("orderbook", "trades")
    assert config.markets.grouping == (1,)
    assert [getattr(config, name) for name in ("capture", "journal", "quality", "seal", "log")] == [
        TABLES[name]() for name in ("capture", "journal", "quality", "seal", "log")
    ]


def test_a_listed_market_takes_the_lists_spelling_and_another_keeps_its_own():
    """
    The acknowledgement repeats our spelling, so there is one; a market unknown here may exist at the server.
    """
    config = markets('perp = ["sol-perp", "Brand-New"]\nspot = ["JITOSOL"]')

    assert config.markets.perp == ("SOL-PERP", "Brand-New")
    assert config.markets.spot == ("jitoSOL",)
    assert unlisted(config) == [("perp", "Brand-New", [])]


def test_an_unlisted_market_comes_with_the_names_it_may_have_meant():
    """
    `check` says them: a misspelled market would be rejected by the server and never record anything.
    """
    ((_, symbol, near),) = unlisted(markets('perp = ["SOL_PERP"]'))

    assert symbol == "SOL_PERP"
    assert near[0] == "SOL-PERP"


def test_a_hostile_market_name_is_just_a_name():
    """
    Paths are encoded by the layout, so nothing has to be refused for how it would look in one.
    """
    assert markets('perp = ["../../etc"]').markets.perp == ("../../etc",)


def test_a_star_means_all_that_are_listed():
    """
    Delisted markets and tokens without a book would only be silent.
    """
    drift = markets('perp = "*"\nspot = "*"')

    assert len(drift.markets.perp) == 86 - 31
    assert len(drift.markets.spot) == 63
    assert markets('perp = "*"\nspot = "*"', "velocity-mainnet-beta").markets.spot == ()


def test_a_star_names_a_doubled_market_once():
    """
    Devnet lists USDC and GLXY twice; a name can be subscribed once.
    """
    spot = markets('spot = "*"', "devnet").markets.spot

    assert len(spot) == len(set(spot)) == len(market_list("devnet").spots) - 2


def test_streams_are_markets_by_channels_by_groupings():
    """
    Groupings concern books only; the order is fixed, so that files that list the streams are too.
    """
    config = markets('perp = ["SOL-PERP"]\nspot = ["SOL"]\nchannels = ["trades", "orderbook"]\ngrouping = [100, 1]')

    assert streams(config) == [
        Stream("perp", "SOL-PERP", "orderbook", 1),
        Stream("perp", "SOL-PERP", "orderbook", 100),
        Stream("perp", "SOL-PERP", "trades", None),
        Stream("spot", "SOL", "orderbook", 1),
        Stream("spot", "SOL", "orderbook", 100),
        Stream("spot", "SOL", "trades", None),
    ]


@pytest.mark.parametrize(("limit", "sizes"), [(0, [5]), (5, [5]), (9, [5]), (2, [2, 2, 1]), (4, [3, 2]), (1, [1] * 5)])
def test_connections_keep_a_markets_streams_together_and_share_evenly(limit, sizes):
    """
    Every stream on exactly one connection, no connection over the limit.
    """
    text = perp('["A", "B", "C", "D"]\nspot = ["A"]\ngrouping = [1, 10]')
    config = parse(text + f"[capture]\nmarkets_per_connection = {limit}\n")

    split = connections(config)

    assert sorted(stream for carried in split for stream in carried) == streams(config)
    of_connection = [{(s.market_type, s.symbol) for s in carried} for carried in split]
    assert [len(names) for names in of_connection] == sizes
    assert sum(map(len, of_connection)) == len(set.union(*of_connection))


@pytest.mark.parametrize(
    ("number", "named", "expected"),
    [
        (1, "[]", ["wss://h/ws"]),
        (2, "[]", ["wss://h/ws", "wss://h/ws"]),
        (2, '["wss://b/ws"]', ["wss://h/ws", "wss://b/ws"]),
        (4, '["ws://[::1]:9/ws", "wss://c/ws?k=1"]', ["wss://h/ws", "ws://[::1]:9/ws", "wss://c/ws?k=1", "wss://h/ws"]),
    ],
)
def test_each_copy_has_an_address(number, named, expected):
    """
    The one named for it, else the first one's.
    """
    config = parse(VENUE + f"copy_urls = {named}\n" + MARKETS + STORAGE + f"[capture]\nredundancy = {number}\n")

    assert copies(config) == expected


def test_the_monitors_thresholds_come_from_the_file():
    """
    They are journaled; a setting that stopped here would be one without effect.
    """
    text = "[capture]\nsilent_after_s = 7\n[quality]\nheartbeat_gap_s = 8\ntrade_wait_s = 9\nhalted_after_s = 30\n"

    assert quality_settings(parse(GOOD)) == QualitySettings()
    assert quality_settings(parse(GOOD + text)) == QualitySettings(
        heartbeat_gap_s=8.0, silent_after_s=7.0, trade_wait_s=9.0, halted_after_s=30.0
    )


def test_the_home_folder_is_expanded(monkeypatch):
    """
    A folder called `~` is never what was meant.
    """
    monkeypatch.setenv("HOME", "/home/somebody")

    assert parse(GOOD.replace('"data"', '"~/lake"')).storage.root == Path("/home/somebody/lake")


def test_a_file_saved_on_another_system_reads_the_same():
    """
    Line ends and byte order mark of Windows editors are no mistakes.
    """
    assert parse("\ufeff" + GOOD.replace("\n", "\r\n")) == parse(GOOD)


def test_a_missing_file_is_a_config_error(tmp_path):
    """
    One line that names the file, not a traceback.
    """
    with pytest.raises(ConfigError, match=r"nothing\.toml: file: cannot be read: No such file"):
        load_config(tmp_path / "nothing.toml")


def test_a_folder_is_a_config_error(tmp_path):
    """
    The same for what is no file.
    """
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("raw", "problem"), [(b"PAR1\xff\xfe", "byte 4 is not UTF-8"), (b"#" * (1 << 20) + b"\n", "larger")]
)
def test_a_file_that_is_something_else_is_a_config_error(tmp_path, raw, problem):
    """
    A Parquet file or a log given by mistake must not be read as a whole or end in a traceback.
    """
    path = tmp_path / "c.toml"
    path.write_bytes(raw)

    with pytest.raises(ConfigError, match=problem):
        load_config(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_under_its_own_name(path):
    """
    The examples are the first thing a user runs, and their markets are in the list they name.
    """
    config = load_config(path)

    assert config.venue.name == path.stem
    assert unlisted(config) == []


def test_the_shipped_configs_are_the_five_venues():
    """
    The glob above must not pass by finding nothing.
    """
    names = {path.stem for path in CONFIGS.glob("*.toml")}

    assert names == {"drift-mainnet", "drift-devnet", "velocity-mainnet", "velocity-devnet", "demo"}


def reference() -> tuple[str, set[str]]:
    """
    `velocity-mainnet.toml` with its commented defaults uncommented, and the keys that were commented.
    """
    table, commented, lines = "", set(), []
    for line in (CONFIGS / "velocity-mainnet.toml").read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            table = heading[1]
        if default := re.fullmatch(r"# (([a-z_]+) = .+)", line):
            commented.add(f"{table}.{default[2]}")
            lines.append(default[1])
        else:
            lines.append(line)
    return "\n".join(lines), commented


def test_the_reference_shows_every_key():
    """
    A key that is in the code only is found by nobody.
    """
    text, commented = reference()
    written = {f"{table}.{key}" for table, keys in tomllib.loads(text).items() for key in keys}

    assert written == {f"{name}.{key}" for name, struct in TABLES.items() for key in struct.__struct_fields__}
    assert written - commented == {"venue.name", "venue.url", "venue.network", "markets.perp", "storage.root"}


def test_the_defaults_in_the_reference_are_those_of_the_code():
    """
    Uncommenting all of them changes nothing, so comment and code cannot drift apart.
    """
    text, _ = reference()

    assert parse(text) == load_config(CONFIGS / "velocity-mainnet.toml")


def test_every_setting_says_its_unit_and_reason():
    """
    The struct is the reference for readers of the code: each field of the tuned tables has its docstring below it.
    """
    source = (Path(__file__).parent.parent / "recorder" / "config.py").read_text()

    for name in ("capture", "journal", "quality", "seal"):
        for key in TABLES[name].__struct_fields__:
            assert re.search(rf"^    {key}: .+ = .+\n    \"\"\".+\"\"\"$", source, re.MULTILINE), key


def test_the_parts_default_to_what_the_configuration_does():
    """
    The structs that the capture and the journal take their settings in repeat no default of their own.
    """
    config = parse(GOOD)

    assert session_settings(config) == SessionSettings()
    assert client_settings(config) == ClientSettings()
    assert journal_settings(config) == JournalSettings()
