"""Opens what an earlier process left: reads and judges every file, and sets damage aside when an operator said so.

Setting aside, so that a crash at any point can be gone on from by doing it again:
1. each damaged file's bytes are copied to `<file>.damaged`, durably;
2. each run of readable records that does not begin its file gets a file of its own: the damaged file ends there now;
3. the positions that cannot be read are stated as lost in the marks, durably: from here on their absence is no damage;
4. the damaged file is replaced by the run that begins it, or removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import structlog

from producers.record import RawRecord
from producers.spool.folder import DAMAGED, MARKS, NEW, SPOOL, Folder, file_name
from producers.spool.frame import Marks, decode_marks, new_marks
from producers.spool.recovery import Judgement, Run, Scan, batches, judge, scan_file
from sealtrail.errors import ConfigError, EvidenceError

_LOG = structlog.get_logger("producers.spool")


@dataclass(frozen=True, slots=True)
class Found:
    """What was there when a spool was opened.

    records: to be sent; torn_bytes: left out, never acknowledged; lost: positions given up by an operator, ever, of those
    not released.
    """

    records: int
    torn_bytes: int
    lost: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Left:
    """The state of a spool. sizes: first position and bytes of each file; unproven: batches from `marks.durable` on."""

    marks: Marks
    sizes: tuple[tuple[int, int], ...]
    unproven: tuple[list[RawRecord], ...]
    found: Found


def find(folder: Folder, *, set_damaged_aside: bool) -> Left:
    """What is in the spool's directory. See `Spool.open` for what is raised."""
    scans, marks = _look(folder)
    judgement = judge(scans, marks)
    if judgement.damage:
        what = "; ".join(str(damage) for damage in judgement.damage[:3])
        if not set_damaged_aside:
            raise EvidenceError(f"spool {folder.directory}: {len(judgement.damage)} damaged places: {what}")
        _LOG.error("damage set aside", spool=str(folder.directory), places=len(judgement.damage), first=what)
        _set_aside(folder, scans, marks, judgement)
        scans, marks = _look(folder)
        judgement = judge(scans, marks)
        assert not judgement.damage
    lost = marks.lost if marks else ()
    gone = sum(min(b, judgement.end) - max(a, judgement.released) for a, b in lost if b > judgement.released)
    return Left(
        Marks(judgement.released, judgement.durable, lost),
        tuple((scan.first, scan.size) for scan in scans),
        tuple(_unproven(folder, scans[-1], judgement)) if scans else (),
        Found(judgement.end - judgement.released - gone, judgement.torn, lost),
    )


def _look(folder: Folder) -> tuple[list[Scan], Marks | None]:
    """Scan every file, one in memory at a time; leftovers of interrupted acts are removed."""
    scans, marks = [], None
    for name in folder.files.names(folder.directory):
        if name.endswith(NEW):
            folder.files.remove(folder.directory / name)  # it never got its name, so nothing of it was said to be durable
        elif name == MARKS:
            marks = decode_marks(folder.read(name))
        elif name.endswith(SPOOL):
            data = folder.read(name)
            scans.append(scan_file(name, _first(folder, name), data, folder.cipher(name, data)))
    return scans, marks


def _first(folder: Folder, name: str) -> int:
    digits = name.removesuffix(SPOOL)
    if not digits.isdecimal() or name != file_name(int(digits)):
        raise ConfigError(f"spool directory: {folder.directory / name} is no file of a spool")
    return int(digits)


def _unproven(folder: Folder, scan: Scan, judgement: Judgement) -> list[list[RawRecord]]:
    """The batches of the last file from `durable` to `end`."""
    if judgement.end == judgement.durable:
        return []
    data = folder.read(scan.name)
    cipher = folder.cipher(scan.name, data)
    assert cipher is not None
    found = []
    for run in scan.runs:
        for first, records in batches(data, cipher, run) if run.end <= judgement.end else ():
            rest = records[max(0, judgement.durable - first) :]
            if rest:
                found.append(rest)
    return found


def _set_aside(folder: Folder, scans: list[Scan], marks: Marks | None, judgement: Judgement) -> None:
    names = {damage.name for damage in judgement.damage}
    hurt = [scan for scan in scans if scan.name in names]
    for scan in hurt:
        folder.durably(scan.name + DAMAGED, folder.read(scan.name)).close()
    ends = {a.name: b.first for a, b in pairwise(scans)}
    for scan in hurt:
        for run in reversed(_readable(scan, ends.get(scan.name, judgement.end))):
            if run.first != scan.first:
                _own_file(folder, scan, run)
    before = marks.lost if marks else ()
    lost = _joined([*before, *((damage.first, damage.end) for damage in judgement.damage if damage.end > damage.first)])
    folder.durably(MARKS, new_marks(Marks(judgement.released, judgement.durable, lost))).close()
    for scan in hurt:
        runs = _readable(scan, ends.get(scan.name, judgement.end))
        if runs and runs[0].first == scan.first:
            _own_file(folder, scan, runs[0])
        else:
            folder.files.remove(folder.directory / scan.name)
            folder.files.sync_directory(folder.directory)


def _readable(scan: Scan, limit: int) -> list[Run]:
    return [run for run in scan.runs if run.first < limit]


def _own_file(folder: Folder, scan: Scan, run: Run) -> None:
    """Write a run anew, in a file named by its first position."""
    data = folder.read(scan.name)
    cipher = folder.cipher(scan.name, data)
    assert cipher is not None
    parts = [records for _, records in batches(data, cipher, run)]
    folder.begun(run.first, max(run.durable, run.first), parts)[0].close()


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for a, b in sorted(ranges):
        if joined and a <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return tuple(joined)
