"""What an earlier process left in a spool: which records, a torn tail or damage. Pure: bytes in, a judgement out.

Rules:
1. A file ends where the next one begins: what lies in it beyond the next file's first position is void. It was written
   there, never became durable there, and was written again in the next file.
2. Bytes at the end of the last file that follow no durable record are a torn tail: nothing of it was acknowledged. What was
   durable is told by the marks, and by later frames, each of which says what was durable as it was written.
3. All else that cannot be read is damage: a bad frame before a position that was durable, a bad head, a file or the end
   of one missing. It is named, never skipped.
4. Records of the last file beyond what is known to be durable may be in this machine's memory alone (after a kill, or an
   fsync that failed): they count as durable only once they are written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from producers.record import RawRecord
from producers.spool.frame import HEAD_SIZE, FileCipher, Marks, decode_records, next_magic


@dataclass(frozen=True, slots=True)
class Run:
    """Frames that follow each other without a hole.

    at, stop: offset of the first, and after the last; first, end: positions of their records; durable: the furthest
    position that they say was durable.
    """

    at: int
    stop: int
    first: int
    end: int
    durable: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What one file holds.

    name, size: its name and bytes; first: its first position, by its name; runs: in order of position, cut where
    something cannot be read; whole: whether its head could be read, without which no frame can.
    """

    name: str
    size: int
    first: int
    runs: tuple[Run, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """What was durable and cannot be read: file, offset in it, positions [first, end)."""

    name: str
    at: int
    first: int
    end: int

    def __str__(self) -> str:
        what = f"records {self.first} to {self.end - 1}" if self.end > self.first else "its head"
        return f"{self.name}, offset {self.at}: cannot read {what}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is. released, durable, end: positions; torn: bytes of a torn tail; damage: in order of position."""

    released: int
    durable: int
    end: int
    torn: int
    damage: tuple[Damage, ...]


def scan_file(name: str, first: int, data: bytes, cipher: FileCipher | None) -> Scan:
    """Read one file; `cipher` as `open_head` gave it."""
    if cipher is None or cipher.first != first:
        return Scan(name, len(data), first, (), False)
    runs: list[Run] = []
    at, position, number = HEAD_SIZE, first, -1
    while at >= 0:
        found = cipher.open(data, at)
        # A frame of a lower number was refused and overwritten, and is back after a power loss.
        if found is None or found[0].first < position or found[0].number <= number:
            at = next_magic(data, at + 1)  # frames say where they belong, so those beyond a bad one are found
            continue
        place = found[0]
        stop = place.at + place.size
        if runs and runs[-1].stop == at and runs[-1].end == place.first:
            before = runs.pop()
            runs.append(Run(before.at, stop, before.first, place.end, max(before.durable, place.durable)))
        else:
            runs.append(Run(at, stop, place.first, place.end, place.durable))
        at, position, number = stop, place.end, place.number
    return Scan(name, len(data), first, tuple(runs), True)


def batches(data: bytes, cipher: FileCipher, run: Run) -> Iterator[tuple[int, list[RawRecord]]]:
    """The batches of a run that `scan_file` found in `data`, each with the position of its first record."""
    at = run.at
    while at < run.stop:
        found = cipher.open(data, at)
        assert found is not None
        yield found[0].first, decode_records(found[1])
        at += found[0].size


def judge(scans: Sequence[Scan], marks: Marks | None) -> Judgement:
    """The rules above over all files, in order of position. marks: None when there are none that can be read."""
    start = scans[0].first if scans else 0
    known = marks or Marks(start, start)
    if not scans:
        missing = tuple(Damage("no file", 0, a, b) for a, b in besides(known.lost, known.released, known.durable))
        return Judgement(known.released, known.durable, known.durable, 0, missing)
    durable = proven(scans[-1], known)
    limits = [scan.first for scan in scans[1:]] + [durable]
    damage: list[Damage] = []
    position = known.released  # each from here on must be in a file, or be known as lost
    for scan, limit in zip(scans, limits, strict=True):
        if limit > known.released or scan is scans[-1]:
            damage += [Damage(scan.name, 0, a, b) for a, b in besides(known.lost, position, scan.first)]
            damage += _damage(scan, max(position, scan.first), limit, known.lost)
            position = max(position, limit)
    used, end = _tail(scans[-1], durable)
    return Judgement(known.released, durable, end, scans[-1].size - used, tuple(damage))


def proven(scan: Scan, marks: Marks) -> int:
    """Up to which position the last file's records were durable, as far as anything says so."""
    return max(scan.first, marks.released, marks.durable, *(run.durable for run in scan.runs))


def besides(lost: Sequence[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """The parts of [first, end) that no range of `lost` covers."""
    parts = []
    for a, b in sorted(lost):
        if first < min(a, end):
            parts.append((first, min(a, end)))
        first = max(first, b)
    if first < end:
        parts.append((first, end))
    return parts


def _damage(scan: Scan, first: int, limit: int, lost: Sequence[tuple[int, int]]) -> list[Damage]:
    """What of [first, limit) the file does not hold."""
    if not scan.whole:
        return [Damage(scan.name, 0, first, max(first, limit))]
    damage = []
    position, at = first, HEAD_SIZE
    for run in scan.runs:
        damage += [Damage(scan.name, at, a, b) for a, b in besides(lost, position, min(run.first, limit))]
        position, at = max(position, run.end), run.stop
    return damage + [Damage(scan.name, at, a, b) for a, b in besides(lost, position, limit)]


def _tail(scan: Scan, position: int) -> tuple[int, int]:
    """The offset and the position after the last record that follows what is durable without a hole."""
    used = HEAD_SIZE if scan.whole else 0
    for run in scan.runs:
        if run.first <= position:
            used, position = run.stop, max(position, run.end)
    return used, position
