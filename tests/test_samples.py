"""The checks over a connector's samples: what they find, what they let pass, and what they say of it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.chat.events import CHAT
from producers.github import GITHUB, draft_of
from producers.github.files import webhooks
from producers.kit import Actor, Audit, BusinessObject, Extension, Subject
from producers.samples.checking import Expected, check_samples, emitting
from producers.samples.emitter import HASH_KEY
from producers.samples.leaks import leaks
from producers.samples.planting import PREFIX, Planted, mark, settled, shapes, strings, with_marks
from producers.samples.plugin import ConnectorCheck
from schemas.emitter import Emitter
from schemas.redact import hash_value, mask
from schemas.registry import packaged_registry
from sealtrail.avro import Codec
from sealtrail.errors import ContractError
from tests.strategies import minimal_event

Draft = dict[str, Any]
PAYLOAD = {
    "event": "login",
    "ok": False,
    "user": {
        "id": "u-17",
        "name": "Ada Zebulon",
        "mail": "ada@acme.example",
        "phone": "+44 20 7946 0018",
        "token": "c0ffee" * 6,
    },
    "org": {"id": "447700900123"},
    "at": "2026-11-28T07:29:23Z",
}
CLASSES = {"crm.login.failed": "security"}


def good(payload: Any) -> Draft:
    """A small connector's mapping."""
    if payload["event"] != "login":
        raise ValueError(f"unknown: {payload['event']}")
    return {
        "event_name": "crm.login.failed",
        "tenant": "acme",
        "event_type": "AUTHENTICATION",
        "result": "FAILURE",
        "effect": "ATTEMPTED",
        "object": {"type": "organisation", "id": payload["org"]["id"]},
        "actor": {
            "kind": "USER",
            "id": payload["user"]["id"],
            "display": payload["user"]["name"],
            "login": payload["user"]["mail"],
        },
        "reason": f"asked by {payload['user']['mail']}, {payload['user']['phone']}",
    }


CLEAR = ["/org/id"]


def problems(mapping: Callable[[Any], Any], payload: object = PAYLOAD, **expected: Any) -> list[str]:
    given = {"classes": CLASSES, "clear": CLEAR, **expected}
    return [str(p) for p in check_samples({"login": payload}, emitting(mapping), Expected(**given)).problems]


def test_a_good_connector_passes_and_the_words_that_it_knows_are_named() -> None:
    checked = check_samples({"login": PAYLOAD}, emitting(good), Expected(CLASSES, CLEAR, needs=["object", "actor.display"]))
    assert checked.problems == () and (checked.samples, checked.events) == (1, 1)
    assert checked.words == {"/event"} and checked.marks == 5  # id, name, mail, phone and token of the user; no time, no switch


def changed(**fields: Any) -> Callable[[Any], Draft]:
    """A mapping with one fault."""
    return lambda payload: good(payload) | {name: make(payload) for name, make in fields.items()}


NAME = "what /user/name of the payload says comes out"
FAULTS: dict[str, tuple[Callable[[Any], Draft], str]] = {
    "a name as an identifier": (
        changed(object=lambda p: {"type": "user", "id": p["user"]["name"].replace(" ", "-")}),
        f"login: leak: object.id: {NAME} in clear",
    ),
    "a name as a slug": (
        changed(target_system=lambda p: p["user"]["name"].lower().replace(" ", "-")),
        f"login: leak: target_system: {NAME} in clear",
    ),
    "a name in capital letters": (
        changed(ticket=lambda p: p["user"]["name"].upper().replace(" ", "")),
        f"login: leak: ticket: {NAME} in clear",
    ),
    "a name in a clear change": (
        changed(changes=lambda p: [{"op": "ADD", "path": "/state", "before": None, "after": json.dumps(p["user"]["name"])}]),
        f"login: leak: changes[].after: {NAME} in clear",
    ),
    "a name in a path": (
        changed(
            changes=lambda p: [{"op": "ADD", "path": f"/{p['user']['name'].replace(' ', '_')}", "before": None, "after": None}]
        ),
        f"login: leak: changes[].path: {NAME} in clear",
    ),
    "a beginning of a name": (
        changed(ticket=lambda p: p["user"]["name"].split()[0][:11]),
        "login: leak: ticket: a part of the payload comes out in clear",
    ),
    "an account in clear": (
        changed(ticket=lambda p: p["user"]["id"]),
        "login: leak: ticket: what /user/id of the payload says comes out in clear",
    ),
    "a token in clear": (
        changed(credential=lambda p: None, ticket=lambda p: p["user"]["token"].upper()),
        "login: leak: ticket: what /user/token of the payload says comes out in clear",
    ),
    "a phone in clear": (
        changed(ticket=lambda p: "".join(c for c in p["user"]["phone"] if c.isdigit())),
        "login: leak: ticket: what /user/phone of the payload says comes out in clear",
    ),
    "a mail's first part": (
        changed(ticket=lambda p: p["user"]["mail"].split("@")[0]),
        "login: leak: ticket: what /user/mail of the payload says comes out in clear",
    ),
    "in hexadecimal": (
        changed(ticket=lambda p: p["user"]["name"].encode().hex()),
        f"login: leak: ticket: {NAME} in hexadecimal",
    ),
    "in base64": (
        changed(ticket=lambda p: base64.b64encode(b"x:" + p["user"]["name"].encode()).decode()),
        f"login: leak: ticket: {NAME} in base64",
    ),
    "backwards": (changed(ticket=lambda p: p["user"]["name"][::-1].replace(" ", "")), f"login: leak: ticket: {NAME} backwards"),
    "as a digest without a key": (
        changed(ticket=lambda p: hashlib.sha256(p["user"]["name"].encode()).hexdigest()),
        f"login: leak: ticket: {NAME} as its sha256",
    ),
    "no actor": (changed(actor=lambda p: None), "login: complete: actor: not a record"),
    "a wrong enum": (changed(result=lambda p: "Zebulon"), "login: complete: result: not one of the field's symbols"),
    "a field that nobody knows": (
        changed(colour=lambda p: "Zebulon"),
        "login: complete: holds a field that is not the caller's to state",
    ),
    "another type of the same class": (
        changed(event_type=lambda p: "ACCESS", result=lambda p: "SUCCESS"),
        "",
    ),
    "a wrong class": (
        changed(event_type=lambda p: "OTHER"),
        "login: class: crm.login.failed: stated security, the policy says operational",
    ),
    "a name without a class": (
        changed(event_name=lambda p: "crm.login.odd"),
        "login: class: crm.login.odd: no class is stated for it; the policy says security",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_sample_and_field_and_never_the_value(name: str) -> None:
    mapping, expected = FAULTS[name]
    found = problems(mapping)
    assert found == ([expected] if expected else [])
    assert not any(value in " ".join(found) for value in ("Zebulon", "acme.example", "7946", "447700900123"))


def test_a_missing_field_that_is_needed_and_an_exception_are_told() -> None:
    assert problems(good, needs=["ticket", "object.id"]) == ["login: complete: ticket: missing in crm.login.failed"]
    (raised,) = problems(good, {"event": "Zebulon"})
    assert raised.startswith("login: parse: ValueError in the connector, test_samples.py:") and "Zebulon" not in raised
    assert check_samples({}, emitting(good), Expected(CLASSES)).report().splitlines()[1] == "samples: parse: there are none"


def test_a_folder_of_files_is_read_and_what_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "good.json").write_text(json.dumps(PAYLOAD))
    (tmp_path / "bad.json").write_text('{"name": "Zebulon')
    (tmp_path / "notes.txt").write_text("not a sample")
    checked = check_samples(tmp_path, emitting(good), Expected(CLASSES, CLEAR))
    assert [str(p) for p in checked.problems] == [f"{tmp_path.name}/bad.json: parse: not JSON (JSONDecodeError)"]
    assert checked.samples == 2 and checked.events == 1


def test_a_connector_that_emits_is_checked_as_a_mapping_is() -> None:
    def handle(emitter: Emitter, payload: Any) -> None:
        audit = Audit(emitter, "crm", traces=lambda: None)
        with audit.context(tenant="acme", actor=Actor.user(payload["user"]["id"])):
            audit.authentication.failed(payload["user"]["mail"])
            audit.admin.granted(Subject(payload["user"]["id"]), BusinessObject("group", payload["user"]["name"]), "member")

    checked = check_samples({"login": PAYLOAD}, handle, Expected(CLASSES | {"crm.permission.granted": "admin"}))
    assert [str(p) for p in checked.problems] == ["login: complete: object.id: does not match the field's pattern"]
    spoken = PAYLOAD | {"user": {"id": "u-1", "mail": "a@b.example", "name": "Zebulon"}}
    checked = check_samples({"login": spoken}, handle, Expected(CLASSES | {"crm.permission.granted": "admin"}))
    assert [str(p) for p in checked.problems] == [f"login: leak: object.id: {NAME} in clear"]


def test_a_new_extension_is_checked_before_it_is_registered() -> None:
    text = CHAT.text.replace("ChatEvent", "CrmEvent").replace("io.sealtrail.chat.v1", "example.crm.v1")
    crm = Codec(text)

    def handle(emitter: Emitter, payload: Any) -> None:
        audit = Audit(emitter, "crm", traces=lambda: None)
        said = Extension(crm, {"operation": payload["user"]["name"].lower().replace(" ", "-")})
        audit.authentication.failed("ada", tenant="acme", extension=said)

    assert [str(p) for p in check_samples({"x": PAYLOAD}, handle, Expected(CLASSES)).problems] == [
        "x: complete: extension.schema: not a registered extension"
    ]
    checked = check_samples({"x": PAYLOAD}, handle, Expected(CLASSES, extensions=[crm]))
    assert [str(p) for p in checked.problems] == [f"x: leak: extension.payload.operation: {NAME} in clear"]


def test_a_connector_may_write_into_what_it_is_given() -> None:
    def taken(payload: Any) -> Draft:
        draft = good(payload) | {"ticket": payload["user"].pop("name")}
        payload.clear()
        return draft

    spoken = PAYLOAD | {"user": PAYLOAD["user"] | {"name": "Zebulon"}}  # type: ignore[operator]
    assert problems(taken, spoken) == [f"login: leak: ticket: {NAME} in clear"]


def test_what_a_connector_passes_over_is_told_all_the_same() -> None:
    def handle(emitter: Emitter, payload: Any) -> None:
        with suppress(ContractError):
            emitter.emit(good(payload) | {"actor": None})

    found = check_samples({"x": PAYLOAD}, handle, Expected(CLASSES)).problems
    assert [str(p) for p in found] == ["x: complete: actor: not a record"]


def test_a_field_that_takes_capital_letters_alone_is_found_out_too() -> None:
    text = CHAT.text.replace("ChatEvent", "CrmEvent").replace("^[a-z0-9][a-z0-9._-]{0,63}$", "^[A-Z0-9]{1,20}$")
    crm = Codec(text)

    def handle(emitter: Emitter, payload: Any) -> None:
        audit = Audit(emitter, "crm", traces=lambda: None)
        audit.authentication.failed("ada", tenant="acme", extension=Extension(crm, {"operation": payload["code"]}))

    (found,) = check_samples([{"code": "ZEBULON"}], handle, Expected(CLASSES, extensions=[crm])).problems
    assert str(found) == "sample 0: leak: extension.payload.operation: what /code of the payload says comes out in clear"


HIDDEN: dict[str, Callable[[str], bytes]] = {
    "in clear": lambda text: text.upper().encode(),
    "backwards": lambda text: text[::-1].encode(),
    "in UTF-16": lambda text: text.encode("utf-16-le"),
    "in UTF-16 of the other order": lambda text: text.encode("utf-16-be"),
    "in hexadecimal": lambda text: text.encode().hex().encode(),
    "percent-encoded": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode(),
    "in base64": lambda text: base64.b64encode(text.encode()),
    "in base64 after one": lambda text: base64.b64encode(b"x" + text.encode()),
    "in base64 after two": lambda text: base64.urlsafe_b64encode(b"xy" + text.encode() + b"z"),
    "as its md5": lambda text: hashlib.md5(text.encode()).digest(),
    "as its sha1": lambda text: hashlib.sha1(text.encode()).hexdigest().encode(),
    "as its sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()),
    "as its sha512": lambda text: hashlib.sha512(text.encode()).hexdigest().upper().encode(),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_a_mark_is_found_in_every_form_that_anybody_can_undo(form: str) -> None:
    planted = [Planted(("a",), word, (word,)) for word in (mark(17), mark(18))]
    event = minimal_event(content_ref={"digest": b"\x00\x01" + HIDDEN[form](mark(18)) + b"\xff"})
    (found,) = leaks(event, planted[1:], packaged_registry())
    assert (found.field, form.startswith(found.form)) == ("content_ref.digest", True)
    assert all(leak.place is None for leak in leaks(event, planted[:1], packaged_registry()))  # no other mark is blamed


def test_a_mask_and_a_keyed_hash_give_nothing_away() -> None:
    word = mark(17)
    planted = [Planted(("user",), word, (word,))]
    event = minimal_event(sender=hash_value(HASH_KEY, word), object_name=mask(word), reason=mask(f"for {word}, at once"))
    assert leaks(event, planted, packaged_registry()) == ()
    body = {"hook": "push", "malformed": False, "settings": [], "ref": word}
    event = minimal_event(extension={"schema": GITHUB.sha256, "payload": GITHUB.encode_body(body)})
    assert [(leak.field, leak.place) for leak in leaks(event, planted, packaged_registry())] == [
        ("extension.payload.ref", "/user")
    ]


SHAPES = {
    "Ada": f"{PREFIX}aaaaaz",
    "ada@acme.example": f"{PREFIX}aaaaaz@{PREFIX}aaaaaz.example",
    "https://acme.example/users/ada?x=1": f"https://{PREFIX}aaaaaz.example/{PREFIX}aaaaaz?{PREFIX}aaaaaz={PREFIX}aaaaaz",
    "447700900123": "970000000000",
    "sha256:" + "c0ffee" * 8: "sha256:97a" + "0" * 45,
    "DEADBEEF" * 2: "97A" + "0" * 13,
    "+44 20 7946 0018": "+970000000000",
    "018f3a3c-0000-7000-8000-00000000000a": "7a710000-0000-7000-8000-000000000000",
}


@pytest.mark.parametrize("value", SHAPES)
def test_a_mark_has_the_shape_of_what_it_stands_for(value: str) -> None:
    assert shapes(value, 0)[0][0] == SHAPES[value]


@pytest.mark.parametrize(
    "value", ["", "true", "17", "1.5", "2026-11-28", "2026-11-28T07:29:23.5+01:00", "2026-11-28 07:29:23 UTC"]
)
def test_what_is_no_text_of_a_person_is_kept(value: str) -> None:
    assert list(strings({"a": [value]})) == []


@given(st.integers(0, 26**5 - 1), st.integers(0, 26**5 - 1))
def test_marks_are_told_apart_and_pass_where_words_pass(one: int, other: int) -> None:
    assert (mark(one) == mark(other)) == (one == other)
    assert mark(one).isalpha() and mark(one).islower() and len(mark(one)) <= 16  # the narrowest word of a schema


@given(st.sets(st.integers(0, 30)), st.sets(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=2))
def test_every_string_is_marked_that_the_mapping_does_not_know(words: set[int], pairs: set[tuple[int, int]]) -> None:
    """Some strings are words alone; of a pair, one must stay. All others are marked."""
    payload = {f"k{n}": f"value{n}" for n in range(31)}
    pairs = {(a, b) for a, b in pairs if a != b}

    def behaves(marked: Any) -> bool:
        kept = {n for n in range(31) if marked[f"k{n}"] == payload[f"k{n}"]}
        return words <= kept and all(a in kept or b in kept for a, b in pairs)

    planted = settled(payload, list(strings(payload)), behaves)
    assert behaves(with_marks(payload, planted))
    assert len(planted) >= 31 - len(words) - len(pairs)


def test_a_place_that_may_be_somebodys_is_not_repeated() -> None:
    assert Planted(("members", "ada@acme.example", 0, "role"), "x", ("x",)).place == "/members/*/0/role"


# -- the GitHub connector

ADMIN = (
    "branch_protection", "deploy_key", "deployment", "github_app_authorization", "installation", "member", "meta",
    "org_block", "organization", "public", "repository.", "team",
)  # fmt: skip


def test_all_329_github_payloads_pass(github_payloads: Path) -> None:
    samples = {
        f"{number} {hook}": {"hook": hook, "payload": payload}
        for number, (hook, payload) in enumerate(webhooks(github_payloads.read_bytes(), None))
    }
    names = {str(mapped(sample)["event_name"]) for sample in samples.values()}
    classes = {name: "admin" if name.removeprefix("github.").startswith(ADMIN) else "operational" for name in names}
    clear = ["/hook", "*/environment", "*/sha", "*/head_sha", "/payload/before", "/payload/after"]
    checked = ConnectorCheck()(samples, mapping=mapped, classes=classes, clear=clear)
    assert (checked.samples, checked.events) == (329, 329)
    assert checked.marks > 40_000 and checked.words == {"/payload/action"}


def mapped(sample: Any) -> Mapping[str, object]:
    return draft_of(sample["hook"], sample["payload"], "acme").draft


# -- the plug-in

ROOT = Path(__file__).parent.parent
PLUGIN_IMPORTS = """
import sys
before = set(sys.modules)
import pytest
with_pytest = set(sys.modules)
import producers.samples.plugin
print(*sorted(name.split(".")[0] for name in set(sys.modules) - with_pytest))
"""


def test_the_plug_in_imports_nothing_but_itself() -> None:
    done = subprocess.run([sys.executable, "-c", PLUGIN_IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) <= {"producers"}


def test_either_a_mapping_or_a_connector_that_emits() -> None:
    with pytest.raises(TypeError, match="either"):
        ConnectorCheck()([PAYLOAD], classes=CLASSES)
