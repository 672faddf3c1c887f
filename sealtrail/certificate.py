"""Certificates: the root key says which public key plays which role, and from when to when.

    sealtrail/certificate/v1
    role sealer
    name audit.example/eu-1
    algorithm Ed25519
    public 2rHBm5bQ…=
    key-id 7c1e…
    not-before 2026-11-23T00:00:00Z
    not-after 2027-11-23T00:00:00Z

    — audit.example/root aIbJDFl/…

A C2SP signed note of the root key, lines exactly in this order; `key-id` is SHA-256 of the 32
public bytes. A key serves one role. A verifier needs the root's vkey and nothing else.

What a name means depends on the role. Source: the source. Tenant keys: the tenant. All others: the
part of the trail that the key speaks for, an authority or authority/deployment. It counts only for
chains whose names begin with it, so that one deployment's keys cannot forge another's chain.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sealtrail.checkpoint import Sign
from sealtrail.errors import EvidenceError
from sealtrail.note import NoteKey, _base64, format_note, note_signature, parse_note, verify_note

CONTEXT = "sealtrail/certificate/v1"
_NAME = re.compile(r"[!-*,-~]{1,200}")  # printable ASCII, no space, no plus
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Role(StrEnum):
    """What a key is for; never two roles for one key."""

    SOURCE = "source"
    SEALER = "sealer"
    ARCHIVE = "archive"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    PIPELINE = "pipeline"
    QUARANTINE = "quarantine"
    TENANT_DATA = "tenant-data"
    TENANT_SUBJECT = "tenant-subject"

    @property
    def algorithm(self) -> str:
        """Ed25519 for what signs, X25519 for what opens."""
        return "Ed25519" if self in _SIGNING else "X25519"


_SIGNING = frozenset({Role.SOURCE, Role.SEALER, Role.ARCHIVE, Role.AUDITOR, Role.OPERATOR})


class UnknownRoleError(EvidenceError):
    """A certificate that the root signed, for a role that this version does not know."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the root certifies. Times are whole seconds since 1970 UTC, inclusive."""

    role: Role
    name: str
    public: bytes
    not_before_s: int
    not_after_s: int

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the public key, 32 bytes."""
        return hashlib.sha256(self.public).digest()

    @property
    def text(self) -> str:
        """The text that the root signs."""
        return (
            f"{CONTEXT}\n"
            f"role {self.role}\n"
            f"name {self.name}\n"
            f"algorithm {self.role.algorithm}\n"
            f"public {base64.b64encode(self.public).decode()}\n"
            f"key-id {self.key_id.hex()}\n"
            f"not-before {format_time(self.not_before_s)}\n"
            f"not-after {format_time(self.not_after_s)}\n"
        )

    def speaks_for(self, part: str) -> bool:
        """Whether a chain, or a part of the trail written with a final slash, is within this key's name."""
        return part.startswith(f"{self.name}/")

    def covers(self, time_s: float) -> bool:
        """Whether the key was valid at that time."""
        return self.not_before_s <= time_s <= self.not_after_s


def issue(certificate: Certificate, root: NoteKey, sign: Sign) -> str:
    """The certificate as a note signed by the root.

    Raises:
        ValueError: a name that the format cannot carry, or a public key that is not 32 bytes.
    """
    if not _NAME.fullmatch(certificate.name) or len(certificate.public) != 32:
        raise ValueError("certificate with an unusable name or key")
    text = certificate.text
    return format_note(text, (note_signature(root, sign(text.encode())),))


def verify_certificate(data: bytes, root: NoteKey) -> Certificate:
    """The certificate of a note, root's signature checked.

    Raises:
        EvidenceError: malformed, inconsistent, or not signed by this root.
    """
    note = parse_note(data)
    verify_note(note, root)
    if len(note.signatures) != 1:
        raise EvidenceError(f"certificate with {len(note.signatures)} signatures; expected the root's")
    fields = _fields(note.text)
    try:
        role = Role(fields["role"])
    except ValueError as error:
        raise UnknownRoleError("certificate of a role that this version does not know") from error
    certificate = Certificate(
        role=role,
        name=fields["name"],
        public=_base64(fields["public"], "certificate's public key"),
        not_before_s=parse_time(fields["not-before"]),
        not_after_s=parse_time(fields["not-after"]),
    )
    if len(certificate.public) != 32 or not _NAME.fullmatch(certificate.name) or certificate.text != note.text:
        raise EvidenceError("certificate's fields do not agree with each other")
    return certificate


def _fields(text: str) -> dict[str, str]:
    lines = text.split("\n")
    names = ("role", "name", "algorithm", "public", "key-id", "not-before", "not-after")
    if len(lines) != 9 or lines[0] != CONTEXT or lines[8]:
        raise EvidenceError("not a certificate")
    fields = {}
    for line, name in zip(lines[1:8], names, strict=True):
        key, space, value = line.partition(" ")
        if key != name or not space:
            raise EvidenceError(f"certificate without {name} where it belongs")
        fields[name] = value
    return fields


def format_time(time_s: int) -> str:
    """Whole seconds since 1970 as RFC 3339 UTC."""
    return datetime.fromtimestamp(time_s, UTC).replace(tzinfo=None).isoformat() + "Z"  # strftime does not pad years


def parse_time(text: str) -> int:
    """Seconds since 1970 of what `format_time` gives. Raises EvidenceError."""
    try:
        return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise EvidenceError("time is not RFC 3339 in whole seconds UTC") from error
