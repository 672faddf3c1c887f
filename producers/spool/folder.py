"""A spool's directory: names of files, reading one, and making one that is durable before it has its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from producers.record import RawRecord
from producers.spool.files import File, Files
from producers.spool.frame import FILE_ID_SIZE, HEAD_SIZE, FileCipher, open_head
from sealtrail.errors import ConfigError

LOCK = "lock"
MARKS = "marks"
NEW = ".new"
DAMAGED = ".damaged"
SPOOL = ".spool"


def file_name(first: int) -> str:
    """The name of the file whose first record has this position: names sort as positions do."""
    return f"{first:020d}{SPOOL}"


@dataclass(frozen=True, slots=True)
class Folder:
    """The directory of one spool, and what opens its files. OSError as it comes."""

    files: Files
    directory: Path
    key: bytes
    emitter: str
    random: Callable[[int], bytes]

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        file = self.files.open(self.directory / name)
        try:
            return file.read(0, file.size())
        finally:
            file.close()

    def cipher(self, name: str, data: bytes) -> FileCipher | None:
        """See `open_head`; the error names the file."""
        try:
            return open_head(data[:HEAD_SIZE], self.key, self.emitter)
        except ConfigError as error:
            raise ConfigError(f"{self.directory / name}: {error}") from None

    def durably(self, name: str, data: bytes) -> File:
        """A file that has `data` and its name for sure; after an OSError the old one of that name, or the new one."""
        new = self.directory / (name + NEW)
        file = self.files.create(new)
        try:
            file.write(0, data)
            file.sync()
            # Durable, under a name that does not count: a crash here leaves a `.new`, which the next opening removes.
            self.files.rename(new, self.directory / name)
            # Whoever opens now finds it. After a power loss it may be the old one or none, until the directory is durable.
            self.files.sync_directory(self.directory)
        except OSError:
            with suppress(OSError):  # the first error is the one that counts
                file.close()
            with suppress(OSError):  # a name that stays is removed by the next opening, or replaced by the next try
                self.files.remove(new)
            raise
        return file

    def begun(self, first: int, durable: int, parts: Sequence[Sequence[RawRecord]]) -> tuple[File, FileCipher, int]:
        """A durable file that begins at position `first` with `parts`; with its cipher and its bytes."""
        cipher = FileCipher(self.key, self.emitter, self.random(FILE_ID_SIZE), first)
        frames, position = [cipher.head()], first
        for number, part in enumerate(parts):
            frames.append(cipher.seal(number, position, durable, part))
            position += len(part)
        data = b"".join(frames)
        return self.durably(file_name(first), data), cipher, len(data)
