"""Redaction takes away what the schema marks, twice changes nothing, and its check finds the rest (CON-2, CON-3)."""

from __future__ import annotations

import copy
import hashlib
import hmac
import traceback
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.fields import Node, field_tree
from schemas.redact import RedactionCheck, Redactor, hash_value, is_hashed, is_masked, mask
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from sealtrail.avro import Codec
from sealtrail.errors import ContractError
from sealtrail.token import secret_key_id
from tests.sent import TOKENIZED, sent
from tests.strategies import GITHUB, events, minimal_event, texts

KEY = bytes(range(32))
REGISTRY = packaged_registry()
REDACT = Redactor(AUDIT_EVENT.text, REGISTRY, lambda tenant: hashlib.sha256(tenant.encode()).digest())
CHECK = RedactionCheck(REGISTRY)

MASKS = [
    ("", ""),
    ("a", "*"),
    ("abc", "***"),
    ("abcd", "***d"),
    ("12345678", "******78"),
    ("alice@example.com", "*****@*******.com"),
    ("+44 (0)20 7946-0018", "+** (*)** ****-0018"),
    ('"private"', '*******e"'),
    ("../-_:", "../-_:"),
    ("gärtnerin", "*******in"),
    ("日本語文字列です", "******です"),
]


@pytest.mark.parametrize(("value", "masked"), MASKS)
def test_a_mask_keeps_shape_and_last_characters(value: str, masked: str) -> None:
    assert mask(value) == masked
    assert is_masked(masked)


@given(texts)
def test_a_mask_is_recognised_and_masking_it_changes_nothing(value: str) -> None:
    assert is_masked(mask(value))
    assert mask(mask(value)) == mask(value)
    assert is_masked(value) == (mask(value) == value)


def test_a_hash_is_hmac_sha256_under_its_own_context_line() -> None:
    digest = hmac.new(KEY, b"sealtrail/hash/v1\nalice", "sha256").digest()
    key_id = hashlib.sha256(b"sealtrail/key-id/v1\n" + KEY).hexdigest()
    assert hash_value(KEY, "alice") == f"hmac_{key_id[:16]}_{urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert hash_value(KEY, "alice") == "hmac_" + secret_key_id(KEY).hex()[:16] + "_" + HASH_OF_ALICE


HASH_OF_ALICE = "cwZScaTW-JtlbsNmy0bKCJlLuBpxwGkO9HNgc4F0JVQ"  # final: joins within a tenant rest on it


@given(st.binary(min_size=32, max_size=32), texts)
def test_every_hash_has_the_form_that_the_check_knows(key: bytes, value: str) -> None:
    assert is_hashed(hash_value(key, value))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "alice",
        "hmac_0123456789abcdef_",
        f"hmac_0123456789abcdeg_{HASH_OF_ALICE}",
        f"hmac_0123456789abcdef_{HASH_OF_ALICE}\n",
        f"hmac_0123456789abcdef_{HASH_OF_ALICE}=",
        f"hmac_0123456789abcdef_{HASH_OF_ALICE[:-1]}J",
        f" hmac_0123456789abcdef_{HASH_OF_ALICE}",
        f"HMAC_0123456789abcdef_{HASH_OF_ALICE}",
    ],
)
def test_nothing_else_has_the_form_of_a_hash(value: str) -> None:
    assert not is_hashed(value)


# -- events


@given(events())
def test_a_redacted_event_passes_the_check_and_the_contract(event: dict[str, Any]) -> None:
    redacted = sent(REDACT(event))
    assert CHECK(redacted) == ()
    Contract(REGISTRY).check(redacted)


@given(events())
def test_redacting_twice_changes_nothing(event: dict[str, Any]) -> None:
    redacted = REDACT(event)
    assert REDACT(redacted) == redacted


@given(events())
def test_redaction_leaves_the_given_event_alone_and_all_that_is_not_marked(event: dict[str, Any]) -> None:
    before = copy.deepcopy(event)
    redacted = REDACT(event)
    assert event == before
    for path in leaf_paths(marked=False):
        assert list(at(redacted, path)) == list(at(before, path))


@given(events())
def test_the_paths_that_changed_are_stated(event: dict[str, Any]) -> None:
    redacted = REDACT(event)
    left = {value.path for value in TOKENIZED.values(redacted)}  # encrypted later, and named now
    changed = {path for path in leaf_paths(marked=True) if list(at(redacted, path)) != list(at(event, path))} | left
    stated = set(redacted["redaction"]["fields"])
    assert {path for path in stated if not path.startswith("extension.")} == changed
    assert redacted["redaction"]["status"] == ("APPLIED" if stated else "NONE")


@given(events())
def test_the_check_finds_what_was_not_redacted(event: dict[str, Any]) -> None:
    violations = {violation.field for violation in CHECK(event)}
    assert violations == set(REDACT(event)["redaction"]["fields"])


def leaf_paths(marked: bool) -> list[str]:
    leaves = field_tree(AUDIT_EVENT.text).leaves()
    outside = ("redaction.", "extension.")
    return [x.path for x in leaves if x.marks and (x.marks.redact is not None) is marked and not x.path.startswith(outside)]


def at(event: object, path: str) -> Iterator[object]:
    """Every value at a path."""
    head, _, rest = path.partition(".")
    value = event.get(head.removesuffix("[]")) if isinstance(event, dict) else None
    for item in value if head.endswith("[]") and isinstance(value, list) else [value]:
        if rest and item is not None:
            yield from at(item, rest)
        elif not rest:
            yield item


@pytest.mark.parametrize(
    ("path", "value", "clear"),
    [
        ("/visibility", '"public"', True),
        ("/archived", "true", True),
        ("/retention_days", "-30", True),
        ("/visibility", "null", True),
        ("/visibility", '"Alice Liddell"', False),
        ("/visibility", '"public"\n', False),
        ("/visibility/", '"public"', False),
        ("/description", '"public"', False),
        ("/a/visibility", '"public"', False),
    ],
)
def test_a_change_stands_in_clear_only_at_a_named_path_with_a_plain_value(path: str, value: str, clear: bool) -> None:
    change = {"op": "REPLACE", "path": path, "before": value, "after": None}
    redacted = REDACT(minimal_event(changes=[change]))
    assert redacted["changes"] == [{**change, "before": value if clear else mask(value)}]
    assert CHECK(redacted) == ()
    assert ("changes[].before" in {v.field for v in CHECK(minimal_event(changes=[change]))}) is not clear


def test_paths_named_before_stay_named() -> None:
    earlier = {"status": "APPLIED", "policy": "v1", "fields": ["detail"]}
    assert REDACT(minimal_event(redaction=earlier))["redaction"]["fields"] == ["detail", "actor.id"]


def test_one_value_hashes_alike_within_a_tenant_and_otherwise_in_another() -> None:
    first, second, other = (REDACT(minimal_event(tenant=t))["actor"]["id"] for t in ("acme", "acme", "globex"))
    assert first == second != other


def test_no_hash_key_is_asked_for_when_nothing_is_to_be_hashed() -> None:
    def no_key(tenant: str) -> bytes:
        raise AssertionError

    redact = Redactor(AUDIT_EVENT.text, REGISTRY, no_key)
    redact(minimal_event(actor={"kind": "SYSTEM", "id": "", "display": None}))


def test_a_hash_form_that_a_person_typed_passes_for_it_says_only_that_a_value_looks_redacted() -> None:
    typed = f"hmac_0123456789abcdef_{HASH_OF_ALICE}"
    event = minimal_event(actor={"kind": "USER", "id": typed, "display": None})
    assert REDACT(event)["actor"]["id"] == typed
    assert CHECK(event) == ()


# -- extensions, and every kind of leaf

EVERY_KIND = Codec(
    """{"type": "record", "name": "Kinds", "fields": [
    {"name": "text", "type": "string", "dataClass": "secret", "redact": "omit"},
    {"name": "maybe", "type": ["null", "string"], "dataClass": "secret", "redact": "omit"},
    {"name": "raw", "type": "bytes", "dataClass": "content", "redact": "omit"},
    {"name": "number", "type": "long", "dataClass": "personal", "redact": "omit"},
    {"name": "flag", "type": "boolean", "dataClass": "personal", "redact": "omit"},
    {"name": "list", "type": {"type": "array", "items": "string"}, "dataClass": "secret", "redact": "omit"},
    {"name": "names", "type": {"type": "array", "items": "string"}, "dataClass": "personal", "redact": "hash"},
    {"name": "notes", "type": {"type": "array", "items": "string"}, "dataClass": "content", "redact": "mask"},
    {"name": "rows", "type": {"type": "array", "items": {"type": "record", "name": "Row", "fields": [
      {"name": "who", "type": "string", "dataClass": "personal", "redact": "hash"},
      {"name": "count", "type": "long", "dataClass": "public"}]}}}]}"""
)
FULL = {
    "text": "t",
    "maybe": "m",
    "raw": b"r",
    "number": 7,
    "flag": True,
    "list": ["l"],
    "names": ["Alice", "Bob"],
    "notes": ["hush now"],
    "rows": [{"who": "Carol", "count": 3}],
}
KINDS = Registry([AUDIT_EVENT], [EVERY_KIND])


def test_every_kind_of_leaf_is_redacted_in_an_extension_and_the_check_finds_each() -> None:
    event = minimal_event(extension={"schema": EVERY_KIND.sha256, "payload": EVERY_KIND.encode_body(FULL)})
    redacted = Redactor(AUDIT_EVENT.text, KINDS, lambda tenant: KEY)(event)
    value = EVERY_KIND.decode_body(redacted["extension"]["payload"])
    assert value == {
        "text": "",
        "maybe": None,
        "raw": b"",
        "number": 0,
        "flag": False,
        "list": [],
        "names": [hash_value(KEY, "Alice"), hash_value(KEY, "Bob")],
        "notes": [mask("hush now")],
        "rows": [{"who": hash_value(KEY, "Carol"), "count": 3}],
    }
    check = RedactionCheck(KINDS)
    assert check(redacted) == ()
    stated = [f for f in redacted["redaction"]["fields"] if f.startswith("extension.")]
    assert sorted({v.field for v in check(event)} - {"actor.id"}) == sorted(set(stated))
    assert {"extension.payload.rows[].who", "extension.payload.names[]"} <= set(stated)


@pytest.mark.parametrize(
    ("extension", "field"),
    [
        ({"schema": bytes(32), "payload": b""}, "extension.schema"),
        ({"schema": GITHUB.sha256, "payload": b"\xff"}, "extension.payload"),
    ],
)
def test_an_extension_that_cannot_be_read_is_refused_and_a_violation(extension: dict[str, bytes], field: str) -> None:
    event = minimal_event(extension=extension, actor={"kind": "SYSTEM", "id": "", "display": None})
    with pytest.raises(ContractError) as caught:
        REDACT(event)
    assert caught.value.field == field
    assert [violation.field for violation in CHECK(event)] == [field]


# -- nothing of a value is left, anywhere


def planted(event: dict[str, Any], node: Node, serial: Iterator[int], markers: list[str]) -> None:
    """Put a marker of its own into every marked leaf under a record."""
    for name, below in node.fields:
        value = event.get(name)
        if below.kind == "record" and value is not None:
            planted(value, below, serial, markers)
        elif below.items is not None and below.items.kind == "record":
            for item in value or ():
                planted(item, below.items, serial, markers)
        elif below.marks is not None and below.marks.redact is not None:
            markers.append(b32encode(hashlib.sha256(b"%d" % next(serial)).digest()).decode()[:24])
            event[name] = markers[-1]


def shreds(marker: str) -> set[str]:
    """Every run of six characters: what a mask shows is shorter."""
    return {marker[i : i + 6] for i in range(len(marker) - 5)}


@given(events(), st.integers(0, 10**5))
def test_no_marker_planted_in_a_marked_field_survives(event: dict[str, Any], start: int) -> None:
    serial, markers = iter(range(start, start + 10_000)), list[str]()
    if event["extension"] is not None:
        value = GITHUB.decode_body(event["extension"]["payload"])
        planted(value, field_tree(GITHUB.text), serial, markers)
        event["extension"]["payload"] = GITHUB.encode_body(value)
    planted(event, field_tree(AUDIT_EVENT.text), serial, markers)
    assert markers
    told = str(CHECK(event))
    encoded = AUDIT_EVENT.encode(sent(REDACT(event))).decode("latin-1")
    for marker in markers:
        assert not any(shred in encoded or shred in told for shred in shreds(marker))


MARKER = "Zebulon-Quixote-Marker"


@pytest.mark.parametrize("wrong", [[MARKER], {MARKER: MARKER}, MARKER.encode(), MARKER + "\ud800"], ids=str)
@pytest.mark.parametrize("path", leaf_paths(marked=True))
def test_no_refusal_to_redact_repeats_a_value(path: str, wrong: object) -> None:
    change = {"op": "ADD", "path": "/a", "before": None, "after": None}
    event = minimal_event(changes=[change], subject={"id": "b", "display": None})
    place: Any = event
    *parents, last = path.split(".")
    for part in parents:
        place = place[part.removesuffix("[]")]
        place = place[0] if isinstance(place, list) else place
    place[last] = wrong
    told, redacted = attempt(event)
    assert MARKER not in told  # refused
    assert MARKER not in str(redacted and sent(redacted))  # omitted, masked, or encrypted


def attempt(event: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """All that a refusal says, and the redacted event if there was none."""
    try:
        return "", REDACT(event)
    except ContractError as error:
        return "".join(traceback.format_exception(error)) + repr(error), None
