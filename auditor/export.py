"""Rows that leave for a file: written whole or not at all, and what the file holds is an event before the file has its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from auditor.access import Access
from sealtrail.errors import ConfigError

MEDIA_TYPES = {".csv": "text/csv", ".tlog-proof": "text/plain"}
JSON_LINES = "application/x-ndjson"


def export(access: Access, output: Path, write: Callable[[TextIO], int]) -> int:
    """Write rows to a file that nobody else may read, and state their number, the file's size and keyed digest.

    Args:
        write: writes all rows; gives how many.

    Raises:
        ConfigError: the file cannot be written.
        TransientError: what was exported could not be recorded; there is no file.
    """
    temporary = output.with_name(f".{output.name}.part")
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="", encoding="utf-8"
        ) as to:
            count = write(to)
            to.flush()
            os.fsync(to.fileno())
        data = temporary.read_bytes()
        access.completed(
            {
                "event_name": "trail.export_completed",
                "event_type": "EXPORT",
                "result": "SUCCESS",
                "effect": "EFFECTIVE",
                "object": {"type": "rows", "id": str(count)},
                "content_ref": {
                    "digest": access.digest(data),
                    "size": len(data),
                    "media_type": MEDIA_TYPES.get(output.suffix.lower(), JSON_LINES),
                    "location": "file",
                },
            }
        )
        temporary.replace(output)
    except OSError as error:
        raise ConfigError(f"option --output: {output}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return count
