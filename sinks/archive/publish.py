"""Laying down what a stranger needs to read the archive: certificates, schemas, policies, the glossary.

- Each document's name is a digest of its content (for a certificate, of the key): written once, never changed.
- Under legal hold, and locked in compliance mode for the longest retention: the hold keeps it beyond the lock.
- Running it again changes nothing: what is there with the same bytes is left as it is.

By an identity of its own (`publisher`), which may set holds; the sink may not. Nothing here deletes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sealtrail.certificate import verify_certificate
from sealtrail.ending import verify_end
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.layout import GLOSSARY, certificate_key, end_key, policy_key, policy_pair_key, policy_pair_text, schema_key
from sealtrail.note import NoteKey
from sinks.archive.store import ArchiveStore, TakenError
from sinks.archive.writer import LockMode, LockRules, up_to_day


@dataclass(frozen=True, slots=True)
class Document:
    """One object: its key and its bytes."""

    key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """Keys that were written now, and how many were there already."""

    written: tuple[str, ...]
    present: int


def certificates(files: Iterable[Path], root: NoteKey) -> list[Document]:
    """The certificates in files, each verified. Raises ConfigError naming the file."""
    documents = []
    for file in files:
        try:
            data = file.read_bytes()
            documents.append(Document(certificate_key(verify_certificate(data, root).key_id), data))
        except OSError as error:
            raise ConfigError(f"setting certificates: cannot read {file}: {error.strerror}") from error
        except EvidenceError as error:
            raise ConfigError(f"setting certificates: {file}: {error}") from error
    return documents


def ends(files: Iterable[Path], certified: Iterable[Document], root: NoteKey) -> list[Document]:
    """The ends of keys in files, each verified against the certificates. Raises ConfigError naming the file."""
    known = {c.key_id: c for c in (verify_certificate(document.data, root) for document in certified)}
    documents = []
    for file in files:
        try:
            data = file.read_bytes()
            documents.append(Document(end_key(verify_end(data, known).key_id, hashlib.sha256(data).digest()), data))
        except OSError as error:
            raise ConfigError(f"setting certificates: cannot read {file}: {error.strerror}") from error
        except EvidenceError as error:
            raise ConfigError(f"setting certificates: {file}: {error}") from error
    return documents


def schemas_(schema_texts: Iterable[str]) -> list[Document]:
    """Schemas by the SHA-256 of their text."""
    encoded = (text.encode() for text in schema_texts)
    return [Document(schema_key(hashlib.sha256(data).digest()), data) for data in encoded]


def policies(files: Mapping[str, str], combined: Mapping[bytes, tuple[bytes, bytes]]) -> list[Document]:
    """Policy files by digest (hex), then what each combined hash stands for."""
    documents = [Document(policy_key(bytes.fromhex(name)), text.encode()) for name, text in files.items()]
    pairs = ((policy_pair_key(name), policy_pair_text(*pair)) for name, pair in combined.items())
    return documents + [Document(key, text.encode()) for key, text in pairs]


def glossary(data: bytes) -> Document:
    """The glossary by the SHA-256 of its bytes."""
    return Document(f"{GLOSSARY}{hashlib.sha256(data).hexdigest()}.md", data)


def publish(store: ArchiveStore, documents: Iterable[Document], longest_ms: int, now_ms: int) -> Published:
    """Write what is missing.

    Raises:
        ConfigError: a name is taken by other bytes: a key was certified anew, which takes a new key.
        EvidenceError: a document is hidden by a delete marker.
        TransientError: the store did not answer; run again.
    """
    rules = LockRules(lambda _: LockMode.COMPLIANCE, longest_ms, now_ms)
    lock = rules.lock(LockMode.COMPLIANCE, up_to_day(now_ms + longest_ms), "documents")
    written, present = [], 0
    for document in documents:
        if _is_there(store, document):
            present += 1
            continue
        try:
            store.put(document.key, document.data, lock, legal_hold=True, if_absent=True)
            written.append(document.key)
        except TakenError:
            if not _is_there(store, document):
                raise
            present += 1  # another publisher, at the same moment
    return Published(tuple(written), present)


def _is_there(store: ArchiveStore, document: Document) -> bool:
    found = [version for version in store.versions(document.key) if version.key == document.key]
    if not found:
        return False
    if found[0].is_marker:
        raise EvidenceError(f"{document.key}: hidden by a delete marker")
    if store.read(document.key, found[0].version) != document.data:
        raise ConfigError(f"{document.key}: the archive holds other bytes under this name")
    return True
