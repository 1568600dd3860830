"""
What the service manager is told, and when: ready only when recording, alive only while the journal gets on.
"""

import asyncio
import os
import signal
import socket
import sys

import msgspec
import pytest

from loopback import config_text, simulator
from recorder.daemon.supervision import Pulse, Supervision
from recorder.records import SECOND_NS

STILL = Pulse(
    run="a", committed=1, appended=1, queued_bytes=0, refused="", streams=8, recorded=0, connections=0, trouble=""
)


class Manager:
    """
    A supervision whose seconds are asked for one by one, and what it said.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.now = 0
        self.supervision = Supervision({}, send=self.said.append, now=0)

    def second(self, pulse: Pulse, **changes) -> list[str]:
        """
        The lines that one second brings.
        """
        self.now += SECOND_NS
        self.said.clear()
        self.supervision.second(msgspec.structs.replace(pulse, **changes), self.now)
        return [line for text in self.said for line in text.splitlines()]


@pytest.fixture
def manager() -> Manager:
    """
    A new one.
    """
    return Manager()


def test_ready_is_told_once_something_heard_is_on_disk(manager):
    """
    Not at the start, not at the connect, not at the acknowledgement: when what came after it is committed.
    """
    assert "READY=1" not in manager.second(STILL, committed=2, appended=2)
    assert "READY=1" not in manager.second(STILL, committed=3, appended=8, recorded=1, connections=1)
    assert "READY=1" not in manager.second(STILL, committed=8, appended=9, recorded=1, connections=1)
    assert "READY=1" in manager.second(STILL, committed=9, appended=9, recorded=1, connections=1)
    assert "READY=1" not in manager.second(STILL, committed=10, appended=10, recorded=1, connections=1)


def test_a_start_goes_on_for_as_long_as_the_journal_does(manager):
    """
    A venue out of reach is waited for without limit; a writer that is stuck from the start is not.
    """
    for second in range(2, 100):
        assert "EXTEND_TIMEOUT_USEC=30000000" in manager.second(STILL, committed=second, appended=second)
    assert not any(line.startswith("EXTEND") for line in manager.second(STILL, committed=99, appended=100))


def test_the_watchdog_is_fed_only_while_commits_succeed(manager):
    """
    A writer that neither commits nor fails is stuck: after our patience with it, the manager must end us.
    """
    assert "WATCHDOG=1" in manager.second(STILL, committed=2)
    fed = ["WATCHDOG=1" in manager.second(STILL, committed=2, appended=99) for _ in range(60)]

    assert fed == [True] * 30 + [False] * 30
    assert "WATCHDOG=1" in manager.second(STILL, committed=3)


def test_a_disk_that_says_no_is_no_reason_to_be_killed(manager):
    """
    What was heard waits in memory for it; a restart would lose that, and mend nothing. The status says so.
    """
    for _ in range(100):
        lines = manager.second(STILL, refused="write: ENOSPC: No space left on device", queued_bytes=12_000_000)
        assert "WATCHDOG=1" in lines
    status = next(line for line in manager.second(STILL, refused="write: ENOSPC: full") + lines if "STATUS" in line)
    assert "the disk takes no more" in status
    assert "12.0 MB wait in memory" in status or "0.0 MB wait" in status


def test_a_full_disk_is_all_the_status_says(manager):
    """
    That connections are down and entries few is what follows from it.
    """
    manager.supervision.warn("connection 0: down: the disk is full", now=manager.now)
    for n in range(2, 8):
        lines = manager.second(STILL, committed=n, full="0.0357 GB of 1.61 free")
    status = [line for line in lines if line.startswith("STATUS=")]
    assert status == ["STATUS=THE DISK IS FULL, nothing is recorded until there is room: 0.0357 GB of 1.61 free"]


def test_another_run_counts_as_getting_on(manager):
    """
    After a backward clock step entries are numbered from 1 again.
    """
    manager.second(STILL, committed=500)
    for _ in range(40):
        manager.second(STILL, committed=500)
    assert "WATCHDOG=1" in manager.second(STILL, run="b", committed=1)


def test_the_status_says_what_is_recorded_and_what_is_wrong(manager):
    """
    One line, for whoever looks at `systemctl status`.
    """
    manager.second(STILL, committed=2)
    for n in range(3, 8):
        lines = manager.second(STILL, committed=n, trouble="connection 0: attempt 3: refused\nSTATUS=all is well")
    status = [line for line in lines if line.startswith("STATUS=")]
    said = "STATUS=nothing is recorded yet: 0 of 8 streams on 0 connections, 1 entries/s on disk; "
    assert status == [said + r"connection 0: attempt 3: refused\nSTATUS=all is well"]

    manager.supervision.warn("SOL-PERP orderbook is silent", now=manager.now)
    for n in range(8, 200):
        lines = manager.second(STILL, committed=n, appended=n, recorded=8, connections=2) or lines
        status = [line for line in lines if line.startswith("STATUS=")] or status
    said = "STATUS=recording 8 of 8 streams on 2 connections, 1 entries/s on disk; "
    assert status == [said + "last warning 3 min ago: SOL-PERP orderbook is silent"]


def test_a_reload_ends_ready_only_if_it_was(manager):
    """
    A reload during the start must not pass for a recording that has begun.
    """
    manager.supervision.reloading()
    assert manager.said[-1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    manager.said.clear()
    manager.supervision.reloaded()
    assert manager.said == []

    manager.second(STILL, committed=2, appended=2, recorded=1)
    assert "READY=1" in manager.second(STILL, committed=3, appended=3, recorded=1)
    manager.supervision.reloaded()
    assert manager.said[-1] == "READY=1"


def test_a_manager_that_is_gone_costs_nothing(tmp_path):
    """
    Telling it is a courtesy; recording is not.
    """
    supervision = Supervision({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, now=0)

    supervision.second(STILL, SECOND_NS)
    supervision.stopping("SIGTERM")


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_real_recorder_tells_its_life(tmp_path, abstract):
    """
    Ready, status, alive, reloading, ready again, stopping: in this order, on the socket that systemd would give it.
    """
    asyncio.run(_life(tmp_path, abstract=abstract))


async def _life(tmp_path, *, abstract):
    address = f"\0drift-recorder-{os.getpid()}" if abstract else str(tmp_path / "notify")
    config = tmp_path / "config.toml"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        said = ""

        async def until(words: str) -> None:
            nonlocal said
            async with asyncio.timeout(30):
                while words not in said:
                    said += (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode() + "\n"

        async with simulator(port=0) as url:
            config.write_text(config_text(url, tmp_path / "root"))
            recorder = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "recorder", "run", str(config)),
                env={**os.environ, "NOTIFY_SOCKET": "@" + address[1:] if abstract else address},
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await until("READY=1")
                assert "WATCHDOG=1" in said
                recorder.send_signal(signal.SIGHUP)
                await until("RELOADING=1")
                said = said[said.index("RELOADING=1") :]
                await until("READY=1")
                await until("STATUS=recording 4 of 4 streams on 1 connection, ")
                recorder.send_signal(signal.SIGTERM)
                await until("STOPPING=1\nSTATUS=stopping: SIGTERM")
                async with asyncio.timeout(30):
                    assert await recorder.wait() == 0
            finally:
                if recorder.returncode is None:
                    recorder.kill()
                    await recorder.wait()
