"""Certificates: what the root signed and nothing else; a key has one role, and its time."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.certificate import CONTEXT, Certificate, Role, issue, verify_certificate
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.note import ED25519, NoteKey, format_note, note_signature, parse_note

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = NoteKey("audit.example/root", ED25519, KEY.public_key().public_bytes_raw())
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
GOOD = Certificate(Role.SEALER, "sealer", bytes(range(32)), 1_790_000_000, 1_821_536_000)
TEXT = """\
sealtrail/certificate/v1
role sealer
name sealer
algorithm Ed25519
public AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
key-id 630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd
not-before 2026-09-21T14:13:20Z
not-after 2027-09-21T14:13:20Z
"""


def signed(text: str) -> bytes:
    """Any text, rightly signed by the root."""
    return format_note(text, (note_signature(ROOT, KEY.sign(text.encode())),)).encode()


def test_the_text_is_the_published_one_line_by_line() -> None:
    assert GOOD.text == TEXT
    assert TEXT.startswith(CONTEXT)
    assert GOOD.key_id == hashlib.sha256(GOOD.public).digest()
    assert verify_certificate(signed(TEXT), ROOT) == GOOD


names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="+"), min_size=1, max_size=200)
times = st.integers(-62_135_596_800, 253_402_300_799)  # years 1 to 9999


@given(st.sampled_from(Role), names, st.binary(min_size=32, max_size=32), times, times)
@settings(max_examples=100)
def test_a_certificate_verifies_as_it_was_issued(role: Role, name: str, public: bytes, before: int, after: int) -> None:
    certificate = Certificate(role, name, public, before, after)
    assert verify_certificate(issue(certificate, ROOT, KEY.sign).encode(), ROOT) == certificate


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "é", "a" * 201, "a\x7f"])
def test_a_name_that_the_format_cannot_carry_is_not_issued(name: str) -> None:
    with pytest.raises(ValueError, match="unusable"):
        issue(Certificate(Role.SEALER, name, bytes(32), 0, 1), ROOT, KEY.sign)


BAD = {
    "another context": TEXT.replace("certificate/v1", "certificate/v2"),
    "an unknown role": TEXT.replace("role sealer", "role king"),
    "another role's algorithm": TEXT.replace("Ed25519", "X25519"),
    "another key's id": TEXT.replace("key-id 63", "key-id 64"),
    "an id in capitals": TEXT.replace("630dcd", "630DCD"),
    "a line more": TEXT + "more\n",
    "a line less": TEXT.replace("name sealer\n", ""),
    "lines in another order": TEXT.replace("role sealer\nname sealer\n", "name sealer\nrole sealer\n"),
    "two spaces": TEXT.replace("role sealer", "role  sealer"),
    "a time with a fraction": TEXT.replace(":20Z", ":20.0Z"),
    "a time with an offset": TEXT.replace("14:13:20Z", "14:13:20+00:00"),
    "a month in one digit": TEXT.replace("2026-09", "2026-9"),
    "a day that is none": TEXT.replace("09-21", "02-30"),
    "other digits": TEXT.replace("2026", "２０２６"),
    "a short key": TEXT.replace("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AAEC"),
    "no name": TEXT.replace("name sealer", "name "),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_text_that_is_no_certificate_is_refused_even_if_the_root_signed_it(text: str) -> None:
    assert text != TEXT
    with pytest.raises(EvidenceError):
        verify_certificate(signed(text), ROOT)


def test_only_the_roots_signature_counts() -> None:
    forged = issue(GOOD, ROOT, OTHER.sign).encode()
    theirs = NoteKey(ROOT.name, ED25519, OTHER.public_key().public_bytes_raw())
    for data in (forged, issue(GOOD, theirs, OTHER.sign).encode(), TEXT.encode(), b""):
        with pytest.raises(EvidenceError):
            verify_certificate(data, ROOT)


def test_every_bit_of_a_certificate_changed_fails() -> None:
    data = signed(TEXT)
    for bit in range(8 * len(data)):
        changed = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        with pytest.raises(EvidenceError):
            verify_certificate(changed, ROOT)


@given(st.data())
@settings(max_examples=300)
def test_any_bytes_are_refused_as_evidence_error_only(data: st.DataObject) -> None:
    text = "\n".join(data.draw(st.permutations(TEXT.splitlines()))) + data.draw(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    )
    for candidate in (data.draw(st.binary(max_size=100)), signed(text + "\n")):
        if candidate == signed(TEXT):
            continue
        with pytest.raises(EvidenceError):
            verify_certificate(candidate, ROOT)


def test_a_key_is_found_in_its_role_only() -> None:
    keyring = Keyring([GOOD])
    assert keyring.find(GOOD.key_id, Role.SEALER) is GOOD
    assert keyring.find(bytes(32), Role.SEALER) is None
    assert keyring.of_role(Role.SEALER) == (GOOD,)
    for role in set(Role) - {Role.SEALER}:
        assert keyring.find(GOOD.key_id, role) is None
        assert not keyring.of_role(role)


@pytest.mark.parametrize(
    ("name", "chain", "speaks"),
    [
        ("audit.example", "audit.example/local/audit.raw.1f0c2a9b.0/3", True),
        ("audit.example/local", "audit.example/local/audit.raw.1f0c2a9b.0/3", True),
        ("audit.example/loc", "audit.example/local/audit.raw.1f0c2a9b.0/3", False),
        ("audit.example/other", "audit.example/local/audit.raw.1f0c2a9b.0/3", False),
        ("audit.exampl", "audit.example/local/audit.raw.1f0c2a9b.0/3", False),
        ("local", "audit.example/local/audit.raw.1f0c2a9b.0/3", False),
    ],
)
def test_a_key_speaks_for_its_part_of_the_trail_only(name: str, chain: str, speaks: bool) -> None:
    assert Certificate(Role.SEALER, name, bytes(32), 0, 1).speaks_for(chain) is speaks


def test_both_ends_of_a_certificates_time_are_within_it() -> None:
    assert GOOD.covers(GOOD.not_before_s)
    assert GOOD.covers(GOOD.not_after_s)
    assert not GOOD.covers(GOOD.not_before_s - 0.001)
    assert not GOOD.covers(GOOD.not_after_s + 0.001)


def test_nothing_but_the_roots_signature_stands_on_a_certificate() -> None:
    note = parse_note(signed(TEXT))
    other = note_signature(NoteKey("somebody", ED25519, GOOD.public), bytes(64))
    with pytest.raises(EvidenceError, match="2 signatures"):
        verify_certificate(format_note(TEXT, (*note.signatures, other)).encode(), ROOT)
