"""
Every answer of the cookbook, on a lake with holes: it runs, says something, and crosses no hole unsaid.
"""

import json
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

import recorder.analysis
from faulty_lake import START
from recorder.analysis import Lake
from recorder.records import SECOND_NS

FOLDER = Path(recorder.analysis.__file__).parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
PRELUDE = re.search(r"<!-- prelude -->\n```python\n(.*?)```", TEXT, re.DOTALL)[1]
RECIPES = {
    heading: "\n".join(re.findall(r"```python\n(.*?)```", body, re.DOTALL))
    for heading, body in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
}
SILENT = (START + 185 * SECOND_NS, START + 255 * SECOND_NS)
"""Well inside the silence of BTC-PERP."""


def answered(code, root, market="SOL-PERP"):
    """
    The names a recipe leaves behind.
    """
    names: dict[str, object] = {}
    code = f"{PRELUDE}\n{code}".replace('"demo-lake"', repr(str(root))).replace('"SOL-PERP"', repr(market))
    exec(compile(code, "cookbook", "exec"), names)  # noqa: S102  # that is the test
    return names["answer"]


@pytest.mark.parametrize("heading", RECIPES)
def test_the_recipe_answers(heading, faulty_root, capsys):
    """
    As it stands in the cookbook; an empty answer would teach nothing.
    """
    answer = answered(RECIPES[heading], faulty_root)

    assert answer.data if hasattr(answer, "to_plotly_json") else len(answer)


@pytest.mark.parametrize("heading", RECIPES)
def test_the_recipe_shows_something_of_what_a_demo_recorded(heading, demo_root, capsys):
    """
    The lake that a reader has: most of its hour is before the first run, and nulls would teach nothing of the recipe.
    """
    answer = answered(RECIPES[heading], demo_root)

    if isinstance(answer, pl.DataFrame):
        assert answer.height
        assert answer.null_count().sum_horizontal().item() < answer.height * answer.width / 2
        assert all(
            column.null_count() <= answer.height / 2 or column.name in {"missing", "grouping"} for column in answer
        )


def test_the_holes_that_a_demo_made_are_among_the_answers(demo_root):
    """
    Where, of which fills, and in the order of what happened, by the clock.
    """
    assert ("BTC-PERP", "silent") in answered(recipe(3), demo_root).select("symbol", "why").rows()
    assert answered(recipe(18), demo_root).select("symbol", "missing").rows() == [("BTC-PERP", 10)]
    assert "BTC-PERP books: missing (silent) from 10:36:02 on" in answered(recipe(22), demo_root)


def test_there_are_at_least_fifteen():
    """
    And no two have one number.
    """
    numbers = [int(heading.split(".")[0]) for heading in RECIPES]

    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 15


def recipe(number):
    """
    By its number.
    """
    return next(code for heading, code in RECIPES.items() if heading.startswith(f"{number}. "))


@pytest.mark.parametrize(("number", "value"), [(5, "mid"), (7, "bps")])
def test_no_answer_speaks_of_an_instant_in_a_hole(number, value, faulty_root):
    """
    The market was silent for eighty seconds: there is no mid and no volatility of it.
    """
    answer = answered(recipe(number), faulty_root, "BTC-PERP")

    inside = answer.filter(pl.col("recv_ts").dt.timestamp("ns").is_between(*SILENT))
    assert inside[value].null_count() == inside.height
    assert answer[value].drop_nulls().len() > 5


def test_a_stretch_that_was_not_heard_to_its_end_has_no_volatility(faulty_root):
    """
    The recording may begin or end in its midst: what is known of it is not the whole.
    """
    whole = answered(recipe(7), faulty_root, "ETH-PERP").drop_nulls()["recv_ts"][0]
    bounds = f"'{whole:%Y-%m-%dT%H:%M:%S}Z', '{whole + timedelta(seconds=5):%Y-%m-%dT%H:%M:%S}Z'"
    answer = answered(recipe(7).replace("*lake.heard()", bounds, 1), faulty_root, "ETH-PERP")

    assert answer.rows() == [(whole, None)]


def test_what_a_trade_costs_is_among_the_answers(faulty_root):
    """
    Each side, price and cost, in every row; and segments, where depth is asked for without holes.
    """
    costs = answered(recipe(10), faulty_root)
    depth = answered(recipe(9), faulty_root)

    assert set(costs.columns) == {"recv_ts", "buy_price", "sell_price", "buy_bps", "sell_bps"}
    assert costs.drop_nulls().height > 5
    assert depth["segment"].n_unique() > 1


def test_what_came_after_a_trade_is_among_the_answers(faulty_root):
    """
    The realised spread is what the recipe promises.
    """
    assert {"effective_spread_bps", "realised_spread_bps_5s"} <= set(answered(recipe(16), faulty_root).columns)


def test_both_kinds_of_sql_count_the_same_trades(faulty_root, capsys):
    """
    Position transfers are no volume, in either.
    """
    answer = answered(recipe(20), faulty_root).to_dict(as_series=False)

    trades = Lake(faulty_root).trades().filter("is_market_trade").group_by("symbol").agg(pl.col("quote_amount").sum())
    assert dict(zip(answer["symbol"], answer["value"], strict=True)) == pytest.approx(
        dict(trades.collect().iter_rows())
    )


@pytest.mark.parametrize("market", ["SOL-PERP", "BTC-PERP"])
def test_no_whole_bar_touches_a_hole_of_the_trades(market, faulty_root):
    """
    Its volume would be too low, and nobody would know.
    """
    starts = answered(recipe(14), faulty_root, market)["start"].to_physical().to_list()
    holes = Lake(faulty_root).holes(market, tables=["trades"])

    wrong = [hole for hole in holes if hole.state != "unverifiable" for at in starts
             if at < hole.end and at + 10 * SECOND_NS > hole.start]  # fmt: skip
    assert len(starts) > 5
    assert wrong == []


def test_the_seconds_of_a_hole_do_not_count(faulty_root):
    """
    Of the average spread it is told how much was known.
    """
    answer = answered(recipe(6), faulty_root)

    covered = dict(zip(answer["symbol"], answer["covered_s"], strict=True))
    assert covered["BTC-PERP"] < covered["ETH-PERP"] - 75


def test_missing_fills_are_those_the_venue_kept_back(faulty_root):
    """
    Counted by the recipe as by coverage.
    """
    answer = answered(recipe(18), faulty_root)

    told = Lake(faulty_root).coverage("SOL-PERP").select(pl.col("fills_missing").sum()).collect().item()
    assert answer.filter(symbol="SOL-PERP")["missing"].sum() == told > 0


def test_the_notebook_runs_from_top_to_bottom_and_holds_no_outputs(faulty_root, tmp_path, monkeypatch):
    """
    Its cells in order, in one namespace, on the same lake.
    """
    notebook = json.loads((FOLDER / "cookbook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "demo-lake").symlink_to(faulty_root)
    monkeypatch.chdir(tmp_path)

    names: dict[str, object] = {"display": lambda *_: None}
    for cell in cells:
        exec(compile("".join(cell["source"]), "notebook", "exec"), names)  # noqa: S102  # that is the test

    assert notebook["nbformat"] == 4
    assert len(cells) > 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert all(a < b for a, b in pairwise(ids))
