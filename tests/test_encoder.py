"""The generated encoder: byte for byte what fastavro writes, over the contract's schemas and over schemas drawn at random."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.encoder import encoder, number, split_encoder
from schemas.fields import field_tree
from schemas.registry import AUDIT_EVENT, packaged_registry
from sealtrail.avro import Codec
from tests.strategies import events, minimal_event, values

ENCODE = encoder(AUDIT_EVENT.text)
SPLIT = split_encoder(AUDIT_EVENT.text, "emitter")
EXTENSIONS = [c for d, c in packaged_registry().extensions.items() if d not in packaged_registry().unclassified]


@given(events())
def test_an_event_is_encoded_as_fastavro_does(event: dict[str, Any]) -> None:
    assert ENCODE(event) == AUDIT_EVENT.encode_body(event)


@given(events())
def test_the_two_parts_of_an_event_stand_around_the_field_left_out(event: dict[str, Any]) -> None:
    before, after = SPLIT(event)
    whole = AUDIT_EVENT.encode_body(event)
    assert whole.startswith(before)
    assert whole.endswith(after)
    other = {**event, "emitter": {**event["emitter"], "seq": (event["emitter"]["seq"] + 1) % 2**63}}
    assert SPLIT(other) == (before, after)
    emitter = whole[len(before) : len(whole) - len(after)]
    assert emitter.startswith(number(len(event["emitter"]["source"].encode()), 63) + event["emitter"]["source"].encode())


@pytest.mark.parametrize("codec", EXTENSIONS, ids=lambda codec: json.loads(codec.text)["name"])
@given(data=st.data())
def test_an_extension_is_encoded_as_fastavro_does(codec: Codec, data: st.DataObject) -> None:
    value = data.draw(values(field_tree(codec.text), {}))
    assert encoder(codec.text)(value) == codec.encode_body(value)


def test_a_field_left_out_has_the_schemas_default_as_with_fastavro() -> None:
    event = minimal_event(authorization={"method": "NONE", "scopes": ["a"] * 2000, "decision": "ALLOW"})
    for name in ("ticket", "delivery", "reason"):
        event.pop(name)
    assert ENCODE(event) == AUDIT_EVENT.encode_body(event)


# -- schemas at random

_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes": st.binary(),
}


@st.composite
def _types(draw: st.DrawFn, names: list[str], depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type of the contract's subset, and values of it."""
    kind = draw(st.sampled_from([*_PRIMITIVES, "enum", "fixed", *(["record", "array", "nullable"] if depth else [])]))
    if kind in _PRIMITIVES:
        return kind, _PRIMITIVES[kind]
    names.append(f"T{len(names)}")
    name = names[-1]
    if kind == "enum":
        symbols = [f"S{i}" for i in range(draw(st.integers(1, 90)))]
        return {"type": "enum", "name": name, "symbols": symbols}, st.sampled_from(symbols)
    if kind == "fixed":
        size = draw(st.integers(1, 20))
        return {"type": "fixed", "name": name, "size": size}, st.binary(min_size=size, max_size=size)
    if kind == "record":
        return draw(_records(names, name, depth - 1))
    schema, drawn = draw(_types(names, depth - 1))
    while kind == "nullable" and isinstance(schema, list):
        schema, drawn = draw(_types(names, depth - 1))
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(drawn, max_size=3)
    return draw(st.permutations(["null", schema])), st.none() | drawn


@st.composite
def _records(draw: st.DrawFn, names: list[str], name: str, depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
    fields = {f"f{i}": draw(_types(names, depth)) for i in range(draw(st.integers(1, 4)))}
    schema = {"type": "record", "name": name, "fields": [{"name": f, "type": t} for f, (t, _) in fields.items()]}
    return schema, st.fixed_dictionaries({f: drawn for f, (_, drawn) in fields.items()})


@settings(max_examples=300)
@given(st.data())
def test_any_schema_of_the_contracts_subset_is_encoded_as_fastavro_does(data: st.DataObject) -> None:
    schema, drawn = data.draw(_records([], "Top", 3))
    codec = Codec(json.dumps(schema))
    encode = encoder(codec.text)
    for value in data.draw(st.lists(drawn, min_size=1, max_size=3)):
        assert encode(value) == codec.encode_body(value)


def test_a_type_named_before_is_the_same_type_again() -> None:
    inner = {"type": "record", "name": "io.x.Inner", "fields": [{"name": "n", "type": "long"}]}
    fields = [{"name": "a", "type": inner}, {"name": "b", "type": "io.x.Inner"}, {"name": "c", "type": ["null", "io.x.Inner"]}]
    codec = Codec(json.dumps({"type": "record", "name": "io.x.Top", "fields": fields}))
    value = {"a": {"n": 1}, "b": {"n": -300}, "c": {"n": 2**40}}
    assert encoder(codec.text)(value) == codec.encode_body(value)
    before, after = split_encoder(codec.text, "a")(value)
    assert (before, b"\x02" + after) == (b"", codec.encode_body(value))


# -- what is not of the schema

WRONG = {
    "a long of 65 bits": minimal_event(occurred_at=2**63),
    "an int of 33 bits": minimal_event(retry={"attempt": 2**31, "idempotency_key": "k"}),
    "an unknown symbol": minimal_event(result="SPLENDID"),
    "a fixed too short": minimal_event(event_id=b"\x01" * 15),
    "bytes for text": minimal_event(event_name=b"x"),
    "a lone surrogate": minimal_event(reason="\ud800"),
    "no boolean": minimal_event(delivery={"attempts": [], "signed": 7}),
    "text for a list": minimal_event(changes="abc"),
    "text for a record": minimal_event(actor="ada"),
    "a record without a field": minimal_event(actor={"kind": "USER"}),
}


@pytest.mark.parametrize("event", WRONG.values(), ids=WRONG.keys())
def test_a_value_of_another_type_raises(event: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError, OverflowError)):
        ENCODE(event)


@given(st.integers(-(2**70), 2**70), st.sampled_from([31, 63]))
def test_a_number_is_refused_exactly_outside_its_bits(value: int, bits: int) -> None:
    kind = "int" if bits == 31 else "long"
    codec = Codec(json.dumps({"type": "record", "name": "N", "fields": [{"name": "n", "type": kind}]}))
    if -(1 << bits) <= value < 1 << bits:
        assert number(value, bits) == codec.encode_body({"n": value})
    else:
        with pytest.raises(OverflowError):
            number(value, bits)
