"""The format of a legal hold: what is signed is what is read, and nothing else passes."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError
from sealtrail.hold import (
    Item,
    Manifest,
    Scope,
    decode_items,
    encode_items,
    frame_copy,
    is_matter,
    sign_manifest,
    verify_manifest,
)
from sealtrail.keyring import Keyring
from sealtrail.segment import Frame, decode_frames

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
AT_S = 1_795_000_000
CERTIFICATE = Certificate(Role.AUDITOR, "audit.example", PUBLIC, AT_S - 100, AT_S + 100)
KEYRING = Keyring([CERTIFICATE])
ITEMS = (
    Item(bytes(32), "v1", "contents/admin/2027-01-01/a/b/c.00000000.0/0-1-x.avro", "v7", 0),
    Item(b"\xab" * 32, "v2", "contents/admin/2027-01-01/a/b/c.00000000.0/0-1-x.avro", "v7", 1),
)
MANIFEST = Manifest(
    "acme-2026-17",
    Scope("acme", ("admin", "compliance"), 1_790_000_000_000_000, None),
    AT_S * 1_000_000,
    2,
    hashlib.sha256(encode_items(ITEMS)).digest(),
)
SIGNED = sign_manifest(MANIFEST, "audit.example", PUBLIC, KEY.sign)


def test_the_manifests_text_and_signature_are_these() -> None:
    assert SIGNED.decode() == (
        "sealtrail/hold/v1\n"
        "matter acme-2026-17\n"
        "tenant acme\n"
        "classes admin,compliance\n"
        "from 1790000000000000\n"
        "to -\n"
        "at 1795000000000000\n"
        "items 2 50b8e084684a093adb9e18f65c19cf670d2e63b9d6caf30708e5e8b711542e31\n"
        "\n"
        "— audit.example RTw5uZuYuZ2rxqfONMEUfTnM0J4ITqfSkiVgl70GVSdRZuYHuS1PYnjNRILEZ75oSj6Z+3988Mpl2XOZPosjC0q9RQw=\n"
    )


def test_what_was_signed_is_read() -> None:
    assert verify_manifest(SIGNED, KEYRING) == MANIFEST


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_manifest_passes(position: int, change: int) -> None:
    data = bytearray(SIGNED)
    data[position] ^= change
    with pytest.raises(EvidenceError):
        verify_manifest(bytes(data), KEYRING)


@given(
    st.builds(
        Manifest,
        st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
        st.builds(
            Scope,
            st.sampled_from(["acme", "@deployment", "a.b-c_1"]),
            st.lists(st.sampled_from(["admin", "security", "debug"]), unique=True).map(lambda names: tuple(sorted(names))),
            st.none() | st.integers(0, 2**62),
            st.none() | st.integers(0, 2**62),
        ),
        st.just(AT_S * 1_000_000),
        st.integers(0, 2**40),
        st.binary(min_size=32, max_size=32),
    )
)
def test_every_manifest_is_read_as_it_was_meant(manifest: Manifest) -> None:
    assert verify_manifest(sign_manifest(manifest, "audit.example", PUBLIC, KEY.sign), KEYRING) == manifest


@pytest.mark.parametrize(
    "certificate",
    [
        Certificate(Role.SEALER, "audit.example", PUBLIC, AT_S - 100, AT_S + 100),
        Certificate(Role.AUDITOR, "other.example", PUBLIC, AT_S - 100, AT_S + 100),
        Certificate(Role.AUDITOR, "audit.example", bytes(32), AT_S - 100, AT_S + 100),
        Certificate(Role.AUDITOR, "audit.example", PUBLIC, AT_S + 1, AT_S + 100),
    ],
    ids=["a sealer's", "of another name", "of another key", "not yet valid"],
)
def test_a_key_that_is_no_auditors_then_does_not_count(certificate: Certificate) -> None:
    with pytest.raises(EvidenceError):
        verify_manifest(SIGNED, Keyring([certificate]))


def test_items_have_one_form() -> None:
    data = encode_items(reversed(ITEMS))
    assert decode_items(data) == ITEMS
    lines = data.decode().splitlines()
    for wrong in (
        "\n".join(reversed(lines)) + "\n",
        data.decode() + "\n",
        data.decode().replace(" 0\n", " 00\n"),
        data.decode().upper(),
        "x\n",
        "é\n",
    ):
        with pytest.raises(EvidenceError, match="items of a hold"):
            decode_items(wrong.encode())


def test_a_copy_holds_the_frame_as_it_was() -> None:
    frame = Frame("a/b/c.00000000.0/0", 7, "admin", "acme", bytes(32), b"wrapped", bytes(12), b"ciphertext")
    data, digest = frame_copy(frame)
    assert decode_frames(data) == [frame]
    assert hashlib.sha256(data).digest() == digest


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope("acme"), True),
        (Scope("globex"), False),
        (Scope("acme", ("admin",)), True),
        (Scope("acme", ("debug",)), False),
        (Scope("acme", (), 100, 101), True),
        (Scope("acme", (), 200), True),
        (Scope("acme", (), 201), False),
        (Scope("acme", (), None, 100), False),
        (Scope("acme", (), None, 101), True),
    ],
)
def test_a_scope_covers_whole_frames_that_touch_it(scope: Scope, covered: bool) -> None:
    frame = Frame("a/b/c.00000000.0/0", 7, "admin", "acme", bytes(32), b"", bytes(12), b"")
    assert scope.covers(frame, 100, 200) is covered


@pytest.mark.parametrize("name", ["", "A", "a/b", ".a", "a" * 64, "a b", "../x", "a\n"])
def test_what_breaks_a_key_is_no_matters_name(name: str) -> None:
    assert not is_matter(name)
