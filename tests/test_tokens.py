"""The keys of a chain's subjects: made when needed and each month, forgotten with what was not committed, bounded."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.records import Rejection
from processors.tokens import HALF, NoTenantKeysError, SubjectKeys, TenantKeys, Tokens
from schemas.redact import MAX_TOKENIZED_BYTES
from schemas.registry import packaged_registry
from schemas.tokenized import Tokenized
from sealtrail.avro import Codec
from sealtrail.seal import Reason
from sealtrail.session import hpke_open
from sealtrail.token import FieldCipher, SubjectKey, WrappedKey, subject_index, token_key_id
from tests.archives import counted, opening_key, seed

CHAIN = "audit.example/local/audit.raw.1f0c2a9b.0/0"
OPENER = opening_key("tenant-subject-acme")
KEYS = TenantKeys(seed("tenant-index"), OPENER.public_key().public_bytes_raw())
WALK = Tokenized(packaged_registry())
NOVEMBER = int(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000


class Owner:
    """A chain's owner: one transaction after another."""

    def __init__(self) -> None:
        self.state = SubjectKeys()
        self.random = counted("tokens")
        self.records: list[WrappedKey] = []

    def transaction(self, *who: tuple[str, str], at_us: int = NOVEMBER, committed: bool = True) -> list[str]:
        tokens = Tokens(CHAIN, self.state, WALK, tenant_keys, self.random, at_us)
        made = [tokens.token(tenant, subject, "alice") for tenant, subject in who]
        if committed:
            self.state, self.records = tokens.finish(), self.records + tokens.made
        return made


def tenant_keys(tenant: str) -> TenantKeys:
    if tenant == "keyless":
        raise NoTenantKeysError(tenant)
    return KEYS


def ids(tokens: list[str]) -> list[bytes]:
    return [token_key_id(token) for token in tokens]


def test_a_subject_has_one_key_until_the_month_ends_and_its_record_opens_it() -> None:
    owner = Owner()
    first = owner.transaction(("acme", "bob"), ("acme", "bob"), ("acme", "eve"), ("globex", "bob"))
    assert first[0] == first[1] and len(set(first)) == 3
    assert owner.transaction(("acme", "bob")) == first[:1], "the same in the next transaction"
    assert len(owner.records) == 3
    later = owner.transaction(("acme", "bob"), at_us=NOVEMBER + 1_000_000)
    assert ids(later) != ids(first[:1]) and [r.created_us for r in owner.records][-1] == NOVEMBER + 1_000_000
    record = owner.records[0]
    assert record.subject == subject_index(KEYS.index, "bob") and record.record_key.startswith(f"{CHAIN}\n".encode())
    assert record.open(partial(hpke_open, OPENER)).open(first[0]) == "alice"


def test_a_key_of_a_transaction_that_was_not_committed_is_never_used_again() -> None:
    owner = Owner()
    lost = owner.transaction(("acme", "bob"), committed=False)
    kept = owner.transaction(("acme", "bob"))
    assert ids(lost) != ids(kept) and [r.key_id for r in owner.records] == ids(kept)


def test_when_the_tenants_key_is_followed_its_subjects_get_new_ones() -> None:
    owner = Owner()
    first = owner.transaction(("acme", "bob"))
    follower = opening_key("tenant-subject-acme@2").public_key().public_bytes_raw()
    tokens = Tokens(CHAIN, owner.state, WALK, lambda _: TenantKeys(KEYS.index, follower), owner.random, NOVEMBER)
    assert ids([tokens.token("acme", "bob", "alice")]) != ids(first)
    assert [made.wrapped_to for made in tokens.made] == [hashlib.sha256(follower).digest()]


def test_who_takes_a_chain_over_makes_keys_of_its_own() -> None:
    owner, next_owner = Owner(), Owner()
    next_owner.random = counted("another process")
    assert ids(owner.transaction(("acme", "bob"))) != ids(next_owner.transaction(("acme", "bob")))


def test_without_a_tenants_keys_nothing_is_made() -> None:
    owner = Owner()
    with pytest.raises(NoTenantKeysError):
        owner.transaction(("keyless", "bob"))
    assert owner.state == SubjectKeys() and not owner.records


def test_what_is_held_is_bounded_and_who_is_needed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.tokens.HALF", 16)
    owner = Owner()
    (regular,) = owner.transaction(("acme", "bob"))
    for number in range(200):
        assert owner.transaction(("acme", "bob"), ("acme", f"once {number}"))[0] == regular
        assert len(owner.state.young) + len(owner.state.old) <= 2 * 17
    assert len(owner.records) == 201, "nobody needed twice in short order was made a key twice"
    assert HALF >= 1024


# -- an event


def leaf(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "type": ["null", "string"], "default": None, "dataClass": "personal", "redact": "tokenize", **more}


SCHEMA = {
    "type": "record", "name": "E",
    "fields": [
        {"name": "event_id", "type": {"type": "fixed", "name": "I", "size": 16}, "dataClass": "public"},
        {"name": "id", "type": "string", "dataClass": "personal", "redact": "hash"},
        leaf("login", subjectField="id"),
        leaf("nobody"),
        {"name": "people", "type": {"type": "array", "items": {"type": "record", "name": "P", "fields": [
            leaf("address", subjectField="address"), leaf("name", subjectField="address"),
        ]}}},
    ],
}  # fmt: skip
PEOPLE = Tokenized(packaged_registry(), Codec(json.dumps(SCHEMA)))
CIPHER = FieldCipher(bytes(32))


def an_event(**fields: Any) -> dict[str, Any]:
    """As the application hands it over, before it is encrypted."""
    people = [{"address": a, "name": n} for a, n in (("ada@x", "Ada"), ("bob@x", "Bob"), ("ada@x", None))]
    plain = {
        "event_id": bytes(16),
        "tenant": "acme",
        "emitter": {"seq": 7},
        "id": "hmac_ada",
        "login": "ada",
        "nobody": "",
        "people": people,
    }
    return plain | fields


def encrypted(event: dict[str, Any]) -> dict[str, Any]:
    numbers = count()
    return PEOPLE(event, lambda path, text, _: CIPHER.encrypt(7, next(numbers), bytes(16), path, text.encode()).decode())


def tokenised(event: dict[str, Any]) -> tuple[dict[str, Any], list[WrappedKey], list[tuple[str, str]]]:
    tokens = Tokens(CHAIN, SubjectKeys(), PEOPLE, tenant_keys, counted("event"), NOVEMBER)
    leaks: list[tuple[str, str]] = []
    made = tokens.of_event(event, CIPHER, lambda path, shape: leaks.append((path, shape)))
    return made, tokens.made, leaks


def test_every_value_of_an_event_becomes_a_token_of_whom_it_is_about() -> None:
    event = an_event()
    given = encrypted(event)
    before = copy.deepcopy(given)
    made, records, leaks = tokenised(given)
    assert given == before and not leaks
    keys = {r.subject: r.open(partial(hpke_open, OPENER)) for r in records}
    assert keys.keys() == {subject_index(KEYS.index, who) for who in ("hmac_ada", "ada@x", "bob@x")}, (
        "found by what it was, decrypted"
    )

    def read(_: str, token: str, __: str) -> str:
        return next(key for key in keys.values() if key.key_id == token_key_id(token)).open(token)

    assert PEOPLE(made, read) == event
    ada, bob, again = (person["address"] for person in made["people"])
    assert ada == again != bob, "they join"
    clear = an_event(login=None, people=[])
    assert tokenised(clear)[0] is clear


def test_a_secret_that_was_encrypted_is_overwritten_and_told() -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    made, records, leaks = tokenised(encrypted(an_event(login=f"my {secret}", people=[])))
    assert leaks == [("login", "github-token")]
    assert records[0].open(partial(hpke_open, OPENER)).open(made["login"]) == "*" * len(f"my {secret}")


def test_what_does_not_open_or_is_no_text_to_tokenise_is_refused_by_field() -> None:
    long = CIPHER.encrypt(7, 0, bytes(16), "login", b"x" * (MAX_TOKENIZED_BYTES + 1)).decode()
    fits = CIPHER.encrypt(7, 0, bytes(16), "login", b"x" * MAX_TOKENIZED_BYTES).decode()
    nothing = CIPHER.encrypt(7, 0, bytes(16), "login", b"").decode()
    elsewhere = CIPHER.encrypt(7, 0, bytes(16), "nobody", b"ada").decode()
    earlier = CIPHER.encrypt(6, 0, bytes(16), "login", b"ada").decode()
    tokenised(an_event(login=fits, people=[]))
    for wrong in (long, nothing, elsewhere, earlier, "enc_" + "A" * 30):
        with pytest.raises(Rejection, match="login: ") as refused:
            tokenised(an_event(login=wrong, people=[]))
        assert refused.value.reason is Reason.CONTRACT and refused.value.__cause__ is None
    with pytest.raises(Rejection) as refused:
        tokenised(encrypted(an_event(tenant="keyless")))
    assert refused.value.reason is Reason.UNPROCESSABLE


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.booleans()), max_size=60))
@settings(max_examples=60)
def test_every_token_that_was_committed_has_a_record_committed_no_later(steps: list[tuple[str, int, bool]]) -> None:
    owner = Owner()
    month = 31 * 86_400_000_000
    at = NOVEMBER
    for subject, months, committed in steps:
        at += months // 4 * month
        made = owner.transaction(("acme", subject), at_us=at, committed=committed)
        if committed:
            keys: dict[bytes, Callable[[], SubjectKey]] = {
                r.key_id: partial(r.open, partial(hpke_open, OPENER)) for r in owner.records
            }
            assert keys[token_key_id(made[0])]().open(made[0]) == "alice"
