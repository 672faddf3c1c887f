"""Legal holds: what a matter's copies are, and the manifest that the auditor's key signs for them.

    holds/<matter>/frames/<SHA-256>.avro       one frame, its fields unchanged, alone in a container; under legal hold
    holds/<matter>/items/<SHA-256>.txt         a line a frame: digest, the copy's version, where it was copied from
    holds/<matter>/manifest/<SHA-256>.txt      the signed note:

    sealtrail/hold/v1
    matter acme-2026-17
    tenant acme
    classes admin,compliance                   or `all`
    from 1790000000000000                      sealed at or after, microseconds since 1970; `-` for no bound
    to -                                       sealed before
    at 1795000000000000                        when it was made
    items 2 90aa…                              how many, and SHA-256 of the items object

    — audit.example …

Names are digests, so a copy is written once and a second run finds it. A copy is evidence by itself: what a frame holds is
checked against seals, wherever it lies. Pure: nothing here reads or writes a store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sealtrail.certificate import Role
from sealtrail.checkpoint import Sign
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.note import ED25519, NoteKey, format_note, note_signature, parse_note, verify_note
from sealtrail.segment import Frame, encode_frames

HOLDS = "holds/"

_CONTEXT = "sealtrail/hold/v1"
_MATTER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NUMBER = r"0|[1-9][0-9]{0,18}"
_BOUND = rf"-|{_NUMBER}"
_MANIFEST = re.compile(
    rf"{_CONTEXT}\n"
    r"matter ([a-z0-9][a-z0-9._-]{0,62})\n"
    r"tenant ([^\s]{1,63})\n"
    r"classes ([a-z]+(?:,[a-z]+)*)\n"
    rf"from ({_BOUND})\n"
    rf"to ({_BOUND})\n"
    rf"at ({_NUMBER})\n"
    rf"items ({_NUMBER}) ([0-9a-f]{{64}})\n"
)
_ITEM = re.compile(rf"([0-9a-f]{{64}}) (\S+) (\S+) (\S+) ({_NUMBER})")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a hold covers: one tenant's contents of some classes (none named: all), sealed in [from, to) in microseconds.

    Whole frames are held, so what was sealed in the same segment just outside the time is as well.
    """

    tenant: str
    classes: tuple[str, ...] = ()
    from_us: int | None = None
    to_us: int | None = None

    def covers(self, frame: Frame, first_us: int, last_us: int) -> bool:
        """Whether a frame of a segment, whose seals are from first to last time, is in scope."""
        return (
            frame.tenant == self.tenant
            and frame.log_class != "none"
            and (not self.classes or frame.log_class in self.classes)
            and (self.from_us is None or last_us >= self.from_us)
            and (self.to_us is None or first_us < self.to_us)
        )


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """A held frame: SHA-256 of its copy, the copy's version, and what it was copied from, `index` among its frames."""

    digest: bytes
    version: str
    source: str
    source_version: str
    index: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the auditor's key signs of a matter."""

    matter: str
    scope: Scope
    at_us: int
    count: int
    items: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        scope = self.scope
        return (
            f"{_CONTEXT}\n"
            f"matter {self.matter}\n"
            f"tenant {scope.tenant}\n"
            f"classes {','.join(scope.classes) or 'all'}\n"
            f"from {'-' if scope.from_us is None else scope.from_us}\n"
            f"to {'-' if scope.to_us is None else scope.to_us}\n"
            f"at {self.at_us}\n"
            f"items {self.count} {self.items.hex()}\n"
        )


def is_matter(name: str) -> bool:
    """Whether a name can be a matter's: lower case letters, digits and ._-, at most 63."""
    return _MATTER.fullmatch(name) is not None


def frame_copy(frame: Frame) -> tuple[bytes, bytes]:
    """The bytes of a frame's copy, and their SHA-256."""
    data = encode_frames([frame])
    return data, hashlib.sha256(data).digest()


def frame_key(matter: str, digest: bytes) -> str:
    """Where a frame's copy lies."""
    return f"{HOLDS}{matter}/frames/{digest.hex()}.avro"


def items_key(matter: str, digest: bytes) -> str:
    """Where the list of items lies."""
    return f"{HOLDS}{matter}/items/{digest.hex()}.txt"


def manifest_key(matter: str, digest: bytes) -> str:
    """Where a manifest lies."""
    return f"{HOLDS}{matter}/manifest/{digest.hex()}.txt"


def encode_items(items: Iterable[Item]) -> bytes:
    """The items object: a line each, sorted."""
    lines = (f"{i.digest.hex()} {i.version} {i.source} {i.source_version} {i.index}\n" for i in sorted(items))
    return "".join(lines).encode()


def decode_items(data: bytes) -> tuple[Item, ...]:
    """The items of an items object. Raises EvidenceError."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise EvidenceError("items of a hold: not ASCII") from error
    items = []
    for line in lines:
        match = _ITEM.fullmatch(line)
        if match is None:
            raise EvidenceError("items of a hold: a malformed line")
        digest, version, source, source_version, index = match.groups()
        items.append(Item(bytes.fromhex(digest), version, source, source_version, int(index)))
    if encode_items(items) != data:
        raise EvidenceError("items of a hold: not in their one form")
    return tuple(items)


def sign_manifest(manifest: Manifest, authority: str, public: bytes, sign: Sign) -> bytes:
    """The manifest as a note of the auditor's key, named after the authority."""
    key = NoteKey(authority, ED25519, public)
    return format_note(manifest.text, (note_signature(key, sign(manifest.text.encode())),)).encode()


def verify_manifest(data: bytes, keyring: Keyring) -> Manifest:
    """The manifest of a note, signed by a certified auditor at a time that its certificate covers.

    Raises:
        EvidenceError: malformed, or of no such key.
    """
    note = parse_note(data)
    manifest = _parse(note.text)
    names = {signature.name for signature in note.signatures}
    certificates = [c for c in keyring.of_role(Role.AUDITOR) if c.name in names]
    problem = EvidenceError("manifest of a hold: signed by no certified auditor")
    for certificate in certificates:
        try:
            verify_note(note, NoteKey(certificate.name, ED25519, certificate.public))
        except EvidenceError as error:
            problem = error
            continue
        if not certificate.covers(manifest.at_us / 1e6):
            raise EvidenceError("manifest of a hold: made outside its key's time")
        return manifest
    raise problem


def _parse(text: str) -> Manifest:
    match = _MANIFEST.fullmatch(text)
    if match is None:
        raise EvidenceError("not the manifest of a hold")
    matter, tenant, classes, from_us, to_us, at_us, count, items = match.groups()
    names = () if classes == "all" else tuple(classes.split(","))
    scope = Scope(tenant, names, None if from_us == "-" else int(from_us), None if to_us == "-" else int(to_us))
    return Manifest(matter, scope, int(at_us), int(count), bytes.fromhex(items))
