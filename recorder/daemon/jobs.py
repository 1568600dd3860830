"""
The scheduler: what happens at times of the wall clock.
"""

import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.clock import wall_ns
from recorder.quality.events import printable
from recorder.records import SECOND_NS

log = logging.getLogger("recorder")

Job = Callable[[], Coroutine[Any, Any, None]]
"""A coroutine function, always: the scheduler would run a plain function on another thread."""


class Jobs:
    """
    The regular jobs of one process.
    """

    def __init__(self, *, second: Job, disk: Job, seal: Job | None, failed: Callable[[str, str], None]) -> None:
        """
        Args:
            second: each second.
            disk: each minute, and at the start.
            seal: after each hour, now and then within it, and at the start; None: never.
            failed: told job and error of one that failed.
        """
        self._jobs = {"second": second, "disk": disk} | ({"seal": seal} if seal is not None else {})
        self._failed = failed
        self.scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def start(self) -> None:
        """
        Begin, with what was left undone: unsealed hours are caught up with at once.
        """
        self.set()
        now = datetime.fromtimestamp(wall_ns() / SECOND_NS, UTC)
        for name in ("disk", "seal"):
            if name in self._jobs:
                self.scheduler.modify_job(name, next_run_time=now)
        self.scheduler.add_listener(self._told, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        self.scheduler.start()

    def set(self) -> None:
        """
        Idempotent; after a clock step it sets each job's next run by the clock as it is.

        Rescheduling would not do: an interval trigger remembers when it was made, and waits until that time comes back.
        """
        self._set("second", "interval", seconds=1)
        self._set("disk", "interval", minutes=1)
        # A minute and a bit past the hour: an hour is closed when a run has an entry 60 s past it.
        self._set("seal", "cron", minute="1,6,16,31,46", second=10)

    def end_all(self) -> None:
        """
        Nothing begins any more.
        """
        self.scheduler.remove_all_jobs()

    def shut_down(self) -> None:
        """
        After `end_all`.
        """
        self.scheduler.shutdown(wait=False)

    def _set(self, name: str, trigger: str, **when: int | str) -> None:
        if name in self._jobs:
            self.scheduler.add_job(self._jobs[name], trigger, id=name, replace_existing=True, **when)

    def _told(self, event: JobExecutionEvent) -> None:
        words = printable(str(event.exception) or repr(event.exception)) if event.exception is not None else "missed"
        self._failed(event.job_id, words)
