"""
The page in a real Chromium: it updates, a market can be chosen, a hole appears, hostile text stays text.
"""

import asyncio
import os

import pytest

from browser import browser, missing
from loopback import recording, simulator, until, within_an_hour
from recorder.lake.sealing import seal
from recorder.page.serve import Page, serve
from recorder.simulator.kinds import Garbage, Silence

WITHOUT = missing()

pytestmark = pytest.mark.skipif(
    bool(WITHOUT) and not os.environ.get("CI"), reason=f"THE PAGE WAS NOT LOOKED AT: {WITHOUT}"
)

HOSTILE = '{"channel":"orderbook_perp_0_grouped_1","data":"{\\"marketName\\":\\"<img src=x onerror=alert(1)>\\"}"}'
ERROR = '{"error":"<script>document.title=1</script>","channel":"orderbook"}'


async def _looked_at(tmp_path):
    root = tmp_path / "root"
    faults = [
        # Noticed after 5 s; not so long that the market would move to a connection of its own. On a slow machine the
        # first is over before anybody looks.
        *(Silence(from_s=at, to_s=at + 9.5, market="SOL-PERP") for at in (5, 25, 45, 65)),
        Garbage(at_s=3, text=HOSTILE),
        Garbage(at_s=3.5, text=ERROR),
    ]
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    # The browser first: how long it takes to start is nobody's business.
    async with (
        browser("about:blank") as tab,
        simulator(port=0, faults=tuple(faults)) as venue,
        recording(root, venue) as recorder,
    ):
        await until(lambda: recorder.tape.journal.committed[0] > 20, within_s=20)
        await asyncio.to_thread(seal, root, open_hour=True)
        serving = asyncio.create_task(serve(Page(root), host="127.0.0.1", port=0, ready=address.set_result, stop=stop))
        try:
            await tab.send("Page.navigate", url=await address)
            await _use(tab)
        finally:
            stop.set()
            await serving


async def _use(tab):
    # It shows what is recorded, and goes on doing so by itself.
    await tab.look(width=1440, height=1000)
    await tab.until("document.querySelector('#state')?.textContent === 'Recording'")
    await tab.until("document.querySelectorAll('#rows tr').length === 2")
    await tab.until("document.querySelectorAll('#calendar .hour.open').length === 1")
    assert await tab.ask("document.querySelector('#calendar .hour').title.endsWith('before anything was recorded')")
    assert await tab.ask("document.querySelector('#sealed-more').textContent") == "no whole hour yet"
    updates = await tab.ask("document.body.dataset.updates")
    await tab.until(f"Number(document.body.dataset.updates) > {updates} + 2")

    # A market is chosen, with the keyboard as well.
    assert await tab.ask("document.querySelector('#book-name').textContent") == "BTC-PERP orderbook"
    await tab.ask("[...document.querySelectorAll('#rows button')].find(b => b.textContent === 'SOL-PERP').focus()")
    for kind in ("keyDown", "keyUp"):
        await tab.send("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13)
    await tab.until("document.querySelector('#book-name').textContent === 'SOL-PERP orderbook'")
    await tab.until("document.querySelector('#rows tr.chosen button').textContent === 'SOL-PERP'")
    assert await tab.ask("location.hash") == "#SOL-PERP"
    prices = "[...document.querySelectorAll('.level:not(.head) span:nth-of-type(1)')].map(s => s.textContent)"
    shown = [float(price.replace(",", "")) for price in await tab.ask(prices)]
    # Each side: a book may be crossed, and this one now and then is.
    assert [shown[:12], shown[12:]] == [sorted(side, reverse=True) for side in (shown[:12], shown[12:])]
    assert len(shown) == 24

    # A hole: first the market is silent, then there is the event.
    await tab.until("document.querySelector('#rows tr.chosen .age').classList.contains('silent')")
    await tab.until("[...document.querySelectorAll('#holes li.hole b')].some(b => b.textContent === 'silent')")

    await _sort_and_filter(tab)

    # What came from outside is text.
    assert await tab.ask("document.querySelectorAll('img, iframe, main script').length") == 0
    assert "drift-recorder" in await tab.ask("document.title")
    assert "<script>" in await tab.ask("document.querySelector('#holes').textContent")

    # On a phone nothing stands out over the side, light or dark.
    for scheme in ("light", "dark"):
        await tab.look(width=390, height=844, scheme=scheme, phone=True)
        assert await tab.ask("document.documentElement.scrollWidth") == 390
        ground = await tab.ask("getComputedStyle(document.body).backgroundColor")
        assert (int(ground[4:].split(",")[0]) < 60) == (scheme == "dark")
        for name in (".markets", ".ladder", ".trades", ".holes", ".calendar"):
            inside = f"(b => b.left >= 0 && b.right <= 390)(document.querySelector('{name}').getBoundingClientRect())"
            assert await tab.ask(inside), name
        cut = "[...document.querySelectorAll('#rows .age')].every(a => a.getBoundingClientRect().right <= 390)"
        assert await tab.ask(cut)
    assert tab.complaints == []


async def _press(tab, key, text=""):
    for kind in ("keyDown", "keyUp"):
        await tab.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, **({"text": text} if text else {}))


async def _sort_and_filter(tab):
    shown = "[...document.querySelectorAll('#rows button')].map(b => b.textContent)"
    assert await tab.ask(shown) == ["BTC-PERP", "SOL-PERP"]

    # By a heading, with the keyboard; it stays while pushes come in, and so does the focus.
    await tab.ask("document.querySelector('th[data-sort=name] button').focus()")
    for order in (["BTC-PERP", "SOL-PERP"], ["SOL-PERP", "BTC-PERP"]):
        await _press(tab, "Enter", "\r")
        updates = await tab.ask("document.body.dataset.updates")
        await tab.until(f"Number(document.body.dataset.updates) > {updates} + 1")
        assert await tab.ask(shown) == order
    assert await tab.ask("document.querySelector('th[aria-sort=descending]').dataset.sort") == "name"
    assert await tab.ask("location.hash") == "#SOL-PERP&sort=-name"

    # `/`, a word, an arrow down: at the market.
    await _press(tab, "/", "/")
    await tab.send("Input.insertText", text="btc")
    await tab.until("document.querySelector('#rows-more').textContent === '1 of 2'")
    await _press(tab, "ArrowDown")
    updates = await tab.ask("document.body.dataset.updates")
    await tab.until(f"Number(document.body.dataset.updates) > {updates} + 1")
    assert await tab.ask("document.activeElement.textContent") == "BTC-PERP"
    assert await tab.ask("location.hash") == "#SOL-PERP&sort=-name&filter=btc"

    # Whoever opens that address sees the same; nothing that matches is said.
    await tab.ask("location.hash = '#SOL-PERP&sort=name&filter=no%20such'")
    await tab.until("!document.querySelector('#no-match').hidden")
    assert await tab.ask("document.querySelector('#filter').value") == "no such"
    await tab.ask("document.querySelector('#unfilter').click()")
    await tab.until("document.querySelectorAll('#rows tr').length === 2")
    assert await tab.ask("location.hash") == "#SOL-PERP&sort=name"
    await tab.ask("location.hash = '#%E0%A4%A&sort=constructor'")
    assert await tab.ask("document.querySelectorAll('[aria-sort=ascending], [aria-sort=descending]').length") == 0
    await tab.ask("location.hash = '#SOL-PERP'")
    await tab.until("document.querySelector('#rows tr.chosen button').textContent === 'SOL-PERP'")


@pytest.mark.timeout(180)
def test_a_browser_shows_it_all(tmp_path):
    """
    One visit, from opening to a phone in the dark, without a complaint in its console.
    """
    # No hour is whole, and one is open.
    within_an_hour(60)
    asyncio.run(_looked_at(tmp_path))
