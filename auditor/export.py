"""Rows that leave for a file: written whole or not at all, and what the file holds is an event before the file has its name."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

from auditor.access import Access
from sealtrail.errors import ConfigError

CSV, JSON_LINES, TEXT, TAR = "text/csv", "application/x-ndjson", "text/plain", "application/x-tar"
CHUNK = 1 << 20


def export(access: Access, output: Path, write: Callable[[BinaryIO], int], media_type: str, *, option: str = "--output") -> int:
    """Write rows to a file that nobody else may read, and state their number, the file's size and keyed digest.

    Args:
        write: writes all rows, and may read them again; gives how many.
        option: whose value the file's name is.

    Raises:
        ConfigError: the file cannot be written.
        TransientError: what was exported could not be recorded; there is no file.
    """
    temporary = output.with_name(f".{output.name}.part")
    try:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as to:
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
    except OSError as error:
        raise ConfigError(f"option {option}: {output}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


def as_text(write: Callable[[TextIO], int]) -> Callable[[BinaryIO], int]:
    """What writes text, as `export` wants it: UTF-8, line ends as they are written."""

    def encoded(to: BinaryIO) -> int:
        text = io.TextIOWrapper(to, encoding="utf-8", newline="")
        count = write(text)
        text.detach()
        return count

    return encoded
