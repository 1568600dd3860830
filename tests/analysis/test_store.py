"""
Lakes at a path, at a file URL, and in an object store: an S3 server in this process.
"""

from pathlib import Path

import pytest

from analysis_cases import Writer, blank, book, trade
from recorder.analysis import Lake
from recorder.errors import DamagedFile, RecorderError, RootError
from recorder.lake import layout
from recorder.records import HOUR_NS, SECOND_NS

HOUR = layout.parse_hour("2026-11-22T16")
MARKETS = ("SOL-PERP", "USDC")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """
    Three hours of two markets.
    """
    writer = Writer(tmp_path_factory.mktemp("roots") / "lake")
    for hour in (HOUR, HOUR + HOUR_NS, HOUR + 2 * HOUR_NS):
        tables: dict[tuple[str, str | None], list[dict[str, object]]] = {
            ("coverage", None): [
                blank("coverage") | {"start": hour, "symbol": symbol, "channel": "orderbook", "complete_s": 3600.0}
                for symbol in MARKETS
            ]
        }
        for symbol in MARKETS:
            tables["books", symbol] = [book(symbol, hour + at * SECOND_NS) for at in range(0, 3600, 600)]
            tables["trades", symbol] = [trade(symbol, hour + SECOND_NS)]
        writer.hour(hour, tables)
    return writer.root


@pytest.fixture(scope="module")
def bucket(root):
    """
    The same in a bucket: its URL, storage options, and the store to change it by.
    """
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # slow to load
    from obstore.store import S3Store  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    options = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "aws_endpoint_url": endpoint,
    }
    import boto3  # noqa: PLC0415

    boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    ).create_bucket(Bucket="lakes")
    store = S3Store("lakes", prefix="drift", config=options, client_options={"allow_http": True})
    for path in root.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(root).as_posix(), path)
    yield "s3://lakes/drift", options, store
    server.stop()


def test_a_file_url_is_a_folder(root):
    """
    As polars takes it.
    """
    assert Lake(f"file://{root}").books().collect().equals(Lake(root).books().collect())
    with pytest.raises(RecorderError, match="three slashes"):
        Lake("file://srv/lake")


def test_a_bucket_reads_as_the_folder_it_was_made_from(root, bucket):
    """
    Every table, with hours and markets chosen.
    """
    url, options, _ = bucket
    here, there = Lake(root), Lake(url, storage_options=options)

    assert there.venue == here.venue
    for ask in (
        lambda lake: lake.books("sol-perp", HOUR + HOUR_NS, HOUR + 2 * HOUR_NS),
        lambda lake: lake.trades(),
        lambda lake: lake.markets(),
        lambda lake: lake.hours(),
        lambda lake: lake.latest(),
        lambda lake: lake.gaps("USDC", end=HOUR + 4 * HOUR_NS),
        lambda lake: lake.bars("SOL-PERP", every="10m", gaps="ignore"),
    ):
        assert ask(there).collect().equals(ask(here).collect())


def test_only_the_hours_and_markets_asked_for_are_scanned_in_a_bucket(bucket):
    """
    Others cost no request.
    """
    url, options, _ = bucket
    plan = Lake(url, storage_options=options).books("SOL-PERP", HOUR, HOUR + HOUR_NS).explain()

    assert "s3://lakes/drift/lake/books/market=SOL-PERP/date=2026-11-22/hour=16/books.parquet" in plan
    assert plan.count(".parquet") == 1


def test_what_is_missing_in_a_bucket_is_told_by_name(bucket):
    """
    A manifest names it, and it is not there.
    """
    url, options, store = bucket
    name = "lake/trades/market=USDC/date=2026-11-22/hour=17/trades.parquet"
    kept = bytes(store.get(name).bytes())
    store.delete(name)
    lake = Lake(url, storage_options=options)

    with pytest.raises(DamagedFile, match=r"hour=17/trades.parquet: is not in s3://lakes/drift"):
        lake.trades("USDC")
    assert len(lake.trades("USDC", end=HOUR + HOUR_NS).collect()) == 1
    store.put(name, kept)


def test_a_replaced_hour_is_seen_by_a_lake_that_is_kept(bucket, root):
    """
    A listing tells; nothing is read again that did not change.
    """
    url, options, store = bucket
    lake = Lake(url, storage_options=options)
    assert lake.hours().collect()["complete"].all()
    name = layout.manifest_path(HOUR).as_posix()
    kept = bytes(store.get(name).bytes())
    store.put(name, kept.replace(b'"complete": true', b'"complete": false'))

    assert lake.hours().collect()["complete"].to_list() == [False, True, True]
    store.put(name, kept)


def test_a_bucket_that_cannot_be_read_is_told_in_one_line(bucket):
    """
    With what to do.
    """
    _, options, _ = bucket

    with pytest.raises(RootError, match=r"no root\.json in it"):
        Lake("s3://lakes/elsewhere", storage_options=options)
    with pytest.raises(RecorderError, match="storage_options"):
        Lake("s3://no-such-bucket-here/x", storage_options=options | {"aws_endpoint_url": "http://127.0.0.1:9"})


def test_live_needs_the_recorders_own_disk(bucket):
    """
    A bucket has no journal.
    """
    url, options, _ = bucket

    with pytest.raises(RecorderError, match="live=True reads the journal"):
        Lake(url, storage_options=options).books(live=True)
    with pytest.raises(RecorderError, match="live=True reads the journal"):
        Lake(url, storage_options=options, live=True)


def test_an_unknown_kind_of_address_is_told():
    """
    With those there are.
    """
    with pytest.raises(RecorderError, match="as polars scans it"):
        Lake("ftp://host/lake")
