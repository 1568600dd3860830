"""
The verb `replay`: a recording as a venue.
"""

import asyncio
from pathlib import Path
from typing import Literal

import click

from recorder.cli_quality import instant_of
from recorder.errors import at_address
from recorder.terminal import many


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--market", "markets", multiple=True, metavar="SYMBOL", help="Only this market; may be repeated.")
@click.option("--from", "start", callback=instant_of, metavar="TIME", help="2026-11-22T16 (UTC).  [default: all]")
@click.option("--to", "end", callback=instant_of, metavar="TIME", help="Up to here.  [default: all]")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Times as fast as it was; 0: as fast as the clients read.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free one.")
@click.option(
    "--lead",
    "lead_s",
    type=click.FloatRange(0, 600),
    default=2.0,
    show_default=True,
    help="Seconds from the first subscribe to the beginning, for all others to subscribe.",
)
@click.option("--live", is_flag=True, help="Also what is not sealed yet, as far as it is committed now.")
@click.option("--once", is_flag=True, help="Close the clients with 1001 at the end, and stop when none is left.")
@click.option(
    "--source",
    type=click.Choice(["auto", "journal", "lake"]),
    default="auto",
    show_default=True,
    help="journal: the bytes that were heard; lake: frames rebuilt from the sealed files.",
)
def replay(
    *,
    root: Path,
    markets: tuple[str, ...],
    start: int | None,
    end: int | None,
    speed: float,
    host: str,
    port: int,
    lead_s: float,
    live: bool,
    once: bool,
    source: Literal["auto", "journal", "lake"],
) -> None:
    """Serve what ROOT recorded over a websocket, in the venue's own protocol.

    Subscribe, unsubscribe, acknowledgements, errors, heartbeats and channel names are the server's; data frames come at
    the pace they were heard, by one clock for all clients, which begins with the first subscribe. Each comes once,
    whatever number of connections had heard it; holes of the recording are silences here.

    From the journal frames are the very bytes. Where that is gone they are rebuilt from the sealed files: they decode
    to the same rows, but are not the same bytes. Their times are those of the recording: a client that compares them
    with its clock sees old data. A range that reaches into what is not sealed is refused without --live.
    """
    from recorder.history.frames import History  # noqa: PLC0415
    from recorder.lake.layout import hour_label  # noqa: PLC0415
    from recorder.simulator.server import SimulatorOptions, serve  # noqa: PLC0415

    history = History(root, list(markets) or None, start, end, source=source, live=live)
    for part in history.parts:
        words = "journal, byte for byte" if part.exact else "sealed files, frames rebuilt"
        click.echo(f"{hour_label(part.start)}  from the {words}")
    click.echo(f"{many(len(history.markets), 'market')}: {', '.join(market.symbol for market in history.markets)}")
    options = SimulatorOptions(
        host=host,
        port=port,
        timeline=history,
        server="2025-09" if history.ungrouped else "2026-05",
        crash=False,
        speed=speed,
        lead_s=lead_s,
        once=once,
    )
    with at_address(host, port):
        asyncio.run(serve(options, lambda url: click.echo(f"listening on {url}")))
