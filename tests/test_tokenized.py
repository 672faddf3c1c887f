"""Every tokenised value of an event is found and replaced where it stands, with whom it is about (CON-2)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.net import Leak, Net, overwritten
from schemas.redact import MAX_TOKENIZED_BYTES, RedactionCheck, Redactor, hash_value
from schemas.registry import AUDIT_EVENT, Registry
from schemas.tokenized import Tokenized, TokenizedValue
from sealtrail.avro import Codec
from sealtrail.errors import ConfigError, ContractError
from sealtrail.token import RESIDUAL, FieldCipher, SubjectKey
from tests.strategies import minimal_event, values_of
from tests.test_net import AWS

TEXT = {"dataClass": "personal", "redact": "tokenize"}


def with_tokens(text: str) -> Codec:
    """The event's schema, with tokenised fields where there were others, and more."""
    document = json.loads(text)
    fields = {field["name"]: field for field in document["fields"]}
    login = {"name": "login", "type": ["null", "string"], **TEXT, "default": None}
    fields["actor"]["type"]["fields"] = [f for f in fields["actor"]["type"]["fields"] if f["name"] != "login"]
    fields["actor"]["type"]["fields"].append({**login, "subjectField": "id"})
    document["fields"] += [
        {**login, "name": "phone", "subjectField": "actor.id"},
        {**login, "name": "nickname", "subjectField": "nickname"},
        {**login, "name": "remark", "dataClass": "content"},
        {**login, "name": "called", "type": "string", "default": "", "subjectField": "subject.id"},
    ]
    return Codec(json.dumps(document))


EVENT = with_tokens(AUDIT_EVENT.text)
PEOPLE = Codec(
    json.dumps(
        {"type": "record", "name": "People", "namespace": "io.sealtrail.people.v1", "fields": [
            {"name": "list", "type": {"type": "array", "items": {"type": "record", "name": "Person", "fields": [
                {"name": "address", "type": "string", **TEXT, "subjectField": "name"},
                {"name": "name", "type": ["null", "string"], **TEXT, "subjectField": "name"},
                {"name": "note", "type": ["null", "string"], **TEXT, "subjectField": "actor.id"},
            ]}}},
            {"name": "mails", "type": {"type": "array", "items": "string"}, **TEXT, "subjectField": "mails"},
            {"name": "words", "type": {"type": "array", "items": ["null", "string"]}, **TEXT},
        ]}
    )
)  # fmt: skip
REGISTRY = Registry([EVENT], [PEOPLE])
TOKENIZED = Tokenized(REGISTRY, EVENT)
CONTRACT = Contract(REGISTRY, None, EVENT)
KEY = bytes(32)
REDACT = Redactor(EVENT.text, REGISTRY, lambda _: KEY)
OMITTING = Redactor(EVENT.text, REGISTRY, lambda _: KEY, lambda tenant: tenant != "acme")
CHECK = RedactionCheck(REGISTRY, EVENT)
CIPHER = FieldCipher(KEY)


def event_of(value: dict[str, Any] | None = None, **fields: object) -> dict[str, Any]:
    """An event in which everything is stated that is tokenised."""
    actor = {"kind": "USER", "id": "alice", "display": None, "login": "alice@example.com"}
    extension = None if value is None else {"schema": PEOPLE.sha256, "payload": PEOPLE.encode_body(value)}
    given = {"phone": "+44 20", "nickname": "al", "remark": "hm", "called": "", "actor": actor, "extension": extension}
    return minimal_event(**given) | fields


VALUE: dict[str, Any] = {
    "list": [
        {"address": "a1", "name": "n1", "note": None},
        {"address": "a2", "name": None, "note": "o2"},
        {"address": "", "name": "", "note": ""},
    ],
    "mails": ["m1", "", "m2"],
    "words": ["w", None],
}


def test_every_value_is_found_with_its_path_and_whom_it_is_about() -> None:
    assert TOKENIZED.values(event_of(VALUE, called="Bob")) == (
        TokenizedValue("actor.login", "alice@example.com", "alice"),
        TokenizedValue("phone", "+44 20", "alice"),
        TokenizedValue("nickname", "al", "al"),
        TokenizedValue("remark", "hm", RESIDUAL),
        TokenizedValue("called", "Bob", RESIDUAL),
        TokenizedValue("extension.payload.list[].address", "a1", "n1"),
        TokenizedValue("extension.payload.list[].name", "n1", "n1"),
        TokenizedValue("extension.payload.list[].address", "a2", RESIDUAL),
        TokenizedValue("extension.payload.list[].note", "o2", "alice"),
        TokenizedValue("extension.payload.mails[]", "m1", "m1"),
        TokenizedValue("extension.payload.mails[]", "m2", "m2"),
        TokenizedValue("extension.payload.words[]", "w", RESIDUAL),
    )


def test_a_person_in_a_record_that_is_there_is_found() -> None:
    event = event_of(called="Bob", subject={"id": "bob", "display": None})
    assert TokenizedValue("called", "Bob", "bob") in TOKENIZED.values(event)


@given(st.data())
def test_each_value_is_replaced_where_it_stands_and_nothing_else(data: st.DataObject) -> None:
    event, value = event_of(), data.draw(values_of(PEOPLE.text))
    event["extension"] = {"schema": PEOPLE.sha256, "payload": PEOPLE.encode_body(value)}
    event["nickname"] = data.draw(st.none() | st.text(max_size=3))
    before = copy.deepcopy(event)
    made = TOKENIZED(event, lambda path, text, subject: f"<{text}>")
    assert event == before
    assert [v.text for v in TOKENIZED.values(made)] == [f"<{v.text}>" for v in TOKENIZED.values(event)]
    assert [v.path for v in TOKENIZED.values(made)] == [v.path for v in TOKENIZED.values(event)]
    assert TOKENIZED(made, lambda path, text, subject: text[1:-1]) == event
    CONTRACT.check(made)


def test_an_event_in_which_nothing_is_replaced_is_returned_itself() -> None:
    event = event_of(VALUE)
    assert TOKENIZED(event, lambda path, text, subject: text) is event
    older = minimal_event()  # of a version without any of it
    assert TOKENIZED(older, lambda path, text, subject: "x") is older


def test_a_walk_with_what_came_out_of_the_first_tells_people_in_clear() -> None:
    """As the sealer does it: a person may be told by what is encrypted itself."""

    def encrypt(path: str, text: str, subject: str) -> str:
        return CIPHER.encrypt(7, next(numbers), EVENT_ID, path, text.encode()).decode()

    numbers, event = iter(range(99)), event_of(VALUE)
    sent = TOKENIZED(event, encrypt)
    opened = TOKENIZED(sent, lambda path, text, subject: CIPHER.decrypt(7, EVENT_ID, path, text))
    assert TOKENIZED.values(opened) == TOKENIZED.values(event)
    assert CHECK(REDACT(sent)) == ()


EVENT_ID = minimal_event()["event_id"]


# -- redaction


def test_what_is_to_be_tokenised_is_left_and_named() -> None:
    event = event_of(VALUE)
    redacted = REDACT(event)
    assert TOKENIZED.values(redacted) == tuple(
        TokenizedValue(v.path, v.text, hash_value(KEY, "alice") if v.subject == "alice" else v.subject)
        for v in TOKENIZED.values(event)
    )
    assert set(redacted["redaction"]["fields"]) == {"actor.id", *(v.path for v in TOKENIZED.values(event))}
    assert REDACT(redacted) == redacted


def test_the_check_takes_nothing_but_the_encrypted_form() -> None:
    redacted = REDACT(event_of(VALUE))
    assert {(v.field, v.problem) for v in CHECK(redacted)} == {(v.path, "not tokenized") for v in TOKENIZED.values(redacted)}
    token = SubjectKey("acme", bytes(64)).token("x")
    assert {v.problem for v in CHECK(TOKENIZED(redacted, lambda *_: token))} == {"not tokenized"}
    assert CHECK(TOKENIZED(redacted, lambda *_: "enc_" + 28 * "A")) == ()


def test_of_a_tenant_whose_people_have_no_keys_it_is_omitted() -> None:
    redacted = OMITTING(event_of(VALUE, called="Bob"))
    assert TOKENIZED.values(redacted) == ()
    assert (redacted["phone"], redacted["called"], redacted["actor"]["login"]) == (None, "", None)
    assert PEOPLE.decode_body(redacted["extension"]["payload"]) == {
        "list": [{**VALUE["list"][2], "name": None, "note": None}] * 2 + VALUE["list"][2:],
        "mails": ["", "", ""],
        "words": [None, None],
    }
    assert redacted["redaction"] == REDACT(event_of(VALUE, called="Bob"))["redaction"]
    assert CHECK(redacted) == ()
    assert TOKENIZED.values(OMITTING(event_of(tenant="globex"))) == TOKENIZED.values(REDACT(event_of(tenant="globex")))


@pytest.mark.parametrize("text", [MAX_TOKENIZED_BYTES * "x", MAX_TOKENIZED_BYTES // 2 * "é"], ids=["ascii", "two bytes"])
def test_a_text_that_is_too_long_to_be_tokenised_is_refused(text: str) -> None:
    redacted = REDACT(event_of(phone=text))
    CONTRACT.check(TOKENIZED(redacted, lambda p, t, _: CIPHER.encrypt(0, 0, EVENT_ID, p, t.encode()).decode()))
    with pytest.raises(ContractError, match="4097 bytes of text to tokenise; at most 4096") as caught:
        REDACT(event_of(phone=text + "x"))
    assert caught.value.field == "phone"


@pytest.mark.parametrize("text", ["\ud800", "alice\udfff"])
def test_a_text_that_utf_8_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="UTF-8") as caught:
        REDACT(event_of(phone=text))
    assert caught.value.field == "phone"


# -- secrets


def test_a_secret_overwrites_the_whole_text() -> None:
    caught, leaks = Net(REGISTRY, EVENT)(event_of({**VALUE, "mails": [AWS]}, phone=f"call {AWS}"))
    assert leaks == (Leak("phone", "aws-access-key"), Leak("extension.payload.mails[]", "aws-access-key"))
    assert caught["phone"] == len(f"call {AWS}") * "*"
    assert PEOPLE.decode_body(caught["extension"]["payload"])["mails"] == [len(AWS) * "*"]


def test_what_is_encrypted_may_look_like_anything() -> None:
    event = event_of(phone="enc_" + "AAAA-" + AWS + "-AAAA")
    assert Net(REGISTRY, EVENT)(event) == (event, ())


def test_a_text_that_was_decrypted_is_looked_through_alike() -> None:
    assert overwritten(f"call {AWS}") == (len(f"call {AWS}") * "*", ("aws-access-key",))
    assert overwritten("call Bob") == ("call Bob", ())


# -- whom an extension may name


@pytest.mark.parametrize("path", ["actor.kind", "actor.nobody", "extension.schema", "object.missing"])
def test_an_extension_that_names_nobody_of_the_event_is_refused(path: str) -> None:
    leaf = {"name": "leaf", "type": "string", **TEXT, "subjectField": path}
    codec = Codec(json.dumps({"type": "record", "name": "Bad", "fields": [leaf]}))
    with pytest.raises(ConfigError, match="leaf: subjectField"):
        Registry([AUDIT_EVENT], [codec])


def test_an_event_that_names_nobody_is_refused() -> None:
    document = json.loads(AUDIT_EVENT.text)
    document["fields"].append({"name": "leaf", "type": "string", **TEXT, "subjectField": "actor.nobody"})
    with pytest.raises(ConfigError, match="leaf: subjectField"):
        Registry([Codec(json.dumps(document))], [])
