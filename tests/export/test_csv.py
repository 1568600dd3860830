"""
The vendors' CSV: their columns in their order, our rows, nothing made up.
"""

import csv
import gzip

import pytest
from click.testing import CliRunner

from faulty_lake import END, HOUR
from recorder.cli_export import export
from recorder.errors import RecorderError

TRADES = ["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"]


def exported(*arguments):
    """
    Run the verb; what it said.
    """
    result = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(path):
    """
    Of a CSV, plain or `.gz`.
    """
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("levels", [1, 5, 25])
def test_book_snapshots_have_the_vendors_columns_and_the_lakes_levels(faulty, faulty_root, tmp_path, levels):
    """
    asks before bids at each level, times in µs, levels that are not there empty.
    """
    path = tmp_path / "books.csv.gz"
    exported(faulty_root, f"book_snapshot_{levels}", "--market", "BTC-PERP", "-o", path)

    told = rows(path)
    books = faulty.books("BTC-PERP").collect().rows(named=True)
    assert len(told) == len(books)
    names = [f"{s}[{i}].{f}" for i in range(levels) for s in ("asks", "bids") for f in ("price", "amount")]
    assert list(told[0]) == ["exchange", "symbol", "timestamp", "local_timestamp", *names]
    recv = faulty.books("BTC-PERP").select("recv_ts", "ts").collect()
    ns, ms = recv["recv_ts"].to_physical().to_list(), recv["ts"].to_physical().to_list()
    for number, (row, book) in enumerate(zip(told, books, strict=True)):
        assert (row["exchange"], row["symbol"]) == ("test", "BTC-PERP")
        assert int(row["local_timestamp"]) == ns[number] // 1000
        assert int(row["timestamp"]) == ms[number] * 1000
        for side in ("ask", "bid"):
            for level in range(levels):
                price, amount = row[f"{side}s[{level}].price"], row[f"{side}s[{level}].amount"]
                if level < len(book[f"{side}_price"]):
                    assert float(price) == book[f"{side}_price"][level]
                    assert float(amount) == book[f"{side}_size"][level]
                else:
                    assert price == amount == ""


def test_trades_are_market_trades_with_the_aggressors_side(faulty, faulty_root, tmp_path):
    """
    Transfers are left out unless asked for; all markets are in one order of receipt.
    """
    exported(faulty_root, "trades", "-o", tmp_path / "t.csv")
    exported(faulty_root, "trades", "--transfers", "-o", tmp_path / "all.csv")

    told = rows(tmp_path / "t.csv")
    fills = faulty.trades().filter("is_market_trade").sort("recv_ts", "run", "seq").collect().rows(named=True)
    assert list(told[0]) == TRADES
    assert [(r["symbol"], int(r["id"]), r["side"], float(r["price"]), float(r["amount"])) for r in told] == [
        (f["symbol"], f["fill_record_id"], f["aggressor"] or "unknown", f["price"], f["base_amount"]) for f in fills
    ]
    assert len(rows(tmp_path / "all.csv")) == faulty.trades().collect().height


def test_the_holes_stand_beside_the_file(faulty, faulty_root, tmp_path):
    """
    Whoever gets the file can know what is not in it.
    """
    said = exported(
        faulty_root, "book_snapshot_1", "--market", "BTC-PERP", "-o", tmp_path / "b.csv", "--to", "2026-03-01T11:10"
    )

    holes = rows(tmp_path / "b.csv.holes.csv")
    assert [(int(h["start"]), int(h["end"]), h["state"], h["why"]) for h in holes] == [
        (h.start, h.end, h.state, h.why) for h in faulty.holes("BTC-PERP", HOUR, END, tables=["books"])
    ]
    assert any("silent" in h["why"] for h in holes)
    assert f"{len(holes)} stretches not proven complete" in said


def test_a_range_without_rows_is_a_header(faulty_root, tmp_path):
    """
    And not an error, nor a file without columns.
    """
    exported(faulty_root, "trades", "--from", "2026-03-01T10", "--to", "2026-03-01T10:01", "-o", tmp_path / "t.csv")

    assert (tmp_path / "t.csv").read_text() == ",".join(TRADES) + "\n"


def test_what_is_asked_wrong_is_refused(faulty_root, tmp_path):
    """
    With what to give instead, and no file.
    """
    for arguments, words in (
        (["parquet"], "is unknown; give trades"),
        (["hftbacktest"], "one market a file"),
        (["book_snapshot_0"], "is unknown"),
    ):
        result = CliRunner().invoke(export, [str(faulty_root), *arguments, "-o", str(tmp_path / "x")])
        assert result.exit_code == 2
        assert words in result.output
    with pytest.raises(RecorderError, match="no market 'NOPE'"):
        exported(faulty_root, "trades", "--market", "NOPE", "-o", tmp_path / "x")
    with pytest.raises(RecorderError, match="/nowhere: is not a folder; make it, or give another --output"):
        exported(faulty_root, "trades", "-o", tmp_path / "nowhere" / "x")
    assert list(tmp_path.iterdir()) == []
