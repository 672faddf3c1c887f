"""A schema that leaves a field unclassified or unprotected is refused, with the field's name (CON-2)."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from schemas.fields import DataClass, Redact, field_tree, lint, subject_problems
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ContractError

INTERNAL = {"dataClass": "internal", "pattern": "^[a-z]+$"}
HASHED = {"dataClass": "personal", "redact": "hash"}
MASKED = {"dataClass": "content", "redact": "mask"}
TOKENIZED = {"dataClass": "personal", "redact": "tokenize"}
BESIDE: list[dict[str, object]] = [
    {"name": "id", "type": ["null", "string"], **HASHED},
    {"name": "count", "type": "long", "dataClass": "public"},
    {"name": "note", "type": "string", **MASKED},
    {"name": "gone", "type": "string", "dataClass": "personal", "redact": "omit"},
    {"name": "names", "type": {"type": "array", "items": "string"}, **HASHED},
]


def schema(*fields: dict[str, object]) -> str:
    return json.dumps({"type": "record", "name": "X", "fields": list(fields)})


def test_the_packaged_schemas_are_classified() -> None:
    lint(AUDIT_EVENT.text)
    for file in (resources.files("schemas") / "extensions").iterdir():
        if file.name.endswith(".avsc"):
            lint(file.read_text("utf-8"))


REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("nothing", {"type": "string"}, "not classified"),
    ("class of no kind", {"type": "string", "dataClass": "private"}, "not classified"),
    ("number", {"type": "long"}, "not classified"),
    ("misspelt", {"type": "long", "dataclass": "public"}, "an attribute"),
    ("free public text", {"type": "string", "dataClass": "public"}, "a pattern is missing"),
    ("free texts", {"type": {"type": "array", "items": "string"}, "dataClass": "internal"}, "a pattern is missing"),
    ("free bytes", {"type": "bytes", "dataClass": "internal"}, "bytes of any content"),
    ("personal", {"type": "string", "dataClass": "personal"}, "personal without a redaction"),
    ("unknown redaction", {"type": "string", "dataClass": "personal", "redact": "burn"}, "without a redaction"),
    ("content", {"type": "bytes", "dataClass": "content"}, "content without a redaction"),
    ("secret masked", {"type": "string", "dataClass": "secret", "redact": "mask"}, "a secret is omitted"),
    ("number tokenised", {"type": "long", **TOKENIZED}, "tokenize is for text"),
    ("secret tokenised", {"type": "string", **TOKENIZED, "dataClass": "secret"}, "a secret is omitted"),
    ("pattern on a token", {"type": "string", **TOKENIZED, "pattern": "a"}, "public and internal text alone"),
    ("subject of a hash", {"type": "string", **HASHED, "subjectField": "leaf"}, "tokenised text alone"),
    ("subject not there", {"type": "string", **TOKENIZED, "subjectField": "other"}, "no text there"),
    ("subject elsewhere", {"type": "string", **TOKENIZED, "subjectField": "good"}, "no text there"),
    ("subject no text", {"type": "string", **TOKENIZED, "subjectField": "count"}, "no text there"),
    ("subject masked", {"type": "string", **TOKENIZED, "subjectField": "note"}, "no text there"),
    ("subject omitted", {"type": "string", **TOKENIZED, "subjectField": "gone"}, "no text there"),
    ("subject a list", {"type": "string", **TOKENIZED, "subjectField": "names"}, "no text there"),
    ("subject of no form", {"type": "string", **TOKENIZED, "subjectField": "names[]"}, "neither a field's name"),
    ("subject not text", {"type": "string", **TOKENIZED, "subjectField": 7}, "neither a field's name"),
    ("public redacted", {"type": "long", "dataClass": "public", "redact": "omit"}, "yet it names a redaction"),
    ("number hashed", {"type": "long", **HASHED}, "hash is for text"),
    (
        "enum omitted",
        {"type": {"type": "enum", "name": "E", "symbols": ["A"]}, "dataClass": "personal", "redact": "omit"},
        "can be empty",
    ),
    ("look-ahead", {"type": "string", "dataClass": "public", "pattern": "(?=a)a"}, "RE2"),
    ("back-reference", {"type": "string", "dataClass": "public", "pattern": r"(a)\1"}, "RE2"),
    ("pattern on a hash", {"type": "string", **HASHED, "pattern": "a"}, "public and internal text alone"),
    ("map", {"type": {"type": "map", "values": "string"}, **INTERNAL}, "cannot be classified"),
    ("union", {"type": ["string", "long"], **INTERNAL}, "a union"),
    ("three", {"type": ["null", "string", "long"], **INTERNAL}, "a union"),
    ("clear without values", {"type": "string", **MASKED, "clearPaths": ["/a"]}, "go together"),
    ("clear without path", {"type": "string", **MASKED, "clearPaths": ["/a"], "clearValues": "a"}, "without a path"),
    ("clear hash", {"type": "string", **HASHED, "clearPaths": ["/a"], "clearValues": "a"}, "on a masked leaf"),
    ("extension elsewhere", {"type": "bytes", "dataClass": "internal", "extension": True}, "extension.payload alone"),
    ("record as a whole", {"type": {"type": "record", "name": "Y", "fields": []}, **INTERNAL}, "classify its leaves"),
]


@pytest.mark.parametrize(("field", "problem"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_field_that_breaks_a_rule_is_refused_by_name(field: dict[str, object], problem: str) -> None:
    good: dict[str, object] = {"name": "good", "type": "string", **INTERNAL}
    inner: dict[str, object] = {
        "name": "inner",
        "type": {"type": "record", "name": "Inner", "fields": [{"name": "leaf", **field}, *BESIDE]},
    }
    with pytest.raises(ContractError, match=problem) as caught:
        lint(schema(good, inner))
    assert caught.value.field.removesuffix("[]") == "inner.leaf"


@pytest.mark.parametrize("change", [{"type": ["null", "string"], "default": None}, HASHED, {"name": "way"}])
def test_what_may_stand_in_clear_goes_by_a_path_that_is_always_there_as_it_was_stated(change: dict[str, object]) -> None:
    path: dict[str, object] = {"name": "path", "type": "string", **INTERNAL}
    leaf: dict[str, object] = {"name": "leaf", "type": "string", **MASKED, "clearPaths": ["/a"], "clearValues": "a"}
    lint(schema(path, leaf))
    kept = {name: value for name, value in path.items() if change is not HASHED or name not in INTERNAL}
    for fields in (({**kept, **change}, leaf), (leaf, path)):
        with pytest.raises(ContractError, match="clearPaths without a path"):
            lint(schema(*fields))


@pytest.mark.parametrize("subject", [{}, *({"subjectField": name} for name in ("id", "leaf"))], ids=str)
@pytest.mark.parametrize("data_class", ["personal", "content"])
@pytest.mark.parametrize("kind", ["string", ["null", "string"], {"type": "array", "items": "string"}], ids=str)
def test_text_is_tokenised_for_a_person_beside_it_or_for_itself(
    kind: object, data_class: str, subject: dict[str, object]
) -> None:
    leaf = {"name": "leaf", "type": kind, "dataClass": data_class, "redact": "tokenize", **subject}
    marks = dict(field_tree(schema(leaf, *BESIDE)).fields)["leaf"].marks
    assert marks is not None
    assert (marks.redact, marks.subject_field) == (Redact.TOKENIZE, subject.get("subjectField"))


PERSON: dict[str, object] = {"type": "record", "name": "Person", "fields": BESIDE}


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("actor.id", True),
        ("people.person.id", True),
        ("actor.note", False),
        ("actor.count", False),
        ("actor.nobody", False),
        ("actor.id.id", False),
        ("rows.id", False),
        ("nobody.id", False),
    ],
)
def test_a_path_to_a_subject_leads_from_the_event_s_root_through_records_alone(path: str, leads: bool) -> None:
    event = field_tree(
        schema(
            {"name": "actor", "type": PERSON},
            {
                "name": "people",
                "type": ["null", {"type": "record", "name": "P", "fields": [{"name": "person", "type": "Person"}]}],
            },
            {"name": "rows", "type": {"type": "array", "items": "Person"}},
        )
    )
    inner: dict[str, object] = {"name": "leaf", "type": "string", **TOKENIZED, "subjectField": path}
    tree = field_tree(schema({"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [inner]}}))
    assert [error.field for error in subject_problems(tree, event)] == [] if leads else ["inner.leaf"]


@pytest.mark.parametrize("name", ["Upper", "with-dash", "digit1", ""])
def test_a_field_has_a_name_that_redaction_can_state(name: str) -> None:
    with pytest.raises(ContractError, match="a-z and _"):
        lint(schema({"name": name, "type": "string", **INTERNAL}))


@pytest.mark.parametrize("text", ["", "[]", '"string"', '{"type": "array", "items": "int"}', "[" * 100_000])
def test_what_is_not_a_record_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        lint(text)


def test_a_record_within_itself_is_refused() -> None:
    with pytest.raises(ContractError, match="contains itself"):
        lint(schema({"name": "next", "type": ["null", "X"]}))


def test_a_type_named_before_is_classified_where_it_is_used() -> None:
    fixed: dict[str, object] = {"type": "fixed", "name": "Id", "size": 4}
    first: dict[str, object] = {"name": "first", "type": fixed, "dataClass": "public"}
    with pytest.raises(ContractError, match="second: not classified"):
        lint(schema(first, {"name": "second", "type": "Id"}))


def test_the_tree_states_paths_classes_and_redactions() -> None:
    leaves = {leaf.path: leaf for leaf in field_tree(AUDIT_EVENT.text).leaves()}
    actor, before, payload = leaves["actor.id"], leaves["changes[].before"], leaves["extension.payload"]
    assert actor.marks is not None
    assert before.marks is not None
    assert payload.marks is not None
    assert (actor.marks.data_class, actor.marks.redact, actor.nullable) == (DataClass.PERSONAL, Redact.HASH, False)
    assert "/visibility" in before.marks.clear_paths
    assert (before.nullable, before.optional) == (True, True)
    assert payload.marks.extension
    assert leaves["causation_id"].size == 16
    assert "USER" in leaves["actor.kind"].symbols
