"""Bundles: what was asked for and nothing else, checked by a stranger; what was dropped, altered or added is found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.__main__ import main as command
from sealtrail.avro import write_container
from sealtrail.bundle import DISCLOSURE, FILTER, MANIFEST, SUMS, is_bundle, member_name, open_bundle
from sealtrail.bundleverify import verify_bundle
from sealtrail.certificate import Role
from sealtrail.disclosed import (
    ROW,
    Filter,
    decode_filter,
    decode_keys,
    decode_records,
    encode_filter,
    encode_keys,
    encode_records,
    records_name,
)
from sealtrail.ending import Mark
from sealtrail.errors import ConfigError, EvidenceError, SealtrailError, UndecidedError
from sealtrail.layout import CHAINS as CHAINS_FOLDER
from sealtrail.layout import certificate_key, policy_key, policy_pair_key, schema_key, segment_key
from sealtrail.local import LocalFile
from sealtrail.merkle import Frontier
from sealtrail.report import Report
from sealtrail.seal import Content, LogClass, decode_seal, encode_seal, scope_key
from sealtrail.segment import Segment, decode_segment, encode_segment
from sealtrail.verify import Trust
from sinks.archive.checking import Entry
from tests.archives import CHAINS, EVENT, PART, ROOT, START_S, Archive, checkpoint_of, ending, flipped, public_of
from tests.bundles import (
    ACTORS,
    BASE,
    EXPORT,
    FIRST_HOUR,
    HOUR_US,
    MADE_S,
    POLICY,
    SECRET,
    Files,
    archived,
    bundle_of,
    edited,
    good,
    of_an_hour,
    opened,
    packed,
    signed,
    unpacked,
    verified,
)
from tests.chains import START_US

RECORDS = records_name(CHAINS[0], 12)  # of the second segment, seqs 12 to 21
SEGMENT = archived().key(1)
PER_HOUR = 4  # of acme's, a chain


def found(report: Report) -> set[tuple[str, int | str, str, int | None, int]]:
    return {(f.kind.value, f.step, f.chain, f.seq, f.count) for f in report.findings}


def caveat(report: Report, words: str) -> bool:
    return any(words in said for said in report.caveats)


def entries(tenant: str = "acme", chain: str = CHAINS[0]) -> list[Entry]:
    """Every event of a tenant in a chain."""
    return [
        e for segment in archived().chains[chain] for e in segment if e.tenant == tenant and e.seal.log_class != LogClass.NONE
    ]


def records(data: bytes) -> dict[tuple[str, int], Content]:
    """What a bundle discloses."""
    given: dict[tuple[str, int], Content] = {}
    for name, member in unpacked(data).items():
        if name.startswith("records/"):
            chain = name.removeprefix("records/").rpartition("/")[0]
            given |= {(chain, seq): content for seq, content in decode_records(member)}
    return given


# -- what is in one


def test_a_bundle_of_a_tenant_is_all_of_its_records_and_verifies() -> None:
    report = verified(good())
    assert report.good and report.verdicts == {"VALID": 2 * 4 * PER_HOUR}
    assert records(good()) == {(e.seal.chain, e.seal.seq): e.content for chain in CHAINS for e in entries(chain=chain)}
    assert sum(c.seals for c in report.chains) == sum(len(s) for c in archived().chains.values() for s in c)


def test_it_holds_no_content_of_another_tenant_and_nothing_encrypted() -> None:
    data = good()
    assert SECRET.encode() not in data and b"of acme" in data
    assert not [name for name in unpacked(data) if name.startswith("contents/")]
    assert SECRET.encode() in bundle_of(Filter("globex"))  # where it belongs


def test_segments_keys_schema_policy_and_glossary_are_those_of_the_archive() -> None:
    files, archive = unpacked(good()), archived().archive
    own = {MANIFEST, SUMS, FILTER, DISCLOSURE}
    copied = {n for n in files if not n.startswith("records/")} - own
    assert all(files[name] == archive.data(name) for name in copied)
    assert set(archive.keys(CHAINS_FOLDER)) | set(archive.keys("keys/")) | set(archive.keys("glossary/")) <= copied
    assert {schema_key(EVENT.sha256), policy_pair_key(POLICY), policy_key(hashlib.sha256(BASE).digest())} <= copied


def test_the_manifest_says_what_it_is_and_the_disclosure_keys_are_the_tenants_alone() -> None:
    files = unpacked(good())
    sums = hashlib.sha256(files[SUMS]).hexdigest()
    assert files[MANIFEST].decode().partition("\n\n")[0].splitlines() == [
        "sealtrail/bundle/v1", f"deployment {PART}", "made 2026-09-22T18:00:00Z", f"export {EXPORT}",
        f"files {len(files) - 2}", f"sums {sums}",
    ]  # fmt: skip
    assert decode_keys(files[DISCLOSURE]) == {chain: scope_key(bytes(32), "acme", chain) for chain in CHAINS}
    assert is_bundle(good()[:512]) and not is_bundle(b"c2sp.org/tlog-proof@v1\n".ljust(512))


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter("acme", ("operational",)), 24),
        (Filter("acme", ("admin",)), 8),
        (Filter("acme", ("admin", "operational"), *FIRST_HOUR), 8),
        (Filter("acme", None, FIRST_HOUR[0], None), 24),
        (Filter("acme", None, None, FIRST_HOUR[0]), 8),
        (Filter("acme", None, FIRST_HOUR[0] + 1000, FIRST_HOUR[0] + 3000), 2),  # one of two in the bounds, of each chain
        (Filter("acme", correlation="c-1"), 16),
        (Filter("acme", actor=ACTORS[1]), 16),
        (Filter("acme", ("admin",), *FIRST_HOUR, "c-1", ACTORS[1]), 2),
        (Filter("acme", correlation="nothing"), 0),
        (Filter("nobody"), 0),
        (Filter("acme", None, START_US - HOUR_US, START_US), 0),
        (Filter("acme", None, START_US + 9 * HOUR_US, None), 0),
    ],
)  # fmt: skip
def test_each_filter_gives_what_matches_it_and_its_bundle_verifies(wanted: Filter, count: int) -> None:
    report = verified(bundle_of(wanted))
    assert report.good and report.verdicts["VALID"] == count, report.findings
    unmatched = 32 - count if wanted.tenant == "acme" and wanted.classes is None and wanted.from_us is None else None
    if wanted.narrow and unmatched is not None:
        assert caveat(report, f"{unmatched} records of the tenant, of this time and these classes, are not in the bundle")


def test_a_time_is_its_segments_and_a_neighbour_on_either_side() -> None:
    report = verified(of_an_hour())
    assert report.good and report.verdicts == {"VALID": 6}
    names = [n for n in unpacked(of_an_hour()) if n.startswith(f"chains/{CHAINS[0]}/")]
    assert names == [archived().key(n) for n in (0, 1, 2)]
    assert not caveat(report, "covered up to")


def test_what_reaches_beyond_the_archive_is_said_to_be_covered_up_to_its_last_seal() -> None:
    last = archived().chains[CHAINS[0]][-1][-1].seal
    report = verified(bundle_of(Filter("acme", None, FIRST_HOUR[0], FIRST_HOUR[0] + 9 * HOUR_US)))
    assert report.good and caveat(report, f"{CHAINS[0]}: covered up to seq {last.seq}, sealed at 2026-09-21T17:13:20.009")


def test_where_no_record_shows_that_a_key_is_right_the_report_says_so() -> None:
    report = verified(bundle_of(Filter("nobody")))
    assert report.good and caveat(report, "in 2 chains no record shows that the disclosure key is right")
    assert not caveat(verified(good()), "no record shows")


def test_a_time_within_which_a_bundle_begins_is_a_finding() -> None:
    files = unpacked(bundle_of(Filter("acme", None, *FIRST_HOUR)))
    cut = {n: d for n, d in files.items() if n != archived().key(0)}
    assert found(verified(signed(cut))) == {("MISSING", "B4", CHAINS[0], 0, 12)}
    no_bound = signed({**cut, FILTER: encode_filter(Filter("acme"))})
    assert ("MISSING", "B4", CHAINS[0], 0, 12) in found(verified(no_bound))


def test_members_are_read_one_at_a_time_and_hashed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealtrail.bundle.CHUNK", 1000)
    read: list[int] = []

    def read_at(offset: int, size: int) -> bytes:
        read.append(size)
        return good()[offset : offset + size]

    assert verify_bundle(open_bundle(read_at, len(good())), Trust(ROOT)).good
    assert max(read) == max(len(data) for data in unpacked(good()).values()) < len(good()) // 4


# -- what is not made


def test_a_bundle_is_not_made_without_chains_or_keys_or_from_damage() -> None:
    archive = archived().archive
    with pytest.raises(ConfigError, match="no chain"):
        bundle_of(Filter("acme"), archive.without(*archive.keys("chains/")))
    contents = [key for key in archive.keys("contents/operational/") if f"{CHAINS[0]}-" in key]
    for damaged in (
        archive.without(contents[0]),
        archive.replaced(contents[0], archive.data(contents[1])),
        archive.replaced(SEGMENT, b"rubbish"),
        archive.without(policy_pair_key(POLICY)),
        archive.without(policy_key(hashlib.sha256(BASE).digest())),
        archive.without(schema_key(EVENT.sha256)),
    ):
        with pytest.raises(SealtrailError):
            bundle_of(Filter("acme"), damaged)


# -- by somebody without a key: every member


def by_nobody(edit: Callable[[Files], Files]) -> set[tuple[str, int | str, str, int | None, int]]:
    return found(verified(packed(edit(unpacked(of_an_hour())))))


@pytest.mark.parametrize("name", sorted(unpacked(of_an_hour())))
def test_a_member_that_is_dropped_or_altered_is_found_or_the_bundle_refused(name: str) -> None:
    files = unpacked(of_an_hour())
    for changed in ({n: d for n, d in files.items() if n != name}, edited(files, name, lambda d: flipped(d, len(d) * 4))):
        try:
            report = verified(packed(changed))
        except EvidenceError:
            assert name in (MANIFEST, SUMS, FILTER, DISCLOSURE)
            continue
        assert not report.good
        assert any(f.step == "B1" and f.where in (name, SUMS, MANIFEST) for f in report.findings), report.findings


@pytest.mark.parametrize("name", ["README", "keys/more.cert", "records/x", f"chains/{PART}/more", "contents/admin/x"])
def test_a_member_that_is_added_is_found_even_if_the_auditor_signs_it(name: str) -> None:
    files = {**unpacked(of_an_hour()), name: b"more"}
    assert ("INSERTED", "B1", "", None, 1) in found(verified(packed(files)))
    report = verified(signed(files))
    assert {f.where for f in report.findings} == {name} and not report.good


@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(512), b"x" * 512])
def test_trailing_bytes_are_refused(tail: bytes) -> None:
    with pytest.raises(EvidenceError):
        verified(of_an_hour() + tail)


@pytest.mark.parametrize("start", range(5))
def test_no_bit_can_be_changed_unseen(start: int) -> None:
    data = of_an_hour()
    for bit in range(start * 4001, len(data) * 8, 20_011):
        try:
            report = verified(flipped(data, bit))
        except EvidenceError:
            continue
        assert not report.good, bit


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_a_bundle_or_an_error_of_ours(data: st.DataObject) -> None:
    files = unpacked(of_an_hour())
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(files)))
        at = data.draw(st.integers(0, len(files[name])))
        tail = files[name][data.draw(st.integers(at, len(files[name]))) :]
        files[name] = files[name][:at] + data.draw(st.binary(max_size=300)) + tail
        whole = signed(files) if data.draw(st.booleans()) and name != MANIFEST else packed(files)
    else:
        at = data.draw(st.integers(0, len(of_an_hour())))
        whole = of_an_hour()[:at] + data.draw(st.binary(max_size=1200)) + of_an_hour()[data.draw(st.integers(at, at + 2000)) :]
    try:
        report = verified(whole)
    except SealtrailError:
        return
    assert not report.good or whole == of_an_hour() or unpacked(whole)[FILTER] != unpacked(of_an_hour())[FILTER]


# -- by an auditor who lies: what seals, scopes and the archive's key show


def by_auditor(edit: Callable[[Files], Files]) -> set[tuple[str, int | str, str, int | None, int]]:
    report = verified(signed(edit(unpacked(of_an_hour()))))
    assert not report.good
    return found(report)


def with_records(edit: Callable[[list[tuple[int, Content]]], list[tuple[int, Content]]]) -> Callable[[Files], Files]:
    return lambda files: edited(files, RECORDS, lambda data: encode_records(edit(decode_records(data))))


def without(*names: str) -> Callable[[Files], Files]:
    return lambda files: {n: d for n, d in files.items() if n not in names}


def with_filter(**changed: object) -> Callable[[Files], Files]:
    return lambda files: edited(files, FILTER, lambda data: encode_filter(replace(decode_filter(data), **changed)))  # type: ignore[arg-type]


def with_keys(edit: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Callable[[Files], Files]:
    return lambda files: edited(files, DISCLOSURE, lambda data: encode_keys(edit(decode_keys(data))))


@cache
def of(tenant: str, log_class: str = "operational") -> tuple[int, Content]:
    """A record of the second segment that the bundle does not give."""
    second = archived().chains[CHAINS[0]][1]
    entry = next(e for e in second if e.tenant == tenant and e.seal.log_class.lower() == log_class)
    return entry.seal.seq, entry.content


def ended(size: int, *more: str) -> Callable[[Files], Files]:
    """The sealer's key ended, in both chains and in others, at a segment's first seq, or beyond what the bundle holds."""

    def edit(files: Files) -> Files:
        marks = dict.fromkeys(more, Mark(size, bytes(32)))
        for chain in CHAINS:
            data = files.get(segment_key(chain, size))
            root = Frontier(size, decode_segment(data).frontier).root() if data else bytes(32)
            marks[chain] = Mark(size, root)
        archive = ending(Archive(), "sealer", Role.SEALER, marks)
        return {**files, **{member_name(key): archive.data(key) for key in archive.keys("keys/")}}

    return edit


def added(name: str, data: bytes) -> Callable[[Files], Files]:
    return lambda files: {**files, name: data}


STRANGE = b'{"type": "string"}'

LIES: dict[str, tuple[Callable[[Files], Files], set[tuple[str, int | str, str, int | None, int]]]] = {
    "a schema that no record names": (
        added(schema_key(hashlib.sha256(STRANGE).digest()), STRANGE), {("INSERTED", "B1", "", None, 1)},
    ),
    "a policy that no record names": (
        added(policy_key(hashlib.sha256(STRANGE).digest()), STRANGE), {("INSERTED", "B1", "", None, 1)},
    ),
    "a policy's pair that is none": (
        added(policy_pair_key(bytes(32)), STRANGE), {("ALTERED", "B1", "", None, 1)},
    ),
    "a record withheld": (with_records(lambda rows: rows[1:]), {("MISSING", "B4", CHAINS[0], 12, 1)}),
    "all of a segment withheld": (
        without(RECORDS),
        {("MISSING", "B4", CHAINS[0], seq, 1) for seq in (12, 14, 16)},
    ),
    "a record altered": (
        with_records(lambda rows: [(rows[0][0], replace(rows[0][1], content=rows[0][1].content + b"\0")), *rows[1:]]),
        {("ALTERED", "B3", CHAINS[0], 12, 1)},
    ),
    "another event id outside": (
        with_records(lambda rows: [(rows[0][0], replace(rows[0][1], event_id=bytes(16))), *rows[1:]]),
        {("ALTERED", "B3", CHAINS[0], 12, 1)},
    ),
    "a record in another's place": (
        with_records(lambda rows: [(rows[0][0], rows[1][1]), *rows[1:]]),
        {("ALTERED", "B3", CHAINS[0], 12, 1)},
    ),
    "a record twice": (
        lambda files: edited(files, RECORDS, lambda data: data + data[len(write_container([], ROW)) :]),
        {("ALTERED", "B3", CHAINS[0], 12, 1)} | {("MISSING", "B4", CHAINS[0], seq, 1) for seq in (12, 14, 16)},
    ),
    "a file without a record": (
        lambda files: {**files, records_name(CHAINS[0], 0): write_container([], ROW)},
        {("ALTERED", "B3", CHAINS[0], 0, 1)},
    ),
    "a record without a seal": (
        with_records(lambda rows: [*rows, (99, rows[0][1])]), {("INSERTED", "B3", CHAINS[0], 99, 1)},
    ),
    "a record of another tenant": (
        with_records(lambda rows: sorted([*rows, of("globex")])), {("INSERTED", "B3", CHAINS[0], 13, 1)},
    ),
    "a record of another class": (
        with_records(lambda rows: sorted([*rows, of("acme", "admin")])), {("INSERTED", "B3", CHAINS[0], 18, 1)},
    ),
    "a note as a record": (
        with_records(lambda rows: [*rows, (20, archived().chains[CHAINS[0]][1][8].content)]),
        {("ALTERED", "B3", CHAINS[0], 20, 1)},
    ),
    "a filter of another tenant": (
        with_filter(tenant="globex"),
        {("INSERTED", "B3", chain, seq, 1) for chain in CHAINS for seq in (12, 14, 16)},
    ),
    "a wider class": (
        with_filter(classes=("admin", "operational")), {("MISSING", "B4", chain, 18, 1) for chain in CHAINS},
    ),
    "a wider time": (
        with_filter(to_us=FIRST_HOUR[1] + 1),
        {("MISSING", "B4", chain, 22, 1) for chain in CHAINS},
    ),
    "a narrower time": (
        with_filter(from_us=FIRST_HOUR[0] + 1), {("INSERTED", "B3", chain, 12, 1) for chain in CHAINS},
    ),
    "another correlation": (
        with_filter(correlation="c-0"), {("INSERTED", "B3", chain, 14, 1) for chain in CHAINS},
    ),
    "another actor": (
        with_filter(actor=ACTORS[0]), {("INSERTED", "B3", chain, 16, 1) for chain in CHAINS},
    ),
    "a wrong disclosure key": (
        with_keys(lambda keys: {**keys, CHAINS[0]: bytes(32)}), {("INSERTED", "B4", CHAINS[0], 12, 3)},
    ),
    "no disclosure key of a chain": (
        with_keys(lambda keys: {CHAINS[1]: keys[CHAINS[1]]}), {("MISSING", "B4", CHAINS[0], None, 1)},
    ),
    "a disclosure key of a chain that is not there": (
        with_keys(lambda keys: {**keys, f"{CHAINS[0][:-1]}7": bytes(32)}), {("INSERTED", "B1", "", None, 1)},
    ),
    "a segment left out in the middle": (
        without(SEGMENT, RECORDS), {("MISSING", 4, CHAINS[0], 12, 10)},
    ),
    "a segment of another chain's": (
        lambda files: edited(files, SEGMENT, lambda _: files[archived().key(1, CHAINS[1])]),
        {("ALTERED", 3, CHAINS[0], 12, 10)},
    ),
    "no certificate of the sealer": (
        without(certificate_key(hashlib.sha256(public_of("sealer")).digest())),
        {("UNKNOWN-KEY", 7, chain, seq, 1) for chain in CHAINS for seq in (0, 11, 21, 31)},
    ),
    "a key that ended before its last seals": (ended(22), {("UNKNOWN-KEY", 7, chain, 31, 1) for chain in CHAINS}),
    "the end of a key that states another tree": (
        lambda files: ended(22)({**files, segment_key(CHAINS[0], 22): files[segment_key(CHAINS[1], 22)]}) | {
            segment_key(CHAINS[0], 22): files[segment_key(CHAINS[0], 22)]
        },
        {("UNKNOWN-KEY", 7, chain, 31, 1) for chain in CHAINS} | {("FORKED", 14, CHAINS[0], 0, 22)},
    ),
    "the end of a key that names a chain which is not there": (
        ended(42, f"{CHAINS[0][:-1]}7"), {("MISSING", "B4", f"{CHAINS[0][:-1]}7", 0, 1)},
    ),
    "no text of the policy": (without(policy_pair_key(POLICY)), {("MISSING", "B3", chain, 12, 1) for chain in CHAINS}),
    "a document of another text": (
        lambda files: edited(files, policy_key(hashlib.sha256(BASE).digest()), lambda d: d + b"#"),
        {("ALTERED", "B1", "", None, 1)} | {("MISSING", "B3", chain, 12, 1) for chain in CHAINS},
    ),
}  # fmt: skip


BY_KEY = {  # key, and the name that it signs under
    "another auditor": ("auditor-2", PART),
    "an expired key": ("auditor-expired", PART),
    "a key of another deployment": ("auditor-elsewhere", "audit.example/other"),
    "a key under another name": ("auditor", "audit.example"),
    "a key of another role": ("archive", PART),
    "a key that is not certified": ("nobody", PART),
}
BY_NOBODY: dict[str, Callable[[Files], Files]] = {
    "a member altered": lambda files: edited(files, RECORDS, lambda data: flipped(data, len(data) * 4)),
    "a member dropped": without(RECORDS),
    "a member added": lambda files: {**files, "README": b"more"},
    "other sums": lambda files: edited(files, SUMS, lambda data: data.replace(b"a", b"b", 1)),
    "another export": lambda files: edited(files, MANIFEST, lambda data: data.replace(b"-00000000000e", b"-00000000000f")),
}


@pytest.mark.parametrize("name", BY_NOBODY)
def test_what_somebody_without_a_key_does_is_found_in_step_b1(name: str) -> None:
    assert any(step == "B1" for _, step, *_ in by_nobody(BY_NOBODY[name]))


@pytest.mark.parametrize("name", LIES)
def test_what_an_auditor_who_lies_does_is_found_at_its_position(name: str) -> None:
    edit, expected = LIES[name]
    assert by_auditor(edit) == expected


def test_the_end_of_a_key_is_in_it_under_a_name_that_a_tar_carries_and_counts() -> None:
    files = ended(42)(unpacked(of_an_hour()))
    (name,) = [name for name in files if name.endswith(".end")]
    assert re.fullmatch("keys/[0-9a-f]{64}/[0-9a-f]{64}.end", name)
    report = verified(signed(files))
    assert report.good and caveat(report, "the tree of 42 seals, of ")
    key = name.replace("/", "-").replace("-", "/", 1)
    archive = archived().archive.copy()
    archive.put(key, b"put there first, to hide what was put there next")
    archive.put(key, files[name])
    successor = next(n for n in files if n not in unpacked(of_an_hour()) and n.endswith(".cert"))
    archive.put(successor, files[successor])
    data = bundle_of(Filter("acme", ("operational",), *FIRST_HOUR), archive)
    assert unpacked(data)[name] == files[name] and verified(data).good


def test_without_a_schema_nothing_is_valid_and_the_bundle_is_not_good() -> None:
    files = without(schema_key(EVENT.sha256))(unpacked(of_an_hour()))
    report = verified(signed(files))
    assert report.verdicts == {"UNDECIDED": 6} and not report.good and not report.findings


def test_with_a_wrong_key_where_no_record_is_given_all_could_be_withheld_and_that_is_said() -> None:
    files = unpacked(of_an_hour())
    lie = with_keys(lambda keys: {**keys, CHAINS[0]: bytes(32)})(without(RECORDS)(files))
    report = verified(signed(lie))
    assert (
        report.good
        and caveat(report, "in 1 chains no record shows that the disclosure key is right")
        and caveat(report, f"there: {CHAINS[0]}")
    )


def test_a_chain_left_out_is_missed_by_whoever_kept_a_checkpoint_of_it() -> None:
    files = {n: d for n, d in unpacked(of_an_hour()).items() if CHAINS[1] not in n}
    files = with_keys(lambda keys: {CHAINS[0]: keys[CHAINS[0]]})(files)
    whole = [e for segment in archived().chains[CHAINS[1]] for e in segment]
    left_out = signed(files)
    report = verified(left_out)
    assert report.good and caveat(report, "may have left out whole chains")
    kept = checkpoint_of(whole).encode()
    assert found(verified(left_out, {CHAINS[1]: kept})) == {("MISSING", "B4", CHAINS[1], 0, len(whole))}
    later = checkpoint_of(whole, time_s=MADE_S + 1).encode()  # it may have begun after the bundle was made
    assert verified(left_out, {CHAINS[1]: later}).good
    foreign = checkpoint_of(whole, archive_key="archive-elsewhere").encode()
    assert found(verified(left_out, {CHAINS[1]: foreign})) == {("UNKNOWN-KEY", "B4", CHAINS[1], 0, 1)}


def test_a_chain_cut_before_the_time_ended_is_found_by_a_checkpoint_that_somebody_kept() -> None:
    segments = archived().chains[CHAINS[0]]
    last = segments[-1][0].seal.seq
    files = without(segment_key(CHAINS[0], last), records_name(CHAINS[0], last))(unpacked(good()))
    kept = checkpoint_of([e for segment in segments for e in segment]).encode()
    gone = {("TRUNCATED", 14, CHAINS[0], last, len(segments[-1]))}
    assert verified(signed(files)).good, "nothing in it tells"
    assert found(verified(signed(files), {CHAINS[0]: kept})) == gone
    until = edited(files, FILTER, lambda _: encode_filter(Filter("acme", to_us=2**51)))
    assert found(verified(signed(until), {CHAINS[0]: kept})) == gone
    assert verified(of_an_hour(), {CHAINS[0]: kept}).good, "it ends beyond the time that was asked for"


def test_a_chain_cut_before_the_end_of_a_key_is_found_without_anything_kept() -> None:
    files = ended(sum(map(len, archived().chains[CHAINS[0]])) + 5)(unpacked(good()))
    assert found(verified(signed(files))) == {("TRUNCATED", 14, chain, 42, 5) for chain in CHAINS}


def test_a_checkpoint_newer_than_the_bundle_is_not_compared_and_that_is_said() -> None:
    first = [e for segment in archived().chains[CHAINS[0]][:2] for e in segment]
    later = checkpoint_of([*first[:-1], replace(first[-1], leaf=bytes(32))], time_s=MADE_S + 1).encode()
    report = verified(good(), {CHAINS[0]: later})
    assert report.good and caveat(report, "newer than the bundle, so it was not compared")


def test_a_partition_that_is_not_there_is_named_where_another_s_number_tells() -> None:
    files = {n: d for n, d in unpacked(of_an_hour()).items() if CHAINS[0] not in n}
    report = verified(signed(with_keys(lambda keys: {CHAINS[1]: keys[CHAINS[1]]})(files)))
    assert report.good and caveat(report, "holds nothing of partitions 0")


def test_what_a_damaged_seal_says_of_its_time_is_no_crash() -> None:
    def late(segment: Segment) -> Segment:
        last = decode_seal(segment.seals[-1])
        seals = (
            b"rubbish" + segment.seals[0],
            *segment.seals[1:-1],
            encode_seal(replace(last, sealed_at_us=2**62, signed=False)),
        )
        return replace(segment, seals=seals)

    def edit(files: Files) -> Files:
        return {n: encode_segment(late(decode_segment(d))) if "/segments/" in n else d for n, d in files.items()}

    assert verified(signed(edit(unpacked(of_an_hour())))).findings


def test_a_kept_checkpoint_of_another_history_is_a_fork() -> None:
    first = [e for segment in archived().chains[CHAINS[0]][:2] for e in segment]
    forged = checkpoint_of([*first[:-1], replace(first[-1], leaf=bytes(32))]).encode()
    assert found(verified(good(), {CHAINS[0]: forged})) == {("FORKED", 14, CHAINS[0], 0, len(first))}
    assert verified(good(), {CHAINS[0]: checkpoint_of(first).encode()}).good


# -- the manifest's key


@pytest.mark.parametrize(
    ("by", "kind"),
    [
        ("another auditor", ""),
        ("an expired key", "BAD-SIGNATURE"),
        ("a key of another deployment", "BAD-SIGNATURE"),
        ("a key under another name", "UNKNOWN-KEY"),
        ("a key of another role", "UNKNOWN-KEY"),
        ("a key that is not certified", "UNKNOWN-KEY"),
    ],
)
def test_a_manifest_counts_if_an_auditors_key_of_this_deployment_signed_it_in_its_time(by: str, kind: str) -> None:
    key, name = BY_KEY[by]
    report = verified(signed(unpacked(of_an_hour()), key=key, name=name))
    assert [(f.kind.value, f.step, f.where) for f in report.findings] == ([(kind, "B1", MANIFEST)] if kind else [])


def test_a_manifest_made_before_what_it_speaks_of_is_found() -> None:
    data = signed(unpacked(of_an_hour()), lambda m: replace(m, made_s=START_S - 1), key="auditor-expired")
    assert found(verified(data)) == {("ALTERED", "B1", "", None, 1)}


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: replace(m, files=m.files + 1),
        lambda m: replace(m, sums=bytes(32)),
        lambda m: replace(m, deployment="audit.example/other"),
    ],
)
def test_a_manifest_that_says_otherwise_is_found(edit: Callable[..., object]) -> None:
    assert not verified(signed(unpacked(of_an_hour()), edit)).good  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (MANIFEST, b"sealtrail/bundle/v1", b"sealtrail/bundle/v2"),
        (MANIFEST, b"\nmade 2026-09-22T", b"\nmade 2026-09-31T"),
        (MANIFEST, b"\nfiles ", b"\nfiles 0"),
        (MANIFEST, b"\n\n", b"\nmore yes\n\n"),
        (SUMS, b"  ", b" *"),
        (SUMS, b"\n", b"\r\n"),
        (FILTER, b'"tenant":"acme"', b'"tenant":"acme" '),
        (FILTER, b'"tenant":"acme"', b'"tenant":"Acme"'),
        (FILTER, b'"tenant":"acme"', b'"tenant":null'),
        (FILTER, b'"operational"', b'"operational","admin"'),
        (FILTER, b'["operational"]', b"[]"),
        (FILTER, b'["operational"]', b'"operational"'),
        (FILTER, b'["operational"]', b"[[]]"),
        (FILTER, b"15:13:20Z", b"15:13:20+00:00"),
        (FILTER, b"15:13:20Z", b"15:13:20"),
        (FILTER, b"15:13:20Z", b"15:13:20.000000Z"),
        (FILTER, b'"actor":null', b'"actor":null,"actor":null'),
        (FILTER, b'"actor":null', b'"actor":""'),
        (FILTER, b'"actor":null', b'"actor":7'),
        (DISCLOSURE, b"/0 ", b"/00 "),
        (DISCLOSURE, b"\n", b"\n\n"),
    ],
)
def test_a_text_that_is_not_in_its_one_form_is_refused(name: str, old: bytes, new: bytes) -> None:
    files = unpacked(of_an_hour())
    assert old in files[name]
    changed = {**files, name: files[name].replace(old, new, 1)}
    with pytest.raises(EvidenceError):
        opened(signed(changed) if name in (FILTER, DISCLOSURE) else packed(changed))


@given(
    st.sampled_from(["acme", "@deployment", "a.b-c_0"]),
    st.none() | st.sets(st.sampled_from(["admin", "compliance", "debug", "operational", "security"]), min_size=1),
    st.none() | st.integers(0, 1 << 52),
    st.none() | st.integers(0, 1 << 52),
    st.none() | st.from_regex(r"[!-~]{1,256}", fullmatch=True),
)
def test_a_filter_reads_back(
    tenant: str, classes: set[str] | None, since: int | None, until: int | None, text: str | None
) -> None:
    wanted = Filter(tenant, None if classes is None else tuple(sorted(classes)), since, until, text, text)
    assert decode_filter(encode_filter(wanted)) == wanted


@pytest.mark.parametrize(
    "wanted", [Filter(""), Filter("a b"), Filter("a", ("none",)), Filter("a", ("b",)), Filter("a", actor="ä")]
)
def test_a_filter_that_cannot_be_is_refused(wanted: Filter) -> None:
    with pytest.raises(EvidenceError):
        encode_filter(wanted)


# -- the command that needs nothing but the base install


def handed_over(folder: Path, data: bytes) -> list[str]:
    (folder / "root.vkey").write_text(ROOT.vkey)
    (folder / "acme.bundle").write_bytes(data)
    return [str(folder / "acme.bundle"), "--root", str(folder / "root.vkey")]


def test_a_stranger_checks_a_bundle_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*handed_over(tmp_path, of_an_hour()), "--json"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["good"] and report["bundle"]["filter"]["tenant"] == "acme" and report["bundle"]["export"] == EXPORT
    assert "classes operational" in shown.err and "6 records in clear are VALID" in shown.err
    assert "VERIFIED: 64 seals" in shown.err


@pytest.mark.parametrize("name", ["a record altered", "a record withheld"])
def test_what_is_found_is_said_with_its_step_and_the_status_is_1(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(handed_over(tmp_path, signed(LIES[name][0](unpacked(of_an_hour()))))) == 1
    said = capsys.readouterr().err
    assert f"{CHAINS[0]} seq 12 (step B" in said and "NOT VERIFIED" in said


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(handed_over(tmp_path, of_an_hour() + b"\0")) == 1
    assert "NOT VERIFIED: not a bundle in its one form" in capsys.readouterr().err
    assert command(handed_over(tmp_path, b"hello")) == 3
    assert "neither a bundle nor a tlog-proof" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        command([*handed_over(tmp_path, of_an_hour()), "--from", "2026-01-01"])
    assert refused.value.code == 2


def test_a_file_that_cannot_be_read_is_undecided() -> None:
    with LocalFile(Path("/proc/self/mem")) as unreadable, pytest.raises(UndecidedError):  # nothing is mapped at address 0
        unreadable.read_at(0, 512)


def test_a_kept_checkpoint_counts_for_a_bundle(tmp_path: Path) -> None:
    first = [e for segment in archived().chains[CHAINS[0]][:2] for e in segment]
    (tmp_path / "kept").write_text(checkpoint_of([*first[:-1], replace(first[-1], leaf=bytes(32))]))
    assert command([*handed_over(tmp_path, good()), "--checkpoint", str(tmp_path / "kept")]) == 1
    (tmp_path / "kept").write_text(checkpoint_of(first))
    assert command([*handed_over(tmp_path, good()), "--checkpoint", str(tmp_path / "kept")]) == 0
