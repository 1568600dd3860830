"""
The verb `serve`: a page to look at.
"""

import asyncio
import signal
from pathlib import Path

import click

from recorder.errors import at_address


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8766, show_default=True, help="0: any free one.")
@click.option(
    "--expose",
    default="",
    metavar="WORDS",
    help="Says that an address others can reach is meant; the error names them.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="Answer to this name too, as behind a proxy.")
def serve(root: Path, host: str, port: int, expose: str, allow_host: tuple[str, ...]) -> None:
    """Show a page about ROOT: markets, books, trades and holes as they come, the last days, the disk.

    It reads journal and lake and changes nothing; the recorder knows nothing of it. From another machine:
    ssh -L 8766:localhost:8766 HOST, then http://localhost:8766/.
    """
    from recorder.page.serve import Page, refuse_exposure  # noqa: PLC0415
    from recorder.page.serve import serve as run  # noqa: PLC0415

    refuse_exposure(host, expose)

    async def until_signalled() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        page = Page(root, hosts=(*allow_host, host))
        await run(page, host=host, port=port, ready=lambda url: click.echo(f"look at {url}"), stop=stop)

    with at_address(host, port):
        asyncio.run(until_signalled())
