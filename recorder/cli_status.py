"""
`drift-recorder status`, `top` and `reload`: a recorder that is at work elsewhere, looked at and spoken to.
"""

import sys
from pathlib import Path

import click

from recorder.clock import monotonic_ns, pause
from recorder.errors import RecorderError, RootError
from recorder.records import SECOND_NS
from recorder.terminal import console

NOT_READY = 11
_ROOT = click.Path(path_type=Path)
_POLL_S = 0.05


@click.command()
@click.argument("root", type=_ROOT)
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
@click.option("--all", "everything", is_flag=True, help="List every market, also those that are well.")
@click.option(
    "--look-back",
    type=click.FloatRange(10, 3600),
    default=90.0,
    show_default=True,
    help="Seconds of the journal to read: events and holes are of that time.",
)
def status(root: Path, look_back: float, *, as_json: bool, everything: bool) -> None:
    """Tell how the recorder of ROOT is doing, from its journal: it is not asked, and does not notice.

    Works as well when none is at work: then it says so, and how things were left.

    \b
    Exit code 0: all that is configured is recorded. 11: it is not, or no recorder is at work.
    """
    import msgspec  # noqa: PLC0415

    from recorder.show_status import print_status  # noqa: PLC0415
    from recorder.status.follow import Follower  # noqa: PLC0415

    follower = Follower(root, look_back_s=look_back)
    try:
        follower.advance()
        while follower.behind:
            follower.advance()
        told = follower.status()
    finally:
        follower.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        print_status(console(), told, everything=everything, looked_back_s=look_back)
    if not told.ready:
        click.get_current_context().exit(NOT_READY)


@click.command()
@click.argument("root", type=_ROOT)
@click.option(
    "--look-back",
    type=click.FloatRange(10, 3600),
    default=90.0,
    show_default=True,
    help="Seconds of the journal to begin with.",
)
def top(root: Path, look_back: float) -> None:
    """Watch the recorder of ROOT on a live screen, from its journal: it is not asked, and does not notice.

    Keys: s sorts by the next column, r reverses, / filters by name, p shows problems only, e events, space pauses, q
    quits.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        # What has no end would wait for keys that cannot come.
        raise click.UsageError("`top` needs a terminal to read from and to draw on; `status ROOT` prints once")
    from recorder.top import Top  # noqa: PLC0415

    screen = Top(root, look_back_s=look_back)
    screen.run()
    if screen.failure is not None:
        raise screen.failure


@click.command()
@click.argument("root", type=_ROOT)
@click.option(
    "--timeout",
    type=click.FloatRange(0.5, 600),
    default=15.0,
    show_default=True,
    help="Seconds to wait.",
)
def reload(root: Path, timeout: float) -> None:
    """Have the recorder of ROOT read its configuration again, and tell what came of it.

    Markets are added and removed while all others go on. A file that is wrong, or that changes anything else, is
    refused with the reason, and recording goes on by the old one: then the exit code is 2. With recorders beside each
    other, each is asked.
    """
    from recorder.lake.root import read_binding  # noqa: PLC0415
    from recorder.status.presence import live_runs, process_of  # noqa: PLC0415

    read_binding(root)
    alive = live_runs(root)
    if not alive:
        raise RootError(root, "no recorder is at work on it", "start one with `drift-recorder run`")
    # After a step of the clock a process holds two locks for a moment; the newest run is the one that goes on.
    asked = {process_of(root, run): run for run in alive}
    refusals = [refusal for run in asked.values() if (refusal := _reload(root, run, timeout))]
    if refusals:
        raise _Refused(refusals[0])


class _Refused(RecorderError):
    """
    The new configuration is not taken over.
    """

    exit_code = 2


def _reload(root: Path, run: str, timeout_s: float) -> str:
    """
    Ask one recorder, and say what it did; its reason if it refused.
    """
    from recorder.journal.tail import Tail  # noqa: PLC0415
    from recorder.lake.layout import JOURNAL  # noqa: PLC0415
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.records import EntryKind, JobFailed, Reloaded, decode_fact  # noqa: PLC0415
    from recorder.status.presence import ask_to_reload  # noqa: PLC0415

    tail = Tail(root / JOURNAL / run, since=1 << 62)
    try:
        while tail.take():
            pass  # what was before is not the answer
        ask_to_reload(root, run)
        deadline = monotonic_ns() + int(timeout_s * SECOND_NS)
        while monotonic_ns() < deadline:
            for entry in tail.take():
                if entry.kind != EntryKind.FACT or b'"reload' not in entry.payload:
                    continue
                fact = decode_fact(entry.payload)
                if isinstance(fact, Reloaded):
                    click.echo(f"{run}: taken over: {printable(fact.words)}")
                    return ""
                if isinstance(fact, JobFailed) and fact.job == "reload":
                    return f"{run}: refused, recording goes on by the old configuration: {printable(fact.error)}"
            pause(_POLL_S)
    finally:
        tail.close()
    raise RootError(root, f"run {run} did not answer within {timeout_s:g} s", "see its log; is it a recorder of today?")
