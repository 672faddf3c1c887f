"""Verifying a bundle. The numbers alone are those of `sealtrail.verify`:

B1. The file is a tar in its one form; SHA256SUMS lists every other member, each has its digest, and documents have those in
    their names, and are named by a record; a certified auditor's key, that speaks for the deployment, signed MANIFEST in its
    time.
B2. Steps 1 to 10, over the segments: of each chain a part, that begins where the bundle's first segment of it does.
B3. Each record is the content of its seal, and of the tenant, time, classes, correlation and actor of the filter; its event id
    outside and inside are one; the texts of schema and policy are there.
B4. Each seal that is the tenant's by its scope, of the time and the classes, has its record, unless correlation or actor
    left it out; each record's seal is the tenant's by its scope (`sealtrail.disclosed`).

A bundle that cannot be taken apart is refused; whatever else is wrong is a finding. What a bundle cannot show is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sealtrail.bundle import DISCLOSURE, MANIFEST, SUMS, Bundle, BundleSource
from sealtrail.certificate import Certificate, Role, format_time
from sealtrail.certified import endless
from sealtrail.contents import ContentsOf, Find, Say
from sealtrail.disclosed import RecordsCheck, Shown, records_name, time_text
from sealtrail.documents import Documents, policy_pair_of
from sealtrail.emitters import Emitters
from sealtrail.errors import EvidenceError
from sealtrail.extent import Listed, Part, seal_at
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, GLOSSARY, KEYS, POLICIES, SCHEMAS, parse_segment_key, segments_prefix
from sealtrail.note import ED25519, NoteKey, verify_note
from sealtrail.report import Finding, FindingKind, Report, Verdict
from sealtrail.sworn import genuine_checkpoint
from sealtrail.verify import MAX_PARTITIONS, Plan, Trust, plan, verify_chain

RECORDS = "records/"
MAX_PAIR = 1 << 10
SKEW_S = 60  # auditor and archive may differ by so much
_KNOWN = re.compile(
    rf"{CHAINS}.*|{RECORDS}.*|{KEYS}.*|{GLOSSARY}[0-9a-f]{{64}}\.md|{SCHEMAS}[0-9a-f]{{64}}\.avsc"
    rf"|{POLICIES}[0-9a-f]{{64}}\.(?:toml|txt)|filter\.json|disclosure\.txt"
)
_PAIR = re.compile(rf"{POLICIES}([0-9a-f]{{64}})\.txt")
_BY_DIGEST = re.compile(r".*/([0-9a-f]{64})\.(?:avsc|toml|md)")  # a name that its own bytes give


def verify_bundle(bundle: Bundle, trust: Trust) -> Report:
    """Check a bundle by the steps above; verdicts are of the records that it gives.

    Args:
        trust: the root's key, and checkpoints if any were kept; nothing has to be opened.

    Raises:
        UndecidedError: the file could not be read to its end.
    """
    made = plan(bundle.source, trust, f"{bundle.manifest.deployment}/")
    made = replace(
        made,
        parts={chain: _partial(bundle, part.segments) for chain, part in made.parts.items()},
        trust=replace(trust, checkpoints=dict(_of_its_time(bundle, made))),
    )
    report = made.report
    report.findings[:0] = [*_sums(bundle), *_strangers(bundle, made), *_signature(bundle, made.keyring)]
    documents = Documents(bundle.source)
    checks: dict[str, RecordsCheck] = {}
    for chain in made.parts:
        result = verify_chain(bundle.source, made, chain, _records(bundle, documents, chain, checks))
        report.chains.append(result.report)
        report.findings += [*result.findings, *checks[chain].findings()]
        report.caveats += result.caveats
    shown = {chain: check.shown for chain, check in checks.items()}
    report.findings += _made_before(bundle, report, made.keyring)
    report.findings += [*_absent_keys(bundle, made), *_absent_chains(bundle, made)]
    if not report.findings and not report.verdicts[Verdict.UNDECIDED]:
        report.findings += _unnamed(bundle, shown)
    report.caveats += endless(made.keyring)
    report.caveats += _caveats(bundle, trust, made, shown)
    return report


def _partial(bundle: Bundle, segments: tuple[Listed, ...]) -> Part:
    """A bundle's part of a chain. It goes on to where the chain ended then, unless it goes beyond the filter's time."""
    until = bundle.filter.to_us
    last = None if until is None else seal_at(bundle.source, segments[-1][0], -1)
    reaches_end = until is None or (last is not None and last.sealed_at_us < until)
    return Part(segments, parse_segment_key(segments[0][0].key)[1] == 0, reaches_end)


def _of_its_time(bundle: Bundle, made: Plan) -> Iterator[tuple[str, bytes]]:
    """The checkpoints given that were there when the bundle was made, and those that are none: of these a finding comes."""
    for chain, kept in made.trust.checkpoints.items():
        try:
            later = genuine_checkpoint(kept, made.keyring)[0].time_s > bundle.manifest.made_s
        except EvidenceError:
            later = False
        if not later:
            yield chain, kept


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
        elif (named is not None and named[1] != digest.hex() and not name.startswith(KEYS)) or _no_pair(source, name):
            yield _finding(FindingKind.ALTERED, name, "a document that is not the one that its name says")
    for name in sorted(sums.keys() - source.members.keys() | sums.keys() & {MANIFEST, SUMS}):
        yield _finding(FindingKind.MISSING, name, "SHA256SUMS lists a member that is not there, or must not be listed")


def _no_pair(source: BundleSource, name: str) -> bool:
    """Whether a member is named as a policy's pair of digests, and is not that."""
    match = _PAIR.fullmatch(name)
    if match is None:
        return False
    return source.members[name].size > MAX_PAIR or policy_pair_of(source.read(name, ""), bytes.fromhex(match[1])) is None


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


def _unnamed(bundle: Bundle, shown: Mapping[str, Shown]) -> Iterator[Finding]:
    """B1: texts that no record names have no place in a bundle; asked where every record was read, and all else is right."""
    named = {name for found in shown.values() for name in found.documents}
    for name in bundle.source.members:
        if name.startswith((SCHEMAS, POLICIES)) and name in bundle.sums and name not in named:
            yield _finding(FindingKind.INSERTED, name, "a text that no record names")


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


def _caveats(bundle: Bundle, trust: Trust, made: Plan, shown: Mapping[str, Shown]) -> Iterator[str]:
    """What the bundle does not show."""
    for chain in sorted(trust.checkpoints.keys() - made.trust.checkpoints.keys()):
        yield f"{chain}: the checkpoint given is newer than the bundle, so it was not compared"
    for topic, absent in _absent_partitions(made):
        yield f"{topic}: the bundle holds nothing of partitions {absent}: ask whoever made it why"
    wanted = bundle.filter
    for chain, found in shown.items():
        if wanted.to_us is None or found.last is None or found.last.sealed_at_us < wanted.to_us:
            last = "nothing" if found.last is None else f"seq {found.last.seq}, sealed at {time_text(found.last.sealed_at_us)}"
            at = format_time(bundle.manifest.made_s)
            yield f"{chain}: covered up to {last}, in a bundle made at {at}: what was sealed in between was not given"
    unproven = [chain for chain, found in shown.items() if chain in bundle.keys and not found.in_scope]
    if unproven:
        yield (
            f"in {len(unproven)} chains no record shows that the disclosure key is right; with a wrong one, all of the "
            f"tenant's records could have been withheld there: {', '.join(unproven)}"
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
        "whoever made the bundle may have left out whole chains, or what ends a key; a checkpoint of a chain, kept from "
        "earlier, would show that chain"
    )
    yield "that the glossary is the one in use is the word of whoever made the bundle"
    yield "that a seal's scope is that of its own tenant is the sealer's word"
    yield "sources' numbers were not followed, and locks not looked at: a bundle carries neither"


def _absent_partitions(made: Plan) -> Iterator[tuple[str, str]]:
    """Topics of whose partitions some are not there, as far as the names of the others tell; those numbers."""
    there: dict[str, set[int]] = {}
    for chain in made.parts:
        topic, _, number = chain.rpartition("/")
        there.setdefault(topic, set()).add(int(number))
    for topic, numbers in sorted(there.items()):
        absent = [str(n) for n in range(min(max(numbers), MAX_PARTITIONS)) if n not in numbers]
        if absent:
            yield topic, ", ".join(absent)


def _finding(kind: FindingKind, where: str, detail: str) -> Finding:
    return Finding(kind, "B1", "", None, 1, where, detail)
