"""The spool's bytes, and what damage in them comes to."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.spool import RawRecord, Spool
from producers.spool.folder import MARKS, file_name
from producers.spool.frame import (
    HEAD_SIZE,
    SLOT_BYTES,
    FileCipher,
    Marks,
    decode_marks,
    decode_records,
    encode_marks,
    encode_records,
    new_marks,
    open_head,
)
from producers.spool.recovery import Scan, judge, scan_file
from sealtrail.errors import ConfigError, EvidenceError
from tests.spooling.disk import Died, Disk
from tests.spooling.life import DIRECTORY, EMITTER, KEY, number_of, sequence
from tests.strategies import spooled

FILE_ID = bytes(16)


def cipher(first: int = 0, file_id: bytes = FILE_ID) -> FileCipher:
    return FileCipher(KEY, EMITTER, file_id, first)


def a_file(*counts: int, durable: int = 0) -> tuple[bytes, list[bytes]]:
    """A file's bytes and its frames, with as many records each."""
    frames, first = [], 0
    for number, count in enumerate(counts):
        frames.append(cipher().seal(number, first, durable, sequence(range(first, first + count))))
        first += count
    return cipher().head() + b"".join(frames), frames


@given(st.lists(spooled, min_size=1, max_size=20))
def test_a_batch_is_decoded_as_it_was_encoded(records: list[RawRecord]) -> None:
    assert decode_records(encode_records(records)) == records
    found = cipher().open(cipher().seal(7, 40, 30, records))
    assert found is not None
    place, plain = found
    assert (place.number, place.first, place.count, place.durable, decode_records(plain)) == (7, 40, len(records), 30, records)


def test_a_header_that_all_records_share_is_stored_once() -> None:
    one = len(encode_records(sequence([1])))
    assert len(encode_records(sequence(range(100)))) < one + 99 * (one - 350 + 30)


@given(st.data())
def test_a_frame_with_any_bit_changed_does_not_open(data: st.DataObject) -> None:
    frame = bytearray(cipher().seal(0, 0, 0, sequence([1, 2])))
    at = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[at // 8] ^= 1 << at % 8
    assert cipher().open(bytes(frame)) is None


def test_a_frame_cut_anywhere_does_not_open() -> None:
    frame = cipher().seal(0, 0, 0, sequence([1]))
    assert all(cipher().open(frame[:length]) is None for length in range(len(frame)))


@pytest.mark.parametrize("other", [cipher(1), cipher(0, bytes(15) + b"1"), FileCipher(bytes(32), EMITTER, FILE_ID, 0)])
def test_a_frame_of_another_file_does_not_open(other: FileCipher) -> None:
    assert other.open(cipher().seal(0, 0, 0, sequence([1]))) is None


def test_frames_swapped_or_repeated_are_no_sequence() -> None:
    data, (a, b, c) = a_file(2, 2, 2)
    head = data[:HEAD_SIZE]

    def ends(data: bytes) -> list[tuple[int, int]]:
        return [(run.first, run.end) for run in scan_file("x", 0, data, cipher()).runs]

    assert ends(data) == [(0, 6)]
    assert ends(head + a + c + b) == [(0, 2), (4, 6)]
    assert ends(head + a + a + b + c) == [(0, 2), (2, 6)]
    assert ends(head + b + c) == [(2, 6)]


def test_a_head_cut_or_changed_is_none_and_one_of_another_key_is_said() -> None:
    head = cipher().head()
    assert open_head(head, KEY, EMITTER) is not None
    for at in range(len(head)):
        changed = bytearray(head)
        changed[at] ^= 1
        assert open_head(head[:at], KEY, EMITTER) is None
        assert open_head(bytes(changed), KEY, EMITTER) is None
    with pytest.raises(ConfigError):
        open_head(head, bytes(32), EMITTER)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=30),
)
def test_marks_are_decoded_as_they_were_encoded(released: int, durable: int, lost: list[tuple[int, int]]) -> None:
    marks = Marks(released, durable, tuple(lost))
    assert decode_marks(encode_marks(marks)) == decode_marks(new_marks(marks)) == marks


def test_of_the_slots_of_the_marks_the_furthest_that_is_whole_counts() -> None:
    slots = [encode_marks(Marks(n, 10)).ljust(SLOT_BYTES, b"\0") for n in (3, 5, 4)]
    assert decode_marks(b"".join(slots)) == Marks(5, 10)
    slots[1] = slots[1][:20] + b"\1" + slots[1][21:]
    assert decode_marks(b"".join(slots)) == Marks(4, 10)
    assert decode_marks(bytes(3 * SLOT_BYTES)) is None
    assert decode_marks(b"") is None


def test_marks_hold_30_lost_ranges_and_no_more() -> None:
    with pytest.raises(ConfigError, match="31 places"):
        encode_marks(Marks(0, 0, ((1, 2),) * 31))


def scan(first: int, *counts: int, durable: int = 0) -> Scan:
    data, _ = a_file(*counts, durable=durable)
    return scan_file(file_name(0), 0, data, cipher()) if not first else Scan(file_name(first), HEAD_SIZE, first, (), True)


@pytest.mark.parametrize(
    ("scans", "marks", "released", "durable", "end", "damage"),
    [
        ([], None, 0, 0, 0, []),
        ([], Marks(5, 9), 5, 9, 9, [(5, 9)]),
        ([], Marks(5, 9, ((4, 9),)), 5, 9, 9, []),
        ([scan(0, 2, 2)], None, 0, 0, 4, []),  # nothing says that they were durable: written anew
        ([scan(0, 2, 2, durable=2)], None, 0, 2, 4, []),
        ([scan(0, 2, 2)], Marks(1, 4), 1, 4, 4, []),
        ([scan(0, 2, 2)], Marks(1, 7), 1, 7, 7, [(4, 7)]),  # the end of the last file is missing
        ([scan(0, 2, 2)], Marks(1, 7, ((4, 7),)), 1, 7, 7, []),
        ([scan(0, 2, 2), scan(4)], None, 0, 4, 4, []),
        ([scan(0, 2, 2), scan(2)], None, 0, 2, 2, []),  # void beyond 2
        ([scan(0, 2, 2), scan(6)], None, 0, 6, 6, [(4, 6)]),  # a file is missing
        ([scan(0, 2, 2), scan(6)], Marks(6, 6), 6, 6, 6, []),  # it was released
        ([scan(6)], Marks(3, 6), 3, 6, 6, [(3, 6)]),  # the first file is missing
        ([scan(6)], None, 6, 6, 6, []),  # without marks, what is there is what there is
    ],
)
def test_what_there_is_follows_from_files_and_marks(
    scans: list[Scan], marks: Marks | None, released: int, durable: int, end: int, damage: list[tuple[int, int]]
) -> None:
    found = judge(scans, marks)
    assert (found.released, found.durable, found.end) == (released, durable, end)
    assert [(one.first, one.end) for one in found.damage] == damage


def backlog() -> Disk:
    """Files of records 0 to 59, all committed, six a frame; the process was killed."""
    disk = Disk(Random(2))
    spool = Spool.open(DIRECTORY, KEY, EMITTER, 30_000, files=disk.files())
    for start in range(0, 60, 6):
        spool.append(sequence(range(start, start + 6)))
        spool.commit()
    disk.kill()
    return disk


def reopened(disk: Disk, *, set_damaged_aside: bool = False) -> Spool:
    return Spool.open(DIRECTORY, KEY, EMITTER, 30_000, files=disk.files(), set_damaged_aside=set_damaged_aside)


def names(disk: Disk) -> list[str]:
    return [name for name in disk.files().names(DIRECTORY) if name.endswith(".spool")]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize("part", ["head", "first frame", "second frame", "last frame"])
@pytest.mark.parametrize("number", [0, 1, -1])
def test_damage_is_named_and_set_aside_only_when_told_and_the_rest_is_sent(number: int, part: str) -> None:
    disk = backlog()
    name = names(disk)[number]
    path = DIRECTORY / name
    data = bytes(disk.bytes_of(path))
    found = open_head(data, KEY, EMITTER)
    runs = scan_file(name, int(name[:20]), data, found).runs
    frame = (runs[0].stop - runs[0].at) // 3
    at = {"head": 20, "first frame": HEAD_SIZE + 60, "second frame": HEAD_SIZE + frame, "last frame": runs[0].stop - 30}[part]
    disk.damage(path, flipped(data, at))
    before = deepcopy(disk)
    with pytest.raises(EvidenceError, match=rf"{name}, offset \d+"):
        reopened(disk)
    assert {n: disk.bytes_of(DIRECTORY / n) for n in names(disk)} == {n: before.bytes_of(DIRECTORY / n) for n in names(before)}
    disk.kill()
    spool = reopened(disk, set_damaged_aside=True)
    lost = {n for a, b in spool.found.lost for n in range(a, b)}
    assert 0 < len(lost) <= runs[0].end - runs[0].first
    assert [(at, number_of(one)) for at, one in spool.read(0)] == [(n, n) for n in range(60) if n not in lost]
    assert spool.waiting == spool.found.records == 60 - len(lost)
    assert bytes(disk.bytes_of(Path(f"{path}.damaged"))) == flipped(data, at)
    spool.append(sequence([60]))
    assert spool.commit() == 61
    disk.lose_power()
    again = reopened(disk)  # accepted once, it is no damage any more
    assert [number_of(one) for _, one in again.read(0)] == [n for n in range(61) if n not in lost]
    again.release(61)
    assert (again.waiting, again.released) == (0, 61)


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_missing_file_is_named_and_the_rest_is_sent_when_told(number: int) -> None:
    disk = backlog()
    disk.files().remove(DIRECTORY / names(disk)[number])
    with pytest.raises(EvidenceError, match="cannot read records"):
        reopened(disk)
    disk.kill()
    spool = reopened(disk, set_damaged_aside=True)
    lost = {n for a, b in spool.found.lost for n in range(a, b)}
    assert lost
    assert [number_of(one) for _, one in spool.read(0)] == [n for n in range(60) if n not in lost]
    assert spool.durable == 60


def test_setting_aside_can_be_interrupted_anywhere_and_done_again() -> None:
    disk = backlog()
    name = names(disk)[0]
    disk.damage(DIRECTORY / name, flipped(bytes(disk.bytes_of(DIRECTORY / name)), HEAD_SIZE + 3000))
    finished = False
    for after in range(60):
        one = deepcopy(disk)
        one.random = Random(after)
        one.faults.die_after = after
        try:
            reopened(one, set_damaged_aside=True)
            finished = True
        except Died:
            pass
        one.faults.die_after = None
        one.lose_power()
        spool = reopened(one, set_damaged_aside=True)
        lost = {n for a, b in spool.found.lost for n in range(a, b)}
        assert 0 < len(lost) <= 6
        assert [number_of(record) for _, record in spool.read(0)] == [n for n in range(60) if n not in lost]
    assert finished


def test_damage_that_comes_up_while_reading_is_said() -> None:
    disk = backlog()
    spool = reopened(disk)
    path = DIRECTORY / names(disk)[0]
    disk.damage(path, flipped(bytes(disk.bytes_of(path)), HEAD_SIZE + 500))
    with pytest.raises(EvidenceError, match=rf"{path.name}.*cannot read record"):
        spool.read(0)


def test_marks_that_cannot_be_read_cost_repeats_and_nothing_else() -> None:
    disk = backlog()
    spool = reopened(disk)
    spool.release(20)
    disk.kill()
    disk.damage(DIRECTORY / MARKS, b"")
    again = reopened(disk)
    assert again.released <= 20
    assert [number_of(one) for _, one in again.read(0)] == list(range(again.released, 60))
