"""Whoever holds the archive, but not the keys, changes it: each change is found, where it is, and nothing else is.

A case is a function that damages a copy of one good archive, and the findings that must come of it: kind, first seq,
count. Chain 0 has 23 seals in segments of 4, 7, 6, 1 and 5; seqs 0, 1 … run through all of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain as joined
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail import certificate, checkpoint, layout, note, seal, signatures
from sealtrail.avro import _container_header
from sealtrail.certificate import Role
from sealtrail.report import Report, Verdict
from sealtrail.seal import ZERO_DIGEST, Signature, decode_seal, encode_seal, leaf_hash, seal_message
from sealtrail.segment import Reference, Segment, decode_frames, encode_segment, references_digest
from sealtrail.verify import Trust, verify_archive
from sinks.archive.checking import Entry
from tests.archives import (
    CHAINS,
    EVENT,
    NOT_AFTER_S,
    PART,
    ROOT,
    START_S,
    Archive,
    Built,
    archive_segments,
    built,
    built_small,
    checkpoint_of,
    ending,
    flipped,
    mark_of,
    public_of,
    rechained,
    resealed,
    signing_key,
    statement_of,
    verify,
)
from tests.archives import certificate as root_certified

RECORD_STEPS = (3, 4, 6, 7, 11)  # what these find is wrong with records; the other steps' speak of objects
Found = tuple[str, int | None, int]  # kind, first seq, count
FIRST = (0, 4, 11, 17, 18, 23)  # first seq of each segment, and the end


@dataclass(frozen=True)
class Case:
    """One change; `trusted`: the number of segments that an earlier checkpoint covers, if one is given."""

    name: str
    damage: Callable[[Built], Archive]
    findings: tuple[Found, ...]
    trusted: int = 0
    copied: bool = False  # the records that a finding names stand elsewhere too, and are good there
    undecided: bool = False  # some contents cannot be read: they may be UNDECIDED


def flat(b: Built, chain: str = CHAINS[0]) -> list[Entry]:
    """All entries of a chain."""
    return list(joined.from_iterable(b.chains[chain]))


def findings(report: Report) -> list[Found]:
    """What was found, in a form to compare."""
    return sorted(((str(f.kind), f.seq, f.count) for f in report.findings), key=str)


def span(first: int | None, count: int) -> range:
    """The seqs of a finding, as far as they matter here."""
    return range(0) if first is None else range(first, first + min(count, 99))


def with_seals(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Segment], Segment]:
    """An edit of a segment's list of seals."""
    return lambda s: replace(s, seals=tuple(edit(list(s.seals))))


def at(index: int, edit: Callable[[bytes], bytes]) -> Callable[[Segment], Segment]:
    """An edit of one seal's bytes."""
    return with_seals(lambda seals: [*seals[:index], edit(seals[index]), *seals[index + 1 :]])


def edited(segment: int, edit: Callable[[Segment], Segment]) -> Callable[[Built], Archive]:
    """An edit of one segment of chain 0."""
    return lambda b: b.edited(segment, edit)


def reseal(**fields: Any) -> Callable[[bytes], bytes]:
    """A seal with other fields, canonically encoded."""
    return lambda data: encode_seal(replace(decode_seal(data), **fields))


def swapped(seals: list[bytes], a: int, b: int) -> list[bytes]:
    """Two seals in each other's place."""
    seals[a], seals[b] = seals[b], seals[a]
    return seals


def signature_by(name: str, seq: int) -> Callable[[Segment], Segment]:
    """A seal signed anew, by another key."""

    def edit(s: Segment) -> Segment:
        key_id = hashlib.sha256(public_of(name)).digest()
        value = signing_key(name).sign(seal_message(leaf_hash(s.seals[seq - s.first_seq])))
        return replace(s, signatures=tuple((n, Signature(key_id, value) if n == seq else g) for n, g in s.signatures))

    return edit


def rewrite_unsigned(b: Built, *, how: str) -> Archive:
    """Every unsigned seal of chain 0 changed, and the chain recomputed through them.

    Args:
        how: `seals` leaves the signed seals as they were; `all` recomputes their `prev` too; `sworn` also makes
            checkpoint, statement and references with a key of the forger's own.
    """

    def forge(entry: Entry, now: Any) -> Entry:
        if now.signed and how == "seals":
            return entry
        return replace(resealed(entry, replace(now, scope=bytes(16))), signature=entry.signature)

    segments, prev, archive = list(b.chains[CHAINS[0]]), ZERO_DIGEST, b.archive
    forged = []
    for entries in segments:
        forged.append(rechained(entries, prev, forge))
        prev = forged[-1][-1].leaf
    if how == "sworn":
        made = Archive()
        archive_segments(made, forged, archive_key="forger")
        copy = archive.copy()
        copy.objects |= made.objects
        return copy
    for index, entries in enumerate(forged):
        data = b.segment(index)
        changed = encode_segment(replace(data, seals=tuple(e.data for e in entries)))
        archive = archive.replaced(b.key(index), changed)
    return archive


def signed_seqs(b: Built) -> list[int]:
    """Seqs of chain 0's signed seals."""
    return [e.seal.seq for e in flat(b) if e.seal.signed]


def other_statement(b: Built, edit: Callable[[Segment], Segment], segment: int = 1, archive_key: str = "forger") -> Archive:
    """A segment changed, with a fresh statement by a key that the root never certified."""
    changed = edit(b.segment(segment))
    previous = hashlib.sha256(b.archive.data(b.key(segment - 1))).digest()
    return b.archive.replaced(
        b.key(segment), encode_segment(replace(changed, statement=statement_of(changed, previous, archive_key=archive_key)))
    )


def both_notes(b: Built, segment: int, other: int) -> Archive:
    """Checkpoint and statement of another segment of the chain."""
    notes = b.segment(other)
    return b.edited(segment, lambda s: replace(s, checkpoint=notes.checkpoint, statement=notes.statement))


def merged_references(s: Segment) -> Segment:
    """The first two references as one whose name holds the first one's line: the lines under the statement stay as they are."""
    one, two, *others = s.contents
    line = f"{one.name} {one.version} {one.sha256.hex()} {one.size} {one.rows}\n"
    merged = replace(s, contents=(replace(two, name=line + two.name), *others))
    assert references_digest(merged.contents) == references_digest(s.contents)
    return merged


def no_statement_and_no_tail(b: Built) -> Archive:
    """Two damages: where no statement says where the segment ends, the next one's name does."""
    return b.edited(1, lambda s: replace(s, statement="", seals=s.seals[:-2]))


def backdated(b: Built) -> Archive:
    """Segment 1 with a checkpoint of a time long before its seals', by the archive's own key."""
    return b.edited(1, lambda s: replace(s, checkpoint=checkpoint_of(flat(b)[:11], time_s=START_S - 1000)))


def signed_by_another(b: Built, *segments: int) -> Archive:
    """In each of these segments the last seal signed anew by sealer-2."""
    archive = b.archive
    for index in segments:
        segment = b.segment(index)
        changed = signature_by("sealer-2", segment.next_seq - 1)(segment)
        archive = archive.replaced(b.key(index), encode_segment(changed))
    return archive


def exchanged(b: Built) -> Archive:
    """Segments 1 and 2 under each other's name."""
    one, two = b.key(1), b.key(2)
    return b.archive.replaced(one, b.archive.data(two)).replaced(two, b.archive.data(one))


def extra_line(text: str) -> str:
    """A note with one more signature, of a name nobody knows."""
    return text + "— stranger " + base64.b64encode(bytes(68)).decode() + "\n"


def other_order(text: str) -> str:
    """A note with its last two signatures in each other's place."""
    *lines, one, two = text.splitlines(keepends=True)
    return "".join([*lines, two, one])


def first_contents(b: Built, segment: int = 1) -> Reference:
    """The first contents object of a segment."""
    return b.segment(segment).contents[0]


def class_seqs(b: Built, segment: int, log_class: str) -> list[int]:
    """Seqs of one class in a segment of chain 0."""
    return [e.seal.seq for e in b.chains[CHAINS[0]][segment] if e.seal.log_class.lower() == log_class]


def of_object(b: Built, segment: int, kind: str) -> tuple[Found, ...]:
    """The finding for a segment's first contents object: at the first seal of its class, counting them all."""
    log_class = first_contents(b, segment).name.split("/")[1]
    seqs = class_seqs(b, segment, log_class)
    return ((kind, seqs[0], len(seqs)),)


def copied(b: Built, index: int, to: int, segment: int = 1) -> Archive:
    """A seal of a segment stored once more, before index `to`."""
    return b.edited(segment, with_seals(lambda s: [*s[:to], s[index], *s[to:]]))


def with_markers(b: Built, *keys: str) -> Archive:
    """Delete markers on top of these keys."""
    archive = b.archive.copy()
    for key in keys:
        archive.put(key, None)
    return archive


def second_version(b: Built) -> Archive:
    """Another body on top of segment 1."""
    archive = b.archive.copy()
    archive.put(b.key(1), archive.data(b.key(2)), NOT_AFTER_S * 2000)
    return archive


def locked(b: Built, key: str, mode: str, less_ms: int) -> Archive:
    """An object whose lock is another."""
    archive = b.archive.copy()
    old = archive.objects[key][-1]
    archive.objects[key] = [replace(old, lock=replace(old.lock, mode=mode, until_ms=old.lock.until_ms - less_ms))]
    return archive


def put(b: Built, key: str, data: bytes) -> Archive:
    """One object more."""
    archive = b.archive.copy()
    archive.put(key, data)
    return archive


def appended(b: Built) -> list[bytes]:
    """Two more unsigned seals that follow the chain's last one."""
    last = flat(b)[-1]
    one = replace(last.seal, seq=23, prev=last.leaf, signed=False)
    two = replace(one, seq=24, prev=leaf_hash(encode_seal(one)))
    return [encode_seal(one), encode_seal(two)]


def block(b: Built, segment: int) -> bytes:
    """The block of a segment's container file, without the file's header."""
    empty = len(encode_segment(b.segment(segment))) - len(b.archive.data(b.key(segment)))
    assert empty == 0
    data = b.archive.data(b.key(segment))
    marker = data.index(b"null\x00") + 5 + 16
    return data[marker:]


def event_schema() -> str:
    """The key of the schema that events are written with."""
    return layout.schema_key(EVENT.sha256)


def b_class(segment: int) -> str:
    """The class of a segment's first contents object."""
    return first_contents(built(), segment).name.split("/")[1]


def forged_certificate() -> bytes:
    """A certificate that the forger's own root signed."""
    wrong = note.NoteKey("audit.example/root", note.ED25519, public_of("forger"))
    forged = certificate.Certificate(Role.SEALER, PART, public_of("forger"), START_S - 1, NOT_AFTER_S)
    return certificate.issue(forged, wrong, signing_key("forger").sign).encode()


WHOLE_1 = ("ALTERED", 4, 7)


def ended(b: Built, name: str, size: int, label: str = PART, *, root: bytes = b"") -> Archive:
    """With the end of a key after so many seals of the first chain, and never in the second."""
    entries, whole = flat(b), flat(b, CHAINS[1])
    mark = replace(mark_of(entries, min(size, len(entries))), size=size)
    marks = {CHAINS[0]: replace(mark, root=root or mark.root), CHAINS[1]: mark_of(whole, len(whole))}
    return ending(b.archive, name, Role(name.partition("-")[0]), marks, label)


def end_by_a_stranger(b: Built) -> Archive:
    """A true statement, without the successor's certificate."""
    archive = ended(b, "sealer", 23)
    return archive.without(layout.certificate_key(hashlib.sha256(public_of("sealer-next")).digest()))


CASES = [
    # one seal
    Case("an unsigned seal's scope", edited(1, at(1, reseal(scope=bytes(16)))), (("ALTERED", 5, 1),)),
    Case("an unsigned seal's prev", edited(1, at(1, reseal(prev=bytes(32)))), (("ALTERED", 5, 1),)),
    Case("an unsigned seal's number", edited(1, at(1, reseal(seq=9))), (("ALTERED", 5, 1),)),
    Case("a number beyond any", edited(1, at(1, reseal(seq=2**62))), (("ALTERED", 5, 1),)),
    Case("number and prev", edited(1, at(1, reseal(seq=2**62, prev=bytes(32)))), (("ALTERED", 5, 1),)),
    Case("the last seal's number and prev", edited(1, at(6, reseal(seq=2**62, prev=bytes(32)))), (("ALTERED", 10, 1),)),
    Case("the first seal's number and prev", edited(1, at(0, reseal(seq=2, prev=bytes(32)))), (("ALTERED", 4, 1),)),
    Case("the first seal of all", edited(0, at(0, reseal(prev=bytes([1]) * 32))), (("ALTERED", 0, 1),)),
    Case("a signed seal in the middle", edited(1, at(2, reseal(scope=bytes(16)))), (("ALTERED", 6, 1),)),
    Case("the last seal, which is signed", edited(1, at(6, reseal(scope=bytes(16)))), (("BAD-SIGNATURE", 10, 1),)),
    Case("a seal that says it is unsigned", edited(1, at(2, reseal(signed=False))), (("ALTERED", 6, 1),)),
    Case("a seal that is no seal", edited(1, at(3, lambda _: b"nothing")), (("ALTERED", 7, 1),)),
    Case("an empty seal", edited(1, at(3, lambda _: b"")), (("ALTERED", 7, 1),)),
    Case("a byte after a seal", edited(1, at(3, lambda data: data + b"\0")), (("ALTERED", 7, 1),)),
    Case(
        "a seal of another chain",
        lambda b: b.edited(1, at(3, lambda _: b.segment(1, CHAINS[1]).seals[3])),
        (("ALTERED", 7, 1),),
    ),
    Case("a seal in another's place", edited(2, with_seals(lambda s: [*s[:2], s[4], *s[3:]])), (("ALTERED", 13, 1),)),
    Case(
        "two seals far apart",
        edited(1, lambda s: at(1, reseal(scope=bytes(16)))(at(4, reseal(scope=bytes(16)))(s))),
        (("ALTERED", 5, 1), ("ALTERED", 8, 1)),
    ),
    # removed, added, moved
    Case("a record removed", edited(1, with_seals(lambda s: s[:3] + s[4:])), (("MISSING", 7, 1),)),
    Case("two in a row removed", edited(1, with_seals(lambda s: s[:3] + s[5:])), (("MISSING", 7, 2),)),
    Case(
        "two apart removed", edited(1, with_seals(lambda s: [s[0], s[2], s[3], *s[5:]])), (("MISSING", 5, 1), ("MISSING", 8, 1))
    ),
    Case("a segment's first record removed", edited(1, with_seals(lambda s: s[1:])), (("MISSING", 4, 1),)),
    Case("the signed record in the middle removed", edited(1, with_seals(lambda s: s[:2] + s[3:])), (("MISSING", 6, 1),)),
    Case("two neighbours swapped", edited(1, with_seals(lambda s: swapped(s, 3, 4))), (("REORDERED", 7, 2),)),
    Case("two swapped over others", edited(1, with_seals(lambda s: swapped(s, 1, 5))), (("REORDERED", 5, 5),)),
    Case("the last two swapped", edited(1, with_seals(lambda s: swapped(s, 5, 6))), (("REORDERED", 9, 2),)),
    Case("all in reverse", edited(1, with_seals(lambda s: s[::-1])), (("REORDERED", 4, 7),)),
    Case("a record twice in a row", lambda b: copied(b, 3, 4), (("INSERTED", 7, 1),)),
    Case("an earlier record again later", lambda b: copied(b, 1, 5), (("INSERTED", 5, 1),)),
    Case("a later record again earlier", lambda b: copied(b, 5, 2), (("INSERTED", 9, 1),)),
    Case("a record again at the end", lambda b: copied(b, 1, 7), (("INSERTED", 5, 1),)),
    Case(
        "a forged record inserted",
        edited(1, with_seals(lambda s: [*s[:3], reseal(scope=bytes(16))(s[3]), *s[3:]])),
        (("INSERTED", 7, 1),),
    ),
    Case("rubbish inserted", edited(1, with_seals(lambda s: [*s[:3], b"nothing", *s[3:]])), (("INSERTED", 7, 1),)),
    Case(
        "a stretch again directly after itself",
        edited(1, with_seals(lambda s: [*s[:5], *s[2:5], *s[5:]])),
        (("INSERTED", 6, 1), ("INSERTED", 7, 1), ("INSERTED", 8, 1)),
    ),
    Case(
        "a stretch again before itself",
        edited(1, with_seals(lambda s: [s[0], *s[4:7], *s[1:]])),
        (("INSERTED", 8, 1), ("INSERTED", 9, 1), ("INSERTED", 10, 1)),
    ),
    Case(
        "rubbish inserted twice in a row",
        edited(1, with_seals(lambda s: [*s[:3], b"nothing", b"", *s[3:]])),
        (("INSERTED", 7, 1), ("INSERTED", 7, 1)),
    ),
    Case("rubbish at a segment's end", edited(1, with_seals(lambda s: [*s, b"nothing", b""])), (("INSERTED", 11, 2),)),
    Case(
        "another chain's records inserted",
        lambda b: b.edited(1, with_seals(lambda s: [*s[:3], *b.segment(1, CHAINS[1]).seals[2:4], *s[3:]])),
        (("INSERTED", 7, 1), ("INSERTED", 7, 1)),
    ),
    Case(
        "an earlier segment's records inserted",
        lambda b: b.edited(1, with_seals(lambda s: [*s[:3], *b.segment(0).seals[1:3], *s[3:]])),
        (("INSERTED", 7, 1), ("INSERTED", 7, 1)),
    ),
    Case(
        "a later segment's records at the end",
        lambda b: b.edited(1, with_seals(lambda s: [*s, *b.segment(4).seals[1:3]])),
        (("INSERTED", 11, 2),),
    ),
    Case(
        "a later segment's records in these records' places",
        lambda b: b.edited(1, with_seals(lambda s: [*s[:2], *b.segment(4).seals[1:4], *s[5:]])),
        (("ALTERED", 6, 1), ("ALTERED", 7, 1), ("ALTERED", 8, 1)),
    ),
    Case("a number changed to a neighbour's", edited(1, at(4, reseal(seq=9))), (("ALTERED", 8, 1),)),
    Case("a number changed to the last one's", edited(1, at(5, reseal(seq=10))), (("ALTERED", 9, 1),)),
    Case(
        "the last record forged before itself",
        edited(1, with_seals(lambda s: [*s[:6], reseal(scope=bytes(16))(s[6]), s[6]])),
        (("INSERTED", 10, 1),),
    ),
    Case("records appended", lambda b: b.edited(4, with_seals(lambda s: s + appended(b))), (("INSERTED", 23, 2),)),
    Case("a segment's tail cut", edited(1, with_seals(lambda s: s[:-2])), (("TRUNCATED", 9, 2),)),
    Case("the last segment's tail cut", edited(4, with_seals(lambda s: s[:-1])), (("TRUNCATED", 22, 1),)),
    Case("all seals of a segment", edited(1, with_seals(lambda _: [])), (("TRUNCATED", 4, 7),)),
    # segments
    Case("a segment removed", lambda b: b.archive.without(b.key(1)), (("MISSING", 4, 7),)),
    Case("two segments in a row removed", lambda b: b.archive.without(b.key(1), b.key(2)), (("MISSING", 4, 13),)),
    Case(
        "two segments apart removed", lambda b: b.archive.without(b.key(1), b.key(3)), (("MISSING", 4, 7), ("MISSING", 17, 1))
    ),
    Case("the first segment removed", lambda b: b.archive.without(b.key(0)), (("MISSING", 0, 4),)),
    Case(
        "the last segment, with a checkpoint of it", lambda b: b.archive.without(b.key(4)), (("TRUNCATED", 18, 5),), trusted=5
    ),
    Case("two last segments, likewise", lambda b: b.archive.without(b.key(4), b.key(3)), (("TRUNCATED", 17, 6),), trusted=5),
    Case(
        "the whole chain, likewise",
        lambda b: b.archive.without(*(b.key(n) for n in range(5))),
        (("TRUNCATED", 0, 1),),
        trusted=5,
    ),
    Case("two segments exchanged", exchanged, (WHOLE_1, ("ALTERED", 11, 6))),
    Case("a segment of another chain", lambda b: b.archive.replaced(b.key(1), b.archive.data(b.key(1, CHAINS[1]))), (WHOLE_1,)),
    Case("bytes appended to a segment", lambda b: b.archive.replaced(b.key(1), b.archive.data(b.key(1)) + b"\0"), (WHOLE_1,)),
    Case(
        "a segment twice in one object",
        lambda b: b.archive.replaced(b.key(1), b.archive.data(b.key(1)) + block(b, 1)),
        (WHOLE_1,),
    ),
    Case("an empty object", lambda b: b.archive.replaced(b.key(1), b""), (WHOLE_1,)),
    Case("another name below segments/", lambda b: put(b, b.key(1) + ".bak", b""), (("INSERTED", None, 1),)),
    Case(
        "a copy under an in-between name",
        lambda b: put(b, layout.segment_key(CHAINS[0], 6), b.archive.data(b.key(1))),
        (("ALTERED", 6, 5), ("FORKED", 6, 5)),
        copied=True,
    ),
    Case(
        "a copy under a name within the last, with a checkpoint of that",
        lambda b: put(b, layout.segment_key(CHAINS[0], 20), b.archive.data(b.key(1))),
        (("ALTERED", 20, 1), ("FORKED", 20, 3)),
        trusted=5,
        copied=True,
    ),
    # signatures
    Case("another certified sealer's word", edited(1, signature_by("sealer-2", 6)), (WHOLE_1,)),
    Case("a key of another role", edited(1, signature_by("auditor", 6)), (("UNKNOWN-KEY", 6, 1),)),
    Case("the archive's key", edited(1, signature_by("archive", 6)), (("UNKNOWN-KEY", 6, 1),)),
    Case("another deployment's sealer", edited(1, signature_by("sealer-elsewhere", 6)), (("UNKNOWN-KEY", 6, 1),)),
    Case("a key that nobody certified", edited(1, signature_by("forger", 6)), (("UNKNOWN-KEY", 6, 1),)),
    Case("an expired key", edited(1, signature_by("sealer-expired", 6)), (("UNKNOWN-KEY", 6, 1),)),
    Case(
        "a signature changed",
        edited(1, lambda s: replace(s, signatures=((6, Signature(s.signatures[0][1].key_id, bytes(64))), *s.signatures[1:]))),
        (("BAD-SIGNATURE", 6, 1),),
    ),
    Case("a signature removed", edited(1, lambda s: replace(s, signatures=s.signatures[1:])), (("BAD-SIGNATURE", 6, 1),)),
    Case(
        "all signatures removed",
        edited(1, lambda s: replace(s, signatures=())),
        (("BAD-SIGNATURE", 6, 1), ("BAD-SIGNATURE", 10, 1)),
    ),
    Case(
        "a signature twice",
        edited(1, lambda s: replace(s, signatures=(s.signatures[0], *s.signatures))),
        (("BAD-SIGNATURE", 6, 1),),
    ),
    Case(
        "a signature for an unsigned seal",
        edited(1, lambda s: replace(s, signatures=((5, s.signatures[0][1]), *s.signatures))),
        (("BAD-SIGNATURE", 5, 1),),
    ),
    Case(
        "a signature for no seal",
        edited(1, lambda s: replace(s, signatures=(*s.signatures, (99, s.signatures[0][1])))),
        (("BAD-SIGNATURE", 99, 1),),
    ),
    # what the archive's key swears
    Case(
        "an older checkpoint replayed",
        lambda b: b.edited(1, lambda s: replace(s, checkpoint=b.segment(0).checkpoint)),
        (WHOLE_1,),
    ),
    Case("a later checkpoint", lambda b: b.edited(1, lambda s: replace(s, checkpoint=b.segment(2).checkpoint)), (WHOLE_1,)),
    Case(
        "another chain's checkpoint",
        lambda b: b.edited(1, lambda s: replace(s, checkpoint=b.segment(1, CHAINS[1]).checkpoint)),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case(
        "a forger's checkpoint",
        lambda b: b.edited(1, lambda s: replace(s, checkpoint=checkpoint_of(flat(b)[:11], archive_key="forger"))),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case(
        "a sealer's checkpoint",
        lambda b: b.edited(1, lambda s: replace(s, checkpoint=checkpoint_of(flat(b)[:11], archive_key="sealer"))),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case(
        "another deployment's checkpoint",
        lambda b: b.edited(1, lambda s: replace(s, checkpoint=checkpoint_of(flat(b)[:11], archive_key="archive-elsewhere"))),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case(
        "a checkpoint without its time",
        edited(1, lambda s: replace(s, checkpoint="".join(s.checkpoint.splitlines(keepends=True)[:-1]))),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case("no checkpoint", edited(1, lambda s: replace(s, checkpoint="")), (("BAD-SIGNATURE", 4, 7),)),
    Case(
        "one more signature on the last checkpoint",
        edited(4, lambda s: replace(s, checkpoint=extra_line(s.checkpoint))),
        (("BAD-SIGNATURE", 18, 5),),
    ),
    Case(
        "the last checkpoint's signatures in another order",
        edited(4, lambda s: replace(s, checkpoint=other_order(s.checkpoint))),
        (("BAD-SIGNATURE", 18, 5),),
    ),
    Case(
        "one more signature on the last statement",
        edited(4, lambda s: replace(s, statement=extra_line(s.statement))),
        (("ALTERED", 18, 5),),
    ),
    Case(
        "another segment's statement", lambda b: b.edited(1, lambda s: replace(s, statement=b.segment(2).statement)), (WHOLE_1,)
    ),
    Case("both notes of another segment", lambda b: both_notes(b, 1, 3), (WHOLE_1, WHOLE_1)),
    Case("both notes of another segment, in the last", lambda b: both_notes(b, 4, 3), 2 * (("ALTERED", 18, 5),)),
    Case("a segment and its tail cut with no statement", no_statement_and_no_tail, (WHOLE_1, ("TRUNCATED", 9, 2))),
    Case("sworn before its seals were made", backdated, (WHOLE_1,)),
    Case(
        "two segments, another certified sealer's word in each",
        lambda b: signed_by_another(b, 1, 2),
        (WHOLE_1, ("ALTERED", 11, 6)),
    ),
    Case("no statement", edited(1, lambda s: replace(s, statement="")), (WHOLE_1,)),
    Case(
        "a statement by another of the archive's keys than the checkpoint",
        lambda b: other_statement(b, lambda s: s, archive_key="archive-2"),
        (("BAD-SIGNATURE", 4, 7),),
    ),
    Case("a forger's statement", lambda b: other_statement(b, lambda s: s), (("BAD-SIGNATURE", 4, 7),)),
    Case(
        "references left out",
        edited(0, lambda s: replace(s, contents=s.contents[:0])),
        (("ALTERED", 0, 4), *(("MISSING", n, 1) for n in range(4))),
    ),
    Case("references in another order", edited(1, lambda s: replace(s, contents=s.contents[::-1])), (WHOLE_1,)),
    Case("two references told as one of the same digest", edited(1, merged_references), (WHOLE_1,)),
    Case("a frontier hash", edited(2, lambda s: replace(s, frontier=(bytes(32), *s.frontier[1:]))), (("ALTERED", 11, 1),)),
    Case("a frontier hash too few", edited(2, lambda s: replace(s, frontier=s.frontier[1:])), (("ALTERED", 11, 1),)),
    Case("a frontier where there was nothing", edited(0, lambda s: replace(s, frontier=(bytes(32),))), (("ALTERED", 0, 1),)),
    # contents
    Case(
        "a contents object removed",
        lambda b: b.archive.without(first_contents(b).name),
        of_object(built(), 1, "MISSING"),
        undecided=True,
    ),
    Case(
        "bytes appended to contents",
        lambda b: b.archive.replaced(first_contents(b).name, b.archive.data(first_contents(b).name) + b"\0"),
        of_object(built(), 1, "ALTERED"),
        undecided=True,
    ),
    Case(
        "another chain's contents",
        lambda b: b.archive.replaced(first_contents(b).name, b.archive.data(b.segment(1, CHAINS[1]).contents[0].name)),
        of_object(built(), 1, "ALTERED"),
        undecided=True,
    ),
    Case(
        "a schema's text changed",
        lambda b: b.archive.replaced(event_schema(), b.archive.data(event_schema()).replace(b"AuditEvent", b"AuditEveNt", 1)),
        (("ALTERED", None, 1),),
        undecided=True,
    ),
    Case(
        "a policy's text that is not its name's",
        lambda b: put(b, layout.policy_key(bytes(32)), b"[class]"),
        (("ALTERED", None, 1),),
    ),
    # versions and locks
    Case("a delete marker", lambda b: with_markers(b, b.key(1)), (("HIDDEN", 4, 1),)),
    Case("a marker on the last segment", lambda b: with_markers(b, b.key(4)), (("HIDDEN", 18, 1),)),
    Case("a second version", second_version, (("HIDDEN", 4, 1),)),
    Case("a marker on a certificate", lambda b: with_markers(b, b.archive.keys("keys/")[0]), (("HIDDEN", None, 1),)),
    Case("a segment without a lock", lambda b: locked(b, b.key(1), "", 10**15), (("WRONG-LOCK", 4, 1),)),
    Case("a segment's lock that can be bypassed", lambda b: locked(b, b.key(1), "GOVERNANCE", 0), (("WRONG-LOCK", 4, 1),)),
    Case(
        "contents with a short lock",
        lambda b: locked(b, b.segment(0).contents[0].name, "COMPLIANCE", 86_400_000),
        (("WRONG-LOCK", class_seqs(built(), 0, b_class(0))[0], 1),),
    ),
    # certificates
    Case(
        "a certificate by another root", lambda b: put(b, "keys/forger.cert", forged_certificate()), (("UNKNOWN-KEY", None, 1),)
    ),
    Case("a certificate that is rubbish", lambda b: put(b, "keys/x.cert", b"\xff"), (("UNKNOWN-KEY", None, 1),)),
    # keys that ended
    Case(
        "seals beyond the end of their key", lambda b: ended(b, "sealer", 17), (("UNKNOWN-KEY", 17, 1), ("UNKNOWN-KEY", 22, 1))
    ),
    Case("checkpoints beyond the end of their key", lambda b: ended(b, "archive", 18), (("BAD-SIGNATURE", 18, 5),)),
    Case(
        "a run opened beyond the end of its source's key",
        lambda b: ended(b, "source-github", 1, "github"),
        (("BAD-SIGNATURE", 1, 1),),
    ),
    Case("another tree than a successor swore to", lambda b: ended(b, "sealer", 23, root=bytes(32)), (("FORKED", 0, 23),)),
    Case("a longer chain than there is, sworn to by a successor", lambda b: ended(b, "sealer", 25), (("TRUNCATED", 23, 2),)),
    Case(
        "a chain that no successor names",
        lambda b: ending(b.archive, "archive", Role.ARCHIVE, {}),
        tuple(("BAD-SIGNATURE", first, end - first) for chain in CHAINS for first, end in pairwise(FIRST)),
    ),
    Case("the end of a key, by nobody certified", end_by_a_stranger, (("UNKNOWN-KEY", None, 1),)),
    Case("the end of a key that is rubbish", lambda b: put(b, "keys/x.end", b"\xff"), (("UNKNOWN-KEY", None, 1),)),
    # rewritten history
    Case(
        "every unsigned seal rewritten",
        lambda b: rewrite_unsigned(b, how="seals"),
        tuple(("ALTERED", n, 1) for n in (2, 5, 9, 12, 15, 21)),
    ),
    Case(
        "and the signed ones relinked",
        lambda b: rewrite_unsigned(b, how="all"),
        tuple(("BAD-SIGNATURE", n, 1) for n in (0, 3, 6, 10, 13, 16, 17, 22)),
    ),
    Case(
        "and sworn to by a forger",
        lambda b: rewrite_unsigned(b, how="sworn"),
        tuple(("BAD-SIGNATURE", n, 1) for n in (0, 3, 6, 10, 13, 16, 17, 22))
        + 2 * tuple(("BAD-SIGNATURE", first, end - first) for first, end in pairwise(FIRST)),
        undecided=True,
    ),
]


@pytest.mark.parametrize(("gone", "trusted"), [((1, 2), ""), ((3, 4), "checkpoint")])
def test_two_missing_segments_in_a_row_are_reported_as_two(gone: tuple[int, int], trusted: str) -> None:
    b = built()
    archive = b.archive.without(*map(b.key, gone))
    report = verify(archive, trusted=checkpoint_of(flat(b)) if trusted else "")
    (finding,) = report.findings
    first = [b.chains[CHAINS[0]][n][0].seal.seq for n in gone]
    assert f"contents of 2 of them are there, from seq {first[0]}, {first[1]}" in finding.detail
    emptied = archive.without(*(r.name for n in gone for r in b.segment(n).contents))
    (finding,) = verify(emptied, trusted=checkpoint_of(flat(b)) if trusted else "").findings
    assert "of them are there" not in finding.detail, "nothing tells"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_change_is_found_where_it_is_and_nothing_else_is(case: Case) -> None:
    trusted = checkpoint_of(flat(built())[: FIRST[case.trusted]]) if case.trusted else ""
    report = verify(case.damage(built()), trusted=trusted)
    assert findings(report) == sorted(case.findings, key=str)
    assert not report.good
    for chain in report.chains:
        touched = {
            seq for f in report.findings if f.chain == chain.chain and f.step in RECORD_STEPS for seq in span(f.seq, f.count)
        }
        assert case.copied or chain.verdicts[Verdict.VALID] <= 23 - len(touched & set(range(23)))
    assert case.undecided or not report.verdicts[Verdict.UNDECIDED]


def test_a_tail_that_was_cut_shows_only_with_an_earlier_checkpoint_and_the_report_says_so() -> None:
    report = verify(built().archive.without(built().key(4)))
    assert report.good
    assert any("segments cut from their ends cannot be ruled out" in caveat for caveat in report.caveats)


def test_a_chain_removed_as_a_whole_is_missed_by_what_the_others_genesis_says_of_their_topic() -> None:
    report = verify(built().archive.without(*(built().key(n) for n in range(5))))
    assert [c.chain for c in report.chains] == [CHAINS[1]]
    assert any(f"1 of 2 chains have no segment, {CHAINS[0]} first" in caveat for caveat in report.caveats)


def test_every_byte_of_one_seal_changed_is_one_finding_at_that_seal_and_no_record_of_its_segment_is_valid() -> None:
    b, index = built_small(), 5
    whole = b.archive.data(b.key(0))
    seal_bytes = b.segment(0).seals[index]
    start = whole.index(seal_bytes)
    for at_byte in range(len(seal_bytes)):
        report = verify(b.archive.replaced(b.key(0), flipped(whole, 8 * (start + at_byte) + at_byte % 8)))
        assert [(f.kind, f.seq, f.count) for f in report.findings] == [("ALTERED", index, 1)], at_byte
        assert not report.good
        assert not report.verdicts[Verdict.VALID]


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures and seals that were checked once are not checked again: the same pure functions, remembered."""

    class Remembered:
        def __init__(self, public: bytes) -> None:
            self._public = public

        @staticmethod
        @cache
        def from_public_bytes(public: bytes) -> Remembered:
            return Remembered(public)

        @lru_cache(100_000)  # noqa: B019  # lives as long as the test
        def _outcome(self, signature: bytes, message: bytes) -> Exception | None:
            try:
                Ed25519PublicKey.from_public_bytes(self._public).verify(signature, message)
            except Exception as error:
                return error
            return None

        def verify(self, signature: bytes, message: bytes) -> None:
            outcome = self._outcome(signature, message)
            if outcome is not None:
                raise outcome

    for module in (note, checkpoint, signatures):
        monkeypatch.setattr(module, "Ed25519PublicKey", Remembered)
    monkeypatch.setattr("sealtrail.chainverify.decode_seal", lru_cache(100_000)(seal.decode_seal))
    monkeypatch.setattr("sealtrail.certified.verify_certificate", cache(certificate.verify_certificate))
    for where in ("sealtrail.checkpoint.parse_note", "sealtrail.sworn.parse_note"):
        monkeypatch.setattr(where, lru_cache(1000)(note.parse_note))
    monkeypatch.setattr("sealtrail.contents.decode_frames", lru_cache(1000)(decode_frames))
    monkeypatch.setattr("sealtrail.avro._container_header", cache(_container_header))


def test_a_contents_object_changed_anywhere_is_found_and_none_of_its_records_is_valid(remembered: None) -> None:
    b = built()
    reference = first_contents(b)
    whole = b.archive.data(reference.name)
    good = verify(b.archive).chains[0].verdicts[Verdict.VALID]
    header = whole.index(b"null\x00")  # before it: the schema's text, one bit of which stands for all
    for at_byte in [*range(0, header, 97), *range(header, len(whole), 7)]:
        report = verify(b.archive.replaced(reference.name, flipped(whole, 8 * at_byte + at_byte % 8)))
        assert findings(report) == list(of_object(b, 1, "ALTERED")), at_byte
        assert report.chains[0].verdicts[Verdict.VALID] == good - reference.rows


@pytest.mark.slow
def test_every_single_bit_of_a_segment_changed_is_found_and_in_a_seal_at_that_seal(remembered: None) -> None:
    b = built_small()
    key, segment = b.key(0), b.segment(0)
    whole = b.archive.data(key)
    places = {whole.index(data): (seq, len(data)) for seq, data in enumerate(segment.seals)}
    seal_at = {start + n: seq for start, (seq, size) in places.items() for n in range(size)}
    assert len(segment.seals) == 20
    trust = Trust(ROOT, {}, {})
    archive = b.archive.without(*b.archive.keys("schemas/"), *b.archive.keys("keys/"))  # few certificates: this runs long
    for name in ("sealer", "archive"):
        archive.put(layout.certificate_key(hashlib.sha256(public_of(name)).digest()), root_certified(name, Role(name)))
    version = archive.objects[key][-1]
    for bit in range(8 * len(whole)):
        archive.objects[key] = [replace(version, data=flipped(whole, bit))]
        report = verify_archive(archive, trust)
        assert report.findings, bit
        assert not report.verdicts[Verdict.VALID]
        if bit // 8 in seal_at:
            assert [(f.seq, f.count) for f in report.findings] == [(seal_at[bit // 8], 1)], bit
            assert report.findings[0].kind in ("ALTERED", "BAD-SIGNATURE")
        else:
            assert all((f.seq is not None and 0 <= f.seq < 20) or f.kind == "BAD-SIGNATURE" for f in report.findings), bit
