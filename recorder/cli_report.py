"""
The verb `report`: a day of a lake as one HTML file.
"""

from datetime import UTC, datetime
from pathlib import Path

import click

from recorder.errors import RecorderError
from recorder.records import HOUR_NS, SECOND_NS

_DAY_NS = 24 * 3600 * SECOND_NS


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="Which, UTC.  [default: the newest of which something is sealed]"
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="File to write.  [default: report-<day>.html here]"
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it is there.")
def report(*, root: Path, day: datetime | None, output: Path | None, overwrite: bool) -> None:
    """Write a day of ROOT as one HTML file that needs nothing else.

    What was recorded and what is missing, coverage by hour, events on a timeline, latency, volumes, and the top of the
    book. The file makes no request to any network, works on a phone, in light and dark. Needs plotly (extra `plot`).
    """
    from recorder.analysis import Lake  # noqa: PLC0415
    from recorder.export.target import written  # noqa: PLC0415
    from recorder.report.contents import gather  # noqa: PLC0415
    from recorder.report.page import page  # noqa: PLC0415

    lake = Lake(root)
    first, last = lake.bounds()
    newest = last - 1
    start = newest - newest % _DAY_NS if day is None else int(day.replace(tzinfo=UTC).timestamp()) * SECOND_NS
    end = start + _DAY_NS
    name = f"{datetime.fromtimestamp(start // SECOND_NS, UTC):%Y-%m-%d}"
    if not len(lake.hours(start, end).collect()):
        raise RecorderError(_nothing(root, first, last, name))
    # Up to where there is something: half a day of nothing at either end shows less of the rest.
    shown = max(start, first - first % HOUR_NS), min(end, -(-last // HOUR_NS) * HOUR_NS)
    target = output or Path(f"report-{name}.html")
    made = page(gather(lake, *shown))
    with written(target, overwrite=overwrite) as to:
        to.write(made)
    click.echo(f"{name} -> {target} ({len(made) / 1e6:.1f} MB)")


def _nothing(root: Path, first: int, last: int, day: str) -> str:
    """
    That nothing is to report of a day, and what to do.
    """
    since, until = (f"{datetime.fromtimestamp(at // SECOND_NS, UTC):%Y-%m-%d %H:%M}" for at in (first, last - 1))
    return (
        f"{root}: nothing of {day} is sealed; hours are from {since} to {until} UTC, "
        f"and `drift-recorder coverage {root}` tells which"
    )
