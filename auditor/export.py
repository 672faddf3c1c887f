"""Rows that leave for a file: written whole or not at all, and what the file holds is an event before the file has its name.

Until then they lie beside it, under a name that nobody can know beforehand, readable by this user alone. A command that is
asked to end (SIGTERM, SIGHUP) takes them away; one that is killed leaves them.
"""

from __future__ import annotations

import io
import os
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import BinaryIO, TextIO

from auditor.access import Access
from sealtrail.errors import ConfigError

CSV, JSON_LINES, TEXT, TAR = "text/csv", "application/x-ndjson", "text/plain", "application/x-tar"
CHUNK = 1 << 20
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def check_output(output: Path, option: str = "--output") -> None:
    """That a file can get this name, as far as it shows beforehand: to be asked before the export is stated.

    Raises:
        ConfigError: a folder, or what is no plain file, has it; its folder is not there, or one may not write in it.
    """
    try:
        if not stat.S_ISREG(output.stat().st_mode):
            raise ConfigError(f"option {option}: {output}: not a plain file")
    except FileNotFoundError:  # or the folder is not there either
        pass
    except OSError as error:
        raise ConfigError(f"option {option}: {output}: {error.strerror}") from None
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"option {option}: {output}: its folder is not there, or not to write in")


def export(access: Access, output: Path, write: Callable[[BinaryIO], int], media_type: str, *, option: str = "--output") -> int:
    """Write rows to a file that nobody else may read, and state their number, the file's size and keyed digest.

    Args:
        write: writes all rows, and may read them again; gives how many.
        option: whose value the file's name is.

    Raises:
        ConfigError: the file cannot be written.
        TransientError: what was exported could not be recorded; there is no file.
        SystemExit: the command was asked to end; there is no file.
    """
    with _ended_by_signals():
        return _export(access, output, write, media_type, option)


def _export(access: Access, output: Path, write: Callable[[BinaryIO], int], media_type: str, option: str) -> int:
    temporary = output.parent / f".{secrets.token_hex(16)}.part"
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as to:
                count = write(to)
                to.flush()
                os.fsync(to.fileno())
                size = to.seek(0, os.SEEK_END)
                to.seek(0)
                digest = access.digest(iter(partial(to.read, CHUNK), b""))
            access.completed(
                {
                    "event_name": "trail.export_completed",
                    "event_type": "EXPORT",
                    "result": "SUCCESS",
                    "effect": "EFFECTIVE",
                    "object": {"type": "rows", "id": str(count)},
                    "content_ref": {"digest": digest, "size": size, "media_type": media_type, "location": "file"},
                }
            )
            temporary.replace(output)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"option {option}: {output}: {error.strerror}") from None
    return count


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, unless somebody handles or ignores them, end the command as an exception does."""
    free = [each for each in _ENDING if signal.getsignal(each) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        free = []  # handlers are the main thread's to set

    def end(number: int, _: FrameType | None) -> None:
        for each in free:
            signal.signal(each, signal.SIG_IGN)  # a second one must not end the taking away
        raise SystemExit(128 + number)

    for each in free:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in free:
            signal.signal(each, signal.SIG_DFL)


def as_text(write: Callable[[TextIO], int]) -> Callable[[BinaryIO], int]:
    """What writes text, as `export` wants it: UTF-8, line ends as they are written."""

    def encoded(to: BinaryIO) -> int:
        text = io.TextIOWrapper(to, encoding="utf-8", newline="")
        count = write(text)
        text.detach()
        return count

    return encoded
