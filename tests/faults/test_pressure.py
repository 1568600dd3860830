"""
A process that is paused, starved of the processor, of the disk, or of memory. The reader of the socket is not delayed
by the disk; what could not be kept is told; whoever runs out of memory dies and comes back rather than limps; and the
sealer's death never stops the recorder.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import PROJECT, Bench, heard_late_s, memory_kb, wait_until

from recorder.analysis import Lake
from recorder.lake.verify import verify
from recorder.records import SECOND_NS, Disconnected, JobFailed, LoopStalled, RunStarted, Telemetry

CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def bench(tmp_path):
    """
    A venue.
    """
    made = Bench(tmp_path, tick_ms=50)
    yield made
    made.close()


def accounted(bench, since, until):
    """
    Sealed, and held against the ledger.
    """
    bench.seal()
    account = bench.account(since=since, until=until)
    print(account)
    assert account.unexplained == []
    assert account.twice == 0
    assert verify(bench.root).problems == []
    return account


@pytest.mark.timeout(240)
@pytest.mark.parametrize("pause_s", [4.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_pause_is_told_and_what_waited_is_kept(bench, pause_s):
    """
    SIGSTOP: whatever the kernels could hold meanwhile is recorded, and the stall is on record with its length.
    """
    recorder = bench.recorder(bench.config())
    bench.carrying(recorder)
    since = time.time_ns() + SECOND_NS
    time.sleep(1.2)
    recorder.signal(signal.SIGSTOP)
    time.sleep(pause_s)
    recorder.signal(signal.SIGCONT)
    bench.recording(recorder, within_s=40)
    wait_until(lambda: bench.facts(LoopStalled))
    wait_until(lambda: bench.frames()[-1].recv_ts > time.time_ns() - SECOND_NS // 2)
    until = time.time_ns()
    assert recorder.stop() == 0

    account = accounted(bench, since, until)

    assert max(fact.stall_ns for fact in bench.facts(LoopStalled)) >= (pause_s - 1.2) * SECOND_NS
    assert account.events["loop_stall"] >= 1


@pytest.mark.timeout(120)
def test_hogs_on_all_cores_cost_no_frame(bench):
    """
    Twice as many busy processes as cores, of the same priority.
    """
    recorder = bench.recorder(bench.config())
    bench.carrying(recorder)
    since = time.time_ns() + SECOND_NS
    time.sleep(1)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 2))]
    try:
        time.sleep(4)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    bench.recording(recorder)
    until = time.time_ns()
    assert recorder.stop() == 0

    account = accounted(bench, since, until)

    late = sorted(heard_late_s(bench.frames(), bench.ledger))
    print(f"latency p50 {late[len(late) // 2] * 1000:.1f} ms, p99 {late[len(late) * 99 // 100] * 1000:.1f} ms")
    assert account.stored == account.published


@pytest.mark.needs("strace")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("delay_s", [5.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_sync_that_takes_half_a_minute_delays_no_reader(bench, delay_s):
    """
    One `fdatasync` hangs in the kernel: frames go on being received in time, and all of them are on disk afterwards.
    """
    traced = bench.folder / "strace"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(traced), "-e", "trace=fdatasync", "-e"]
    inject = f"inject=fdatasync:delay_enter={delay_s:.0f}s:when=40"
    recorder = bench.recorder(bench.config(), before=[*strace, inject])
    bench.carrying(recorder)
    since = time.time_ns() + SECOND_NS

    def stuck():
        entries = bench.entries()
        return entries[-1].recv_ts < time.time_ns() - 2 * SECOND_NS

    wait_until(stuck, 40, "no commit hung")
    # Whatever else may have stood still for two seconds: the one that was meant is over.
    wait_until(lambda: "(DELAYED)" in traced.read_text(encoding="ascii"), delay_s + 20, "no sync was delayed")
    bench.recording(recorder)
    until = time.time_ns()
    (inner,) = [int(pid) for pid in Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()]
    os.kill(inner, signal.SIGTERM)
    assert recorder.wait(20) == 0

    account = accounted(bench, since, until)

    late = heard_late_s(bench.frames(), bench.ledger)
    gaps = [row.durable_max_ms for row in bench.facts(Telemetry)]
    print(f"longest from sent to received {max(late):.3f} s, from received to durable {max(gaps) / 1000:.1f} s")
    assert max(gaps) >= (delay_s - 0.5) * 1000
    assert account.stored == account.published
    # A busy machine is late at times; a reader that waited for the disk would be so with all that came meanwhile.
    assert sorted(late)[len(late) * 9 // 10] < delay_s / 4


# ---- memory


@contextlib.contextmanager
def memory_group(limit_bytes):
    """
    A memory cgroup (version 1) with a limit; the file that a process writes its number to, to be in it.
    """
    group = CGROUP / f"drift-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes), encoding="ascii")
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED: no memory cgroup: {error}")
    try:
        yield str(group / "cgroup.procs")
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


JOINING = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


LEAKING = """
import sys, threading, time
from pathlib import Path
from recorder.cli import main

held, begin = [], Path(sys.argv.pop(1))

def leak():
    while True:
        time.sleep(0.002)
        if begin.exists():
            try:
                held.append(bytearray(b"x" * 200_000))
            except MemoryError:
                pass

threading.Thread(target=leak, daemon=True).start()
main()
"""
"""A recorder that leaks from the moment a file is there, and takes whatever becomes free."""


def recorded_across(bench, before=(), limit=lambda _: None):
    """
    A recorder that runs out of memory, and the next one, as a service manager starts it; exit code and account.

    Args:
        bench: with a venue.
        before: a command that runs the first one.
        limit: called with it once it records.
    """
    config, begin = bench.config(), bench.folder / "leak"
    recorder = bench.recorder(config, name="limited", program=["-c", LEAKING, begin], before=before)
    bench.recording(recorder)
    limit(recorder)
    since = time.time_ns() + SECOND_NS
    time.sleep(1.2)
    begin.touch()
    code = recorder.wait(40)
    again = bench.recorder(config, name="again")
    bench.recording(again)
    until = time.time_ns()
    assert again.stop() == 0
    print(code, recorder.said[-300:])
    assert len(bench.facts(RunStarted)) == 2
    return code, accounted(bench, since, until)


@pytest.mark.needs("root")
@pytest.mark.timeout(120)
def test_a_recorder_that_hits_its_memory_limit_dies_and_the_next_one_goes_on(bench):
    """
    Killed by the kernel, started again as a service manager does: the window is named, nothing committed is lost.
    """
    with memory_group(100 << 20) as join:
        code, account = recorded_across(bench, [sys.executable, "-c", JOINING, join])

    assert code == -signal.SIGKILL
    assert account.events["recorder_down"] == 1


@pytest.mark.timeout(120)
def test_a_recorder_without_address_space_ends_rather_than_limps(bench):
    """
    Where memory is refused rather than taken away (RLIMIT_AS): it ends with an error, so that it is started again.
    """

    def limit(recorder):
        # Of what it has, whatever that is on this machine, and a little more.
        enough = (memory_kb(recorder.pid, "VmSize") << 10) + (64 << 20)
        resource.prlimit(recorder.pid, resource.RLIMIT_AS, (enough, enough))

    code, _ = recorded_across(bench, limit=limit)

    # Python says so where it notices; where a library of C is refused, that one may abort, or not even notice.
    assert code in {1, -signal.SIGALRM, -signal.SIGABRT, -signal.SIGSEGV}
    if code == 1:
        assert "out of memory" in (bench.folder / "limited.log").read_text(encoding="utf-8")


@pytest.mark.timeout(120)
def test_a_sealer_without_memory_publishes_nothing_and_stops_nobody(bench):
    """
    It fails by its exit code; the recorder records on; the next seal publishes what this one could not.
    """
    recorder = bench.recorder(bench.config())
    bench.carrying(recorder)
    since = time.time_ns() + SECOND_NS
    time.sleep(1.2)
    sealer = bench.child("poor", "seal", bench.root, "--open", before=["prlimit", f"--as={150 << 20}"])
    code = sealer.wait(60)
    published = list((bench.root / "manifest").glob("*.json"))
    bench.recording(recorder)
    until = time.time_ns()
    assert recorder.stop() == 0

    accounted(bench, since, until)

    print(code, sealer.said[-300:])
    assert code != 0
    assert published == []
    assert bench.facts(JobFailed) == []


HUNGRY = """
import sys, threading, time

def eat():
    score = int(open("/proc/self/oom_score_adj").read())
    while int(open("/proc/self/oom_score_adj").read()) <= score:
        time.sleep(0.01)
    held = []
    while True:
        held.append(bytearray(b"x" * 2_000_000))

if "seal" in sys.orig_argv:
    threading.Thread(target=eat).start()
"""
"""As `sitecustomize`: a seal eats all there is from the moment it says that it may be killed first, and never ends."""


@pytest.mark.needs("root")
@pytest.mark.timeout(200)
def test_the_kernel_takes_the_sealer_first(bench):
    """
    With both in one group, as of a service, that has no room for a hungry seal, the recorder lives: its child has the
    higher score, and its end is on record as a failed job.
    """
    config = bench.config()
    words = config.read_text(encoding="utf-8").replace("enabled = false", "enabled = true")
    config.write_text(words, encoding="utf-8")
    (bench.folder / "sitecustomize.py").write_text(HUNGRY, encoding="utf-8")
    path = {"PYTHONPATH": os.pathsep.join((str(bench.folder), str(PROJECT)))}
    # The recorder takes about 50 MB.
    with memory_group(200 << 20) as join:
        recorder = bench.recorder(config, before=[sys.executable, "-c", JOINING, join], environment=path)
        bench.recording(recorder, within_s=40)
        since = time.time_ns() + SECOND_NS
        wait_until(lambda: bench.facts(JobFailed), 120, f"no seal failed: {recorder.said[-2000:]}")
        bench.recording(recorder)
        until = time.time_ns()
        assert recorder.alive
        assert recorder.stop() == 0

    accounted(bench, since, until)

    failed = bench.facts(JobFailed)
    print(failed)
    assert {fact.job for fact in failed} == {"seal"}
    assert [fact for fact in bench.facts(Disconnected) if fact.cause != "recorder"] == []
    assert len(Lake(bench.root).quality().collect()) > 0
