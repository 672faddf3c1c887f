"""The seal: its exact bytes, what they bind, and nothing else that decodes as one."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.errors import EvidenceError
from sealtrail.seal import (
    MAX_SEAL_SIZE,
    SEAL,
    SEAL_NOTE,
    Content,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    SealWriter,
    Signature,
    _decode_by_schema,
    _read_at_once,
    content_digest,
    decode_seal,
    decode_sealed_event,
    encode_note,
    encode_seal,
    encode_sealed_event,
    leaf_hash,
    scope,
    scope_key,
    seal_message,
    seal_words,
    sealed_event_bytes,
)

LONG = st.integers(0, 2**63 - 1)
TIME = st.integers(-(2**63), 2**63 - 1)
seals = st.builds(
    Seal,
    prev=st.binary(min_size=32, max_size=32),
    content_digest=st.binary(min_size=32, max_size=32),
    scope=st.binary(min_size=16, max_size=16),
    kind=st.sampled_from(Kind),
    reason=st.sampled_from(Reason),
    log_class=st.sampled_from(LogClass),
    signed=st.booleans(),
    routes=st.integers(0, 15).map(Route),
    seq=LONG,
    source_offset=LONG,
    source_count=LONG,
    sealed_at_us=TIME,
    retain_until_ms=TIME,
    chain=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)
contents = st.builds(
    Content,
    *(st.binary(min_size=size, max_size=size) for size in (16, 32, 32, 16)),
    content=st.binary(max_size=100),
)
signatures = st.builds(Signature, st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
SEAL_1 = Seal(
    prev=bytes(range(32)),
    content_digest=bytes(range(32, 64)),
    scope=bytes(range(64, 80)),
    kind=Kind.REJECTED,
    reason=Reason.NOT_AUTHENTIC,
    log_class=LogClass.NONE,
    signed=True,
    routes=Route.ARCHIVE | Route.QUARANTINE,
    seq=1,
    source_offset=300,
    source_count=1,
    sealed_at_us=1_790_000_000_000_000,
    retain_until_ms=1_792_540_800_000,
    chain="c",
)


def test_the_bytes_are_those_of_the_documented_layout() -> None:
    expected = (
        b"\xc3\x01" + SEAL.fingerprint + bytes(range(80)) + b"\x02" + b"\x06\x0a\x0a" + b"\x01" + b"\x12" + b"\x02\xd8\x04\x02"
        + bytes.fromhex("8080e2f2aafc9706") + bytes.fromhex("80a0dfb5ab68") + b"\x02c"
    )  # fmt: skip
    assert encode_seal(SEAL_1)[:100].hex() == expected[:100].hex()
    assert decode_seal(encode_seal(SEAL_1)) == SEAL_1


@given(seals)
def test_a_seal_decodes_to_itself(seal: Seal) -> None:
    data = encode_seal(seal)
    assert decode_seal(data) == seal
    assert seal.next_offset == seal.source_offset + seal.source_count


@given(seals, seals)
def test_two_seals_have_the_same_bytes_only_if_they_are_equal(one: Seal, other: Seal) -> None:
    assert (encode_seal(one) == encode_seal(other)) == (one == other)


@pytest.mark.parametrize("name", [f.name for f in fields(Seal) if f.name != "version"])
def test_every_field_is_in_the_bytes(name: str) -> None:
    other: dict[str, Any] = {
        "kind": Kind.GAP,
        "reason": Reason.EXPIRED,
        "log_class": LogClass.DEBUG,
        "signed": False,
        "routes": Route.HOT,
        "chain": "d",
    }
    old = getattr(SEAL_1, name)
    value = other.get(name, old[::-1] if isinstance(old, bytes) else old + 1 if isinstance(old, int) else old)
    changed: dict[str, Any] = {name: value}
    assert encode_seal(replace(SEAL_1, **changed)) != encode_seal(SEAL_1)


def same_as_by_schema(data: bytes) -> bool:
    """Whether the quick way reads it; if so, it must be what the schema's way reads."""
    quick = _read_at_once(data)
    if quick is not None:
        assert quick == _decode_by_schema(data)
    return quick is not None


@given(seals)
def test_the_quick_way_reads_every_seal_of_our_time_and_as_the_schema_does(seal: Seal) -> None:
    data = encode_seal(seal)
    assert same_as_by_schema(data) == (seal.sealed_at_us >= 0 and seal.retain_until_ms >= 0)


def test_the_quick_way_takes_no_byte_for_another() -> None:
    data = encode_seal(SEAL_1)
    read = 0
    for at in range(len(data)):
        for byte in range(256):
            read += same_as_by_schema(data[:at] + bytes([byte]) + data[at + 1 :])
        assert not same_as_by_schema(data[:at])
        assert not same_as_by_schema(data + data[:at] + b"\0")
    assert read > 80 * 256  # the digests may be any bytes


@given(seals, st.data())
@settings(max_examples=400)
def test_the_quick_way_reads_nothing_that_the_schema_refuses(seal: Seal, data: st.DataObject) -> None:
    whole = encode_seal(seal)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 3)))
    same_as_by_schema(whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:])


@given(seals, contents, st.none() | signatures)
def test_the_quick_way_writes_what_the_codec_writes(seal: Seal, content: Content, signature: Signature | None) -> None:
    seal = replace(seal, sealed_at_us=abs(seal.sealed_at_us) % 2**63, retain_until_ms=abs(seal.retain_until_ms) % 2**63)
    words = seal_words(seal.kind, seal.reason, seal.log_class, seal.routes, signed=seal.signed)
    digests = seal.prev, seal.content_digest, seal.scope
    numbers = seal.seq, seal.source_offset, seal.source_count, seal.retain_until_ms
    for _ in range(2):
        made = SealWriter(seal.chain, seal.sealed_at_us).seal(*digests, words, *numbers)
        assert made == encode_seal(seal)
    parts = content.salt, content.policy, content.content_schema, content.event_id, content.content
    assert sealed_event_bytes(made, *parts, signature) == encode_sealed_event(SealedEvent(made, content, signature))
    assert content_digest(*parts) == content.digest()


@pytest.mark.parametrize("number", [0, 1, 63, 64, 8191, 8192, 2**31, 2**62, 2**63 - 1])
def test_numbers_of_every_size_are_written_in_their_one_form(number: int) -> None:
    seal = replace(SEAL_1, seq=number, source_offset=number, source_count=number, sealed_at_us=number, retain_until_ms=number)
    words = seal_words(seal.kind, seal.reason, seal.log_class, seal.routes, signed=seal.signed)
    writer = SealWriter(seal.chain, number)
    assert writer.seal(seal.prev, seal.content_digest, seal.scope, words, number, number, number, number) == encode_seal(seal)
    for wrong in (-1, 2**63):
        with pytest.raises(EvidenceError):
            writer.seal(seal.prev, seal.content_digest, seal.scope, words, wrong, 0, 0, 0)
        with pytest.raises(EvidenceError):
            SealWriter("c" * 70_000, 0).seal(seal.prev, seal.content_digest, seal.scope, words, 0, 0, 0, 0)


def test_every_bit_changed_is_no_seal_or_another_seal_with_another_leaf_hash() -> None:
    data = encode_seal(SEAL_1)
    for bit in range(8 * len(data)):
        changed = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        assert leaf_hash(changed) != leaf_hash(data)
        try:
            assert decode_seal(changed) != SEAL_1
        except EvidenceError:
            continue


BAD = {
    "nothing": b"",
    "a header alone": SEAL.header,
    "a byte more": encode_seal(SEAL_1) + b"\0",
    "a byte less": encode_seal(SEAL_1)[:-1],
    "a note": encode_note(),
    "version 2": encode_seal(replace(SEAL_1, version=2)),
    "version beyond 32 bits": encode_seal(replace(SEAL_1, version=2**40 + 1)),
    "a route bit that is none": encode_seal(replace(SEAL_1, routes=Route(0))).replace(
        b"\x06\x0a\x0a\x01\x00", b"\x06\x0a\x0a\x01\x20"
    ),
    "negative routes": encode_seal(replace(SEAL_1, routes=Route(0))).replace(b"\x06\x0a\x0a\x01\x00", b"\x06\x0a\x0a\x01\x01"),
    "signed of 2": encode_seal(SEAL_1).replace(b"\x06\x0a\x0a\x01", b"\x06\x0a\x0a\x02"),
    "a kind that is none": encode_seal(SEAL_1).replace(b"\x06\x0a\x0a\x01", b"\x0c\x0a\x0a\x01"),
    "an over-long number": encode_seal(SEAL_1).replace(b"\x12\x02\xd8\x04", b"\x12\x82\x00\xd8\x04"),
    "a negative seq": encode_seal(replace(SEAL_1, seq=-1)),
    "a negative offset": encode_seal(replace(SEAL_1, source_offset=-1)),
    "a negative count": encode_seal(replace(SEAL_1, source_count=-1)),
    "too large": SEAL.encode({**SEAL.decode(encode_seal(SEAL_1)), "chain": "c" * MAX_SEAL_SIZE}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_seal_is_refused(data: bytes) -> None:
    assert data != encode_seal(SEAL_1)
    with pytest.raises(EvidenceError):
        decode_seal(data)


def test_a_seal_too_large_for_a_log_entry_is_not_made() -> None:
    size = len(encode_seal(replace(SEAL_1, chain="")))
    at_most = MAX_SEAL_SIZE - size - 2  # the chain's length takes three bytes
    assert len(encode_seal(replace(SEAL_1, chain="c" * at_most))) == MAX_SEAL_SIZE
    with pytest.raises(EvidenceError):
        encode_seal(replace(SEAL_1, chain="c" * (at_most + 1)))


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_seal_or_an_evidence_error(data: bytes) -> None:
    for candidate in (data, SEAL.header + data):
        for decode in (decode_seal, decode_sealed_event):
            with pytest.raises(EvidenceError):
                decode(candidate)


@given(seals, contents, st.none() | signatures)
@settings(max_examples=60)
def test_a_sealed_event_decodes_to_itself(seal: Seal, content: Content, signature: Signature | None) -> None:
    event = SealedEvent(encode_seal(seal), content, signature)
    assert decode_sealed_event(encode_sealed_event(event)) == event


@given(seals, contents, signatures, st.data())
@settings(max_examples=100)
def test_a_changed_sealed_event_is_refused_or_another(
    seal: Seal, content: Content, signature: Signature, data: st.DataObject
) -> None:
    event = SealedEvent(encode_seal(seal), content, signature)
    encoded = encode_sealed_event(event)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    changed = bytearray(encoded)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        assert decode_sealed_event(bytes(changed)) != event
    except EvidenceError:
        return


@given(contents)
def test_the_content_digest_covers_every_part_in_order_after_its_context(content: Content) -> None:
    parts = content.salt + content.policy + content.content_schema + content.event_id + content.content
    assert content.digest() == hashlib.sha256(b"sealtrail/content/v1\n" + parts).digest()


@pytest.mark.parametrize("name", ["salt", "policy", "content_schema", "event_id", "content"])
def test_every_part_of_a_content_changes_its_digest(name: str) -> None:
    content = Content(bytes(16), bytes(32), bytes(32), bytes(16), b"content")
    changed = replace(content, **{name: b"\x01" + getattr(content, name)[1:]})
    assert changed.digest() != content.digest()


def test_leaf_hash_and_message_have_their_domain_bytes_and_context() -> None:
    data = encode_seal(SEAL_1)
    assert leaf_hash(data) == hashlib.sha256(b"\0" + data).digest()
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert seal_message(leaf_hash(data)) == b"sealtrail/seal/v1\n" + leaf_hash(data)


def test_scope_is_hmac_of_the_number_under_a_key_of_tenant_and_chain() -> None:
    key = hmac.digest(b"k" * 32, b"\0\0\0\x04acmechain", "sha256")
    assert scope_key(b"k" * 32, "acme", "chain") == key
    assert scope(key, 7) == hmac.digest(key, bytes(7) + b"\x07", "sha256")[:16]
    assert scope_key(b"k" * 32, "acm", "echain") != key  # the length tells tenant and chain apart


@given(
    st.dictionaries(st.sampled_from(["detail", "emitter"]), st.text(st.characters(exclude_categories=["Cs"]))), st.none() | LONG
)
def test_a_note_decodes_to_itself_and_what_is_left_out_is_null(texts: dict[str, str], number: int | None) -> None:
    note = SEAL_NOTE.decode(encode_note(**texts, number=number))
    assert note["number"] == number
    assert {name: note[name] for name in ("detail", "emitter")} == {"detail": None, "emitter": None} | texts


def test_reasons_are_printed_in_lower_case_with_hyphens() -> None:
    assert Reason.NOT_AUTHENTIC.label == "not-authentic"
