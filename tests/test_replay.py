"""Forensic replay's check of a topic: what is untouched is attested, what is not is found where it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from auditor.replay import Replayed, TopicFinding, Walk
from kafkaio.reader import Record
from schemas.registry import packaged_registry
from sealtrail.certificate import Certificate, Role
from sealtrail.keyring import Keyring
from sealtrail.report import FindingKind
from sealtrail.seal import SealedEvent, Signature, decode_sealed_event, encode_sealed_event
from tests.chains import SECOND_US, START_US, ChainMaker

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYRING = Keyring(
    [
        Certificate(
            Role.SEALER,
            "audit.example/local",
            KEY.public_key().public_bytes_raw(),
            START_US // SECOND_US - 1000,
            START_US // SECOND_US + 1000,
        )
    ]
)
KEY_ID = hashlib.sha256(KEY.public_key().public_bytes_raw()).digest()
CODECS = packaged_registry().by_digest
LENGTH = 12  # GENESIS, three transactions of three events, a heartbeat, an event that nothing vouches for


def chain() -> list[bytes]:
    maker = ChainMaker.with_key(KEY)
    values = [maker.genesis()]
    for _ in range(3):
        values += [maker.event("acme"), maker.event("globex"), maker.event("acme", signed=True)]
    return [*values, maker.heartbeat(), maker.event("acme")]


CHAIN = chain()
assert len(CHAIN) == LENGTH


def walk(values: Sequence[bytes]) -> tuple[list[Replayed], list[TopicFinding]]:
    made = Walk(3, KEYRING, CODECS)
    given = [found for offset, value in enumerate(values) for found in made.take(Record(offset, 0, None, value))]
    return given + made.finish(), made.findings


def test_an_untouched_topic_is_attested_up_to_its_last_signature() -> None:
    found, findings = walk(CHAIN)
    assert not findings
    assert [r.seal.seq for r in found] == list(range(LENGTH))
    assert [r.attested for r in found] == [True] * (LENGTH - 1) + [False]
    assert [r.event["tenant"] for r in found if r.event][:3] == ["acme", "globex", "acme"]


@given(st.integers(0, LENGTH - 1))
def test_what_begins_in_the_middle_is_attested_as_well(start: int) -> None:
    found, findings = walk(CHAIN[start:])
    assert not findings and len(found) == LENGTH - start


@given(st.integers(0, LENGTH - 1), st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_passes(index: int, position: int, change: int) -> None:
    data = bytearray(CHAIN[index])
    data[position % len(data)] ^= change
    found, findings = walk([*CHAIN[:index], bytes(data), *CHAIN[index + 1 :]])
    # the last record has no successor and no signature: what its bytes say is given as not attested
    assert findings or (index == LENGTH - 1 and not found[-1].attested)
    assert all(abs(finding.offset - index) <= 1 for finding in findings)
    assert all(finding.partition == 3 for finding in findings)


@given(st.integers(1, LENGTH - 2))
def test_a_removed_record_is_missing_and_those_before_it_are_not_attested_by_those_after(index: int) -> None:
    found, findings = walk([*CHAIN[:index], *CHAIN[index + 1 :]])
    assert [(f.kind, f.seq) for f in findings] == [(FindingKind.MISSING, index)]
    signed = [r.seal.seq for r in found if r.seal.signed]
    assert {r.seal.seq for r in found if not r.attested} == {
        r.seal.seq for r in found if not any(r.seal.seq <= s and not r.seal.seq < index < s for s in signed)
    }


@given(st.integers(0, LENGTH - 1), st.integers(0, LENGTH))
def test_a_record_put_there_twice_is_inserted_and_the_chain_goes_on(which: int, at: int) -> None:
    _, findings = walk([*CHAIN[:at], CHAIN[which], *CHAIN[at:]])
    assert findings
    if at == which + 1:
        assert {f.offset for f in findings} <= {at, at + 1}


def test_bytes_that_are_no_record_are_found_and_the_rest_is_read() -> None:
    found, findings = walk([*CHAIN[:4], b"", b"not avro", *CHAIN[4:]])
    assert [(f.kind, f.offset) for f in findings] == [(FindingKind.ALTERED, 4), (FindingKind.ALTERED, 5)]
    assert len(found) == LENGTH


@pytest.mark.parametrize("forged", [Signature(bytes(32), bytes(64)), Signature(KEY_ID, bytes(64)), None])
def test_a_signature_that_is_foreign_wrong_or_gone_attests_nothing(forged: Signature | None) -> None:
    sealed = decode_sealed_event(CHAIN[3])
    found, findings = walk([*CHAIN[:3], encode_sealed_event(SealedEvent(sealed.seal, sealed.content, forged)), *CHAIN[4:]])
    assert [f.seq for f in findings] == [3]
    assert all(r.attested for r in found[:-1])  # the next one vouches for it through the links


def test_a_chain_made_anew_begins_and_is_no_finding() -> None:
    fresh = ChainMaker.with_key(KEY, chain=ChainMaker.chain.replace("1f0c2a9b", "00000001"))
    found, findings = walk([*CHAIN[:-1], fresh.genesis(), fresh.event(signed=True)])
    assert not findings and all(r.attested for r in found)


def test_a_record_of_another_chain_is_inserted() -> None:
    fresh = ChainMaker.with_key(KEY, chain=ChainMaker.chain.replace("1f0c2a9b", "00000001"))
    fresh.genesis()
    _, findings = walk([*CHAIN[:5], fresh.event(signed=True), *CHAIN[5:]])
    assert [(f.kind, f.offset) for f in findings] == [(FindingKind.INSERTED, 5)]
