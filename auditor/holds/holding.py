"""Placing, checking and lifting a hold: each step may be the last one, and running it again completes it.

Placing:
    1  record PLACING                        from here on `list` says PARTIAL
    2  copy every frame in scope             by digest, if absent, under S3 legal hold
    3  items and manifest                    the auditor's signature, under legal hold
    4  event hold.placed, acknowledged       who, which matter, which manifest
    5  record IN_FORCE                       only now it is answered
Placing again with the same scope adds what was archived since, and never drops what was held. What is archived after a hold was
placed is held by its own lock alone until somebody does: nothing does it by itself yet.

Lifting states the event first and takes the holds off after: protection never ends unrecorded. Nothing is deleted here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from auditor.archive import ArchiveReader
from auditor.holds.registry import Recorded, Registry
from keystore import Signer
from sealtrail.errors import ContractError, EvidenceError, TransientError
from sealtrail.hold import (
    Item,
    Manifest,
    Scope,
    decode_items,
    encode_items,
    frame_copy,
    frame_key,
    is_matter,
    items_key,
    manifest_key,
    sign_manifest,
    verify_manifest,
)
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, DAY_MS, lock_date_ms
from sealtrail.seal import decode_seal
from sealtrail.segment import Segment, decode_frames, decode_segment
from sealtrail.source import MissingObjectError
from sinks.archive.store import ArchiveStore, TakenError
from sinks.archive.writer import Lock, LockMode

EVENT_S = 30.0


class StatingEmitter(Protocol):
    """An `Emitter` that can say when Kafka has what it was given."""

    def emit(self, draft: Mapping[str, object]) -> bytes: ...
    def await_broker(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds: stores, keys, clock.

    Attributes:
        person: who asks; hashed in the event.
        now_us: microseconds since 1970.
    """

    reader: ArchiveReader
    store: ArchiveStore
    registry: Registry
    emitter: StatingEmitter
    signer: Signer
    keyring: Keyring
    authority: str
    chains: str
    person: str
    now_us: Callable[[], int]


@dataclass(slots=True)
class Placed:
    """What placing did: frames held in all, of these copied now, bytes copied, contents that were gone, expired, before."""

    frames: int = 0
    copied: int = 0
    size: int = 0
    expired: int = 0
    event: bytes = b""
    manifest: str = ""


@dataclass(slots=True)
class State:
    """A matter as it is: `state` is IN FORCE, PARTIAL, LIFTED or DAMAGED, and `problems` say why."""

    matter: str
    scope: Scope
    state: str
    frames: int = 0
    ticket: str | None = None
    problems: list[str] = field(default_factory=list)


def place(holder: Holder, matter: str, scope: Scope, reason: str, ticket: str | None) -> Placed:
    """Put a matter in force, or complete one, or add to it what was archived since.

    Raises:
        ContractError: not a matter's name, or the matter has another scope or was lifted.
        EvidenceError: what is in the archive is not what its segment says; nothing is answered as held.
        TransientError, UndecidedError, ConfigError: run it again.
    """
    if not is_matter(matter):
        raise ContractError("matter", "expected lower case letters, digits and ._-, at most 63")
    known = holder.registry.all().get(matter)
    if known is not None and known.state in ("LIFTING", "LIFTED"):
        raise ContractError("matter", "was lifted; a new hold needs a name of its own")
    if known is not None and known.scope != scope:
        raise ContractError("matter", f"is there with another scope: {known.scope}")
    if known is None:
        holder.registry.write(Recorded(matter, scope, "PLACING", holder.now_us(), ticket))
    items = _known_items(holder, known)
    done = Placed()
    for item, size in _copies(holder, matter, scope, done):
        items[item.digest] = item
        done.copied += bool(size)
        done.size += size
    done.frames = len(items)
    manifest = _write_manifest(holder, matter, scope, items)
    done.manifest = manifest["name"]
    done.event = _state(holder, "hold.placed", matter, scope, manifest, reason, ticket)
    holder.registry.write(Recorded(matter, scope, "IN_FORCE", holder.now_us(), ticket, manifest, done.event))
    return done


def lift(holder: Holder, matter: str, reason: str, ticket: str | None) -> int:
    """Take the legal holds off a matter's copies; how many. Raises as `place`."""
    known = holder.registry.all().get(matter)
    if known is None or known.state == "PLACING":
        raise ContractError("matter", "is not in force")
    if known.state == "LIFTED":
        raise ContractError("matter", "was lifted already")
    items = _known_items(holder, known)
    event = known.event_id
    if known.state != "LIFTING":
        event = _state(holder, "hold.lifted", matter, known.scope, known.manifest, reason, ticket)
        lifting = Recorded(matter, known.scope, "LIFTING", holder.now_us(), ticket, known.manifest, event)
        holder.registry.write(lifting)
    for item in items.values():
        holder.store.set_legal_hold(frame_key(matter, item.digest), item.version, on=False)
    lifted = Recorded(matter, known.scope, "LIFTED", holder.now_us(), ticket, known.manifest, event)
    holder.registry.write(lifted)
    return len(items)


def check(holder: Holder, known: Recorded) -> State:
    """A matter's record against the bucket: every copy there, under hold, with its digest. Raises UndecidedError."""
    found = State(known.matter, known.scope, known.state.replace("_", " "), ticket=known.ticket)
    if known.state in ("PLACING", "LIFTING"):
        found.state = "PARTIAL"
        found.problems.append(f"{known.state.lower()} was not completed: run it again")
    if known.manifest is None:
        return found
    try:
        items = _known_items(holder, known)
    except EvidenceError as error:
        found.state = "DAMAGED"
        found.problems.append(str(error))
        return found
    found.frames = len(items)
    if known.state == "IN_FORCE":
        for item in items.values():
            problem = _problem(holder, known.matter, item)
            if problem:
                found.state = "DAMAGED"
                found.problems.append(problem)
    return found


def _problem(holder: Holder, matter: str, item: Item) -> str:
    key = frame_key(matter, item.digest)
    try:
        data = holder.reader.read(key, item.version)
        lock = holder.reader.lock(key, item.version)
    except MissingObjectError:
        return f"{key}: is not there"
    if hashlib.sha256(data).digest() != item.digest:
        return f"{key}: has other bytes"
    return "" if lock is not None and lock.legal_hold else f"{key}: is not under legal hold"


def _known_items(holder: Holder, known: Recorded | None) -> dict[bytes, Item]:
    """What a record's manifest names, signature and digests checked, by digest of the frame."""
    if known is None or known.manifest is None:
        return {}
    said = known.manifest
    data = holder.reader.read(said["name"], said["version"])
    if hashlib.sha256(data).digest() != said["sha256"]:
        raise EvidenceError(f"{said['name']}: not the manifest that was recorded")
    manifest = verify_manifest(data, holder.keyring)
    if (manifest.matter, manifest.scope) != (known.matter, known.scope):
        raise EvidenceError(f"{said['name']}: speaks of another hold")
    listed = holder.reader.read(items_key(known.matter, manifest.items), said["items_version"])
    if hashlib.sha256(listed).digest() != manifest.items:
        raise EvidenceError(f"{said['name']}: its list of items has other bytes")
    return {item.digest: item for item in decode_items(listed)}


def _copies(holder: Holder, matter: str, scope: Scope, done: Placed) -> Iterator[tuple[Item, int]]:
    """Every frame in scope, copied; the bytes written now, 0 for what was there."""
    for segment in _segments(holder):
        times = [decode_seal(data).sealed_at_us for data in segment.seals]
        for reference in segment.contents:
            try:
                data = holder.reader.read(reference.name, reference.version)
            except MissingObjectError:
                if lock_date_ms(reference.name) * 1000 > holder.now_us():
                    raise
                done.expired += 1  # deleted in its time, before anybody held it
                continue
            if hashlib.sha256(data).digest() != reference.sha256:
                raise EvidenceError(f"{reference.name} version {reference.version}: not the bytes that its segment names")
            for index, frame in enumerate(decode_frames(data)):
                if scope.covers(frame, times[0], times[-1]):
                    copy, digest = frame_copy(frame)
                    version, written = _put(holder, frame_key(matter, digest), copy)
                    yield Item(digest, version, reference.name, reference.version, index), len(copy) if written else 0


def _segments(holder: Holder) -> Iterator[Segment]:
    for stored in holder.reader.list(CHAINS + holder.chains):
        if not stored.is_marker:
            yield decode_segment(holder.reader.read(stored.key, stored.version))


def _put(holder: Holder, key: str, data: bytes) -> tuple[str, bool]:
    """Put an object under legal hold unless it is there with the same bytes; its version, and whether it was written."""
    tomorrow = Lock(LockMode.COMPLIANCE, (holder.now_us() // 1000 // DAY_MS + 2) * DAY_MS)
    try:
        return holder.store.put(key, data, tomorrow, legal_hold=True, if_absent=True), True
    except TakenError:
        pass
    versions = [v for v in holder.reader.list(key) if v.key == key and not v.is_marker]
    for version in versions:
        if holder.reader.read(key, version.version) == data:
            holder.store.set_legal_hold(key, version.version, on=True)
            return version.version, False
    if versions:
        raise EvidenceError(f"{key}: something else lies under this name")
    # a delete marker hides what was there, or the reply to an earlier try was lost: what is written now is a version of its own
    return holder.store.put(key, data, tomorrow, legal_hold=True), True


def _write_manifest(holder: Holder, matter: str, scope: Scope, items: Mapping[bytes, Item]) -> dict[str, Any]:
    """Items and manifest in the archive; what the record says of them."""
    listed = encode_items(items.values())
    digest = hashlib.sha256(listed).digest()
    items_version, _ = _put(holder, items_key(matter, digest), listed)
    manifest = Manifest(matter, scope, holder.now_us(), len(items), digest)
    note = sign_manifest(manifest, holder.authority, holder.signer.public, holder.signer.sign)
    name = hashlib.sha256(note).digest()
    version, _ = _put(holder, manifest_key(matter, name), note)
    return {
        "name": manifest_key(matter, name),
        "version": version,
        "sha256": name,
        "items_version": items_version,
        "items": len(items),
    }


def _state(
    holder: Holder,
    name: str,
    matter: str,
    scope: Scope,
    manifest: Mapping[str, Any] | None,
    reason: str,
    ticket: str | None,
) -> bytes:
    """The event of the act, acknowledged; its id. Raises TransientError."""
    event_id = holder.emitter.emit(
        {
            "event_name": name,
            "event_type": "HOLD",
            "tenant": scope.tenant,
            "result": "SUCCESS",
            "effect": "EFFECTIVE",
            "source_system": "sealtrail",
            "target_system": "archive",
            "object": {"type": "matter", "id": matter},
            "correlation_id": f"manifest:{manifest['sha256'].hex()}" if manifest else None,
            "ticket": ticket,
            "reason": reason or None,
            "actor": {"kind": "USER", "id": holder.person, "display": None},
            "changes": [],
        }
    )
    if not holder.emitter.await_broker(EVENT_S):
        raise TransientError(f"event {name} was not acknowledged; run it again")
    return event_id
