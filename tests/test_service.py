"""
The service in a real systemd: installed by its script in a container that boots, on a simulated venue inside it.

One machine for all of this module; its tests are the chapters of one life and run in their order.
"""

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest

from machine import PROJECT, Machine, build_root, copy_sources, fetch_wheels, missing
from recorder.analysis import Lake
from recorder.simulator.ledger import read_ledger

UNIT = "drift-recorder"
DATA = "/var/lib/drift-recorder/data"
CONFIG = "/etc/drift-recorder/config.toml"
WITHOUT = missing()
WATCHDOG_S = 4
INSTALL = "sh /srv/source/deploy/install.sh --wheels /srv/wheels"
INSTALL_S = 600
LEDGER = "/var/lib/venue.jsonl"
"""The venue's own account, in the machine."""
SLACK_NS = 40_000_000
"""From the tick to the receipt: a fifth of the time between two."""

pytestmark = [
    pytest.mark.skipif(bool(WITHOUT) and not os.environ.get("CI"), reason=f"SERVICE NOT TESTED: {WITHOUT}"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """
    Booted, with the checkout at /srv/source and wheels at /srv/wheels; nothing is installed.
    """
    assert not WITHOUT, WITHOUT
    folder = tmp_path_factory.mktemp("machine")
    source, wheels, root = folder / "source", folder / "wheels", folder / "root"
    source.mkdir()
    wheels.mkdir()
    copy_sources(source)
    with ThreadPoolExecutor() as both:
        for done in [both.submit(fetch_wheels, wheels), both.submit(build_root, root)]:
            done.result()
    made = Machine(root, binds={source: "/srv/source", wheels: "/srv/wheels"})
    try:
        made.boot()
        yield made
    finally:
        made.power_off()
        shutil.rmtree(folder, ignore_errors=True)


def venue(machine):
    """
    Start the simulated venue in it.
    """
    command = f"drift-recorder simulate --tick-ms 200 --ledger {LEDGER}"
    machine.run(f"systemd-run --quiet --collect --unit=venue {command}")
    machine.until("journalctl -b -u venue -o cat", "listening on")


def heard_by_nobody(machine, holes):
    """
    All but those in the books within which the venue published none. On a busy machine its own process may stand still;
    what it then did not publish nobody could hear, and that is rightly a hole.
    """
    ticks = [line.t_ns for line in read_ledger(machine.root / LEDGER.lstrip("/")) if line.what == "tick"]
    within = [(row, row["start"].timestamp() * 1e9, row["end"].timestamp() * 1e9) for row in holes.to_dicts()]
    return [
        row
        for row, start, end in within
        if row["channel"] != "orderbook" or any(start + SLACK_NS < at < end - SLACK_NS for at in ticks)
    ]


def main_pid(machine):
    """
    Of the recorder.
    """
    return int(machine.show(UNIT, "MainPID"))


def active(machine, within_s=30):
    """
    Wait until it has said that it is ready.
    """
    machine.until(f"systemctl is-active {UNIT} | grep -x active", "active", within_s=within_s)


def started_again(machine, before):
    """
    Wait until systemd has started another than that process, and that one is ready.
    """
    deadline = time.monotonic() + WATCHDOG_S + 40
    while (now := main_pid(machine)) in {0, before}:
        assert time.monotonic() < deadline, f"{now} is all there is"
        time.sleep(0.25)
    assert int(machine.show(UNIT, "NRestarts")) > 0
    active(machine)


def books(machine):
    """
    What the lake in it holds, read from outside.
    """
    return Lake(machine.root / DATA.lstrip("/")).books("SOL-PERP").collect()


def test_the_script_installs_and_says_what_to_do(machine):
    """
    Five minutes of an operator: one command, and the next one to type.
    """
    said = machine.run(INSTALL, timeout_s=INSTALL_S)

    assert "drift-recorder check /etc/drift-recorder/config.toml --connect && systemctl enable --now" in said
    assert "compiled part" not in said
    machine.run("drift-recorder check /etc/drift-recorder/config.toml")
    assert machine.run(f"stat -c '%U:%G %a' {CONFIG}").strip() == "root:drift-recorder 640"
    assert machine.run("stat -c %a /etc/drift-recorder/credentials").strip() == "700"


def test_installing_again_changes_nothing(machine):
    """
    Whoever is not sure runs it again: the configuration stays, the same version is not built twice.
    """
    machine.run(f"echo '# mine' >> {CONFIG}")

    said = machine.run(INSTALL, timeout_s=INSTALL_S)

    assert "is installed already" in said
    assert machine.run(f"tail -n 1 {CONFIG}") == "# mine\n"
    assert machine.run("ls /opt/drift-recorder/releases").count("\n") == 1


def test_systemd_finds_no_fault_with_the_units(machine):
    """
    No warning where they are installed, and an exposure of 1.0 at most, as the README says.
    """
    for unit in sorted(path.name for path in (PROJECT / "deploy").glob("*.service")):
        name = unit.replace("@.", "@config.")
        assert machine.run(f"systemd-analyze verify --man=no {name}") == ""
        machine.run(f"systemd-analyze security --no-pager --threshold=10 {name}")


def test_started_means_that_it_records(machine):
    """
    With the venue out of reach the start goes on and says why; it ends when something heard is on disk.
    """
    demo = (PROJECT / "config" / "demo.toml").read_text().replace("data/demo", "data")
    (machine.root / CONFIG.lstrip("/")).write_text(demo)
    # A watchdog that barks sooner, for this test.
    machine.run(f"mkdir -p /run/systemd/system/{UNIT}.service.d")
    machine.run(f"printf '[Service]\nWatchdogSec={WATCHDOG_S}\n' > /run/systemd/system/{UNIT}.service.d/test.conf")
    machine.run("umask 077; echo secret > /etc/drift-recorder/credentials/webhook")
    machine.run(f"systemctl daemon-reload; systemctl enable -q {UNIT}; systemctl start --no-block {UNIT}")
    machine.until(f"systemctl show -P StatusText {UNIT}", "nothing is recorded yet: 0 of 12 streams")
    assert machine.show(UNIT, "ActiveState") == "activating"

    venue(machine)

    active(machine, within_s=40)
    # Ready is told with the first stream, and what is recorded every few seconds.
    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 12 of 12 streams on 1 connection")
    assert machine.run(f"cat /run/credentials/{UNIT}.service/credentials_webhook") == "secret\n"
    assert list((machine.root / DATA.lstrip("/") / "journal").glob("*/*.zst*"))


def test_the_group_may_read_the_recording_and_nobody_else(machine):
    """
    The service makes files for itself alone; the folder's access list opens them to its group.
    """
    machine.run("id -u analyst >/dev/null 2>&1 || useradd -G drift-recorder analyst; useradd stranger")
    newest = f"$(ls -d {DATA}/journal/*/*.zst* | head -1)"

    assert (
        machine.run(f"setpriv --reuid analyst --regid drift-recorder --clear-groups head -c 4 {newest} | wc -c")
        == "4\n"
    )
    machine.run(f"! setpriv --reuid stranger --regid stranger --clear-groups head -c 4 {newest}")
    machine.run(f"! setpriv --reuid analyst --regid drift-recorder --clear-groups touch {DATA}/mine")


def test_sealing_works_in_the_sandbox(machine):
    """
    Under every line of the unit: no call that Parquet needs is refused.
    """
    command = f"/opt/drift-recorder/current/bin/drift-recorder seal {DATA} --open"
    sandbox = machine.run(f"systemctl cat {UNIT}").replace("Type=notify", "Type=oneshot")
    sandbox = re.sub(r"^ExecStart=.*$", f"ExecStart={command}", sandbox, flags=re.MULTILINE)
    left_out = r"^(Restart|WatchdogSec|ExecReload|WantedBy|\[Install\]).*$"
    sandbox = re.sub(left_out, "", sandbox, flags=re.MULTILINE)
    machine.run(f"cat > /run/systemd/system/seal-once.service <<'END'\n{sandbox}\nEND\n")
    machine.run("systemctl daemon-reload; systemctl start seal-once")

    assert "published so far" in machine.log("seal-once")
    assert machine.run(f"drift-recorder verify {DATA}").strip().endswith("all as it was written")
    assert books(machine).height > 0


def test_a_reload_takes_over_another_list_of_markets(machine):
    """
    `systemctl reload` comes back, the status counts the new streams, and the process is the same.
    """
    before = main_pid(machine)
    machine.run(f"sed -i 's/^spot = .*/spot = [\"SOL\"]/' {CONFIG}; systemctl reload {UNIT}")

    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 10 of 10 streams")
    assert machine.show(UNIT, "ActiveState") == "active"
    assert main_pid(machine) == before
    assert "removed USDC orderbook, USDC trades" in machine.log(UNIT)


def test_a_wrong_configuration_is_refused_and_recording_goes_on(machine):
    """
    The reason is in the log and in the status.
    """
    machine.run(f"cp {CONFIG} /tmp/good; sed -i 's/^perp = .*/perp = []/; s/^spot = .*/spat = []/' {CONFIG}")
    machine.run(f"systemctl reload {UNIT}")

    machine.until(f"systemctl show -P StatusText {UNIT}", "the new configuration is refused", within_s=15)
    assert "spat" in machine.log(UNIT)
    assert machine.show(UNIT, "ActiveState") == "active"
    machine.run(f"cat /tmp/good > {CONFIG}")


def test_a_kill_is_followed_by_a_start(machine):
    """
    Whatever killed it, it records again within seconds.
    """
    before = main_pid(machine)
    machine.run(f"kill -9 {before}")

    started_again(machine, before)


def test_a_recorder_that_hangs_is_ended_by_the_watchdog(machine):
    """
    It is stopped dead; systemd notices, has it say where it stood, and starts another.
    """
    before = main_pid(machine)
    machine.run(f"kill -STOP {before}")

    started_again(machine, before)
    log = machine.log(UNIT)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log
    assert 'recorder/journal/writer.py", line' in log


def test_a_stop_commits_and_is_quick(machine):
    """
    Its last word is that everything is on disk; nothing is killed.
    """
    began = time.monotonic()
    machine.run(f"systemctl stop {UNIT}")

    # Six, and as much again for whatever else the machine has to do; systemd would kill it later still.
    assert time.monotonic() - began < 12
    assert machine.show(UNIT, "Result") == "success"
    assert "stopped: SIGTERM; everything is committed" in machine.log(UNIT)
    machine.run(f"systemctl start {UNIT}")


def test_an_upgrade_leaves_no_hole(machine):
    """
    Another version is built from source beside the one that runs, records beside it, and takes over: no book is missed.
    """
    newer = machine.root / "srv" / "newer"
    shutil.copytree(machine.root.parent / "source", newer)
    init = newer / "recorder" / "__init__.py"
    init.write_text(re.sub(r'__version__ = "(.*)"', r'__version__ = "\1.post1"', init.read_text()))
    before = main_pid(machine)
    time.sleep(1)
    begun = datetime.now(UTC)

    said = machine.run("sh /srv/newer/deploy/install.sh --wheels /srv/wheels --upgrade", timeout_s=INSTALL_S)

    assert re.search(r"it records with .*\.post1-", said), said
    assert main_pid(machine) != before
    assert machine.run("readlink /opt/drift-recorder/current").strip().split("-")[0].endswith(".post1")
    assert machine.show("drift-recorder@config", "ActiveState") == "inactive"
    time.sleep(2)
    machine.run(f"drift-recorder seal {DATA} --open")
    assert machine.run(f"find {DATA} ! -user drift-recorder") == ""  # a seal by root works as the service's user
    lake = Lake(machine.root / DATA.lstrip("/"))
    told = lake.quality().sort("start").collect()
    _, standby_began, last_began = told.filter(pl.col("kind") == "recorder_started")["start"].tail(3)
    old_ended, standby_ended = told.filter(pl.col("kind") == "recorder_stopped")["start"].tail(2)
    assert begun < standby_began < old_ended < last_began < standby_ended
    heard = lake.books("SOL-PERP").collect()["recv_ts"]
    assert heard.min() < begun
    assert heard.max() > standby_ended
    holes = lake.spans("SOL-PERP").filter(
        (pl.col("start") < standby_ended)
        & (pl.col("end") > begun)
        # After the last fill, none proves what came as another connection was made.
        & ((pl.col("state") == "missing") | ((pl.col("state") == "suspect") & (pl.col("channel") == "orderbook")))
    )
    assert heard_by_nobody(machine, holes.collect()) == []


def test_the_page_shows_it_from_a_sandbox_of_its_own(machine):
    """
    Under every line of its unit, polars included: it answers on loopback, and what it pushes is what is recorded.
    """
    machine.run("systemctl start drift-recorder-page")
    ask = "import urllib.request as u; r = u.urlopen('http://127.0.0.1:8766/events', timeout=20); "
    ask += "print([r.readline() for _ in range(30)])"

    machine.until("journalctl -b -u drift-recorder-page -o cat", "look at http://127.0.0.1:8766/")
    said = machine.run(f'python3 -c "{ask}"')

    assert '"state":"recording"' in said
    assert '"m":"SOL-PERP"' in said
    assert '"problem":""' in said
    machine.run("systemctl stop drift-recorder-page")


def test_a_full_disk_is_said_and_it_goes_on_when_there_is_room(machine):
    """
    As the runbook has it: what fills the disk is found, nothing of the recorder is old enough to go, room is made.
    """
    machine.run(f"systemctl stop {UNIT}; mount -t tmpfs -o size=200m,mode=750 small {DATA}")
    machine.run(f"chown drift-recorder: {DATA}; systemctl start {UNIT}")
    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 10 of 10 streams")
    machine.run(f"fallocate -l 150M {DATA}/journal/.ballast")

    machine.until(f"systemctl show -P StatusText {UNIT}", "THE DISK IS FULL, nothing is recorded until there is room")
    assert "the disk is full" in machine.run(f"drift-recorder status {DATA}", check=False)
    assert "nothing is old enough to go" in machine.run(f"drift-recorder retention {DATA} --keep-days 1 --dry-run")
    assert machine.show(UNIT, "ActiveState") == "active"
    machine.run(f"rm {DATA}/journal/.ballast")

    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 10 of 10 streams")
    machine.run(f"drift-recorder seal {DATA} --open")
    assert "disk_full" in machine.run(f"drift-recorder quality {DATA}")
    machine.run(f"systemctl stop {UNIT}; umount {DATA}; systemctl start {UNIT}")


def test_a_move_makes_one_lake_of_two_roots(machine):
    """
    The new one records before the old one stops; the journal goes over; each frame is in the lake once, none missing.
    """
    there = "/var/lib/drift-recorder/moved"
    config = machine.root / CONFIG.lstrip("/")
    moved = config.read_text().replace('root = "data"', f'root = "{there}"') + '[metrics]\nlisten = ""\n'
    (config.parent / "moved.toml").write_text(moved)
    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 10 of 10 streams")
    machine.run("systemctl start drift-recorder@moved")  # comes back when it records

    machine.run(f"systemctl stop {UNIT}; drift-recorder seal {DATA}")
    machine.run(f"cd {DATA} && cp -a journal/20* {there}/journal/ && cp -an lake manifest {there}/")
    machine.run(f"chown -R drift-recorder: {there}; drift-recorder seal {there}; drift-recorder seal {there} --open")

    assert "all as it was written" in machine.run(f"drift-recorder verify {there}")
    lake = Lake(machine.root / there.lstrip("/"))
    rows = lake.books("SOL-PERP", units="raw").select("slot", "ts", "run", "recv_ts").collect().sort("recv_ts")
    assert rows.select("slot", "ts").is_duplicated().sum() == 0
    assert rows["run"].n_unique() > 2
    machine.run("systemctl stop drift-recorder@moved")
    started = lake.quality().filter(kind="recorder_started").sort("start").collect()["start"][-1]
    holes = lake.spans("SOL-PERP").filter(
        (pl.col("end") > started) & pl.col("state").is_in(["missing", "suspect"]) & (pl.col("channel") == "orderbook")
    )
    assert heard_by_nobody(machine, holes.collect()) == []
    machine.run(f"rm -r {there} /etc/drift-recorder/moved.toml; systemctl start {UNIT}")


def test_it_records_again_after_a_reboot(machine):
    """
    Nobody is there to start it.
    """
    machine.run(
        "printf '[Service]\nExecStart=/usr/local/bin/drift-recorder simulate\n' > /etc/systemd/system/venue.service"
    )
    machine.run("mkdir -p /etc/systemd/system/multi-user.target.wants; systemctl daemon-reload")
    machine.run("ln -s ../venue.service /etc/systemd/system/multi-user.target.wants/; systemctl stop venue || true")

    machine.reboot()

    active(machine, within_s=40)
    machine.until(f"systemctl show -P StatusText {UNIT}", "recording 10 of 10 streams")


def test_uninstalling_keeps_the_data(machine):
    """
    The program and units go; the recording and the configuration stay.
    """
    machine.run("sh /srv/source/deploy/install.sh --uninstall")

    assert machine.run("ls /etc/systemd/system | grep drift || true") == ""
    machine.run(f"test ! -e /opt/drift-recorder -a -e {CONFIG} -a -d {DATA}/journal")
    assert machine.run(f"systemctl is-active {UNIT} || true").strip() == "inactive"
