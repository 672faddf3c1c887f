"""Reads a spool's records in order, from its files: one frame in memory, one file open."""

from __future__ import annotations

from producers.record import RawRecord
from producers.spool.files import File
from producers.spool.folder import Folder, file_name
from producers.spool.frame import FRAME_HEAD_SIZE, HEAD_SIZE, FileCipher, decode_records, frame_length
from sealtrail.errors import EvidenceError


class Reader:
    """A cursor over the frames of a spool's files."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._file: File | None = None
        self._first = -1  # of the open file
        self._cipher: FileCipher | None = None
        self._at = 0  # offset of the next frame
        self._position = 0  # of the next frame's first record, if there is one
        self._batch: list[RawRecord] = []  # of the frame read last; it ends where `_position` is

    def batch(self, first: int, position: int, limit: int) -> tuple[int, list[RawRecord]] | None:
        """The records from `position` on, or from the first one after it, to the end of their frame, below `limit`.

        With the position of the first of them; None when the file that begins at `first` has none there. Reading on where
        the last call ended costs no seek.

        Nothing is said about why there is none; `at` is the offset where there is none. Raises OSError, EvidenceError.
        """
        if first != self._first or position < self._position - len(self._batch):
            self._open(first)
        while self._position <= position:
            if self._position >= limit or not self._frame(position):
                return None
        start = self._position - len(self._batch)
        if start >= limit:
            return None
        return max(start, position), self._batch[max(0, position - start) : limit - start]

    @property
    def at(self) -> int:
        """The offset in the open file behind what was read last."""
        return self._at

    def forget(self, first: int) -> None:
        """Let go of the file that begins at `first`, if it is the open one: it is replaced or removed."""
        if first == self._first:
            self.close()

    def close(self) -> None:
        """Let go of the open file."""
        if self._file is not None:
            self._file.close()
        self._file, self._first = None, -1
        self._batch = []

    def _open(self, first: int) -> None:
        self.close()
        name = file_name(first)
        self._file = self._folder.files.open(self._folder.directory / name)
        self._cipher = self._folder.cipher(name, self._file.read(0, HEAD_SIZE))
        if self._cipher is None:
            raise EvidenceError(f"{name}, offset 0: no head of a spool's file")
        self._first, self._at, self._position = first, HEAD_SIZE, first

    def _frame(self, wanted: int) -> bool:
        """Take up the next frame; one that lies wholly before `wanted` is passed over unopened. False where there is none."""
        assert self._file is not None
        assert self._cipher is not None
        head = self._file.read(self._at, FRAME_HEAD_SIZE)
        length = frame_length(head)
        if length is None:
            return False
        count = int.from_bytes(head[12:16], "big")
        if self._position + count > wanted:
            found = self._cipher.open(head + self._file.read(self._at + FRAME_HEAD_SIZE, length - FRAME_HEAD_SIZE))
            if found is None or found[0].first != self._position:
                return False
            self._batch = decode_records(found[1])
        else:
            self._batch = []
        self._at += length
        self._position += count
        return True
