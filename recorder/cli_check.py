"""
`drift-recorder check` and `markets`: what would be recorded, before it is.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from recorder.redaction import redacted
from recorder.terminal import console as _console
from recorder.terminal import progress

if TYPE_CHECKING:
    from recorder.check import Checked

_PATH = click.Path(path_type=Path, readable=False)


@click.command()
@click.argument("config", type=_PATH)
@click.option("--connect", is_flag=True, help="Ask the venue for everything that is configured, and see what comes.")
@click.option(
    "--listen", type=click.FloatRange(1, 600), default=10, show_default=True, help="Seconds to listen with --connect."
)
def check(config: Path, listen: float, *, connect: bool) -> None:
    """Check CONFIG, and with --connect the venue it names.

    Exit code 8 if the venue is out of reach or some stream brings neither acknowledgement nor data.
    """
    from recorder.check import ask_venue, connections_table  # noqa: PLC0415
    from recorder.config import load_config  # noqa: PLC0415
    from recorder.config_streams import connections, copies, streams, unlisted  # noqa: PLC0415
    from recorder.errors import Unreachable  # noqa: PLC0415
    from recorder.lake.root import refuse_unusable  # noqa: PLC0415
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.show import streams_table  # noqa: PLC0415

    settings = load_config(config)
    refuse_unusable(settings.storage.root)
    console = _console()
    wanted = streams(settings)
    console.print(streams_table(wanted, f"{settings.venue.name}: {redacted(settings.venue.url)}"))
    urls = copies(settings)
    count = len(connections(settings)) * len(urls)
    if count > 1:
        console.print()
        console.print(connections_table(settings))
    console.print(
        f"\n{len(wanted)} streams{f', {len(urls)} times over,' if len(urls) > 1 else ''} "
        f"on {count} connection{'s' if count > 1 else ''}, "
        f"into {printable(str(settings.storage.root))}; market list {settings.venue.network}"
    )
    for market_type, symbol, near in unlisted(settings):
        hint = f" (near: {', '.join(near)})" if near else ""
        console.print(
            f"note: the list has no {market_type} market {printable(symbol)}{hint}; it will be asked for all the same"
        )
    if len(settings.venue.pins) == 1:
        console.print("note: venue.pins has one key and no backup: if the venue changes it, nothing is recorded")
    if not connect:
        return
    for url in dict.fromkeys(urls):
        with progress(f"listening for {listen:g} s"):
            checked = asyncio.run(ask_venue(settings, url, listen_s=listen))
        console.print()
        _show_answers(checked, console)
        dead = [answer.stream.label() for answer in checked.answers if not answer.came]
        if dead:
            more = f" and {len(dead) - 5} more" if len(dead) > 5 else ""
            raise Unreachable(f"{redacted(url)}: no answer for {', '.join(dead[:5])}{more}; check the market names")


def _show_answers(checked: "Checked", console: Console) -> None:
    """
    What a venue did about each stream.
    """
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.show import plain  # noqa: PLC0415

    table = plain(
        f"{redacted(checked.url)}: after {checked.listened_s:.1f} s, {checked.heartbeats} heartbeats, "
        f"{'with' if checked.compressed else 'without'} compression",
        "stream",
        "acknowledged",
        "frames",
        right=("frames",),
    )
    for answer in checked.answers:
        table.add_row(answer.stream.label(), "yes" if answer.acknowledged else "no", str(answer.frames))
    console.print(table)
    if checked.keys:
        console.print(f"key pins of its certificate chain, its own first: {', '.join(checked.keys)}")
    for error in dict.fromkeys(checked.errors):
        console.print(printable(error))
    # The venue acknowledges whatever it can parse; a book that it has comes each second or faster.
    for answer in checked.answers:
        if answer.acknowledged and not answer.frames and answer.stream.channel.startswith("orderbook"):
            label = printable(answer.stream.label())
            console.print(f"note: {label} was acknowledged, but brought no book in {checked.listened_s:.1f} s")
    for name, listed in checked.other_names.items():
        console.print(
            f"note: the venue calls {printable(name)} what the list calls {listed}: is `venue.network` right?"
        )


@click.command()
@click.argument("network", required=False)
@click.option("--type", "market_type", type=click.Choice(["perp", "spot"]), help="Only perps or spot markets.")
@click.option("--all", "everything", is_flag=True, help="Also those that are delisted or collateral only.")
def markets(network: str | None, market_type: str | None, *, everything: bool) -> None:
    """List the markets that are known, by NETWORK.

    Without NETWORK: the networks there are. A market that is not listed can be recorded all the same.
    """
    from recorder.show import plain  # noqa: PLC0415
    from recorder.venue.markets import NETWORKS, market_list  # noqa: PLC0415

    console = _console()
    if network is None:
        table = plain("networks", "network", "perps", "spot", "about", right=("perps", "spot"))
        for name in NETWORKS:
            shipped = market_list(name)
            table.add_row(name, str(len(shipped.perps)), str(len(shipped.spots)), shipped.about)
        console.print(table)
        console.print("\n`drift-recorder markets NETWORK` lists one of them.")
        return
    try:
        shipped = market_list(network)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    table = plain(
        f"{network}: {shipped.about}",
        "type",
        "index",
        "symbol",
        "size ×10^",
        "status",
        "note",
        right=("index", "size ×10^"),
    )
    left_out = 0
    for market in (*shipped.perps, *shipped.spots):
        if market_type not in {None, market.market_type}:
            continue
        if market.status != "listed" and not everything:
            left_out += 1
            continue
        table.add_row(
            market.market_type, str(market.index), market.symbol, str(market.size_exponent), market.status, market.note
        )
    console.print(table)
    if left_out:
        console.print(f"\n{left_out} delisted or collateral-only markets are left out; --all shows them.")
