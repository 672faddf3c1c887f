"""Segments and frames: one form each, bound to their place, and no bytes that break what reads them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.avro import read_container, write_container
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.layout import (
    chain_name,
    contents_key,
    is_chain,
    lock_date_ms,
    parse_segment_key,
    segment_key,
)
from sealtrail.note import parse_note
from sealtrail.seal import Content, Signature
from sealtrail.segment import (
    FRAME,
    SEGMENT,
    Frame,
    Reference,
    Segment,
    Statement,
    check_references,
    decode_frames,
    decode_segment,
    encode_frames,
    encode_segment,
    open_frame,
    parse_statement,
    references_digest,
    seal_frame,
    statement_text,
    verify_statement,
)
from sealtrail.session import hpke_open
from sealtrail.sworn import sworn
from tests.archives import (
    CHAINS,
    NOT_AFTER_S,
    NOT_BEFORE_S,
    PART,
    built,
    built_small,
    counted,
    opening_key,
    public_of,
    statement_of,
    tenant_public,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
long = st.integers(0, 2**63 - 1)
digest = st.binary(min_size=32, max_size=32)
unparted = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" "), max_size=30)
references = st.builds(Reference, unparted, unparted, digest, long, long)
contents = st.builds(Content, *(st.binary(min_size=n, max_size=n) for n in (16, 32, 32, 16)), content=st.binary(max_size=60))
segments = st.builds(
    Segment,
    chain=text,
    first_seq=long,
    frontier=st.lists(digest, max_size=3).map(tuple),
    seals=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
    signatures=st.lists(st.tuples(long, st.builds(Signature, digest, st.binary(min_size=64, max_size=64))), max_size=3).map(
        tuple
    ),
    contents=st.lists(references, max_size=2).map(tuple),
    checkpoint=text,
    statement=text,
)
frames = st.builds(
    Frame, text, long, text, text, digest, st.binary(max_size=90), st.binary(min_size=12, max_size=12), st.binary(max_size=60)
)
ACME = partial(hpke_open, opening_key("tenant-data-acme"))
KEYRING = Keyring([Certificate(Role.ARCHIVE, PART, public_of("archive"), NOT_BEFORE_S, NOT_AFTER_S)])


def acme_frame(rows: list[tuple[int, Content]]) -> Frame:
    """A frame of tenant acme."""
    public = tenant_public("acme")
    return seal_frame(rows, chain="c", first_seq=5, log_class="debug", tenant="acme", public=public, random=counted("test"))


def test_a_small_object_cannot_claim_a_great_many_seals() -> None:
    made = decode_segment(built().archive.data(built().key(0)))
    with pytest.raises(EvidenceError, match="they are none"):
        decode_segment(encode_segment(replace(made, seals=(b"",) * 5000)))
    one = replace(made, seals=(b"", *made.seals[1:]))
    assert decode_segment(encode_segment(one)) == one, "one that is damaged is found as that"


@given(segments)
def test_a_segment_decodes_to_itself_from_one_form_of_bytes(segment: Segment) -> None:
    data = encode_segment(segment)
    assert decode_segment(data) == segment
    assert encode_segment(decode_segment(data)) == data
    assert segment.next_seq == segment.first_seq + len(segment.seals)


@given(st.lists(frames, max_size=3))
def test_frames_decode_to_themselves(made: list[Frame]) -> None:
    assert decode_frames(encode_frames(made)) == made


@given(st.data())
@settings(max_examples=300)
def test_changed_bytes_of_a_segment_or_contents_are_refused_or_decode_to_another(data: st.DataObject) -> None:
    b = built_small()
    for key, decode in ((b.key(0), decode_segment), (b.segment(0).contents[0].name, decode_frames)):
        whole = b.archive.data(key)
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 30)))
        changed = whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:]
        try:
            value = decode(changed)
        except EvidenceError:
            continue
        assert (value == decode(whole)) == (changed == whole)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_evidence_error_for_segments_and_frames(data: bytes) -> None:
    for codec, decode in ((SEGMENT, decode_segment), (FRAME, decode_frames)):
        for candidate in (data, write_container([], codec) + data):
            if candidate == write_container([], FRAME):
                continue  # an object without frames, which holds nothing
            with pytest.raises(EvidenceError):
                decode(candidate)


@pytest.mark.parametrize("count", [0, 2])
def test_a_segment_object_holds_exactly_one_segment(count: int) -> None:
    record = read_container(built().archive.data(built().key(0)), SEGMENT)[0]
    with pytest.raises(EvidenceError, match=f"{count} records"):
        decode_segment(write_container([record] * count, SEGMENT))


def test_other_versions_are_refused() -> None:
    record = read_container(built().archive.data(built().key(0)), SEGMENT)[0] | {"version": 2}
    with pytest.raises(EvidenceError, match="version 2"):
        decode_segment(write_container([record], SEGMENT))
    name = built().segment(0).contents[0].name
    frame = read_container(built().archive.data(name), FRAME)[0] | {"version": 2}
    with pytest.raises(EvidenceError, match="version 2"):
        decode_frames(write_container([frame], FRAME))


@given(st.lists(st.tuples(long, contents), max_size=4))
@settings(max_examples=40)
def test_a_frame_opens_to_the_rows_that_were_sealed(rows: list[tuple[int, Content]]) -> None:
    assert open_frame(acme_frame(rows), ACME) == rows


@pytest.mark.parametrize("field", ["chain", "log_class", "tenant", "first_seq", "nonce", "wrapped_key", "ciphertext"])
def test_a_frame_put_elsewhere_or_altered_does_not_open(field: str) -> None:
    frame = acme_frame([(5, Content(bytes(16), bytes(32), bytes(32), bytes(16), b"content"))])
    old = getattr(frame, field)
    changed = {str: lambda: old + "x", int: lambda: old + 1, bytes: lambda: old[:-1] + bytes([old[-1] ^ 1])}[type(old)]()
    with pytest.raises(EvidenceError):
        open_frame(replace(frame, **{field: changed}), ACME)


def test_a_frame_opens_with_its_tenants_key_only() -> None:
    with pytest.raises(EvidenceError):
        open_frame(acme_frame([]), partial(hpke_open, opening_key("tenant-data-globex")))


def test_two_frames_of_the_same_rows_share_no_bytes_of_key_or_text() -> None:
    one, other = (
        seal_frame(
            [], chain="c", first_seq=0, log_class="debug", tenant="acme", public=tenant_public("acme"), random=counted(n)
        )
        for n in "ab"
    )
    assert one.nonce != other.nonce
    assert one.wrapped_key != other.wrapped_key
    assert one.ciphertext != other.ciphertext


@given(
    text.filter(lambda name: bool(name) and "\n" not in name),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    digest,
    digest,
)
def test_a_statement_is_parsed_as_it_was_written(chain: str, first: int, count: int, previous: bytes, refs: bytes) -> None:
    statement = Statement(chain, first, count, previous, refs)
    assert parse_statement(statement.text) == statement


STATEMENT = statement_text("c", 5, 2, bytes(32), ())
BAD = {
    "nothing": "",
    "another context": STATEMENT.replace("segment/v1", "segment/v2"),
    "a line more": STATEMENT + "more\n",
    "a line less": STATEMENT.replace("count 2\n", ""),
    "no last newline": STATEMENT[:-1],
    "a zero before": STATEMENT.replace("first 5", "first 05"),
    "a negative count": STATEMENT.replace("count 2", "count -2"),
    "other digits": STATEMENT.replace("count 2", "count ٢"),
    "capitals": STATEMENT.replace("previous 00", "previous AA"),
    "a short digest": STATEMENT.replace("previous 00", "previous 0"),
    "no chain": STATEMENT.replace("chain c", "chain "),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_text_that_is_no_statement_is_refused(bad: str) -> None:
    assert bad != STATEMENT
    with pytest.raises(EvidenceError):
        parse_statement(bad)


def test_a_statement_binds_place_predecessor_and_references() -> None:
    segment = built().segment(1)
    previous = hashlib.sha256(built().archive.data(built().key(0))).digest()
    public = public_of("archive")
    verify_statement(segment, previous, public)
    changes = [
        replace(segment, chain=CHAINS[1]),
        replace(segment, first_seq=5),
        replace(segment, seals=segment.seals[:-1]),
        replace(segment, contents=segment.contents[::-1]),
        replace(segment, contents=(replace(segment.contents[0], version="v2"), *segment.contents[1:])),
        replace(segment, statement=statement_of(segment, previous, archive_key="forger")),
        replace(segment, statement=""),
    ]
    for changed in changes:
        with pytest.raises(EvidenceError):
            verify_statement(changed, previous, public)
    with pytest.raises(EvidenceError):
        verify_statement(segment, bytes(32), public)
    with pytest.raises(EvidenceError):
        verify_statement(segment, previous, public_of("forger"))


def test_the_references_digest_depends_on_every_field_and_on_their_order() -> None:
    one, other = Reference("a", "v1", bytes(32), 1, 2), Reference("b", "v1", bytes(32), 1, 2)
    changed = (
        replace(one, name="c"),
        replace(one, version="v2"),
        replace(one, sha256=b"\x01" * 32),
        replace(one, size=9),
        replace(one, rows=9),
    )
    variants = [(one, other), (other, one), (one,), (), *((v, other) for v in changed)]
    assert len({references_digest(v) for v in variants}) == len(variants)


@given(st.lists(references, max_size=3), st.lists(references, max_size=3))
def test_lists_of_references_that_pass_have_one_digest_each(some: list[Reference], others: list[Reference]) -> None:
    check_references([*some, *others])
    assert (references_digest(some) == references_digest(others)) == (some == others)


@pytest.mark.parametrize("line", ["first 4", "count 7"])
def test_a_statements_numbers_are_as_large_as_a_long_at_most(line: str) -> None:
    text = parse_note(built().segment(1).statement.encode()).text
    name = line.split(maxsplit=1)[0]
    assert parse_statement(text.replace(f"{line}\n", f"{name} {2**63 - 1}\n", 1))
    for number in (str(2**63), "04", "-1", "+4", "4.0", "1e3", "٣"):
        with pytest.raises(EvidenceError):
            parse_statement(text.replace(f"{line}\n", f"{name} {number}\n", 1))


def test_every_bit_of_the_notes_changed_leaves_less_sworn() -> None:
    segment = built().segment(1)
    whole = sworn(segment, KEYRING)
    assert not whole.problems
    assert (whole.end, whole.checkpoint and whole.checkpoint.checkpoint.size) == (segment.next_seq, segment.next_seq)
    for name in ("checkpoint", "statement"):
        data = getattr(segment, name).encode()
        for bit in range(8 * len(data)):
            changed = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
            try:
                note = changed.decode()
            except UnicodeDecodeError:
                continue  # no string of a segment can carry it
            result = sworn(replace(segment, **{name: note}), KEYRING)
            assert result.problems
            assert getattr(result, name) is None


# Names


def test_a_segments_key_names_chain_and_first_seq() -> None:
    for seq in (0, 50_112, 10**20 - 1):
        assert parse_segment_key(segment_key(CHAINS[0], seq)) == (CHAINS[0], seq)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "chains/",
        segment_key(CHAINS[0], 0)[:-5],
        segment_key(CHAINS[0], 0) + "x",
        segment_key(CHAINS[0], 0) + "\n",
        segment_key(CHAINS[0], 0).replace("0" * 20, "0" * 19),
        segment_key(CHAINS[0], 0).replace("0" * 20, "٠" * 20),
        segment_key("../" + CHAINS[0], 0),
        segment_key(CHAINS[0] + "0", 0).replace("/00/", "/00/"),
    ],
)
def test_what_is_no_segments_key_is_refused(key: str) -> None:
    with pytest.raises(EvidenceError):
        parse_segment_key(key)


@pytest.mark.parametrize("part", ["", "a b", "a/b", ".a", "-a", "a" * 250, "é", "a\n"])
def test_a_part_that_a_chains_name_cannot_carry_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="not a chain's name"):
        chain_name(part, "local", "audit.raw", bytes(16), 0, 0)
    assert not is_chain(f"{part}/local/audit.raw.00000000.0/0")
    assert is_chain("audit.example/local/audit.raw.00000000.0/0")


@given(st.text(max_size=60))
def test_the_lock_date_of_a_contents_key_is_the_one_in_its_name_or_none(name: str) -> None:
    assert lock_date_ms(name) == 0
    assert lock_date_ms(contents_key("debug", 1_792_540_800_000, CHAINS[0], 0, "a1")) == 1_792_540_800_000
    assert lock_date_ms("contents/debug/2026-13-40/x") == 0
