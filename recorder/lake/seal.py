"""
Turns an hour of journal into an hour of lake: a deterministic function of the journal around the hour and the carry.

    segments of all runs in [hour − 120 s, hour + 60 s)
      → merge by (recv_ts, run, seq), equal (run, seq) once                                        (journal/reader.py)
      → first reading: pair what several sources heard, fold the monitor, give each frame a way        (survey.py)
      → further readings, a group of markets each: decode, buffer, write, read back                 (partitions.py)
      → quality, coverage, telemetry, undecodable                                                      (summary.py)
      → publish by rename                                                                           (publishing.py)
      → manifest, last                                                                                (manifest.py)

Killed anywhere, it is simply run again. Same journal, same versions: same bytes.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from recorder import __version__
from recorder.errors import RootError
from recorder.journal.reader import SegmentFile
from recorder.lake import manifest as manifests
from recorder.lake.layout import hour_label, partition
from recorder.lake.manifest import Manifest, Versions
from recorder.lake.partitions import PartitionWriter
from recorder.lake.plan import window
from recorder.lake.publishing import keep_what_is_richer, publish
from recorder.lake.root import Binding
from recorder.lake.schema import FORMAT_VERSION
from recorder.lake.summary import coverage_rows, hour_events, write_summary
from recorder.lake.survey import HourJournal, survey_hour
from recorder.venue.markets import market_list


def seal_hour(
    root: Path,
    binding: Binding,
    hour: int,
    found: list[SegmentFile],
    *,
    before: Manifest | None,
    closed: bool,
    until: int,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """
    Make and publish one hour.

    Args:
        root: of the data; the caller holds its seal lock.
        binding: what the root is bound to.
        hour: ns at which it begins.
        found: all segments of the journal.
        before: of the last hour that has one, whose carry this one begins with; None if there is none.
        closed: no entry of the window can come any more. Else the hour so far is made, and its manifest says so.
        until: no entry before this instant (ns) can still come; later ones are not read. The end of the window for a
            closed hour.
        progress: told the number of entries done, now and then.

    Returns:
        The manifest, published. A partition that could not be written is in its `problems`.

    Raises:
        SealFailed: one of the hour's own tables could not be read back.
        RootError: the root is of a network this version has no market list of.
        OSError: the disk.
    """
    try:
        listed = market_list(binding.network)
    except ValueError as error:
        raise RootError(root, f"is of an unknown network ({error})", "upgrade, or restore its root.json") from None
    journal = HourJournal(window(found, hour), hour, until=until, binding=binding)
    inputs = journal.digests()
    carry = before.carry if before is not None else None
    survey = survey_hour(journal, listed, carry, closed=closed, progress=progress)
    writer = PartitionWriter(root, binding, journal, survey)
    written = writer.write()
    own = []
    try:
        failed = [survey.partitions[at] for at in sorted(written.failed)]
        publication = keep_what_is_richer(
            root,
            written.drafts,
            failed=[partition(part.table, hour, part.symbol) for part in failed],
            journal=journal,
        )
        events = hour_events(survey, written, hour, kept=publication.remarks)
        coverage = coverage_rows(survey, written, hour, listed=listed, events=events)
        own = write_summary(root, binding, survey, written, hour=hour, events=events, coverage=coverage)
        publication.drafts += own
        files = publish(root, publication, journal)
    except BaseException:
        writer.discard()
        for draft, _ in own:
            draft.discard()
        raise
    problems = [written.failed[at] for at in sorted(written.failed)]
    result = Manifest(
        format=manifests.FORMAT,
        hour=hour_label(hour),
        complete=closed and not problems,
        venue=binding.venue,
        network=binding.network,
        entries=survey.entries,
        frames=survey.frames,
        files=files,
        inputs=inputs,
        carry_in=before.carry_out if before is not None else None,
        carry=survey.carry,
        carry_out=manifests.carry_digest(survey.carry),
        versions=Versions(recorder=__version__, format=FORMAT_VERSION, pyarrow=pa.__version__),
        problems=problems,
        richer=[file.path for file in publication.richer],
    )
    manifests.publish(root, hour, result)
    return result
