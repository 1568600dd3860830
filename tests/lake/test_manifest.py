"""
Manifests: what they say comes back, and no damage to them passes.
"""

import msgspec
import pytest

from lake_cases import HOUR, SOL
from recorder.errors import DamagedFile, ForeignFile
from recorder.lake import manifest as manifests
from recorder.lake.layout import manifest_path
from recorder.lake.manifest import Input, LakeFile, Manifest, Versions
from recorder.quality.state import MonitorState
from recorder.records import HOUR_NS

EXAMPLE = Manifest(
    format=1,
    hour="2025-03-01T10",
    complete=True,
    venue="test",
    network="mainnet-beta",
    entries=7,
    frames=5,
    files=[LakeFile("lake/books/x.parquet", "books", "SOL-PERP", 5, 1000, "ab" * 32, HOUR, HOUR + 1)],
    inputs=[Input("run", "segment.zst", 99, "cd" * 32)],
    carry_in=None,
    carry=MonitorState(now=HOUR + HOUR_NS, configured=[SOL]),
    versions=Versions("0", 1, "26"),
    problems=['a "problem",\n "sha256": "of ours"'],
    carry_out=manifests.carry_digest(MonitorState(now=HOUR + HOUR_NS, configured=[SOL])),
)


def test_what_is_written_is_read():
    """
    All of it, the carry too, whatever its texts hold.
    """
    assert manifests.decode(manifests.encode(EXAMPLE)) == EXAMPLE


def test_a_manifest_is_json_for_other_programs():
    """
    Indented, and its checksum is one member more.
    """
    data = manifests.encode(EXAMPLE)

    plain = msgspec.json.decode(data)
    assert plain["files"][0]["rows"] == 5
    assert len(plain["sha256"]) == 64
    assert data.count(b"\n") > 30


def test_no_flipped_bit_and_no_cut_passes():
    """
    Every byte counts: a digit of the carry would be the wrong state for all hours after it.
    """
    data = manifests.encode(EXAMPLE)
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        with pytest.raises(ValueError, match="checksum"):
            manifests.decode(bytes(damaged))
        with pytest.raises(ValueError, match="checksum"):
            manifests.decode(data[:offset])


def test_a_damaged_manifest_is_named_with_what_to_do(tmp_path):
    """
    By its path, so that an operator finds it.
    """
    manifests.publish(tmp_path, HOUR, EXAMPLE)
    path = tmp_path / manifest_path(HOUR)
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(DamagedFile, match=r"2025-03-01T10\.json: is damaged.*drift-recorder seal"):
        manifests.read(tmp_path, HOUR)


def test_one_of_a_later_version_is_refused_not_called_damaged(tmp_path):
    """
    An old program after a downgrade must not throw away what a newer one wrote.
    """
    manifests.publish(tmp_path, HOUR, msgspec.structs.replace(EXAMPLE, format=2))

    with pytest.raises(ForeignFile, match="upgrade"):
        manifests.read(tmp_path, HOUR)


def test_hours_are_told_by_name_oldest_first(tmp_path):
    """
    Other files, temporary and foreign, are no hours.
    """
    for hour in (HOUR + HOUR_NS, HOUR):
        manifests.publish(tmp_path, hour, EXAMPLE)
    for name in (".2025-03-01T12.json.tmp", "2025-13-01T10.json", "notes.txt"):
        (tmp_path / "manifest" / name).write_bytes(b"")

    assert manifests.hours(tmp_path) == [HOUR, HOUR + HOUR_NS]


def test_a_withdrawn_manifest_is_gone_and_may_be_withdrawn_again(tmp_path):
    """
    A seal that was killed in between does it twice.
    """
    manifests.publish(tmp_path, HOUR, EXAMPLE)

    manifests.withdraw(tmp_path, HOUR)
    manifests.withdraw(tmp_path, HOUR)

    assert manifests.read(tmp_path, HOUR) is None
    assert manifests.hours(tmp_path) == []


def test_the_digest_of_a_carry_is_of_its_content():
    """
    Equal states have equal digests, whatever order their names were learned in.
    """
    one = MonitorState(now=1, identity={"perp:0": "A", "perp:1": "B"})
    two = MonitorState(now=1, identity={"perp:1": "B", "perp:0": "A"})

    assert manifests.carry_digest(one) == manifests.carry_digest(two)
    assert manifests.carry_digest(one) != manifests.carry_digest(MonitorState(now=2, identity=one.identity))
