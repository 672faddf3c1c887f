"""C2SP tlog-checkpoints of a chain: what the archive swears the tree to be, and when.

A checkpoint is a signed note whose text is origin, decimal size and base64 root, a line each. The
key name is the origin (the chain). The same key adds a `cosignature/v1`, which carries the time:
it signs `cosignature/v1\\ntime <unix>\\n` and the text; its blob is the big-endian time and the
signature. Extension lines are refused: ours have none.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail.errors import EvidenceError
from sealtrail.note import (
    COSIGNATURE,
    ED25519,
    Note,
    NoteKey,
    _base64,
    format_note,
    note_signature,
    parse_note,
    signature_of,
    verify_note,
)

MAX_NUMBER = 2**63 - 1  # of a note, as of an Avro long
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin (the chain), number of seals and RFC 6962 root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose signature and cosignature were checked; `time_s` is the cosignature's."""

    checkpoint: Checkpoint
    time_s: int
    note: str


def parse_checkpoint(data: bytes) -> tuple[Checkpoint, Note]:
    """The checkpoint and its note, signatures not yet checked.

    Raises:
        EvidenceError: not a note, or its text is not exactly origin, size and root.
    """
    note = parse_note(data)
    lines = note.text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise EvidenceError("checkpoint text is not origin, size and root")
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > MAX_NUMBER:
        raise EvidenceError("checkpoint size is not a canonical decimal")
    root = _base64(lines[2], "checkpoint root")
    if len(root) != 32:
        raise EvidenceError(f"checkpoint root of {len(root)} bytes; expected 32")
    return Checkpoint(lines[0], int(lines[1]), root), note


def sign_checkpoint(checkpoint: Checkpoint, public: bytes, sign: Sign, time_s: int) -> str:
    """The signed note of a checkpoint: signature and cosignature of one Ed25519 key.

    Args:
        public: the key's 32 raw public bytes.
        sign: Ed25519 over a message; may call out to a key service.
        time_s: the signer's clock, whole seconds since 1970 UTC.
    """
    key = NoteKey(checkpoint.origin, ED25519, public)
    cosigner = NoteKey(checkpoint.origin, COSIGNATURE, public)
    text = checkpoint.text
    cosigned = time_s.to_bytes(8, "big") + sign(_cosigned(time_s, text))
    return format_note(text, (note_signature(key, sign(text.encode())), note_signature(cosigner, cosigned)))


def verify_checkpoint(data: bytes, public: bytes) -> SignedCheckpoint:
    """Check both signatures of a checkpoint against a raw public key.

    Raises:
        EvidenceError: malformed, or either signature is missing or wrong.
    """
    checkpoint, note = parse_checkpoint(data)
    verify_note(note, NoteKey(checkpoint.origin, ED25519, public))
    blob = signature_of(note, NoteKey(checkpoint.origin, COSIGNATURE, public))
    if len(blob) != 72:
        raise EvidenceError("cosignature of a wrong length")
    time_s = int.from_bytes(blob[:8], "big")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(blob[8:], _cosigned(time_s, note.text))
    except (InvalidSignature, ValueError) as error:
        raise EvidenceError(f"wrong cosignature of {checkpoint.origin}") from error
    return SignedCheckpoint(checkpoint, time_s, data.decode())


def _cosigned(time_s: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
