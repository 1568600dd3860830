"""
`drift-recorder simulate`: the venue on loopback, for tests and demos of any client.
"""

import asyncio
from pathlib import Path
from typing import Literal

import click

from recorder.errors import at_address
from recorder.logs import set_up

_PATH = click.Path(path_type=Path)


class _Simulate(click.Command):
    """
    Its help ends with the kinds of faults, read from where they are defined.
    """

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """
        Print the kinds.
        """
        from typing import get_args  # noqa: PLC0415

        from recorder.simulator.kinds import Altered, Garbled, described  # noqa: PLC0415

        formatter.write_paragraph()
        formatter.write_text(
            "Kinds of faults, with the members that --fault and the [[fault]] tables of --faults take. After = stands "
            "the default, or the choice with the default first; times are seconds from the start; market is a symbol, "
            "several with commas, perp:*, spot:* or *; every counts the frames of one channel."
        )
        with formatter.indentation():
            for name, members, words in described():
                formatter.write_text(f"{name} {' '.join(members)}: {words}")
            formatter.write_text(f"garbage what: {', '.join(get_args(Garbled))}.")
            formatter.write_text(f"alter what: {', '.join(get_args(Altered))}.")


@click.command(cls=_Simulate)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free one.")
@click.option("--markets", "chosen", help="How many, or names separated by commas. [default: six well-known ones]")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same market history.")
@click.option(
    "--tick-ms", type=click.IntRange(10, 60_000), default=400, show_default=True, help="Between two books of a market."
)
@click.option("--drop-at", multiple=True, metavar="S[/EVERY]", help="Cut every connection at this second.")
@click.option("--silence", multiple=True, metavar="MARKET:FROM-TO", help="Send no books of a market (*: of all).")
@click.option("--withhold-fills", multiple=True, metavar="MARKET:FROM-TO", help="Keep fills back; their ids count on.")
@click.option("--stop-heartbeats", multiple=True, metavar="FROM-TO", help="Send no heartbeats.")
@click.option("--garbage", multiple=True, metavar="S:TEXT", help="Send this text as a frame.")
@click.option(
    "--faults", type=_PATH, help="A TOML file of [[fault]] tables: the same faults, and more of their settings."
)
@click.option("--replay", type=_PATH, help="Send captured frames ({recv_ts_ns, frame} lines, plain or .zst) instead.")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of the replay; 0: as fast as read."
)
@click.option("--verbatim", is_flag=True, help="Replay acknowledgements and heartbeats too, from the connect on.")
@click.option("--once", is_flag=True, help="Close after the replay's last frame, and stop.")
@click.option(
    "--server",
    type=click.Choice(["2026-05", "2025-09", "velocity"]),
    default="2026-05",
    show_default=True,
    help="Which version of the real server to be.",
)
@click.option(
    "--publisher",
    type=click.Choice(["typescript", "rust"]),
    default="typescript",
    show_default=True,
    help="Of the books; rust: velocity only.",
)
@click.option("--two-feeds", is_flag=True, help="Books from two publishers, interleaved, the second behind.")
@click.option(
    "--fault", multiple=True, metavar="'KIND KEY=VALUE …'", help="Any kind: 'freeze market=SOL-PERP from_s=9 to_s=20'."
)
@click.option("--random-faults", type=int, metavar="SEED", help="A seeded mixture of faults; same seed, same faults.")
@click.option(
    "--initial-delay-ms",
    type=click.IntRange(0, 60_000),
    default=2,
    show_default=True,
    help="From acknowledgement to initial book (2025-09 and velocity send one); live books may overtake it.",
)
@click.option("--jitter", is_flag=True, help="Tick as irregularly as a real publisher, with a slow tick now and then.")
@click.option("--priority-fees", is_flag=True, help="Send priority fees to those who subscribe to them.")
@click.option("--ledger", type=_PATH, help="Append what was sent, dropped and withheld, as JSON lines.")
@click.option("--for", "for_s", type=click.FloatRange(min=0.1), help="Stop after this many seconds.")
def simulate(  # one for each option
    *,
    host: str,
    port: int,
    chosen: str | None,
    seed: int,
    tick_ms: int,
    drop_at: tuple[str, ...],
    silence: tuple[str, ...],
    withhold_fills: tuple[str, ...],
    stop_heartbeats: tuple[str, ...],
    garbage: tuple[str, ...],
    server: Literal["2026-05", "2025-09", "velocity"],
    publisher: Literal["typescript", "rust"],
    two_feeds: bool,
    fault: tuple[str, ...],
    random_faults: int | None,
    faults: Path | None,
    replay: Path | None,
    speed: float,
    verbatim: bool,
    once: bool,
    initial_delay_ms: int,
    jitter: bool,
    priority_fees: bool,
    ledger: Path | None,
    for_s: float | None,
) -> None:
    """Serve a simulated venue on a loopback websocket, for tests and demos of any Drift client.

    Requests, acknowledgements, errors, heartbeats and frames are those of the real server; the markets are random
    walks.
    Prints `listening on ws://…` when it is ready. Seconds in faults count from the start.
    What a client should have heard, and why not, is in the ledger: a JSON line for each frame sent, dropped or withheld
    and for each fault, with times in ns.

    \b
    Examples: drift-recorder simulate --silence SOL-PERP:15-25 --drop-at 40 --ledger truth.jsonl
              drift-recorder simulate --server velocity --fault 'freeze market=SOL-PERP from_s=9 to_s=20'
              drift-recorder simulate --markets 96 --jitter --random-faults 7 --for 600
    and in another terminal: drift-recorder run config/demo.toml --for 60
    """
    from recorder.simulator.faults import faults_from_arguments, read_script  # noqa: PLC0415
    from recorder.simulator.markets import DEFAULT_MARKETS, VELOCITY_MARKETS, select_markets  # noqa: PLC0415
    from recorder.simulator.mixtures import random_faults as mixture  # noqa: PLC0415
    from recorder.simulator.rhythm import AS_CAPTURED, STEADY  # noqa: PLC0415
    from recorder.simulator.server import SimulatorOptions, serve  # noqa: PLC0415

    planned = faults_from_arguments(
        drop_at=drop_at,
        silence=silence,
        withhold_fills=withhold_fills,
        stop_heartbeats=stop_heartbeats,
        garbage=garbage,
        fault=fault,
    )
    if faults is not None:
        planned += read_script(faults)
    known = VELOCITY_MARKETS if server == "velocity" else DEFAULT_MARKETS
    simulated = tuple(select_markets(chosen, known)) if chosen else known
    if random_faults is not None:
        planned += mixture(random_faults, for_s or 3600, simulated)
    options = SimulatorOptions(
        host=host,
        port=port,
        markets=simulated,
        server=server,
        publisher=publisher,
        two_feeds=two_feeds,
        seed=seed,
        tick_ms=tick_ms,
        faults=tuple(planned),
        ledger=ledger,
        for_s=for_s,
        initial_delay_ms=initial_delay_ms,
        rhythm=AS_CAPTURED if jitter else STEADY,
        priority_fees=priority_fees,
        replay=replay,
        speed=speed,
        verbatim=verbatim,
        once=once,
    )
    set_up("warning")
    with at_address(host, port):
        asyncio.run(serve(options, ready=lambda url: click.echo(f"listening on {url}")))
