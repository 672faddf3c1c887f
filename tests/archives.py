"""Small archives for tests of verification: made by the sink's pure builder from keys of fixed seeds, then damaged.

An `Archive` is a `Source` in memory that keeps versions, delete markers and locks as a store does. A `ChainScript` is a
sealer that writes what a test asks for; `Built` keeps what was sealed, so that a test can name what it damages. Only the
ciphertexts of frames differ from run to run: HPKE draws its own randomness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrail import layout
from sealtrail.avro import Codec
from sealtrail.certificate import Certificate, Role, issue, verify_certificate
from sealtrail.checkpoint import Checkpoint, sign_checkpoint
from sealtrail.contents import Openers
from sealtrail.emitters import CLOSE_EVENT, OPEN_EVENT
from sealtrail.ending import End, EndReason, Mark, sign_end
from sealtrail.merkle import Frontier, root_of
from sealtrail.note import ED25519, NoteKey
from sealtrail.report import Report
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    SEAL_NOTE,
    ZERO_DIGEST,
    ZERO_EVENT_ID,
    Content,
    Kind,
    LogClass,
    Reason,
    Seal,
    Signature,
    decode_seal,
    decode_sealed_event,
    encode_note,
    encode_seal,
    leaf_hash,
    seal_message,
)
from sealtrail.segment import (
    Reference,
    Segment,
    decode_segment,
    encode_segment,
    sign_statement,
    statement_text,
)
from sealtrail.session import RUN_SESSION, Run, audience_of, hpke_open, open_run
from sealtrail.source import Lock, MissingObjectError, StoredObject
from sealtrail.verify import Trust, verify_archive
from sinks.archive.checking import Entry, Position
from sinks.archive.writer import Head, LockMode, LockRules, build_segment, contents_object, parts_of, segment_lock
from tests.chains import SECOND_US, START_US, ChainMaker
from tests.strategies import minimal_event

# The event as it was when the vectors were kept: evidence must go on verifying whatever the contract becomes.
EVENT = Codec(next((Path(__file__).parent / "vectors/kept/archive/schemas").glob("2537abb7*.avsc")).read_text("utf-8"))
START_S = START_US // SECOND_US
NOT_BEFORE_S, NOT_AFTER_S = START_S - 86_400, START_S + 365 * 86_400
RULES = LockRules(lambda _: LockMode.COMPLIANCE, 365 * layout.DAY_MS, START_S * 1000)
TENANTS = ("acme", "globex", DEPLOYMENT_TENANT)
TOPIC_UUID = b"\x1f\x0c\x2a\x9b" + bytes(12)
CHAINS = tuple(layout.chain_name("audit.example", "local", "audit.raw", TOPIC_UUID, 0, partition) for partition in range(2))


def seed(name: str) -> bytes:
    """32 bytes that depend on a name alone."""
    return hashlib.sha256(f"tests of sealtrail: {name}".encode()).digest()


def signing_key(name: str) -> Ed25519PrivateKey:
    """The signing key of that name."""
    return Ed25519PrivateKey.from_private_bytes(seed(name))


def opening_key(name: str) -> X25519PrivateKey:
    """The X25519 key of that name."""
    return X25519PrivateKey.from_private_bytes(seed(name))


def public_of(name: str) -> bytes:
    """The raw public key of `signing_key(name)`."""
    return signing_key(name).public_key().public_bytes_raw()


def tenant_public(tenant: str) -> bytes:
    """The data key of a tenant, public half."""
    return opening_key(f"tenant-data-{tenant}").public_key().public_bytes_raw()


PART = "audit.example/local"  # what sealers and archives of these tests speak for
AUDIENCE = audience_of("audit.example", "local", "audit.raw")
ROOT = NoteKey("audit.example/root", ED25519, public_of("root"))


def certificate(name: str, role: Role, label: str = PART, *, before_s: int = NOT_BEFORE_S, after_s: int = NOT_AFTER_S) -> bytes:
    """A certificate by the root for `signing_key(name)`; `label` is the certificate's name."""
    certified = Certificate(role, label, public_of(name), before_s, after_s)
    return issue(certified, ROOT, signing_key("root").sign).encode()


def openers(*tenants: str) -> Openers:
    """HPKE openers of these tenants' data keys."""
    return {hashlib.sha256(tenant_public(t)).digest(): partial(hpke_open, opening_key(f"tenant-data-{t}")) for t in tenants}


def counted(name: str) -> Callable[[int], bytes]:
    """Bytes that look random and are the same every time."""
    drawn = 0

    def random(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_128(f"{name} {drawn}".encode()).digest(size)

    return random


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; `data` is None for a delete marker."""

    version: str
    data: bytes | None
    lock: Lock


@dataclass
class Archive:
    """A `Source` in memory; versions of a key newest first. `replaced` damages what no store would let be damaged."""

    objects: dict[str, list[Version]] = field(default_factory=dict)
    without_locks: bool = False

    def put(self, key: str, data: bytes | None, until_ms: int = 0, mode: str = "COMPLIANCE") -> str:
        """A new version on top, or a delete marker."""
        versions = self.objects.setdefault(key, [])
        version = f"v{len(versions) + 1}"
        versions.insert(0, Version(version, data, Lock(mode if until_ms else "", until_ms, legal_hold=False)))
        return version

    def replaced(self, key: str, data: bytes) -> Archive:
        """A copy of the archive with other bytes in the oldest version of a key."""
        copy = self.copy()
        copy.objects[key][-1] = replace(copy.objects[key][-1], data=data)
        return copy

    def without(self, *keys: str) -> Archive:
        """A copy without these keys."""
        return Archive({k: list(v) for k, v in self.objects.items() if k not in keys}, self.without_locks)

    def copy(self) -> Archive:
        """A copy whose damage the original does not see."""
        return self.without()

    def data(self, key: str) -> bytes:
        """The bytes of a key's oldest version."""
        data = self.objects[key][-1].data
        assert data is not None
        return data

    def keys(self, prefix: str) -> list[str]:
        """Keys under a prefix, in order."""
        return sorted(k for k in self.objects if k.startswith(prefix))

    def write_to(self, folder: Path) -> None:
        """The archive as a local copy: its objects as files."""
        for key in self.objects:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.data(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All versions and markers under a prefix, in key order, the newest first."""
        for key in self.keys(prefix):
            for index, v in enumerate(self.objects[key]):
                size = len(v.data or b"")
                yield StoredObject(key, v.version, is_latest=index == 0, is_marker=v.data is None, size=size)

    def read(self, key: str, version: str) -> bytes:
        """One version's bytes."""
        found = self._find(key, version)
        if found.data is None:
            raise MissingObjectError(f"{key} {version} is a delete marker")
        return found.data

    def lock(self, key: str, version: str) -> Lock | None:
        """One version's lock."""
        found = self._find(key, version)
        return None if self.without_locks else found.lock

    def _find(self, key: str, version: str) -> Version:
        for found in self.objects.get(key, ()):
            if found.version == version:
                return found
        raise MissingObjectError(f"no object {key} {version}")


@dataclass
class RunScript:
    """A connector's run; `number` is the next that it hands out."""

    source: str
    epoch: bytes
    instance: str = "one"
    number: int = 0

    @property
    def run(self) -> Run:
        """As the session names it."""
        return Run(self.source, self.instance, self.epoch)


def epoch(number: int) -> bytes:
    """A UUIDv7 for a run that began when the chain did."""
    return (START_S * 1000).to_bytes(6, "big") + bytes.fromhex("70008000") + number.to_bytes(6, "big")


class ChainScript:
    """A sealer that does as it is told: each act adds one entry."""

    def __init__(self, chain: str = CHAINS[0], sealer: str = "sealer", policy: bytes = seed("policy")) -> None:
        self.policy = policy
        self.maker = ChainMaker.with_key(signing_key(sealer), chain=chain, random=counted(chain))
        self.entries: list[Entry] = []

    def genesis(self) -> None:
        """The first seal; the topic has as many partitions as there are CHAINS."""
        self.note(Kind.GENESIS, Reason.NONE, 0, signed=True, topic_uuid=TOPIC_UUID, partitions=len(CHAINS))

    def heartbeat(self) -> None:
        """A signed heartbeat, as the last of a transaction."""
        self.note(Kind.HEARTBEAT, Reason.NONE, 0, signed=True)

    def gap(self, count: int) -> None:
        """Offsets that had expired."""
        self.note(Kind.GAP, Reason.EXPIRED, count)

    def rejected(self, run: RunScript | None = None) -> None:
        """A refused record; with `run`, it takes that run's next number."""
        if run is None:
            self.note(Kind.REJECTED, Reason.NOT_AUTHENTIC, 1, detail="st-mac")
            return
        self.note(Kind.REJECTED, Reason.NOT_ENTITLED, 1, **self._named(run, run.number), event_id=event_id(run, run.number))
        run.number += 1

    def duplicate(self, run: RunScript, number: int, repeated: bytes | None = None) -> None:
        """A record whose number was seen; `repeated` is another event's id if it was no repetition."""
        self.note(Kind.DUPLICATE, Reason.NONE, 1, **self._named(run, number), event_id=repeated or event_id(run, number))

    def open(self, run: RunScript, *, signer: str = "", session: Run | None = None, audience: str = AUDIENCE) -> None:
        """The run's first event; `signer` another source's key, `session` another run's statement."""
        key = signing_key(f"source-{signer or run.source}")
        pipeline = opening_key("pipeline").public_key().public_bytes_raw()
        header = open_run(
            session or run.run, audience, seed("session"), pipeline, key.public_key().public_bytes_raw(), key.sign
        )
        extension = {"schema": RUN_SESSION.sha256, "payload": header[len(RUN_SESSION.header) :]}
        self.event(run, DEPLOYMENT_TENANT, name=OPEN_EVENT, extension=extension)

    def close(self, run: RunScript) -> None:
        """The run's last event."""
        self.event(run, DEPLOYMENT_TENANT, name=CLOSE_EVENT)

    def event(
        self,
        run: RunScript,
        tenant: str = "acme",
        log_class: LogClass = LogClass.OPERATIONAL,
        *,
        name: str = "github.push",
        signed: bool = False,
        number: int | None = None,
        **fields: object,
    ) -> None:
        """An event of the run, with its next number or another."""
        taken = run.number if number is None else number
        event = minimal_event(
            event_id=event_id(run, taken),
            event_name=name,
            tenant=tenant,
            emitter={"source": run.source, "instance": run.instance, "epoch": run.epoch, "seq": taken},
            **fields,
        )
        content = Content(self.maker.random(16), self.policy, EVENT.sha256, event_id(run, taken), EVENT.encode(event))
        self.add(Kind.EVENT, Reason.NONE, log_class, content, 1, signed=signed, tenant=tenant)
        run.number += number is None

    def note(self, kind: Kind, reason: Reason, count: int, *, signed: bool = False, **fields: object) -> None:
        """A seal that is not an event's."""
        content = Content(self.maker.random(16), self.policy, SEAL_NOTE.sha256, ZERO_EVENT_ID, encode_note(**fields))
        self.add(kind, reason, LogClass.NONE, content, count, signed=signed)

    def add(
        self,
        kind: Kind,
        reason: Reason,
        log_class: LogClass,
        content: Content,
        count: int,
        *,
        signed: bool = False,
        tenant: str = DEPLOYMENT_TENANT,
    ) -> None:
        """Any entry; a millisecond later."""
        value = self.maker.seal(kind, reason, log_class, content, count, signed=signed, tenant=tenant)
        event = decode_sealed_event(value)
        self.entries.append(Entry(decode_seal(event.seal), event.seal, leaf_hash(event.seal), content, event.signature, tenant))
        self.maker.now_us += 1000

    def sign_last(self) -> None:
        """Sign the last entry, as a sealer does at the end of each transaction."""
        last = self.entries[-1]
        if last.seal.signed:
            return
        seal = replace(last.seal, signed=True)
        self.entries[-1] = resealed(last, seal)
        self.maker.prev = self.entries[-1].leaf

    def _named(self, run: RunScript, number: int) -> dict[str, Any]:
        return {
            "emitter": run.run.key,
            "epoch": run.epoch,
            "number": number,
            "received_digest": seed("received"),
            "received_size": 300,
        }


def event_id(run: RunScript, number: int) -> bytes:
    """The id of a run's event of that number."""
    return run.epoch[:8] + run.epoch[14:] + number.to_bytes(6, "big")


def resealed(entry: Entry, seal: Seal, signer: str = "sealer") -> Entry:
    """An entry with another seal, signed if that says so."""
    data = encode_seal(seal)
    leaf = leaf_hash(data)
    signature = None
    if seal.signed:
        key_id = hashlib.sha256(public_of(signer)).digest()
        signature = Signature(key_id, signing_key(signer).sign(seal_message(leaf)))
    return replace(entry, seal=seal, data=data, leaf=leaf, signature=signature)


def rechained(
    entries: Sequence[Entry], prev: bytes = ZERO_DIGEST, sign: Callable[[Entry, Seal], Entry] = resealed
) -> list[Entry]:
    """The entries with every `prev` computed anew; `sign` makes each new entry."""
    chained: list[Entry] = []
    for entry in entries:
        chained.append(sign(entry, replace(entry.seal, prev=prev)))
        prev = chained[-1].leaf
    return chained


def archive_segments(
    archive: Archive,
    segments: Sequence[Sequence[Entry]],
    *,
    archive_key: str | Sequence[str] = "archive",
    time_s: int = START_S + 10,
    edit_contents: Callable[[str, list[Entry]], list[Entry]] = lambda _, entries: entries,
) -> None:
    """Archive the segments of one chain as the sink does.

    Args:
        archive_key: the archive's key, or one for each segment.
        edit_contents: (tenant, entries) -> what goes into that tenant's frame: a sink that puts contents elsewhere.
    """
    names = [archive_key] * len(segments) if isinstance(archive_key, str) else archive_key
    head = Head(Position(segments[0][0].seal.chain))
    for name_of_key, entries in zip(names, segments, strict=True):
        key = signing_key(name_of_key)
        chain, first = head.position.chain, head.position.next_seq
        references = []
        for part in parts_of(entries, RULES):
            tenants = tuple((name, tuple(edit_contents(name, list(rows)))) for name, rows in part.tenants)
            data = contents_object(replace(part, tenants=tenants), chain, first, tenant_public, counted("frames"))
            name = layout.contents_key(part.log_class, part.lock.until_ms, chain, first, "a1")
            version = archive.put(name, data, part.lock.until_ms, part.lock.mode)
            references.append(Reference(name, version, hashlib.sha256(data).digest(), len(data), part.rows))
        data = build_segment(head, entries, references, public_of(name_of_key), key.sign, time_s)
        lock = segment_lock(entries, RULES)
        archive.put(layout.segment_key(chain, first), data, lock.until_ms, lock.mode)
        head = following_head(head, entries, data)


def following_head(head: Head, entries: Sequence[Entry], data: bytes) -> Head:
    """The head after a segment of these entries."""
    frontier = Frontier(head.position.next_seq, head.frontier)
    for entry in entries:
        frontier.append(entry.leaf)
    last = entries[-1]
    position = Position(head.position.chain, frontier.size, last.leaf, last.seal.sealed_at_us)
    return Head(position, frontier.hashes, hashlib.sha256(data).digest(), last.data)


def put_documents(archive: Archive) -> None:
    """Certificates and schemas."""
    certificates = [
        (certificate("sealer", Role.SEALER), "sealer"),
        (certificate("sealer-2", Role.SEALER), "sealer-2"),
        (certificate("sealer-expired", Role.SEALER, after_s=START_S - 1), "sealer-expired"),
        (certificate("archive", Role.ARCHIVE), "archive"),
        (certificate("archive-2", Role.ARCHIVE), "archive-2"),
        (certificate("auditor", Role.AUDITOR), "auditor"),
        (certificate("sealer-elsewhere", Role.SEALER, "audit.example/other"), "sealer-elsewhere"),
        (certificate("archive-elsewhere", Role.ARCHIVE, "audit.example/other"), "archive-elsewhere"),
        *((certificate(f"source-{s}", Role.SOURCE, s), f"source-{s}") for s in ("github", "chat")),
    ]
    for data, name in certificates:
        archive.put(layout.certificate_key(hashlib.sha256(public_of(name)).digest()), data)
    for codec in (EVENT, SEAL_NOTE):
        archive.put(layout.schema_key(codec.sha256), codec.text.encode())


def ending(archive: Archive, name: str, role: Role, marks: Mapping[str, Mark], label: str = PART) -> Archive:
    """A copy with a certified successor of `signing_key(name)`, and its word that this key ended."""
    copy, by = archive.copy(), f"{name}-next"
    note = certificate(by, role, label, before_s=NOT_BEFORE_S + 3600)
    successor = verify_certificate(note, ROOT)
    end = End(role, hashlib.sha256(public_of(name)).digest(), successor.key_id, EndReason.SUPERSEDED, START_S, marks)
    copy.put(layout.certificate_key(successor.key_id), note)
    data = sign_end(end, successor, signing_key(by).sign).encode()
    copy.put(layout.end_key(end.key_id, hashlib.sha256(data).digest()), data)
    return copy


def mark_of(entries: Sequence[Entry], size: int) -> Mark:
    """What is true of the chain that begins with these entries, at a size."""
    return Mark(size, root_of([entry.leaf for entry in entries[:size]]))


@dataclass(frozen=True)
class Built:
    """An archive and what was sealed into it: by chain, the entries of each segment."""

    archive: Archive
    chains: Mapping[str, Sequence[Sequence[Entry]]]

    def key(self, segment: int, chain: str = CHAINS[0]) -> str:
        """The key of a segment by its index."""
        return layout.segment_key(chain, self.chains[chain][segment][0].seal.seq)

    def segment(self, segment: int, chain: str = CHAINS[0]) -> Segment:
        """A segment, decoded."""
        return decode_segment(self.archive.data(self.key(segment, chain)))

    def edited(self, segment: int, edit: Callable[[Segment], Segment], chain: str = CHAINS[0]) -> Archive:
        """The archive with one segment changed by whoever holds no key."""
        changed = edit(self.segment(segment, chain))
        return self.archive.replaced(self.key(segment, chain), encode_segment(changed))


def build(chains: Mapping[str, Sequence[Sequence[Entry]]]) -> Built:
    """An archive of these chains, with its documents."""
    archive = Archive()
    put_documents(archive)
    for segments in chains.values():
        archive_segments(archive, segments)
    return Built(archive, chains)


def long_chain(chain: str = CHAINS[0], partition: int = 0) -> list[list[Entry]]:
    """Five segments with every kind of seal, two sources, three tenants, two classes; only every fourth seal is signed."""
    script = ChainScript(chain)
    github, chat = RunScript("github", epoch(2 * partition)), RunScript("chat", epoch(2 * partition + 1))
    script.genesis()
    script.open(github)
    script.event(github, "acme")
    script.event(github, "globex", LogClass.SECURITY)
    cuts = [_cut(script)]
    script.open(chat)
    script.event(github, "acme")
    script.event(chat, "globex", signed=True)
    script.rejected()
    script.rejected(github)
    script.duplicate(github, 2)
    script.event(chat, "acme", LogClass.SECURITY)
    cuts.append(_cut(script))
    script.gap(5)
    script.event(github, "globex")
    script.event(github, "acme", signed=True)
    script.event(github, "acme")
    script.event(chat, "globex")
    script.event(chat, "acme")
    cuts.append(_cut(script))
    script.heartbeat()
    cuts.append(_cut(script))
    script.event(github, "acme")
    script.duplicate(chat, 1)
    script.close(github)
    script.close(chat)
    script.heartbeat()
    cuts.append(_cut(script))
    return [script.entries[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]


def _cut(script: ChainScript) -> int:
    script.sign_last()
    return len(script.entries)


@cache
def built() -> Built:
    """Two chains of five segments. Shared: damage copies."""
    return build({chain: long_chain(chain, partition) for partition, chain in enumerate(CHAINS)})


@cache
def built_small() -> Built:
    """One chain of one segment with 20 seals."""
    script = ChainScript()
    run = RunScript("github", epoch(9))
    script.genesis()
    script.open(run)
    for number in range(16):
        script.event(run, ("acme", "globex")[number % 2], signed=number == 7)
    script.close(run)
    script.heartbeat()
    return build({CHAINS[0]: [script.entries]})


def verify(archive: Archive, *tenants: str, trusted: str = "", chain: str = CHAINS[0]) -> Report:
    """The report with all tenants' keys, or with these; `trusted` is a checkpoint kept from earlier."""
    given = openers(*(tenants or TENANTS))
    checkpoints = {chain: trusted.encode()} if trusted else {}
    return verify_archive(archive, Trust(ROOT, given, checkpoints))


def checkpoint_of(entries: Sequence[Entry], *, archive_key: str = "archive", time_s: int = START_S + 10) -> str:
    """The checkpoint of a chain that begins with these entries, from seq 0."""
    frontier = Frontier()
    for entry in entries:
        frontier.append(entry.leaf)
    stated = Checkpoint(entries[0].seal.chain, frontier.size, frontier.root())
    return sign_checkpoint(stated, public_of(archive_key), signing_key(archive_key).sign, time_s)


def statement_of(segment: Segment, previous: bytes, *, archive_key: str = "archive") -> str:
    """A statement for a segment by any key."""
    text = statement_text(segment.chain, segment.first_seq, len(segment.seals), previous, segment.contents)
    return sign_statement(text, segment.chain, public_of(archive_key), signing_key(archive_key).sign)


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
