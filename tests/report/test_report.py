"""
The report in a real Chromium: everything is drawn, nothing is asked of a network, names stay names, a phone is enough.
"""

import asyncio
import os

import pytest
from click.testing import CliRunner

from analysis_cases import Writer, blank
from browser import browser, missing
from lake_cases import HOUR, NEXT, Run, S, book, make_root, trade
from recorder.analysis import Lake
from recorder.cli_report import report as verb
from recorder.errors import RecorderError
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS, Stream
from recorder.report.contents import gather

WITHOUT = missing()
in_browser = pytest.mark.skipif(
    bool(WITHOUT) and not os.environ.get("CI"), reason=f"THE REPORT WAS NOT LOOKED AT: {WITHOUT}"
)

FITS = """document.documentElement?.dataset.drawn !== undefined &&
  [...document.querySelectorAll('.figure')].every(f => f.clientWidth < innerWidth &&
  f.querySelector('svg.main-svg').getBoundingClientRect().width <= f.clientWidth + 1)"""
HOSTILE = "</script><img src=x onerror=document.title=1><b>"


def reported(root, path, *options):
    """
    Run the verb.
    """
    arguments = [str(root), "-o", str(path), *options]
    result = CliRunner().invoke(verb, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


async def seen(path, screens):
    """
    What a browser makes of a file: drawn figures, complaints, requests, and of each screen its width and what it needs.
    """
    async with browser(path.as_uri()) as tab:
        await tab.until("document.documentElement?.dataset.drawn !== undefined")
        drawn = int(await tab.ask("document.documentElement.dataset.drawn"))
        shown = int(
            await tab.ask("[...document.querySelectorAll('.figure')].filter(f => f.querySelector('svg')).length")
        )
        widths, grounds = [], []
        for width, scheme in screens:
            await tab.look(width=width, height=900, scheme=scheme, phone=width < 500)
            await tab.until(f"innerWidth === {width}")
            # A figure that is wider than its place is cut off there.
            await tab.until(FITS)
            widths.append(await tab.ask("document.documentElement.scrollWidth"))
            grounds.append(await tab.ask("getComputedStyle(document.body).backgroundColor"))
            if os.environ.get("KEEP_PICTURES"):
                await tab.picture(path.with_name(f"{path.stem}-{width}-{scheme}.png"), whole=True)
        title = await tab.ask("document.title")
        text = await tab.ask("document.body.innerText")
        images = await tab.ask("document.images.length")
        return {
            "drawn": drawn, "shown": shown, "widths": widths, "grounds": grounds, "title": title, "text": text,
            "images": images, "complaints": tab.complaints, "requests": tab.requests,
        }  # fmt: skip


@in_browser
def test_a_day_is_drawn_whole_on_any_screen_and_asks_no_network(faulty_root, tmp_path):
    """
    Wide and narrow, light and dark: no error, no request but for the file itself, nothing beyond the edge of a phone.
    """
    said = reported(faulty_root, tmp_path / "r.html")

    found = asyncio.run(seen(tmp_path / "r.html", [(1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")]))

    assert "2026-03-01" in said
    assert found["complaints"] == []
    assert [url for url in found["requests"] if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len({url for url in found["requests"] if url.startswith("file:")}) == 1
    assert found["drawn"] == found["shown"] == 4 + 4  # calendar, events, latency, volume; the top of four books
    assert all(needed <= width for needed, width in zip(found["widths"], (1280, 1280, 390, 390), strict=True))
    assert found["grounds"][0] != found["grounds"][1]
    for words in ("SOL-PERP books", "BTC-PERP trades", "silent", "trade_gap", "Coverage by hour", "What was recorded"):
        assert words in found["text"]


@in_browser
def test_a_hostile_name_is_shown_and_does_nothing(tmp_path):
    """
    A market's name, and what an event quotes of it, come from the wire.
    """
    root = make_root(tmp_path / "root")
    streams = (Stream("perp", HOSTILE, "orderbook", 1), Stream("perp", HOSTILE, "trades"))
    run = Run(root, HOUR + S, streams=streams)
    run.connect(HOUR + S)
    for at in [*range(HOUR + 2 * S, HOUR + 60 * S, S), *range(HOUR + 90 * S, HOUR + 120 * S, S)]:
        run.frame(at, book(HOSTILE, 0, at, at // S))
        run.frame(at + 1, trade(0, at, at // S))
    run.frame(HOUR + 121 * S, b"<script>document.title=2</script>")
    run.close(HOUR + 122 * S)
    seal(root)
    reported(root, tmp_path / "r.html")

    found = asyncio.run(seen(tmp_path / "r.html", [(390, "light")]))

    assert HOSTILE in found["text"]
    assert found["title"].startswith("test ·")
    assert found["images"] == 0
    assert found["complaints"] == []
    assert [url for url in found["requests"] if not url.startswith(("file:", "data:", "blob:"))] == []
    assert found["widths"] == [390]


def test_the_file_holds_plotly_once_and_no_address_to_load(faulty_root, tmp_path):
    """
    It can be mailed and kept: nothing outside of it is needed.
    """
    reported(faulty_root, tmp_path / "r.html", "--day", "2026-03-01")
    text = (tmp_path / "r.html").read_text()

    assert text.count("plotly.js v") == 1
    assert "default-src 'none'" in text
    outside = text.replace(text[text.index("<script>") : text.index("</script>")], "")
    assert "http://" not in outside
    assert "https://" not in outside
    assert len(text) < 8_000_000


def test_the_share_that_is_proven_is_told_alike_of_all_and_of_each(tmp_path):
    """
    Of all the time up to where the last hour is judged: what was not recorded is not complete.
    """
    root = make_root(tmp_path / "root")
    hours = (HOUR, HOUR + 3 * 3600 * S)
    for start in hours:
        run = Run(root, start + S)
        run.connect(start + S)
        run.hear(start + 2 * S, start + 600 * S)
        run.close(start + 600 * S)
    seal(root, open_hour=True)
    first, last = HOUR, HOUR + 4 * 3600 * S

    contents = gather(Lake(root), first, last)

    shares = [float(row[2].removesuffix(" %")) for row in contents.sections[0].table.rows]
    books = next(row for row in contents.sections[0].table.rows if row[0] == "SOL-PERP books")
    assert float(books[2].removesuffix(" %")) == pytest.approx(2 * 598 / (4 * 3600) * 100, rel=0.02)
    assert float(dict(contents.facts)["proven complete"].removesuffix(" %")) == pytest.approx(
        sum(shares) / len(shares), abs=0.02
    )


def test_the_time_before_the_first_run_is_no_hole_and_that_before_a_later_one_is(tmp_path):
    """
    In figures, table and calendar; the page says what it leaves out, and nothing where it leaves out nothing.
    """
    root = make_root(tmp_path / "root")
    for start, end in ((HOUR + 1800 * S, NEXT), (NEXT + 1200 * S, NEXT + 3600 * S)):
        run = Run(root, start)
        run.connect(start)
        run.hear(start + S, end)
        run.close(end)
    seal(root)

    contents, later = gather(Lake(root), HOUR, NEXT + HOUR_NS), gather(Lake(root), NEXT, NEXT + HOUR_NS)

    rows = {row[0]: row for row in contents.sections[0].table.rows}
    assert rows["SOL-PERP books"][2:8] == ["77.74 %", "–", "20.0 min", "–", "20.0 min", "0"]
    assert "The time before the first run is left out" in contents.sections[0].words
    assert "The time before the first run is left out" in contents.sections[1].words
    heat = contents.sections[1].figures[0].data[0]
    books = list(heat.y).index("SOL-PERP books")
    assert list(heat.z[books]) == pytest.approx([99.9, 66.6], abs=0.1)
    assert "1800 s before the first run" in heat.text[books][0]
    drawn = contents.sections[-1].figures[0]
    assert drawn.layout.xaxis.range[0].startswith("2025-03-01 10:30:00")
    assert not any(shape.x0 < drawn.layout.xaxis.range[0] for shape in drawn.layout.shapes)
    assert not any("before the first run" in section.words for section in later.sections)
    assert {row[0]: row[4] for row in later.sections[0].table.rows}["SOL-PERP books"] == "20.0 min"


def test_of_an_hour_so_far_the_calendar_says_what_the_table_does(tmp_path):
    """
    What is not sealed yet is neither complete nor missing: a minute without a hole is no hour of holes.
    """
    row = blank("coverage") | {"start": HOUR, "symbol": "SOL-PERP", "market_type": "perp", "channel": "orderbook"}
    spans = {
        "span_start": [HOUR, HOUR + 600 * S, HOUR + 601 * S],
        "span_state": ["missing", "missing", "complete"],
        "span_why": ["not running", "connected", "ticks"],
    }
    row |= spans | {"missing_s": 601.0, "complete_s": 59.0}
    Writer(tmp_path).hour(HOUR, {("coverage", None): [row]}, complete=False)

    contents = gather(Lake(tmp_path), HOUR, NEXT)

    shares = {row[0]: float(row[2].removesuffix(" %")) for row in contents.sections[0].table.rows}
    heat = contents.sections[1].figures[0].data[0]
    assert shares == {"SOL-PERP books": 98.33}
    assert {name: share for name, (share,) in zip(heat.y, heat.z, strict=True)} == pytest.approx(shares, abs=0.02)
    assert "600 s before the first run, 2940 s not sealed yet" in heat.text[0][0]


def test_a_tenth_of_a_second_short_of_an_hour_is_not_all_of_it(tmp_path):
    """
    Rounded to the nearest it would say 100 %.
    """
    row = blank("coverage") | {"start": HOUR, "symbol": "SOL-PERP", "market_type": "perp", "channel": "orderbook"}
    spans = {
        "span_start": [HOUR, HOUR + S // 10],
        "span_state": ["missing", "complete"],
        "span_why": ["silent", "ticks"],
    }
    Writer(tmp_path).hour(HOUR, {("coverage", None): [row | spans | {"missing_s": 0.1, "complete_s": 3599.9}]})

    contents = gather(Lake(tmp_path), HOUR, NEXT)

    assert dict(contents.facts)["proven complete"] == contents.sections[0].table.rows[0][2] == "99.99 %"


def test_a_day_of_which_nothing_is_sealed_has_no_report(faulty_root, tmp_path):
    """
    Told with the days of which there is something; and no file is replaced unasked.
    """
    with pytest.raises(
        RecorderError, match="nothing of 2026-02-27 is sealed; hours are from 2026-03-01 10:00 to 2026-03-01 11:59 UTC"
    ):
        reported(faulty_root, tmp_path / "r.html", "--day", "2026-02-27")
    assert not (tmp_path / "r.html").exists()
    (tmp_path / "r.html").touch()
    with pytest.raises(RecorderError, match="--overwrite"):
        reported(faulty_root, tmp_path / "r.html")
    with pytest.raises(RecorderError, match=r"no hour is sealed yet; `drift-recorder seal .* --open`"):
        reported(make_root(tmp_path / "empty"), tmp_path / "e.html")
