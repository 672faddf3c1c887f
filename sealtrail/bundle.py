"""Bundles: one tenant's records of a time in clear, with all that a third party needs to check them, in one file.

    MANIFEST                                     what this is, signed by an auditor's key
    SHA256SUMS                                   of every member but these two, as sha256sum writes it
    chains/<chain>/segments/<first seq>.avro     of every chain of the deployment, as in the archive
    disclosure.txt                               the tenant's disclosure key of each chain
    filter.json                                  what was asked for
    glossary/…  keys/…  policies/…  schemas/…    as in the archive
    records/<chain>/<first seq>.avro             the records of a segment that match

A tar in its one form (`sealtrail.tar`). Here it is taken apart; whether it is true is `sealtrail.bundleverify`'s to say.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sealtrail.certificate import format_time, parse_time
from sealtrail.checkpoint import Sign
from sealtrail.disclosed import Filter, decode_filter, decode_keys
from sealtrail.errors import EvidenceError
from sealtrail.layout import KEYS
from sealtrail.note import ED25519, Note, NoteKey, format_note, note_signature, parse_note
from sealtrail.source import Lock, MissingObjectError, StoredObject
from sealtrail.tar import Member, ReadAt, members_of

MANIFEST, SUMS, FILTER, DISCLOSURE = "MANIFEST", "SHA256SUMS", "filter.json", "disclosure.txt"
MAX_TEXT = 1 << 25  # bytes of SHA256SUMS: of 200,000 members
MAX_KEYS = 1 << 22  # bytes of disclosure.txt: of 20,000 chains
MAX_FILTER = MAX_MANIFEST = 1 << 12
CHUNK = 1 << 20

_CONTEXT = "sealtrail/bundle/v1"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,248}"
_MANIFEST = re.compile(
    rf"{_CONTEXT}\n"
    rf"deployment ({_NAME}/{_NAME})\n"
    r"made ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\n"
    r"export ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\n"
    r"files (0|[1-9][0-9]{0,5})\n"
    r"sums ([0-9a-f]{64})\n"
)
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
_END = re.compile(rf"{KEYS}([0-9a-f]{{64}})-([0-9a-f]{{64}})\.end")
_END_MEMBER = re.compile(rf"{KEYS}([0-9a-f]{{64}})/([0-9a-f]{{64}})\.end")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the auditor signs.

    Attributes:
        deployment: authority/deployment.
        made_s: seconds since 1970, UTC, by the auditor's clock.
        export: id of the event that states the export, a UUID's text.
        files, sums: lines of SHA256SUMS, and its SHA-256.
    """

    deployment: str
    made_s: int
    export: str
    files: int
    sums: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        return (
            f"{_CONTEXT}\n"
            f"deployment {self.deployment}\n"
            f"made {format_time(self.made_s)}\n"
            f"export {self.export}\n"
            f"files {self.files}\n"
            f"sums {self.sums.hex()}\n"
        )


def sign_manifest(manifest: Manifest, name: str, public: bytes, sign: Sign) -> bytes:
    """MANIFEST, as a note of an auditor's key under its certificate's name."""
    return format_note(manifest.text, (note_signature(NoteKey(name, ED25519, public), sign(manifest.text.encode())),)).encode()


def parse_manifest(data: bytes) -> tuple[Manifest, Note]:
    """What a MANIFEST says, signature not yet checked.

    Raises:
        EvidenceError: not one in its one form.
    """
    note = parse_note(data)
    match = _MANIFEST.fullmatch(note.text)
    if match is None or format_note(note.text, note.signatures).encode() != data or len(note.signatures) != 1:
        raise EvidenceError("not the signed manifest of a bundle")
    deployment, made, export, files, sums = match.groups()
    return Manifest(deployment, parse_time(made), export, int(files), bytes.fromhex(sums)), note


def format_sums(sums: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS: a line a member, sorted."""
    return "".join(f"{digest.hex()}  {name}\n" for name, digest in sorted(sums.items())).encode()


def parse_sums(data: bytes) -> dict[str, bytes]:
    """Digests by name.

    Raises:
        EvidenceError: not in its one form.
    """
    matches = [_SUM.fullmatch(line) for line in data.decode("latin-1").split("\n")[:-1]]
    sums = {match[2]: bytes.fromhex(match[1]) for match in matches if match is not None}
    if format_sums(sums) != data:
        raise EvidenceError("SHA256SUMS is not in its one form")
    return sums


def member_name(key: str) -> str:
    """The member that holds an object of the archive: its key, but for the end of a key, whose key no tar's name can be."""
    return _END.sub(rf"{KEYS}\1/\2.end", key)


def is_bundle(head: bytes) -> bool:
    """Whether a file that begins so, with 512 bytes or more, is meant to be a bundle."""
    return head[:100].rstrip(b"\0") == MANIFEST.encode() and head[257:262] == b"ustar"


class BundleSource:
    """A `Source` over a bundle, by the archive's keys; its `members` by their names. It knows neither versions nor locks."""

    def __init__(self, read_at: ReadAt, members: tuple[Member, ...]) -> None:
        self.members = {m.name: m for m in members}
        self._objects = {_END_MEMBER.sub(rf"{KEYS}\1-\2.end", m.name): m for m in members}
        self._keys = sorted(self._objects)
        self._read_at = read_at

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin so, in order."""
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                return
            yield StoredObject(key, "", is_latest=True, is_marker=False, size=self._objects[key].size)

    def read(self, key: str, version: str) -> bytes:
        """An object's bytes. Raises MissingObjectError, or UndecidedError as the file does."""
        member = self._objects.get(key)
        if member is None:
            raise MissingObjectError(f"no member {key!r}")
        return self._read_at(member.offset, member.size)

    def digest(self, name: str) -> bytes:
        """A member's SHA-256, a piece at a time."""
        member, digest = self.members[name], hashlib.sha256()
        for offset in range(0, member.size, CHUNK):
            digest.update(self._read_at(member.offset + offset, min(CHUNK, member.size - offset)))
        return digest.digest()

    def lock(self, key: str, version: str) -> Lock | None:
        """None: a bundle does not know."""
        return None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle taken apart; nothing of it is checked yet but its form."""

    source: BundleSource
    manifest: Manifest
    note: Note
    sums: Mapping[str, bytes]
    filter: Filter
    keys: Mapping[str, bytes]

    def as_json(self) -> dict[str, object]:
        """For `--json`: by whose word it was made, and for what."""
        return {
            "deployment": self.manifest.deployment,
            "made": format_time(self.manifest.made_s),
            "export": self.manifest.export,
            "signed_by": self.note.signatures[0].name,
            "filter": self.filter.as_json(),
        }


def open_bundle(read_at: ReadAt, total: int) -> Bundle:
    """Take a file of `total` bytes apart: B1, as far as it is form.

    Raises:
        EvidenceError: it is not a bundle in its one form.
        UndecidedError: it could not be read.
    """
    source = BundleSource(read_at, members_of(read_at, total))
    limits = {MANIFEST: MAX_MANIFEST, SUMS: MAX_TEXT, FILTER: MAX_FILTER, DISCLOSURE: MAX_KEYS}
    for name, limit in limits.items():
        if name not in source.members or source.members[name].size > limit:
            raise EvidenceError(f"a bundle without {name}, or with one of an absurd size")
    manifest, note = parse_manifest(source.read(MANIFEST, ""))
    return Bundle(
        source,
        manifest,
        note,
        parse_sums(source.read(SUMS, "")),
        decode_filter(source.read(FILTER, "")),
        decode_keys(source.read(DISCLOSURE, "")),
    )
