"""Verification of an archive: what it holds, against what it swears.

Arguments are a `Source` to read, the root's public key, what opens tenants' contents, and, if the
caller kept any, earlier checkpoints. I/O is the source's; nothing imported here writes. Steps:

1.  Every certificate in the archive is signed by the root, every end of a key by its certified successor.
2.  No segment hides under a delete marker or a second version.
    For each chain, segment by segment:
3.  The object is one canonical segment, of the chain and first seq that its name says.
4.  It begins where the one before ended.
5.  Its statement, signed by the archive's key, binds the segment before it and its references.
6.  Its seals are canonical, numbered without holes, each naming the leaf hash of the one before.
7.  Every seal that says `signed` has a valid signature of a certified sealer key; none is unattested.
8.  The seals account for every raw offset exactly once.
9.  Their times never decrease, and are not later than the checkpoint's.
10. The Merkle tree over them has the root that the checkpoint, signed and cosigned, states.
11. Every content that the segment refers to is there, unaltered, and matches its seal's digest; so is every document.
12. Objects are locked at least until their seals' `retain_until`.
    For each chain as a whole:
13. Emitters' numbers have no holes and no reuse; every run was opened by its source's key, in one chain.
14. A trusted earlier checkpoint, and every tree that the end of a key states, is this tree as it was.

What was not given cannot be ruled out, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from sealtrail.certified import endless, keyring_of
from sealtrail.chainverify import ChainVerification
from sealtrail.contents import ContentsOf, Openers, archived_contents
from sealtrail.documents import Documents, altered
from sealtrail.emitters import RunKey
from sealtrail.errors import EvidenceError
from sealtrail.extent import Extent, Listed, Part, part_of
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, CONTENTS, parse_segment_key, segment_of_contents, segments_prefix
from sealtrail.note import NoteKey
from sealtrail.report import ChainReport, Finding, FindingKind, Report
from sealtrail.source import Source, StoredObject

WHOLE = Extent()
MANY = 8  # segments that are named one by one
MAX_PARTITIONS = 65_536  # that are looked for by name
Progress = Callable[[int, int], None]
"""Called with how many segments, and seals, were verified since it was called before."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier holds by itself, from outside the archive.

    Args:
        root: the root's public key.
        openers: HPKE openers by key id, for the tenants' contents that were released.
        checkpoints: by chain, a checkpoint that was kept from earlier: a signed note's bytes.
    """

    root: NoteKey
    openers: Openers = field(default_factory=dict)
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be verified, from the listing alone: steps 1 and 2, and the part of each chain."""

    trust: Trust
    prefix: str
    extent: Extent
    keyring: Keyring
    parts: Mapping[str, Part]
    report: Report  # of steps 1 and 2

    @property
    def segments(self) -> int:
        """How many there are to verify."""
        return sum(len(part.segments) for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class ChainResult:
    """What came of one chain.

    Args:
        runs: whose records were read, with the seq of the first one.
        partitions: how many chains its topic has, if its GENESIS was read.
    """

    report: ChainReport
    findings: tuple[Finding, ...]
    caveats: tuple[str, ...]
    named: frozenset[str]
    runs: Mapping[RunKey, int]
    partitions: int | None


def verify_archive(
    source: Source, trust: Trust, *, prefix: str = "", extent: Extent = WHOLE, progress: Progress | None = None
) -> Report:
    """Verify the chains whose names begin with `prefix`, or a part of each.

    Raises:
        UndecidedError: the store did not answer a listing, or give a certificate that it lists, so that nothing
            can be said of the whole.
    """
    return carry_out(source, plan(source, trust, prefix, extent), progress)


def carry_out(source: Source, made: Plan, progress: Progress | None = None) -> Report:
    """Verify what a plan says, one chain after the other. Raises UndecidedError, see `verify_archive`."""
    contents = archived_contents(source, Documents(source), made.trust.openers)
    return conclude(source, made, (verify_chain(source, made, chain, contents, progress) for chain in made.parts))


def plan(source: Source, trust: Trust, prefix: str = "", extent: Extent = WHOLE) -> Plan:
    """Steps 1 and 2. Raises UndecidedError, see `verify_archive`."""
    report = Report()
    keyring = keyring_of(source, trust.root, report)
    parts = {
        chain: part_of(source, segments, extent, trust.checkpoints.get(chain))
        for chain, segments in listed_chains(source, prefix, report)
    }
    return Plan(trust, prefix, extent, keyring, parts, report)


def verify_chain(source: Source, made: Plan, chain: str, contents: ContentsOf, progress: Progress | None = None) -> ChainResult:
    """Steps 3 to 14 of one chain; `contents` does steps 11 and 12."""
    part, trust = made.parts[chain], made.trust
    checking = ChainVerification(chain, source, made.keyring, contents, trust.checkpoints.get(chain))
    if not part.from_start and part.segments:
        checking.begin_at(parse_segment_key(part.segments[0][0].key)[1])
    for stored, following in part.segments:
        before = checking.report.seals
        checking.segment(stored, following)
        if progress is not None:
            progress(1, checking.report.seals - before)
    checking.finish(reached_end=part.reaches_end)
    return ChainResult(
        checking.report,
        tuple(checking.findings),
        tuple(checking.caveats),
        frozenset(checking.named),
        checking.runs,
        checking.partitions,
    )


def conclude(source: Source, made: Plan, results: Iterable[ChainResult]) -> Report:
    """The report of a plan and of all its chains' results, in the plan's order."""
    report = made.report
    named: set[str] = set()
    homes: dict[RunKey, str] = {}
    partitions: dict[str, int] = {}
    for result in results:
        named |= result.named
        report.chains.append(result.report)
        report.findings += result.findings
        report.caveats += result.caveats
        _homes(result, homes, report)
        if result.partitions is not None:
            partitions[result.report.chain.rpartition("/")[0]] = result.partitions
    prefix, seen = made.prefix, set(made.parts)
    for chain in sorted({*made.trust.checkpoints, *made.keyring.kept_chains} - seen):
        if chain.startswith(prefix):
            detail = "a trusted checkpoint or the end of a key speaks of it, but the archive holds no segment of it"
            report.findings.append(Finding(FindingKind.TRUNCATED, 14, chain, 0, 1, segments_prefix(chain), detail))
    if made.extent.whole:
        for key in altered(source, report.caveats.append):  # Step 11
            detail = "not the text that the digest in its name stands for"
            report.findings.append(Finding(FindingKind.ALTERED, 11, "", None, 1, key, detail))
        orphans = [o.key for o in source.list(CONTENTS) if not o.is_marker and f"/{prefix}" in o.key and o.key not in named]
        report.orphans = len(orphans)
        report.findings = list(_of_how_many(report.findings, orphans))
    _absent_chains(partitions, seen, prefix, report)
    _caveats(report, made, seen)
    return report


def _of_how_many(findings: Iterable[Finding], orphans: Iterable[str]) -> Iterator[Finding]:
    """Where segments are gone and their contents are not, say of how many: they name the segment that they were for."""
    segments = {place for place in map(segment_of_contents, orphans) if place is not None}
    for f in findings:
        gone = f.step in (4, 14) and f.kind in (FindingKind.MISSING, FindingKind.TRUNCATED) and f.seq is not None
        first = sorted(seq for chain, seq in segments if gone and chain == f.chain and 0 <= seq - (f.seq or 0) < f.count)
        if first:
            there = f"contents of {len(first)} of them are there, from seq {', '.join(map(str, first[:MANY]))}"
            yield replace(f, detail=f"{f.detail}; {there}{' …' if len(first) > MANY else ''}")
        else:
            yield f


def _homes(result: ChainResult, homes: dict[RunKey, str], report: Report) -> None:
    """Step 13, over chains: a run belongs to one partition; its records on another were replayed there."""
    for run, first_seq in sorted(result.runs.items()):
        chain = result.report.chain
        home = homes.setdefault(run, chain)
        if home != chain:
            detail = f"run {run[0]} epoch {run[1].hex()} shows in {home} too"
            report.findings.append(Finding(FindingKind.INSERTED, 13, chain, first_seq, 1, "emitters", detail))


def _absent_chains(partitions: Mapping[str, int], seen: set[str], prefix: str, report: Report) -> None:
    """Chains that a GENESIS speaks of and the archive does not hold: not yet archived, or taken away."""
    for topic, count in sorted(partitions.items()):
        chains = (f"{topic}/{number}" for number in range(min(count, MAX_PARTITIONS)))
        absent = [chain for chain in chains if chain not in seen and chain.startswith(prefix)]
        if absent:
            report.caveats.append(f"{topic}: {len(absent)} of {count} chains have no segment, {absent[0]} first")


def listed_chains(source: Source, prefix: str, report: Report) -> Iterator[tuple[str, list[Listed]]]:
    """Step 2: each chain with its segments in order, and the first seq of the segment that follows each."""
    segments = []
    for key, versions in groupby(source.list(CHAINS + prefix), key=lambda o: o.key):
        listed = list(versions)
        try:
            chain, first = parse_segment_key(key)
        except EvidenceError:
            report.findings.append(Finding(FindingKind.INSERTED, 2, "", None, 1, key, "not a segment's name"))
            continue
        bodies = [o for o in listed if not o.is_marker]
        if len(bodies) < len(listed):
            report.findings.append(_hidden(listed[0], chain, first, "a delete marker hides a segment"))
        if len(bodies) > 1:
            report.findings.append(_hidden(bodies[0], chain, first, f"{len(bodies)} versions of a segment"))
        if bodies:
            segments.append((chain, first, bodies[-1]))  # the oldest: what was first put under the name
    segments.sort(key=lambda s: s[:2])
    for chain, group in groupby(segments, key=lambda s: s[0]):
        found = list(group)
        following = [first for _, first, _ in found[1:]] + [None]
        yield chain, [(stored, after) for (_, _, stored), after in zip(found, following, strict=True)]


def _hidden(stored: StoredObject, chain: str, seq: int | None, detail: str) -> Finding:
    return Finding(FindingKind.HIDDEN, 2, chain, seq, 1, stored.key, detail)


def _caveats(report: Report, made: Plan, seen: set[str]) -> None:
    trust = made.trust
    if not made.extent.whole:
        verified = sum(len(part.segments) for part in made.parts.values())
        report.caveats.append(
            f"only a part of each chain was verified, {verified} segments: what lies outside was not looked at"
        )
    unchecked = sorted(seen - set(trust.checkpoints))
    if unchecked:
        report.caveats.append(
            f"no earlier checkpoint was given for {len(unchecked)} of {len(seen)} chains: "
            "segments cut from their ends cannot be ruled out"
        )
    report.caveats += endless(made.keyring)
    expired = sum(c.reasons["expired"] for c in report.chains)
    if expired:
        report.caveats.append(f"{expired} gaps: raw records expired before they were sealed; what they were is not known")
    if not trust.openers:
        report.caveats.append("no tenant keys were given: contents were checked as objects only, not against their seals")
    report.caveats.append(
        "the store's locks were not put to the test (no self-test record): that it enforces what it states is its word"
    )
