"""The spool's bytes: file heads, frames of records, the marks. Pure: no file is opened here.

    file   head, frame, frame, …
    head   "STSPOOL1" ‖ file id (16) ‖ first position (8) ‖ key check (16) ‖ CRC-32C of what precedes (4)
    frame  "STFR" ‖ CRC-32C of all that follows (4) ‖ length of the ciphertext (4) ‖ records (4) ‖ number (8)
           ‖ position of its first record (8) ‖ position up to which records were durable as it was written (8) ‖ ciphertext
    marks  three slots of 512 bytes, each:
           "STMARKS1" ‖ released (8) ‖ durable (8) ‖ n (4) ‖ n × lost from, to (8 + 8) ‖ CRC-32C of what precedes (4)

Integers are big-endian. A file's key and key check are HKDF-SHA256 of the spool's key, salted with the file id, over first
position and emitter; a frame is AES-256-GCM under it, its nonce the number (never given twice in a file), its associated
data file id and the frame's head. So a frame is bound to its file and position: swapped, repeated or moved, it does not open.

Inside, a batch is stored by column, and each distinct header once: the session header, the same bytes all run long, costs
four bytes a record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from producers.record import RawRecord
from sealtrail.errors import ConfigError

KEY_SIZE = 32
FILE_ID_SIZE = 16
LABEL = b"sealtrail/spool/v1\0"
SLOT_BYTES = 512  # a sector: a write of one slot does not touch the others
MAX_FRAME_BYTES = 16_777_216  # a record is at most 2 MiB; a length beyond this is damage, not a reason to ask for memory

_HEAD_MAGIC = b"STSPOOL1"
_FRAME_MAGIC = b"STFR"
_MARKS_MAGIC = b"STMARKS1"
_HEAD = struct.Struct(">8s16sQ16s")
_FRAME = struct.Struct(">4sIIIQQQ")
_BOUND = struct.Struct(">IIQQQ")  # of a frame's head what CRC and associated data cover
_MARKS = struct.Struct(">8sQQI")
_CRC = struct.Struct(">I")
_COUNTS = struct.Struct(">III")  # records, distinct headers, headers

HEAD_SIZE = _HEAD.size + _CRC.size
FRAME_HEAD_SIZE = _FRAME.size
_BOUND_AT = _FRAME.size - _BOUND.size


@dataclass(frozen=True, slots=True)
class Place:
    """Where a whole frame lies, and what its head says.

    at, size: offset and bytes in its file; number: grows within a file; first, count: position of its first record, and
    how many it holds; durable: the position up to which records were durable as it was written.
    """

    at: int
    size: int
    number: int
    first: int
    count: int
    durable: int

    @property
    def end(self) -> int:
        """The position after its last record."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Marks:
    """What the spool knows beside its files; each only grows.

    released: all before it were acknowledged by Kafka; durable: all before it were durable; lost: positions that an
    operator gave up, as ranges [from, to).
    """

    released: int = 0
    durable: int = 0
    lost: tuple[tuple[int, int], ...] = ()


class FileCipher:
    """Seals and opens the frames of one file.

    Args:
        key: the spool's, 32 bytes; emitter: its name; file_id: 16 bytes; first: the file's first position.
    """

    __slots__ = ("_aead", "_check", "file_id", "first")

    def __init__(self, key: bytes, emitter: str, file_id: bytes, first: int) -> None:
        if len(key) != KEY_SIZE:
            raise ConfigError(f"spool key: expected {KEY_SIZE} bytes, got {len(key)}")
        info = LABEL + first.to_bytes(8, "big") + emitter.encode()
        derived = HKDF(SHA256(), KEY_SIZE + 16, salt=file_id, info=info).derive(key)
        self._aead = AESGCM(derived[:KEY_SIZE])
        self._check = derived[KEY_SIZE:]
        self.file_id = file_id
        self.first = first

    def head(self) -> bytes:
        """The first HEAD_SIZE bytes of the file."""
        data = _HEAD.pack(_HEAD_MAGIC, self.file_id, self.first, self._check)
        return data + _CRC.pack(google_crc32c.value(data))

    def seal(self, number: int, first: int, durable: int, records: Sequence[RawRecord]) -> bytes:
        """A frame of `records`, of which there is at least one. `number` must be new in this file."""
        plain = encode_records(records)
        bound = _BOUND.pack(len(plain) + 16, len(records), number, first, durable)
        sealed = self._aead.encrypt(number.to_bytes(12, "big"), plain, self.file_id + bound)
        return _FRAME_MAGIC + _CRC.pack(google_crc32c.extend(google_crc32c.value(bound), sealed)) + bound + sealed

    def open(self, data: bytes, at: int = 0) -> tuple[Place, bytes] | None:
        """The frame that begins at offset `at` of `data`, and its plaintext; None when no whole, authentic one does."""
        if len(data) - at < FRAME_HEAD_SIZE:
            return None
        magic, crc, length, count, number, first, durable = _FRAME.unpack_from(data, at)
        body = at + FRAME_HEAD_SIZE
        if magic != _FRAME_MAGIC or length > len(data) - body:
            return None
        bound, sealed = data[at + _BOUND_AT : body], data[body : body + length]
        if google_crc32c.extend(google_crc32c.value(bound), sealed) != crc:
            return None
        try:
            plain = self._aead.decrypt(number.to_bytes(12, "big"), sealed, self.file_id + bound)
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            return None
        return Place(at, FRAME_HEAD_SIZE + length, number, first, count, durable), plain


def open_head(data: bytes, key: bytes, emitter: str) -> FileCipher | None:
    """The cipher of the file that begins with `data`; None when that is no whole head.

    Raises:
        ConfigError: a head, of another key or another emitter.
    """
    if len(data) < HEAD_SIZE or _CRC.unpack_from(data, _HEAD.size) != (google_crc32c.value(data[: _HEAD.size]),):
        return None
    magic, file_id, first, check = _HEAD.unpack_from(data)
    if magic != _HEAD_MAGIC:
        return None
    cipher = FileCipher(key, emitter, file_id, first)
    if cipher._check != check:
        raise ConfigError("was written under another spool key, or by another emitter")
    return cipher


def frame_length(head: bytes) -> int | None:
    """Bytes of the whole frame that begins with these FRAME_HEAD_SIZE bytes, as it says itself; None when none does."""
    if len(head) < FRAME_HEAD_SIZE or not head.startswith(_FRAME_MAGIC):
        return None
    length = FRAME_HEAD_SIZE + int.from_bytes(head[8:12], "big")
    return length if length <= MAX_FRAME_BYTES else None


def next_magic(data: bytes, at: int) -> int:
    """The offset of the next place from `at` on where a frame could begin; -1 when there is none."""
    return data.find(_FRAME_MAGIC, at)


def encode_records(records: Sequence[RawRecord]) -> bytes:
    """A batch by column: counts, lengths of values, headers a record, header numbers, lengths of headers, bytes."""
    flat = [header for record in records for header in record.headers]
    numbers = {header: number for number, header in enumerate(dict.fromkeys(flat))}
    names = [name.encode() for name, _ in numbers]
    values = [value for _, value in numbers]
    bodies = [record.value for record in records]
    columns = [
        *(len(body) for body in bodies),
        *(len(record.headers) for record in records),
        *(numbers[header] for header in flat),
        *(len(name) for name in names),
        *(len(value) for value in values),
    ]
    counts = _COUNTS.pack(len(records), len(numbers), len(flat))
    return b"".join((counts, struct.pack(f">{len(columns)}I", *columns), *names, *values, *bodies))


def decode_records(data: bytes) -> list[RawRecord]:
    """What `encode_records` was given. `data` must be authentic: nothing is checked."""
    count, distinct, total = _COUNTS.unpack_from(data)
    columns = struct.unpack_from(f">{2 * count + total + 2 * distinct}I", data, _COUNTS.size)
    per_record = columns[count : 2 * count]
    numbers = columns[2 * count : 2 * count + total]
    lengths = columns[2 * count + total :]
    start = _COUNTS.size + 4 * len(columns)
    cuts = list(accumulate(chain(lengths, columns[:count]), initial=start))
    pieces = [data[a:b] for a, b in pairwise(cuts)]
    table = [(name.decode(), value) for name, value in zip(pieces[:distinct], pieces[distinct : 2 * distinct], strict=True)]
    flat = [table[number] for number in numbers]
    ends = list(accumulate(per_record, initial=0))
    return [RawRecord(value, tuple(flat[a:b])) for value, (a, b) in zip(pieces[2 * distinct :], pairwise(ends), strict=True)]


def encode_marks(marks: Marks) -> bytes:
    """The marks for one slot; up to 30 lost ranges fit (SLOT_BYTES). Raises ConfigError beyond."""
    data = _MARKS.pack(_MARKS_MAGIC, marks.released, marks.durable, len(marks.lost))
    data += b"".join(struct.pack(">QQ", *lost) for lost in marks.lost)
    if len(data) + _CRC.size > SLOT_BYTES:
        raise ConfigError(f"spool: damaged in {len(marks.lost)} places, more than can be given up one by one")
    return data + _CRC.pack(google_crc32c.value(data))


def new_marks(marks: Marks) -> bytes:
    """A whole marks file, with `marks` in the first slot."""
    return encode_marks(marks).ljust(3 * SLOT_BYTES, b"\0")


def decode_marks(data: bytes) -> Marks | None:
    """The furthest marks of all slots; None when no slot can be read."""
    found = [slot for at in range(0, len(data), SLOT_BYTES) if (slot := _slot(data[at : at + SLOT_BYTES])) is not None]
    return max(found, key=lambda marks: (marks.released, marks.durable), default=None)


def _slot(data: bytes) -> Marks | None:
    if len(data) < _MARKS.size:
        return None
    magic, released, durable, count = _MARKS.unpack_from(data)
    end = _MARKS.size + 16 * count
    if magic != _MARKS_MAGIC or len(data) < end + _CRC.size:
        return None
    if _CRC.unpack_from(data, end) != (google_crc32c.value(data[:end]),):
        return None
    lost = tuple(struct.unpack_from(">QQ", data, _MARKS.size + 16 * n) for n in range(count))
    return Marks(released, durable, lost)
