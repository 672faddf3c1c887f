"""What must hold of one chain's trail, whoever reads it: each raw record in it once, chained, signed, routed, counted.

`ChainTrail` takes a chain in parts of whole transactions: all at once from real brokers, commit by commit from simulated
ones. Written against the evidence format alone; the emitters' states are compared with plain sets of numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kafkaio.reader import Record
from processors.activity import ACTIVITY
from processors.quarantine import QUARANTINED
from processors.sequence import MAX_HOLES, decode_state
from schemas.registry import AUDIT_EVENT
from sealtrail.certificate import Role
from sealtrail.keyring import Keyring
from sealtrail.seal import (
    SEAL_NOTE,
    ZERO_DIGEST,
    Kind,
    Reason,
    Route,
    Seal,
    SealedEvent,
    decode_seal,
    decode_sealed_event,
    leaf_hash,
    seal_message,
)
from sealtrail.token import KEY_ID_SIZE

_TOKEN = re.compile(rb"tok_([0-9a-f]{16})_")
REFUSED = (Kind.REJECTED, Kind.DUPLICATE)
SHARED = {"hot": Route.HOT, "siem": Route.SIEM, "quarantine": Route.QUARANTINE}


@dataclass(frozen=True, slots=True)
class Sealed:
    """One committed record of the archive topic."""

    offset: int
    value: bytes
    seal: Seal
    event: SealedEvent


def sealed_of(record: Record) -> Sealed:
    """A record of the archive topic, decoded."""
    assert record.value is not None, "a tombstone in the archive topic"
    event = decode_sealed_event(record.value)
    return Sealed(record.offset, record.value, decode_seal(event.seal), event)


def chain_in(output: str, value: bytes) -> str:
    """The chain that a record of a shared output belongs to."""
    if output == "quarantine":
        return str(QUARANTINED.decode(value)["chain"])
    return decode_seal(decode_sealed_event(value).seal).chain


@dataclass(frozen=True, slots=True)
class Part:
    """Committed records of one chain from one transaction's begin to another's end; `shared` by output."""

    archive: Sequence[Record]
    shared: Mapping[str, Sequence[bytes]]
    sources: Sequence[Record]
    activity: Sequence[Record]
    subject_keys: Sequence[Record]


class ChainTrail:
    """One chain, checked as it grows. Raises AssertionError that says what does not hold."""

    def __init__(self, keyring: Keyring | None) -> None:
        """Without a keyring signatures are not verified."""
        self._links = _Links(keyring)
        self._coverage = _Coverage()
        self._numbers: dict[bytes, set[int]] = defaultdict(set)
        self._counted = 0  # seals that the activity accounts for
        self._subject_keys: set[bytes] = set()
        self.kinds: Counter[tuple[Kind, Reason]] = Counter()
        self.event_ids: list[bytes] = []

    @property
    def chain(self) -> str:
        """Its name; empty before its first seal."""
        return self._links.chain

    @property
    def next_offset(self) -> int:
        """The first raw offset that no seal accounts for."""
        return self._coverage.next_offset

    def take(self, part: Part, raw: Collection[int]) -> None:
        """The chain goes on. raw: offsets of the data records that the raw partition holds now."""
        sealed = [sealed_of(record) for record in part.archive]
        self._links.take(sealed)
        self._coverage.take(sealed, raw)
        _check_outputs(sealed, part.shared)
        self._check_sources(sealed, part.sources)
        self._check_activity(sealed, part.activity)
        self._check_subject_keys(sealed, part.subject_keys)
        self.kinds.update((s.seal.kind, s.seal.reason) for s in sealed)
        self.event_ids += [s.event.content.event_id for s in sealed if s.seal.kind is Kind.EVENT]

    def _check_sources(self, sealed: Sequence[Sealed], records: Sequence[Record]) -> None:
        """The last state of every run that changed says exactly the numbers that are sealed."""
        changed = set()
        for event in sealed:
            placed = _number_of(event)
            if placed is not None:
                key, number = placed
                assert number not in self._numbers[key], f"number {number} of a run is sealed twice"
                self._numbers[key].add(number)
                changed.add(key)
        states = {record.key: decode_state(record.value) for record in records if record.key and record.value}
        assert states.keys() == changed, "the states written are not those of the runs sealed"
        for key in changed:
            seen = self._numbers[key]
            missing = {n for first, last in states[key].holes for n in range(first, last + 1)}
            assert states[key].high_water == max(seen), "a run's state has another high-water mark than what is sealed"
            assert missing == set(range(max(seen))) - seen, "a run's state has other holes than what is sealed"
            assert len(states[key].holes) <= MAX_HOLES

    def _check_subject_keys(self, sealed: Sequence[Sealed], records: Sequence[Record]) -> None:
        """The key of every token was written with it or before, and each key once."""
        for record in records:
            assert record.key is not None
            assert record.key not in self._subject_keys, "a subject's key is written twice"
            self._subject_keys.add(record.key)
        known = {key[-KEY_ID_SIZE:] for key in self._subject_keys}
        used = {bytes.fromhex(found.decode()) for s in sealed for found in _TOKEN.findall(s.event.content.content)}
        assert used <= known, "a token under a key that is not written"

    def _check_activity(self, sealed: Sequence[Sealed], records: Sequence[Record]) -> None:
        """The activity accounts for every seal once, by transaction, and its counts are those of the contents."""
        told = [ACTIVITY.decode(record.value) for record in records if record.value]
        events: Counter[str] = Counter()
        actors: Counter[tuple[str, str, str, str]] = Counter()
        for one in sealed:
            if one.seal.kind is Kind.EVENT:
                event = AUDIT_EVENT.decode(one.event.content.content)
                events[_run_of(event["emitter"])] += 1
                actors[event["tenant"], event["actor"]["id"], event["event_name"], event["result"]] += 1
        first = self._counted
        for transaction in [t for t in told if t["part"] == 0]:
            assert (transaction["first_seq"], transaction["chain"]) == (self._counted, self.chain), "activity out of order"
            self._counted += transaction["count"]
            assert self._counted - first <= len(sealed), "the activity counts more than is sealed"
            last = sealed[self._counted - 1 - first]
            assert transaction["sealed_at"] == last.seal.sealed_at_us
            assert last.event.signature is not None
        assert self._counted - first == len(sealed), "a seal that no activity accounts for"
        counted: Counter[str] = Counter()
        acted: Counter[tuple[str, str, str, str]] = Counter()
        for part in told:
            for row in part["emitters"]:
                counted[_run_of(row)] += row["events"]
            for row in part["actors"]:
                acted[row["tenant"], row["actor"], row["event_name"], row["result"]] += row["events"]
        assert +counted == events and acted == actors, "the activity counts something else than what is sealed"


class _Links:
    """Numbers, links, digests, times; a valid signature wherever one is due, at each transaction's end above all."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._seq = 0
        self._prev = ZERO_DIGEST
        self._sealed_at = 0
        self.chain = ""

    def take(self, chain: Sequence[Sealed]) -> None:
        for index, sealed in enumerate(chain):
            seal = sealed.seal
            assert (seal.seq, seal.prev) == (self._seq, self._prev), f"fork or hole: seq {seal.seq} where {self._seq} is due"
            self.chain = self.chain or seal.chain
            assert seal.chain == self.chain
            assert (seal.kind is Kind.GENESIS) == (seal.seq == 0)
            assert seal.content_digest == sealed.event.content.digest()
            assert seal.sealed_at_us >= self._sealed_at
            self._seq, self._prev, self._sealed_at = seal.seq + 1, leaf_hash(sealed.event.seal), seal.sealed_at_us
            # A transaction's marker takes the offset after its last record.
            ends = index + 1 == len(chain) or chain[index + 1].offset != sealed.offset + 1
            self._check_signature(sealed, ends)

    def _check_signature(self, sealed: Sealed, ends: bool) -> None:
        signature = sealed.event.signature
        assert sealed.seal.signed == (signature is not None)
        assert signature is not None or not ends, f"seq {sealed.seal.seq} ends a transaction unsigned"
        if signature is not None and self._keyring is not None:
            certificate = self._keyring.find(signature.key_id, Role.SEALER)
            assert certificate is not None
            Ed25519PublicKey.from_public_bytes(certificate.public).verify(signature.value, seal_message(self._prev))


class _Coverage:
    """Every raw offset up to the head in exactly one seal, and a seal of one record only where there is one."""

    def __init__(self) -> None:
        self.next_offset = 0

    def take(self, chain: Sequence[Sealed], raw: Collection[int]) -> None:
        data = set(raw)
        for sealed in chain:
            seal = sealed.seal
            expected = self.next_offset
            assert seal.source_offset == expected, f"seq {seal.seq} begins at {seal.source_offset}, not {expected}"
            self.next_offset += seal.source_count
            if seal.kind is Kind.GAP:
                assert seal.source_count > 0
                hidden = data.intersection(range(seal.source_offset, self.next_offset))
                assert not hidden, f"GAP at seq {seal.seq} hides a record"
            elif seal.kind in (Kind.GENESIS, Kind.HEARTBEAT):
                assert seal.source_count == 0
            else:
                assert seal.source_count == 1
        assert not data or self.next_offset <= max(data) + 1


def check_coverage(chain: Sequence[Sealed], raw: Collection[int]) -> None:
    """Of a whole chain alone; see `_Coverage`."""
    _Coverage().take(chain, raw)


def _check_outputs(chain: Sequence[Sealed], shared: Mapping[str, Sequence[bytes]]) -> None:
    """Hot and SIEM hold what the seals' routes say, in order; quarantine one record for each refused."""
    for output in ("hot", "siem"):
        routed = [s.value for s in chain if s.seal.routes & SHARED[output]]
        assert list(shared.get(output, ())) == routed, f"{output} differs"
    assert all(s.seal.routes & Route.ARCHIVE for s in chain)
    refused = [s.seal for s in chain if s.seal.kind in REFUSED]
    assert all(bool(s.seal.routes & Route.QUARANTINE) == (s.seal.kind in REFUSED) for s in chain)
    kept = [QUARANTINED.decode(value) for value in shared.get("quarantine", ())]
    wanted = [(s.source_offset, s.reason.label) for s in refused]
    assert [(q["source_offset"], q["reason"]) for q in kept] == wanted, "quarantine differs"


def _number_of(sealed: Sealed) -> tuple[bytes, int] | None:
    """The run, as a key of the sources topic, and the number that this seal places; None where it places none."""
    content, seal = sealed.event.content.content, sealed.seal
    if seal.kind is Kind.EVENT:
        emitter = AUDIT_EVENT.decode(content)["emitter"]
        return f"{seal.chain}\n{_run_of(emitter)}".encode(), emitter["seq"]
    if seal.kind is Kind.REJECTED and seal.reason is not Reason.SEQUENCE_WILD:
        note = SEAL_NOTE.decode(content)
        if note["emitter"] is not None:
            return f"{seal.chain}\n{note['emitter']}/{note['epoch'].hex()}".encode(), note["number"]
    return None


def _run_of(fields: Mapping[str, object]) -> str:
    epoch = fields["epoch"]
    assert isinstance(epoch, bytes)
    return f"{fields['source']}/{fields['instance']}/{epoch.hex()}"
