"""
`drift-recorder`: one function per verb. Errors are one line on standard error and an exit code (see `errors.py`).

A verb's module is imported when the verb is asked for, and heavy libraries by the verbs that need them: the process
that records loads neither pyarrow nor polars, and does not wait for what draws tables.
"""

import errno
import faulthandler
import io
import os
import select
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from recorder import __version__
from recorder.errors import ConfigError, DamagedFile, OutOfMemory, RecorderError, RootError, whose
from recorder.logs import set_up

_FILE = click.Path(path_type=Path, readable=False)
"""What cannot be read is told by who reads it: whose it is, and who we are."""
_INTERRUPTED = 130
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
_VERBS = {
    "check": "cli_check",
    "markets": "cli_check",
    "simulate": "cli_simulate",
    "seal": "cli_seal",
    "verify": "cli_seal",
    "retention": "cli_retention",
    "quality": "cli_quality",
    "coverage": "cli_quality",
    "export": "cli_export",
    "replay": "cli_replay",
    "report": "cli_report",
    "serve": "cli_serve",
    "status": "cli_status",
    "reload": "cli_status",
    "top": "cli_status",
}
"""The module of each verb that is not here."""


class _ReaderLeft(Exception):
    """
    Nobody reads our output any more.
    """


class _Group(click.Group):
    """
    Turns every error into one line on standard error and an exit code; a reader that went away into silence.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """
        All of them, sorted.
        """
        return sorted([*super().list_commands(ctx), *_VERBS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """
        A verb by its name, imported now.
        """
        module = _VERBS.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"recorder.{module}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's signature
        """
        Run the verb. Of a pipe whose other end was closed click would make an end without a word, whichever it was.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if _reader_left():
                raise _ReaderLeft from error
            name = f"{error.filename}: " if error.filename else ""
            raise RecorderError(f"{name}{error.strerror or error}: the other end was closed; try again") from error

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
        # Of a stream that is closed (`>&-`) Python makes nothing at all.
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
        for stream in (sys.stdout, sys.stderr):
            # A terminal or file that cannot show a character gets its number, not a traceback.
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, *rest, **extra)
            sys.stdout.flush()
        except (BrokenPipeError, _ReaderLeft):
            code = _nobody_reads()
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "drift-recorder"
            code = _complain(f"{error.format_message().rstrip('.')}; see `{path} --help`", error.exit_code)
        except click.Abort:
            code = _complain("interrupted", _INTERRUPTED)
        except ConfigError as error:
            for line in error.lines:
                code = _complain(line, error.exit_code)
        except (MemoryError, OutOfMemory) as error:
            _without_memory(error)
        except RecorderError as error:
            code = _complain(str(error), error.exit_code)
        except OSError as error:
            # asyncio puts the address into the text, and the number only into errno.
            hint = _WHAT_TO_DO.get(error.errno or 0, "check the path and the disk")
            name = f"{error.filename}: " if error.filename else ""
            words = os.strerror(error.errno) if error.errno in _WHAT_TO_DO else error.strerror
            code = _complain(f"{name}{words or error}{whose(error)}; {hint}", 1)
        except Exception as error:
            if not _damaged_parquet(error):
                raise
            hint = "`drift-recorder verify` names it; `drift-recorder verify --repair` makes it again from the journal"
            code = _complain(f"a file of the lake is damaged ({error}); {hint}", DamagedFile.exit_code)
        _exit(code if isinstance(code, int) else 0)


def _reader_left() -> bool:
    """
    Whether what we print goes to a pipe that nobody reads.
    """
    printed = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            printed.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in printed.poll(0))


def _nobody_reads() -> int:
    """
    Whoever read our output has had enough: what is still buffered goes nowhere.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _damaged_parquet(error: Exception) -> bool:
    """
    Whether polars could not read a file: it has no class of its own for that.
    """
    return type(error).__module__.startswith("polars") and str(error).startswith("parquet: ")


def _complain(words: str, code: int) -> int:
    """
    One line, whatever is in the words.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in words)
    with suppress(BrokenPipeError):
        click.echo(f"drift-recorder: {line}", err=True)
    return code


def _without_memory(error: MemoryError | OutOfMemory) -> NoReturn:
    """
    Exit at once. Python's own end needs memory: a thread that ends in it has the C library load another one, and what
    cannot be loaded is a crash instead of a word and an exit code.
    """
    try:
        said = isinstance(error, OutOfMemory)
        _complain(str(error) if said else "out of memory; free some on this machine, or raise our limit", 1)
    finally:
        os._exit(1)


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
        from recorder.cli_seal import seal_hours  # noqa: PLC0415

        seal_hours(settings.storage.root, open_hour=True)


@main.command()
@click.argument("path", type=_FILE)
@click.option("--lines", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Entries or rows to show.")
@click.option("--seq", type=click.IntRange(1), help="Show this entry of a segment, whole.")
def inspect(path: Path, lines: int, seq: int | None) -> None:
    """Show what PATH holds: a journal segment, a Parquet file, a manifest, or a root.

    With --seq: one entry of a segment, whole; rows of the lake name theirs by `run` and `seq`.
    """
    from recorder.show import inspect as show_path  # noqa: PLC0415
    from recorder.terminal import console  # noqa: PLC0415

    if not path.exists():
        raise RootError(path, "is not there", "give a journal segment, a Parquet file, a manifest or a data root")
    show_path(path, console(), lines=lines, seq=seq)


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
    from recorder.cli_seal import seal_hours  # noqa: PLC0415
    from recorder.demo import fresh_root, run_demo  # noqa: PLC0415
    from recorder.terminal import console  # noqa: PLC0415

    set_up("error")
    where = fresh_root(root)
    run_demo(where, for_s=for_s, console=console(), seal=lambda: seal_hours(where, open_hour=True))
