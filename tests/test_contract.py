"""The contract admits well-formed events and names the field of any other, never its value (CON-1, CON-2)."""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import EARLIEST_US, LATEST_US, MAX_EVENT_BYTES, MAX_TEXT_BYTES, OPEN, RULES, Contract
from schemas.evolution.released import EVENT, load
from schemas.fields import field_tree
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from sealtrail.avro import Codec, NonCanonicalError
from sealtrail.errors import ConfigError, ContractError
from sealtrail.session import RUN_SESSION, Run, open_run
from tests.strategies import GITHUB, encodings, events, github_extensions, minimal_event

CONTRACT = Contract(packaged_registry())
MARKER = "Zebulon-Quixote-Marker"


def set_at(event: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the leaf at a dotted path set; `x[]` is the first item."""
    made = copy.deepcopy(event)
    place: Any = made
    *parents, last = path.replace("[]", ".0").split(".")
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return made


def full_event() -> dict[str, Any]:
    """One in which every record is present and every list has an item."""
    return minimal_event(
        object={"type": "repository", "id": "42"},
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        retry={"original_event_id": None, "attempt": 1, "idempotency_key": "k"},
        authorization={
            "method": "SSO_SESSION",
            "scopes": ["repo"],
            "policy": None,
            "policy_version": None,
            "decision": "ALLOW",
        },
        delivery={
            "validated": True,
            "signed": None,
            "encrypted": None,
            "payload_digest": bytes(32),
            "retry_policy": None,
            "attempts": [{"number": 1, "at": EARLIEST_US, "outcome": "ACKNOWLEDGED", "status": 200, "hop": None}],
            "acknowledgement": None,
            "failure": None,
            "failed_hop": None,
        },
        message={"stage": "SENT", "type": "text", "recipient_group": None, "recipient_count": 3},
        deployment={
            "environment": "production",
            "commit": "a" * 40,
            "artifact_digest": None,
            "checks": [{"name": "build", "result": "SUCCESS"}],
        },
        audience={"reach": "GROUP", "group": "g-1", "count": 3},
        automation={"steps": [{"name": "tidy", "intended": True, "executed": None}]},
        content_ref={"digest": bytes(32), "size": 1, "media_type": "text/plain", "location": "vault:1"},
        redaction={"status": "APPLIED", "policy": "v1", "fields": ["actor.id"]},
        changes=[{"op": "REPLACE", "path": "/visibility", "before": '"public"', "after": '"private"'}],
        subject={"id": "bob", "display": None, "login": None},
    )


@given(events())
def test_every_well_formed_event_is_admitted_and_encodes(event: dict[str, Any]) -> None:
    CONTRACT.check(event)
    assert AUDIT_EVENT.decode(AUDIT_EVENT.encode(event)) == event


def test_a_full_event_is_admitted() -> None:
    CONTRACT.check(full_event())


BAD = [
    ("event_id", bytes(16), "not a UUIDv7"),
    ("event_id", bytes(15), "15 bytes; expected 16"),
    ("event_name", "Has Spaces", "does not match the field's pattern"),
    ("event_name", "newline.at.end\n", "does not match the field's pattern"),
    ("event_name", 7, "not text"),
    ("tenant", "@other", "does not match the field's pattern"),
    ("emitter.epoch", bytes(16), "not a UUIDv7"),
    ("emitter.seq", -1, "negative"),
    ("emitter.seq", True, "not an integer of 64 bits"),
    ("emitter.seq", 2**63, "not an integer of 64 bits"),
    ("event_type", "GOSSIP", "not one of the field's symbols"),
    ("occurred_at", EARLIEST_US - 1, "not between the years 2000 and 2200"),
    ("occurred_at", LATEST_US, "not between the years 2000 and 2200"),
    ("occurred_at", 1.5, "not an integer of 64 bits"),
    ("causation_id", bytes(16), "not a UUIDv7"),
    ("traceparent", "00-" + "0" * 32 + "-" + "2" * 16 + "-01", "an id of zeros alone"),
    ("traceparent", "00-" + "1" * 32 + "-" + "0" * 16 + "-01", "an id of zeros alone"),
    ("retry.attempt", 0, "less than 1"),
    ("retry.original_event_id", bytes(16), "not a UUIDv7"),
    ("authorization.scopes[]", "two words", "does not match the field's pattern"),
    ("delivery.validated", 7, "neither true nor false"),
    ("delivery.payload_digest", b"short", "5 bytes; expected 32"),
    ("delivery.attempts[].number", 0, "less than 1"),
    ("delivery.attempts[].at", 0, "not between the years 2000 and 2200"),
    ("message.recipient_count", -1, "negative"),
    ("audience.count", -1, "negative"),
    ("automation.steps[].intended", None, "neither true nor false"),
    ("message.recipient_count", 2**31, "not an integer of 32 bits"),
    ("content_ref.size", -1, "negative"),
    ("changes", {"op": "ADD"}, "not a list"),
    ("changes[]", "text", "not a record"),
    ("changes[].path", "no-slash", "does not match the field's pattern"),
    ("actor", None, "not a record"),
    ("actor.id", "", "empty, and the actor is not SYSTEM"),
    ("actor.id", "\ud800", "text that UTF-8 cannot carry"),
    ("reason", "é" * (MAX_TEXT_BYTES // 2 + 1), f"{MAX_TEXT_BYTES + 2} bytes of text; at most {MAX_TEXT_BYTES}"),
    ("redaction.status", "NONE", "NONE, yet fields are named"),
    ("redaction.fields[]", "Not A Path", "does not match the field's pattern"),
    ("extension", {"schema": bytes(32), "payload": b""}, "not a registered extension"),
]


@pytest.mark.parametrize("size", [0, 6, 15, 17])
def test_bytes_of_another_length_are_no_uuid_whoever_asks_the_rule_first(size: int) -> None:
    """The one pass of `schemas.admission` asks it before it looks at the size."""
    assert RULES["event_id"](bytes(size)) == "not a UUIDv7"


@pytest.mark.parametrize(("path", "value", "problem"), BAD, ids=[f"{path}-{i}" for i, (path, _, _) in enumerate(BAD)])
def test_a_bad_value_is_refused_at_its_field(path: str, value: object, problem: str) -> None:
    with pytest.raises(ContractError) as caught:
        CONTRACT.check(set_at(full_event(), path, value))
    field = "extension.schema" if path == "extension" else path
    assert (caught.value.field, caught.value.problem) == (field, problem)


@pytest.mark.parametrize("path", sorted(RULES))
def test_every_rule_speaks_of_a_leaf_that_exists(path: str) -> None:
    assert path in {leaf.path for leaf in field_tree(AUDIT_EVENT.text).leaves()}


def test_a_missing_field_is_named_and_one_with_a_default_may_be_left_out() -> None:
    event = minimal_event()
    del event["object"], event["ticket"]
    CONTRACT.check(event)
    del event["region"]
    with pytest.raises(ContractError, match="region: missing"):
        CONTRACT.check(event)


@pytest.mark.parametrize("place", ["", "actor", "emitter"])
def test_a_key_that_the_schema_does_not_know_is_refused_and_not_repeated(place: str) -> None:
    event = copy.deepcopy(minimal_event())
    (event[place] if place else event)[MARKER] = 1
    with pytest.raises(ContractError, match="1 keys that the schema does not know") as caught:
        CONTRACT.check(event)
    assert caught.value.field == place
    assert MARKER not in str(caught.value)


def test_an_event_of_another_region_is_refused_where_a_region_is_set() -> None:
    Contract(packaged_registry(), "eu-central").check(minimal_event())
    with pytest.raises(ContractError, match="region: not the region of this deployment"):
        Contract(packaged_registry(), "us-east").check(minimal_event())


def test_an_event_is_at_most_one_mebibyte_encoded_to_the_byte() -> None:
    changes = [{"op": "ADD", "path": "/a", "before": None, "after": "x" * MAX_TEXT_BYTES}] * 127
    event = minimal_event(changes=changes)
    spare = MAX_EVENT_BYTES - len(AUDIT_EVENT.encode(event))
    event["detail"] = "x" * (spare - 2)  # a length of two bytes
    assert len(AUDIT_EVENT.encode(event)) == MAX_EVENT_BYTES
    CONTRACT.check(event)
    event["detail"] += "x"
    with pytest.raises(ContractError, match=f"too large: {MAX_EVENT_BYTES + 1} bytes"):
        CONTRACT.check(event)


def test_a_system_actor_needs_no_name() -> None:
    CONTRACT.check(minimal_event(actor={"kind": "SYSTEM", "id": "", "display": None}))


# -- extensions


def with_extension(value: dict[str, Any], **fields: object) -> dict[str, Any]:
    return minimal_event(extension={"schema": GITHUB.sha256, "payload": GITHUB.encode_body(value)}, **fields)


@given(github_extensions())
def test_every_well_formed_extension_is_admitted(value: dict[str, Any]) -> None:
    CONTRACT.check(with_extension(value))


@given(github_extensions())
def test_an_extension_is_checked_by_its_own_schema(value: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as caught:
        CONTRACT.check(with_extension({**value, "hook": MARKER}))
    assert caught.value.field == "extension.payload.hook"
    assert MARKER not in str(caught.value)


@given(github_extensions(), st.binary(min_size=1, max_size=4))
def test_bytes_after_an_extension_are_refused(value: dict[str, Any], trailing: bytes) -> None:
    event = minimal_event(extension={"schema": GITHUB.sha256, "payload": GITHUB.encode_body(value) + trailing})
    with pytest.raises(ContractError, match=r"extension\.payload: not the canonical encoding"):
        CONTRACT.check(event)


def session(source: str = "github", instance: str = "a") -> bytes:
    run = Run(source, instance, minimal_event()["emitter"]["epoch"])
    return open_run(run, "a/b/audit.raw", bytes(32), bytes([9] + [0] * 31), bytes(32), lambda message: bytes(64))


def opening(payload: bytes) -> dict[str, Any]:
    return minimal_event(event_name=OPEN, extension={"schema": RUN_SESSION.sha256, "payload": payload})


def test_the_first_event_of_a_run_carries_its_session() -> None:
    CONTRACT.check(opening(session()[10:]))


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (lambda: minimal_event(event_name=OPEN), "extension"),
        (lambda: {**opening(session()[10:]), "event_name": "github.push"}, "extension"),
        (lambda: opening(session()), "extension.payload"),
        (lambda: opening(session(instance="b")[10:]), "extension.payload.statement"),
        (lambda: opening(smuggling(statement=b"+ more")), "extension.payload.statement"),
        (lambda: opening(smuggling(wrapped_key=b"+ more")), "extension.payload.wrapped_key"),
    ],
    ids=["no session", "session elsewhere", "with its header", "another's", "longer statement", "longer key"],
)
def test_nothing_travels_in_a_session_but_the_session(event: Callable[[], dict[str, Any]], field: str) -> None:
    with pytest.raises(ContractError) as caught:
        CONTRACT.check(event())
    assert caught.value.field == field


def smuggling(**more: bytes) -> bytes:
    value = RUN_SESSION.decode(session())
    return RUN_SESSION.encode_body({**value, **{name: value[name] + extra for name, extra in more.items()}})


# -- never a value in an error

WRONG: list[Callable[[str], object]] = [
    lambda marker: marker,
    lambda marker: [marker],
    lambda marker: {marker: marker},
    lambda marker: marker.encode(),
    lambda marker: marker + "\ud800",
    lambda marker: marker * 1000,
]


@pytest.mark.parametrize("wrong", WRONG, ids=["text", "list", "record", "bytes", "surrogate", "long"])
@pytest.mark.parametrize("path", [leaf.path for leaf in field_tree(AUDIT_EVENT.text).leaves()])
def test_no_refusal_repeats_a_value(path: str, wrong: Callable[[str], object]) -> None:
    event = full_event() | {"extension": {"schema": GITHUB.sha256, "payload": b""}}
    try:
        CONTRACT.check(set_at(event, path.removesuffix("[]"), wrong(MARKER)))
    except ContractError as error:
        told = "".join(traceback.format_exception(error)) + repr(error)
        assert MARKER not in told


# -- the registry, and what a decoder accepts


@given(st.data())
def test_other_encodings_of_an_event_decode_to_it_and_are_not_canonical(data: st.DataObject) -> None:
    event = data.draw(events())
    canonical = AUDIT_EVENT.encode(event)
    other = AUDIT_EVENT.header + data.draw(encodings(AUDIT_EVENT, event))
    assert AUDIT_EVENT.decode_lenient(other) == event
    if other != canonical:
        with pytest.raises(NonCanonicalError):
            AUDIT_EVENT.decode(other)


def test_every_content_schema_is_found_by_its_text_and_every_event_schema_by_its_header() -> None:
    registry = packaged_registry()
    assert registry.by_header[AUDIT_EVENT.header] is AUDIT_EVENT
    assert registry.by_header.keys() == {Codec(text).header for text in load()[EVENT]}
    assert {GITHUB.sha256, RUN_SESSION.sha256} <= registry.extensions.keys() <= registry.by_digest.keys()
    assert all(codec.sha256 == digest for digest, codec in registry.by_digest.items())


def test_texts_of_one_fingerprint_are_all_known_and_the_first_stands_for_them() -> None:
    reworded = Codec(AUDIT_EVENT.text.replace("Who acted.", "Who did it."))
    assert reworded.header == AUDIT_EVENT.header
    assert reworded.sha256 != AUDIT_EVENT.sha256
    registry = Registry([AUDIT_EVENT, reworded], [])
    assert registry.by_header == {AUDIT_EVENT.header: AUDIT_EVENT}
    assert registry.by_digest.keys() >= {AUDIT_EVENT.sha256, reworded.sha256}


def test_every_released_version_is_known() -> None:
    registry = packaged_registry()
    texts = [text for versions in load().values() for text in versions]
    assert len(texts) >= 4
    assert {Codec(text).sha256 for text in texts} <= registry.by_digest.keys()


def test_what_an_older_event_lacks_has_its_default_within_records_and_lists_too() -> None:
    older = json.loads(AUDIT_EVENT.text)
    delivery = next(field for field in older["fields"] if field["name"] == "delivery")["type"][1]["fields"]
    attempt = next(field for field in delivery if field["name"] == "attempts")["type"]["items"]["fields"]
    delivery[:] = [field for field in delivery if field["name"] != "failed_hop"]
    attempt[:] = [field for field in attempt if field["name"] != "hop"]
    codec = Codec(json.dumps(older))
    event = codec.decode(codec.encode(full_event()))
    registry = Registry([AUDIT_EVENT, codec], [])
    assert registry.as_current(event, codec) == AUDIT_EVENT.decode(AUDIT_EVENT.encode(full_event()))
    assert "failed_hop" not in event["delivery"]


def test_a_registry_refuses_an_unclassified_schema() -> None:
    bare = Codec('{"type": "record", "name": "X", "fields": [{"name": "a", "type": "string"}]}')
    with pytest.raises(ConfigError, match="a: not classified"):
        Registry([AUDIT_EVENT], [bare])


def test_a_registry_refuses_an_event_that_does_not_begin_with_whose_it_is() -> None:
    with pytest.raises(ConfigError, match="does not begin with"):
        Registry([GITHUB], [])
