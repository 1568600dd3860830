"""
What an hour consists of: the last thing the seal writes, and the first thing a reader asks.

An hour is *sealed* when its manifest is complete, was made by this chain of carries, and lists every journal segment
that can hold entries of its window as it is now. Everything else is unsealed, and sealing it again is safe: the same
input gives the same bytes.
"""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from recorder import durable
from recorder.errors import DamagedFile, ForeignFile
from recorder.lake.layout import MANIFEST, manifest_path, parse_hour
from recorder.quality.state import MonitorState

FORMAT = 1


class LakeFile(msgspec.Struct, frozen=True):
    """
    One published Parquet file.
    """

    path: str
    """Relative to the root."""
    table: str
    symbol: str | None
    rows: int
    bytes: int
    sha256: str
    first_recv_ts: int | None
    last_recv_ts: int | None


class Input(msgspec.Struct, frozen=True):
    """
    One journal segment the hour was made from.
    """

    run: str
    name: str
    """Without `.open`: a segment does not change when it is finished in order."""
    bytes: int
    sha256: str


class Versions(msgspec.Struct, frozen=True):
    """
    What the bytes of the files depend on besides the journal.
    """

    recorder: str
    format: int
    pyarrow: str


class Manifest(msgspec.Struct, frozen=True):
    """
    One hour.
    """

    format: int
    hour: str
    complete: bool
    """False for the hour so far, published by `seal --open`."""
    venue: str
    network: str
    entries: int
    """Journal entries of the hour."""
    frames: int
    """Websocket messages among them."""
    files: list[LakeFile]
    inputs: list[Input]
    carry_in: str | None
    """Digest of the state this hour began with; None if it began with nothing."""
    carry: MonitorState
    """What the next hour begins with."""
    versions: Versions
    problems: list[str] = []
    """Partitions that could not be written; the hour is then not complete."""
    richer: list[str] = []
    """Paths of files that stayed from an earlier seal, because the inputs no longer hold all their rows."""
    expired: list[LakeFile] = []
    """Files that were removed by rule (`lake.keep_days`): they were there, and are no hole."""
    carry_out: str = ""
    """
    Digest of `carry` as it was written, with which the next hour's `carry_in` is compared. A later version that reads
    the carry may know members it lacks: that alone must not make all hours unsealed whose journal is kept.
    """


class _Written(msgspec.Struct):
    """
    The carry of a manifest, as it was written.
    """

    carry: msgspec.Raw


_decoder = msgspec.json.Decoder(Manifest)
_written_decoder = msgspec.json.Decoder(_Written)
_encoder = msgspec.json.Encoder(order="deterministic")
_CHECKSUM = b',\n "sha256": "'
_END = b'"\n}\n'


def encode(manifest: Manifest) -> bytes:
    """
    JSON for people and programs: indented, members in one order. The last one, `sha256`, is of all that stands before
    it: a manifest is what damage is told by, so its own must show.
    """
    body = msgspec.json.format(_encoder.encode(manifest), indent=1).removesuffix(b"\n}")
    return body + _CHECKSUM + sha256(body).hexdigest().encode() + _END


def decode(data: bytes) -> Manifest:
    """
    Inverse of `encode`.

    Raises:
        ValueError: not a manifest, or damaged; says what is wrong.
        NewerFormat: of a later version.
    """
    try:
        manifest = _decoder.decode(data)
        if not manifest.carry_out:  # of an earlier version
            written = msgspec.json.format(_written_decoder.decode(data).carry, indent=-1)
            manifest = msgspec.structs.replace(manifest, carry_out=sha256(written).hexdigest())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
        manifest = None
    body, mark, rest = data.rpartition(_CHECKSUM)
    if not mark or rest != sha256(body).hexdigest().encode() + _END:
        raise ValueError("is damaged: its checksum does not fit")
    if manifest is None or manifest.format > FORMAT:
        raise NewerFormat(f"is of a later version ({reason if manifest is None else f'format {manifest.format}'})")
    return manifest


class NewerFormat(Exception):
    """
    The manifest is undamaged, and this version cannot read it.
    """


def carry_digest(state: MonitorState) -> str:
    """
    Of a carry that this version made, as it writes it: tells whether the next hour was made from this very one.
    """
    return sha256(_encoder.encode(state)).hexdigest()


def read(root: Path, hour: int) -> Manifest | None:
    """
    The manifest of an hour; None if there is none.

    Raises:
        DamagedFile: it is not what was written.
        ForeignFile: it is of a later version.
    """
    return read_file(root / manifest_path(hour))


def read_file(path: Path) -> Manifest | None:
    """
    A manifest by its path; None if it is not there.

    Raises:
        DamagedFile: it is not what was written.
        ForeignFile: it is of a later version.
    """
    try:
        if path.is_symlink():
            raise DamagedFile(path, "is a symbolic link, which is not followed", "remove it")
        return decode(durable.read_bytes(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedFile(
            path, str(error), "run `drift-recorder seal`: it sets it aside and makes the hour again"
        ) from None
    except NewerFormat as error:
        raise ForeignFile(path, str(error), "upgrade drift-recorder") from None


def hours(root: Path) -> list[int]:
    """
    The hours that have a manifest, oldest first, as ns.
    """
    found: list[int] = []
    for path in (root / MANIFEST).glob("????-??-??T??.json"):
        try:
            found.append(parse_hour(path.stem))
        except ValueError:
            continue
    return sorted(found)


def publish(root: Path, hour: int, manifest: Manifest) -> None:
    """
    Put the manifest in place: from this instant the hour is published.
    """
    path = root / manifest_path(hour)
    durable.make_directories(path.parent, below=root)
    # First, so that it never stays behind. Killed in between, the files are those of the manifest to be, and no others.
    durable.remove(_withdrawn(path))
    durable.publish_bytes(path, encode(manifest))


def withdraw(root: Path, hour: int) -> None:
    """
    Take the manifest away before a published file is replaced, so that no manifest ever describes other files.

    It stays beside, under another name, until the next is published: a seal that follows one that was killed must know
    what the files it finds were made from.
    """
    path = root / manifest_path(hour)
    if path.exists():
        durable.rename(path, _withdrawn(path))


def before(root: Path, hour: int) -> Manifest | None:
    """
    The manifest of an hour that is about to be made, or was when a seal was killed; None if there is none.
    """
    path = root / manifest_path(hour)
    for name in (path, _withdrawn(path)):
        with suppress(DamagedFile):
            if (manifest := read_file(name)) is not None:
                return manifest
    return None


def _withdrawn(path: Path) -> Path:
    return path.with_name(f"{path.name}.withdrawn")
