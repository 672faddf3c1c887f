"""The acts of a key's life that leave a trace in the deployment: certified, followed by another, ended.

    certify    a certificate in the folder of certificates and in the archive
    end        the successor states, per chain, where the key ended, with the root of the tree up to there

Each is an event of source publisher (type ADMIN, of the deployment's own tenant), acknowledged before what cannot be undone.

Not here: the root and the making of keys (`keystore.ceremony`), and what an end means (`sealtrail.ending`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from auditor.policy import Authority
from producers.audit import AuditProducer
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.ending import ENDING_ROLES, End, EndReason, Mark, parse_end, sign_end, verify_end
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.layout import END, end_key, parse_segment_key
from sealtrail.merkle import Frontier
from sealtrail.note import NoteKey
from sealtrail.report import Verdict
from sealtrail.seal import DEPLOYMENT_TENANT, Seal, decode_seal, leaf_hash
from sealtrail.segment import Segment, decode_segment
from sealtrail.source import Source, StoredObject
from sealtrail.sworn import genuine_checkpoint
from sealtrail.verify import Plan, Trust, plan, verify_chain

ACKNOWLEDGED_S = 30.0

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a key ended in one chain, as the archive shows it.

    Attributes:
        quiet_s: for how long others signed after it, by the seals' times; 0 where nothing follows.
        doubted: what does not verify in this chain, from which on nothing counts; "" if all does.
    """

    chain: str
    mark: Mark | None
    quiet_s: float
    doubted: str = ""


class _Unread:
    """Contents are not looked at: where a key ended does not depend on them."""

    def check(self, segment: Segment, stored: StoredObject, by_seq: Mapping[int, Seal], span: range) -> dict[int, Verdict]:
        """No verdicts."""
        return {}

    def originals(self, segment: Segment) -> None:
        """Nothing."""


def positions(source: Source, root: NoteKey, key: Certificate, since_s: float | None = None) -> list[Position]:
    """Of every chain that a key may speak for: for how many seals it counts, up to the last that it signed.

    Every chain is verified first, all but its contents: positions are taken from what verifies alone, before the first
    finding. For a source's key, whose runs are in the contents: up to the archive's end.

    Args:
        since_s: at most up to the last checkpoint made by then, seconds since 1970: what a stolen key signed later does not
            count.

    Raises:
        UndecidedError: the store does not answer.
    """
    made = plan(source, Trust(root))
    return [
        _position(source, made, chain, key, since_s) for chain in made.parts if key.role is Role.SOURCE or key.speaks_for(chain)
    ]


def _position(source: Source, made: Plan, chain: str, key: Certificate, since_s: float | None) -> Position:
    """Walks back from the chain's end, or from where it stops to verify."""
    found = [f for f in made.report.findings if f.chain == chain]
    found += verify_chain(source, made, chain, lambda *_: _Unread()).findings
    first = min(found, key=lambda f: f.seq or 0, default=None)
    until = None if first is None else first.seq or 0
    doubted = "" if first is None else f"{first.kind} at seq {first.seq}: {first.detail}"
    last_us = None
    for stored, _ in reversed(made.parts[chain].segments):
        if until is not None and parse_segment_key(stored.key)[1] >= until:
            continue
        segment = decode_segment(source.read(stored.key, stored.version))
        if until is not None and segment.next_seq > until:
            continue
        last_us = last_us or decode_seal(segment.seals[-1]).sealed_at_us
        size = _signed_up_to(segment, key)
        checkpoint = genuine_checkpoint(segment.checkpoint.encode(), made.keyring)[0]
        if size and (since_s is None or checkpoint.time_s <= since_s):
            at_us = decode_seal(segment.seals[size - 1 - segment.first_seq]).sealed_at_us
            return Position(chain, _mark(segment, size), (last_us - at_us) / 1e6, doubted)
    return Position(chain, None, 0.0, doubted)


def _signed_up_to(segment: Segment, key: Certificate) -> int:
    """The seq after the last seal of a segment that a key signed, or swore to; 0 if there is none."""
    if key.role is Role.SEALER:
        return max((seq + 1 for seq, signature in segment.signatures if signature.key_id == key.key_id), default=0)
    if key.role is Role.ARCHIVE:
        try:
            genuine_checkpoint(segment.checkpoint.encode(), Keyring([key]))
        except EvidenceError:
            return 0
    return segment.next_seq


def _mark(segment: Segment, size: int) -> Mark:
    tree = Frontier(segment.first_seq, segment.frontier)
    for data in segment.seals[: size - segment.first_seq]:
        tree.append(leaf_hash(data))
    return Mark(size, tree.root())


class Office:
    """Whoever keeps a deployment's keys, with the folder of certificates and the trail at hand.

    Args:
        settings: of role publisher.
        publish: puts what is new in the folder of certificates into the archive.
    """

    def __init__(self, settings: Settings, emitter: AuditProducer, said: Authority, publish: Callable[[], object]) -> None:
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

    def ended(self, keyring: Keyring, key: Certificate, successor: Certificate, sign: Sign, end: End) -> Path:
        """State the end of a key: in the trail, in the folder, in the archive.

        What the key itself stated of others is stated anew first, by its successor: its word counts for nothing from now on.

        Raises:
            ConfigError: it would not count: the successor may not say so now.
            TransientError: it could not be recorded.
        """
        own = [parse_end(path.read_bytes()) for path in sorted(self._folder.glob(f"*{END}"))]
        anew = [replace(e, successor=successor.key_id, made_s=end.made_s) for e in own if e.successor == key.key_id]
        paths = []
        for stated in (*anew, end):
            try:
                note = sign_end(stated, successor, sign)
                verify_end(note.encode(), keyring.by_id)
            except (ValueError, EvidenceError) as error:
                raise ConfigError(f"the end of key {stated.key_id.hex()[:16]}… would not count: {error}") from None
            digest = hashlib.sha256(note.encode()).digest()
            self._state("keys.ended", "end", digest.hex(), key)
            paths.append(self._folder / Path(end_key(stated.key_id, digest)).name)
            _write(paths[-1], note)
        self._publish()
        return paths[-1]

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
        if not self._emitter.await_broker(ACKNOWLEDGED_S):
            raise TransientError("the act could not be recorded in time; do it again", 1.0)


def end_of(key: Certificate, successor: Certificate, reason: EndReason, found: Sequence[Position], now_s: int) -> End:
    """The statement, from what the archive shows. Raises ConfigError: a key of such a role has no position to end at."""
    if key.role not in ENDING_ROLES:
        raise ConfigError(f"what keys of role {key.role} do has no position; they end with their certificate")
    marks = {position.chain: position.mark for position in found if position.mark is not None}
    return End(key.role, key.key_id, successor.key_id, reason, now_s, marks)


def require_settled(key: Certificate, found: Sequence[Position], expected: Iterable[str], settled_s: float) -> None:
    """That a superseded key's end can be stated: every chain verifies, and others have signed in it for some time.

    Args:
        expected: chains that there are; one that is not archived yet may hold what the key signed.

    Raises:
        ConfigError: naming the first chain that speaks against it.
    """
    if key.role is Role.SOURCE:
        raise ConfigError(
            "a superseded source's key ends with its certificate: runs that it opened go on; or it is compromised"
        )
    if all(position.mark is None for position in found):
        raise ConfigError("the archive shows nothing that this key signed: is it this deployment's?")
    absent = sorted(set(expected) - {position.chain for position in found})
    if absent:
        raise ConfigError(f"nothing of {absent[0]} is archived yet, and it may hold what this key signed: wait, then again")
    for position in found:
        if position.doubted:
            raise ConfigError(f"{position.chain} does not verify: {position.doubted}")
        if position.mark is not None and (not position.quiet_s or position.quiet_s < settled_s):
            raise ConfigError(
                f"in {position.chain} others have signed for {position.quiet_s:,.0f} s after it, as far as the archive shows; "
                f"wait until it is {settled_s:,.0f} s (an idle chain is archived once an hour). A chain of a topic that is no "
                "more: --closed CHAIN"
            )


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
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
