"""Tokens: two encryptions, each bound to its place; against RFC 5297, and against whatever was altered."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from hypothesis import given
from hypothesis import strategies as st

from sealtrail.errors import EvidenceError
from sealtrail.session import hpke_open
from sealtrail.token import (
    FieldCipher,
    SubjectKey,
    WrappedKey,
    _decoded,
    encrypted_size,
    is_encrypted,
    is_token,
    parse_wrapped_key,
    secret_key_id,
    subject_index,
    subject_prefix,
    token_key_id,
    wrap_subject_key,
)

SESSION_KEY = bytes(range(100, 132))
EVENT_ID = bytes(range(16))
CHAIN = "audit.example/local/audit.raw/00000000000000000000000000000000/0/3"
PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
KEY = SubjectKey("acme", bytes(range(64)))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
CIPHER = FieldCipher(SESSION_KEY)


def opened(wrapped: bytes, info: bytes) -> bytes:
    return hpke_open(PRIVATE, wrapped, info)


def test_aes_siv_is_that_of_rfc_5297() -> None:
    """RFC 5297, appendix A.1 and A.2."""
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    associated = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    made = AESSIV(key).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [associated])
    assert made.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"
    key = bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")
    parts = (
        "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
        "102030405060708090a0",
        "09f911029d74e35bd84156c5635688c0",
    )
    plain = b"this is some plaintext to encrypt using SIV-AES"
    made = AESSIV(key).encrypt(plain, [bytes.fromhex(part) for part in parts])
    assert made.hex() == (
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    )


def test_the_forms_are_what_they_say_from_first_principles() -> None:
    prk = hmac.digest(bytes(32), SESSION_KEY, "sha256")
    key = hmac.digest(prk, b"token\x01", "sha256")  # RFC 5869
    sealed = AESGCM(key).encrypt((7).to_bytes(8, "big") + (2).to_bytes(4, "big"), b"alice", EVENT_ID + b"actor.login")
    encrypted = CIPHER.encrypt(7, 2, EVENT_ID, "actor.login", b"alice").decode()
    assert encrypted.startswith("enc_") and _decoded(encrypted[4:]) == (2).to_bytes(4, "big") + sealed
    assert KEY.key_id == hashlib.sha256(b"sealtrail/key-id/v1\n" + KEY.key).digest()[:8] == secret_key_id(KEY.key)[:8]
    token = KEY.token("alice")
    assert token == f"tok_{KEY.key_id.hex()}_" + token[21:] and token_key_id(token) == KEY.key_id
    assert _decoded(token[21:]) == AESSIV(KEY.key).encrypt(b"alice", [b"sealtrail/token/v1\nacme"])
    assert subject_index(bytes(32), "bob") == hmac.digest(bytes(32), b"sealtrail/subject/v1\nbob", "sha256")


@given(TEXTS, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), st.text(min_size=1, max_size=9))
def test_what_is_encrypted_opens_in_its_place_and_has_the_form_and_size_that_are_told(
    text: str, seq: int, number: int, path: str
) -> None:
    path = path.encode(errors="replace").decode()
    encrypted = CIPHER.encrypt(seq, number, EVENT_ID, path, text.encode())
    assert len(encrypted) == encrypted_size(len(text.encode()))
    assert is_encrypted(encrypted.decode()) and not is_token(encrypted.decode())
    assert CIPHER.decrypt(seq, EVENT_ID, path, encrypted.decode()) == text
    token = KEY.token(text)
    assert is_token(token) and not is_encrypted(token) and KEY.open(token) == text


def test_an_encrypted_field_opens_nowhere_else() -> None:
    encrypted = CIPHER.encrypt(7, 2, EVENT_ID, "actor.login", b"alice").decode()
    elsewhere: dict[str, Callable[[], str]] = {
        "another record": lambda: CIPHER.decrypt(8, EVENT_ID, "actor.login", encrypted),
        "another event": lambda: CIPHER.decrypt(7, bytes(16), "actor.login", encrypted),
        "another field": lambda: CIPHER.decrypt(7, EVENT_ID, "subject.login", encrypted),
        "another run": lambda: FieldCipher(bytes(32)).decrypt(7, EVENT_ID, "actor.login", encrypted),
    }
    for act in elsewhere.values():
        with pytest.raises(EvidenceError, match="does not open"):
            act()


def test_every_flipped_bit_and_every_other_form_is_refused() -> None:
    encrypted, token = CIPHER.encrypt(7, 2, EVENT_ID, "actor.login", b"alice").decode(), KEY.token("alice")
    for text, act in ((encrypted, lambda t: CIPHER.decrypt(7, EVENT_ID, "actor.login", t)), (token, KEY.open)):
        altered = [
            *(text[:i] + chr(ord(text[i]) ^ 1 << bit) + text[i + 1 :] for i in range(len(text)) for bit in range(7)),
            *(text[:i] for i in range(len(text))),
            *(text[:i] + text[i + 1 :] for i in range(len(text))),
            text + "A", text + "=", text + "\n", " " + text, "",
        ]  # fmt: skip
        for wrong in altered:
            if text == token and wrong[20:] == token[20:] and is_token(wrong):
                assert token_key_id(wrong) != KEY.key_id  # finds another key, which does not open it
                continue
            with pytest.raises(EvidenceError) as refused:
                act(wrong)
            assert "alice" not in str(refused.value) and refused.value.__cause__ is None


def test_tokens_join_within_a_key_and_nowhere_else() -> None:
    other = SubjectKey("acme", bytes(range(1, 65)))
    assert KEY.token("alice") == KEY.token("alice") != KEY.token("alicf")
    assert KEY.token("alice") != other.token("alice")
    with pytest.raises(EvidenceError):
        other.open(KEY.token("alice"))
    with pytest.raises(EvidenceError):
        SubjectKey("globex", KEY.key).open(KEY.token("alice"))
    assert KEY.key.hex() not in repr(KEY) and str(KEY.key) not in repr(KEY)
    with pytest.raises(ValueError, match="64 bytes"):
        SubjectKey("acme", bytes(32))


def test_a_wrapped_key_opens_under_its_own_record_alone() -> None:
    index = subject_index(bytes(32), "bob")
    made = wrap_subject_key(CHAIN, index, KEY, 1_795_000_000_000_000, PUBLIC)
    assert made.record_key == subject_prefix(CHAIN, index) + KEY.key_id
    read = parse_wrapped_key(made.record_key, made.encode())
    assert read == made and read.open(opened) == KEY and read.wrapped_to == hashlib.sha256(PUBLIC).digest()
    fields = {
        "chain": CHAIN[:-1] + "4", "tenant": "globex", "subject": bytes(32), "key_id": bytes(8), "wrapped": made.wrapped[:-1],
    }  # fmt: skip
    for name, value in fields.items():
        stated = {slot: getattr(made, slot) for slot in WrappedKey.__slots__} | {name: value}
        with pytest.raises(EvidenceError):
            WrappedKey(**stated).open(opened)
    with pytest.raises(EvidenceError):
        WrappedKey(**{slot: getattr(made, slot) for slot in WrappedKey.__slots__}).open(
            lambda wrapped, info: hpke_open(X25519PrivateKey.from_private_bytes(bytes(range(2, 34))), wrapped, info)
        )


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_stands_in_the_topic_is_a_key_or_refused(record_key: bytes, value: bytes) -> None:
    index = subject_index(bytes(32), "bob")
    good = wrap_subject_key(CHAIN, index, KEY, 1, PUBLIC)
    whole = good.encode()
    for key, data in ((record_key, value), (record_key, whole), (good.record_key, value), (good.record_key + b"x", whole)):
        with pytest.raises(EvidenceError):
            parse_wrapped_key(key, data)
