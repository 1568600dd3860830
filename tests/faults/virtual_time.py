"""
An event loop whose time is a number, on real loopback sockets: it jumps to the next timer whenever nothing moves.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from recorder import clock
from recorder.records import SECOND_NS


class _Jumping(selectors.DefaultSelector):
    """
    Looks at the sockets, and lets time pass where there is nothing: on loopback, what is sent is there at once.
    """

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """
        As the base class, in virtual time.
        """
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.now_s += max(timeout, 1e-6)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    Begins at 0 s.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """
        Virtual seconds.
        """
        return self._jumping.now_s


@contextmanager
def virtual_time(start: int) -> Iterator[VirtualLoop]:
    """
    A loop, with the clock of the program moved along; `start`: what time it is in the beginning, ns.
    """
    loop = VirtualLoop()
    true = clock.time

    def passed() -> int:
        return round(loop.time() * SECOND_NS)

    clock.time = SimpleNamespace(  # type: ignore[assignment]
        time_ns=lambda: start + passed(),
        monotonic_ns=lambda: SECOND_NS + passed(),
        process_time=time.process_time,
        sleep=time.sleep,
    )
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        clock.time = true
        asyncio.set_event_loop(None)
        loop.close()


def complete(loop: VirtualLoop, work: Coroutine[Any, Any, Any]) -> Any:
    """
    Run to the end, and leave no task behind.
    """
    try:
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
