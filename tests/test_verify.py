"""What the verifier says of good archives, of what those who hold keys did wrong, and of what it could not read."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain as joined
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail import layout
from sealtrail.__main__ import main
from sealtrail.avro import Codec
from sealtrail.certificate import Role
from sealtrail.emitters import OPEN_EVENT
from sealtrail.errors import UndecidedError
from sealtrail.links import Run, broken_links, place
from sealtrail.local import LocalCopy
from sealtrail.merkle import root_of
from sealtrail.note import format_note, note_signature
from sealtrail.report import FindingKind, Report, Verdict
from sealtrail.seal import SEAL_NOTE, Content, Kind, LogClass, Reason, decode_seal
from sealtrail.segment import Reference, encode_segment
from sealtrail.session import RUN_SESSION
from sealtrail.session import Run as RunName
from sealtrail.text import lines
from sealtrail.verify import Trust, verify_archive
from sinks.archive.checking import Entry
from tests.archives import (
    AUDIENCE,
    CHAINS,
    ROOT,
    START_S,
    TENANTS,
    Archive,
    Built,
    ChainScript,
    RunScript,
    archive_segments,
    build,
    built,
    built_small,
    certificate,
    checkpoint_of,
    epoch,
    openers,
    public_of,
    put_documents,
    seed,
    signing_key,
    statement_of,
    verify,
)

NOTE = SEAL_NOTE.sha256
Found = tuple[str, int | None, int]


def findings(report: Report) -> list[Found]:
    return sorted(((str(f.kind), f.seq, f.count) for f in report.findings), key=str)


def flat(b: Built, chain: str = CHAINS[0]) -> list[Entry]:
    return list(joined.from_iterable(b.chains[chain]))


def one_segment(script: ChainScript) -> Built:
    """The script's entries as one segment."""
    script.sign_last()
    return build({CHAINS[0]: [script.entries]})


def opened() -> tuple[ChainScript, RunScript]:
    """A chain with GENESIS (0) and the opening (1) of a run of source github."""
    script, run = ChainScript(), RunScript("github", epoch(1))
    script.genesis()
    script.open(run)
    return script, run


# An untouched archive


def test_an_untouched_archive_of_every_kind_of_seal_is_good_and_counts_each_raw_record_once() -> None:
    b = built()
    report = verify(b.archive)
    entries = flat(b) + flat(b, CHAINS[1])
    kinds = {e.seal.kind for e in entries}
    raw = sum(e.seal.kind in (Kind.EVENT, Kind.DUPLICATE, Kind.REJECTED) for e in entries)
    assert kinds == set(Kind)
    assert report.good
    assert not report.findings
    assert report.verdicts == {Verdict.VALID: len(entries)} == {Verdict.VALID: 46}
    assert sum(c.records for c in report.chains) == raw == 38
    assert report.as_json()["raw_records"] == report.as_json()["records"] == raw
    assert report.as_json()["raw_offsets"] == sum(e.seal.source_count for e in entries) == raw + 2 * 5
    assert [c.segments for c in report.chains] == [5, 5]
    assert report.as_json()["reasons"] == {"not-authentic": 2, "not-entitled": 2, "expired": 2}
    assert report.orphans == 0


def test_the_report_gives_each_chain_its_last_checkpoint_and_root() -> None:
    report = verify(built().archive)
    for chain in report.chains:
        assert chain.checkpoint == built().segment(4, chain.chain).checkpoint
        assert chain.root == checkpoint_root(built(), chain.chain).hex()
        assert chain.next_offset == flat(built(), chain.chain)[-1].seal.next_offset


def checkpoint_root(b: Built, chain: str) -> bytes:
    return root_of([e.leaf for e in flat(b, chain)])


@pytest.mark.parametrize("size", range(1, 24))
def test_every_earlier_checkpoint_of_the_same_tree_is_accepted(size: int) -> None:
    report = verify(built().archive, trusted=checkpoint_of(flat(built())[:size]))
    assert report.good


def test_only_chains_of_the_prefix_are_looked_at() -> None:
    report = verify_archive(built().archive, Trust(ROOT, openers(*TENANTS)), prefix=CHAINS[1])
    assert [c.chain for c in report.chains] == [CHAINS[1]]
    assert report.good


def test_an_archive_without_a_chain_is_not_good() -> None:
    assert not verify(Archive()).good


def test_orphans_are_counted_and_are_no_findings() -> None:
    archive = built().archive.copy()
    archive.put(f"contents/none/2026-12-01/{CHAINS[0]}-{0:020d}-a9.avro", b"left by an attempt that failed")
    report = verify(archive)
    assert report.good
    assert report.orphans == 1


def test_a_source_without_locks_is_said_to_be_one() -> None:
    archive = built().archive.copy()
    archive.without_locks = True
    report = verify(archive)
    assert report.good
    assert any("locks were not checked" in caveat for caveat in report.caveats)


def test_an_older_schema_version_under_a_newer_one_still_reads_and_the_newer_one_is_found() -> None:
    archive = built().archive.copy()
    for key in archive.keys("schemas/"):
        archive.put(key, b"not it")
        archive.put(key, None)
    report = verify(archive)
    assert report.verdicts == {Verdict.VALID: 46}
    assert [(f.kind, f.step, f.seq, f.where) for f in report.findings] == [
        ("ALTERED", 11, None, key) for key in archive.keys("schemas/")
    ]


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (layout.policy_key(hashlib.sha256(b"a = 1\n").digest()), b"a = 1\n", b"a = 2\n"),
        (f"glossary/{hashlib.sha256(b'words').hexdigest()}.md", b"words", b""),
        (
            layout.policy_pair_key(hashlib.sha256(bytes(64)).digest()),
            layout.policy_pair_text(bytes(32), bytes(32)).encode(),
            layout.policy_pair_text(bytes(32), b"\1" * 32).encode(),
        ),
        ("policies/README", b"anything", None),
    ],
)
def test_a_document_that_is_not_its_names_is_altered_whether_a_record_needs_it_or_not(
    key: str, good: bytes, bad: bytes | None
) -> None:
    archive = built().archive.copy()
    archive.put(key, good)
    assert verify(archive).good
    if bad is not None:
        report = verify(archive.replaced(key, bad))
        assert [(f.kind, f.step, f.chain, f.seq, f.where) for f in report.findings] == [("ALTERED", 11, "", None, key)]
        assert report.verdicts == {Verdict.VALID: 46}


def test_a_document_that_the_store_does_not_give_is_said_to_be_unread() -> None:
    archive = built().archive
    key = f"glossary/{hashlib.sha256(b'words').hexdigest()}.md"
    archive = archive.copy()
    archive.put(key, b"words")
    report = verify(Silent(archive, key))  # type: ignore[arg-type]
    assert report.good
    assert any(key in caveat for caveat in report.caveats)


# What those who hold keys can do wrong


def hole(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    run.number += 3
    script.event(run)


def sealed_twice(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    script.event(run)
    script.event(run, number=1)


def reused(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    script.duplicate(run, 1)
    script.duplicate(run, 1, repeated=seed("another event")[:16])


def reused_of_a_rejected(script: ChainScript, run: RunScript) -> None:
    script.rejected(run)
    script.duplicate(run, 1)
    script.duplicate(run, 1, repeated=seed("another event")[:16])


def duplicate_of_nothing(script: ChainScript, run: RunScript) -> None:
    script.duplicate(run, 1)


def not_opened(script: ChainScript, run: RunScript) -> None:
    other = RunScript("chat", epoch(7))
    script.event(other)


def opened_by_another_source(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("chat", epoch(7)), signer="github")


def opened_for_another_run(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("chat", epoch(7)), session=RunName("chat", "one", epoch(8)))


def opened_for_another_deployment(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("chat", epoch(7)), audience="audit.example/other/audit.raw")


def opened_for_another_topic(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("chat", epoch(7)), audience=AUDIENCE + "2")


def opened_before_the_certificate(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("chat", bytes(6) + epoch(7)[6:]))


def opened_by_nobody(script: ChainScript, run: RunScript) -> None:
    script.open(RunScript("stranger", epoch(7)))


def opened_with_rubbish(script: ChainScript, run: RunScript) -> None:
    extension = {"schema": RUN_SESSION.sha256, "payload": b"rubbish"}
    script.event(RunScript("chat", epoch(7)), name=OPEN_EVENT, extension=extension)


def opened_without_session(script: ChainScript, run: RunScript) -> None:
    script.event(RunScript("chat", epoch(7)), name=OPEN_EVENT)


def back_in_time(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    script.maker.now_us -= 5000
    script.event(run)


def later_than_the_checkpoint(script: ChainScript, run: RunScript) -> None:
    script.maker.now_us += 71_000_000  # the checkpoint is of START + 10 s, the skew that is allowed 60 s
    script.event(run)
    script.event(run)


def offsets_left_out(script: ChainScript, run: RunScript) -> None:
    script.maker.offset += 2
    script.event(run)


def offset_twice(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    script.maker.offset -= 1
    script.event(run)


def event_for_two_offsets(script: ChainScript, run: RunScript) -> None:
    script.rejected()
    entry = script.entries.pop()
    script.maker.seq, script.maker.offset = entry.seal.seq, entry.seal.source_offset
    script.maker.prev = entry.seal.prev
    script.add(Kind.REJECTED, Reason.UNDECODABLE, LogClass.NONE, entry.content, 2)


def gap_of_nothing(script: ChainScript, run: RunScript) -> None:
    script.gap(0)


def second_genesis(script: ChainScript, run: RunScript) -> None:
    script.genesis()


def other_event_id(script: ChainScript, run: RunScript) -> None:
    script.event(run)
    content = replace(script.entries.pop().content, event_id=bytes(16))
    script.maker.seq, script.maker.offset, script.maker.prev = 2, 1, script.entries[-1].leaf
    script.add(Kind.EVENT, Reason.NONE, LogClass.OPERATIONAL, content, 1, tenant="acme")


def note_of_no_form(script: ChainScript, run: RunScript) -> None:
    content = Content(bytes(16), bytes(32), bytes(32), bytes(16), b"?")
    script.add(Kind.REJECTED, Reason.CONTRACT, LogClass.NONE, content, 1)


def note_that_does_not_decode(script: ChainScript, run: RunScript) -> None:
    script.add(Kind.REJECTED, Reason.CONTRACT, LogClass.NONE, Content(bytes(16), bytes(32), NOTE, bytes(16), b"?"), 1)


def event_in_another_tenants_name(script: ChainScript, run: RunScript) -> None:
    script.event(run, "acme")
    script.entries[-1] = replace(script.entries[-1], tenant="globex")


INSIDERS: list[tuple[Callable[[ChainScript, RunScript], None], tuple[Found, ...]]] = [
    (hole, (("HOLES", 1, 3),)),
    (sealed_twice, (("INSERTED", 4, 1),)),
    (reused, (("SEQUENCE-REUSED", 4, 1),)),
    (reused_of_a_rejected, (("SEQUENCE-REUSED", 4, 1),)),
    (duplicate_of_nothing, (("HOLES", 2, 1),)),
    (not_opened, (("BAD-SIGNATURE", 2, 1),)),
    (opened_by_another_source, (("BAD-SIGNATURE", 2, 1),)),
    (opened_for_another_run, (("BAD-SIGNATURE", 2, 1),)),
    (opened_for_another_deployment, (("BAD-SIGNATURE", 2, 1),)),
    (opened_for_another_topic, (("BAD-SIGNATURE", 2, 1),)),
    (opened_before_the_certificate, (("BAD-SIGNATURE", 2, 1),)),
    (opened_by_nobody, (("BAD-SIGNATURE", 2, 1),)),
    (opened_with_rubbish, (("BAD-SIGNATURE", 2, 1),)),
    (opened_without_session, (("BAD-SIGNATURE", 2, 1),)),
    (back_in_time, (("ALTERED", 3, 1),)),
    (later_than_the_checkpoint, (("ALTERED", 2, 3),)),
    (offsets_left_out, (("HOLES", 2, 1),)),
    (offset_twice, (("HOLES", 3, 1),)),
    (event_for_two_offsets, (("HOLES", 2, 1),)),
    (gap_of_nothing, (("HOLES", 2, 1),)),
    (second_genesis, (("HOLES", 2, 1),)),
    (other_event_id, (("ALTERED", 2, 1),)),
    (note_of_no_form, (("ALTERED", 2, 1),)),
    (note_that_does_not_decode, (("ALTERED", 2, 1),)),
    (event_in_another_tenants_name, (("ALTERED", 2, 1),)),
]


@pytest.mark.parametrize(("act", "expected"), INSIDERS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_a_sealer_did_wrong_is_found_at_the_seal_that_did_it(
    act: Callable[[ChainScript, RunScript], None], expected: tuple[Found, ...]
) -> None:
    script, run = opened()
    act(script, run)
    script.heartbeat()
    report = verify(one_segment(script).archive)
    assert findings(report) == sorted(expected, key=str)
    assert not report.good


def in_two_chains() -> Built:
    """A run that shows in both chains, in the second after two other seals."""
    chains = {}
    for chain in CHAINS:
        script, run = ChainScript(chain), RunScript("github", epoch(1))
        script.genesis()
        if chain == CHAINS[1]:
            script.gap(5)
        script.open(run)
        script.event(run)
        script.heartbeat()
        chains[chain] = [script.entries]
    return build(chains)


def test_a_run_that_shows_in_two_chains_is_inserted_where_it_begins_in_the_second() -> None:
    report = verify(in_two_chains().archive)
    assert [(f.kind, f.step, f.chain, f.seq, f.count) for f in report.findings] == [("INSERTED", 13, CHAINS[1], 2, 1)]


def test_a_chain_that_does_not_begin_with_genesis_is_found() -> None:
    script, run = ChainScript(), RunScript("github", epoch(1))
    script.open(run)
    assert findings(verify(one_segment(script).archive)) == [("HOLES", 0, 1)]


def test_a_chain_that_begins_above_offset_0_says_so() -> None:
    script = ChainScript()
    script.maker.offset = 40
    script.genesis()
    report = verify(one_segment(script).archive)
    assert any("begins at raw offset 40" in caveat for caveat in report.caveats)


def test_seals_after_the_last_signed_one_are_unattested_and_not_good() -> None:
    script, run = opened()
    script.event(run)
    script.event(run)
    report = verify(build({CHAINS[0]: [script.entries]}).archive)
    assert report.verdicts == {Verdict.VALID: 1, Verdict.UNATTESTED: 3}
    assert not report.findings
    assert not report.good


def test_a_sealer_that_rewrites_history_forks_the_tree_that_a_kept_checkpoint_states() -> None:
    old, new = built_small(), ChainScript()
    run = RunScript("github", epoch(3))
    new.genesis()
    new.open(run)
    for _ in range(20):
        new.event(run)
    rewritten = one_segment(new)
    trusted = checkpoint_of(flat(old))
    assert verify(rewritten.archive).good  # without the checkpoint nothing shows
    assert findings(verify(rewritten.archive, trusted=trusted)) == [("FORKED", 0, 20)]


def test_a_kept_checkpoint_that_no_certified_key_signed_is_a_finding_never_ignored() -> None:
    """Else whoever removes the newer segments removes the newer archive key's certificate too, and the cut is unseen."""
    archive = built().archive.without(built().key(4))
    trusted = checkpoint_of(flat(built()), archive_key="archive-2")
    assert findings(verify(archive, trusted=trusted)) == [("TRUNCATED", 18, 5)]
    gone = archive.without(layout.certificate_key(hashlib.sha256(public_of("archive-2")).digest()))
    assert findings(verify(gone, trusted=trusted)) == [("UNKNOWN-KEY", 0, 1)]


def test_a_kept_checkpoint_must_be_genuine_as_one_in_the_archive_is() -> None:
    entries, archive = flat(built()), built().archive.copy()
    expired = certificate("archive-expired", Role.ARCHIVE, after_s=START_S - 3600)
    archive.put(layout.certificate_key(hashlib.sha256(public_of("archive-expired")).digest()), expired)
    good = checkpoint_of(entries)
    *lines, one, two = good.splitlines(keepends=True)
    stranger = "— stranger " + base64.b64encode(bytes(68)).decode() + "\n"
    kept = {
        "outside its key's time": checkpoint_of(entries, archive_key="archive-expired"),
        "of a key elsewhere": checkpoint_of(entries, archive_key="archive-elsewhere"),
        "one signature more": good + stranger,
        "one less": "".join([*lines, one]),
        "in another order": "".join([*lines, two, one]),
        "another chain's": checkpoint_of(flat(built(), CHAINS[1])),
        "no checkpoint": "rubbish",
    }
    assert verify(archive, trusted=good).good
    for name, checkpoint in kept.items():
        report = verify(archive, trusted=checkpoint)
        told = [(f.kind, f.step, f.chain, f.seq, f.count) for f in report.findings]
        assert told == [("UNKNOWN-KEY", 14, CHAINS[0], 0, 1)], name


def test_a_segment_that_begins_within_another_is_a_fork_and_set_aside_whoever_signed_it() -> None:
    """The bytes do not tell which of the two was there first: the chain goes on with the one that begins first."""
    made, archive = Archive(), built().archive.copy()
    archive_segments(made, [flat(built())[:6], flat(built())[6:15]])
    archive.objects |= {
        k: made.objects[k] for k in made.objects if k == layout.segment_key(CHAINS[0], 6) or "/0-00000000000000000006" in k
    }
    report = verify(archive, trusted=checkpoint_of(flat(built())))
    assert [(f.kind, f.step, f.seq, f.count) for f in report.findings] == [("FORKED", 4, 6, 5)]
    assert report.verdicts == {Verdict.VALID: 46}
    assert report.orphans == 0


def test_a_rotated_archive_key_is_accepted_at_the_boundary_of_two_segments() -> None:
    b = built()
    archive, last = b.archive, b.segment(4)
    changed = replace(
        last,
        checkpoint=checkpoint_of(flat(b), archive_key="archive-2"),
        statement=statement_of(last, hashlib.sha256(archive.data(b.key(3))).digest(), archive_key="archive-2"),
    )
    assert verify(archive.replaced(b.key(4), encode_segment(changed))).good


def test_a_rotated_sealer_key_is_accepted_within_a_segment() -> None:
    first, second = ChainScript(), ChainScript(sealer="sealer-2")
    run = RunScript("github", epoch(1))
    first.genesis()
    first.open(run)
    first.sign_last()
    second.maker.seq, second.maker.prev, second.maker.offset = 2, first.entries[-1].leaf, 1
    second.maker.now_us += 10_000
    second.event(run, signed=True)
    b = build({CHAINS[0]: [first.entries + second.entries]})
    assert verify(b.archive).good
    without = b.archive.without(layout.certificate_key(hashlib.sha256(public_of("sealer-2")).digest()))
    assert findings(verify(without)) == [("UNKNOWN-KEY", 2, 1)]


def test_a_run_that_shows_in_two_chains_is_inserted_in_the_second() -> None:
    one, other, run = ChainScript(CHAINS[0]), ChainScript(CHAINS[1]), RunScript("github", epoch(1))
    for script in (one, other):
        script.genesis()
        script.open(run)
        script.heartbeat()
        run.number = 0
    report = verify(build({CHAINS[0]: [one.entries], CHAINS[1]: [other.entries]}).archive)
    assert [(f.kind, f.step, f.chain) for f in report.findings] == [("INSERTED", 13, CHAINS[1])]
    assert not report.intact


@pytest.mark.parametrize(("act", "intact"), [(hole, True), (reused, True), (sealed_twice, False), (offsets_left_out, False)])
def test_what_a_source_left_out_leaves_the_evidence_intact_but_not_good(
    act: Callable[[ChainScript, RunScript], None], intact: bool
) -> None:
    script, run = opened()
    act(script, run)
    report = verify(one_segment(script).archive)
    assert not report.good
    assert report.intact is intact


def test_a_certificate_under_another_keys_name_counts_for_nothing() -> None:
    archive = built().archive
    mine, other = (layout.certificate_key(hashlib.sha256(public_of(n)).digest()) for n in ("sealer", "forger"))
    moved = archive.without(mine)
    moved.put(other, archive.data(mine))
    report = verify(moved)
    assert ("UNKNOWN-KEY", None, 1) in findings(report)
    assert not report.verdicts[Verdict.VALID]


def test_a_certificate_of_a_role_from_the_future_is_passed_over_and_said() -> None:
    archive = built().archive.copy()
    text = certificate("witness", Role.SEALER).decode().partition("\n\n")[0].replace("role sealer", "role witness") + "\n"
    signature = note_signature(ROOT, signing_key("root").sign(text.encode()))
    archive.put("keys/witness.cert", format_note(text, (signature,)).encode())
    report = verify(archive)
    assert report.good
    assert any("keys/witness.cert: certificate of a role" in caveat for caveat in report.caveats)


def test_gaps_of_expired_records_are_said() -> None:
    assert any(caveat.startswith("2 gaps: raw records expired") for caveat in verify(built().archive).caveats)


# What the archive sink can do wrong with contents


def archived(entries: list[Entry], edit: Callable[[str, list[Entry]], list[Entry]]) -> Archive:
    """An archive whose sink put other contents into the frames."""
    archive = Archive()
    put_documents(archive)
    archive_segments(archive, [entries], edit_contents=edit)
    return archive


def test_a_row_that_was_left_out_is_missing_at_its_seal() -> None:
    entries = flat(built_small())
    archive = archived(entries, lambda tenant, rows: [e for e in rows if e.seal.seq != 6])
    report = verify(archive)
    assert findings(report) == [("MISSING", 6, 1)]
    assert report.verdicts[Verdict.VALID] == 19


def test_a_row_with_another_records_content_is_altered_at_its_seal() -> None:
    entries = flat(built_small())
    archive = archived(
        entries, lambda _, rows: [replace(e, content=entries[4].content) if e.seal.seq == 6 else e for e in rows]
    )
    report = verify(archive)
    assert findings(report) == [("ALTERED", 6, 1)]
    assert report.verdicts[Verdict.VALID] == 19


def test_a_row_twice_is_inserted_at_its_seal() -> None:
    entries = flat(built_small())
    archive = archived(entries, lambda _, rows: [e for e in rows for _ in range(1 + (e.seal.seq == 6))])
    assert findings(verify(archive)) == [("INSERTED", 6, 1)]


def test_a_row_of_no_seal_is_inserted() -> None:
    entries = flat(built_small())
    stray = replace(entries[5], seal=replace(entries[5].seal, seq=77))
    archive = archived(entries, lambda tenant, rows: [*rows, stray] if tenant == "acme" else rows)
    assert findings(verify(archive)) == [("INSERTED", 77, 1)]


def test_contents_swapped_between_tenants_are_altered_where_each_lies_in_the_others_frame() -> None:
    entries = flat(built_small())
    theirs = {"acme": "globex", "globex": "acme"}
    archive = archived(entries, lambda t, rows: [e for e in entries if t in theirs and e.tenant == theirs[t]] or rows)
    report = verify(archive)
    assert findings(report) == sorted((("ALTERED", seq, 1) for seq in range(2, 18)), key=str)
    assert report.verdicts[Verdict.VALID] == 4


def test_frames_put_under_another_segments_reference_do_not_open_and_are_found() -> None:
    b = built()
    one, other = b.segment(0).contents[0], b.segment(4).contents[0]
    reference = Reference(one.name, one.version, other.sha256, other.size, one.rows)
    segment = replace(b.segment(0), contents=(reference, *b.segment(0).contents[1:]))
    segment = replace(segment, statement=statement_of(segment, bytes(32)))
    archive = b.archive.replaced(b.key(0), encode_segment(segment)).replaced(one.name, b.archive.data(other.name))
    kinds = {(f.kind, f.step) for f in verify(archive).findings}
    assert (FindingKind.INSERTED, 11) in kinds


# What was not given, or not answered


def test_without_a_tenants_key_its_records_are_undecided_and_the_others_valid_and_nothing_is_a_finding() -> None:
    b = built()
    report = verify(b.archive, "acme", "@deployment")
    globex = sum(e.tenant == "globex" for e in flat(b) + flat(b, CHAINS[1]))
    assert not report.findings
    assert not report.good
    assert report.verdicts == {Verdict.VALID: 46 - globex, Verdict.UNDECIDED: globex}
    assert any("contents of tenant globex were not opened" in caveat for caveat in report.caveats)
    assert any("were not decided" in caveat for caveat in report.caveats)


def test_without_any_key_every_record_is_undecided_and_nothing_is_a_finding() -> None:
    report = verify_archive(built().archive, Trust(ROOT))
    assert not report.findings
    assert not report.good
    assert report.verdicts == {Verdict.UNDECIDED: 46}


def test_without_its_schema_a_content_is_undecided() -> None:
    archive = built().archive
    report = verify(archive.without(*archive.keys("schemas/")))
    assert not report.findings
    assert not report.good
    events = sum(e.seal.kind is Kind.EVENT for e in flat(built()) + flat(built(), CHAINS[1]))
    assert report.verdicts[Verdict.UNDECIDED] == events


@dataclass
class Silent:
    """An archive that does not answer when asked for one key."""

    archive: Archive
    silent: str

    def list(self, prefix: str) -> Iterator[object]:
        return self.archive.list(prefix)

    def read(self, key: str, version: str) -> bytes:
        if key == self.silent:
            raise UndecidedError(f"{key}: no answer")
        return self.archive.read(key, version)

    def lock(self, key: str, version: str) -> object:
        return self.archive.lock(key, version)


def test_an_object_that_the_store_does_not_give_makes_its_records_undecided_never_valid() -> None:
    b = built()
    report = verify(Silent(b.archive, b.key(1)))  # type: ignore[arg-type]
    assert not report.findings
    assert not report.good
    assert report.verdicts == {Verdict.VALID: 39, Verdict.UNDECIDED: 7}
    reference = b.segment(1).contents[0]
    report = verify(Silent(b.archive, reference.name))  # type: ignore[arg-type]
    assert not report.findings
    assert report.verdicts == {Verdict.VALID: 46 - reference.rows, Verdict.UNDECIDED: reference.rows}


# Nothing that an archive holds makes the verifier fall over


HOSTILE_SCHEMAS = [
    '{"type": "array", "items": "null"}',
    '{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}',
    '{"type": "record", "name": "E", "fields": []}',
    '"null"',
    '{"type": "fixed", "name": "F", "size": 0}',
    "[]",
    "{",
    '"string"',
    '{"type": "map", "values": "long"}',
    '{"type": "record", "name": "R", "fields": [{"name": "event_id", "type": {"type": "fixed", "name": "I", "size": 16}}]}',
    json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "event_id", "type": {"type": "fixed", "name": "I", "size": 16}},
                {"name": "emitter", "type": {"type": "record", "name": "M", "fields": [
                    {"name": n, "type": "string"} for n in ("source", "instance", "epoch", "seq")
                ]}},
                {"name": "extension", "type": "string"},
            ],
        }
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_SCHEMAS)
@pytest.mark.parametrize("body", [b"", b"\x02" * 100_000, b"\xfe" * 8 + b"\x7f", bytes(16) + b"\x02a" * 5])
def test_a_content_under_a_hostile_schema_is_reported_and_nothing_breaks(text: str, body: bytes) -> None:
    script, run = opened()
    digest = hashlib.sha256(text.encode()).digest()
    header = b""
    if text not in HOSTILE_SCHEMAS[:7]:
        header = Codec(text).header
    script.add(
        Kind.EVENT, Reason.NONE, LogClass.OPERATIONAL, Content(bytes(16), bytes(32), digest, bytes(16), header + body), 1
    )
    script.duplicate(run, 1)
    b = one_segment(script)
    b.archive.put(layout.schema_key(digest), text.encode())
    report = verify(b.archive)
    assert not report.good
    assert report.verdicts[Verdict.VALID] == 3


def test_damaged_contents_in_a_chain_with_duplicates_are_findings_in_the_second_pass_too() -> None:
    b = built()
    for reference in joined.from_iterable(b.segment(n).contents for n in range(5)):
        data = b.archive.data(reference.name)
        for damaged in (b"", data[:-1], data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :]):
            assert not verify(b.archive.replaced(reference.name, damaged)).good


@pytest.mark.parametrize("name", ["", "x" * 5000, "..", "../" * 40 + "etc/passwd", "/etc/passwd", "chains", "é" * 300])
def test_a_reference_to_a_name_that_no_file_can_have_is_a_missing_object(name: str, tmp_path: Path) -> None:
    b = built_small()
    segment = b.segment(0)
    changed = replace(segment, contents=(replace(segment.contents[0], name=name), *segment.contents[1:]))
    b.archive.replaced(b.key(0), encode_segment(changed)).write_to(tmp_path)
    report = verify_archive(LocalCopy(tmp_path), Trust(ROOT, openers(*TENANTS)))
    assert not report.good
    assert (FindingKind.MISSING, 11) in {(f.kind, f.step) for f in report.findings}


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize("text", ["\0", "a\0b", "\n", " ", "a b", "\t", "\r", "\x7f", "\x85", "\x9f"])
def test_a_reference_with_a_blank_or_control_character_makes_its_object_no_segment(field: str, text: str) -> None:
    b = built_small()
    segment = b.segment(0)
    reference = replace(segment.contents[0], **{field: text})  # type: ignore[arg-type]  # both are strings
    changed = replace(segment, contents=(reference, *segment.contents[1:]))
    sworn_to = replace(changed, statement=statement_of(changed, bytes(32)))  # by the archive's key itself
    report = verify(b.archive.replaced(b.key(0), encode_segment(sworn_to)))
    assert [(f.kind, f.step, f.seq, f.count) for f in report.findings] == [("ALTERED", 3, 0, 1)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_in_any_object_are_reported_without_another_error(data: st.DataObject) -> None:
    b = built_small()
    key = data.draw(st.sampled_from(sorted(k for k in b.archive.objects if not k.startswith("policies"))))
    whole = b.archive.data(key)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    changed = whole[:start] + data.draw(st.binary(max_size=100)) + whole[end:]
    report = verify(b.archive.replaced(key, changed))
    list(lines(report))
    json.dumps(report.as_json())
    if changed != whole and key.startswith(("chains/", "contents/")):
        assert report.findings
        assert report.verdicts[Verdict.VALID] < 20


@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "dup", "swap", "alter", "junk"]), st.integers(0, 19), st.integers(0, 19)), max_size=8
    )
)
@settings(max_examples=100, deadline=None)
def test_any_shuffle_of_seals_is_located_within_the_segment_or_is_none(acts: list[tuple[str, int, int]]) -> None:
    original = list(built_small().segment(0).seals)
    seals = list(original)
    for act, a, b in acts:
        a, b = a % max(len(seals), 1), b % max(len(seals), 1)
        if not seals:
            break
        if act == "drop":
            del seals[a]
        elif act == "dup":
            seals.insert(b, seals[a])
        elif act == "swap":
            seals[a], seals[b] = seals[b], seals[a]
        elif act == "alter":
            seals[a] = seals[a][:50] + b"\xff" + seals[a][51:]
        else:
            seals.insert(a, b"junk")
    archive = built_small().edited(0, lambda s: replace(s, seals=tuple(seals)))
    report = verify(archive)
    assert bool(report.findings) == (seals != original)
    assert all(f.seq is not None and f.seq >= 0 and f.seq + f.count <= 20 + len(seals) for f in report.findings)
    assert seals == original or not report.verdicts[Verdict.VALID]


def test_claimed_numbers_of_any_size_cost_nothing() -> None:
    seal = decode_seal(built_small().segment(0).seals[3])
    wild = [replace(seal, seq=2**62 - n * 2**40, prev=bytes(32)) for n in range(2000)]
    run = Run(wild, [bytes([n % 256]) * 32 for n in range(2000)], 0, 2**63, None)
    placed = place(run, lambda _: False)
    assert len(placed.positions) == len(placed.holders) == 2000
    assert len(placed.damages) + len(broken_links(run, placed.holders, placed.damages, frozenset())) <= 4000


def test_one_number_claimed_by_all_costs_no_more_than_another() -> None:
    seal = decode_seal(built_small().segment(0).seals[3])
    run = Run([replace(seal, seq=7 + n % 2) for n in range(50_000)], [bytes(32)] * 50_000, 0, 20, None)
    placed = place(run, lambda _: False)
    assert sorted(placed.holders) == [7, 8]
    # Numbers 0 to 6 are gone, others stand in the places of 9 to 19, and all but these and the two are extra.
    assert len(placed.damages) == 1 + 11 + (50_000 - 2 - 11)


# The command


def test_the_command_exits_0_for_a_good_copy_and_1_for_a_changed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, keys, root = tmp_path / "copy", tmp_path / "keys", tmp_path / "root.vkey"
    built().archive.write_to(copy)
    keys.mkdir()
    for tenant in TENANTS:
        (keys / f"{tenant}.key").write_bytes(seed(f"tenant-data-{tenant}"))
    root.write_text(ROOT.vkey + "\n")
    arguments = [str(copy), "--root", str(root), "--keys", str(keys), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["good"] is True
    checkpoint = tmp_path / "kept"
    checkpoint.write_text(built().segment(4).checkpoint)
    assert main([*arguments, "--checkpoint", str(checkpoint)]) == 0
    (copy / built().key(4)).unlink()
    assert main(arguments) == 0
    assert main([*arguments, "--checkpoint", str(checkpoint)]) == 1
    path = copy / built().key(1)
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert main(arguments) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["finding"] == "ALTERED"
    assert main([str(tmp_path / "nowhere"), "--root", str(root)]) == 3
    root.write_text("nonsense")
    assert main([str(copy), "--root", str(root)]) == 3


def test_a_folder_that_cannot_be_listed_is_undecided_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built().archive.write_to(tmp_path)
    scandir = os.scandir
    hidden = tmp_path / layout.segments_prefix(CHAINS[1]).rstrip("/")

    def refuse(path: str) -> object:
        if Path(path) == hidden:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UndecidedError, match="Permission denied"):
        verify_archive(LocalCopy(tmp_path), Trust(ROOT, openers(*TENANTS)))


def test_links_that_lead_out_of_a_copy_or_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    built().archive.write_to(copy)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (copy / "keys" / "out.cert").symlink_to(outside)
    (copy / "keys" / "circle.cert").symlink_to(copy / "keys" / "circle.cert")
    local = LocalCopy(copy)
    assert verify_archive(local, Trust(ROOT, openers(*TENANTS))).good
    assert not [o for o in local.list("keys/") if "out" in o.key or "circle" in o.key]
