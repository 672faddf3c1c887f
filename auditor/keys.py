"""The acts of a key's life that leave a trace in the deployment: certified, followed by another, ended.

    certify    a certificate in the folder of certificates and in the archive
    rotate     certify a successor, publish it, and only then put its private half where its holder takes it up
    end        the successor states, per chain, where the key ended, with the root of the tree up to there

Each is an event of source publisher (type ADMIN, of the deployment's own tenant), acknowledged before the next step that
cannot be undone. Doing an act again after a failure does what is missing.

Not here: the root and the making of keys (`keystore.ceremony`), and what an end means (`sealtrail.ending`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from producers.audit import AuditProducer
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.ending import ENDING_ROLES, End, EndReason, Mark, sign_end
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, end_key, parse_segment_key
from sealtrail.merkle import Frontier
from sealtrail.seal import DEPLOYMENT_TENANT, leaf_hash
from sealtrail.segment import Segment, decode_segment
from sealtrail.source import Source, StoredObject
from sealtrail.sworn import sworn

ACKNOWLEDGED_S = 30.0

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Said:
    """Who does it, and on what grounds."""

    person: str
    reason: str
    ticket: str | None = None
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a key ended in one chain, as the archive shows it; `at_head`: nothing of a successor follows."""

    chain: str
    mark: Mark
    at_head: bool


def positions(source: Source, keyring: Keyring, key: Certificate, prefix: str, since_s: float | None = None) -> list[Position]:
    """Per chain, for how many seals a key counts: up to the last that it signed.

    For a source's key, whose runs are in the contents: up to the archive's end. With `since_s`, at most up to the last
    checkpoint made by then: what a stolen key signed later does not count.

    Raises:
        EvidenceError: a segment that it rests on does not verify.
        UndecidedError: the store does not answer.
    """
    found = []
    listed = (stored for stored in source.list(CHAINS + prefix) if not stored.is_marker)
    for chain, group in groupby(listed, key=lambda stored: parse_segment_key(stored.key)[0]):
        position = _position(source, keyring, key, chain, list(group), since_s)
        if position is not None:
            found.append(position)
    return found


def _position(
    source: Source, keyring: Keyring, key: Certificate, chain: str, segments: Sequence[StoredObject], since_s: float | None
) -> Position | None:
    """Walks back from the chain's end; None where the key signed nothing that counts."""
    at_head = True
    for stored in reversed(segments):
        segment = decode_segment(source.read(stored.key, stored.version))
        checkpoint = sworn(segment, keyring).checkpoint
        if checkpoint is None:
            raise EvidenceError(f"{stored.key}: its checkpoint is not genuine; verify the archive first")
        size = _signed_up_to(segment, key)
        if size and (since_s is None or checkpoint.time_s <= since_s):
            tree = Frontier(segment.first_seq, segment.frontier)
            root = b""
            for data in segment.seals:
                tree.append(leaf_hash(data))
                if tree.size == size:
                    root = tree.root()
            if (tree.size, tree.root()) != (checkpoint.checkpoint.size, checkpoint.checkpoint.root):
                raise EvidenceError(f"{stored.key}: its seals are not those of its checkpoint; verify the archive first")
            return Position(chain, Mark(size, root), at_head and size == tree.size)
        at_head = False
    return None


def _signed_up_to(segment: Segment, key: Certificate) -> int:
    """The seq after the last seal of a segment that a key signed, or swore to; 0 if there is none."""
    if key.role is Role.SEALER:
        return max((seq + 1 for seq, signature in segment.signatures if signature.key_id == key.key_id), default=0)
    if key.role is Role.ARCHIVE:
        alone = Keyring([key])
        return segment.next_seq if sworn(segment, alone).checkpoint is not None else 0
    return segment.next_seq


class Office:
    """Whoever keeps a deployment's keys, with the folder of certificates and the trail at hand.

    Args:
        settings: of role publisher.
        publish: puts what is new in the folder of certificates into the archive.
    """

    def __init__(self, settings: Settings, emitter: AuditProducer, said: Said, publish: Callable[[], object]) -> None:
        settings.require("certificates")
        if settings.certificates is None:
            raise AssertionError("require() lets no empty setting pass")
        self._folder = settings.certificates
        self._emitter = emitter
        self._said = said
        self._publish = publish

    def certified(self, certificate: Certificate, note: str, name: str) -> Path:
        """Lay a certificate down, publish it and state it. Raises ConfigError, TransientError."""
        self._state("keys.certified", "key", certificate.key_id.hex(), certificate)
        path = write_certificate(self._folder, name, note)
        self._publish()
        return path

    def ended(self, key: Certificate, successor: Certificate, sign: Sign, end: End) -> Path:
        """State the end of a key: in the trail, in the folder, in the archive. Raises ConfigError, TransientError."""
        note = sign_end(end, successor, sign)
        digest = hashlib.sha256(note.encode()).digest()
        self._state("keys.ended", "end", digest.hex(), key)
        path = self._folder / Path(end_key(end.key_id, digest)).name
        _write(path, note)
        self._publish()
        return path

    def _state(self, event: str, kind: str, identifier: str, key: Certificate) -> None:
        said = self._said
        self._emitter.emit(
            {
                "event_name": event,
                "tenant": DEPLOYMENT_TENANT,
                "event_type": "ADMIN",
                "result": "SUCCESS",
                "effect": "EFFECTIVE",
                "source_system": "sealtrail",
                "target_system": "sealtrail",
                "object": {"type": kind, "id": identifier},
                "correlation_id": key.key_id.hex(),
                "ticket": said.ticket,
                "actor": {"kind": "USER", "id": said.person, "display": None},
                "approver": said.approver,
                "reason": said.reason or None,
                "changes": [],
                "authorization": {
                    "method": "CERTIFICATE",
                    "scopes": ["role:publisher", f"key:{key.role}"],
                    "policy": None,
                    "policy_version": None,
                    "decision": "NOT_CHECKED",
                },
            }
        )
        if not self._emitter.wait_acknowledged(ACKNOWLEDGED_S):
            raise TransientError("the act could not be recorded in time; do it again", 1.0)


def end_of(key: Certificate, successor: Certificate, reason: EndReason, found: Sequence[Position], now_s: int) -> End:
    """The statement, from what the archive shows.

    Raises:
        ConfigError: a key of such a role cannot end so, or, superseded, it still signs in some chain.
    """
    if key.role not in ENDING_ROLES:
        raise ConfigError(f"what keys of role {key.role} do has no position; they end with their certificate")
    still = [position.chain for position in found if position.at_head]
    if still and reason is EndReason.SUPERSEDED and key.role is not Role.SOURCE:
        raise ConfigError(
            f"in {len(still)} chains, {still[0]} first, the archive shows nothing of a successor yet: wait until it does "
            "(an idle chain is archived once an hour), or state it as compromised"
        )
    marks = {position.chain: position.mark for position in found}
    return End(key.role, key.key_id, successor.key_id, reason, now_s, marks)


def write_certificate(folder: Path, name: str, note: str) -> Path:
    """Lay a certificate into a folder of certificates. Raises ConfigError."""
    path = folder / f"{name}.cert"
    _write(path, note)
    return path


def _write(path: Path, text: str) -> None:
    """Whole or not at all; what is there with the same text stays, with another one is an error."""
    if path.exists():
        if path.read_text("utf-8") != text:
            raise ConfigError(f"{path} holds something else")
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
