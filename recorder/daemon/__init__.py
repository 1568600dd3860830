"""
Composition: one process that records. Root, run, connections, scheduler, signals.

`recorder.py` puts it together. Its parts: `claim.py` (who may record into a root), `runs.py` (the run, and another one
when the clock is set back), `settings.py` (the configuration as the stages take it), `reload.py` (what of it can change
while they run), `jobs.py` (the scheduler), `child.py` (the seal, a process of its own), `vitals.py` (a row a minute
about ourselves), `supervision.py` (what the service manager is told).
"""

from recorder.daemon.claim import claim
from recorder.daemon.recorder import Recorder, record
from recorder.daemon.supervision import Supervision

__all__ = ["Recorder", "Supervision", "claim", "record"]
