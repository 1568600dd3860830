"""
The console that all verbs print to, and words for numbers and durations.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

WIDTH_OF_A_FILE = 160


class PlainConsole(Console):
    """
    Prints text as it is: what a file or a venue says is never markup.
    """

    def on_broken_pipe(self) -> None:
        """
        Leave it to the verb's caller: whoever read our output has had enough.
        """
        raise BrokenPipeError


def console() -> Console:
    """
    For tables: as wide as the terminal, and wide enough for a file when there is none.
    """
    options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    made = PlainConsole(**options)
    return made if made.is_terminal else PlainConsole(**options, width=WIDTH_OF_A_FILE)


Show = Callable[[str, int | None, int | None], None]


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """
    A progress bar on a terminal; nothing elsewhere. Yields what to call with a text, how much is done, and of how much.
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


def many(count: int, one: str, more: str | None = None) -> str:
    """
    `1 hour`, `1,200 hours`.
    """
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def lasting(seconds: float) -> str:
    """
    A duration: `0.4 s`, `12 min 05 s`, `3 h 10 min`, `2 d 04 h`.
    """
    if round(seconds, 1) < 60:
        # Nothing that lasted is shown as nothing.
        return f"{seconds:.1f} s" if seconds >= 0.05 or not seconds else "<0.1 s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
