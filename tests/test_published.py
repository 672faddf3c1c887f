"""Vectors that others published, in full, through the two places where this package verifies an Ed25519 signature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError
from sealtrail.note import ED25519, Note, NoteKey, NoteSignature, verify_note
from sealtrail.signatures import _verifies

WYCHEPROOF = [
    (number, bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature), valid)
    for number, public, message, signature, valid in json.loads(
        (Path(__file__).parent / "published" / "ed25519_wycheproof.json").read_text()
    )
]


def test_all_of_wycheproof_is_here() -> None:
    assert [case[0] for case in WYCHEPROOF] == list(range(1, 152)) and sum(case[4] for case in WYCHEPROOF) == 88


@pytest.mark.parametrize(("number", "public", "message", "signature", "valid"), WYCHEPROOF)
def test_a_signature_counts_exactly_if_wycheproof_says_so(
    number: int, public: bytes, message: bytes, signature: bytes, valid: bool
) -> None:
    assert _verifies(Certificate(Role.SEALER, "x", public, 0, 1), signature, message) == valid
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return  # no note's text
    key = NoteKey("wycheproof", ED25519, public)
    note = Note(text, (NoteSignature("wycheproof", key.key_id, signature),))
    if valid:
        verify_note(note, key)
    else:
        with pytest.raises(EvidenceError):
            verify_note(note, key)
