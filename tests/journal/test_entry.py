"""
The journal's entries: what is encoded is decoded, and damage is never taken for an entry.
"""

import struct
from hashlib import sha256
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captures import FIXTURES
from journal_cases import FACTS, HEADER, HOUR, LATER_FACTS, RUN
from recorder.journal.entry import (
    HEAD_SIZE,
    MAX_PAYLOAD,
    decode_header,
    encode_entry,
    encode_header,
    first_entry,
    split_entries,
)
from recorder.journal.reader import read_segment
from recorder.records import (
    NO_CONNECTION,
    AnyFact,
    DiskFreed,
    DiskFull,
    Entry,
    EntryKind,
    QualitySettings,
    decode_fact,
    encode_fact,
)

ENTRIES = st.lists(
    st.builds(
        Entry,
        kind=st.sampled_from([int(kind) for kind in EntryKind]),
        connection=st.integers(-(2**15), 2**15 - 1),
        attempt=st.integers(0, 2**32 - 1),
        seq=st.integers(0, 2**64 - 1),
        recv_ts=st.integers(-(2**63), 2**63 - 1),
        payload=st.binary(max_size=200),
        run=st.just(RUN),
    ),
    max_size=8,
)

NUMBERED = [
    Entry(EntryKind.FRAME, number - 1, 1, number, HOUR + number, b'{"frame": %d}' % number * (number % 4), RUN)
    for number in range(1, 9)
]


def encode(entries: list[Entry]) -> bytes:
    """
    Their bytes, one after the other.
    """
    return b"".join(encode_entry(e.kind, e.connection, e.attempt, e.seq, e.recv_ts, e.payload) for e in entries)


def ends(entries: list[Entry]) -> list[int]:
    """
    Where each entry ends.
    """
    return [len(encode(entries[: number + 1])) for number in range(len(entries))]


@given(ENTRIES)
def test_decoding_returns_what_was_encoded(entries):
    """
    Every member of every entry, for all values the format can hold.
    """
    data = encode(entries)

    split = split_entries(data, RUN)

    assert split.entries == entries
    assert (split.consumed, split.damaged, split.lost) == (len(data), 0, False)


@pytest.mark.parametrize("payload", [b"", b"\x00", bytes(300_000), b"\xff" * (4 << 20)])
@pytest.mark.parametrize("connection", [NO_CONNECTION, 0, 2**15 - 1])
def test_payloads_of_any_size_and_connections_below_zero_survive(payload, connection):
    """
    An empty entry is one; so is a frame of four MiB of the recorder itself.
    """
    data = encode_entry(EntryKind.FRAME, connection, 0, 1, HOUR, payload)

    assert len(data) == HEAD_SIZE + len(payload)
    assert split_entries(data, RUN).entries == [Entry(EntryKind.FRAME, connection, 0, 1, HOUR, payload, RUN)]


def test_the_longest_payload_is_an_entry_and_a_longer_one_is_damage():
    """
    The limit keeps a damaged length from being waited for.
    """
    longest = encode_entry(EntryKind.FRAME, 0, 1, 1, HOUR, bytes(MAX_PAYLOAD))
    assert len(split_entries(longest, RUN).entries[0].payload) == MAX_PAYLOAD

    longer = struct.pack("<I", MAX_PAYLOAD + 1) + encode(NUMBERED)[4:]
    split = split_entries(longer, RUN)
    assert (split.entries, split.consumed, split.lost) == ([], 0, True)


def test_the_bytes_are_those_of_format_1():
    """
    Offsets, widths and byte order as the module's text has them.
    """
    data = encode_entry(EntryKind.FRAME, -1, 7, 9, HOUR, b"abc")

    assert struct.unpack_from("<I", data, 0) == (3,)
    assert struct.unpack_from("<I", data, 4) == (crc32(data[8:]),)
    assert data[8:10] == bytes([EntryKind.FRAME, 0])
    assert struct.unpack_from("<hIQq", data, 10) == (-1, 7, 9, HOUR)
    assert data[32:] == b"abc"


@given(ENTRIES, st.data())
def test_every_cut_yields_the_entries_before_it(entries, data):
    """
    Wherever a crash stopped the write: whole entries in order, the rest is waited for, nothing is called damage.
    """
    whole = encode(entries)
    cut = data.draw(st.integers(0, len(whole)))

    split = split_entries(whole[:cut], RUN)

    before = [end for end in ends(entries) if end <= cut]
    assert split.entries == entries[: len(before)]
    assert split.consumed == (before[-1] if before else 0)
    assert (split.damaged, split.lost) == (0, False)


def test_reading_goes_on_where_a_cut_left_it():
    """
    What is not consumed, with what comes later, gives the rest.
    """
    data = encode(NUMBERED)
    for cut in range(len(data) + 1):
        first = split_entries(data[:cut], RUN)
        second = split_entries(data[first.consumed :], RUN)
        assert first.entries + second.entries == NUMBERED


def test_every_flipped_byte_is_found():
    """
    Whichever byte and whatever it became: no wrong entry, no exception, and what is gone is told.
    """
    data = encode(NUMBERED)
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip

            split = split_entries(bytes(damaged), RUN)

            assert all(entry in NUMBERED for entry in split.entries)
            assert [e.seq for e in split.entries] == sorted({e.seq for e in split.entries})
            assert len(split.entries) < len(NUMBERED)
            assert split.damaged or split.lost or split.consumed < len(data)
            assert split.entries[: sum(end <= position for end in ends(NUMBERED))] == [
                entry for entry, end in zip(NUMBERED, ends(NUMBERED), strict=True) if end <= position
            ]


@given(ENTRIES.filter(bool), st.data())
@settings(max_examples=200)
def test_no_damage_makes_an_entry_that_was_not_written(entries, data):
    """
    Overwritten stretches of any length: what comes out was written, in order.
    """
    whole = bytearray(encode(entries))
    start = data.draw(st.integers(0, len(whole) - 1))
    rubbish = data.draw(st.binary(min_size=1, max_size=100))
    whole[start : start + len(rubbish)] = rubbish

    split = split_entries(bytes(whole), RUN)

    remaining = iter(entries)
    assert all(entry in remaining for entry in split.entries)


@pytest.mark.parametrize("number", range(len(NUMBERED)))
def test_damage_in_a_payload_costs_one_entry(number):
    """
    The length still leads to the next entry, also where it is the last.
    """
    entries = [msgspec.structs.replace(e, payload=e.payload or b"{}") for e in NUMBERED]
    damaged = bytearray(encode(entries))
    damaged[ends(entries)[number] - 1] ^= 0xFF

    split = split_entries(bytes(damaged), RUN)

    assert split.entries == entries[:number] + entries[number + 1 :]
    assert (split.damaged, split.lost) == (1, False)


def test_damage_across_several_payloads_costs_only_those_entries():
    """
    The lengths are followed over all that is damaged to the next entry that is not.
    """
    damaged = bytearray(encode(NUMBERED))
    for number in (1, 2, 4):
        damaged[ends(NUMBERED)[number] - 1] ^= 0xFF

    split = split_entries(bytes(damaged), RUN)

    assert [entry.seq for entry in split.entries] == [1, 4, 6, 7, 8]
    assert (split.damaged, split.lost) == (3, False)


@pytest.mark.parametrize("number", range(len(NUMBERED) - 1))
@pytest.mark.parametrize("byte", range(4))
@pytest.mark.parametrize("flip", [0x01, 0x40, 0xFF])
def test_damage_to_a_length_costs_what_follows_and_is_not_taken_for_a_torn_tail(number, byte, flip):
    """
    The entries before it come out, none is invented, and it is told. By chance a length leads to another entry.
    """
    damaged = bytearray(encode(NUMBERED))
    begin = ends(NUMBERED)[number] - len(encode([NUMBERED[number]]))
    damaged[begin + byte] ^= flip

    split = split_entries(bytes(damaged), RUN)

    assert split.entries[:number] == NUMBERED[:number]
    assert all(entry in NUMBERED[number + 1 :] for entry in split.entries[number:])
    assert split.lost or split.damaged


def test_a_damaged_length_of_the_header_is_not_taken_for_a_torn_tail():
    """
    A header bears the number of the entry after it, so that one is looked for.
    """
    damaged = bytearray(encode_header(HEADER, seq=1, recv_ts=HOUR) + encode(NUMBERED))
    damaged[2] ^= 0xFF

    assert split_entries(bytes(damaged), RUN).lost


def test_zeros_are_not_entries():
    """
    A stretch that a power cut left empty has valid lengths of 0, but no checksum that holds.
    """
    split = split_entries(encode(NUMBERED) + bytes(10_000), RUN)

    assert split.entries == NUMBERED
    assert split.lost


def test_damage_right_before_a_torn_entry_is_told():
    """
    Nothing whole follows that would confirm the length.
    """
    data = bytearray(encode(NUMBERED)[:-1])
    data[ends(NUMBERED)[6] - 1] ^= 0xFF

    split = split_entries(bytes(data), RUN)

    assert split.entries == NUMBERED[:6]
    assert (split.damaged, split.lost) == (1, True)


def test_an_entry_with_flags_is_of_a_later_version_and_skipped():
    """
    Its number is then missing, which is told elsewhere; what it means is not guessed.
    """
    body = struct.pack("<BBhIQq", EntryKind.FRAME, 1, 0, 1, 2, HOUR) + b"?"
    later = struct.pack("<II", 1, crc32(body)) + body

    split = split_entries(encode(NUMBERED[:1]) + later + encode(NUMBERED[2:]), RUN)

    assert split.entries == NUMBERED[:1] + NUMBERED[2:]
    assert (split.damaged, split.lost) == (0, False)


def test_checksums_are_compared_unless_they_were_before():
    """
    Only then: the flipped byte comes through.
    """
    damaged = bytearray(encode(NUMBERED))
    damaged[-1] ^= 0xFF

    assert len(split_entries(bytes(damaged), RUN).entries) == len(NUMBERED) - 1
    assert len(split_entries(bytes(damaged), RUN, check=False).entries) == len(NUMBERED)


def test_the_first_entry_is_found_alone():
    """
    With the place of the next; nothing if it is torn or damaged.
    """
    header = encode_header(HEADER, seq=1, recv_ts=HOUR)
    first, end = first_entry(header + encode(NUMBERED))

    assert first is not None
    assert (first.kind, first.connection, first.seq, first.recv_ts, end) == (1, NO_CONNECTION, 1, HOUR, len(header))
    assert decode_header(first.payload) == HEADER
    assert all(first_entry(header[:cut]) == (None, 0) for cut in range(len(header)))
    assert first_entry(header[:-1] + b"?" + encode(NUMBERED)) == (None, 0)


def test_a_header_without_later_members_decodes():
    """
    Old journals are read: what was added since has a default.
    """
    old = msgspec.json.encode({k: v for k, v in msgspec.to_builtins(HEADER).items() if k != "quality"})

    assert decode_header(old) == msgspec.structs.replace(HEADER, quality=QualitySettings())


def test_a_header_that_is_none_is_refused():
    """
    Rather than read as something.
    """
    with pytest.raises(msgspec.DecodeError):
        decode_header(b'{"format": "one"}')


@pytest.mark.parametrize("fact", FACTS + LATER_FACTS, ids=lambda fact: type(fact).__name__)
def test_facts_survive_their_json(fact):
    """
    Every kind of fact there is.
    """
    assert decode_fact(encode_fact(fact)) == fact


def test_facts_of_every_kind_are_tested():
    """
    A new kind must be added to the cases, and with the next format to a golden file.
    """
    assert {type(fact) for fact in FACTS + LATER_FACTS} == set(AnyFact.__args__)


def digest(entries: list[Entry]) -> str:
    """
    Of every member of format 1, in order.
    """
    total = sha256()
    for e in entries:
        total.update(f"{e.kind} {e.connection} {e.attempt} {e.seq} {e.recv_ts} {e.run} ".encode() + e.payload)
    return total.hexdigest()


NEWER = {DiskFull, DiskFreed}
"""Facts that versions have had since the golden segment was written."""


def test_the_golden_segment_of_format_1_reads_as_ever():
    """
    A file written when format 1 was new: facts of every kind, captured frames, an empty entry, bytes that are no text.

    It is never written again. If this fails, journals that people have can no longer be read.
    """
    damages, headers = [], []
    path = FIXTURES / "golden" / "journal-1.zst"

    entries = list(read_segment(path, on_damage=damages.append, on_header=headers.append))

    assert digest(entries) == "e4712a7c9c30b1ce03469ad9773453703c485aecab743981eb0eeb904fd81266"
    assert [decode_fact(entry.payload) for entry in entries if entry.kind == EntryKind.FACT] == [
        fact for fact in FACTS if type(fact) not in NEWER
    ]
    assert headers == [HEADER]
    assert damages == []
