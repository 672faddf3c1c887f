"""Where the marks are kept: how far records were released and durable. See `Marks` for what they say, `frame` for the bytes.

Two slots take turns for what is fsynced, so that a torn write leaves the one before readable; a third is written without
fsync, as often as something changes. After a kill the marks are exact; after a power loss they may lag: released records
are then sent again, and less is known to have been durable, both harmless.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from producers.spool.files import File
from producers.spool.folder import MARKS, Folder
from producers.spool.frame import SLOT_BYTES, Marks, encode_marks, new_marks

NOTE_SLOT = 2

_LOG = structlog.get_logger("producers.spool")


class MarksFile:
    """The marks of one spool; `now` is what they say."""

    def __init__(self, folder: Folder) -> None:
        self.now = Marks()
        self._folder = folder
        self._file: File | None = None
        self._slot = 0  # 0 or 1: which of the two was fsynced last

    def note(self, marks: Marks) -> None:
        """Say `marks`, without fsync; a disk that refuses is logged."""
        self.now = marks
        if self._file is not None:
            try:
                self._file.write(NOTE_SLOT * SLOT_BYTES, encode_marks(marks))
            except OSError as error:  # they lag; the slot is not trusted if it was written in part (CRC)
                _LOG.warning("marks not written", spool=str(self._folder.directory), problem=error.strerror)

    def make_durable(self) -> None:
        """Make what they say durable: in place, which needs no room on a full disk; where that fails, in a new file.

        Lost ranges that are released are forgotten. Raises OSError.
        """
        lost = tuple((a, b) for a, b in self.now.lost if b > self.now.released)
        self.now = Marks(self.now.released, self.now.durable, lost)
        file, self._file = self._file, None
        if file is not None:
            try:
                self._slot = 1 - self._slot
                file.write(self._slot * SLOT_BYTES, encode_marks(self.now))
                file.sync()
            except OSError as error:
                _LOG.warning("marks not durable", spool=str(self._folder.directory), problem=error.strerror)
                with suppress(OSError):  # after a failed fsync nothing more is expected of it
                    file.close()
            else:
                self._file = file
                return
        self._file, self._slot = self._folder.durably(MARKS, new_marks(self.now)), 0

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            with suppress(OSError):  # nothing more is expected of it
                self._file.close()
            self._file = None
