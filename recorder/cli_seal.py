"""
`drift-recorder seal` and `verify`: the journal into Parquet, and all of it read back.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.clock import wall_ns
from recorder.errors import RecorderError
from recorder.owner import become_owner
from recorder.terminal import many, progress

if TYPE_CHECKING:
    from recorder.lake.removal import Removal

_PATH = click.Path(path_type=Path)
_OUT_OF_MEMORY_FIRST = 800
_PROBLEMS_FOUND = 9
_FOR_EVER_DAYS = 36_500.0


def _hour(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    from recorder.lake.layout import parse_hour  # noqa: PLC0415

    if value is None:
        return None
    try:
        return parse_hour(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("root", type=_PATH)
@click.option(
    "--hour", callback=_hour, metavar="2026-11-22T16", help="Only this hour (UTC), made again if it is sealed."
)
@click.option("--open", "open_hour", is_flag=True, help="Also publish the hour that is not over, as far as it is.")
@click.option("--background", is_flag=True, help="With the lowest priority, as the recorder runs it.")
@click.option("--keep-days", type=click.FloatRange(min=0.1), help="Then remove sealed journal older than this.")
@click.option("--keep-bytes", type=click.IntRange(min=0), default=0, help="Or beyond this total; 0: no limit.")
@click.option(
    "--lake-days",
    type=click.FloatRange(min=0.0),
    default=0.0,
    help="Then remove rows of the lake older than this; 0: none.",
)
@click.option(
    "--want-free", type=click.IntRange(min=1), help="First remove sealed journal, however young, until this is free."
)
def seal(
    root: Path,
    *,
    hour: int | None,
    open_hour: bool,
    background: bool,
    keep_days: float | None,
    keep_bytes: int,
    want_free: int | None,
    lake_days: float,
) -> None:
    """Turn closed hours of ROOT's journal into Parquet.

    Safe at any time, beside a running recorder, and after being killed: the same journal gives the same bytes. As root
    it works as the user that ROOT belongs to.
    """
    # Loaded first: the installation may be one that only root can read.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    import recorder.lake.sealing  # noqa: F401, PLC0415
    from recorder.lake import manifest as manifests  # noqa: PLC0415

    become_owner(root)
    if background:
        with suppress(OSError):  # a hardened unit may forbid it: then the kernel shares out evenly
            os.nice(19)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(_OUT_OF_MEMORY_FIRST), encoding="ascii")
    removed: list[Removal] = []
    if want_free is not None:
        # Before the seal, which needs space itself.
        removed += _expire(root, keep_days=_FOR_EVER_DAYS, keep_bytes=0, want_free=want_free, background=background)
    try:
        sealed = seal_hours(root, hour=hour, open_hour=open_hour)
    except (RecorderError, OSError):
        if background and removed:
            # It was removed all the same, and the next seal may fail as well.
            with suppress(RecorderError, OSError):
                _tell_gone(root, removed)
        raise
    if not sealed:
        so_far = "" if open_hour else f"; `drift-recorder seal {root} --open` publishes the hour so far, too"
        made = (manifests.read(root, each) for each in manifests.hours(root))
        is_any = any(manifest is not None and manifest.complete for manifest in made)
        closed = "every closed hour is sealed" if is_any else "no hour is over yet"
        click.echo(f"nothing to seal: {closed}{so_far}")
    if keep_days is not None or want_free is not None:
        days = keep_days or _FOR_EVER_DAYS
        removed += _expire(root, keep_days=days, keep_bytes=keep_bytes, want_free=want_free or 0, background=background)
    if lake_days:
        from recorder.lake.expiry import expire_lake  # noqa: PLC0415

        removal = expire_lake(root, now=wall_ns(), keep_days=lake_days, by_hand=not background, on_note=_note)
        if removal is not None:
            removed.append(removal)
            _tell_removed(removal, background=background)
    if background:
        _tell_gone(root, removed)


def _expire(root: Path, *, keep_days: float, keep_bytes: int, want_free: int, background: bool) -> "list[Removal]":
    from recorder.lake.retention import expire  # noqa: PLC0415

    removed: list[Removal] = []

    def tell(removal: "Removal") -> None:
        removed.append(removal)
        _tell_removed(removal, background=background)

    expire(
        root,
        now=wall_ns(),
        keep_days=keep_days,
        keep_bytes=keep_bytes,
        want_free=want_free,
        by_hand=not background,
        on_note=_note,
        on_removed=tell,
    )
    return removed


def _tell_gone(root: Path, removed: "list[Removal]") -> None:
    """
    To the recorder: what else has gone, and the note that says so once that is on record.
    """
    from recorder.lake.gone import ON_RECORD, look  # noqa: PLC0415

    gone, note = look(root, told=removed)
    for removal in gone:
        _tell_removed(removal, background=True)
    click.echo(f"{ON_RECORD}{note.decode()}")


def _tell_removed(removal: "Removal", *, background: bool) -> None:
    """
    In words; to the recorder, so that it can put it on record.
    """
    if background:
        import msgspec  # noqa: PLC0415

        click.echo(f"removed: {msgspec.json.encode(removal).decode()}")
    else:
        click.echo(f"removed {removal.words}")


def _note(words: str) -> None:
    from recorder.quality.events import printable  # noqa: PLC0415

    click.echo(f"note: {printable(words)}")


def seal_hours(root: Path, *, hour: int | None = None, open_hour: bool = False) -> int:
    """
    Seal with a progress bar; returns the number of hours.
    """
    # Before pyarrow is loaded: its own pools keep memory, and call what a hardened unit forbids.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from recorder.errors import SealFailed  # noqa: PLC0415
    from recorder.lake.layout import hour_label  # noqa: PLC0415
    from recorder.lake.sealing import seal as seal_due  # noqa: PLC0415

    with progress("sealing") as show:

        def tell(at: int, left: int, done: int) -> None:
            show(f"{hour_label(at)}: {done} entries, {left} hour(s) to go", None, None)

        sealed = seal_due(root, hour=hour, open_hour=open_hour, progress=tell, on_note=_note)
    problems = []
    for each in sealed:
        manifest = each.manifest
        rows = sum(file.rows for file in manifest.files if file.symbol is not None)
        state = "sealed" if manifest.complete else "published so far"
        click.echo(
            f"{manifest.hour}: {state}: {rows} books and trades of {manifest.frames} frames, "
            f"{len(manifest.files)} files"
        )
        problems += manifest.problems
    if problems:
        raise SealFailed(f"{problems[0]}; the journal is kept: mend the cause and run `drift-recorder seal` again")
    return len(sealed)


@click.command()
@click.argument("root", type=_PATH)
@click.option("--repair", is_flag=True, help="First set aside what is damaged, and make it again from the journal.")
def verify(root: Path, *, repair: bool) -> None:
    """Read all of ROOT back and compare it with what was written. Changes nothing, unless told to --repair.

    Exit code 9 if anything is missing or damaged (still, with --repair). What --repair finds damaged goes to
    ROOT/quarantine, and is never deleted.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from recorder.durable import size  # noqa: PLC0415
    from recorder.lake.verify import verify as check_root  # noqa: PLC0415
    from recorder.quality.events import printable  # noqa: PLC0415

    if repair:
        from recorder.lake.repair import repair as mend  # noqa: PLC0415

        become_owner(root)

        for done in mend(root):
            click.echo(f"{'mended' if done.well else 'NOT mended'}: {printable(done.path)}: {printable(done.words)}")
    with progress("verifying") as show:
        report = check_root(root, progress=show)
    for problem in report.problems:
        click.echo(f"{printable(problem.path)}: {printable(problem.problem)}; {problem.hint}")
    for note in report.notes:
        click.echo(f"note: {printable(note)}")
    so_far = f" ({report.incomplete_hours} so far)" if report.incomplete_hours else ""
    click.echo(
        f"{many(report.hours, 'hour')}{so_far}, {many(report.files, 'file')} with {many(report.rows, 'row')}, "
        f"{many(report.segments, 'journal segment')} with {many(report.entries, 'entry', 'entries')}, "
        f"{size(report.bytes)}: "
        + (many(len(report.problems), "problem") if report.problems else "all as it was written")
    )
    if report.problems:
        click.get_current_context().exit(_PROBLEMS_FOUND)
