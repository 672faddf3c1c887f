"""One pass over an event, held against its oracle: the contract's check, the redactor and the encoder one after the other."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.admission import ARGUMENTS, Admission, Body, _Admitting, _SlowError
from schemas.contract import Contract
from schemas.encoder import split_encoder
from schemas.fields import Node, field_tree
from schemas.redact import Redactor, hash_value, may_hold_secret
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.secrets import suspicious
from sealtrail.errors import ContractError
from tests.strategies import GITHUB, events, github_extensions, minimal_event
from tests.test_contract import full_event

REGISTRY = packaged_registry()
UNREDACTED = {"status": "NONE", "policy": "v1", "fields": []}


def key_of(tenant: str) -> bytes:
    return hashlib.sha256(tenant.encode()).digest()


class Fast(Admission):
    """One that fails where it would go slowly."""

    def slowly(self, event: Any) -> Body:
        raise AssertionError("went slowly")


FAST = Fast(REGISTRY, None, key_of)
ADMIT = Admission(REGISTRY, None, key_of)


def outcome(admit: Callable[[dict[str, Any]], Body], event: dict[str, Any]) -> tuple[object, ...]:
    try:
        return admit(event)
    except ContractError as error:
        return (error.field, error.problem)


@settings(max_examples=100)
@given(events())
def test_a_good_event_is_admitted_in_one_pass_with_the_bytes_of_the_oracle(event: dict[str, Any]) -> None:
    before = copy.deepcopy(event)
    made = ADMIT.slowly(event)
    if _plain(event) and not suspicious(b"\n".join(made[:2])):  # a hash may look like anything
        assert FAST(event) == made
    assert event == before


def _plain(event: dict[str, Any]) -> bool:
    """What the one pass takes: long texts, and what may hold a secret, are left to the oracle.

    Numbers may look as if they did: the one pass looks at what is encoded.
    """
    looks = may_hold_secret(event) or suspicious(AUDIT_EVENT.encode_body(event))
    return not looks and all(len(text) <= 2048 for text in _texts(event))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in _texts(item)]
    return [t for item in value for t in _texts(item)] if isinstance(value, list) else []


@given(events(extension=False), github_extensions())
def test_an_extension_given_as_a_value_is_the_same_as_given_encoded(event: dict[str, Any], value: dict[str, Any]) -> None:
    as_value = {**event, "extension": {"schema": GITHUB.sha256, "value": value}}
    as_payload = {**event, "extension": {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(value)}}
    assume(not may_hold_secret(as_value) and not may_hold_secret(as_payload))
    made = ADMIT.slowly(as_value)
    assume(not suspicious(b"\n".join(made[:2])))
    assert FAST(as_value) == FAST(as_payload) == made


_NUMBERS = [7, -1, 2**31, 2**63, 2**70, 1.5, float("nan"), None, True]
_STRINGS = ["", "x", "X y", "\ud800", "é" * 3000, "z" * 9000, "SUCCESS", "emitter.open", f"hmac_{'0' * 16}_{'A' * 43}"]
_OTHERS = [b"", b"x" * 16, b"x" * 15, [], ["x"], [None], {}, {"x": 1}, ()]
_ODD: st.SearchStrategy[Any] = st.sampled_from([*_NUMBERS, *_STRINGS, *_OTHERS])


@st.composite
def mutated(draw: st.DrawFn, drawn: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """An event with something in it replaced, left out, or added."""
    event = draw(drawn)
    if event["extension"] is None and draw(st.booleans()):
        event["extension"] = {"schema": GITHUB.sha256, "value": draw(github_extensions())}
    for _ in range(draw(st.integers(1, 2))):
        node: Any = event
        keys = [key for key in event if key not in ("event_id", "emitter", "region", "redaction")]
        key: Any = draw(st.sampled_from(keys))
        while isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        act = draw(st.sampled_from(["replace", "replace", "leave out", "add"]))
        if act == "replace" or isinstance(node, list):
            node[key] = draw(_ODD)
        elif act == "leave out":
            del node[key]
        else:
            node["surplus"] = draw(_ODD)
        if not isinstance(event.get("tenant"), str):
            event["tenant"] = "acme"  # whose it is, the emitter has looked at before
    return event


@settings(max_examples=400)
@given(mutated(events()))
def test_whatever_an_event_holds_the_outcome_is_the_oracles(event: dict[str, Any]) -> None:
    assert outcome(ADMIT, event) == outcome(ADMIT.slowly, event)


def test_what_is_admitted_is_redacted_and_says_so() -> None:
    event = minimal_event(
        actor={"kind": "USER", "id": "ada", "display": "ada-lovelace"},
        detail="gone",
        reason="why not",
        changes=[
            {"op": "REPLACE", "path": "/role", "before": '"reader"', "after": '"owner"'},
            {"op": "REPLACE", "path": "/title", "before": '"old one"', "after": None},
        ],
    )
    before, after, _ = ADMIT(event)
    emitter = AUDIT_EVENT.encode_body(event)[len(before) :]
    body = before + emitter[: emitter.index(event["emitter"]["epoch"]) + 17] + after
    made = AUDIT_EVENT.decode_body(body)
    assert made["actor"]["id"] == hash_value(key_of(event["tenant"]), "ada")
    assert made["actor"]["display"] == "***-*****ace"
    assert (made["detail"], made["reason"]) == (None, "*** **t")
    assert made["changes"][0]["after"] == '"owner"'
    assert made["changes"][1]["before"] == '**** **e"'
    assert set(made["redaction"]["fields"]) == {"actor.id", "actor.display", "detail", "reason", "changes[].before"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"event_name": "No"}, "event_name"),
        ({"occurred_at": 5}, "occurred_at"),
        ({"actor": {"kind": "USER", "id": ""}}, "actor.id"),
        ({"reason": "lone \ud800"}, "reason"),
        ({"extension": {"schema": b"\0" * 32, "value": {}}}, "extension.schema"),
        ({"extension": {"schema": GITHUB.sha256, "value": {"hook": 7}}}, "extension.payload.hook"),
        ({"extension": {"schema": GITHUB.sha256, "payload": b"\xff"}}, "extension.payload"),
        ({"changes": [{"op": "ADD", "path": "/x", "before": None, "after": "x" * 8000}] * 150}, ""),
    ],
)
def test_a_refusal_names_the_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ContractError) as caught:
        ADMIT(minimal_event(**changed))
    assert caught.value.field == field
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def body_of(event: dict[str, Any]) -> dict[str, Any]:
    """The event as a reader gets it."""
    before, after, _ = ADMIT(event)
    whole = AUDIT_EVENT.encode_body(minimal_event())
    head, tail = split_encoder(AUDIT_EVENT.text, "emitter")(minimal_event())
    return dict(AUDIT_EVENT.decode_body(before + whole[len(head) : len(whole) - len(tail)] + after))


def extended(**extension: object) -> dict[str, Any]:
    return minimal_event(extension={"schema": GITHUB.sha256, **extension})


def test_what_a_caller_does_to_its_value_afterwards_changes_no_other_event() -> None:
    value = a_value()
    value["ref"] = "refs/heads/alice-lovelace"
    payload = GITHUB.encode_body(value)
    ADMIT.slowly(extended(value=value))
    value["ref"] = None
    for admit in (ADMIT, ADMIT.slowly):
        admitted = admit(extended(payload=payload))
        assert b"alice" not in b"".join(admitted[:2])
        assert admit(extended(payload=payload)) == admitted
    assert GITHUB.decode_body(body_of(extended(payload=payload))["extension"]["payload"])["ref"] is not None


def a_value() -> dict[str, Any]:
    """Of the GitHub extension, with little in it."""
    nothing = dict.fromkeys(field["name"] for field in json.loads(GITHUB.text)["fields"])
    return {**nothing, "hook": "push", "malformed": False, "settings": []}


def test_bytes_that_can_change_are_taken_as_they_are_at_the_moment() -> None:
    value = a_value()
    payload = bytearray(GITHUB.encode_body(value))
    first = ADMIT(extended(payload=payload))
    assert first == ADMIT(extended(payload=bytes(payload)))
    payload[:] = GITHUB.encode_body({**value, "hook": "fork"})
    assert ADMIT(extended(payload=bytes(payload))) != first
    with pytest.raises(ContractError, match="not bytes"):
        REGISTRY.extension_value(GITHUB.sha256, cast("bytes", payload))


class Text(str):
    """A text that says something else of itself."""

    def encode(self, *_: Any) -> bytes:
        return b"something else"


class Fields(dict[str, Any]):
    """Fields that say something else of themselves."""

    def get(self, *_: Any) -> Any:
        return "something else"


class Word(StrEnum):
    DENIED = "DENIED"


def test_subclasses_are_taken_for_what_they_hold() -> None:
    plain = minimal_event(actor={"kind": "USER", "id": "ada"}, result="DENIED", reason="because")
    odd = minimal_event(actor=Fields(kind="USER", id=Text("ada")), result=Word.DENIED, reason=Text("because"))
    assert ADMIT(odd) == ADMIT(plain)


def test_what_is_nested_without_end_or_of_no_type_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, object(), {1, 2}, {"a": {"b": object()}}, 1j):
        with pytest.raises(ContractError):
            ADMIT(minimal_event(changes=value))
        with pytest.raises(ContractError):
            ADMIT(minimal_event(reason=value))


def test_an_event_changed_by_another_thread_meanwhile_is_one_of_those_it_was() -> None:
    event = minimal_event(object={"type": "thing", "id": "plain"}, changes=[])
    change = {"op": "ADD", "path": "/x", "before": None, "after": "1"}
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            event["object"]["id"] = "ghp_" + "a1B2" * 9
            event["changes"] = [change] * 3
            event["object"]["id"] = "plain"
            event["changes"].clear()

    thread = threading.Thread(target=meddle)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        admitted, refused = 0, set()
        for _ in range(300):
            try:
                made = body_of(event)
            except ContractError as error:
                refused.add(error.field)
            else:
                admitted += 1
                assert made["object"]["id"] == "plain"
                assert len(made["changes"]) in (0, 3)
    finally:
        stop.set()
        sys.setswitchinterval(before)
        thread.join()
    assert admitted
    assert refused <= {"object.id"}


def test_a_list_that_is_to_be_left_out_is_left_to_the_oracle_whatever_its_items_are() -> None:
    field = {"name": "flags", "type": {"type": "array", "items": "boolean"}, "dataClass": "secret", "redact": "omit"}
    text = json.dumps({"type": "record", "name": "Top", "fields": [field]})
    admit = _Admitting(text, lambda _: True, "x.").function(ARGUMENTS)
    assert admit({"flags": []}, str, [], [], [], "acme") == b"\x00"
    for flags in ([False], [False, False], [True]):
        with pytest.raises(_SlowError):
            admit({"flags": flags}, str, [], [], [], "acme")


TEXTS = [leaf for leaf in field_tree(AUDIT_EVENT.text).leaves() if "string" in (leaf.kind, leaf.items and leaf.items.kind)]


@pytest.mark.parametrize("leaf", TEXTS, ids=lambda leaf: leaf.path)
@pytest.mark.parametrize("text", ["ghp_" + "a1B2" * 9, "see ghp_" + "a1B2" * 9])
def test_a_secret_in_any_text_comes_out_nowhere_and_has_the_oracles_outcome(leaf: Node, text: str) -> None:
    event: dict[str, Any] = copy.deepcopy(full_event())
    *way, last = leaf.path.split(".")
    place: Any = event
    for step in way:
        place = place[step.removesuffix("[]")]
        place = place[0] if isinstance(place, list) else place
    place[last] = text if leaf.kind == "string" else [text]
    made = outcome(ADMIT, event)
    assert made == outcome(ADMIT.slowly, event)
    holes = made[2] if len(made) == 3 else ()
    assert isinstance(holes, tuple)
    shown = [*(part for part in made if isinstance(part, bytes)), *(hole.text for hole in holes)]
    assert not any(b"a1B2a1B2" in part for part in shown)


def test_an_event_of_another_region_and_one_without_a_key_are_refused() -> None:
    def no_key(_: str) -> bytes:
        raise ContractError("tenant", "none")

    assert outcome(Admission(REGISTRY, None, no_key), minimal_event()) == ("tenant", "none")
    elsewhere = Admission(REGISTRY, "elsewhere", key_of)
    for admit in (elsewhere, elsewhere.slowly):
        assert outcome(admit, minimal_event())[0] == "region"


def test_the_steps_of_the_oracle_are_those_that_others_use() -> None:
    event = minimal_event(reason="why not")
    Contract(REGISTRY).check(event)
    redacted = Redactor(AUDIT_EVENT.text, REGISTRY, key_of)(event)
    before, after, _ = ADMIT.slowly(event)
    whole = AUDIT_EVENT.encode_body(redacted)
    assert whole.startswith(before)
    assert whole.endswith(after)
