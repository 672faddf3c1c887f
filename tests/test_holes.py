"""An event is encoded with holes where encrypted values go, the same in one pass as step by step, and filled it is right."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.admission import Admission, Body
from schemas.contract import MAX_EVENT_BYTES
from schemas.encoder import number
from schemas.holes import Hole, filled
from schemas.redact import MAX_TOKENIZED_BYTES, RedactionCheck, Redactor, may_hold_secret
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import suspicious
from sealtrail.avro import Codec
from sealtrail.errors import ConfigError, ContractError
from sealtrail.token import FieldCipher, SubjectKey, encrypted_size
from tests.strategies import events, texts, values_of
from tests.test_admission import Fast, key_of, mutated, outcome
from tests.test_net import AWS
from tests.test_tokenized import EVENT, PEOPLE, REGISTRY, TOKENIZED, VALUE, event_of

SEQ = 12
CIPHER = FieldCipher(bytes(range(32)))


def tokenizes(tenant: str) -> bool:
    return not tenant.startswith("o")


ADMIT = Admission(REGISTRY, None, key_of, tokenizes, EVENT)
FAST = Fast(REGISTRY, None, key_of, tokenizes, EVENT)
REDACT = Redactor(EVENT.text, REGISTRY, key_of, tokenizes)
CHECK = RedactionCheck(REGISTRY, EVENT)


@st.composite
def tokenised_events(draw: st.DrawFn) -> dict[str, Any]:
    """Events with values that are to be tokenised, of a tenant whose are and of one whose are not."""
    event = draw(events(extension=False))
    event["tenant"] = draw(st.sampled_from(["acme", "other"]))
    event["called"] = draw(texts)
    for name in ("phone", "nickname", "remark"):
        event[name] = draw(st.none() | texts)
    event["actor"]["login"] = draw(st.none() | texts | st.text("é", min_size=600, max_size=900))
    if draw(st.booleans()):
        value = draw(values_of(PEOPLE.text))
        encoded = draw(st.booleans())
        given_as = {"payload": PEOPLE.encode_body(value)} if encoded else {"value": value}
        event["extension"] = {"schema": PEOPLE.sha256, **given_as}
    return event


def encoded(event: dict[str, Any]) -> dict[str, Any]:
    """With its extension as a payload."""
    extension = event.get("extension")
    if extension is None or "payload" in extension:
        return event
    return {**event, "extension": {"schema": PEOPLE.sha256, "payload": PEOPLE.encode_body(extension["value"])}}


def as_sent(event: dict[str, Any], body: Body) -> bytes:
    """Body of an event, as the run makes it."""
    before, after, holes = body
    emitter = event["emitter"]
    name, instance = emitter["source"].encode(), emitter["instance"].encode()
    middle = (number(len(name), 63), name, number(len(instance), 63), instance, emitter["epoch"], number(emitter["seq"], 63))
    after = filled(after, holes, lambda n, path, text: CIPHER.encrypt(SEQ, n, before[:16], path, text))
    return b"".join((before, *middle, after))


@settings(max_examples=200)
@given(tokenised_events())
def test_one_pass_leaves_the_holes_that_the_oracle_leaves(event: dict[str, Any]) -> None:
    before, whole = copy.deepcopy(event), encoded(event)
    slow = may_hold_secret(whole) or suspicious(EVENT.encode_body(whole))
    assert (ADMIT if slow else FAST)(event) == ADMIT.slowly(event)
    assert event == before


@settings(max_examples=400)
@given(mutated(tokenised_events()))
def test_whatever_an_event_holds_the_outcome_is_the_oracles(event: dict[str, Any]) -> None:
    assert outcome(ADMIT, event) == outcome(ADMIT.slowly, event)


@settings(max_examples=200)
@given(tokenised_events())
def test_filled_it_is_fastavros_encoding_of_the_redacted_event_with_ciphertexts_in_place(event: dict[str, Any]) -> None:
    for admit in (ADMIT, ADMIT.slowly):
        sent = as_sent(event, admit(event))
        made = EVENT.decode_body(sent)
        assert EVENT.encode_body(made) == sent
        assert CHECK(made) == ()
        opened = TOKENIZED(made, lambda path, text, _: CIPHER.decrypt(SEQ, event["event_id"], path, text))
        assert opened == REDACT(encoded(event))


def test_holes_stand_in_the_order_of_the_bytes_and_each_has_its_length() -> None:
    event = event_of(VALUE)
    _, after, holes = FAST(event)
    assert [hole.path.removeprefix("extension.payload.") for hole in holes] == [
        *("list[].address", "list[].name", "list[].address", "list[].note", "mails[]", "mails[]", "words[]"),
        *("actor.login", "phone", "nickname", "remark"),
    ]
    for hole in holes:
        size = encrypted_size(len(hole.text))
        assert after[hole.offset :][:size] == bytes(size)
        prefix = number(size, 63)
        assert after[: hole.offset].endswith(prefix)


def test_an_event_without_tokenised_values_has_no_holes() -> None:
    event = event_of(phone="", nickname=None, remark=None)
    event["actor"]["login"] = None
    for admit in (FAST, ADMIT.slowly):
        assert admit(event)[2] == ()


def test_of_a_tenant_whose_values_are_not_tokenised_nothing_is_left() -> None:
    event = event_of(VALUE, tenant="other", called="Bob")
    for admit in (FAST, ADMIT.slowly):
        _, after, holes = admit(event)
        assert holes == ()
        assert not any(text in after for text in (b"alice@", b"+44", b"Bob"))
        assert b"actor.login" in after  # named in redaction.fields


def test_whose_values_are_tokenised_is_asked_only_when_there_are_some() -> None:
    def never(_: str) -> bool:
        raise AssertionError

    event = event_of(phone=None, nickname=None, remark=None)
    event["actor"]["login"] = None
    Fast(REGISTRY, None, key_of, never, EVENT)(event)


@pytest.mark.parametrize("typed", ["enc_" + "A" * 40, SubjectKey("acme", bytes(64)).token("x")])
def test_what_a_person_typed_in_the_form_of_a_ciphertext_or_a_token_is_encrypted(typed: str) -> None:
    event = event_of(phone=typed)
    for admit in (FAST, ADMIT.slowly):
        holes = admit(event)[2]
        assert [hole.text for hole in holes if hole.path == "phone"] == [typed.encode()]


@pytest.mark.parametrize(
    "text",
    ["x" * MAX_TOKENIZED_BYTES, "é" * (MAX_TOKENIZED_BYTES // 2), "😀" * (MAX_TOKENIZED_BYTES // 4)],
    ids=["ascii", "two bytes", "four bytes"],
)
def test_a_text_may_have_so_many_bytes_and_not_one_more(text: str) -> None:
    for admit in (ADMIT, ADMIT.slowly):
        event = event_of(phone=text)
        assert EVENT.decode_body(as_sent(event, admit(event)))["phone"].startswith("enc_")
        with pytest.raises(ContractError, match="4097 bytes") as caught:
            admit(event_of(phone=text + "x"))
        assert caught.value.field == "phone"


def test_the_size_of_an_event_is_that_with_ciphertexts() -> None:
    words = ["w" * 3000] * 260  # 780,000 bytes; encrypted more than an event may have
    event = event_of({**VALUE, "words": words})
    assert len(EVENT.encode(event)) < MAX_EVENT_BYTES
    for admit in (ADMIT, ADMIT.slowly):
        with pytest.raises(ContractError, match="too large"):
            admit(event)


def test_a_secret_is_overwritten_before_it_is_encrypted() -> None:
    event = event_of({**VALUE, "words": [AWS]}, phone=f"call {AWS}")
    for admit in (ADMIT, ADMIT.slowly):
        holes = {hole.path: hole.text for hole in admit(event)[2]}
        assert holes["phone"] == b"*" * len(f"call {AWS}")
        assert holes["extension.payload.words[]"] == b"*" * len(AWS)


def test_no_text_shows_in_a_repr() -> None:
    assert repr(FAST(event_of(VALUE))).count("Hole(") == 11
    assert "alice" not in repr(FAST(event_of(VALUE)))


def fill_with(inside: bytes) -> Callable[[int, str, bytes], bytes]:
    return lambda number, path, text: inside


def test_filling_moves_nothing() -> None:
    holes = (Hole(2, "a", b"x"), Hole(6, "b", b"y"))
    assert filled(b"AB00CD00EF", holes, fill_with(b"##")) == b"AB##CD##EF"
    assert filled(b"AB", (), fill_with(b"##")) == b"AB"


def test_an_event_whose_number_comes_after_what_is_tokenised_is_refused() -> None:
    document = json.loads(AUDIT_EVENT.text)
    early = {"name": "early", "type": "string", "dataClass": "personal", "redact": "tokenize"}
    document["fields"].insert(3, early)
    with pytest.raises(ConfigError, match="early: tokenised, and not after emitter"):
        Registry([Codec(json.dumps(document))], [])
