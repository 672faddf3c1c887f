"""Segments and frames: the objects of the archive, encoded and decoded strictly.

A segment holds seals, signatures, the Merkle frontier before it, references to contents, and two
notes of the archive's key: the checkpoint of the tree that ends with it, and a statement that binds
the previous segment and the references:

    sealtrail/segment/v1
    chain audit.example/local/audit.raw.1f0c2a9b.0/3
    first 50112
    count 50007
    previous 4be1…                 SHA-256 of the previous segment's bytes; zeros for the first
    references 90aa…               SHA-256 over the lines `name version sha256 size rows`

    — audit.example/local/audit.raw.1f0c2a9b.0/3 …

A frame holds the contents of one tenant, encrypted under a fresh key that is wrapped to that
tenant's data key. Nothing here reads or writes a store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealtrail.avro import Codec, packaged, read_container, write_container
from sealtrail.checkpoint import MAX_NUMBER, Sign
from sealtrail.errors import EvidenceError
from sealtrail.note import ED25519, NoteKey, format_note, note_signature, parse_note, verify_note
from sealtrail.seal import Content, Signature, content_of, row_of
from sealtrail.session import HPKE

VERSION = 1
MAX_SEGMENT_SIZE = 1 << 28  # bytes; 50,000 seals are some 10 MB
SHORT_SEAL = 64  # bytes: a seal is longer, so a small object cannot claim a great many of them
SEGMENT = Codec(packaged("segment"))
FRAME = Codec(packaged("frame"))
ROWS = Codec('{"type": "array", "items": ' + packaged("row") + "}")

_STATEMENT_CONTEXT = "sealtrail/segment/v1"
_PARTING = re.compile(r"[\x00-\x20\x7f-\x9f]")  # what a reference's line is parted by, and what a terminal obeys
_STATEMENT = re.compile(
    rf"{_STATEMENT_CONTEXT}\n"
    r"chain ([^\n]+)\n"
    r"first (0|[1-9][0-9]{0,18})\n"
    r"count (0|[1-9][0-9]{0,18})\n"
    r"previous ([0-9a-f]{64})\n"
    r"references ([0-9a-f]{64})\n"
)

Open = Callable[[bytes, bytes], bytes]
"""HPKE open with a private key: (wrapped, info) -> plaintext; raises EvidenceError when it does not open."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A contents object as a segment names it: key, version id, SHA-256, bytes, number of rows."""

    name: str
    version: str
    sha256: bytes
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One archived stretch of a chain; `signatures` by seq, in order."""

    chain: str
    first_seq: int
    frontier: tuple[bytes, ...]
    seals: tuple[bytes, ...]
    signatures: tuple[tuple[int, Signature], ...]
    contents: tuple[Reference, ...]
    checkpoint: str
    statement: str

    @property
    def next_seq(self) -> int:
        """The seq after its last seal."""
        return self.first_seq + len(self.seals)


@dataclass(frozen=True, slots=True)
class Statement:
    """What the archive's key signs for a segment, beside its checkpoint; digests of 32 bytes."""

    chain: str
    first_seq: int
    count: int
    previous: bytes
    references: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        return (
            f"{_STATEMENT_CONTEXT}\n"
            f"chain {self.chain}\n"
            f"first {self.first_seq}\n"
            f"count {self.count}\n"
            f"previous {self.previous.hex()}\n"
            f"references {self.references.hex()}\n"
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """An encrypted frame and what its associated data binds it to."""

    chain: str
    first_seq: int
    log_class: str
    tenant: str
    key_id: bytes
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def associated_data(self) -> bytes:
        """What ties the ciphertext to its place."""
        return f"sealtrail/frame/v1\n{self.chain}\n{self.first_seq}\n{self.log_class}\n{self.tenant}".encode()


def encode_segment(segment: Segment) -> bytes:
    """The object's bytes."""
    record: dict[str, object] = {
        "version": VERSION,
        "chain": segment.chain,
        "first_seq": segment.first_seq,
        "frontier": list(segment.frontier),
        "seals": list(segment.seals),
        "signatures": [{"seq": seq, "key_id": s.key_id, "value": s.value} for seq, s in segment.signatures],
        "contents": [
            {"name": r.name, "version": r.version, "sha256": r.sha256, "size": r.size, "rows": r.rows} for r in segment.contents
        ],
        "checkpoint": segment.checkpoint,
        "statement": segment.statement,
    }
    return write_container([record], SEGMENT)


def decode_segment(data: bytes) -> Segment:
    """The segment of an object's bytes; its claims are not checked here.

    Raises:
        EvidenceError: not exactly one canonical Segment record of a known version, or one with a reference that cannot be.
    """
    if len(data) > MAX_SEGMENT_SIZE:
        raise EvidenceError(f"segment of {len(data)} bytes; at most {MAX_SEGMENT_SIZE}")
    records = read_container(data, SEGMENT)
    if len(records) != 1:
        raise EvidenceError(f"segment object with {len(records)} records; expected one")
    value = records[0]
    if len(value["seals"]) * SHORT_SEAL > len(data):
        raise EvidenceError(f"{len(value['seals'])} seals in {len(data)} bytes: they are none")
    if value["version"] != VERSION:
        raise EvidenceError(f"segment version {value['version']}; this verifier knows {VERSION}")
    references = [Reference(r["name"], r["version"], r["sha256"], r["size"], r["rows"]) for r in value["contents"]]
    check_references(references)
    return Segment(
        chain=value["chain"],
        first_seq=value["first_seq"],
        frontier=tuple(value["frontier"]),
        seals=tuple(value["seals"]),
        signatures=tuple((s["seq"], Signature(s["key_id"], s["value"])) for s in value["signatures"]),
        contents=tuple(references),
        checkpoint=value["checkpoint"],
        statement=value["statement"],
    )


def check_references(references: Iterable[Reference]) -> None:
    """Check that no other references have the same digest: a blank in a name would be one between fields.

    Raises:
        EvidenceError: a blank or a control character in a name or version, or a negative size or number of rows.
    """
    for number, r in enumerate(references):
        if _PARTING.search(r.name) or _PARTING.search(r.version):
            raise EvidenceError(f"reference {number}: a blank or control character in its name or version")
        if min(r.size, r.rows) < 0:
            raise EvidenceError(f"reference {number}: {r.size} bytes, {r.rows} rows")


def references_digest(references: Iterable[Reference]) -> bytes:
    """SHA-256 over one line a reference; one meaning alone for those that pass `check_references`."""
    digest = hashlib.sha256()
    for r in references:
        digest.update(f"{r.name} {r.version} {r.sha256.hex()} {r.size} {r.rows}\n".encode())
    return digest.digest()


def statement_text(chain: str, first_seq: int, count: int, previous: bytes, references: Iterable[Reference]) -> str:
    """The text that the archive's key signs for a segment."""
    return Statement(chain, first_seq, count, previous, references_digest(references)).text


def parse_statement(text: str) -> Statement:
    """The statement of a note's text; its signature is not looked at.

    Raises:
        EvidenceError: not exactly the lines of a statement, in their one form.
    """
    match = _STATEMENT.fullmatch(text)
    if match is None:
        raise EvidenceError("not a segment's statement")
    chain, first, count, previous, references = match.groups()
    if max(int(first), int(count)) > MAX_NUMBER:
        raise EvidenceError("a statement's number beyond 63 bits")
    return Statement(chain, int(first), int(count), bytes.fromhex(previous), bytes.fromhex(references))


def sign_statement(text: str, chain: str, public: bytes, sign: Sign) -> str:
    """The statement as a note of the archive's key, named after the chain."""
    return format_note(text, (note_signature(NoteKey(chain, ED25519, public), sign(text.encode())),))


def verify_statement(segment: Segment, previous: bytes, public: bytes) -> None:
    """Check that the archive's key bound this segment to `previous` (SHA-256) and to its references.

    Raises:
        EvidenceError: another text, or a wrong signature.
    """
    note = parse_note(segment.statement.encode())
    expected = statement_text(segment.chain, segment.first_seq, len(segment.seals), previous, segment.contents)
    if note.text != expected:
        raise EvidenceError("statement speaks of another segment, predecessor or references")
    verify_note(note, NoteKey(segment.chain, ED25519, public))


def seal_frame(
    rows: Sequence[tuple[int, Content]],
    *,
    chain: str,
    first_seq: int,
    log_class: str,
    tenant: str,
    public: bytes,
    random: Callable[[int], bytes],
) -> Frame:
    """Encrypt contents, by seq, for one tenant.

    Args:
        public: the tenant's X25519 data key, 32 bytes.
        random: cryptographic randomness, n -> n bytes; a fresh key and nonce a frame.
    """
    body = ROWS.encode_body([row_of(seq, content) for seq, content in rows])
    key, nonce = random(32), random(12)
    blank = Frame(chain, first_seq, log_class, tenant, hashlib.sha256(public).digest(), b"", nonce, b"")
    bound = blank.associated_data
    wrapped = HPKE.encrypt(key, X25519PublicKey.from_public_bytes(public), bound)
    ciphertext = AESGCM(key).encrypt(nonce, body, bound)
    return Frame(chain, first_seq, log_class, tenant, blank.key_id, wrapped, nonce, ciphertext)


def open_frame(frame: Frame, open_: Open) -> list[tuple[int, Content]]:
    """The contents of a frame, by seq.

    Raises:
        EvidenceError: wrong key, altered ciphertext, or bound to another place.
    """
    bound = frame.associated_data
    key = open_(frame.wrapped_key, bound)
    try:
        body = AESGCM(key).decrypt(frame.nonce, frame.ciphertext, bound)
    except (InvalidTag, ValueError) as error:
        raise EvidenceError("frame does not open: altered, or bound to another place") from error
    return [(row["seq"], content_of(row)) for row in ROWS.decode_body(body)]


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """A contents object's bytes."""
    return write_container(
        [
            {
                "version": VERSION,
                "chain": f.chain,
                "first_seq": f.first_seq,
                "log_class": f.log_class,
                "tenant": f.tenant,
                "key_id": f.key_id,
                "wrapped_key": f.wrapped_key,
                "nonce": f.nonce,
                "ciphertext": f.ciphertext,
            }
            for f in frames
        ],
        FRAME,
    )


def decode_frames(data: bytes) -> list[Frame]:
    """The frames of a contents object.

    Raises:
        EvidenceError: not a container of canonical Frame records of a known version.
    """
    frames = []
    for value in read_container(data, FRAME):
        if value["version"] != VERSION:
            raise EvidenceError(f"frame version {value['version']}; this verifier knows {VERSION}")
        names = ("chain", "first_seq", "log_class", "tenant", "key_id", "wrapped_key", "nonce", "ciphertext")
        frames.append(Frame(*(value[name] for name in names)))
    return frames
