"""The archive sink's pure part: what it checks of a record, where it cuts, what it locks, what its objects say."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError, SealtrailError
from sealtrail.layout import DAY_MS
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    Content,
    Kind,
    LogClass,
    Reason,
    Signature,
    decode_sealed_event,
    encode_sealed_event,
)
from sealtrail.segment import Reference, decode_frames, encode_segment, open_frame
from sealtrail.session import hpke_open
from sinks.archive.checking import ChainCheck, Entry, Position, TenantReader, UnknownSchemaError
from sinks.archive.writer import (
    Cutter,
    Head,
    Limits,
    LockMode,
    LockRules,
    build_segment,
    contents_object,
    parts_of,
    read_segment,
    same_seals,
    segment_lock,
)
from tests.chains import SECOND_US, START_US, ChainMaker

SEALER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ARCHIVE = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
ARCHIVE_PUBLIC = ARCHIVE.public_key().public_bytes_raw()
TENANT = X25519PrivateKey.from_private_bytes(bytes(range(3, 35)))
FOREVER = 4_000_000_000
TENANT_OF = TenantReader({AUDIT_EVENT.sha256: AUDIT_EVENT.header})
LIMITS = Limits(seals=10, content_bytes=100_000, record_time_us=30 * SECOND_US, idle_time_us=3600 * SECOND_US)


def certificate(key: Ed25519PrivateKey, role: Role) -> Certificate:
    return Certificate(role, "audit.example", key.public_key().public_bytes_raw(), 0, FOREVER)


SEALER_CERTIFICATE = certificate(SEALER, Role.SEALER)
ARCHIVE_CERTIFICATE = certificate(ARCHIVE, Role.ARCHIVE)


def find_key(key_id: bytes) -> Certificate | None:
    return SEALER_CERTIFICATE if key_id == SEALER_CERTIFICATE.key_id else None


def maker(**rest: object) -> ChainMaker:
    return ChainMaker.with_key(SEALER, **rest)


def check(chain: str) -> ChainCheck:
    return ChainCheck(Position(chain), find_key, TENANT_OF)


def entries_of(made: ChainMaker, values: list[bytes]) -> list[Entry]:
    checked = check(made.chain)
    return [checked(value) for value in values]


def rules(now_ms: int = START_US // 1000, longest_days: int = 60) -> LockRules:
    return LockRules(
        lambda c: LockMode.GOVERNANCE if c is LogClass.DEBUG else LockMode.COMPLIANCE, longest_days * DAY_MS, now_ms
    )


# -- checks


def test_a_valid_chain_passes_and_each_entry_names_its_tenant() -> None:
    made = maker()
    values = [made.genesis(), made.event("acme"), made.event("globex"), made.rejected(), made.heartbeat()]
    tenants = [entry.tenant for entry in entries_of(made, values)]
    assert tenants == [DEPLOYMENT_TENANT, "acme", "globex", DEPLOYMENT_TENANT, DEPLOYMENT_TENANT]


def _second(change: str) -> bytes:
    """The value after GENESIS, wrong in one way."""
    made = maker()
    made.genesis()
    match change:
        case "wrong prev":
            made.prev = bytes(32)
        case "seq left out":
            made.seq = 2
        case "seq again":
            made.seq = 0
        case "other chain":
            made.chain = made.chain[:-1] + "1"
        case "earlier sealed_at":
            made.now_us -= 1
        case "other key":
            made.sign = OTHER.sign
        case "unknown key":
            made.key_id, made.sign = bytes(32), OTHER.sign
        case "retained to the past":
            made.retain_days = -2
        case "second genesis":
            return made.genesis()
    event = made.event(signed=True)
    decoded = decode_sealed_event(event)
    match change:
        case "content altered":
            flipped = decoded.content.content[:-1] + bytes([decoded.content.content[-1] ^ 1])
            return encode_sealed_event(replace(decoded, content=replace(decoded.content, content=flipped)))
        case "salt altered":
            return encode_sealed_event(replace(decoded, content=replace(decoded.content, salt=b"\x01" * 16)))
        case "signature left out":
            return encode_sealed_event(replace(decoded, signature=None))
        case "signature altered":
            assert decoded.signature is not None
            return encode_sealed_event(replace(decoded, signature=replace(decoded.signature, value=bytes(64))))
        case "trailing byte":
            return event + b"\x00"
        case "empty":
            return b""
    return event


@pytest.mark.parametrize(
    "change",
    [
        "wrong prev",
        "seq left out",
        "seq again",
        "other chain",
        "earlier sealed_at",
        "other key",
        "unknown key",
        "retained to the past",
        "second genesis",
        "content altered",
        "salt altered",
        "signature left out",
        "signature altered",
        "trailing byte",
        "empty",
    ],
)
def test_a_record_that_does_not_continue_the_chain_is_refused_and_the_check_stands_still(change: str) -> None:
    made = maker()
    checked = check(made.chain)
    checked(made.genesis())
    before = checked.position
    with pytest.raises(EvidenceError, match="seq 1"):
        checked(_second(change))
    assert checked.position == before
    checked(made.event())  # the right one still passes


def test_a_signature_on_a_seal_that_does_not_say_signed_is_refused() -> None:
    made = maker()
    checked = check(made.chain)
    checked(made.genesis())
    event = decode_sealed_event(made.event())
    with pytest.raises(EvidenceError, match="does not say signed"):
        checked(encode_sealed_event(replace(event, signature=Signature(made.key_id, bytes(64)))))


def test_a_sealer_key_outside_its_time_is_refused() -> None:
    made = maker()
    expired = replace(SEALER_CERTIFICATE, not_after_s=START_US // SECOND_US - 1)
    checked = ChainCheck(Position(made.chain), lambda _: expired, TENANT_OF)
    with pytest.raises(EvidenceError, match="not valid"):
        checked(made.genesis())


def _forged(content: Content, log_class: LogClass = LogClass.SECURITY, kind: Kind = Kind.EVENT) -> bytes:
    made = maker()
    made.genesis()
    return made.seal(kind, Reason.NONE, log_class, content, 1, signed=False)


EVENT = bytes(16)
HEADER = AUDIT_EVENT.header


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("other header", b"\xc3\x01" + bytes(8) + EVENT + b"\x02a\x08acme"),
        ("other event id", HEADER + b"\x01" * 16 + b"\x02a\x08acme"),
        ("over-long length", HEADER + EVENT + b"\x82\x00a\x08acme"),
        ("negative length", HEADER + EVENT + b"\x01a\x08acme"),
        ("length past the end", HEADER + EVENT + b"\x02a\x7eacme"),
        ("huge length", HEADER + EVENT + b"\xff\xff\xff\xff\xff\xff\x01"),
        ("tenant of a wrong form", HEADER + EVENT + b"\x02a\x08AC/E"),
        ("tenant not ASCII", HEADER + EVENT + b"\x02a\x08ac\xc3\xa9"),
        ("nothing", b""),
    ],
)
def test_a_content_whose_tenant_cannot_be_read_is_refused(name: str, data: bytes) -> None:
    made = maker()
    checked = check(made.chain)
    checked(made.genesis())
    with pytest.raises(EvidenceError, match="content"):
        checked(_forged(Content(bytes(16), bytes(32), AUDIT_EVENT.sha256, EVENT, data)))


def test_an_event_schema_that_this_release_does_not_know_is_waited_for_not_refused() -> None:
    made = maker()
    checked = check(made.chain)
    checked(made.genesis())
    with pytest.raises(UnknownSchemaError):
        checked(_forged(Content(bytes(16), bytes(32), b"\x07" * 32, EVENT, b"")))


@given(st.binary(max_size=60))
def test_no_bytes_break_the_tenant_reader_other_than_by_evidence_error(tail: bytes) -> None:
    made = maker()
    checked = check(made.chain)
    checked(made.genesis())
    with contextlib.suppress(EvidenceError):  # what most of these deserve; anything else fails
        checked(_forged(Content(bytes(16), bytes(32), AUDIT_EVENT.sha256, EVENT, HEADER + EVENT + tail)))


# -- cuts


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["event", "heartbeat", "rejected"]),
        st.sampled_from(["acme", "globex"]),
        st.sampled_from([LogClass.SECURITY, LogClass.ADMIN, LogClass.DEBUG]),
        st.booleans(),
        st.integers(0, 12 * SECOND_US),
        st.integers(0, 30_000),
    ),
    max_size=60,
)


def made_from(steps: list[tuple[str, str, LogClass, bool, int, int]]) -> list[Entry]:
    made = maker()
    values = [made.genesis()]
    for kind, tenant, log_class, signed, later_us, padding in steps:
        made.now_us += later_us
        if kind == "event":
            values.append(made.event(tenant, log_class, signed=signed, padding=min(padding, 8000)))
        else:
            values.append(made.heartbeat() if kind == "heartbeat" else made.rejected(signed=signed))
    return entries_of(made, values)


def cuts(entries: list[Entry], limits: Limits = LIMITS) -> list[tuple[int, int]]:
    cutter = Cutter(limits)
    found = (cutter.push(entry) for entry in entries)
    return [(cut[0].seal.seq, cut[-1].seal.seq) for cut in found if cut is not None]


@given(STEPS, st.data())
def test_cuts_are_the_same_wherever_a_reader_begins_anew(
    steps: list[tuple[str, str, LogClass, bool, int, int]], data: st.DataObject
) -> None:
    entries = made_from(steps)
    whole = cuts(entries)
    restart = data.draw(st.sampled_from([0, *(last + 1 for _, last in whole)]))
    assert cuts(entries[restart:]) == [cut for cut in whole if cut[0] >= restart]
    seen = data.draw(st.integers(0, len(entries)))  # a reader that knows only a part cuts that part alike
    assert cuts(entries[:seen]) == [cut for cut in whole if cut[1] < seen]


@given(STEPS)
def test_cuts_follow_each_other_and_end_at_signed_seals(steps: list[tuple[str, str, LogClass, bool, int, int]]) -> None:
    entries = made_from(steps)
    following = 0
    for first, last in cuts(entries):
        assert first == following
        assert entries[last].seal.signed
        following = last + 1


def test_each_limit_cuts_at_the_first_signed_seal_at_or_after_it() -> None:
    def cut_at(limits: Limits, values: list[bytes], made: ChainMaker) -> list[tuple[int, int]]:
        return cuts(entries_of(made, values), limits)

    made = maker()
    by_count = [made.genesis(), *(made.event() for _ in range(10)), made.event(signed=True), made.heartbeat()]
    assert cut_at(LIMITS, by_count, made) == [(0, 11)]

    made = maker()
    by_size = [made.genesis(), made.event(padding=5000, signed=True), made.event(padding=5000), made.event(signed=True)]
    assert cut_at(replace(LIMITS, content_bytes=9_000), by_size, made) == [(0, 3)]

    made = maker()
    by_time = [made.genesis()]
    made.now_us += 30 * SECOND_US - 1
    by_time.append(made.heartbeat())
    made.now_us += 1
    by_time.append(made.heartbeat())
    assert cut_at(LIMITS, by_time, made) == [(0, 2)]


def test_heartbeats_alone_wait_for_the_idle_limit_and_one_event_among_them_does_not() -> None:
    made = maker()
    values = [made.genesis()]
    made.now_us += 31 * SECOND_US
    values.append(made.event(signed=True))
    for _ in range(241):
        made.now_us += 15 * SECOND_US
        values.append(made.heartbeat())
    limits = replace(LIMITS, seals=50_000)
    assert cuts(entries_of(made, values), limits) == [(0, 1), (2, 242)]

    made = maker()
    values = [made.genesis()]
    made.now_us += 31 * SECOND_US
    values.append(made.heartbeat())
    for _ in range(2):
        values.append(made.heartbeat())
    values.append(made.event())
    made.now_us += 30 * SECOND_US
    values.append(made.heartbeat())
    assert cuts(entries_of(made, values), limits) == [(0, 1), (2, 5)]


# -- locks and parts


def test_contents_lie_by_class_and_lock_date_with_a_frame_a_tenant() -> None:
    made = maker()
    values = [made.genesis()]
    for tenant in ("globex", "acme", "globex"):
        values += [made.event(tenant, log_class) for log_class in (LogClass.SECURITY, LogClass.DEBUG)]
    made.retain_days = 40
    values.append(made.event("acme", LogClass.SECURITY, signed=True))
    entries = entries_of(made, values)
    parts = parts_of(entries, rules())
    assert [(p.log_class, p.lock.mode, [name for name, _ in p.tenants], p.rows) for p in parts] == [
        ("debug", "GOVERNANCE", ["acme", "globex"], 3),
        ("none", "COMPLIANCE", [DEPLOYMENT_TENANT], 1),
        ("security", "COMPLIANCE", ["acme", "globex"], 3),
        ("security", "COMPLIANCE", ["acme"], 1),
    ]
    assert sum(p.rows for p in parts) == len(entries)
    assert all(e.seal.retain_until_ms == p.lock.until_ms for p in parts for _, es in p.tenants for e in es)

    frames = decode_frames(
        contents_object(parts[2], made.chain, 0, lambda _: TENANT.public_key().public_bytes_raw(), os.urandom)
    )
    assert [(f.tenant, f.log_class, f.first_seq) for f in frames] == [
        ("acme", "security", 0),
        ("globex", "security", 0),
    ]
    opened = [row for f in frames for row in open_frame(f, lambda wrapped, info: hpke_open(TENANT, wrapped, info))]
    assert sorted(opened) == sorted((e.seal.seq, e.content) for _, es in parts[2].tenants for e in es)


def test_a_lock_beyond_the_longest_retention_is_refused() -> None:
    made = maker(retain_days=60)
    entries = entries_of(made, [made.genesis()])
    late = rules()
    assert parts_of(entries, late) and segment_lock(entries, late)
    early = rules(now_ms=late.now_ms - 3 * DAY_MS)
    with pytest.raises(EvidenceError, match="longest lock"):
        parts_of(entries, early)
    with pytest.raises(EvidenceError, match="longest lock"):
        segment_lock(entries, early)


def test_what_expired_before_it_was_archived_still_gets_a_lock_in_the_future() -> None:
    made = maker(retain_days=1)
    entries = entries_of(made, [made.genesis()])
    late = rules(now_ms=START_US // 1000 + 30 * DAY_MS)
    (part,) = parts_of(entries, late)
    assert late.now_ms < part.lock.until_ms <= late.now_ms + 2 * DAY_MS
    assert part.lock.until_ms % DAY_MS == 0


def test_a_segment_is_locked_for_the_longest_retention() -> None:
    made = maker(retain_days=3)
    lock = segment_lock(entries_of(made, [made.genesis()]), rules())
    assert lock.mode is LockMode.COMPLIANCE
    assert START_US // 1000 + 60 * DAY_MS <= lock.until_ms < START_US // 1000 + 61 * DAY_MS


def test_the_packaged_policys_longest_lock_passes_its_own_limit() -> None:
    policy = Policy.load()
    made = maker(retain_days=policy.longest_ms // DAY_MS)
    entries = entries_of(made, [made.genesis()])
    own = LockRules(lambda c: LockMode(policy.lock_mode(c)), policy.longest_ms, START_US // 1000 + 1)
    assert parts_of(entries, own)
    assert segment_lock(entries, own)


# -- segments


def two_segments() -> tuple[ChainMaker, list[list[Entry]], list[bytes]]:
    made = maker()
    groups = [
        [made.genesis(), made.event(signed=True), made.event(), made.event(signed=True)],
        [made.event("globex"), made.rejected(), made.event(signed=True)],
    ]
    checked = check(made.chain)
    entries = [[checked(value) for value in group] for group in groups]
    head, objects = Head(Position(made.chain)), []
    for group in entries:
        data = segment(head, group)
        _, head = read_segment(data, made.chain, head.position.next_seq, [ARCHIVE_CERTIFICATE])
        objects.append(data)
    return made, entries, objects


def segment(head: Head, entries: list[Entry], key: Ed25519PrivateKey = ARCHIVE) -> bytes:
    references = [Reference("contents/x", "v1", bytes(32), 10, len(entries))]
    public = key.public_key().public_bytes_raw()
    return build_segment(head, entries, references, public, key.sign, START_US // SECOND_US)


def test_a_segment_read_back_gives_the_head_that_the_next_one_continues() -> None:
    made, entries, objects = two_segments()
    first, head = read_segment(objects[0], made.chain, 0, [ARCHIVE_CERTIFICATE])
    assert head.position == Position(made.chain, 4, entries[0][-1].leaf, START_US)
    assert head.segment_digest == hashlib.sha256(objects[0]).digest()
    assert head.last_seal == entries[0][-1].data
    assert [seq for seq, _ in first.signatures] == [0, 1, 3]
    second, after = read_segment(objects[1], made.chain, 4, [ARCHIVE_CERTIFICATE])
    assert second.frontier == head.frontier
    assert f"previous {head.segment_digest.hex()}\n" in second.statement
    assert after.position.next_seq == made.seq


def test_only_entries_that_continue_the_head_are_signed() -> None:
    made, entries, _ = two_segments()
    with pytest.raises(EvidenceError, match="expected 0"):
        segment(Head(Position(made.chain)), entries[1])


@pytest.mark.parametrize(
    ("name", "version"), [("contents/a b", "v1"), ("contents/x", "v 1"), ("contents/x", "v1\n"), ("c", "\x85")]
)
def test_a_reference_whose_line_could_be_read_otherwise_is_not_signed(name: str, version: str) -> None:
    made = maker()
    checked = check(made.chain)
    entries = [checked(value) for value in (made.genesis(), made.event(signed=True))]
    references = [Reference(name, version, bytes(32), 10, len(entries))]
    public = ARCHIVE.public_key().public_bytes_raw()
    with pytest.raises(EvidenceError, match="blank or control"):
        build_segment(Head(Position(made.chain)), entries, references, public, ARCHIVE.sign, START_US // SECOND_US)


def test_a_segment_that_is_not_in_order_is_not_adopted() -> None:
    made, entries, objects = two_segments()
    whole, _ = read_segment(objects[0], made.chain, 0, [ARCHIVE_CERTIFICATE])
    other, _ = read_segment(objects[1], made.chain, 4, [ARCHIVE_CERTIFICATE])
    wrong: dict[str, tuple[bytes, int]] = {
        "flipped byte": (objects[0][:-40] + bytes([objects[0][-40] ^ 1]) + objects[0][-39:], 0),
        "other place": (objects[1], 0),
        "seals swapped": (encode_segment(replace(whole, seals=(*whole.seals[:2], *whole.seals[:1:-1]))), 0),
        "last seal left out": (encode_segment(replace(whole, seals=whole.seals[:-1])), 0),
        "no seals": (encode_segment(replace(whole, seals=())), 0),
        "other references": (encode_segment(replace(whole, contents=())), 0),
        "other checkpoint": (encode_segment(replace(whole, checkpoint=other.checkpoint)), 0),
        "other frontier": (encode_segment(replace(other, frontier=(bytes(32),))), 4),
        "other key": (segment(Head(Position(made.chain)), entries[0], OTHER), 0),
    }
    for name, (data, first) in wrong.items():
        with pytest.raises(SealtrailError) as raised:
            read_segment(data, made.chain, first, [ARCHIVE_CERTIFICATE])
        assert isinstance(raised.value, EvidenceError), name


def test_another_writers_segment_is_compared_seal_by_seal() -> None:
    made, entries, objects = two_segments()
    whole, _ = read_segment(objects[0], made.chain, 0, [ARCHIVE_CERTIFICATE])
    assert same_seals(entries[0], whole)
    assert not same_seals(entries[0][:2], whole)  # it was cut later than we would have
    assert not same_seals([*entries[0], *entries[1]], whole)  # or earlier
    fork = replace(entries[0][1], data=entries[0][1].data[:-1] + b"9")
    with pytest.raises(EvidenceError, match="seq 1"):
        same_seals([entries[0][0], fork], whole)
