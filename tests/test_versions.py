"""Older versions of the event: what is located of them, the steps would have let through by the current schema's word."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.decode import Decode
from processors.quick import Quick
from schemas.contract import MAX_EVENT_BYTES, Contract
from schemas.fields import field_tree
from schemas.locator import Located, Locator
from schemas.policy import Policy
from schemas.redact import RedactionCheck
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from schemas.secrets import suspicious
from schemas.versions import Version, version, versions
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.errors import ContractError
from sealtrail.session import RUN_SESSION
from tests.locators import Both
from tests.strategies import encodings, events, minimal_event
from tests.test_contract import full_event
from tests.test_locator import ASKED, REGION, TOKENIZED, picked, redacted
from tests.test_native import KERNEL, mutated

PACKAGED = packaged_registry()
EXTENSIONS = [codec for digest, codec in PACKAGED.extensions.items() if digest not in PACKAGED.unclassified]
SCHEMA = json.loads(AUDIT_EVENT.text)
LACKING = {"hop", "before", "display", "login", "executed", "audience", "traceparent", "retry", "payload_digest"}
Change = Callable[[dict[str, Any]], None]


def without(names: set[str], node: Any) -> Any:
    """The schema without fields of these names, at any depth."""
    if isinstance(node, dict):
        node = {key: without(names, value) for key, value in node.items()}
        if "fields" in node:
            node["fields"] = [field for field in node["fields"] if field["name"] not in names]
        return node
    return [without(names, each) for each in node] if isinstance(node, list) else node


# A type's first use may be in a field that is lacking: then the older one defines it elsewhere.
SPARSE = Codec(
    json.dumps(without(LACKING, SCHEMA)).replace('"KeyedDigest"', '{"type": "fixed", "name": "KeyedDigest", "size": 32}', 1)
)
FIRST = list(PACKAGED.by_header.values())[-1]
REGISTRY = Registry([AUDIT_EVENT, SPARSE, FIRST], EXTENSIONS, [RUN_SESSION])
KNOWN = {known.event.header: known for known in versions(REGISTRY)}
OLDER = {codec.header: Both(KERNEL, REGISTRY, REGION, ASKED, KNOWN[codec.header].event) for codec in (SPARSE, FIRST)}
DECODE, CONTRACT, CHECK = Decode(REGISTRY), Contract(REGISTRY, REGION), RedactionCheck(REGISTRY)


def held(data: bytes) -> Located | None:
    """What both forms locate; nothing that the steps would not let through as it is."""
    found = OLDER[data[:HEADER_SIZE]](data)
    if found is not None:
        decoded = DECODE(data)
        CONTRACT.check(decoded.event)
        assert decoded.content == data and not CHECK(decoded.event) and not suspicious(data)
        assert not list(TOKENIZED.values(decoded.event)) and decoded.event["event_name"] != "emitter.open"
        assert {name: value for name, value in found._asdict().items() if name not in ("key", "holes")} == picked(decoded.event)
        assert found.key[0] == data[:HEADER_SIZE]
    return found


def test_every_released_version_has_a_locator() -> None:
    made = list(versions(PACKAGED))
    assert [known.event.header for known in made] == list(PACKAGED.by_header)
    assert made[0] == Version(AUDIT_EVENT) and made[1].most == MAX_EVENT_BYTES // 3, "login, twice"


def test_a_version_is_laid_out_as_it_was_and_classified_as_it_is_now() -> None:
    stricter = copy.deepcopy(SCHEMA)
    next(field for field in stricter["fields"] if field["name"] == "ticket")["pattern"] = "^T-[0-9]{1,9}$"
    current = Codec(json.dumps(stricter))
    for older in (SPARSE, FIRST):
        known = version(older, current)
        assert known.event.header == older.header
        locate = Locator(REGISTRY, REGION, (), known.event, known.most)
        event = redacted(minimal_event())
        assert locate(older.encode({**event, "ticket": "T-1042"})) is not None
        assert locate(older.encode({**event, "ticket": "CHG-1042"})) is None, "it was good once"
        marks = {leaf.path: leaf.marks for leaf in field_tree(current.text).leaves()}
        assert all(marks[leaf.path] == leaf.marks for leaf in field_tree(known.event.text).leaves())


@settings(max_examples=150)
@given(events(), st.sampled_from([SPARSE, FIRST]), st.data())
def test_what_is_located_of_an_older_version_the_steps_let_through(
    event: dict[str, Any], older: Codec, data: st.DataObject
) -> None:
    event = redacted(event)
    event = {**event, "actor": {**event["actor"], "login": None}}
    good = older.encode(event)
    decoded = older.decode(good)
    found = held(good)
    try:
        CONTRACT.check(decoded)
    except ContractError:
        assert found is None
    else:
        passes = not CHECK(decoded) and not suspicious(good) and decoded["event_name"] != "emitter.open"
        assert (found is not None) == (passes and not list(TOKENIZED.values(decoded)))
    held(older.header + data.draw(encodings(older, decoded)))
    for _ in range(3):
        held(mutated(data, bytearray(good)))


def test_every_byte_of_a_full_older_event_set_to_many_values() -> None:
    event = redacted({**full_event(), "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    for older in (SPARSE, FIRST):
        good = older.encode({**event, "actor": {**event["actor"], "login": None}})
        assert held(good) is not None
        for at in range(HEADER_SIZE, len(good)):
            for value in (0, 1, 2, 4, 0x20, 0x41, 0x7F, 0x80, 0xFF, good[at] ^ 1, (good[at] + 2) & 0xFF):
                held(good[:at] + bytes([value]) + good[at + 1 :])
            held(good[:at])


def test_equal_values_in_two_versions_have_two_keys() -> None:
    """What the policy says of a version is not taken for what it says of another."""
    event = redacted(minimal_event())
    keys = {Locator(REGISTRY, REGION, (), k.event)(k.event.encode(event)).key for k in KNOWN.values()}  # type: ignore[union-attr]
    assert len(keys) == 3
    asked = ("tenant",)
    natives = {Both(KERNEL, REGISTRY, REGION, asked, k.event).native.locate(k.event.encode(event))[-2] for k in KNOWN.values()}  # type: ignore[index]
    assert len(natives) == 3


def test_an_event_that_is_too_large_with_what_it_lacks_is_for_the_steps() -> None:
    """The contract measures it as the current version would have it."""
    change = {"op": "ADD", "path": "/a", "before": None, "after": None}
    event = redacted(minimal_event(changes=[change]))
    known = KNOWN[SPARSE.header]
    locate = Locator(REGISTRY, REGION, (), known.event, known.most)
    one = len(SPARSE.encode({**event, "changes": [change, change]})) - len(SPARSE.encode(event))
    many = SPARSE.encode({**event, "changes": [change] * (MAX_EVENT_BYTES // one - 300)})
    assert len(many) <= MAX_EVENT_BYTES and locate(many) is None
    with pytest.raises(ContractError, match="too large"):
        CONTRACT.check(SPARSE.decode(many))


def field_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [field for field in document["fields"] if field["name"] == name]
    return dict(found)


def replaced(name: str, **changes: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["fields"] = [{**f, **changes} if f["name"] == name else f for f in document["fields"]]

    return change


def moved(document: dict[str, Any]) -> None:
    document["fields"].append(document["fields"].pop(10))


def fewer_symbols(document: dict[str, Any]) -> None:
    kind = field_of(document, "event_type")["type"]
    replaced("event_type", type={**kind, "symbols": kind["symbols"][1:]})(document)


def dropped(name: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["fields"] = [field for field in document["fields"] if field["name"] != name]

    return change


def not_nullable(document: dict[str, Any]) -> None:
    document["fields"] = [{"name": "ticket", "type": "string"} if f["name"] == "ticket" else f for f in document["fields"]]


def added(document: dict[str, Any]) -> None:
    document["fields"].append({"name": "gone", "type": ["null", "string"], "default": None})


REFUSED: dict[str, tuple[Change, str]] = {
    "a field that is not there any more": (added, "gone: not there now"),
    "another order": (moved, "not there now, or elsewhere"),
    "another type": (replaced("occurred_at", type="int"), "occurred_at: another type"),
    "another kind of type": (replaced("effect", type="string"), "effect: another type"),
    "a union before": (replaced("region", type=["null", "string"]), "region: another union"),
    "no union before": (not_nullable, "ticket: another type"),
    "null elsewhere": (replaced("ticket", type=["string", "null"]), "ticket: another union"),
    "other symbols": (fewer_symbols, "event_type: other symbols"),
    "another size": (replaced("event_id", type={"type": "fixed", "name": "EventId", "size": 17}), "event_id: another type"),
    "what has no default": (dropped("region"), "region: lacking"),
    "what sealing needs": (dropped("correlation_id"), "correlation_id: lacking, and sealing needs it"),
    "what sealing needs below it": (dropped("message"), "message: lacking, and sealing needs it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_version_that_differs_in_more_than_what_it_lacks_goes_through_the_steps(name: str) -> None:
    change, why = REFUSED[name]
    document = copy.deepcopy(SCHEMA)
    change(document)
    with pytest.raises(ValueError, match=why):
        version(Codec(json.dumps(document)), AUDIT_EVENT)


def test_fewer_symbols_before_are_the_first_ones_now() -> None:
    """An enum's number means the same in both."""
    kind = field_of(SCHEMA, "event_type")["type"]
    document = copy.deepcopy(SCHEMA)
    replaced("event_type", type={**kind, "symbols": kind["symbols"][:3], "default": kind["symbols"][0]})(document)
    older = Codec(json.dumps(document))
    known = version(older, AUDIT_EVENT)
    locate = Locator(REGISTRY, REGION, (), known.event, known.most)
    event = redacted(minimal_event())
    good = older.encode({**event, "event_type": kind["symbols"][2]})
    assert locate(good) is not None
    bent = AUDIT_EVENT.encode({**event, "event_type": kind["symbols"][3]})
    assert locate(older.header + bent[HEADER_SIZE:]) is None


def test_a_version_that_has_no_locator_goes_through_the_steps_and_stops_nobody() -> None:
    """Its login is about a field that it lacks: the steps know what to do with it."""
    document = copy.deepcopy(SCHEMA)
    actor = field_of(document, "actor")["type"]
    person = {"name": "person", "type": ["null", "string"], "dataClass": "personal", "redact": "hash", "default": None}
    fields = [{**f, "subjectField": "person"} if f["name"] == "login" else f for f in actor["fields"]]
    replaced("actor", type={**actor, "fields": [{**person, "doc": "Who.", "example": "h1_0"}, *fields]})(document)
    newer = Codec(json.dumps(document))
    registry = Registry([newer, AUDIT_EVENT, FIRST], EXTENSIONS, [RUN_SESSION])
    assert version(AUDIT_EVENT, newer).event.header == AUDIT_EVENT.header
    for kernel in (None, KERNEL):
        quick = Quick(registry, REGION, Policy.load(), kernel)
        event = redacted(minimal_event())
        assert quick.locate(AUDIT_EVENT.encode(event)) is None
        assert quick.locate(FIRST.encode(event)) is not None, "it has no login at all"
        assert quick.locate(newer.encode(event)) is not None
        assert len(quick.native) == (0 if kernel is None else 2)
