"""What a token stands for is shown, or why it cannot be: with the keys of its own chain and tenant, and no others (CON-2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from auditor.revealing import (
    ALTERED,
    DAMAGED,
    DESTROYED,
    NO_KEY,
    NO_VALUE,
    NOT_A_TOKEN,
    UNOPENED,
    Revealed,
    key_ids,
    opened,
    revealed,
    tokenized_of,
    tokens_in,
    wrapped_keys,
)
from sealtrail.avro import Codec
from sealtrail.errors import UndecidedError
from sealtrail.session import RUN_SESSION, hpke_open
from sealtrail.token import SubjectKey, WrappedKey, subject_index, wrap_subject_key
from tests.strategies import minimal_event, values_of
from tests.test_tokenized import EVENT, PEOPLE, TOKENIZED, VALUE, event_of

CHAIN = "audit.example/local/audit.raw.1f0c2a9b.0/3"
OTHER = "audit.example/local/audit.raw.1f0c2a9b.0/13"
INDEX = bytes(range(32))
PRIVATE, SUCCESSOR, FOREIGN = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
KEYS = {subject: SubjectKey("acme", bytes([n]) * 64) for n, subject in enumerate(("", "alice", "n1"), 1)}
RESIDUAL_KEY, ALICE, N1 = KEYS.values()

Pair = tuple[bytes | None, bytes | None]


def opener_of(*privates: X25519PrivateKey) -> dict[bytes, Callable[[bytes, bytes], bytes]]:
    made = {p: wrapped_to(p) for p in privates}
    return {key_id: partial(hpke_open, p) for p, key_id in made.items()}


def wrapped_to(private: X25519PrivateKey) -> bytes:
    return wrap(private=private).wrapped_to


def wrap(
    subject: str = "alice", key: SubjectKey | None = None, *, chain: str = CHAIN, private: X25519PrivateKey = PRIVATE
) -> WrappedKey:
    public = private.public_key().public_bytes_raw()
    return wrap_subject_key(chain, subject_index(INDEX, subject), key or KEYS[subject], 1, public)


def record(wrapped: WrappedKey) -> Pair:
    return wrapped.record_key, wrapped.encode()


ALL = [record(wrap(subject)) for subject in KEYS]


def sealed(event: dict[str, Any]) -> dict[str, Any]:
    """The event with tokens, each under the key of the subject that it names, or that of nobody in particular."""
    return TOKENIZED(event, lambda _, text, subject: KEYS.get(subject, RESIDUAL_KEY).token(text))


def reveal(
    event: dict[str, Any], records: list[Pair], fields: tuple[str, ...] = (), *, written_with: Codec = EVENT, **more: Any
) -> tuple[Revealed, ...]:
    """As the command does it, with the records of a partition in the place of the topic."""
    tokenized = tokenized_of(event, written_with, {PEOPLE.sha256: PEOPLE}.__getitem__)
    tokens = tokens_in(event, tokenized, fields)
    found = wrapped_keys(records, more.get("chain", CHAIN), key_ids(tokens))
    openers = more.get("openers", opener_of(PRIVATE))
    return revealed(tokens, lambda key_id: opened(found.get(key_id, {}), more.get("tenant", "acme"), openers), fields)


def login(records: list[Pair], token: str | None = None, **more: Any) -> Revealed:
    """What is revealed of `actor.login` alone."""
    event = sealed(event_of())
    if token is not None:
        event["actor"] = {**event["actor"], "login": token}
    (found,) = reveal(event, records, ("actor.login",), **more)
    return found


LOGIN = Revealed("actor.login", "alice@example.com")


def test_every_token_of_the_event_and_its_extension_is_revealed_in_the_schemas_order() -> None:
    event = event_of(VALUE, called="Bob")
    found = reveal(sealed(event), ALL)
    assert [(one.path, one.text, one.problem) for one in found] == [(v.path, v.text, "") for v in TOKENIZED.values(event)]
    assert len(found) == 12


@given(st.data())
def test_what_was_tokenised_is_what_is_revealed(data: st.DataObject) -> None:
    event, value = event_of(), data.draw(values_of(PEOPLE.text))
    event["extension"] = {"schema": PEOPLE.sha256, "payload": PEOPLE.encode_body(value)}
    event["remark"] = data.draw(st.none() | st.text(max_size=5))
    found = reveal(sealed(event), ALL)
    assert [(one.path, one.text, one.problem) for one in found] == [(v.path, v.text, "") for v in TOKENIZED.values(event)]


def test_fields_that_are_named_are_revealed_alone_and_those_that_hold_nothing_are_said() -> None:
    event = sealed(event_of(VALUE))
    wanted = ("extension.payload.mails[]", "phone", "called", "actor.id", "phone", "no.such")
    assert reveal(event, ALL, wanted) == (
        Revealed("phone", "+44 20"),
        Revealed("extension.payload.mails[]", "m1"),
        Revealed("extension.payload.mails[]", "m2"),
        Revealed("called", problem=NO_VALUE),
        Revealed("actor.id", problem=NO_VALUE),
        Revealed("no.such", problem=NO_VALUE),
    )


def test_a_token_is_one_only_where_the_schema_that_the_event_was_written_with_says_so() -> None:
    older = Codec(
        EVENT.text.replace('"redact": "tokenize", "default": null, "subjectField": "id"', '"redact": "mask", "default": null')
    )
    assert older.text != EVENT.text
    event = sealed(event_of())
    event["actor"]["display"] = ALICE.token("somebody else")
    assert "actor.login" not in {one.path for one in reveal(event, ALL, written_with=older)}
    assert reveal(event, ALL, ("actor.login",), written_with=older) == (Revealed("actor.login", problem=NO_VALUE),)
    assert reveal(event, ALL, ("actor.display",)) == (Revealed("actor.display", problem=NO_VALUE),)


def test_an_event_without_tokens_reveals_nothing_and_asks_for_no_key() -> None:
    event = minimal_event()
    assert key_ids(tokens_in(event, tokenized_of(event, EVENT, dict[bytes, Codec]().__getitem__))) == frozenset()
    opening = {**event, "extension": {"schema": RUN_SESSION.sha256, "payload": b"whatever"}}
    assert reveal(opening, []) == ()


# -- what cannot be revealed says why


def tombstone(wrapped: WrappedKey) -> Pair:
    return wrapped.record_key, None


GOOD = wrap()
SPOILT = WrappedKey(
    CHAIN, "acme", GOOD.subject, GOOD.key_id, 1, GOOD.wrapped_to, GOOD.wrapped[:-1] + bytes([GOOD.wrapped[-1] ^ 1])
)
GLOBEX = wrap(key=SubjectKey("globex", ALICE.key))
ELSEWHERE = wrap(chain=OTHER)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([], NO_KEY),
        ([record(wrap(""))], NO_KEY),
        ([record(ELSEWHERE)], NO_KEY),
        ([record(GLOBEX)], NO_KEY),
        ([(None, GOOD.encode())], NO_KEY),
        ([(GOOD.record_key + b"0", GOOD.encode()), (GOOD.key_id, GOOD.encode())], NO_KEY),
        ([record(GOOD), tombstone(GOOD)], DESTROYED),
        ([tombstone(GOOD)], DESTROYED),
        ([record(GOOD), tombstone(GOOD), record(GOOD)], DESTROYED),
        ([(GOOD.record_key, b"")], DAMAGED),
        ([(GOOD.record_key, wrap("").encode())], DAMAGED),
        ([record(SPOILT)], UNOPENED),
        ([(GOOD.record_key, ELSEWHERE.encode())], UNOPENED),
    ],
    ids=["none", "of another subject", "of another chain", "of another tenant", "no record key", "longer and shorter keys",
         "tombstone", "tombstone alone", "a copy after the tombstone", "not a record", "under another's record key",
         "wrapped key altered", "another chain's value"],
)  # fmt: skip
def test_a_key_that_is_not_to_be_had_is_the_reason(records: list[Pair], problem: str) -> None:
    assert login(records) == Revealed("actor.login", problem=problem)


def test_a_tenant_subject_key_that_is_not_held_is_named_by_its_id() -> None:
    for openers in ({}, opener_of(SUCCESSOR, FOREIGN)):
        found = login(ALL, openers=openers)
        assert found.text == "" and found.problem == (
            f"its key is wrapped to tenant-subject key {wrapped_to(PRIVATE).hex()[:16]}…, which is not here"
        )


TOKEN = ALICE.token("alice@example.com")


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (TOKEN[:-9] + ("A" if TOKEN[-9] != "A" else "B") + TOKEN[-8:], ALTERED),
        (f"tok_{ALICE.key_id.hex()}_" + RESIDUAL_KEY.token("alice@example.com")[21:], ALTERED),
        (SubjectKey("globex", ALICE.key).token("alice@example.com"), ALTERED),
        (TOKEN[:-1] + "=", NOT_A_TOKEN),
        (TOKEN[:30], NOT_A_TOKEN),
        ("enc_" + "A" * 40, NOT_A_TOKEN),
        ("*****************", NOT_A_TOKEN),
        ("tok_" + "0" * 16 + TOKEN[20:], NO_KEY),
    ],
    ids=["a character", "another key's", "another tenant's", "not of the form", "cut", "still encrypted", "masked", "key id"],
)
def test_an_altered_token_is_the_reason(token: str, problem: str) -> None:
    assert login(ALL, token) == Revealed("actor.login", problem=problem)


def test_one_field_that_cannot_be_revealed_does_not_hide_the_others() -> None:
    found = reveal(sealed(event_of()), [record(wrap("alice"))])
    assert found == (
        LOGIN,
        Revealed("phone", "+44 20"),
        Revealed("nickname", problem=NO_KEY),
        Revealed("remark", problem=NO_KEY),
    )


# -- more than one key


def test_every_record_of_an_id_is_tried() -> None:
    stranger = WrappedKey(CHAIN, "acme", bytes(32), ALICE.key_id, 1, GOOD.wrapped_to, GOOD.wrapped)  # opens for no such subject
    damaged = (stranger.record_key[:-40] + b"x" * 32 + ALICE.key_id, b"damaged")
    for records in (
        [record(stranger), record(GOOD)],
        [record(GOOD), record(stranger)],
        [damaged, tombstone(stranger), record(GOOD)],
    ):
        assert login(records) == LOGIN


def test_a_key_that_was_wrapped_anew_opens_with_either_generation() -> None:
    before, after = record(wrap()), record(wrap(private=SUCCESSOR))
    for records in ([before, after], [after, before]):
        assert login(records, openers=opener_of(PRIVATE)) == login(records, openers=opener_of(SUCCESSOR)) == LOGIN
    assert login([after, before, tombstone(GOOD)], openers=opener_of(PRIVATE, SUCCESSOR)).problem == DESTROYED


def test_keys_of_two_generations_open_what_was_sealed_under_each() -> None:
    records = [record(wrap("alice")), record(wrap("", private=SUCCESSOR))]
    found = reveal(sealed(event_of()), records, ("actor.login", "remark"), openers=opener_of(PRIVATE, SUCCESSOR))
    assert found == (LOGIN, Revealed("remark", "hm"))


# -- what is never shown, and what cannot be read


def test_no_text_and_no_key_is_in_a_repr() -> None:
    found = login(ALL)
    assert found.text == "alice@example.com"
    held = opened(wrapped_keys(ALL, CHAIN, [ALICE.key_id])[ALICE.key_id], "acme", opener_of(PRIVATE))
    assert held.keys == (ALICE,)
    for shown in (repr(found), str(found), repr(held)):
        assert "alice" not in shown and repr(ALICE.key)[2:-1] not in shown and ALICE.key.hex() not in shown


def test_a_schema_whose_classes_are_of_another_version_is_undecided() -> None:
    event = sealed(event_of(VALUE))
    newer = Codec(EVENT.text.replace('"tokenize"', '"engrave"'))
    with pytest.raises(UndecidedError, match="cannot be read by this version"):
        reveal(event, ALL, written_with=newer)
    people = Codec(PEOPLE.text.replace('"tokenize"', '"engrave"'))
    with pytest.raises(UndecidedError, match="cannot be read by this version"):
        tokenized_of(event, EVENT, lambda _: people)
