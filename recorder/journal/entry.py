"""
The journal's format on disk, version 1. Pure: bytes in, entries out.

A segment (`<first recv_ts>.zst`) is a sequence of zstd frames, at most two seconds of entries each, so that damage
costs no more than that. A zstd frame holds whole entries; an entry never spans two frames. Each commit flushes a
block, so what is committed can be read while the frame is still open. An entry, little-endian:

    offset  bytes  field
         0      4  length      of the payload
         4      4  crc32       over all that follows (zlib's polynomial)
         8      1  kind        EntryKind
         9      1  flags       0; reserved
        10      2  connection  signed; -1 for the recorder itself
        12      4  attempt     the connection's count of connects
        16      8  seq         counts the run's entries from 1, without a hole
        24      8  recv_ts     signed, ns since the Unix epoch
        32      …  payload     a websocket message as received, or JSON of a fact or header

Each zstd frame begins with a header (`SegmentHeader` as JSON), so that each can be read alone, and none be taken for
another run's; it bears the number of the entry after it and takes none itself. Versions before wrote it at the
beginning of a segment only, and read both. A torn tail is normal: it is what a crash leaves.
"""

import struct
from zlib import crc32

import msgspec

from recorder.records import NO_CONNECTION, Entry, EntryKind, SegmentHeader

FORMAT_VERSION = 1
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
WINDOW_LOG = 22
"""4 MiB: must hold one round of all markets, else the ratio falls from 8 to 6."""
FRAME_CONTENT_BYTES = 8 << 20
"""A zstd frame ends when it holds this much, whatever its age: a reader's memory is bounded by it."""
MAX_PAYLOAD = 64 << 20
"""A length above this is damage, not an entry; the writer takes none that is longer."""

_HEAD = struct.Struct("<IIBBhIQq")
_BODY = struct.Struct("<BBhIQq")
HEAD_SIZE = _HEAD.size
_SEQ_OFFSET = 16

_header_decoder = msgspec.json.Decoder(SegmentHeader)


def encode_entry(kind: int, connection: int, attempt: int, seq: int, recv_ts: int, payload: bytes) -> bytes:
    """
    One entry's bytes.
    """
    crc = crc32(payload, crc32(_BODY.pack(kind, 0, connection, attempt, seq, recv_ts)))
    return _HEAD.pack(len(payload), crc, kind, 0, connection, attempt, seq, recv_ts) + payload


def encode_header(header: SegmentHeader, *, seq: int, recv_ts: int) -> bytes:
    """
    A segment's first entry; `seq` and `recv_ts` are those of the entry that follows.
    """
    return encode_entry(EntryKind.HEADER, NO_CONNECTION, 0, seq, recv_ts, msgspec.json.encode(header))


def decode_header(payload: bytes) -> SegmentHeader:
    """
    Inverse of `encode_header`, of the payload.

    Raises:
        msgspec.DecodeError: not a header, or of a format this version does not know.
    """
    return _header_decoder.decode(payload)


def first_entry(buffer: bytes) -> tuple[Entry | None, int]:
    """
    The undamaged entry at the beginning of `buffer`, if there is one, and where the next begins (0 if there is none).
    """
    if len(buffer) < HEAD_SIZE:
        return None, 0
    end = HEAD_SIZE + int(_HEAD.unpack_from(buffer)[0])
    entries = split_entries(buffer[:end], "").entries
    return (entries[0], end) if entries else (None, 0)


class Split(msgspec.Struct):
    """
    What a buffer of decompressed bytes held.
    """

    entries: list[Entry]
    consumed: int
    """Bytes that are done with; the rest is the beginning of an entry."""
    damaged: int = 0
    """Entries skipped because their checksum failed."""
    lost: bool = False
    """Bytes after `consumed` are not the beginning of an entry: nothing more can be read from this zstd frame."""


def split_entries(buffer: bytes | memoryview, run: str, *, check: bool = True) -> Split:
    """
    The whole entries at the beginning of `buffer`, in order.

    Args:
        buffer: decompressed bytes, beginning at an entry.
        run: set on each entry.
        check: compare the checksums; False only for bytes that were checked before.

    An entry with a bad checksum is skipped if the lengths lead on to an undamaged one, or to the end (damage inside a
    payload); otherwise the rest is lost (damage to a length). An entry with flags is of a later version, and skipped.
    """
    entries: list[Entry] = []
    result = Split(entries, 0)
    view = memoryview(buffer)
    size = len(view)
    offset = 0
    unpack = _HEAD.unpack_from
    while offset + HEAD_SIZE <= size:
        length, crc, kind, flags, connection, attempt, seq, recv_ts = unpack(view, offset)
        end = offset + HEAD_SIZE + length
        if end > size:
            result.lost = length > MAX_PAYLOAD or _next_stands_in(view, offset, kind, seq)
            break
        if check and (length > MAX_PAYLOAD or crc32(view[offset + 8 : end]) != crc):
            skipped, end = _follow_lengths(view, offset)
            result.damaged += skipped
            if end > size:
                result.lost = True
                break
        elif not flags:
            payload = bytes(view[offset + HEAD_SIZE : end])
            entries.append(Entry(kind, connection, attempt, seq, recv_ts, payload, run))
        offset = end
    result.consumed = offset
    return result


def _follow_lengths(view: memoryview, offset: int) -> tuple[int, int]:
    """
    From a damaged entry on: how many are damaged, and where the next undamaged one begins; past the end if none does.
    """
    size = len(view)
    skipped = 0
    while offset < size:
        end = offset + HEAD_SIZE
        if end > size:
            return skipped, end
        length, crc, *_ = _HEAD.unpack_from(view, offset)
        end += length
        if end > size or length > MAX_PAYLOAD:
            return max(skipped, 1), size + 1
        if crc32(view[offset + 8 : end]) == crc:
            break
        skipped += 1
        offset = end
    return skipped, offset


def _next_stands_in(view: memoryview, offset: int, kind: int, seq: int) -> bool:
    """
    Whether the entry that would follow `seq` stands whole within the one at `offset`, whose length leads past the end:
    then that length is damaged, and this is no torn tail.
    """
    wanted = (seq if kind == EntryKind.HEADER else seq + 1) & (2**64 - 1)
    rest = bytes(view[offset + HEAD_SIZE :])
    # The first place is enough: payloads are text, and eight bytes of a number hold zeros.
    begin = rest.find(wanted.to_bytes(8, "little")) - _SEQ_OFFSET
    if begin < 0 or begin + HEAD_SIZE > len(rest):
        return False
    length, crc, *_ = _HEAD.unpack_from(rest, begin)
    return bool(crc32(rest[begin + 8 : begin + HEAD_SIZE + length]) == crc)
