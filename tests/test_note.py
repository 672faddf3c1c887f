"""Signed notes and checkpoints: published vectors, and no text that breaks the parsers or verifies when it should not."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from sealtrail.errors import EvidenceError
from sealtrail.merkle import root_of
from sealtrail.note import (
    COSIGNATURE,
    ED25519,
    MAX_NOTE_SIZE,
    Note,
    NoteKey,
    NoteSignature,
    format_note,
    note_signature,
    parse_note,
    parse_vkey,
    verify_note,
)
from sealtrail.seal import leaf_hash

# C2SP signed-note and tlog-checkpoint: log seed 00..1f, entries "e0", "e1", "e2".
VKEY = "audit.example/raw/p0+6886c90c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
NOTE = """\
audit.example/raw/p0
3
ZLJJxOBgbj2XQsSb/VfNHj6xcPXM76JuoEXKGT1kp18=

— audit.example/raw/p0 aIbJDFl/6dwAjwGLM6C791C6osQlHmVmGrVhJk51lKV3i9PHmMD8fO76EpLkwleVPlkQQ+1T46+BP3roUTqoxGkMEQA=
"""
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
GOOD = sign_checkpoint(Checkpoint("audit.example/raw/p0", 3, bytes(range(32))), PUBLIC, KEY.sign, 1_790_000_000)

# RFC 8032 §7.1, TEST 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


def test_the_published_checkpoint_verifies_under_the_published_vkey() -> None:
    key = parse_vkey(VKEY)
    checkpoint, note = parse_checkpoint(NOTE.encode())
    verify_note(note, key)
    assert key == NoteKey("audit.example/raw/p0", ED25519, PUBLIC)
    assert key.vkey == VKEY
    assert checkpoint == Checkpoint("audit.example/raw/p0", 3, root_of([leaf_hash(e) for e in (b"e0", b"e1", b"e2")]))
    assert format_note(note.text, note.signatures) == NOTE


def test_the_published_checkpoint_is_what_we_sign() -> None:
    checkpoint, _ = parse_checkpoint(NOTE.encode())
    ours = sign_checkpoint(checkpoint, PUBLIC, KEY.sign, 1)
    assert ours.startswith(NOTE)
    assert verify_checkpoint(ours.encode(), PUBLIC).time_s == 1


def test_a_cosignature_signs_its_header_time_and_text_and_carries_the_time() -> None:
    note = parse_note(GOOD.encode())
    blob = note.signatures[1].blob
    assert blob[:8] == (1_790_000_000).to_bytes(8, "big")
    KEY.public_key().verify(blob[8:], f"cosignature/v1\ntime 1790000000\n{note.text}".encode())
    assert note.signatures[1].key_id == NoteKey("audit.example/raw/p0", COSIGNATURE, PUBLIC).key_id


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_signatures_of_rfc_8032_verify_and_no_others(public: str, message: str, signature: str) -> None:
    key = NoteKey("rfc8032", ED25519, bytes.fromhex(public))
    blob = bytes.fromhex(signature)
    text = bytes.fromhex(message).decode()
    verify_note(Note(text, (NoteSignature("rfc8032", key.key_id, blob),)), key)
    for bad in (blob[:-1] + b"\xff", blob[::-1], blob[:63], b"", blob + b"\0"):
        with pytest.raises(EvidenceError):
            verify_note(Note(text, (NoteSignature("rfc8032", key.key_id, bad),)), key)
    with pytest.raises(EvidenceError):
        verify_note(Note(text + "x", (NoteSignature("rfc8032", key.key_id, blob),)), key)


def test_a_malleable_signature_is_refused() -> None:
    """S + L verifies under careless implementations (RFC 8032 §5.1.7 forbids it)."""
    order = 2**252 + 27742317777372353535851937790883648493
    key = NoteKey("a", ED25519, PUBLIC)
    signature = KEY.sign(b"text\n")
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(EvidenceError):
        verify_note(Note("text\n", (NoteSignature("a", key.key_id, other),)), key)


BAD_NOTES = {
    "nothing": b"",
    "no signature": b"text\n\n",
    "no empty line": "text\n— a AAAAAAAA\n".encode(),
    "no last newline": "text\n\n— a AAAAAAAA".encode(),
    "a hyphen for the dash": b"text\n\n- a AAAAAAAA\n",
    "not UTF-8": b"text\xff\n\n\xe2\x80\x94 a AAAAAAAA\n",
    "a NUL": "te\0xt\n\n— a AAAAAAAA\n".encode(),
    "a carriage return": "text\r\n\n— a AAAAAAAA\n".encode(),
    "a tab in the name": "text\n\n— a\tb AAAAAAAA\n".encode(),
    "a plus in the name": "text\n\n— a+b AAAAAAAA\n".encode(),
    "no name": "text\n\n—  AAAAAAAA\n".encode(),
    "not base64": "text\n\n— a AAAA*AAA\n".encode(),
    "stray bits": "text\n\n— a AAAAAAB=\n".encode(),
    "too short a blob": "text\n\n— a AAAAAA==\n".encode(),
    "a letter of another script": "text\n\n— a ААААААAA\n".encode(),
    "too many signatures": b"text\n\n" + "— a AAAAAAAA\n".encode() * 101,
    "too large": b"x" * MAX_NOTE_SIZE + GOOD.encode(),
}


@pytest.mark.parametrize("data", BAD_NOTES.values(), ids=BAD_NOTES)
def test_a_malformed_note_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_note(data)


def checkpoint_with(text: str) -> bytes:
    """A rightly signed note of a text that no checkpoint has."""
    key = NoteKey("audit.example/raw/p0", ED25519, PUBLIC)
    return format_note(text, (note_signature(key, KEY.sign(text.encode())),)).encode()


ROOT = base64.b64encode(bytes(32)).decode()
BAD_CHECKPOINTS = {
    "an extension line": f"o\n3\n{ROOT}\nextension\n",
    "no root": "o\n3\n",
    "no origin": f"\n3\n{ROOT}\n",
    "a size with a zero before it": f"o\n03\n{ROOT}\n",
    "a negative size": f"o\n-3\n{ROOT}\n",
    "a size with a plus": f"o\n+3\n{ROOT}\n",
    "a size in other digits": f"o\n٣\n{ROOT}\n",
    "a size of 20 digits": f"o\n{10**19}\n{ROOT}\n",
    "an empty size": f"o\n\n{ROOT}\n",
    "a short root": f"o\n3\n{base64.b64encode(bytes(31)).decode()}\n",
    "a root in hex": f"o\n3\n{bytes(32).hex()}\n",
}


@pytest.mark.parametrize("text", BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_a_malformed_checkpoint_is_refused_however_well_signed(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_checkpoint(checkpoint_with(text))


def test_a_checkpoint_needs_both_signatures_of_the_key_once() -> None:
    text, first, second = GOOD.partition("\n\n")[0] + "\n\n", *GOOD.splitlines(keepends=True)[-2:]
    verify_checkpoint((text + second + first).encode(), PUBLIC)
    for lines in (first, second, first + first + second, first + second + second):
        with pytest.raises(EvidenceError):
            verify_checkpoint((text + lines).encode(), PUBLIC)
    with pytest.raises(EvidenceError):
        verify_checkpoint(GOOD.encode(), OTHER.public_key().public_bytes_raw())


def test_every_bit_of_a_checkpoint_changed_fails() -> None:
    data = GOOD.encode()
    for bit in range(8 * len(data)):
        changed = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        with pytest.raises(EvidenceError):
            verify_checkpoint(changed, PUBLIC)


BAD_VKEYS = {
    "nothing": "",
    "one part": "a",
    "two parts": "a+00000000",
    "an id of another key": VKEY.replace("6886c90c", "6886c90d"),
    "an id in capitals": VKEY.replace("6886c90c", "6886C90C"),
    "another name": "b" + VKEY,
    "an unknown type": "a+00000000+" + base64.b64encode(b"\x02" + PUBLIC).decode(),
    "a short key": "a+00000000+" + base64.b64encode(b"\x01" + PUBLIC[1:]).decode(),
    "another script": "a+00000000+АААА",
    "a line after it": VKEY + "\n",
    "a space in the name": "a b" + VKEY,
}


@pytest.mark.parametrize("text", BAD_VKEYS.values(), ids=BAD_VKEYS)
def test_a_malformed_vkey_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_vkey(text)


names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1).filter(
    lambda name: not any(c.isspace() for c in name)
)


@given(names, st.sampled_from([ED25519, COSIGNATURE]), st.binary(min_size=32, max_size=32))
def test_a_vkey_names_its_key(name: str, kind: int, public: bytes) -> None:
    key = NoteKey(name, kind, public)
    assert parse_vkey(key.vkey) == key


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=4),
    st.lists(
        st.builds(NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)),
        min_size=1,
        max_size=3,
    ),
)
def test_a_note_is_parsed_as_it_was_formatted(lines: list[str], signatures: list[NoteSignature]) -> None:
    note = Note("".join(line + "\n" for line in lines), tuple(signatures))
    data = format_note(note.text, note.signatures).encode()
    assert parse_note(data) == note


@given(names, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))
@settings(max_examples=50)
def test_a_checkpoint_is_verified_as_it_was_signed(origin: str, size: int, root: bytes, time_s: int) -> None:
    checkpoint = Checkpoint(origin, size, root)
    data = sign_checkpoint(checkpoint, PUBLIC, KEY.sign, time_s).encode()
    signed = verify_checkpoint(data, PUBLIC)
    assert (signed.checkpoint, signed.time_s, signed.note.encode()) == (checkpoint, time_s, data)


@given(st.data())
@settings(max_examples=400)
def test_any_bytes_are_a_note_or_an_evidence_error_and_never_another_signed_one(data: st.DataObject) -> None:
    whole = GOOD.encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:]
    for parse in (parse_note, parse_checkpoint, lambda d: verify_checkpoint(d, PUBLIC)):
        try:
            parse(changed)
        except EvidenceError:
            continue
        if parse not in (parse_note, parse_checkpoint):
            assert parse_note(changed).text == parse_note(whole).text


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=300)
def test_arbitrary_bytes_are_refused_as_evidence_error_only(data: bytes) -> None:
    for parse in (parse_note, parse_checkpoint):
        with pytest.raises(EvidenceError):
            parse(data)
    with pytest.raises(EvidenceError):
        parse_vkey(data.decode("utf-8", "replace"))


@pytest.mark.parametrize("control", [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0)) if n != 0x0A])
def test_a_note_has_no_control_character_but_the_newline(control: str) -> None:
    signed = note_signature(NoteKey("audit.example", ED25519, PUBLIC), KEY.sign(f"a{control}b\n".encode()))
    with pytest.raises(EvidenceError, match="control"):
        parse_note(format_note(f"a{control}b\n", (signed,)).encode())
