"""The strict codec: published fingerprints, one encoding of each value, and no bytes that break it or make it grow."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.registry import AUDIT_EVENT
from sealtrail.avro import HEADER_SIZE, Codec, NonCanonicalError, TrailingBytesError, read_container, write_container
from sealtrail.errors import EvidenceError
from sealtrail.seal import SEAL, SEAL_NOTE, SEALED_EVENT
from sealtrail.segment import FRAME, ROWS, SEGMENT
from sealtrail.session import RUN_SESSION, RUN_STATEMENT
from tests.strategies import encodings, events

CODECS = {
    "seal": SEAL,
    "sealed_event": SEALED_EVENT,
    "seal_note": SEAL_NOTE,
    "segment": SEGMENT,
    "frame": FRAME,
    "rows": ROWS,
    "run_session": RUN_SESSION,
    "run_statement": RUN_STATEMENT,
    "audit_event": AUDIT_EVENT,
}
_EMPTY = 0xC15D213AA4D7A795  # Avro 1.11, "Schema Fingerprints"
PAIR = Codec(
    json.dumps(
        {
            "type": "record",
            "name": "Pair",
            "fields": [
                {"name": "map", "type": {"type": "map", "values": "long"}},
                {"name": "list", "type": {"type": "array", "items": "string"}},
                {"name": "truth", "type": "boolean"},
                {"name": "maybe", "type": ["null", "double"]},
            ],
        }
    )
)
pairs = st.fixed_dictionaries(
    {
        "map": st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1), max_size=1),
        "list": st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
        "truth": st.booleans(),
        "maybe": st.none() | st.floats(allow_nan=False),
    }
)


def crc64(text: bytes) -> int:
    """CRC-64-AVRO, from the specification's table of polynomial division; bit by bit."""
    value = _EMPTY
    for byte in text:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (_EMPTY if value & 1 else 0)
    return value


@pytest.mark.parametrize(("text", "published"), [('"int"', 0x7275D51A3F395C8F), ('{"type": "string"}', 0x8F014872634503C7)])
def test_fingerprints_are_the_published_ones_and_little_endian_in_the_header(text: str, published: int) -> None:
    codec = Codec(text)
    assert codec.fingerprint == published.to_bytes(8, "little")
    assert codec.header == b"\xc3\x01" + published.to_bytes(8, "little")


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_fingerprints_of_our_schemas_are_the_specifications_crc(codec: Codec) -> None:
    canonical = to_parsing_canonical_form(json.loads(codec.text))
    assert int.from_bytes(codec.fingerprint, "little") == crc64(canonical.encode())


@given(pairs)
def test_what_is_encoded_decodes_to_itself(value: dict[str, Any]) -> None:
    assert PAIR.decode(PAIR.encode(value)) == value
    assert PAIR.decode_body(PAIR.encode_body(value)) == value


@given(events())
@settings(max_examples=40, deadline=None)
def test_events_decode_to_themselves_and_as_fastavro_reads_them(event: dict[str, Any]) -> None:
    data = AUDIT_EVENT.encode(event)
    assert AUDIT_EVENT.decode(data) == event
    assert len(data) > HEADER_SIZE


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_other_encoding_of_an_event_is_refused_and_read_leniently(data: st.DataObject) -> None:
    event = data.draw(events(extension=False))
    body = data.draw(encodings(AUDIT_EVENT, event))
    assert AUDIT_EVENT.decode_body_lenient(body) == event
    if body == AUDIT_EVENT.encode_body(event):
        assert AUDIT_EVENT.decode_body(body) == event
    else:
        with pytest.raises(NonCanonicalError):
            AUDIT_EVENT.decode_body(body)


@given(pairs, st.data())
@settings(max_examples=300)
def test_any_change_of_the_bytes_is_refused_or_is_another_value(value: dict[str, Any], data: st.DataObject) -> None:
    encoded = PAIR.encode(value)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    changed = bytearray(encoded)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        decoded = PAIR.decode(bytes(changed))
    except EvidenceError:
        return
    assert PAIR.encode(decoded) == changed != encoded


LENIENT: dict[str, tuple[bytes, type[EvidenceError]]] = {
    "a key twice": (b"\x04\x02a\x02\x02a\x04\x00" + b"\x00\x00\x00", NonCanonicalError),
    "an over-long count": (b"\x82\x00\x02a\x02\x00" + b"\x00\x00\x00", NonCanonicalError),
    "a sized block": (b"\x01\x06\x02a\x02\x00" + b"\x00\x00\x00", NonCanonicalError),
    "a sized block of a false size": (b"\x01\x70\x02a\x02\x00" + b"\x00\x00\x00", NonCanonicalError),
    "two blocks": (b"\x02\x02a\x02\x02\x02b\x02\x00" + b"\x00\x00\x00", NonCanonicalError),
    "a boolean of 7": (b"\x00\x00\x07\x00", NonCanonicalError),
    "a negative branch": (b"\x00\x00\x00\x01" + bytes(8), NonCanonicalError),
    "a branch that is not there": (b"\x00\x00\x00\x04", EvidenceError),
    "a string that is not UTF-8": (b"\x00\x02\x02\xff\x00\x00\x00", EvidenceError),
    "trailing bytes": (b"\x00\x00\x00\x00\x00", TrailingBytesError),
    "cut short": (b"\x00\x00\x00", EvidenceError),
    "nothing": (b"", EvidenceError),
}


@pytest.mark.parametrize(("body", "error"), LENIENT.values(), ids=LENIENT)
def test_encodings_that_hide_something_are_refused(body: bytes, error: type[EvidenceError]) -> None:
    with pytest.raises(error):
        PAIR.decode_body(body)
    with pytest.raises(error):
        PAIR.decode(PAIR.header + body)


@pytest.mark.parametrize("head", [b"", b"\xc3", b"\xc3\x01", bytes(10), b"\xc3\x01" + bytes(8), b"\x00\x00\x00\x00\x01"])
def test_another_header_is_refused(head: bytes) -> None:
    with pytest.raises(EvidenceError, match="expected header"):
        PAIR.decode(head + b"\x00\x00\x00\x00")


def varint(value: int) -> bytes:
    """Avro's zigzag varint of any long."""
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


@pytest.mark.parametrize("size", [2**31, 2**60, 2**62, 2**63 - 1, -1, -(2**31), -(2**62), -(2**63)])
@pytest.mark.parametrize(
    "schema",
    [
        '"bytes"',
        '"string"',
        '{"type": "array", "items": "bytes"}',
        '{"type": "array", "items": {"type": "fixed", "name": "D", "size": 32}}',
        '{"type": "map", "values": "long"}',
    ],
)
def test_a_claimed_size_costs_no_memory(schema: str, size: int) -> None:
    codec = Codec(schema)
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError):
            codec.decode_body(varint(size) + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [2**31, 2**60, 2**63 - 1])
def test_a_container_blocks_claimed_size_costs_no_memory(size: int) -> None:
    data = write_container([], SEGMENT) + varint(1) + varint(size) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError):
            read_container(data, SEGMENT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


UNBOUNDED = {
    "nothing": '"null"',
    "an array of nothing": '{"type": "array", "items": "null"}',
    "a record of nothing": '{"type": "record", "name": "R", "fields": []}',
    "an array of records of nothing": json.dumps(
        {"type": "array", "items": {"type": "record", "name": "R", "fields": [{"name": "n", "type": "null"}]}}
    ),
    "a map to nothing": '{"type": "map", "values": {"type": "null"}}',
    "a fixed of nothing": '{"type": "fixed", "name": "F", "size": 0}',
    "a fixed of less": '{"type": "fixed", "name": "F", "size": -1}',
    "a list": '{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}',
    "a list in a namespace": '{"type": "record", "name": "a.L", "fields": [{"name": "next", "type": ["null", "L"]}]}',
    "a tree": '{"type": "record", "name": "T", "fields": [{"name": "all", "type": {"type": "array", "items": "T"}}]}',
    "two in a circle": json.dumps(
        {
            "type": "record",
            "name": "A",
            "fields": [
                {
                    "name": "b",
                    "type": ["null", {"type": "record", "name": "B", "fields": [{"name": "a", "type": ["null", "A"]}]}],
                }
            ],
        }
    ),
}


@pytest.mark.parametrize("text", UNBOUNDED.values(), ids=UNBOUNDED)
def test_a_schema_whose_values_are_not_bounded_by_their_bytes_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        Codec(text)


def test_a_name_used_twice_without_recursion_is_no_recursion() -> None:
    fixed = {"type": "fixed", "name": "F", "size": 1}
    fields = [
        {"name": "a", "type": fixed},
        {"name": "b", "type": ["null", "F"]},
        {"name": "c", "type": {"type": "array", "items": "F"}},
    ]
    assert Codec(json.dumps({"type": "record", "name": "R", "fields": fields})).decode_body(b"a\x00\x00")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["null", "long", "record", "array", "R"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "fields", "items", "values", "symbols", "size", "default"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(st.text(max_size=40) | json_values.map(json.dumps))
@settings(max_examples=400)
def test_any_text_is_a_schema_or_an_evidence_error(text: str) -> None:
    try:
        codec = Codec(text)
    except EvidenceError:
        return
    with pytest.raises(EvidenceError):
        codec.decode(b"\xc3\x01" + bytes(9))


def test_a_text_nested_without_end_is_no_schema() -> None:
    with pytest.raises(EvidenceError):
        Codec("[" * 100_000)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(data=st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_decode_or_are_an_evidence_error(codec: Codec, data: bytes) -> None:
    for decode in (codec.decode, codec.decode_lenient, codec.decode_body, codec.decode_body_lenient):
        for given_bytes in (data, codec.header + data):
            try:
                decode(given_bytes)
            except EvidenceError:
                continue


@given(st.lists(pairs, max_size=4))
@settings(max_examples=60)
def test_a_container_holds_what_was_written_and_any_avro_reader_reads_it(values: list[dict[str, Any]]) -> None:
    data = write_container(values, PAIR)
    assert read_container(data, PAIR) == values
    assert list(fastavro.reader(io.BytesIO(data))) == values
    assert write_container(values, PAIR) == data


@given(st.lists(pairs, min_size=1, max_size=3), st.data())
@settings(max_examples=200)
def test_any_change_of_a_container_is_refused_or_is_another_value(values: list[dict[str, Any]], data: st.DataObject) -> None:
    written = write_container(values, PAIR)
    start = data.draw(st.integers(0, len(written)))
    end = data.draw(st.integers(start, min(len(written), start + 20)))
    changed = written[:start] + data.draw(st.binary(max_size=20)) + written[end:]
    try:
        read = read_container(changed, PAIR)
    except EvidenceError:
        return
    assert write_container(read, PAIR) == changed


CONTAINERS = {
    "empty": lambda good: b"",
    "another schema": lambda good: write_container([], SEAL),
    "a byte more": lambda good: good + b"\0",
    "a byte less": lambda good: good[:-1],
    "another sync marker": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
    "an over-long count": lambda good: write_container([], PAIR) + b"\x82\x00" + good[len(write_container([], PAIR)) + 1 :],
    "two records in a block": lambda good: write_container([], PAIR) + b"\x04" + good[len(write_container([], PAIR)) + 1 :],
    "a negative count": lambda good: write_container([], PAIR) + b"\x01" + good[len(write_container([], PAIR)) + 1 :],
}


@pytest.mark.parametrize("damage", CONTAINERS.values(), ids=CONTAINERS)
def test_a_damaged_container_is_refused(damage: Any) -> None:
    good = write_container([{"map": {}, "list": [], "truth": False, "maybe": None}], PAIR)
    with pytest.raises(EvidenceError):
        read_container(damage(good), PAIR)
