"""
SIGKILL for writers, sealers, retention and repair: at random moments and at every call that changes a disk.

Children are forked, hundreds of them; `test_crash_program.py` does the like with the program as it is installed.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from committed import Committed, lake_is_the_journal, lost_in_journal, windows_are_named
from zygote import Zygote

from lake_cases import NEXT, S, make_root, recorded, tree
from recorder.clock import wall_ns
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake.sealing import seal
from recorder.lake.verify import verify


@pytest.fixture(scope="module")
def forking(tmp_path_factory) -> Iterator[Zygote]:
    """
    One for all tests: to import everything takes it longer than most of them.
    """
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "log")
    yield zygote
    zygote.close()


@pytest.fixture
def zygote(forking) -> Iterator[Zygote]:
    """
    Ready to fork.
    """
    yield forking
    forking.rest()


def writers_are_killed(zygote: Zygote, root: Path, chance: random.Random, *, kills: int) -> tuple[Committed, list[int]]:
    """
    Half of them at a random moment, half at a random call; now and then the sealer is killed in between.
    """
    committed, deaths = Committed(), []
    for number in range(kills):
        at_call = {"die_at": chance.randrange(1, 60), "after": chance.random() < 0.5} if number % 2 else {}
        zygote.begin("record", root, **at_call)
        if not at_call:
            time.sleep(chance.uniform(0, 0.08))
            zygote.kill()
        assert zygote.end() == -signal.SIGKILL
        deaths.append(wall_ns())
        committed.take(zygote.told())
        if number % 10 == 9:
            zygote.run("sealing", root, die_at=chance.randrange(1, 120), after=chance.random() < 0.5)
            assert lost_in_journal(root, committed) == []
    return committed, deaths


def killed_writers_lose_nothing(zygote: Zygote, root: Path, *, kills: int) -> None:
    """
    The whole of it, from a printed seed.
    """
    # The gate must say the same of the same commit, as far as a real clock lets it.
    seed = 6 if os.environ.get("CI") else random.randrange(1 << 32)
    print(f"seed {seed}")
    make_root(root)

    committed, deaths = writers_are_killed(zygote, root, random.Random(seed), kills=kills)
    assert zygote.run("record", root, for_s=0.1) == 0
    committed.take(zygote.told())
    assert zygote.run("sealing", root) == 0

    print(f"{committed.entries} entries were committed by {len(committed.upto)} runs")
    assert committed.entries > kills
    lake_is_the_journal(root, committed)
    windows_are_named(root, deaths)
    assert verify(root).problems == []


def test_killed_writers_lose_nothing_that_was_committed(zygote, tmp_path):
    """
    At random moments and calls, and the sealer beside them; each window is named.
    """
    killed_writers_lose_nothing(zygote, tmp_path / "root", kills=60)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_killed_writers_lose_nothing_that_was_committed(zygote, tmp_path):
    """
    The long form.
    """
    killed_writers_lose_nothing(zygote, tmp_path / "root", kills=1000)


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    """
    A root with two hours, nothing of it sealed.
    """
    root = make_root(tmp_path_factory.mktemp("crash") / "journal")
    recorded(root, NEXT - 6 * S, NEXT + 6 * S)
    return root


@pytest.fixture(scope="module")
def sealed(journal, tmp_path_factory) -> Path:
    """
    The same, sealed and never disturbed.
    """
    root = shutil.copytree(journal, tmp_path_factory.mktemp("crash") / "sealed")
    seal(root)
    return root


def killed_at_calls(
    zygote: Zygote,
    what: str,
    start: Path,
    work: Path,
    *,
    step: int,
    again: int,
    between: Callable[[Path], None],
    after: Callable[[Path], None],
) -> int:
    """
    Kill it at each `step`-th call, and the one after it at a call of its own, before a third may end. Returns kills.
    """
    kills = 0
    at = 1
    while True:
        root = shutil.copytree(start, work / f"{what}-{at}")
        code = zygote.run(what, root, die_at=at, after=bool(at % 2))
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        between(root)
        second = zygote.run(what, root, die_at=1 + (at * 7) % again, after=not at % 2)
        kills += 1 + (second != 0)
        between(root)
        assert zygote.run(what, root) == 0, zygote.log.read_text()
        after(root)
        shutil.rmtree(root)
        at += step


def nothing_is_half_published(root: Path) -> None:
    """
    A manifest that is there describes files that are there, whole.
    """
    for hour in manifests.hours(root):
        manifest = manifests.read(root, hour)
        if manifest is not None:
            assert all((root / file.path).stat().st_size == file.bytes for file in manifest.files)


def is_as(expected: dict[str, str], *folders: str) -> Callable[[Path], None]:
    """
    A check that a root that kills went through is as one that was never disturbed.
    """

    def check(root: Path) -> None:
        assert tree(root, *folders) == expected, root

    return check


def whatever(_: Path) -> None:
    """
    Nothing is asked of it now.
    """


def test_a_sealer_killed_at_any_call_and_killed_again_makes_the_same_tree(zygote, tmp_path, journal, sealed):
    """
    Also while it makes up for the first kill.
    """
    kills = killed_at_calls(
        zygote,
        "sealing",
        journal,
        tmp_path / "work",
        step=17,
        again=150,
        between=nothing_is_half_published,
        after=is_as(tree(sealed)),
    )

    print(f"{kills} kills")
    assert kills > 15


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_sealer_killed_at_each_call_makes_the_same_tree(zygote, tmp_path, journal, sealed):
    """
    The long form: every one.
    """
    kills = killed_at_calls(
        zygote,
        "sealing",
        journal,
        tmp_path / "work",
        step=1,
        again=150,
        between=nothing_is_half_published,
        after=is_as(tree(sealed)),
    )

    print(f"{kills} kills")


def test_repair_killed_at_any_call_mends_all_the_same(zygote, tmp_path, sealed):
    """
    What it had set aside is missing then, and made again.
    """
    broken = shutil.copytree(sealed, tmp_path / "broken")
    for path in [*sorted((broken / "lake").rglob("*.parquet"))[::3], broken / "root.json"]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))

    kills = killed_at_calls(
        zygote,
        "repairing",
        broken,
        tmp_path / "work",
        step=29,
        again=60,
        between=whatever,
        after=is_as(tree(sealed)),
    )

    assert kills > 6


def test_retention_killed_at_any_call_removes_no_more_than_may_go(zygote, tmp_path, sealed):
    """
    The lake is untouched, and the next one removes the rest.
    """
    undisturbed = shutil.copytree(sealed, tmp_path / "undisturbed")
    assert zygote.run("expiring", undisturbed) == 0
    assert len(segments(undisturbed / "journal")) < len(segments(sealed / "journal"))

    kills = killed_at_calls(
        zygote,
        "expiring",
        sealed,
        tmp_path / "work",
        step=1,
        again=2,
        between=is_as(tree(undisturbed, "lake"), "lake"),
        after=is_as(tree(undisturbed, "lake", "journal"), "lake", "journal"),
    )

    assert kills >= 3


@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["fdatasync", "rename", "write", "openat"])
def test_a_kill_by_the_kernel_at_a_call_loses_nothing(zygote, tmp_path, call):
    """
    The same, without our help: strace delivers the signal as the process enters the call.
    """
    root = make_root(tmp_path / "root")
    committed, deaths = Committed(), []
    assert zygote.run("record", root, for_s=0.05) == 0
    for when in (2, 9):
        zygote.begin("record", root)
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(zygote.pid)]  # noqa: RUF005  # as one would type it
            + ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        )
        assert zygote.end() == -signal.SIGKILL
        tracer.wait(10)
        deaths.append(wall_ns())
    assert zygote.run("record", root, for_s=0.05) == 0
    committed.take(zygote.told())
    assert committed.entries > 0

    seal(root, open_hour=True)

    lake_is_the_journal(root, committed)
    windows_are_named(root, deaths, stops=1)
