"""The end of a key is a position that its successor states: what it signs beyond, or a past made anew with it, is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail import layout
from sealtrail.certificate import Certificate, Role, verify_certificate
from sealtrail.ending import End, EndReason, Ends, Kept, Mark, parse_end, sign_end, verify_end
from sealtrail.errors import EvidenceError
from sealtrail.extent import Extent
from sealtrail.keyring import Keyring
from sealtrail.note import NoteSignature, format_note, parse_note
from sealtrail.report import FindingKind, Report, Verdict
from sealtrail.segment import decode_segment
from sealtrail.verify import Trust, verify_archive
from sinks.archive.checking import Entry
from tests.archives import (
    CHAINS,
    NOT_AFTER_S,
    NOT_BEFORE_S,
    PART,
    ROOT,
    START_S,
    TENANTS,
    Archive,
    ChainScript,
    RunScript,
    archive_segments,
    certificate,
    ending,
    epoch,
    mark_of,
    openers,
    public_of,
    put_documents,
    rechained,
    resealed,
    seed,
    signing_key,
    verify,
)

CHAIN = CHAINS[0]
ROTATED_S = NOT_BEFORE_S + 3600  # when the successors' certificates begin
SEALER_END, ARCHIVE_END = 7, 12  # seals for which the first keys count

Found = tuple[str, int, int | None, int]


def key_id(name: str) -> bytes:
    return hashlib.sha256(public_of(name)).digest()


def certified(name: str, role: Role, before_s: int, label: str = PART) -> Certificate:
    return verify_certificate(certificate(name, role, label, before_s=before_s), ROOT)


FIRST = certified("sealer", Role.SEALER, START_S - 86_400)
NEXT = certified("sealer-next", Role.SEALER, ROTATED_S)
CERTIFICATES = {c.key_id: c for c in (FIRST, NEXT)}


def end_of(name: str, role: Role, marks: dict[str, Mark], **more: object) -> End:
    whole = End(role, key_id(name), key_id(f"{name}-next"), EndReason.SUPERSEDED, START_S, marks)
    return replace(whole, **more)  # type: ignore[arg-type]  # as the test gives


def signed(end: End, by: str, label: str = PART) -> bytes:
    return sign_end(end, certified(by, Role.SEALER, ROTATED_S, label), signing_key(by).sign).encode()


GOOD = end_of("sealer", Role.SEALER, {CHAIN: Mark(7, bytes(range(32)))})
TEXT = f"""\
sealtrail/end/v1
role sealer
key-id {key_id("sealer").hex()}
successor {key_id("sealer-next").hex()}
reason superseded
made 2026-09-21T14:13:20Z
chain {CHAIN} 7 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
"""


# The statement


def test_the_text_is_the_published_one_line_by_line() -> None:
    assert GOOD.text == TEXT
    assert verify_end(signed(GOOD, "sealer-next"), CERTIFICATES) == GOOD


chains = st.builds(lambda partition: f"{CHAIN[:-1]}{partition}", st.integers(0, 4096))
mark_values = st.builds(Mark, st.integers(0, 10**19 - 1), st.binary(min_size=32, max_size=32))
marks_of = st.dictionaries(chains, mark_values, max_size=30)


@given(marks_of, st.sampled_from(EndReason), st.integers(START_S, NOT_AFTER_S))
@settings(max_examples=50)
def test_a_statement_verifies_as_it_was_made(marks: dict[str, Mark], reason: EndReason, made_s: int) -> None:
    end = replace(GOOD, marks=marks, reason=reason, made_s=made_s)
    assert verify_end(signed(end, "sealer-next"), CERTIFICATES) == end


def test_it_carries_as_many_chains_as_a_large_topic_has() -> None:
    chain = CHAIN.removesuffix("0")
    end = replace(GOOD, marks={f"{chain}{n}": Mark(10**18 + n, bytes(32)) for n in range(6000)})
    assert len(verify_end(signed(end, "sealer-next"), CERTIFICATES).marks) == 6000
    too_many = {f"{chain}{n}": Mark(10**18 + n, bytes(32)) for n in range(9000)}
    with pytest.raises(ValueError, match="cannot be stated"):
        signed(replace(end, marks=too_many), "sealer-next")


BAD_TEXTS: dict[str, Callable[[str], str]] = {
    "another context": lambda t: t.replace("end/v1", "end/v2"),
    "a role that has no position": lambda t: t.replace("role sealer", "role auditor"),
    "an unknown role": lambda t: t.replace("role sealer", "role painter"),
    "an unknown reason": lambda t: t.replace("superseded", "lost"),
    "a size with a leading zero": lambda t: t.replace(" 7 ", " 07 "),
    "a negative size": lambda t: t.replace(" 7 ", " -7 "),
    "a root with stray bits": lambda t: t.replace("HR4f\n", "HR4g\n").replace("Hh8=", "Hh9="),
    "a short root": lambda t: t.replace("AAECAwQF", ""),
    "a chain that is none": lambda t: t.replace(CHAIN, "elsewhere"),
    "a chain twice": lambda t: t + t.splitlines()[-1] + "\n",
    "chains out of order": lambda t: t.replace("chain ", f"chain {CHAIN[:-1]}1 7 {'A' * 43}=\nchain "),
    "another line": lambda t: t + "note x\n",
    "a time with an offset": lambda t: t.replace("20Z", "20+00:00"),
}


@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_another_form_is_refused(bad: str) -> None:
    text = BAD_TEXTS[bad](TEXT)
    assert text != TEXT
    line = parse_note(signed(GOOD, "sealer-next")).signatures[0]
    with pytest.raises(EvidenceError):
        parse_end(format_note(text, (line,)).encode())


@given(st.data())
@settings(max_examples=200)
def test_no_bit_of_a_statement_can_change(data: st.DataObject) -> None:
    note = bytearray(signed(GOOD, "sealer-next"))
    bit = data.draw(st.integers(0, 8 * len(note) - 1))
    note[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        verify_end(bytes(note), CERTIFICATES)


@given(st.binary(max_size=600) | st.text(max_size=600).map(lambda text: text.encode("utf-8", "replace")))
def test_what_is_no_statement_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_end(data)


def test_only_a_certified_successor_of_the_same_role_and_name_states_an_end() -> None:
    note = signed(GOOD, "sealer-next")
    elsewhere = certified("sealer-next", Role.SEALER, ROTATED_S, "audit.example/other")
    rings: list[tuple[str, dict[bytes, Certificate]]] = [
        ("of no certified key", {FIRST.key_id: FIRST}),
        ("of no certified key", {NEXT.key_id: NEXT}),
        ("own role and name", {FIRST.key_id: FIRST, NEXT.key_id: replace(NEXT, role=Role.ARCHIVE)}),
        ("own role and name", {FIRST.key_id: replace(FIRST, role=Role.ARCHIVE), NEXT.key_id: NEXT}),
        ("own role and name", {FIRST.key_id: FIRST, NEXT.key_id: elsewhere}),
        ("certified from an earlier time", {FIRST.key_id: FIRST, NEXT.key_id: replace(NEXT, not_before_s=FIRST.not_before_s)}),
        ("outside the successor's time", {FIRST.key_id: FIRST, NEXT.key_id: replace(NEXT, not_after_s=START_S - 1)}),
    ]
    for problem, ring in rings:
        with pytest.raises(EvidenceError, match=problem):
            verify_end(note, ring)


def test_an_ended_key_cannot_end_its_successor_nor_itself() -> None:
    back = End(Role.SEALER, NEXT.key_id, FIRST.key_id, EndReason.COMPROMISED, START_S, {})
    note = sign_end(back, FIRST, signing_key("sealer").sign).encode()
    with pytest.raises(EvidenceError, match="certified from an earlier time"):
        verify_end(note, CERTIFICATES)
    itself = replace(GOOD, key_id=NEXT.key_id)
    with pytest.raises(EvidenceError, match="certified from an earlier time"):
        verify_end(signed(itself, "sealer-next"), CERTIFICATES)


def test_a_statement_by_another_key_under_the_successor_s_name_is_refused() -> None:
    text = GOOD.text.encode()
    other = replace(NEXT, public=public_of("sealer-3"))
    forged = sign_end(GOOD, other, signing_key("sealer-3").sign).encode()
    with pytest.raises(EvidenceError):
        verify_end(forged, CERTIFICATES)
    line = parse_note(signed(GOOD, "sealer-next")).signatures[0]
    twice = format_note(text.decode(), (line, note_signature_of(other)))
    with pytest.raises(EvidenceError, match="2 signatures"):
        verify_end(twice.encode(), CERTIFICATES)


def note_signature_of(other: Certificate) -> NoteSignature:
    return parse_note(sign_end(GOOD, other, signing_key("sealer-3").sign).encode()).signatures[0]


def test_of_several_statements_all_hold() -> None:
    first = replace(GOOD, marks={"a": Mark(7, b"1"), "b": Mark(9, b"2")})
    second = replace(GOOD, successor=bytes(32), marks={"a": Mark(5, b"3")})
    ends = Ends([first, second])
    key = GOOD.key_id
    assert (ends.limit(key, "a"), ends.limit(key, "b"), ends.limit(key, "c"), ends.limit(bytes(32), "a")) == (5, 0, 0, None)
    assert {k.size for k in ends.kept("a")} == {5, 7}
    assert ends.kept("b") == (Kept(9, b"2", f"the end of key {key.hex()}"),)
    assert ends.chains == {"a", "b"}


def test_keys_of_seals_and_checkpoints_that_were_followed_without_an_end_are_named() -> None:
    assert Keyring([FIRST, NEXT]).succeeded() == (FIRST,)
    assert Keyring([FIRST, NEXT], [GOOD]).succeeded() == ()
    assert Keyring([FIRST, replace(NEXT, name="audit.example/other")]).succeeded() == ()
    assert Keyring([FIRST, NEXT], [GOOD]).newest(Role.SEALER, START_S, lambda c: c.speaks_for(CHAIN)) == NEXT
    assert Keyring([FIRST, NEXT], [GOOD]).newest(Role.SEALER, ROTATED_S - 1, lambda c: c.speaks_for(CHAIN)) is None


# Archives


def rotated() -> tuple[list[Entry], list[str]]:
    """A chain of four segments: the sealer's key changed after seal 6, the archive's after the segment that ends at 12."""
    script, run = ChainScript(), RunScript("github", epoch(1))
    script.genesis()
    script.open(run)
    for _ in range(18):
        script.event(run)
    sign = {True: "sealer", False: "sealer-next"}
    signed_at = {4, 6, 7, 11, 15, 19}
    entries: list[Entry] = []
    for number, entry in enumerate(script.entries):
        seal = replace(entry.seal, prev=entries[-1].leaf if entries else bytes(32), signed=number in signed_at or not number)
        entries.append(resealed(entry, seal, sign[number < SEALER_END]))
    return entries, ["archive", "archive", "archive-next", "archive-next"]


def segments_of(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    return [entries[0:5], entries[5:12], entries[12:16], entries[16:20]]


def archive_of(entries: Sequence[Entry], keys: Sequence[str]) -> Archive:
    archive = Archive()
    put_documents(archive)
    for name, role in (("sealer-next", Role.SEALER), ("archive-next", Role.ARCHIVE)):
        archive.put(layout.certificate_key(key_id(name)), certificate(name, role, before_s=ROTATED_S))
    archive_segments(archive, segments_of(entries), archive_key=keys)
    return archive.without(*(layout.certificate_key(key_id(name)) for name in ("sealer-2", "sealer-expired", "archive-2")))


def with_both(archive: Archive, entries: Sequence[Entry]) -> Archive:
    once = ending(archive, "sealer", Role.SEALER, {CHAIN: mark_of(entries, SEALER_END)})
    return ending(once, "archive", Role.ARCHIVE, {CHAIN: mark_of(entries, ARCHIVE_END)})


def end_in(archive: Archive) -> str:
    """Where the sealer's end lies."""
    return next(key for key in archive.keys(f"keys/{key_id('sealer').hex()}") if key.endswith(".end"))


def found(report: Report) -> list[Found]:
    return [(str(f.kind), f.step, f.seq, f.count) for f in report.findings]


def test_a_chain_whose_keys_changed_is_good_with_and_without_their_ends_stated() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    report = verify(archive)
    assert report.good
    assert any("2 keys have a successor and no stated end" in caveat for caveat in report.caveats)
    stated = verify(with_both(archive, entries))
    assert stated.good
    assert stated.verdicts == {Verdict.VALID: 20}
    assert not any("no stated end" in caveat for caveat in stated.caveats)


def test_a_seal_signed_beyond_the_end_of_its_key_is_found_there() -> None:
    entries, keys = rotated()
    late = [*entries[:15], resealed(entries[15], entries[15].seal, "sealer"), *entries[16:]]
    archive = archive_of(late, keys)
    assert verify(archive).good, "the certificate alone allows it"
    report = verify(with_both(archive, late))
    assert found(report) == [("UNKNOWN-KEY", 7, 15, 1)]
    assert "ended before this seal" in report.findings[0].detail


def test_the_last_seal_that_counts_counts_and_the_next_does_not() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    at_it = ending(archive, "sealer", Role.SEALER, {CHAIN: mark_of(entries, SEALER_END)})
    before_it = ending(archive, "sealer", Role.SEALER, {CHAIN: mark_of(entries, SEALER_END - 1)})
    assert verify(at_it).good
    assert found(verify(before_it)) == [("UNKNOWN-KEY", 7, 6, 1)]


def test_a_checkpoint_made_beyond_the_end_of_the_archive_s_key_is_found() -> None:
    entries, _ = rotated()
    keys = ["archive", "archive", "archive", "archive-next"]
    archive = archive_of(entries, keys)
    assert verify(archive).good
    report = verify(ending(archive, "archive", Role.ARCHIVE, {CHAIN: mark_of(entries, ARCHIVE_END)}))
    assert found(report) == [("BAD-SIGNATURE", 10, 12, 4)]
    assert report.verdicts[Verdict.VALID] == 16


@pytest.mark.parametrize("changed", [2, 6])
def test_a_past_made_anew_with_the_old_keys_is_found_though_all_of_it_verifies(changed: int) -> None:
    """Who holds both old keys, expired or not, can write another past and date it back; the stated roots do not fit it."""
    entries, keys = rotated()
    content = replace(entries[changed].content, salt=seed("another past")[:16])
    other = replace(entries[changed], content=content, seal=replace(entries[changed].seal, content_digest=content.digest()))

    def sign(entry: Entry, seal: object) -> Entry:
        return resealed(entry, seal, "sealer" if entry.seal.seq < SEALER_END else "sealer-next")  # type: ignore[arg-type]

    forged = rechained([*entries[:changed], other, *entries[changed + 1 :]], sign=sign)
    archive = archive_of(forged, keys)
    assert verify(archive).good, "signatures, certificates and times are all in order"
    report = verify(with_both(archive, entries))
    assert found(report) == [("FORKED", 14, 0, SEALER_END)]


def test_a_chain_cut_before_the_end_of_a_key_is_shorter_than_its_successor_swore() -> None:
    entries, keys = rotated()
    archive = with_both(archive_of(entries, keys), entries)
    cut = archive.without(*archive.keys(layout.segments_prefix(CHAIN))[1:])
    assert found(verify(cut)) == [("TRUNCATED", 14, 5, ARCHIVE_END - 5)]
    none = archive.without(*archive.keys(layout.segments_prefix(CHAIN)))
    assert found(verify(none)) == [("TRUNCATED", 14, 0, 1)]


def test_in_a_chain_that_its_end_does_not_name_a_key_counts_for_nothing() -> None:
    entries, keys = rotated()
    archive = ending(archive_of(entries, keys), "sealer", Role.SEALER, {})
    report = verify(archive)
    assert [f[:3] for f in found(report)] == [("UNKNOWN-KEY", 7, seq) for seq in (0, 4, 6)]
    assert report.verdicts[Verdict.UNATTESTED] > 0


def test_a_run_opened_beyond_the_end_of_its_source_s_key_is_found() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    assert verify(ending(archive, "source-github", Role.SOURCE, {CHAIN: mark_of(entries, 2)}, "github")).good
    report = verify(ending(archive, "source-github", Role.SOURCE, {CHAIN: mark_of(entries, 1)}, "github"))
    assert found(report) == [("BAD-SIGNATURE", 13, 1, 1)]


def test_a_part_of_a_chain_says_that_the_ends_of_keys_were_not_compared() -> None:
    entries, keys = rotated()
    archive = with_both(archive_of(entries, keys), entries)
    since = entries[16].seal.sealed_at_us
    report = verify_archive(archive, Trust(ROOT, openers(*TENANTS)), extent=Extent(from_us=since))
    assert not report.findings
    assert sum("from being compared" in caveat for caveat in report.caveats) == 2
    upto = verify_archive(archive, Trust(ROOT, openers(*TENANTS)), extent=Extent(to_us=entries[5].seal.sealed_at_us))
    assert not upto.findings
    assert sum("lies beyond what was verified" in caveat for caveat in upto.caveats) == 2


EDITS: dict[str, Callable[[Archive, str], str]] = {
    "by nobody certified": lambda archive, key: archive.put(key, signed(GOOD, "sealer-3")),
    "rubbish": lambda archive, key: archive.put(key, b"rubbish"),
    "under another name": lambda archive, key: archive.put(key.replace("-", "-00"), archive.data(key)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_statement_that_does_not_verify_is_a_finding_and_does_not_replace_one_that_does(edit: str) -> None:
    entries, keys = rotated()
    archive = with_both(archive_of(entries, keys), entries)
    EDITS[edit](archive, end_in(archive))
    report = verify(archive)
    assert [f[:2] for f in found(report)] == [("UNKNOWN-KEY", 1)]
    late = [*entries[:15], resealed(entries[15], entries[15].seal, "sealer"), *entries[16:]]
    other = with_both(archive_of(late, keys), late)
    EDITS[edit](other, end_in(other))
    assert ("UNKNOWN-KEY", 7, 15, 1) in found(verify(other))


def test_a_delete_marker_over_a_statement_hides_nothing() -> None:
    entries, keys = rotated()
    late = [*entries[:15], resealed(entries[15], entries[15].seal, "sealer"), *entries[16:]]
    archive = with_both(archive_of(late, keys), late)
    archive.put(end_in(archive), None)
    assert {f[:2] for f in found(verify(archive))} == {("HIDDEN", 2), ("UNKNOWN-KEY", 7)}


def test_a_checkpoint_kept_from_a_key_that_ended_later_still_counts() -> None:
    entries, keys = rotated()
    archive = with_both(archive_of(entries, keys), entries)
    kept = archive_segment_checkpoint(archive, 1)
    assert verify(archive, trusted=kept).good


def archive_segment_checkpoint(archive: Archive, number: int) -> str:
    return decode_segment(archive.data(archive.keys(layout.segments_prefix(CHAIN))[number])).checkpoint


def test_findings_of_one_cause_are_one() -> None:
    """Another root at one size is another root at every later one."""
    entries, keys = rotated()
    archive = with_both(archive_of(entries, keys), entries)
    marks = {CHAIN: Mark(3, bytes(32))}
    assert [f.kind for f in verify(ending(archive, "source-github", Role.SOURCE, marks, "github")).findings] == [
        FindingKind.FORKED
    ]
