"""What the spool asks of a file system, and the real one.

Small on purpose: each act here is one that a crash can interrupt, and that tests can interrupt. `tests/spooling/disk.py` is
the same interface over a disk that discards what was not fsynced.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class File(Protocol):
    """An open file. Nothing is durable before `sync` has returned; OSError as the system reports it."""

    def read(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from offset `at`; fewer at the end of the file."""

    def write(self, at: int, data: bytes) -> None:
        """All of `data` from offset `at`. After an error any part of it may be there."""

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""

    def size(self) -> int:
        """Bytes in it."""

    def sync(self) -> None:
        """Durable when it returns. After an error the system may have dropped what was to be written, and a second
        try may succeed without writing it: so there is no second try on the same file."""

    def close(self) -> None:
        """Give the handle back. Makes nothing durable."""


class Lock(Protocol):
    """A lock that goes with the process that holds it."""

    @property
    def held(self) -> bool:
        """Whether this process still holds it; False in a forked child."""

    def release(self) -> None:
        """Let others take it."""


class Files(Protocol):
    """A file system. A name made, replaced or removed is durable only after `sync_directory`. OSError as it comes."""

    def make_directory(self, directory: Path) -> None:
        """Make it, its parents too, for the owner alone, durably; an existing one is no error."""

    def names(self, directory: Path) -> list[str]:
        """The names in it, sorted."""

    def create(self, path: Path) -> File:
        """A new, empty file for the owner alone; an older one of that name is removed first."""

    def open(self, path: Path) -> File:
        """An existing file, to read and to write."""

    def rename(self, old: Path, new: Path) -> None:
        """Under the new name, in place of what had it: at every moment the name leads to one of the two."""

    def remove(self, path: Path) -> None:
        """Remove a name."""

    def sync_directory(self, directory: Path) -> None:
        """Its names are durable when it returns."""

    def lock(self, path: Path) -> Lock | None:
        """The one lock on `path`, which is made if need be; None when another process or spool holds it."""


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, at: int, size: int) -> bytes:
        """See `File`."""
        data = os.pread(self._fd, size, at)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), at + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, at: int, data: bytes) -> None:
        """See `File`."""
        done = os.pwrite(self._fd, data, at)
        while done < len(data):  # a nearly full disk takes a part, and says why at the next call
            done += os.pwrite(self._fd, data[done:], at + done)

    def truncate(self, size: int) -> None:
        """See `File`."""
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        """See `File`."""
        return os.fstat(self._fd).st_size

    def sync(self) -> None:
        """See `File`."""
        os.fsync(self._fd)

    def close(self) -> None:
        """See `File`."""
        os.close(self._fd)


class OsLock:
    """flock: the kernel lets go of it when the last descriptor of the holder is closed, however the holder ended."""

    __slots__ = ("__weakref__", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _LOCKS.add(self)

    @property
    def held(self) -> bool:
        """See `Lock`."""
        return self._fd >= 0

    def release(self) -> None:
        """See `Lock`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class OsFiles:
    """The file system of this machine. POSIX: flock, directories that can be fsynced."""

    def make_directory(self, directory: Path) -> None:
        """See `Files`."""
        if not directory.is_dir():
            self.make_directory(directory.parent)
            directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            self.sync_directory(directory.parent)

    def names(self, directory: Path) -> list[str]:
        """See `Files`."""
        return sorted(entry.name for entry in directory.iterdir())

    def create(self, path: Path) -> OsFile:
        """See `Files`."""
        path.unlink(missing_ok=True)
        return OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE))

    def open(self, path: Path) -> OsFile:
        """See `Files`."""
        return OsFile(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))

    def rename(self, old: Path, new: Path) -> None:
        """See `Files`."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """See `Files`."""
        path.unlink()

    def sync_directory(self, directory: Path) -> None:
        """See `Files`."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> OsLock | None:
        """See `Files`."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            os.close(fd)
            raise
        return OsLock(fd)


_LOCKS: weakref.WeakSet[OsLock] = weakref.WeakSet()


def _after_fork() -> None:
    """The child's copy of the descriptor would hold the lock when the parent is dead."""
    for lock in list(_LOCKS):
        with suppress(OSError):  # closed already: what was wanted
            lock.release()


os.register_at_fork(after_in_child=_after_fork)
