"""The durable spool of one emitter: records wait here, encrypted, until Kafka has acknowledged them.

What holds, over kill -9, power loss, torn tails, a full disk and an fsync that fails:
1. What `commit` has said is durable is read again by whoever opens the spool next: all of it, in order, once each, until it is
   released. Released records may be read again; lost they are not.
2. What is read is durable, and positions count all records since ever: the one that has a position never changes.
3. A file has a name only when its head is durable, and is named by its first position; a file ends where the next one begins.
   No file is written to after an fsync of it failed, or by another process than the one that began it.
4. One process writes, held by a lock that ends with it. One thread at a time; properties may be read from others.
5. Memory: the records that are not committed yet, one frame to read. Disk: `max_bytes`, beyond which nothing is taken.

It does not decide what happens when it is full, does not know Kafka, and does not number or authenticate records. It hides
contents from whoever has the disk and not the key; it cannot tell that somebody took all of its files away.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from producers.record import RawRecord
from producers.spool.files import File, Files, Lock, OsFiles
from producers.spool.folder import LOCK, Folder, file_name
from producers.spool.frame import HEAD_SIZE, MAX_FRAME_BYTES, FileCipher, Marks
from producers.spool.marks import MarksFile
from producers.spool.opening import Found, find
from producers.spool.reading import Reader
from producers.spool.recovery import besides
from sealtrail.errors import ConfigError, ContractError, EvidenceError, TransientError

MAX_BYTES = 1_073_741_824  # a million events of about 1 KB: an hour without brokers at 300 a second
FILE_BYTES = 16_777_216  # what is released goes by whole files; one is read in about 20 ms when a spool is opened
FRAME_BYTES = 1_048_576  # a reader holds one frame
RETRY_FULL_S = 1.0  # space comes with the next file that is released
_UNUSABLE = frozenset(
    {errno.EACCES, errno.EEXIST, errno.EPERM, errno.ENOTDIR, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSYS}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_LOG = structlog.get_logger("producers.spool")


class SpoolFullError(TransientError):
    """There is no room: the spool's bound, or the disk's. Nothing of what was handed over was taken."""


class SpoolInUseError(ConfigError):
    """Another process holds it."""


@dataclass(slots=True)
class _Piece:
    """A file: its first position and its bytes."""

    first: int
    size: int


class Spool:
    """A queue on disk. Made by `open`."""

    def __init__(self, folder: Folder, max_bytes: int) -> None:
        """Not for callers: see `open`."""
        self._folder = folder
        self._directory = folder.directory
        self._files = folder.files
        self._max_bytes = max_bytes
        self._file_bytes = min(FILE_BYTES, max_bytes // 4)
        self._reader = Reader(folder)
        self._lock: Lock | None = None
        self._pieces: list[_Piece] = []
        self._file: File | None = None  # of the last piece, if this process began it and nothing went wrong with it
        self._cipher: FileCipher | None = None
        self._number = 0  # of the next frame in it
        self._marks = MarksFile(folder)
        self._pending: list[Sequence[RawRecord]] = []  # taken, not durable yet: batches from `_marks.durable` on
        self._end = 0
        self._found = Found(0, 0, ())

    @classmethod
    def open(
        cls,
        directory: Path,
        key: bytes,
        name: str,
        max_bytes: int = MAX_BYTES,
        *,
        set_damaged_aside: bool = False,
        files: Files | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """The spool in `directory`, with what an earlier process left there.

        Args:
            directory: of this emitter alone; made if need be.
            key: 32 bytes, the same each time; name: of the emitter, bound to the key.
            max_bytes: of all its files together.
            set_damaged_aside: an operator's decision to go on without what cannot be read: damaged files are kept as
                `<file>.damaged`, what can be read of them stays, `found` says what was lost.

        Raises:
            SpoolInUseError: another process holds it. ConfigError: another key; a directory that cannot be used.
            EvidenceError: something durable cannot be read; names file and offset. Nothing was changed.
            TransientError: the disk is full or refuses.
        """
        spool = cls(Folder(files or OsFiles(), directory, key, name, random), max_bytes)
        try:
            spool._take_over(set_damaged_aside)
        except OSError as error:
            spool._let_go()
            if error.errno in _UNUSABLE:
                raise ConfigError(f"spool directory {directory}: {error.strerror}") from error
            raise spool._trouble(error, "opening") from error
        except BaseException:
            spool._let_go()
            raise
        return spool

    # -- what callers use

    @property
    def released(self) -> int:
        """All records before this position were acknowledged by Kafka: where reading begins."""
        return self._marks.now.released

    @property
    def durable(self) -> int:
        """All records before this position are durable, and can be read."""
        return self._marks.now.durable

    @property
    def end(self) -> int:
        """One past the last record taken."""
        return self._end

    @property
    def lasting(self) -> bool:
        """What is committed outlives this process."""
        return True

    @property
    def waiting(self) -> int:
        """Records taken and not released."""
        lost = sum(min(b, self._end) - max(a, self.released) for a, b in self._marks.now.lost if b > self.released)
        return self._end - self.released - lost

    @property
    def used_bytes(self) -> int:
        """Of all its files, what is released and not yet removed included."""
        return sum(piece.size for piece in self._pieces)

    @property
    def found(self) -> Found:
        """What was there when it was opened."""
        return self._found

    def append(self, records: Sequence[RawRecord]) -> None:
        """Take `records`, all or none. They are durable after the next `commit`, not before.

        Raises:
            SpoolFullError: no room for all of them. Others: see `commit`.
            ConfigError: they are more than the spool may ever hold.
        """
        if not records:
            return
        batches = _batches(records)
        file, data = self._sealed(batches)
        if self._make_room(len(data)):
            file, data = self._sealed(batches)  # in a new file: frames are bound to theirs
        piece = self._pieces[-1]
        try:
            file.write(piece.size, data)
        except OSError as error:
            self._undo(file, piece)
            raise self._trouble(error, "writing") from error
        piece.size += len(data)
        self._pending += batches
        self._end += len(records)

    def commit(self) -> int:
        """Make all that was taken durable; the position up to which it is.

        Raises:
            TransientError, SpoolFullError: it could not be; all that was taken is kept, and the next call tries again.
        """
        self._mine()
        if not self._pending:
            return self._marks.now.durable
        if self._file is not None:
            try:
                self._file.sync()
            except OSError as error:
                # The system may have dropped the pages and would call the next fsync a success. What is not durable is in
                # `_pending`: it is written anew, and the next file's first position voids what may be left of it here.
                _LOG.error("fsync failed", spool=str(self._directory), problem=error.strerror)
                self._abandon()
            else:
                # Durable, and the file's name has been since it was begun. A crash from here on loses nothing of it.
                self._settle()
                return self._marks.now.durable
        self._begin()
        return self._marks.now.durable

    def read(self, position: int, max_records: int = 1000, max_bytes: int = FRAME_BYTES) -> list[tuple[int, RawRecord]]:
        """Durable records from `position` on, with their positions: up to `max_records`, ending with the one that passes
        `max_bytes` of values. Positions that were given up are skipped. Cheap where the last call ended.

        Raises:
            EvidenceError: the record at `position` cannot be read; names file and offset. TransientError: the disk does not
                answer.
        """
        self._mine()
        position = max(position, self.released)
        found: list[tuple[int, RawRecord]] = []
        size = 0
        try:
            while position < self.durable and len(found) < max_records and size < max_bytes:
                start, records = self._batch(position)
                for at, one in enumerate(records[: max_records - len(found)], start):
                    found.append((at, one))
                    position = at + 1
                    size += len(one.value)
                    if size >= max_bytes:
                        break
                if not records:
                    position = start
        except EvidenceError:
            if not found:
                raise
        except OSError as error:
            raise self._trouble(error, "reading") from error
        return found

    def release(self, position: int) -> None:
        """All records before `position` were acknowledged by Kafka, and need not be read again. Never goes back.

        Raises: ContractError: `position` is not durable. A disk that refuses delays the removal of files, no more.
        """
        self._mine()
        if position > self.durable:
            raise ContractError("position", f"{position} is not durable yet; {self.durable} is")
        if position <= self.released:
            return
        self._marks.note(Marks(position, self.durable, self._marks.now.lost))
        self._remove_released()

    def close(self) -> None:
        """Commit and let go of the lock; it is let go of even when the commit fails. Raises as `commit`."""
        if self._lock is None or not self._lock.held:
            return
        try:
            self.commit()
        finally:
            self._let_go()

    # -- opening

    def _take_over(self, set_damaged_aside: bool) -> None:
        self._files.make_directory(self._directory)
        self._lock = self._files.lock(self._directory / LOCK)
        if self._lock is None:
            raise SpoolInUseError(f"spool directory {self._directory}: in use by another process; one emitter, one directory")
        left = find(self._folder, set_damaged_aside=set_damaged_aside)
        self._found = left.found
        self._pieces = [_Piece(first, size) for first, size in left.sizes]
        self._marks.now = left.marks
        self._pending = list(left.unproven)
        self._end = left.marks.durable + sum(len(batch) for batch in self._pending)
        if self._found.torn_bytes:
            _LOG.warning("torn tail left out", spool=str(self._directory), bytes=self._found.torn_bytes)
        try:
            self._marks.make_durable()
            if self._pending:
                self._begin()
        except (OSError, TransientError) as error:
            # A full disk must not keep what is durable from being sent: that is how space comes back.
            _LOG.error("spool opened, not writable", spool=str(self._directory), problem=str(error))
        self._remove_released()

    # -- files

    def _mine(self) -> None:
        if self._lock is None or not self._lock.held:
            raise ConfigError(f"spool {self._directory}: closed, or of the process that this one was forked from")

    def _writable(self) -> File:
        """The file to append to: the one under way, or a new one."""
        self._mine()
        if self._file is not None and self._pieces[-1].size >= self._file_bytes:
            self.commit()  # only the last file may end in what is not durable
            self._abandon()
        if self._file is None:
            self._begin()
        assert self._file is not None
        return self._file

    def _sealed(self, batches: Sequence[Sequence[RawRecord]]) -> tuple[File, bytes]:
        """The file to append to, and `batches` as frames of it."""
        file = self._writable()
        assert self._cipher is not None
        frames, first = [], self._end
        for batch in batches:
            frames.append(self._cipher.seal(self._number, first, self._marks.now.durable, batch))
            self._number += 1  # whatever becomes of the frame: a number is never given twice
            first += len(batch)
        return file, b"".join(frames)

    def _begin(self) -> None:
        """Begin a file at the durable position with all that is pending; it is all durable then."""
        first = self._marks.now.durable
        self._reader.forget(first)  # nothing of it was durable: what replaces it begins anew
        try:
            self._file, self._cipher, size = self._folder.begun(first, first, self._pending)
        except OSError as error:
            raise self._trouble(error, "beginning a file") from error
        # Under its name, with its head and all that was pending. It voids whatever lies beyond `first` in the file before it.
        self._number = len(self._pending)
        self._pieces = [piece for piece in self._pieces if piece.first < first] + [_Piece(first, size)]
        self._settle()
        self._remove_released()

    def _undo(self, file: File, piece: _Piece) -> None:
        """Part of a frame may be in the file: cut it off, or give the file up; what is pending is written anew then."""
        try:
            file.truncate(piece.size)
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # nothing more is expected of it
                self._file.close()
        self._file = self._cipher = None

    def _make_room(self, size: int) -> bool:
        """Whether a new file was begun so that `size` more bytes keep the bound. Raises SpoolFullError when they cannot."""
        if self.used_bytes + size > self._max_bytes:
            self._remove_released()  # if the disk refused that when they were released
        if self.used_bytes + size <= self._max_bytes:
            return False
        if size + HEAD_SIZE > self._max_bytes:
            raise ConfigError(f"spool max_bytes: {self._max_bytes} cannot hold one batch of {size} bytes")
        if self.released == self._end and self._pieces[-1].first < self._end:
            self._abandon()  # all of the last file is released: with another behind it, it can be removed
            self._begin()
            if self.used_bytes + size <= self._max_bytes:
                return True
        raise SpoolFullError(
            f"spool {self._directory}: {self.used_bytes} of {self._max_bytes} bytes used, {size} more asked", RETRY_FULL_S
        )

    def _settle(self) -> None:
        """What was pending is durable."""
        self._pending.clear()
        self._marks.note(Marks(self.released, self._end, self._marks.now.lost))

    def _remove_released(self) -> None:
        """Remove the files whose records are all released; never the last one, which says how far positions went."""
        count = 0
        while count + 1 < len(self._pieces) and self._pieces[count + 1].first <= self.released:
            count += 1
        if not count:
            return
        try:
            # First the marks: without them the first file that is left would look as if one before it were missing.
            self._marks.make_durable()
            # Gone or, after a crash, some of them back: they lie before the released position and are removed again.
            for piece in list(self._pieces[:count]):
                self._reader.forget(piece.first)
                self._files.remove(self._directory / file_name(piece.first))
                self._pieces.remove(piece)
        except (OSError, TransientError) as error:
            _LOG.warning("released files not removed", spool=str(self._directory), problem=str(error))

    # -- the rest

    def _batch(self, position: int) -> tuple[int, list[RawRecord]]:
        """Durable records from `position` on, or from the first one behind what is lost; none, and up to where none is."""
        number = len(self._pieces) - 1
        while number > 0 and self._pieces[number].first > position:
            number -= 1
        first = self._pieces[number].first if self._pieces else self.durable
        limit = self._pieces[number + 1].first if number + 1 < len(self._pieces) else self.durable
        if first > position:
            found, limit = None, first
        else:
            found = self._reader.batch(first, position, limit)
        start, records = found or (limit, [])
        unread = besides(self._marks.now.lost, position, start)
        if unread:
            a, b = unread[0]
            where = f"{self._directory / file_name(first)}, offset {self._reader.at}"
            raise EvidenceError(f"{where}: cannot read records {a} to {b - 1}")
        return start, records

    def _trouble(self, error: OSError, what: str) -> TransientError:
        message = f"spool {self._directory}: {what}: {error.strerror}"
        return SpoolFullError(message, RETRY_FULL_S) if error.errno in _FULL else TransientError(message)

    def _let_go(self) -> None:
        self._reader.close()
        self._abandon()
        self._marks.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _batches(records: Sequence[RawRecord]) -> list[Sequence[RawRecord]]:
    """Cut into frames of about FRAME_BYTES. Raises ContractError for a record that no frame can hold."""
    batches: list[Sequence[RawRecord]] = []
    start = size = 0
    for number, record in enumerate(records):
        one = len(record.value) + sum(len(value) for _, value in record.headers)
        if one > MAX_FRAME_BYTES // 2:
            raise ContractError("", f"record too large for the spool: {one} bytes")
        if size and size + one > FRAME_BYTES:
            batches.append(records[start:number])
            start, size = number, 0
        size += one
    batches.append(records[start:])
    return batches
