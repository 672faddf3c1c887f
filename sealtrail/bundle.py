"""Bundles: one tenant's records of a time in clear, with all that a third party needs to check them, in one file.

    MANIFEST                                     what this is, signed by an auditor's key
    SHA256SUMS                                   of every member but these two, as sha256sum writes it
    chains/<chain>/segments/<first seq>.avro     of every chain of the deployment, as in the archive
    disclosure.txt                               the tenant's disclosure key of each chain
    filter.json                                  what was asked for
    glossary/…  keys/…  policies/…  schemas/…    as in the archive
    records/<chain>/<first seq>.avro             the records of a segment that match

Verifying takes these steps; the numbers alone are those of `sealtrail.verify`:

B1. The file is a tar in its one form (`sealtrail.tar`); SHA256SUMS lists every other member, each has its digest, and documents
    have those in their names; a certified auditor's key, that speaks for the deployment, signed MANIFEST in its time.
B2. Steps 1 to 10, over the segments: of each chain a part, that begins where the bundle's first segment of it does.
B3. Each record is the content of its seal, and of the tenant, time, classes, correlation and actor of the filter; its event id
    outside and inside are one; the texts of schema and policy are there.
B4. Each seal that is the tenant's by its scope, of the time and the classes, has its record, unless correlation or actor
    left it out; each record's seal is the tenant's by its scope (`sealtrail.disclosed`).

A bundle that cannot be taken apart is refused; whatever else is wrong is a finding. What a bundle cannot show is said.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sealtrail.certificate import Certificate, Role
from sealtrail.certified import endless
from sealtrail.checkpoint import Sign
from sealtrail.contents import ContentsOf, Find, Say
from sealtrail.disclosed import Filter, RecordsCheck, Shown, decode_filter, decode_keys, records_name, time_text
from sealtrail.documents import Documents
from sealtrail.emitters import Emitters
from sealtrail.errors import EvidenceError
from sealtrail.extent import Listed, Part
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, GLOSSARY, KEYS, POLICIES, SCHEMAS, parse_segment_key, segments_prefix
from sealtrail.note import ED25519, Note, NoteKey, format_note, note_signature, parse_note, verify_note
from sealtrail.report import Finding, FindingKind, Report
from sealtrail.source import Lock, MissingObjectError, StoredObject
from sealtrail.sworn import genuine_checkpoint
from sealtrail.tar import Member, ReadAt, members_of
from sealtrail.verify import Plan, Trust, plan, verify_chain

MANIFEST, SUMS, FILTER, DISCLOSURE = "MANIFEST", "SHA256SUMS", "filter.json", "disclosure.txt"
RECORDS = "records/"
MAX_TEXT = 1 << 26  # bytes of SHA256SUMS, filter and disclosure keys: 200,000 members' sums take half of it
CHUNK = 1 << 20
SKEW_S = 60  # auditor and archive may differ by so much

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
_KNOWN = re.compile(
    rf"{CHAINS}.*|{RECORDS}.*|{KEYS}.*|{GLOSSARY}[0-9a-f]{{64}}\.md|{SCHEMAS}[0-9a-f]{{64}}\.avsc"
    rf"|{POLICIES}[0-9a-f]{{64}}\.(?:toml|txt)|{re.escape(FILTER)}|{re.escape(DISCLOSURE)}"
)
_END = re.compile(rf"{KEYS}([0-9a-f]{{64}})-([0-9a-f]{{64}})\.end")
_END_MEMBER = re.compile(rf"{KEYS}([0-9a-f]{{64}})/([0-9a-f]{{64}})\.end")
_BY_DIGEST = re.compile(r".*/([0-9a-f]{64})\.(?:avsc|toml|md)")  # a name that its own bytes give


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
            f"made {time_text(self.made_s * 1_000_000)}\n"
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
    try:
        made_s = int(datetime.strptime(made, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise EvidenceError("the manifest of a bundle with a time that there is not") from error
    return Manifest(deployment, made_s, export, int(files), bytes.fromhex(sums)), note


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
            "made": time_text(self.manifest.made_s * 1_000_000),
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
    for name in (MANIFEST, SUMS, FILTER, DISCLOSURE):
        if name not in source.members or source.members[name].size > MAX_TEXT:
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


def verify_bundle(bundle: Bundle, trust: Trust) -> Report:
    """Check a bundle by the steps above; verdicts are of the records that it gives.

    Args:
        trust: the root's key, and checkpoints if any were kept; nothing has to be opened.

    Raises:
        UndecidedError: the file could not be read to its end.
    """
    made = plan(bundle.source, trust, f"{bundle.manifest.deployment}/")
    made = replace(made, parts={chain: _partial(part.segments) for chain, part in made.parts.items()})
    report = made.report
    report.findings[:0] = [*_sums(bundle), *_strangers(bundle, made), *_signature(bundle, made.keyring)]
    documents = Documents(bundle.source)
    checks: dict[str, RecordsCheck] = {}
    for chain in made.parts:
        result = verify_chain(bundle.source, made, chain, _records(bundle, documents, chain, checks))
        report.chains.append(result.report)
        report.findings += [*result.findings, *checks[chain].findings()]
        report.caveats += result.caveats
    report.findings += [*_made_before(bundle, report, made.keyring), *_absent_keys(bundle, made), *_absent_chains(bundle, made)]
    report.caveats += endless(made.keyring)
    report.caveats += _caveats(bundle, trust, {chain: check.shown for chain, check in checks.items()})
    return report


def _partial(segments: tuple[Listed, ...]) -> Part:
    """A bundle's part of a chain; more may follow in the archive."""
    return Part(segments, from_start=parse_segment_key(segments[0][0].key)[1] == 0, reaches_end=False)


def _records(bundle: Bundle, documents: Documents, chain: str, checks: dict[str, RecordsCheck]) -> ContentsOf:
    """What checks a chain's records; kept in `checks`, which is asked when all segments were seen."""

    def made(_: Emitters, find: Find, say: Say) -> RecordsCheck:
        key = bundle.keys.get(chain)
        checks[chain] = RecordsCheck(chain, bundle.source, documents, bundle.filter, key, find, say)
        return checks[chain]

    return made


def _sums(bundle: Bundle) -> Iterator[Finding]:
    """B1: digests."""
    manifest, source, sums = bundle.manifest, bundle.source, bundle.sums
    if source.digest(SUMS) != manifest.sums or len(sums) != manifest.files:
        yield _finding(FindingKind.ALTERED, SUMS, "not the digests that the auditor signed")
    for name in source.members:
        if name in (MANIFEST, SUMS):
            continue
        digest = source.digest(name)
        named = _BY_DIGEST.fullmatch(name)
        if name not in sums:
            yield _finding(FindingKind.INSERTED, name, "a member that SHA256SUMS does not list")
        elif sums[name] != digest:
            yield _finding(FindingKind.ALTERED, name, "a member with other bytes than SHA256SUMS says")
        elif named is not None and named[1] != digest.hex() and not name.startswith(KEYS):
            yield _finding(FindingKind.ALTERED, name, "a document that is not the one that its name says")
    for name in sorted(sums.keys() - source.members.keys() | sums.keys() & {MANIFEST, SUMS}):
        yield _finding(FindingKind.MISSING, name, "SHA256SUMS lists a member that is not there, or must not be listed")


def _strangers(bundle: Bundle, made: Plan) -> Iterator[Finding]:
    """B1: what a bundle has no place for."""
    chains = f"{CHAINS}{bundle.manifest.deployment}/"
    segments = {records_name(*parse_segment_key(o.key)) for part in made.parts.values() for o, _ in part.segments}
    for name in bundle.source.members:
        if name not in bundle.sums:
            continue  # said already, or one of the two that are not listed
        if not _KNOWN.fullmatch(name) or (name.startswith(CHAINS) and not name.startswith(chains)):
            yield _finding(FindingKind.INSERTED, name, "a bundle has no such member")
        elif name.startswith(RECORDS) and name not in segments:
            yield _finding(FindingKind.INSERTED, name, "records without their segment")
    for chain in sorted(bundle.keys.keys() - made.parts.keys()):
        yield _finding(FindingKind.INSERTED, DISCLOSURE, f"a key of {chain}, of which there is no segment")


def _signature(bundle: Bundle, keyring: Keyring) -> Iterator[Finding]:
    """B1: who signed the manifest."""
    kind, problem = FindingKind.UNKNOWN_KEY, "signed by no certified auditor"
    (signature,) = bundle.note.signatures
    for certificate in keyring.of_role(Role.AUDITOR):
        key = NoteKey(certificate.name, ED25519, certificate.public)
        if (key.name, key.key_id) != (signature.name, signature.key_id):
            continue
        kind, problem = FindingKind.BAD_SIGNATURE, _signature_problem(bundle, key, certificate)
        if not problem:
            return
    yield _finding(kind, MANIFEST, problem)


def _signature_problem(bundle: Bundle, key: NoteKey, certificate: Certificate) -> str:
    try:
        verify_note(bundle.note, key)
    except EvidenceError as error:
        return str(error)
    if not certificate.speaks_for(f"{bundle.manifest.deployment}/"):
        return "signed by a key that does not speak for this deployment"
    return "" if certificate.covers(bundle.manifest.made_s) else "made outside its key's time"


def _made_before(bundle: Bundle, report: Report, keyring: Keyring) -> Iterator[Finding]:
    """B1: a manifest does not speak of what was sworn after it; so an expired key cannot speak of what is newer."""
    for chain in report.chains:
        if chain.checkpoint:
            signed, _ = genuine_checkpoint(chain.checkpoint.encode(), keyring)
            if signed.time_s > bundle.manifest.made_s + SKEW_S:
                yield _finding(FindingKind.ALTERED, MANIFEST, f"made before the archive swore to {chain.chain} as it is here")
                return


def _absent_keys(bundle: Bundle, made: Plan) -> Iterator[Finding]:
    """B4: without a disclosure key it is not shown that no record of a chain is missing."""
    for chain in sorted(made.parts.keys() - bundle.keys.keys()):
        yield Finding(FindingKind.MISSING, "B4", chain, None, 1, DISCLOSURE, "no disclosure key of this chain")


def _absent_chains(bundle: Bundle, made: Plan) -> Iterator[Finding]:
    """B4: chains of which the end of a key speaks, or a checkpoint that somebody kept from before the bundle was made."""
    for chain in sorted(made.keyring.kept_chains - made.parts.keys() - made.trust.checkpoints.keys()):
        if chain.startswith(made.prefix):
            detail = "the end of a key speaks of it, and the bundle holds nothing of it"
            yield Finding(FindingKind.MISSING, "B4", chain, 0, 1, segments_prefix(chain), detail)
    for chain, kept in sorted(made.trust.checkpoints.items()):
        if chain in made.parts or not chain.startswith(made.prefix):
            continue
        try:
            signed, _ = genuine_checkpoint(kept, made.keyring)
        except EvidenceError:
            detail = "the checkpoint given for this chain is signed by no certified key of the archive"
            yield Finding(FindingKind.UNKNOWN_KEY, "B4", chain, 0, 1, "checkpoint", detail)
            continue
        if signed.time_s <= bundle.manifest.made_s:
            detail = "a trusted checkpoint speaks of it, and the bundle holds nothing of it"
            yield Finding(FindingKind.MISSING, "B4", chain, 0, signed.checkpoint.size, segments_prefix(chain), detail)


def _caveats(bundle: Bundle, trust: Trust, shown: Mapping[str, Shown]) -> Iterator[str]:
    """What the bundle does not show."""
    wanted = bundle.filter
    for chain, found in shown.items():
        if wanted.to_us is None or found.last is None or found.last.sealed_at_us < wanted.to_us:
            last = "nothing" if found.last is None else f"seq {found.last.seq}, sealed at {time_text(found.last.sealed_at_us)}"
            made = time_text(bundle.manifest.made_s * 1_000_000)
            yield f"{chain}: covered up to {last}, in a bundle made at {made}: what was sealed in between was not given"
    unproven = [chain for chain, found in shown.items() if chain in bundle.keys and not found.in_scope]
    if unproven:
        yield (
            f"in {len(unproven)} chains no record shows that the disclosure key is right, {unproven[0]} first: "
            "with a wrong one, all of the tenant's records could have been withheld there"
        )
    unmatched = sum(found.unmatched for found in shown.values())
    if wanted.narrow:
        yield (
            f"{unmatched} records of the tenant, of this time and these classes, are not in the bundle: that they do not match "
            "correlation or actor is the auditor's word"
        )
    others = sum(found.others for found in shown.values())
    yield f"{others} seals were checked without their contents, which are not the tenant's, not asked for, or no events"
    yield "what refused or repeated records said, whosoever they were, is not in a bundle: their seals are the deployment's"
    yield (
        "whoever made the bundle may have left out whole chains, or what ends a key"
        + ("" if trust.checkpoints else "; checkpoints kept from earlier would show chains")
    )
    yield "that a seal's scope is that of its own tenant is the sealer's word"
    yield "sources' numbers were not followed, and locks not looked at: a bundle carries neither"


def _finding(kind: FindingKind, where: str, detail: str) -> Finding:
    return Finding(kind, "B1", "", None, 1, where, detail)
