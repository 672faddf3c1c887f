"""A copy of the archive on disk: the objects that segments name, by their version, and all documents."""

from __future__ import annotations

from pathlib import Path

from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.layout import CHAINS, DOCUMENT_PREFIXES
from sealtrail.segment import decode_segment
from sealtrail.source import Source, StoredObject


def copy_archive(source: Source, folder: Path, chain_prefix: str = "") -> tuple[int, int]:
    """Copy; returns the number of objects and of bytes.

    A segment that hides under a marker or another version is copied in its first version, as a verifier reads it;
    one that cannot be parsed is copied as it is, without contents: the verifier will say why.

    Raises:
        ConfigError: the folder holds something already.
        UndecidedError: the store did not answer.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty")
    count = size = 0
    oldest: dict[str, StoredObject] = {}
    for prefix in (CHAINS + chain_prefix, *DOCUMENT_PREFIXES):
        for stored in source.list(prefix):
            if not stored.is_marker:
                oldest[stored.key] = stored
    for stored in oldest.values():
        data = source.read(stored.key, stored.version)
        size, count = size + _write(folder, stored.key, data), count + 1
        if not stored.key.startswith(CHAINS):
            continue
        try:
            references = decode_segment(data).contents
        except EvidenceError:
            continue  # see the docstring
        for reference in references:
            try:
                content = source.read(reference.name, reference.version)
            except EvidenceError:
                continue  # not there: the verifier will find it missing
            size, count = size + _write(folder, reference.name, content), count + 1
    return count, size


def _write(folder: Path, key: str, data: bytes) -> int:
    path = (folder / key).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise EvidenceError(f"object key {key} leads out of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)
