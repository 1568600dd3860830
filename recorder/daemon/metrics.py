"""
What Prometheus reads: counters, gauges and histograms, made when they are asked for from what was counted anyway.

Names and units follow its conventions: `drift_recorder_` before all, base units (seconds, bytes), `_total` after what
only grows; instants are seconds since the epoch, so that an age is `time() - …`. Rules on them: `deploy/prometheus/`.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from recorder.daemon.watch import Look
from recorder.quality.counts import INTERVAL_BOUNDS_NS, LATENCY_BOUNDS_NS, Histogram, Tally
from recorder.quality.events import channel_of
from recorder.records import SECOND_NS, Stream

PREFIX = "drift_recorder_"
_STREAM = ("connection", "market", "channel")
_PLACE = ("market", "channel")


def exposition(look: Look) -> bytes:
    """
    The text format, version 0.0.4.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(look))
    return generate_latest(registry)


class _Families(Collector):
    """
    All families of one look.
    """

    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """
        Make them.
        """
        yield from _recorder(self._look)
        yield from _streams(self._look)
        yield from _connections(self._look)
        yield from _journal(self._look)
        yield from _seal(self._look)
        yield from _process(self._look)

    def describe(self) -> Iterable[Metric]:
        """
        Nothing is promised before the first look.
        """
        return ()


def _gauge(name: str, words: str, value: float | None) -> Iterator[Metric]:
    """
    None: not known now, so it is left out.
    """
    if value is not None:
        yield GaugeMetricFamily(PREFIX + name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, words, value=value)


def _recorder(look: Look) -> Iterator[Metric]:
    status = look.status
    info = InfoMetricFamily(PREFIX + "build", "What is running, and what it records.")
    info.add_metric([], {"version": status.version, "venue": status.venue, "network": status.network})
    yield info
    yield from _gauge("ready", "1 if all that is configured is recorded.", float(status.ready))
    yield from _gauge("streams_configured", "Streams that are configured.", len(status.streams))
    recording = sum(stream.state == "recording" for stream in status.streams)
    yield from _gauge("streams_recording", "Streams that are recorded.", recording)
    events = CounterMetricFamily(
        PREFIX + "events", "Events of the live monitor that have ended.", labels=("kind", "cause", "scope")
    )
    for key, count in sorted(look.counts.events.items()):
        events.add_metric(key, count)
    yield events
    reloads = CounterMetricFamily(PREFIX + "reloads", "Times the configuration was read again.", labels=("outcome",))
    for outcome, count in look.reloads.items():
        reloads.add_metric((outcome,), count)
    yield reloads
    # Not `job`: that is Prometheus' own label.
    failed = CounterMetricFamily(PREFIX + "job_failures", "Jobs that ended with an error.", labels=("task",))
    for job in sorted({"seal", "disk", *look.jobs_failed}):
        failed.add_metric((job,), look.jobs_failed.get(job, 0))
    yield failed


def _streams(look: Look) -> Iterator[Metric]:
    frames = CounterMetricFamily(PREFIX + "frames", "Frames heard.", labels=_STREAM)
    size = CounterMetricFamily(PREFIX + "frame_bytes", "Bytes of those frames, inflated.", labels=_STREAM)
    last = GaugeMetricFamily(PREFIX + "last_frame_timestamp_seconds", "When the last frame came.", labels=_STREAM)
    slot = GaugeMetricFamily(PREFIX + "last_slot", "Solana slot of the last frame.", labels=_STREAM)
    late = HistogramMetricFamily(
        PREFIX + "latency_seconds", "Receipt of a book minus its publisher's clock.", labels=_STREAM
    )
    apart = HistogramMetricFamily(PREFIX + "book_interval_seconds", "Between two books.", labels=_STREAM)
    for (connection, stream), tally in sorted(look.counts.streams.items(), key=_by_name):
        labels = (str(connection), stream.symbol, channel_of(stream))
        frames.add_metric(labels, tally.frames)
        size.add_metric(labels, tally.bytes)
        last.add_metric(labels, tally.last / SECOND_NS)
        if tally.slot is not None:
            slot.add_metric(labels, tally.slot)
        if tally.latency:
            _add(late, labels, tally.latency, LATENCY_BOUNDS_NS, tally.latency_ns)
            _add(apart, labels, tally.interval, INTERVAL_BOUNDS_NS, tally.interval_ns)
    yield from (frames, size, last, slot, late, apart)
    yield from _places(look)


def _by_name(each: tuple[tuple[int, Stream], Tally]) -> tuple[int, str, str]:
    (connection, stream), _ = each
    return connection, stream.symbol, channel_of(stream)


def _places(look: Look) -> Iterator[Metric]:
    """
    Of a stream, whichever connection brings it.
    """
    recording = GaugeMetricFamily(PREFIX + "stream_recording", "1 if the stream is recorded.", labels=_PLACE)
    cadence = GaugeMetricFamily(PREFIX + "cadence_seconds", "Learned time between two books.", labels=_PLACE)
    holes = CounterMetricFamily(PREFIX + "holes", "Holes that have ended.", labels=_PLACE)
    lasted = CounterMetricFamily(PREFIX + "hole_seconds", "How long they lasted, all together.", labels=_PLACE)
    missing = CounterMetricFamily(
        PREFIX + "missing_frames", "Books or fills that are known to be missing.", labels=_PLACE
    )
    for stream in look.status.streams:
        labels = (stream.market, stream.channel)
        recording.add_metric(labels, float(stream.state == "recording"))
        if stream.cadence_ms is not None:
            cadence.add_metric(labels, stream.cadence_ms / 1000)
        holes.add_metric(labels, stream.holes)
        lasted.add_metric(labels, stream.hole_s)
        missing.add_metric(labels, stream.missing)
    yield from (recording, cadence, holes, lasted, missing)


def _connections(look: Look) -> Iterator[Metric]:
    of = ("connection",)
    up = GaugeMetricFamily(PREFIX + "connection_up", "1 if the websocket is open.", labels=of)
    carried = GaugeMetricFamily(PREFIX + "connection_streams", "Streams it carries.", labels=of)
    connects = CounterMetricFamily(PREFIX + "connects", "Websockets opened.", labels=of)
    failures = CounterMetricFamily(PREFIX + "connect_failures", "Connects that got no websocket.", labels=of)
    ends = CounterMetricFamily(
        PREFIX + "disconnects", "Websockets that ended, by cause.", labels=("connection", "cause")
    )
    received = CounterMetricFamily(PREFIX + "received_frames", "All it brought: data, heartbeats, answers.", labels=of)
    size = CounterMetricFamily(PREFIX + "received_bytes", "Bytes of those frames, inflated.", labels=of)
    beats = CounterMetricFamily(PREFIX + "heartbeats", "Heartbeats of the venue.", labels=of)
    last = GaugeMetricFamily(PREFIX + "last_heartbeat_timestamp_seconds", "When the last one came.", labels=of)
    unasked = CounterMetricFamily(PREFIX + "unrequested_frames", "Data of streams nobody asked for.", labels=of)
    lines = look.counts.lines
    for status in look.status.connections:
        labels, line = (str(status.connection),), lines.get(status.connection)
        up.add_metric(labels, float(status.up))
        carried.add_metric(labels, status.streams)
        if line is None:
            continue
        connects.add_metric(labels, line.connects)
        failures.add_metric(labels, line.failures)
        for cause in ("venue", "network", "recorder", "unknown"):
            ends.add_metric((*labels, cause), line.ends.get(cause, 0))
        received.add_metric(labels, line.frames)
        size.add_metric(labels, line.bytes)
        beats.add_metric(labels, line.heartbeats)
        if line.last_heartbeat:
            last.add_metric(labels, line.last_heartbeat / SECOND_NS)
        unasked.add_metric(labels, line.unasked)
    yield from (up, carried, connects, failures, ends, received, size, beats, last, unasked)


def _journal(look: Look) -> Iterator[Metric]:
    status, vitals, disk = look.status.journal, look.vitals, look.status.disk
    yield _histogram("journal_commit_seconds", "Write and sync of a commit.", vitals.commits)
    yield _histogram("journal_durable_seconds", "From receipt of a commit's oldest entry to its end.", vitals.durable)
    yield from _gauge("journal_queue_bytes", "Memory that holds what is not committed.", status.queued_bytes)
    yield from _gauge("journal_queue_limit_bytes", "What is beyond is dropped.", look.queue_limit)
    yield _counter("journal_written_bytes", "Written to the journal.", vitals.written_bytes)
    yield _counter("journal_dropped_entries", "Entries the queue could not take.", status.dropped)
    yield _counter("journal_write_failures", "Writes and syncs that failed.", status.write_failures)
    committed = status.committed_ts / SECOND_NS if status.committed_ts is not None else None
    yield from _gauge("journal_committed_timestamp_seconds", "Up to when all is on disk.", committed)
    yield from _gauge("journal_bytes", "Size of the journal on disk.", status.bytes)
    yield from _gauge("journal_segments", "Its files.", status.segments)
    paused = float(look.status.paused_since is not None)
    yield from _gauge("capture_paused", "1 while capture is stopped, for the disk is full.", paused)
    if disk is not None:
        yield from _gauge("disk_free_bytes", "Free where the data goes.", disk.free_bytes)
        yield from _gauge("disk_size_bytes", "Size of that file system.", disk.total_bytes)
        if disk.free_inodes is not None:
            yield from _gauge("disk_free_inodes", "Files that can still be made there.", disk.free_inodes)
        left = disk.days_left * 86_400 if disk.days_left is not None else None
        yield from _gauge("disk_left_seconds", "Until it is full, at the pace of the last day.", left)


def _seal(look: Look) -> Iterator[Metric]:
    seal, stored = look.status.seal, look.stored
    if seal is None or stored is None:
        return
    yield from _gauge(
        "seal_lag_seconds", "Since the oldest hour that is not sealed was over; 0 if all are.", seal.lag_h * 3600
    )
    yield from _gauge("seal_backlog", "Hours that are over and not sealed.", seal.unsealed_hours)
    yield from _gauge("sealed_intervals", "Hours in the lake.", stored.sealed_hours)
    yield from _gauge("lake_rows", "Books, trades and fees in the lake.", stored.sealed_rows)
    yield from _gauge("lake_bytes", "Size of the lake.", stored.sealed_bytes)
    yield from _gauge("last_sealed_hour_rows", "Rows of the newest sealed hour.", seal.rows)
    yield from _gauge("last_sealed_hour_bytes", "Its size.", seal.bytes)
    hour = stored.last_hour / SECOND_NS if stored.last_hour is not None else None
    yield from _gauge("last_sealed_hour_timestamp_seconds", "When the newest sealed hour began.", hour)
    yield from _gauge("seal_running", "1 while a seal is at work.", float(look.seal.running))
    yield _histogram("seal_duration_seconds", "Of a run of the seal that had something to do.", look.seal.durations)


def _process(look: Look) -> Iterator[Metric]:
    process = look.status.process
    yield _histogram("loop_lag_seconds", "How late the event loop was.", look.vitals.lags)
    yield from _gauge("clock_offset_seconds", "Wall clock minus the run's clock.", process.clock_offset_s)
    # Not the library's collector: it needs /proc/stat, which a hardened unit does not show.
    for name, words, value in (
        ("process_start_time_seconds", "When the process started.", (process.started_ts or 0) / SECOND_NS),
        ("process_resident_memory_bytes", "Resident memory.", process.rss_bytes),
        ("process_open_fds", "Open files.", look.open_files),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, words, value=value)
    yield CounterMetricFamily("process_cpu_seconds", "Processor time.", value=process.cpu_s or 0.0)


def _histogram(name: str, words: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, words)
    family.add_metric([], _cumulated(histogram.buckets, histogram.bounds, 1.0), sum_value=histogram.total)
    return family


def _add(
    family: HistogramMetricFamily, labels: tuple[str, ...], buckets: list[int], bounds: tuple[int, ...], total: int
) -> None:
    family.add_metric(labels, _cumulated(buckets, bounds, SECOND_NS), sum_value=total / SECOND_NS)


def _cumulated(buckets: list[int], bounds: tuple[float, ...], unit: float) -> list[tuple[str, float]]:
    told, sofar = [], 0
    for number, count in enumerate(list(buckets)):
        sofar += count
        told.append((f"{bounds[number] / unit:g}" if number < len(bounds) else "+Inf", float(sofar)))
    return told
