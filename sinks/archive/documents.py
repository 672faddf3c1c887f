"""Whether the archive already holds what a stranger needs to read a segment: schemas, policies, certificates.

The publisher writes them (`publish`); the sink only looks, once for each name, and commits nothing that could not be
read without asking us.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Protocol

from sealtrail.avro import Codec, packaged
from sealtrail.errors import EvidenceError, TransientError
from sealtrail.layout import certificate_key, policy_key, policy_pair_key, policy_pair_text, schema_key
from sealtrail.seal import SEAL, ZERO_DIGEST
from sealtrail.segment import FRAME, SEGMENT
from sinks.archive.checking import Entry

RETRY_S = 10.0  # someone has to run a command
_PAIR = re.compile(r"base ([0-9a-f]{64})\ntenant ([0-9a-f]{64})\n")
_FORMATS = (SEAL.sha256, SEGMENT.sha256, FRAME.sha256, Codec(packaged("row")).sha256)


class DocumentStore(Protocol):
    """Looks at current objects. Raises TransientError when the store does not answer, ConfigError without the right."""

    def exists(self, key: str) -> bool:
        """Whether something is there."""

    def read_latest(self, key: str) -> bytes | None:
        """What is there, or None."""


class Documents:
    """What was found in the archive so far. Documents are under legal hold, so a name once found stays found."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._found: set[str] = set()
        self._policies: set[bytes] = set()

    def require(self, entries: Iterable[Entry], archive_key_id: bytes) -> None:
        """Check that everything is there that these entries and the segment's notes refer to.

        Raises:
            TransientError: something is missing; names it, and the command that puts it there.
            EvidenceError: a policy's file of digests has another text than its name says.
        """
        keys = {certificate_key(archive_key_id), *(schema_key(digest) for digest in _FORMATS)}
        policies = set()
        for entry in entries:
            keys.add(schema_key(entry.content.content_schema))
            policies.add(entry.content.policy)
            if entry.signature is not None:
                keys.add(certificate_key(entry.signature.key_id))
        missing = [key for key in sorted(keys) if not self._there(key)]
        for combined in sorted(policies - self._policies):
            absent = self._missing_of_policy(combined)
            missing += absent
            if not absent:
                self._policies.add(combined)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise TransientError(
                f"the archive lacks {missing[0]}{more}: run `sealtrail archive publish`; nothing is archived before",
                RETRY_S,
            )

    def _there(self, key: str) -> bool:
        if key not in self._found and self._store.exists(key):
            self._found.add(key)
        return key in self._found

    def _missing_of_policy(self, combined: bytes) -> list[str]:
        key = policy_pair_key(combined)
        data = self._store.read_latest(key)
        if data is None:
            return [key]
        match = _PAIR.fullmatch(data.decode("ascii", "replace"))
        if match is None:
            raise EvidenceError(f"{key}: not the two digests of a policy")
        base, tenant = bytes.fromhex(match.group(1)), bytes.fromhex(match.group(2))
        if policy_pair_text(base, tenant).encode() != data:
            raise EvidenceError(f"{key}: not the two digests of a policy")
        if hashlib.sha256(base + tenant).digest() != combined:
            raise EvidenceError(f"{key}: not the two digests that its name stands for")
        files = [base] if tenant == ZERO_DIGEST else [base, tenant]
        return [name for name in map(policy_key, files) if not self._there(name)]
