"""No secret stays in any text of an event that redaction lets through, and nothing disappears for it."""

from __future__ import annotations

import copy
import marshal
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.fields import Node, Redact, field_tree
from schemas.net import Leak, Net, SecretError
from schemas.redact import RedactionCheck, Redactor
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from schemas.secrets import find, suspicious
from sealtrail.avro import Codec
from sealtrail.errors import ContractError
from tests.leaks.forms import UPPER, made, some
from tests.leaks.places import places
from tests.sent import sent
from tests.strategies import GITHUB, events, github_extensions, minimal_event

REGISTRY = packaged_registry()
NET = Net(REGISTRY)
REDACT = Redactor(AUDIT_EVENT.text, REGISTRY, lambda tenant: bytes(32))
CHECK = RedactionCheck(REGISTRY)
R = Random(5)
AWS = "AKIA" + some(R, UPPER, 16)
LOWER = "glpat-" + some(R, "abcdefghij0123456789", 24)  # fits the pattern of names
FORMS = made(Random(9))


def whole_event() -> dict[str, Any]:
    """An event in which every record is there."""
    attempt = {"number": 1, "at": 1_795_000_000_000_000, "outcome": "REFUSED", "status": 500, "hop": "edge"}
    return minimal_event(
        object={"type": "room", "id": "r-1"},
        retry={"original_event_id": None, "attempt": 2, "idempotency_key": "k-1"},
        authorization={"method": "NONE", "scopes": [], "policy": None, "policy_version": None, "decision": "ALLOW"},
        delivery=dict.fromkeys(("validated", "signed", "encrypted", "payload_digest", "acknowledgement"))
        | {"retry_policy": None, "attempts": [attempt], "failure": None, "failed_hop": None},
        message={"stage": "SENT", "type": "direct", "recipient_group": None, "recipient_count": 1},
        deployment={"environment": "p", "commit": None, "artifact_digest": None, "checks": []},
        content_ref={"digest": bytes(32), "size": 1, "media_type": "text/plain", "location": "s3://b/k"},
        changes=[{"op": "REPLACE", "path": "/a", "before": '"x"', "after": None}],
        subject={"id": "bob", "display": "Bob"},
    )  # fmt: skip


PLACES = [(path, node) for path, _, node in places(whole_event(), field_tree(AUDIT_EVENT.text))]
SECRETS = {"upper": AWS, "lower": LOWER, "prose": f"see {AWS}, please"}


def attempt(event: dict[str, Any]) -> dict[str, Any] | ContractError:
    """As an emitter prepares an event."""
    try:
        Contract(REGISTRY).check(event)
        return REDACT(event)
    except ContractError as error:
        return error


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize(("path", "node"), PLACES, ids=[path for path, _ in PLACES])
def test_in_every_text_of_an_event_a_secret_is_overwritten_or_the_event_refused(path: str, node: Node, secret: str) -> None:
    event = whole_event()
    put = next(put for where, put, _ in places(event, field_tree(AUDIT_EVENT.text)) if where == path)
    put(secret)
    before = copy.deepcopy(event)
    redacted = attempt(event)
    if isinstance(redacted, ContractError):
        assert redacted.field == path and secret not in str(redacted) and AWS not in str(redacted)
        return
    assert event == before
    assert not any(part in str(redacted) for part in (AWS, LOWER))
    assert path in redacted["redaction"]["fields"]
    Contract(REGISTRY).check(redacted)
    assert CHECK(sent(redacted)) == () and NET(redacted) == (redacted, ())
    assert REDACT(redacted) == redacted


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("ticket", AWS, "[secret:aws-access-key]"),
        ("correlation_id", f"x/{AWS}", "x/[secret:aws-access-key]"),
        ("object", {"type": "room", "id": LOWER}, {"type": "room", "id": "[secret:gitlab-token]"}),
    ],
)
def test_an_identifier_keeps_what_is_no_secret(field: str, value: object, left: object) -> None:
    assert REDACT(minimal_event(**{field: value}))[field] == left


@pytest.mark.parametrize("field", ["source_system", "target_system", "region"])
def test_where_the_pattern_takes_no_mark_the_event_is_refused_with_field_and_shape(field: str) -> None:
    with pytest.raises(SecretError) as caught:
        REDACT(minimal_event(**{field: LOWER}))
    assert (caught.value.field, caught.value.shape) == (field, "gitlab-token")
    assert str(caught.value) == f"{field}: holds what looks like a secret (gitlab-token)"


def test_a_mark_that_does_not_fit_the_longest_text_refuses_the_event() -> None:
    longest = "x" * (256 - 21) + "/" + AWS
    assert len(longest) == 256
    with pytest.raises(SecretError):
        REDACT(minimal_event(ticket=longest))


def test_a_masked_text_that_held_a_secret_shows_nothing_of_its_end() -> None:
    redacted = REDACT(minimal_event(reason=f"because of {AWS}", object_name="Because of nothing"))
    assert redacted["reason"] == "*" * len(f"because of {AWS}")
    assert redacted["object_name"].endswith("hing")
    assert redacted["redaction"]["fields"] == ["reason", "actor.id", "object_name"]


def test_a_change_in_clear_that_holds_a_secret_is_masked() -> None:
    change = {"op": "REPLACE", "path": "/state", "before": None, "after": '"password=hunterhunter"'}
    assert REDACT(minimal_event(changes=[change]))["changes"][0]["after"] == "*" * 23


EXTENSION = Codec(
    """{"type": "record", "name": "Kinds", "fields": [
    {"name": "reference", "type": "string", "dataClass": "internal", "pattern": "^[!-~]{1,256}$"},
    {"name": "names", "type": {"type": "array", "items": "string"}, "dataClass": "internal", "pattern": "^[a-z-]{1,64}$"},
    {"name": "rows", "type": {"type": "array", "items": {"type": "record", "name": "Row", "fields": [
      {"name": "note", "type": ["null", "string"], "dataClass": "content", "redact": "mask"},
      {"name": "who", "type": "string", "dataClass": "personal", "redact": "hash"}]}}}]}"""
)


def test_an_extension_is_looked_through_by_its_own_schema() -> None:
    net = Net(Registry([AUDIT_EVENT], [EXTENSION]))
    value = {"reference": f"key:{AWS}", "names": ["a", "b"], "rows": [{"note": AWS, "who": AWS}, {"note": None, "who": "x"}]}
    event = minimal_event(extension={"schema": EXTENSION.sha256, "payload": EXTENSION.encode_body(value)})
    caught, leaks = net(event)
    assert EXTENSION.decode_body(caught["extension"]["payload"]) == {
        **value,
        "reference": "key:[secret:aws-access-key]",
        "rows": [{"note": "*" * 20, "who": AWS}, {"note": None, "who": "x"}],
    }
    assert [leak.field for leak in leaks] == ["extension.payload.reference", "extension.payload.rows[].note"]
    refused = {**value, "names": ["plain", "glpat-" + "abcdefghijklmnopqrstuvwx"]}
    with pytest.raises(SecretError, match=r"extension.payload.names\[\]"):
        net({**event, "extension": {"schema": EXTENSION.sha256, "payload": EXTENSION.encode_body(refused)}})


@given(events(), github_extensions(), st.data())
def test_whatever_stands_where_no_secret_survives(
    event: dict[str, Any], extension: dict[str, Any], data: st.DataObject
) -> None:
    event, extension = copy.deepcopy((event, extension))  # what is drawn may be shared
    forms = data.draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=3))
    spots = [*places(event, field_tree(AUDIT_EVENT.text)), *places(extension, field_tree(GITHUB.text), "extension.payload.")]
    chosen = data.draw(st.lists(st.sampled_from(range(len(spots))), min_size=1, max_size=3))
    for spot, form in zip(chosen, forms, strict=False):
        spots[spot][1](form.text)
    event["extension"] = {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(extension)}
    redacted = attempt(event)
    if isinstance(redacted, ContractError):
        assert not any(form.secret in str(redacted) for form in forms)
        return
    encoded = AUDIT_EVENT.encode(redacted)
    for spot, form in zip(chosen, forms, strict=False):
        marks = spots[spot][2].marks
        if marks is not None and marks.redact is not Redact.HASH:  # a hash is what it is, whatever was hashed
            assert form.secret.encode() not in encoded
    assert NET(redacted) == (redacted, ())
    assert REDACT(redacted) == redacted


@given(events(), st.data())
def test_an_event_that_the_scan_passes_holds_nothing_that_the_net_would_find(
    event: dict[str, Any], data: st.DataObject
) -> None:
    event = copy.deepcopy(event)
    spots = list(places(event, field_tree(AUDIT_EVENT.text)))
    text = data.draw(st.sampled_from([*(form.text for form in FORMS), "", "plain"]))
    data.draw(st.sampled_from(spots))[1](text)
    found = any(find(value) for value in texts_of(event))
    scanned = suspicious(marshal.dumps([value for value in event.values() if value is not None]))
    assert scanned or not found
    assert suspicious(AUDIT_EVENT.encode(event)) or not found


def texts_of(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from texts_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts_of(value)


def test_a_leak_names_field_and_shape_once() -> None:
    scopes = [AWS, AWS, "read"]
    event = minimal_event(
        authorization={"method": "NONE", "scopes": scopes, "policy": None, "policy_version": None, "decision": "ALLOW"}
    )
    caught, leaks = NET(event)
    assert caught["authorization"]["scopes"] == ["[secret:aws-access-key]", "[secret:aws-access-key]", "read"]
    assert leaks == (Leak("authorization.scopes[]", "aws-access-key"),)
    assert event["authorization"]["scopes"] == scopes


def test_an_event_without_secrets_comes_back_as_it_is() -> None:
    event = whole_event()
    assert NET(event)[0] is event and NET(event)[1] == ()


def test_hashes_and_what_is_omitted_are_left_to_redaction() -> None:
    event = minimal_event(detail=AWS, credential=AWS)
    assert NET(event) == (event, ())
    redacted = REDACT(event)
    assert redacted["detail"] is None and AWS not in redacted["credential"]
