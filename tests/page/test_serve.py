"""
The page's server: who may ask, what is answered, and that looking changes nothing.
"""

import asyncio
import json
import re
import threading
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import pytest
from aiohttp import ClientSession

from loopback import recording, simulator
from recorder.errors import RecorderError
from recorder.journal.names import run_name
from recorder.lake.layout import JOURNAL
from recorder.lake.root import bind
from recorder.page import serve as serving
from recorder.page.follow import ALL, Batch
from recorder.page.serve import EXPOSE_WORDS, HEADERS, Page, refuse_exposure, serve
from recorder.records import SECOND_NS, Entry, EntryKind

ASSETS = resources.files("recorder.page").joinpath("assets")


@pytest.fixture
def root(tmp_path):
    """
    Bound, and empty.
    """
    bind(tmp_path, venue="test", network="mainnet-beta")
    (tmp_path / JOURNAL).mkdir(exist_ok=True)
    return tmp_path


@asynccontextmanager
async def page(root, **options):
    """
    A page under way; its address.
    """
    ready, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    running = asyncio.create_task(
        serve(Page(root, **options), host="127.0.0.1", port=0, ready=ready.set_result, stop=stop)
    )
    try:
        yield await ready
    finally:
        stop.set()
        await running


async def ask(url, method="GET", **headers):
    """
    Status, headers and text of an answer.
    """
    async with ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status, answer.headers, await answer.text()


async def told(url, *events):
    """
    The first of each of these events that the page pushes.
    """
    found = {}
    async with asyncio.timeout(20), ClientSession() as session, session.get(f"{url}events") as answer:
        name = ""
        while not set(events) <= set(found):
            line = (await answer.content.readuntil(b"\n")).decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.setdefault(name, json.loads(line[6:]))
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.5.0.1"])
def test_loopback_needs_no_words(host):
    """
    Nobody else can reach it.
    """
    refuse_exposure(host, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_addresses_are_refused_unless_said_in_words(host):
    """
    There is neither password nor encryption, so it must have been meant; the error says how to mean it.
    """
    with pytest.raises(RecorderError, match=re.escape(EXPOSE_WORDS)):
        refuse_exposure(host, "yes")
    refuse_exposure(host, EXPOSE_WORDS)


async def _answers(root):
    async with page(root, hosts=("recorder.example",)) as url:
        port = url.rsplit(":", 1)[1].rstrip("/")
        assert (await ask(url))[0] == 200
        for host in (f"localhost:{port}", f"LOCALHOST:{port}", "[::1]:1", "recorder.example"):
            assert (await ask(url, Host=host))[0] == 200, host
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "", "localhost.evil.example:80"):
            assert (await ask(url, Host=host))[0] == 421, host
            assert (await ask(f"{url}events", Host=host))[0] == 421, host


def test_a_request_to_another_name_is_refused(root):
    """
    A name that was rebound to loopback reaches us with its own Host.
    """
    asyncio.run(_answers(root))


async def _refusals(root):
    async with page(root) as url:
        for site in ("cross-site", "same-site"):
            status, *_ = await ask(f"{url}events", **{"Sec-Fetch-Site": site})
            assert status == 403
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await ask(url, method))[0] == 405
        for path in ("x", "../root.json", "%2e%2e/root.json", "page.js/..%2f"):
            assert (await ask(url + path))[0] == 404
        for path in ("", "page.css", "page.js", "draw.js", "missing"):
            headers = (await ask(url + path))[1]
            assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_what_is_not_there_is_refused_and_every_answer_is_guarded(root):
    """
    Fixed paths, GET only, no word to other sites; the content policy is on each answer, errors included.
    """
    asyncio.run(_refusals(root))


async def _crowd(root):
    async with page(root) as url, ClientSession() as session:
        first = await session.get(f"{url}events")
        assert first.status == 200
        async with session.get(f"{url}events") as second:
            assert second.status == 503
        first.close()


def test_too_many_browsers_are_refused(root, monkeypatch):
    """
    What looks must stay bounded.
    """
    monkeypatch.setattr(serving, "LOOKERS", 1)
    asyncio.run(_crowd(root))


async def _live(tmp_path):
    async with simulator(port=0) as venue, recording(tmp_path / "root", venue), page(tmp_path / "root") as url:
        for _ in range(50):
            rows = (await told(url, "now"))["now"]["rows"]
            if rows and all(row["state"] == "live" for row in rows):
                break
            await asyncio.sleep(0.1)
        before = _files(tmp_path / "root" / "lake"), sorted((tmp_path / "root").iterdir())
        shown = await told(url, "about", "now", "sparks", "disk", "calendar")
        assert (_files(tmp_path / "root" / "lake"), sorted((tmp_path / "root").iterdir())) == before
    assert shown["about"]["venue"] == "test"
    assert shown["now"]["recorder"]["state"] == "recording"
    assert {row["m"]: row["state"] for row in shown["now"]["rows"]} == {"BTC-PERP": "live", "SOL-PERP": "live"}
    assert shown["disk"]["segments"] >= 1
    assert shown["calendar"]["problem"] == ""


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_recording_is_pushed_as_it_goes_and_left_as_it_is(tmp_path):
    """
    From a real recorder on loopback: its state, its books, its disk; and nothing below the root is touched.
    """
    asyncio.run(_live(tmp_path))


def test_the_present_goes_on_while_disk_and_lake_hang(root, monkeypatch):
    """
    A disk that answers nothing is when one looks at the page.
    """
    hangs = threading.Event()
    monkeypatch.setattr(serving, "disk", lambda *_, **__: hangs.wait(30) and {})

    async def scenario():
        async with page(root) as url, ClientSession() as session, session.get(f"{url}events") as answer:
            pushes = 0
            while pushes < 3:
                pushes += (await answer.content.readline()).startswith(b"event: now")
            hangs.set()
            return pushes

    async def bounded():
        async with asyncio.timeout(20):
            return await scenario()

    try:
        assert asyncio.run(bounded()) == 3
    finally:
        hangs.set()


def test_a_folder_that_is_no_root_is_refused(tmp_path):
    """
    At the start, not as an empty page.
    """
    with pytest.raises(RecorderError, match="is not a data root"):
        Page(tmp_path)


@pytest.mark.parametrize("name", ["index.html", "page.css", "page.js", "draw.js"])
def test_the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_text(name):
    """
    No address of another host; no way by which text from outside could become elements or code.
    """
    text = ASSETS.joinpath(name).read_text()

    allowed = {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w./-]+", text)) <= allowed
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\bon\w+=", text) == []
    )


def test_what_was_read_too_late_has_all_read_anew(root, monkeypatch):
    """
    What is shown goes on meanwhile, and says that it was begun anew.
    """
    at = 1_772_359_200 * SECOND_NS
    late, other = (Entry(EntryKind.ALIVE, -1, 0, 1, at + n, b"", run_name(at + n * 1000, "aaaaaa")) for n in range(2))
    waiting = [Batch([other], [], ALL), Batch([late], [], ALL)]
    monkeypatch.setattr(serving, "SPARKS_S", 0.01)
    monkeypatch.setattr(serving.Follower, "read", lambda _: waiting.pop(0) if waiting else Batch(whole=ALL))

    async def scenario():
        async with page(root) as url:
            while not (holes := (await told(url, "now"))["now"]["holes"]):  # noqa: ASYNC110  # it comes with a push
                await asyncio.sleep(0.05)
            return holes

    async def bounded():
        async with asyncio.timeout(20):
            return await scenario()

    (note,) = asyncio.run(bounded())

    assert note["words"].startswith(f"run {late.run} came 0.0 s after the others: what is told here was judged anew")
