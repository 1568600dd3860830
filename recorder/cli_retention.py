"""
`drift-recorder retention`: what is old enough to go, and let it go.
"""

from pathlib import Path

import click

from recorder.clock import wall_ns
from recorder.owner import become_owner
from recorder.terminal import console

_ROOT = click.Path(path_type=Path)


@click.command()
@click.argument("root", type=_ROOT)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option("--config", type=_ROOT, help="Take the rules of this configuration; those given here go before.")
@click.option("--keep-days", type=click.FloatRange(min=0.1), help="Journal: days a file stays.  [default: 7]")
@click.option("--keep-bytes", type=click.IntRange(min=0), help="Journal: sealed files beyond go earlier; 0: no limit.")
@click.option("--lake-days", type=click.FloatRange(min=0), help="Lake: days an hour's rows stay; 0: for ever.")
def retention(
    root: Path,
    config: Path | None,
    keep_days: float | None,
    keep_bytes: int | None,
    lake_days: float | None,
    *,
    dry_run: bool,
) -> None:
    """Remove from ROOT what is old enough, or with --dry-run tell what would go.

    Journal goes once its hours are sealed and were read back, and all that reads them as well. Of the lake the rows of
    whole hours go; what tells how good they were (quality, coverage) stays, and the manifest lists them as expired.
    What is unsealed, damaged or missing never lets anything go. A recorder does this by itself after each seal; there,
    time counts in which something was recorded, while here the machine's clock decides alone.
    """
    from recorder.config import Journal, load_config  # noqa: PLC0415
    from recorder.config_ops import Lake  # noqa: PLC0415
    from recorder.lake.expiry import expire_lake  # noqa: PLC0415
    from recorder.lake.removal import Removal  # noqa: PLC0415
    from recorder.lake.retention import expire  # noqa: PLC0415
    from recorder.lake.root import read_binding  # noqa: PLC0415
    from recorder.quality.events import printable  # noqa: PLC0415

    settings = load_config(config) if config is not None else None
    journal = settings.journal if settings is not None else Journal()
    lake = settings.lake if settings is not None else Lake()
    read_binding(root)
    become_owner(root)
    out, found = console(), list[Removal]()

    def note(words: str) -> None:
        out.print(f"note: {printable(words)}")

    # The lake first: what goes from it needs no journal that could make it again.
    days = lake.keep_days if lake_days is None else lake_days
    removal = expire_lake(root, now=wall_ns(), keep_days=days, by_hand=True, dry_run=dry_run, on_note=note)
    if removal is not None:
        found.append(removal)
    expire(
        root,
        now=wall_ns(),
        keep_days=journal.keep_days if keep_days is None else keep_days,
        keep_bytes=journal.keep_bytes if keep_bytes is None else keep_bytes,
        by_hand=True,
        dry_run=dry_run,
        on_note=note,
        on_removed=found.append,
    )
    for each in found:
        out.print(f"{'would remove' if dry_run else 'removed'} {each.words}")
    if not found:
        out.print("nothing is old enough to go")
