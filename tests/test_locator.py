"""One pass over an event's bytes, held against its oracle: decoder, contract, redaction and net, one after the other."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from processors.decode import Decode
from processors.records import Rejection
from schemas.contract import Contract
from schemas.locator import KNOWN, Located, Locator, remembered, symbols_at
from schemas.net import Net
from schemas.policy import event_fields
from schemas.redact import RedactionCheck, Redactor, hash_value, mask
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.secrets import suspicious
from schemas.sigma import values_at
from schemas.tokenized import Tokenized
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.errors import ContractError, SealtrailError
from sealtrail.token import FieldCipher
from tests.strategies import GITHUB, encodings, events, github_extensions, minimal_event
from tests.test_contract import full_event

REGISTRY = packaged_registry()
REGION = str(minimal_event()["region"])
SCHEMA = json.loads(AUDIT_EVENT.text)
ASKED = tuple(sorted(event_fields() - {"region"}))
GETTERS = [values_at(path) for path in ASKED]
LOCATE = Locator(REGISTRY, REGION, ASKED)
DECODE, CONTRACT, CHECK, NET = Decode(REGISTRY), Contract(REGISTRY, REGION), RedactionCheck(REGISTRY), Net(REGISTRY)
REDACT = Redactor(AUDIT_EVENT.text, REGISTRY, lambda tenant: bytes(32))
TOKENIZED = Tokenized(REGISTRY)


def oracle(data: bytes) -> dict[str, Any] | None:
    """The event, if it is sealed as it was received."""
    try:
        decoded = DECODE(data)
        CONTRACT.check(decoded.event)
    except (Rejection, ContractError):
        return None
    event = decoded.event
    if decoded.content != data or CHECK(event) or suspicious(data) or TOKENIZED.values(event):
        return None
    return None if event["event_name"] == "emitter.open" else event


def picked(event: dict[str, Any]) -> dict[str, object]:
    """What `Located` holds of an event, the key left out."""
    emitter, message = event["emitter"], event["message"]
    symbols = {path: symbols_at(SCHEMA, path) for path in ("result", "message.stage")}
    correlation = event["correlation_id"]
    return {
        "event_id": event["event_id"],
        "event_name": event["event_name"].encode(),
        "tenant": event["tenant"].encode(),
        "source": emitter["source"].encode(),
        "instance": emitter["instance"].encode(),
        "epoch": emitter["epoch"],
        "seq": emitter["seq"],
        "actor": event["actor"]["id"].encode(),
        "result": 2 * symbols["result"].index(event["result"]),
        "correlation_id": None if correlation is None else correlation.encode(),
        "stage": None if message is None else 2 * symbols["message.stage"].index(message["stage"]),
        "recipients": 0 if message is None else message["recipient_count"],
    }


def held(data: bytes) -> Located | None:
    """What is located, held against the oracle."""
    found, event = LOCATE(data), oracle(data)
    if found is not None:
        assert event is not None, "let through what the oracle does not let through as it is"
        assert {name: value for name, value in found._asdict().items() if name not in ("key", "holes")} == picked(event)
        assert not found.holes
    return found


def redacted(event: dict[str, Any]) -> dict[str, Any]:
    try:
        event = REDACT({**event, "region": REGION})
    except SealtrailError:
        assume(False)
    return TOKENIZED(event, lambda *_: "")


@settings(max_examples=60)
@given(events())
def test_a_good_event_is_located_and_read_as_the_oracle_reads_it(event: dict[str, Any]) -> None:
    data = AUDIT_EVENT.encode(redacted(event))
    found = held(data)
    assert (found is not None) == (oracle(data) is not None)


@settings(max_examples=60)
@given(events(extension=False), github_extensions(), st.data())
def test_only_the_one_encoding_is_located(event: dict[str, Any], extension: dict[str, Any], data: st.DataObject) -> None:
    event = {**event, "extension": {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(extension)}}
    event = redacted(event)
    payload = event["extension"]["payload"]
    held(AUDIT_EVENT.header + data.draw(encodings(AUDIT_EVENT, event)))
    event["extension"] = {"schema": GITHUB.sha256, "payload": data.draw(encodings(GITHUB, GITHUB.decode_body(payload)))}
    held(AUDIT_EVENT.encode(event))


@settings(max_examples=200)
@given(events(), st.data())
def test_whatever_the_bytes_nothing_is_located_that_the_oracle_refuses_or_changes(
    event: dict[str, Any], data: st.DataObject
) -> None:
    event = redacted(event) if data.draw(st.booleans()) else event
    made = bytearray(AUDIT_EVENT.encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(HEADER_SIZE, len(made) - 1))
        match data.draw(st.sampled_from(["flip", "set", "drop", "insert", "cut"])):
            case "flip":
                made[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                made[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, *range(2, 60, 2)]))
            case "drop":
                del made[at]
            case "insert":
                made[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case "cut":
                del made[at:]
        if len(made) <= HEADER_SIZE:
            break
    held(bytes(made))


def test_every_byte_of_a_full_event_set_to_every_value_is_located_only_if_the_oracle_lets_it_through() -> None:
    event = redacted({**full_event(), "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    good = AUDIT_EVENT.encode(event)
    assert held(good) is not None
    for at in range(HEADER_SIZE, len(good)):
        for value in (
            0,
            1,
            2,
            3,
            4,
            0x20,
            0x41,
            0x7F,
            0x80,
            0x82,
            0xC3,
            0xFF,
            good[at] ^ 1,
            good[at] ^ 0x80,
            (good[at] + 2) & 0xFF,
        ):
            held(good[:at] + bytes([value]) + good[at + 1 :])
        held(good[:at])
        held(good[:at] + good[at + 1 :])


@settings(max_examples=60)
@given(events(), events())
def test_equal_keys_mean_equal_values_in_every_field_that_was_asked_for(one: dict[str, Any], other: dict[str, Any]) -> None:
    """As far as chance goes; and what is nearly equal differs."""
    one = redacted(one)
    near = copy.deepcopy(one)
    near["ticket"] = "T-1" if near["ticket"] is None else None
    for second in (redacted(other), near, one):
        a, b = LOCATE(AUDIT_EVENT.encode(one)), LOCATE(AUDIT_EVENT.encode(second))
        if a is not None and b is not None:
            assert (a.key == b.key) <= ([g(one) for g in GETTERS] == [g(second) for g in GETTERS])
            if second is one:
                assert a.key == b.key


def test_values_that_change_places_within_lists_make_another_key() -> None:
    """A null in an item takes its place in the key: else an event gets what the policy says of another."""
    change = {"op": "ADD", "path": "/a", "before": None, "after": None}
    attempt = {"number": 1, "at": 1_795_000_000_000_000, "outcome": "REFUSED", "status": None, "hop": None}
    full = full_event()["delivery"]
    step = {"name": "x", "intended": True, "executed": None}
    variants: list[dict[str, Any]] = [
        {"changes": [{**change, "before": '"x"'}]},
        {"changes": [{**change, "after": '"x"'}]},
        {"changes": [{**change, "before": '"x"'}, change]},
        {"changes": [change, {**change, "before": '"x"'}]},
        {"delivery": {**full, "attempts": [{**attempt, "status": 7}, attempt]}},
        {"delivery": {**full, "attempts": [attempt, {**attempt, "status": 7}]}},
        {"delivery": {**full, "attempts": [{**attempt, "hop": "x"}, attempt]}},
        {"automation": {"steps": [{**step, "executed": True}, step]}},
        {"automation": {"steps": [step, {**step, "executed": True}]}},
    ]
    keys = []
    for variant in variants:
        found = LOCATE(AUDIT_EVENT.encode(redacted(minimal_event(**variant))))
        assert found is not None
        keys.append(found.key)
    assert len(set(keys)) == len(keys)


def test_a_symbol_beyond_one_byte_is_for_the_oracle() -> None:
    symbols = [f"S{n}" for n in range(70)]
    kind = {"type": "enum", "name": "Many", "symbols": symbols}
    codec = Codec(json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], _leaf("many", kind, dataClass="public")]}))
    locate = Locator(REGISTRY, REGION, (), codec)
    event = redacted(minimal_event())
    for symbol in ("S0", "S63"):
        assert locate(codec.encode({**event, "many": symbol})) is not None
    good = codec.encode({**event, "many": "S0"})
    assert locate(good[:-1] + b"\x80\x02") is None and locate(good[:-1] + b"\x80") is None


def test_whom_a_value_is_about_is_not_told_while_that_is_encrypted_itself() -> None:
    fields = [_leaf("who", TEXT, **TOKEN), _leaf("login", TEXT, **TOKEN, subjectField="who")]
    codec = Codec(json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], *fields]}))
    locate = Locator(REGISTRY, REGION, (), codec)
    event, cipher = redacted(minimal_event()), FieldCipher(bytes(32))
    first, second = (cipher.encrypt(3, n, bytes(16), path, b"ada").decode() for n, path in enumerate(("who", "login")))
    assert locate(codec.encode({**event, "who": first, "login": None})) is not None
    assert locate(codec.encode({**event, "who": first, "login": second})) is None


def test_records_that_are_null_and_fields_that_are_null_have_keys_of_their_own() -> None:
    base = {"region": REGION}
    retry = {"original_event_id": None, "attempt": 1, "idempotency_key": "k"}
    drafts = [
        minimal_event(**base),
        minimal_event(**base, retry=retry),
        minimal_event(**base, retry={**retry, "attempt": 2}),
        minimal_event(**base, changes=[{"op": "ADD", "path": "/a", "before": None, "after": None}]),
        minimal_event(**base, changes=[{"op": "ADD", "path": "/a", "before": None, "after": None}] * 2),
    ]
    keys = []
    for draft in drafts:
        found = LOCATE(AUDIT_EVENT.encode(redacted(draft)))
        assert found is not None
        keys.append(found.key)
    assert len(set(keys)) == len(keys)


def test_another_region_another_schema_and_an_opening_are_for_the_oracle() -> None:
    event = redacted(minimal_event())
    good = AUDIT_EVENT.encode(event)
    assert LOCATE(good) is not None
    for other in (
        AUDIT_EVENT.encode({**event, "region": "elsewhere"}),
        AUDIT_EVENT.encode({**event, "event_name": "emitter.open"}),
        b"\xc3\x01" + bytes(8) + good[10:],
        good + b"\0",
        b"",
        good[:9],
    ):
        assert LOCATE(other) is None


def test_a_number_without_an_end_costs_no_more_than_its_ten_bytes() -> None:
    event = redacted(minimal_event())
    good = AUDIT_EVENT.encode(event)
    at = good.index(event["emitter"]["epoch"]) + 16
    for filling in (b"\xff", b"\x80"):
        assert LOCATE(good[:at] + filling * 1_000_000 + good[at:]) is None
    for number in (-1, 2**62, 2**63 - 1, -(2**63)):
        held(AUDIT_EVENT.encode({**event, "emitter": {**event["emitter"], "seq": number}}))


def test_a_secret_anywhere_is_for_the_oracle() -> None:
    event = redacted(minimal_event(reason="x"))
    event["reason"] = mask("my key is AKIA" + "IOSFODNN7EXAMPLE")
    assert LOCATE(AUDIT_EVENT.encode(event)) is not None
    event["object"] = {"type": "x", "id": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"}
    assert LOCATE(AUDIT_EVENT.encode(event)) is None


def test_what_isremembered_of_a_field_is_bounded() -> None:
    known, look = remembered(lambda text: text.startswith("a"))
    for number in range(3 * KNOWN):
        look(b"a%d" % number)
        assert len(known) <= KNOWN
    look(b"a" * 1000)
    assert b"a" * 1000 not in known
    with pytest.raises(Exception):  # noqa: B017 - private to the module
        look(b"b")
    assert b"b" not in known


# -- encrypted values


def _leaf(name: str, kind: object = "string", **marks: object) -> dict[str, object]:
    return {"name": name, "type": kind, "doc": "x", **marks}


TEXT = ["null", "string"]
TOKEN = {"dataClass": "personal", "redact": "tokenize", "default": None}
HASH = {"dataClass": "personal", "redact": "hash"}
PEOPLE = _leaf("people", {"type": "array", "items": {"type": "record", "name": "Person", "fields": [
    _leaf("id", TEXT, **HASH, default=None), _leaf("login", TEXT, **TOKEN, subjectField="id"),
    _leaf("address", TEXT, **TOKEN, subjectField="address"), _leaf("name", TEXT, **TOKEN),
    _leaf("manager", TEXT, **TOKEN, subjectField="actor.id"), _leaf("late", TEXT, **TOKEN, subjectField="after"),
    _leaf("after", TEXT, **HASH, default=None),
]}})  # fmt: skip
WITH_PEOPLE = Codec(json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], PEOPLE]}))
LOCATE_PEOPLE = Locator(REGISTRY, REGION, ASKED, WITH_PEOPLE)
WALK_PEOPLE = Tokenized(REGISTRY, WITH_PEOPLE)
A_HASH = hash_value(bytes(32), "ada")
PERSON = st.fixed_dictionaries({
    "id": st.sampled_from([None, "", A_HASH]),
    "after": st.sampled_from([None, A_HASH]),
    **{name: st.sampled_from([None, "", "ada", "b" * 60, "ü" * 300]) for name in ("login", "address", "name", "manager")},
    "late": st.sampled_from([None, None, None, "ada"]),
})  # fmt: skip


@settings(max_examples=60)
@given(events(), st.lists(PERSON, max_size=4))
def test_encrypted_values_are_located_with_whom_they_are_about(event: dict[str, Any], people: list[dict[str, Any]]) -> None:
    event = {**redacted(event), "people": people}
    numbers = itertools.count()
    cipher = FieldCipher(bytes(32))
    event = WALK_PEOPLE(event, lambda path, text, _: cipher.encrypt(3, next(numbers), bytes(16), path, text.encode()).decode())
    data = WITH_PEOPLE.encode(event)
    found = LOCATE_PEOPLE(data)
    if found is None:
        assert (
            any(person["late"] for person in people)
            or oracle(AUDIT_EVENT.encode({k: v for k, v in event.items() if k != "people"})) is None
        )
        return
    told = [(h.path, h.text.decode(), h.text.decode() if h.subject is None else h.subject.decode()) for h in found.holes]
    assert told == [(v.path, v.text, v.subject) for v in WALK_PEOPLE.values(event)]
    parts, at = [], 0
    for hole in found.holes:
        parts += [data[at : hole.start], b"\x06tok"]
        at = hole.end
    assert b"".join([*parts, data[at:]]) == WITH_PEOPLE.encode(WALK_PEOPLE(event, lambda *_: "tok"))


def test_a_value_that_is_not_encrypted_is_for_the_oracle() -> None:
    event = {
        **redacted(minimal_event()),
        "people": [dict.fromkeys(("id", "login", "address", "name", "manager", "late", "after"))],
    }
    assert LOCATE_PEOPLE(WITH_PEOPLE.encode(event)) is not None
    for text in ("ada", "enc_", "enc_" + "ü" * 30, "tok_0011223344556677_" + "A" * 30):
        event["people"][0]["name"] = text
        assert LOCATE_PEOPLE(WITH_PEOPLE.encode(event)) is None
