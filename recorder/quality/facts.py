"""
Facts about ourselves that are copied into `quality` as they are: what each says as an event. Pure.

Facts about connections and subscriptions make no event here: they change what the monitor expects.
"""

from typing import Any

from recorder.quality.events import build, channel_of
from recorder.records import (
    AnyFact,
    ClockStepped,
    Entry,
    Event,
    Expired,
    JobFailed,
    LoopStalled,
    NotAcknowledged,
    Overflowed,
    Rejected,
    Reloaded,
    RunStarted,
    RunStopped,
    Stream,
    WriteFailed,
)


def event_of(fact: AnyFact, entry: Entry) -> Event | None:
    """
    The event that a fact is; None for one that is none by itself.
    """
    now = entry.recv_ts
    match fact:
        case RunStarted():
            beside = f", beside {', '.join(fact.beside)}" if fact.beside else ""
            return _about_recorder(
                "recorder_started",
                entry,
                f"drift-recorder {fact.recorder_version} on {fact.host}, pid {fact.pid}, "
                f"{len(fact.streams)} streams of {fact.venue} at {', '.join(fact.urls)}{beside}",
            )
        case RunStopped():
            return _about_recorder("recorder_stopped", entry, f"stopped: {fact.reason}")
        case NotAcknowledged():
            words = f"no acknowledgement of {fact.stream.label()} in {fact.waited_s:.1f} s"
            return _about_stream("not_acknowledged", entry, fact.stream, words, start=fact.requested_ts)
        case Rejected():
            of = fact.stream.label() if fact.stream is not None else "a request that cannot be told from others"
            return _about_stream("rejected", entry, fact.stream, f"{of} was answered with: {fact.text}", start=now)
        case Overflowed():
            return _about_recorder(
                "overflow",
                entry,
                f"the journal's queue was full: entries {fact.first_seq} to {fact.last_seq} "
                f"({fact.bytes} bytes) were dropped",
                start=fact.first_ts,
                end=fact.last_ts,
                missing=fact.count,
            )
        case ClockStepped():
            return _about_recorder(
                "clock_step",
                entry,
                f"the wall clock stepped by {fact.step_ns / 1e9:+.3f} s",
                start=min(fact.before_ts, fact.after_ts),
                end=max(fact.before_ts, fact.after_ts),
            )
        case WriteFailed():
            words = f"{fact.operation} of {fact.segment} failed: {fact.error}; written again elsewhere"
            return _about_recorder("sync_failed", entry, words)
        case LoopStalled():
            words = f"the event loop stood still for {fact.stall_ns / 1e9:.1f} s"
            return _about_recorder("loop_stall", entry, words, start=now - fact.stall_ns)
        case Reloaded() if fact.added or fact.removed:
            return _about_recorder("reloaded", entry, fact.words)
        case Expired():
            how = "removed by rule" if fact.by_rule else "found to be gone, by `drift-recorder retention` or by hand"
            return _about_recorder("expired", entry, f"{how}: {fact.words}")
        case JobFailed():
            return _about_recorder("job_failed", entry, f"{fact.job}: {fact.error}")
    return None


def _about_recorder(kind: str, entry: Entry, evidence: str, **bounds: Any) -> Event:  # noqa: ANN401  # see `build`
    fields = {"start": entry.recv_ts, "end": entry.recv_ts} | bounds
    return build(kind, cause="recorder", run=entry.run, evidence=evidence, **fields)


def _about_stream(kind: str, entry: Entry, stream: Stream | None, evidence: str, *, start: int) -> Event:
    return build(
        kind,
        cause="venue",
        start=start,
        end=entry.recv_ts,
        run=entry.run,
        connection=entry.connection,
        symbol=stream.symbol if stream is not None else None,
        channel=channel_of(stream) if stream is not None else None,
        evidence=evidence,
    )
