"""A copy of an archive in a folder: the same keys as file names. The only reading of files in this package.

A copy carries neither versions nor locks, so whoever verifies one is told what that cannot rule out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from sealtrail.errors import UndecidedError
from sealtrail.source import Lock, MissingObjectError, StoredObject

MAX_OBJECT = 1 << 30  # bytes; a segment or contents object is far below


class LocalCopy:
    """A `Source` over a folder. Symbolic links that lead out of it are not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every file whose path begins with the prefix, in key order.

        Raises:
            UndecidedError: a folder cannot be listed: what is in it is not known.
        """
        sizes: dict[str, int] = {}
        for folder, _, names in os.walk(self._folder / prefix.rpartition("/")[0], onerror=_undecided):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._folder).as_posix()
                if key.startswith(prefix) and self._inside(path):
                    sizes[key] = path.stat().st_size
        for key in sorted(sizes):
            yield StoredObject(key, "", is_latest=True, is_marker=False, size=sizes[key])

    def read(self, key: str, version: str) -> bytes:
        """A file's bytes; the version is not looked at.

        Raises:
            MissingObjectError: no such file within the folder.
            UndecidedError: it cannot be read.
        """
        path = self._folder / key
        if not self._inside(path):
            raise MissingObjectError(f"no file {key!r}")
        try:
            if path.stat().st_size > MAX_OBJECT:
                raise UndecidedError(f"{key}: larger than any object of an archive")
            return path.read_bytes()
        except OSError as error:
            raise UndecidedError(f"{key}: {error.strerror}") from error

    def _inside(self, path: Path) -> bool:
        """Whether a path is a file of the copy, links followed."""
        try:
            return path.resolve().is_relative_to(self._folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False  # a name that no file can have (too long, a NUL within), or links in a circle

    def lock(self, key: str, version: str) -> Lock | None:
        """None: a copy does not know."""
        return None


class LocalFile:
    """One file, read by offset. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when it cannot be opened."""
        self._file = path.open("rb")
        self._path = path
        self.size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes, fewer only where the file ends. Raises UndecidedError when it cannot be read."""
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise UndecidedError(f"{self._path}: {error.strerror}") from error


def _undecided(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise UndecidedError(f"{error.filename}: {error.strerror}") from error
