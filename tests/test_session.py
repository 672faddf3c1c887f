"""Runs: who speaks is signed once and bound to every record; the key is HPKE as RFC 9180 defines it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.session import (
    HPKE,
    RUN_SESSION,
    RUN_STATEMENT,
    Run,
    audience_of,
    epoch_time_s,
    hpke_open,
    mac_key,
    open_run,
    record_mac,
    unwrap_session_key,
    verify_session,
)

SOURCE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SOURCE_PUBLIC = SOURCE.public_key().public_bytes_raw()
PIPELINE = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PIPELINE_PUBLIC = PIPELINE.public_key().public_bytes_raw()
RUN = Run("github", "one", bytes(range(16)))
AUDIENCE = audience_of("audit.example", "local", "audit.raw")
SESSION_KEY = bytes(range(100, 132))
CERTIFICATE = Certificate(Role.SOURCE, "github", SOURCE_PUBLIC, 1000, 2000)
KEYRING = Keyring([CERTIFICATE])
HEADER = open_run(RUN, AUDIENCE, SESSION_KEY, PIPELINE_PUBLIC, SOURCE_PUBLIC, SOURCE.sign)


class Rfc9180:
    """RFC 9180 §4 to §5, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, written from its text; opens one message."""

    def __init__(self, aead_id: int, key_size: int) -> None:
        self._suite = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (0x20, 1, aead_id))
        self._key_size = key_size

    def open(self, private: X25519PrivateKey, enc: bytes, ciphertext: bytes, info: bytes, associated: bytes) -> bytes:
        kem = b"KEM" + (0x20).to_bytes(2, "big")
        shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
        context = enc + private.public_key().public_bytes_raw()
        secret = self._expand(kem, self._extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
        schedule = (
            b"\0" + self._extract(self._suite, b"", b"psk_id_hash", b"") + self._extract(self._suite, b"", b"info_hash", info)
        )
        prk = self._extract(self._suite, secret, b"secret", b"")
        key = self._expand(self._suite, prk, b"key", schedule, self._key_size)
        nonce = self._expand(self._suite, prk, b"base_nonce", schedule, 12)
        return AESGCM(key).decrypt(nonce, ciphertext, associated)

    @staticmethod
    def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    @staticmethod
    def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
        return hmac.digest(prk, labelled + b"\x01", "sha256")[:size]


def test_our_wrapping_is_hpke_as_an_implementation_opens_it_that_meets_the_published_vector() -> None:
    """RFC 9180 A.1.1 is of AES-128-GCM with associated data; the suite used here differs in AEAD id and key size only."""
    opened = Rfc9180(1, 16).open(
        X25519PrivateKey.from_private_bytes(bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")),
        bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"),
        bytes.fromhex("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"),
        b"Ode on a Grecian Urn",
        b"Count-0",
    )
    assert opened == b"Beauty is truth, truth beauty"
    sealed = HPKE.encrypt(SESSION_KEY, PIPELINE.public_key(), b"info")
    assert Rfc9180(2, 32).open(PIPELINE, sealed[:32], sealed[32:], b"info", b"") == SESSION_KEY
    assert len(sealed) == 32 + len(SESSION_KEY) + 16


def test_a_run_is_read_as_it_was_opened() -> None:
    session = verify_session(HEADER, KEYRING, 1500)
    assert (session.run, session.audience) == (RUN, "audit.example/local/audit.raw")
    assert session.key_id == CERTIFICATE.key_id
    assert session.pipeline_key == hashlib.sha256(PIPELINE_PUBLIC).digest()
    assert unwrap_session_key(session, lambda sealed, info: hpke_open(PIPELINE, sealed, info)) == SESSION_KEY


@pytest.mark.parametrize("time_s", [999.9, 2000.1])
def test_a_session_outside_the_certificates_time_is_refused(time_s: float) -> None:
    with pytest.raises(EvidenceError):
        verify_session(HEADER, KEYRING, time_s)


@pytest.mark.parametrize(
    "certificate",
    [
        replace(CERTIFICATE, role=Role.SEALER),
        replace(CERTIFICATE, name="chat"),
        replace(CERTIFICATE, public=bytes(32)),
    ],
)
def test_a_session_by_another_role_or_source_or_key_is_refused(certificate: Certificate) -> None:
    with pytest.raises(EvidenceError):
        verify_session(HEADER, Keyring([certificate]), 1500)


def test_a_wrapped_key_of_another_run_is_refused() -> None:
    other = RUN_SESSION.decode(
        open_run(replace(RUN, epoch=bytes(16)), AUDIENCE, SESSION_KEY, PIPELINE_PUBLIC, SOURCE_PUBLIC, SOURCE.sign)
    )
    mixed = RUN_SESSION.decode(HEADER) | {"wrapped_key": other["wrapped_key"]}
    with pytest.raises(EvidenceError, match="wrapped key"):
        verify_session(RUN_SESSION.encode(mixed), KEYRING, 1500)
    session = replace(verify_session(HEADER, KEYRING, 1500), wrapped_key=other["wrapped_key"])
    with pytest.raises(EvidenceError):
        unwrap_session_key(session, lambda sealed, info: hpke_open(PIPELINE, sealed, info))


def test_a_key_of_another_size_is_refused() -> None:
    short = open_run(RUN, AUDIENCE, bytes(31), PIPELINE_PUBLIC, SOURCE_PUBLIC, SOURCE.sign)
    with pytest.raises(EvidenceError, match="31 bytes"):
        unwrap_session_key(verify_session(short, KEYRING, 1500), lambda sealed, info: hpke_open(PIPELINE, sealed, info))


def test_every_bit_of_a_session_changed_fails() -> None:
    for bit in range(8 * len(HEADER)):
        changed = HEADER[: bit // 8] + bytes([HEADER[bit // 8] ^ 1 << bit % 8]) + HEADER[bit // 8 + 1 :]
        with pytest.raises(EvidenceError):
            verify_session(changed, KEYRING, 1500)


def test_a_key_wrapped_for_another_audience_does_not_open() -> None:
    session = replace(verify_session(HEADER, KEYRING, 1500), audience="audit.example/other/audit.raw")
    with pytest.raises(EvidenceError):
        unwrap_session_key(session, lambda sealed, info: hpke_open(PIPELINE, sealed, info))


def test_an_epoch_states_when_its_run_began() -> None:
    assert epoch_time_s((1_790_000_000_123).to_bytes(6, "big") + bytes(10)) == 1_790_000_000.123


def test_a_statement_signed_in_another_encoding_is_refused() -> None:
    value = RUN_SESSION.decode(HEADER)
    statement = value["statement"] + b"\0"
    value |= {"statement": statement, "signature": SOURCE.sign(b"sealtrail/run/v1\n" + statement)}
    with pytest.raises(EvidenceError):
        verify_session(RUN_SESSION.encode(value), KEYRING, 1500)
    assert RUN_STATEMENT.decode_body(statement[:-1])["source"] == "github"


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_an_evidence_error_to_open_or_verify(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        hpke_open(PIPELINE, data, b"")
    for header in (data, RUN_SESSION.header + data):
        with pytest.raises(EvidenceError):
            verify_session(header, KEYRING, 1500)


@pytest.mark.parametrize("enc", [bytes(32), bytes([1]) + bytes(31), b"\xff" * 32])
def test_an_encapsulated_point_of_low_order_is_an_evidence_error(enc: bytes) -> None:
    with pytest.raises(EvidenceError):
        hpke_open(PIPELINE, enc + bytes(48), b"")


def test_a_records_mac_is_the_documented_one_and_differs_with_topic_number_and_value() -> None:
    prk = hmac.digest(bytes(32), SESSION_KEY, "sha256")  # RFC 5869: extract without salt
    key = hmac.digest(prk, b"auth\x01", "sha256")  # and one block of expand
    assert mac_key(SESSION_KEY) == key
    expected = hmac.digest(key, b"audit.raw" + bytes(7) + b"\x07" + hashlib.sha256(b"value").digest(), "sha256")
    assert record_mac(key, "audit.raw", 7, b"value") == expected
    others = {
        record_mac(key, *rest) for rest in (("audit.raw", 8, b"value"), ("audit.hot", 7, b"value"), ("audit.raw", 7, b"values"))
    }
    assert len(others | {expected}) == 4
