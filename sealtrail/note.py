"""C2SP signed notes: text, an empty line, then one line a signature.

    audit.example/raw/p0
    3
    ZLJJxOBgbj2XQsSb/VfNHj6xcPXM76JuoEXKGT1kp18=

    — audit.example/raw/p0 aIbJDFl/6dwAjwGLM6C7…

The signature covers the text with its last newline, not the empty line. A line's blob is the 4-byte
key id and the signature; key id = SHA-256(name || 0x0A || type || public key)[:4]. Source: C2SP
`signed-note`, `tlog-cosignature`. Unknown signatures are carried, never trusted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail.errors import EvidenceError

ED25519 = 0x01
COSIGNATURE = 0x04
MAX_NOTE_SIZE = 65_536  # bytes; ours are under 2 KiB
MAX_SIGNATURES = 100
_PREFIX = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the newline: a terminal obeys C1 and DEL as well


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A verifier key: who, which type of signature, and the raw Ed25519 public key (32 bytes)."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """4 bytes; a hint that leads to the key, never a proof."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """`name+hex(key id)+base64(type || public key)`."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the signer's name, the key id and the bytes that follow it."""

    name: str
    key_id: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note; `text` ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]


def parse_vkey(text: str) -> NoteKey:
    """The key of a vkey string.

    Raises:
        EvidenceError: malformed, of an unknown type, or its id is not its own.
    """
    name, plus, rest = text.partition("+")
    hex_id, plus2, encoded = rest.partition("+")
    blob = _base64(encoded, "vkey")
    if not plus or not plus2 or not _valid_name(name) or len(blob) != 33 or blob[0] not in (ED25519, COSIGNATURE):
        raise EvidenceError("malformed vkey")
    key = NoteKey(name, blob[0], blob[1:])
    if key.key_id.hex() != hex_id:
        raise EvidenceError("vkey's id is not that of its key")
    return key


def parse_note(data: bytes, max_size: int = MAX_NOTE_SIZE) -> Note:
    """A note from its bytes, at most `max_size` of them.

    Raises:
        EvidenceError: not UTF-8, control characters, no signature, malformed or too large.
    """
    if len(data) > max_size:
        raise EvidenceError(f"note of {len(data)} bytes; at most {max_size}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvidenceError("note is not UTF-8") from error
    if _CONTROL.search(whole):
        raise EvidenceError("note with control characters")
    cut = whole.rfind("\n\n")
    if cut < 0 or not whole.endswith("\n"):
        raise EvidenceError("note without a signature block")
    lines = whole[cut + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise EvidenceError(f"note with {len(lines)} signatures; at most {MAX_SIGNATURES}")
    return Note(whole[: cut + 1], tuple(_parse_signature(line) for line in lines))


def format_note(text: str, signatures: tuple[NoteSignature, ...]) -> str:
    """The note of a text and its signatures."""
    lines = (f"{_PREFIX}{s.name} {base64.b64encode(s.key_id + s.blob).decode()}\n" for s in signatures)
    return text + "\n" + "".join(lines)


def note_signature(key: NoteKey, blob: bytes) -> NoteSignature:
    """The signature line of a key for bytes that it signed."""
    return NoteSignature(key.name, key.key_id, blob)


def verify_note(note: Note, key: NoteKey) -> None:
    """Check that `key` (of type Ed25519) signed the note's text.

    Raises:
        EvidenceError: no signature line of this key, or a wrong one.
    """
    blob = signature_of(note, key)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(blob, note.text.encode())
    except (InvalidSignature, ValueError) as error:
        raise EvidenceError(f"wrong signature of {key.name} on a note") from error


def signature_of(note: Note, key: NoteKey) -> bytes:
    """The one blob of this key on the note.

    Raises:
        EvidenceError: none, or more than one.
    """
    found = [s.blob for s in note.signatures if s.name == key.name and s.key_id == key.key_id]
    if len(found) != 1:
        raise EvidenceError(f"{len(found)} signatures of {key.name} (key {key.key_id.hex()}) on a note; expected one")
    return found[0]


def _parse_signature(line: str) -> NoteSignature:
    if not line.startswith(_PREFIX):
        raise EvidenceError("malformed signature line")
    name, space, encoded = line[len(_PREFIX) :].partition(" ")
    blob = _base64(encoded, "signature line")
    if not space or not _valid_name(name) or len(blob) < 5:
        raise EvidenceError("malformed signature line")
    return NoteSignature(name, blob[:4], blob[4:])


def _valid_name(name: str) -> bool:
    return bool(name) and not any(c.isspace() or c == "+" for c in name)


def _base64(text: str, where: str) -> bytes:
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EvidenceError(f"{where}: not base64") from error
    if base64.b64encode(blob).decode() != text:
        raise EvidenceError(f"{where}: base64 with stray bits")
    return blob
