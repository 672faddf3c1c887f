"""Making a bundle: read from the archive what a filter asks for, and write it with all that proves it, as one file.

    1  each chain of the deployment: the segments of the time with a neighbour on either side, and what matches of their
       contents, opened
    2  the documents that those records need, the certificates of all keys that sign, all ends of keys, and the glossary
    3  SHA256SUMS, the manifest over it, and the members in order of their names

Members come in another order than they are found, so they wait in a spool file; in memory are one object and the index.
Nothing is written of an archive that is damaged where the bundle looks. Who may ask, and the record of it, is
`auditor.commands.export`'s; whether the result verifies is `sealtrail.bundle`'s to say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

from sealtrail.bundle import CHUNK, DISCLOSURE, FILTER, MANIFEST, SUMS, Manifest, format_sums, member_name, sign_manifest
from sealtrail.certificate import Role
from sealtrail.checkpoint import Sign
from sealtrail.contents import Openers
from sealtrail.disclosed import Filter, encode_filter, encode_keys, encode_records, records_name
from sealtrail.documents import Documents, policy_pair_of
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.extent import Extent, part_with_neighbours
from sealtrail.layout import GLOSSARY, KEYS, policy_key, policy_pair_key, schema_key
from sealtrail.report import Report
from sealtrail.seal import Content, Kind, LogClass, decode_seal, scope_key
from sealtrail.segment import Frame, Reference, Segment, decode_frames, decode_segment, open_frame
from sealtrail.source import Source, StoredObject
from sealtrail.tar import TRAILER, header, padding
from sealtrail.verify import listed_chains

Records = list[tuple[int, Content]]
_ROLE = re.compile(rb"sealtrail/certificate/v1\nrole ([^\n]*)\n")
_SIGNING = frozenset(role.encode() for role in Role if role.algorithm == "Ed25519")


@dataclass(frozen=True, slots=True)
class Auditor:
    """Who makes a bundle: the name in the certificate, the key, and what it opens and discloses with."""

    name: str
    public: bytes
    sign: Sign
    openers: Openers
    disclosure: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What is in a bundle."""

    records: int
    segments: int
    chains: int


class Spool:
    """Members as they are found, kept in a file until their order is known.

    Args:
        file: empty, to write and read; nobody else's.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.digests: dict[str, bytes] = {}
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __contains__(self, name: str) -> bool:
        return name in self.digests

    def add(self, name: str, data: bytes) -> None:
        """One more member. Raises OSError."""
        self._file.seek(self._end)
        self._file.write(data)
        self.digests[name] = hashlib.sha256(data).digest()
        self._places[name] = self._end, len(data)
        self._end += len(data)

    def write_to(self, to: BinaryIO) -> None:
        """All members as a tar. Raises EvidenceError for a name or a size that it cannot carry; OSError."""
        for name in sorted(self._places):
            offset, size = self._places[name]
            to.write(header(name, size))
            self._file.seek(offset)
            to.writelines(self._file.read(min(CHUNK, size - start)) for start in range(0, size, CHUNK))
            to.write(padding(size))
        to.write(TRAILER)


def make_bundle(
    source: Source, deployment: str, wanted: Filter, auditor: Auditor, export: str, clock: Callable[[], float], spool: Spool
) -> Made:
    """Fill the spool.

    Args:
        deployment: authority/deployment.
        export: id of the event that states this export.
        clock: seconds since 1970; asked when all was read.

    Raises:
        ConfigError: there is no chain of the deployment, or the auditor cannot open the tenant's contents.
        EvidenceError: what is needed of the archive is not there, or not as it was sealed.
        UndecidedError: the store did not answer.
    """
    gathering = _Gathering(source, wanted, auditor.openers, spool)
    keys: dict[str, bytes] = {}
    segments = 0
    report = Report()
    chains = list(listed_chains(source, f"{deployment}/", report))
    if report.findings:  # it would not show in the bundle, which has no store's versions and markers
        first = report.findings[0]
        raise EvidenceError(f"{first.kind} in step {first.step}, {first.where}: {first.detail}")
    for chain, listed in chains:
        part = part_with_neighbours(source, listed, Extent(wanted.from_us, wanted.to_us))
        for stored, _ in part.segments:
            gathering.segment(stored)
        segments += len(part.segments)
        keys[chain] = scope_key(auditor.disclosure, wanted.tenant, chain)
    if not keys:
        raise ConfigError(f"the archive has no chain of {deployment}")
    gathering.documents()
    spool.add(FILTER, encode_filter(wanted))
    spool.add(DISCLOSURE, encode_keys(keys))
    sums = format_sums(spool.digests)
    manifest = Manifest(deployment, int(clock()), export, len(spool.digests), hashlib.sha256(sums).digest())
    spool.add(SUMS, sums)
    spool.add(MANIFEST, sign_manifest(manifest, auditor.name, auditor.public, auditor.sign))
    return Made(gathering.count, segments, len(keys))


class _Gathering:
    """What is put into a spool, and which documents it needs."""

    def __init__(self, source: Source, wanted: Filter, openers: Openers, spool: Spool) -> None:
        self.count = 0
        self._source = source
        self._wanted = wanted
        self._openers = openers
        self._spool = spool
        self._documents = Documents(source)
        self._schemas: set[bytes] = set()
        self._extensions: set[bytes] = set()
        self._policies: set[bytes] = set()

    def segment(self, stored: StoredObject) -> None:
        """A segment as it is, and the records of it that match."""
        data = self._source.read(stored.key, stored.version)
        self._spool.add(stored.key, data)
        segment = decode_segment(data)
        records = sorted(self._records(segment), key=lambda record: record[0])
        if records:
            self._spool.add(records_name(segment.chain, segment.first_seq), encode_records(records))
            self.count += len(records)

    def documents(self) -> None:
        """What the records need, and what every bundle has."""
        for digest in self._schemas:
            self._text(schema_key(digest), digest)
        for digest in self._extensions:
            if any(o.key == schema_key(digest) for o in self._source.list(schema_key(digest))):
                self._text(schema_key(digest), digest)
        for combined in self._policies:
            self._policy(combined)
        for prefix in (KEYS, GLOSSARY):
            for key, versions in groupby(self._source.list(prefix), key=lambda o: o.key):
                data = self._oldest(key, [stored for stored in versions if not stored.is_marker])
                if data is not None and _needed(data):
                    self._spool.add(member_name(key), data)

    def _records(self, segment: Segment) -> Iterator[tuple[int, Content]]:
        wanted = self._wanted
        if not any(wanted.covers(seal) for seal in map(decode_seal, segment.seals) if seal.kind is Kind.EVENT):
            return  # a neighbour of the time
        for reference in segment.contents:
            log_class = reference.name.split("/")[1]
            if log_class == LogClass.NONE.lower() or (wanted.classes is not None and log_class not in wanted.classes):
                continue
            for frame in self._frames(reference):
                if frame.tenant == wanted.tenant:
                    for seq, content in self._opened(frame):
                        if self._matches(segment, seq, content):
                            yield seq, content

    def _frames(self, reference: Reference) -> list[Frame]:
        data = self._source.read(reference.name, reference.version)
        if hashlib.sha256(data).digest() != reference.sha256:
            raise EvidenceError(f"{reference.name} version {reference.version}: not the bytes that its segment names")
        return decode_frames(data)

    def _opened(self, frame: Frame) -> Records:
        opener = self._openers.get(frame.key_id)
        if opener is None:
            raise ConfigError(f"option --tenant: this reader has no data key {frame.key_id.hex()[:16]}… of {frame.tenant!r}")
        return open_frame(frame, opener)

    def _matches(self, segment: Segment, seq: int, content: Content) -> bool:
        """Whether a record belongs into the bundle; if so, notes what it needs."""
        if not segment.first_seq <= seq < segment.next_seq:
            raise EvidenceError(f"{segment.chain}: a content without a seal in its segment, seq {seq}")
        seal = decode_seal(segment.seals[seq - segment.first_seq])
        if content.digest() != seal.content_digest:
            raise EvidenceError(f"{segment.chain} seq {seq}: the content is not what its seal states")
        event = self._documents.codec(content.content_schema).decode(content.content)
        if self._wanted.mismatch(seal, event):
            return False
        self._schemas.add(content.content_schema)
        self._policies.add(content.policy)
        extension = event.get("extension")
        if isinstance(extension, dict) and isinstance(extension.get("schema"), bytes):
            self._extensions.add(extension["schema"])
        return True

    def _oldest(self, key: str, versions: list[StoredObject]) -> bytes | None:
        """What was first put under a name; if that is a digest, what first fits it: so no end of a key is put out of sight."""
        found = [self._source.read(stored.key, stored.version) for stored in reversed(versions)]
        fits = [data for data in found if hashlib.sha256(data).hexdigest() in key]
        return next(iter(fits or found), None)

    def _policy(self, combined: bytes) -> None:
        key = policy_pair_key(combined)
        for data in self._versions(key):
            named = policy_pair_of(data, combined)
            if named is not None:
                self._spool.add(key, data)
                for digest in named:
                    self._text(policy_key(digest), digest)
                return
        raise EvidenceError(f"{key}: not in the archive")

    def _text(self, key: str, digest: bytes) -> None:
        if key in self._spool:
            return
        for data in self._versions(key):
            if hashlib.sha256(data).digest() == digest:
                self._spool.add(key, data)
                return
        raise EvidenceError(f"{key}: not in the archive")

    def _versions(self, key: str) -> Iterator[bytes]:
        for stored in self._source.list(key):
            if stored.key == key and not stored.is_marker:
                yield self._source.read(key, stored.version)


def _needed(data: bytes) -> bool:
    """Whether a document of keys/ or glossary/ leaves: not the certificate of a key that opens, which may name another tenant.

    What is no certificate leaves, so that damage is found when the bundle is verified.
    """
    match = _ROLE.match(data)
    return match is None or match[1] in _SIGNING
