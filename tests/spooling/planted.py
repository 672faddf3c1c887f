"""Mistakes that a spool could make, each as a patch. A harness that does not find them out proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

from producers.spool import Spool, opening, recovery, spool
from producers.spool.folder import Folder, file_name
from producers.spool.frame import HEAD_SIZE
from producers.spool.opening import Left
from producers.spool.recovery import Scan
from tests.spooling.disk import DiskFile, DiskFiles

Patch = AbstractContextManager[object]


def _no_directory_sync() -> Patch:
    return patch.object(DiskFiles, "sync_directory", lambda self, directory: None)


def _no_sync() -> Patch:
    return patch.object(DiskFile, "sync", lambda self: None)


def _removes_before_marks() -> Patch:
    def remove(self: Spool) -> None:
        while len(self._pieces) > 1 and self._pieces[1].first <= self.released:
            self._files.remove(self._directory / file_name(self._pieces.pop(0).first))

    return patch.object(Spool, "_remove_released", remove)


def _tries_fsync_again() -> Patch:
    right = DiskFile.sync

    def sync(self: DiskFile) -> None:
        try:
            right(self)
        except OSError:
            right(self)

    return patch.object(DiskFile, "sync", sync)


def _trusts_the_page_cache() -> Patch:
    def find(folder: Folder, *, set_damaged_aside: bool) -> Left:
        left = opening.find(folder, set_damaged_aside=set_damaged_aside)
        end = left.marks.durable + sum(len(batch) for batch in left.unproven)
        return replace(left, marks=replace(left.marks, durable=end), unproven=())

    return patch.object(spool, "find", find)


def _takes_what_follows_a_torn_frame() -> Patch:
    def tail(scan: Scan, position: int) -> tuple[int, int]:
        last = scan.runs[-1] if scan.runs else None
        return (last.stop, max(position, last.end)) if last else (HEAD_SIZE, position)

    return patch.object(recovery, "_tail", tail)


def _says_durable_at_append() -> Patch:
    def commit(self: Spool) -> int:
        return self._end

    return patch.object(Spool, "commit", commit)


def _releases_what_is_under_way() -> Patch:
    right = Spool.release

    def release(self: Spool, position: int) -> None:
        right(self, min(position + 1, self.durable))

    return patch.object(Spool, "release", release)


def _keeps_part_of_a_refused_append() -> Patch:
    def undo(self: Spool, file: DiskFile, piece: spool._Piece) -> None:
        piece.size = file.size()

    return patch.object(Spool, "_undo", undo)


PLANTED: Mapping[str, Callable[[], Patch]] = {
    "does not fsync the directory": _no_directory_sync,
    "does not fsync": _no_sync,
    "acknowledges before it fsyncs": _says_durable_at_append,
    "removes files before it has noted their release": _removes_before_marks,
    "tries a failed fsync again": _tries_fsync_again,
    "trusts what it reads after a kill to be on the disk": _trusts_the_page_cache,
    "takes what follows a torn frame": _takes_what_follows_a_torn_frame,
    "releases what is under way": _releases_what_is_under_way,
    "goes on behind half a frame": _keeps_part_of_a_refused_append,
}
