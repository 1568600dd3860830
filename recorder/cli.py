"""
`drift-recorder`: one function per verb. Errors are one line on standard error and an exit code (see `errors.py`).

Heavy libraries are imported by the verbs that need them: the process that records loads neither pyarrow nor polars.
"""

import asyncio
import errno
import faulthandler
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
from rich.console import Console

from recorder import __version__
from recorder.cli_export import export
from recorder.cli_quality import coverage, quality
from recorder.cli_replay import replay
from recorder.cli_report import report
from recorder.cli_retention import retention
from recorder.cli_serve import serve
from recorder.cli_status import reload, status, top
from recorder.clock import wall_ns
from recorder.errors import RecorderError, RootError
from recorder.logs import set_up
from recorder.owner import become_owner
from recorder.redaction import redacted
from recorder.terminal import console as _console
from recorder.terminal import many

if TYPE_CHECKING:
    from recorder.check import Checked
    from recorder.lake.removal import Removal

_FILE = click.Path(path_type=Path)
_OUT_OF_MEMORY_FIRST = 800
_INTERRUPTED = 130
_PROBLEMS_FOUND = 9
_FOR_EVER_DAYS = 36_500.0
_WHAT_TO_DO = {
    errno.EACCES: "check its owner and mode",
    errno.EPERM: "check its owner and mode",
    errno.EROFS: "remount it, or choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.ENOSPC: "free space on it",
    errno.EDQUOT: "free space, or raise the quota",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "choose another --port, or 0 for any free one",
    errno.EADDRNOTAVAIL: "choose another --host",
}


class _Group(click.Group):
    """
    Turns every error into one line on standard error and an exit code; a reader that went away into silence.
    """

    def main(  # click's signature
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *rest: Any,  # noqa: ANN401
        **extra: Any,  # noqa: ANN401
    ) -> NoReturn:
        """
        Run a verb and exit.
        """
        for stream in (sys.stdout, sys.stderr):
            # A terminal or file that cannot show a character gets its number, not a traceback.
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, *rest, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has had enough. What is still buffered goes nowhere.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "drift-recorder"
            code = _complain(f"{error.format_message().rstrip('.')}; see `{path} --help`", error.exit_code)
        except click.Abort:
            code = _complain("interrupted", _INTERRUPTED)
        except RecorderError as error:
            code = _complain(str(error), error.exit_code)
        except OSError as error:
            # asyncio puts the address into the text, and the number only into errno.
            hint = _WHAT_TO_DO.get(error.errno or 0, "check the path and the disk")
            name = f"{error.filename}: " if error.filename else ""
            words = os.strerror(error.errno) if error.errno in _WHAT_TO_DO else error.strerror
            code = _complain(f"{name}{words or error}; {hint}", 1)
        _exit(code if isinstance(code, int) else 0)


def _complain(words: str, code: int) -> int:
    """
    One line, whatever is in the words.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in words)
    with suppress(BrokenPipeError):
        click.echo(f"drift-recorder: {line}", err=True)
    return code


def _exit(code: int) -> NoReturn:
    """
    Exit without waiting for a thread that hangs in a name lookup or a dead file system.
    """
    threads = [t for t in threading.enumerate() if t.name.startswith("asyncio_") and not t.daemon]
    for thread in threads:
        thread.join(0.1)
    if any(thread.is_alive() for thread in threads):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from recorder.venue.normalize import is_native  # noqa: PLC0415

    # Installed where there is no C compiler, all works the same.
    slow = "" if is_native() else " (without its compiled part: sealing takes longer)"
    click.echo(f"drift-recorder, version {__version__}{slow}")
    context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Tell the version.")
def main() -> None:
    """Record Drift/Velocity order books and trades into Parquet, with every hole on record.

    Start with `drift-recorder demo`: it records a simulated venue for a minute and shows what you get.

    \b
    Exit codes: 0 fine, 1 error, 2 configuration or arguments, 3 data root, 4 locked by another
    process, 5 not our file, 6 damaged file, 7 could not seal, 8 venue out of reach, 9 verify
    found problems, 10 quality or coverage found gaps (--fail-on-gaps), 11 status: not all is
    recorded, 130 interrupted.
    """


main.add_command(quality)
main.add_command(coverage)
main.add_command(export)
main.add_command(serve)
main.add_command(replay)
main.add_command(report)
main.add_command(retention)
main.add_command(status)
main.add_command(reload)
main.add_command(top)


# ---- recording


@main.command()
@click.argument("config", type=_FILE)
@click.option(
    "--for", "for_s", type=click.FloatRange(min=0.1), help="Stop after this many seconds, and seal the hour so far."
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    help="How the log is written; over the configuration's `log.format`.",
)
@click.option(
    "--beside", is_flag=True, help="Record although another recorder uses the same root; the seal takes the union."
)
def run(config: Path, for_s: float | None, log_format: Literal["auto", "text", "json"] | None, *, beside: bool) -> None:
    """Record what CONFIG names, until SIGTERM or Ctrl-C.

    Connections are made again for ever, closed hours are sealed by a child process. Stopping commits everything and
    takes at most 5 s; a second signal exits at once. SIGHUP reads CONFIG again and takes over its markets.
    """
    from recorder.config import load_config  # noqa: PLC0415
    from recorder.daemon import Recorder, Supervision, record  # noqa: PLC0415

    # A watchdog ends us with SIGABRT: say where every thread stood.
    with suppress(io.UnsupportedOperation):  # where standard error is no file
        faulthandler.enable()
    settings = load_config(config)
    set_up(settings.log.level, form=log_format or settings.log.format)
    supervision = Supervision(os.environ)
    recorder = Recorder(
        settings, beside=beside, for_s=for_s, reread=lambda: load_config(config), supervision=supervision
    )
    record(recorder)
    if for_s is None:
        return
    if recorder.interrupted:
        # Whoever stops us early wants us gone within seconds; a seal may take longer.
        click.echo(f"not sealed: run `drift-recorder seal {settings.storage.root} --open`", err=True)
    else:
        _seal(settings.storage.root, open_hour=True)


@main.command()
@click.argument("config", type=_FILE)
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
        with _progress(f"listening for {listen:g} s"):
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


@main.command()
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


# ---- the simulated venue


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


@main.command(cls=_Simulate)
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
    "--faults", type=_FILE, help="A TOML file of [[fault]] tables: the same faults, and more of their settings."
)
@click.option("--replay", type=_FILE, help="Send captured frames ({recv_ts_ns, frame} lines, plain or .zst) instead.")
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
@click.option("--ledger", type=_FILE, help="Append what was sent, dropped and withheld, as JSON lines.")
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
    try:
        asyncio.run(serve(options, ready=lambda url: click.echo(f"listening on {url}")))
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES} and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), f"{host}:{port}") from None
        raise


# ---- the lake


def _hour(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    from recorder.lake.layout import parse_hour  # noqa: PLC0415

    if value is None:
        return None
    try:
        return parse_hour(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command()
@click.argument("root", type=_FILE)
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

    become_owner(root)
    if background:
        with suppress(OSError):  # a hardened unit may forbid it: then the kernel shares out evenly
            os.nice(19)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(_OUT_OF_MEMORY_FIRST), encoding="ascii")
    if want_free is not None:
        # Before the seal, which needs space itself.
        _expire(root, keep_days=_FOR_EVER_DAYS, keep_bytes=0, want_free=want_free, background=background)
    sealed = _seal(root, hour=hour, open_hour=open_hour)
    if not sealed:
        click.echo("nothing to seal: every closed hour is sealed")
    if keep_days is not None or want_free is not None:
        days = keep_days or _FOR_EVER_DAYS
        _expire(root, keep_days=days, keep_bytes=keep_bytes, want_free=want_free or 0, background=background)
    if lake_days:
        from recorder.lake.expiry import expire_lake  # noqa: PLC0415

        _tell_removed(expire_lake(root, now=wall_ns(), keep_days=lake_days, on_note=_note), background=background)


def _expire(root: Path, *, keep_days: float, keep_bytes: int, want_free: int, background: bool) -> None:
    from recorder.lake.retention import expire  # noqa: PLC0415

    expire(
        root,
        now=wall_ns(),
        keep_days=keep_days,
        keep_bytes=keep_bytes,
        want_free=want_free,
        on_note=_note,
        on_removed=lambda removal: _tell_removed(removal, background=background),
    )


def _tell_removed(removal: "Removal | None", *, background: bool) -> None:
    """
    In words; to the recorder, so that it can put it on record.
    """
    if removal is None:
        return
    if background:
        import msgspec  # noqa: PLC0415

        click.echo(f"removed: {msgspec.json.encode(removal).decode()}")
    else:
        click.echo(f"removed {removal.words}")


def _note(words: str) -> None:
    from recorder.quality.events import printable  # noqa: PLC0415

    click.echo(f"note: {printable(words)}")


def _seal(root: Path, *, hour: int | None = None, open_hour: bool = False) -> int:
    """
    Seal with a progress bar; returns the number of hours.
    """
    # Before pyarrow is loaded: its own pools keep memory, and call what a hardened unit forbids.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from recorder.errors import SealFailed  # noqa: PLC0415
    from recorder.lake.layout import hour_label  # noqa: PLC0415
    from recorder.lake.sealing import seal as seal_due  # noqa: PLC0415

    with _progress("sealing") as show:

        def progress(at: int, left: int, done: int) -> None:
            show(f"{hour_label(at)}: {done} entries, {left} hour(s) to go", None, None)

        sealed = seal_due(root, hour=hour, open_hour=open_hour, progress=progress, on_note=_note)
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


@main.command()
@click.argument("root", type=_FILE)
@click.option("--repair", is_flag=True, help="First set aside what is damaged, and make it again from the journal.")
def verify(root: Path, *, repair: bool) -> None:
    """Read all of ROOT back and compare it with what was written. Changes nothing, unless told to --repair.

    Exit code 9 if anything is missing or damaged (still, with --repair). What --repair finds damaged goes to
    ROOT/quarantine, and is never deleted.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from recorder.lake.verify import verify as check_root  # noqa: PLC0415
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.show import size  # noqa: PLC0415

    if repair:
        from recorder.lake.repair import repair as mend  # noqa: PLC0415

        become_owner(root)

        for done in mend(root):
            click.echo(f"{'mended' if done.well else 'NOT mended'}: {printable(done.path)}: {printable(done.words)}")
    with _progress("verifying") as show:
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


@main.command()
@click.argument("path", type=_FILE)
@click.option("--lines", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Entries or rows to show.")
@click.option("--seq", type=click.IntRange(1), help="Show this entry of a segment, whole.")
def inspect(path: Path, lines: int, seq: int | None) -> None:
    """Show what PATH holds: a journal segment, a Parquet file, a manifest, or a root.

    With --seq: one entry of a segment, whole; rows of the lake name theirs by `run` and `seq`.
    """
    from recorder.show import inspect as show_path  # noqa: PLC0415

    if not path.exists():
        raise RootError(path, "is not there", "give a journal segment, a Parquet file, a manifest or a data root")
    show_path(path, _console(), lines=lines, seq=seq)


@main.command()
@click.option(
    "--for", "for_s", type=click.FloatRange(10, 3600), default=60, show_default=True, help="Seconds to record."
)
@click.option("--root", type=_FILE, help="Where to put the data.  [default: demo-lake, or demo-lake-2 …]")
def demo(for_s: float, root: Path | None) -> None:
    """Record a simulated venue for a minute, with one hole in it, and show what you get.

    Nothing leaves this machine: the venue is a process on loopback.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from recorder.demo import fresh_root, run_demo  # noqa: PLC0415

    set_up("error")
    where = fresh_root(root)
    run_demo(where, for_s=for_s, console=_console(), seal=lambda: _seal(where, open_hour=True))


_Show = Callable[[str, int | None, int | None], None]


@contextmanager
def _progress(what: str) -> Iterator[_Show]:
    """
    A progress bar on a terminal; nothing elsewhere.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text, _done, _total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=None)

        def show(text: str, done: int | None, total: int | None) -> None:
            bar.update(task, description=f"{what} {text}", completed=done, total=total)

        yield show
