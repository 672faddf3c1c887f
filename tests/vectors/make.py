"""Makes the vectors in this folder: `python -m tests.vectors.make`; with `--kept` also those that draw randomness.

`good/` is what this version writes, from keys of fixed seeds, so that another implementation can be held against it and a
change of the format shows as a change of a file. `bad/<decoder>/` is what that decoder must refuse, named for what is wrong.
`kept/` are values that hold an HPKE ciphertext: made once, then only read; opening them must go on working.

`kept/archive/` is a whole archive as a copy on disk, `archive/` what a verifier needs beside it (root's vkey, tenants' keys, a
checkpoint kept from earlier) and what it must come to: `expected.json` names for each case the files that differ, which lie
under `archive/<case>/`, those that are gone, and outcome and findings. In the same way `kept/good.bundle` is a bundle, and
`bundles/` says what changed members make of it; `good/form.bundle` is one without evidence, to show the form by.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sealtrail.avro import write_container
from sealtrail.bundle import DISCLOSURE, FILTER, MANIFEST, SUMS
from sealtrail.certificate import Role
from sealtrail.checkpoint import Checkpoint, sign_checkpoint
from sealtrail.ending import Mark
from sealtrail.layout import END
from sealtrail.local import LocalCopy
from sealtrail.merkle import Frontier, node_hash
from sealtrail.proof import format_proof, prove
from sealtrail.report import Report
from sealtrail.seal import (
    SEAL,
    SEAL_NOTE,
    Content,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    Signature,
    decode_seal,
    encode_note,
    encode_seal,
    encode_sealed_event,
    leaf_hash,
    scope,
    scope_key,
    seal_message,
)
from sealtrail.segment import (
    SEGMENT,
    Reference,
    Segment,
    decode_frames,
    decode_segment,
    encode_frames,
    encode_segment,
    open_frame,
    seal_frame,
)
from sealtrail.session import mac_key, open_run, record_mac
from sealtrail.source import Source
from sealtrail.tar import TRAILER, header
from sealtrail.token import FieldCipher, SubjectKey, subject_index, wrap_subject_key
from sealtrail.verify import Trust, verify_archive
from sinks.archive.checking import Entry
from tests import bundles as made_bundles
from tests.archives import (
    AUDIENCE,
    CHAINS,
    PART,
    ROOT,
    START_S,
    TENANTS,
    Archive,
    Built,
    RunScript,
    built,
    certificate,
    checkpoint_of,
    counted,
    ending,
    epoch,
    mark_of,
    openers,
    opening_key,
    public_of,
    seed,
    signing_key,
    statement_of,
    tenant_public,
)
from tests.bundles import packed, signed, unpacked, verified
from tests.test_bundle import BY_KEY, BY_NOBODY, LIES
from tests.test_tamper import CASES

FOLDER = Path(__file__).parent
CHAIN = CHAINS[0]
LOGIN = "ada@example.com"
CONTENT = Content(bytes(range(16)), bytes(range(32)), SEAL_NOTE.sha256, bytes(16), encode_note(detail="st-mac"))
SEAL_0 = Seal(
    prev=bytes(32),
    content_digest=CONTENT.digest(),
    scope=scope(scope_key(seed("disclosure"), "@deployment", CHAIN), 0),
    kind=Kind.GENESIS,
    reason=Reason.NONE,
    log_class=LogClass.NONE,
    signed=False,
    routes=Route.ARCHIVE,
    seq=0,
    source_offset=0,
    source_count=0,
    sealed_at_us=START_S * 1_000_000,
    retain_until_ms=1_792_540_800_000,
    chain=CHAIN,
)
SEAL_1 = replace(
    SEAL_0,
    prev=leaf_hash(encode_seal(SEAL_0)),
    kind=Kind.REJECTED,
    reason=Reason.NOT_AUTHENTIC,
    signed=True,
    routes=Route.ARCHIVE | Route.QUARANTINE,
    seq=1,
    source_count=1,
)
RUN = RunScript("github", epoch(1)).run


_TWO_TO_THE_60 = b"\x80\x80\x80\x80\x80\x80\x80\x80\x20"  # as Avro writes it


def signature(seal: bytes) -> Signature:
    """The sealer's."""
    key = signing_key("sealer")
    return Signature(hashlib.sha256(public_of("sealer")).digest(), key.sign(seal_message(leaf_hash(seal))))


def segment() -> Segment:
    """Both seals, archived."""
    seals = (encode_seal(SEAL_0), encode_seal(SEAL_1))
    frontier = Frontier()
    for data in seals:
        frontier.append(leaf_hash(data))
    key = signing_key("archive")
    checkpoint = sign_checkpoint(Checkpoint(CHAIN, 2, frontier.root()), public_of("archive"), key.sign, START_S)
    name = f"contents/none/2026-10-21/{CHAIN}-{0:020d}-a1.avro"
    reference = Reference(name, "v1", bytes(range(32)), 1000, 2)
    made = Segment(CHAIN, 0, (), seals, ((1, signature(seals[1])),), (reference,), checkpoint, "")
    return replace(made, statement=statement_of(made, bytes(32)))


def end() -> bytes:
    """The sealer's key ended after seven seals of the chain."""
    archive = ending(Archive(), "sealer", Role.SEALER, {CHAIN: Mark(7, seed("root of seven"))})
    return archive.data(next(key for key in archive.objects if key.endswith(END)))


def good() -> dict[str, bytes]:
    """What this version writes."""
    made = segment()
    seal = encode_seal(SEAL_1)
    key = mac_key(seed("session"))
    values = {
        "seeds": {name: seed(name).hex() for name in ("root", "sealer", "archive", "disclosure", "session")},
        "content digest": CONTENT.digest().hex(),
        "leaf hashes": [leaf_hash(data).hex() for data in made.seals],
        "root of both": node_hash(*(leaf_hash(data) for data in made.seals)).hex(),
        "scope key": scope_key(seed("disclosure"), "@deployment", CHAIN).hex(),
        "scope of seq 0": SEAL_0.scope.hex(),
        "seal signature": signature(seal).value.hex(),
        "mac key": key.hex(),
        "mac of audit.raw, 7, 'value'": record_mac(key, "audit.raw", 7, b"value").hex(),
        "schema headers": {c: h.hex() for c, h in (("seal", SEAL.header), ("seal note", SEAL_NOTE.header))},
        "tokens": tokens(),
    }
    return {
        "good/seal.bin": seal,
        "good/sealed_event.bin": encode_sealed_event(SealedEvent(seal, CONTENT, signature(seal))),
        "good/certificate.txt": certificate("sealer", Role.SEALER, PART),
        "good/end.txt": end(),
        "good/checkpoint.txt": made.checkpoint.encode(),
        "good/statement.txt": made.statement.encode(),
        "good/segment.avro": encode_segment(made),
        "good/record.tlog-proof": format_proof(prove(made, SealedEvent(seal, CONTENT, signature(seal)))),
        "good/form.bundle": form(),
        "good/values.json": json.dumps(values, indent=1).encode() + b"\n",
    }


def tokens() -> dict[str, Any]:
    """A field on its way from an application to a sealed event."""
    key = subject_key()
    return {
        "session key": seed("session").hex(),
        "seq, number, event id, path": [7, 2, bytes(range(16)).hex(), "actor.login"],
        "text": LOGIN,
        "encrypted": FieldCipher(seed("session")).encrypt(7, 2, bytes(range(16)), "actor.login", LOGIN.encode()).decode(),
        "subject's key": key.key.hex(),
        "its id": key.key_id.hex(),
        "token for acme": key.token(LOGIN),
        "tenant-index": seed("tenant-index").hex(),
        "index of 'bob'": subject_index(seed("tenant-index"), "bob").hex(),
    }


def subject_key() -> SubjectKey:
    """A subject's key of tenant acme."""
    return SubjectKey("acme", seed("subject, first half") + seed("subject, second half"))


def bad() -> dict[str, bytes]:
    """What must be refused."""
    seal, made = encode_seal(SEAL_1), segment()
    start = seal.index(b"\x02\x06\x0a\x0a\x01\x12")  # version, kind, reason, class, signed, routes
    object_ = encode_segment(made)
    record = object_[len(write_container([], SEGMENT)) :]
    first = _length(made.seals[0]) + made.seals[0]
    note = made.checkpoint
    lines = note.splitlines(keepends=True)
    certified = certificate("sealer", Role.SEALER, PART).decode()
    proof = format_proof(prove(made, SealedEvent(seal, CONTENT, signature(seal))))
    ended = end().decode()
    tables: dict[str, dict[str, bytes]] = {
        "seal": {
            "empty": b"",
            "trailing-byte": seal + b"\0",
            "truncated": seal[:-1],
            "another-schema": SEAL_NOTE.header + seal[10:],
            "schema-registry-framing": b"\0\0\0\0\1" + seal[10:],
            "version-2": seal[:start] + b"\x04" + seal[start + 1 :],
            "overlong-version": seal[:start] + b"\x82\x00" + seal[start + 1 :],
            "kind-6": seal[:start] + b"\x02\x0c" + seal[start + 2 :],
            "signed-is-2": seal[:start] + b"\x02\x06\x0a\x0a\x02" + seal[start + 5 :],
            "route-bit-16": seal[:start] + b"\x02\x06\x0a\x0a\x01\x20" + seal[start + 6 :],
            "negative-seq": encode_seal(replace(SEAL_1, seq=-1)),
            "chain-not-utf8": seal[:-1] + b"\xff",
            "larger-than-a-log-entry": SEAL.encode(SEAL.decode(seal) | {"chain": "c" * 65_535}),
        },
        "segment": {
            "empty": b"",
            "no-record": write_container([], SEGMENT),
            "two-records": object_ + record,
            "trailing-byte": object_ + b"\0",
            "truncated": object_[:-1],
            "another-sync-marker": object_[:-16] + bytes(16),
            "schema-of-another-text": object_.replace(b'"Segment"', b'"Sgement"', 1),
            "seal-count-of-2-to-the-60": object_.replace(b"\x04" + first, _TWO_TO_THE_60 + first, 1),
            "reference-with-a-blank": _referring(made, name="contents/a b"),
            "reference-with-a-newline": _referring(made, version="v1\ncontents/b"),
            "reference-with-del": _referring(made, version="v\x7f1"),
            "reference-of-minus-one-rows": _referring(made, rows=-1),
            "more-seals-than-it-can-hold": encode_segment(replace(made, seals=(b"",) * 2000)),
            "version-2": write_container([SEGMENT.decode_body(_body(record)) | {"version": 2}], SEGMENT),
        },
        "checkpoint": {
            "extension-line": note.replace("\n\n", "\nmore\n\n", 1).encode(),
            "size-with-a-zero": note.replace("\n2\n", "\n02\n", 1).encode(),
            "no-signature": note.partition("\n\n")[0].encode() + b"\n",
            "carriage-returns": note.replace("\n", "\r\n").encode(),
            "hyphen-for-dash": note.replace("—", "-").encode(),
            "no-last-newline": note[:-1].encode(),
            "nul": note.replace("audit", "au\0dit").encode(),
            "del": note.replace("audit", "au\x7fdit").encode(),
            "c1-control": note.replace("audit", "au\x9bdit").encode(),
            "size-of-2-to-the-63": note.replace("\n2\n", f"\n{2**63}\n", 1).encode(),
            "root-of-31-bytes": "".join([*lines[:2], "A" * 40 + "AA==\n", *lines[3:]]).encode(),
        },
        "certificate": {
            "altered-role": certified.replace("role sealer", "role archive").encode(),
            "altered-end": certified.replace("not-after 20", "not-after 21").encode(),
            "another-root": certified.replace("audit.example/root", "audit.example/toor").encode(),
            "line-more": certified.replace("\n\n", "\nmore yes\n\n", 1).encode(),
            "another-signature-too": (certified + certified.splitlines(keepends=True)[-1].replace("root", "toor")).encode(),
            "not-signed": certified.partition("\n\n")[0].encode() + b"\n\n",
        },
        "end": {
            "not-signed": ended.partition("\n\n")[0].encode() + b"\n\n",
            "of-an-auditor": ended.replace("role sealer", "role auditor").encode(),
            "for-no-reason": ended.replace("superseded", "lost").encode(),
            "a-size-with-a-zero": ended.replace(" 7 ", " 07 ").encode(),
            "a-chain-twice": re.sub(r"(chain [^\n]+\n)", r"\1\1", ended, count=1).encode(),
            "chains-out-of-order": ended.replace("\nchain ", f"\nchain {CHAINS[1]} 7 {'A' * 43}=\nchain ", 1).encode(),
            "a-chain-that-is-none": ended.replace(f"chain {CHAIN}", "chain elsewhere").encode(),
            "no-root": re.sub(r" 7 [^\n]+\n", " 7\n", ended, count=1).encode(),
            "line-more": ended.replace("\n\n", "\nmore yes\n\n", 1).encode(),
            "a-time-with-an-offset": ended.replace("20Z", "20+00:00").encode(),
        },
        "proof": {
            "empty": b"",
            "version-2": proof.replace(b"@v1", b"@v2", 1),
            "no-extra": re.sub(rb"extra [^\n]+\n", b"", proof, count=1),
            "another-index": proof.replace(b"index 1\n", b"index 0\n", 1),
            "index-with-a-zero": proof.replace(b"index 1\n", b"index 01\n", 1),
            "no-hashes": re.sub(rb"(index 1\n)[^\n]+\n", rb"\1", proof, count=1),
            "no-checkpoint": proof.partition(b"\n\n")[0] + b"\n\n",
            "carriage-returns": proof.replace(b"\n", b"\r\n"),
            "trailing-line": proof + b"more\n",
        },
        "bundle": {name: edit(form()) for name, edit in BAD_FORMS.items()},
    }  # fmt: skip
    return {f"bad/{decoder}/{name}.bin": data for decoder, table in tables.items() for name, data in table.items()}


def form() -> bytes:
    """A bundle of the members alone that every one has."""
    files = unpacked((FOLDER / "kept" / "good.bundle").read_bytes())
    return signed({name: files[name] for name in (MANIFEST, SUMS, FILTER, DISCLOSURE)})


def _text(name: str, old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A bundle with one of its texts changed, and signed."""

    def edit(data: bytes) -> bytes:
        files = unpacked(data)
        changed = {**files, name: files[name].replace(old, new, 1)}
        return packed(changed) if name in (MANIFEST, SUMS) else signed(changed)

    return edit


BAD_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "trailing-byte": lambda data: data + b"\0",
    "end-of-three-blocks": lambda data: data + bytes(512),
    "end-of-one-block": lambda data: data[:-512],
    "truncated": lambda data: data[:1000],
    "byte-in-the-padding": lambda data: data[:1000] + b"x" + data[1001:],
    "executable": lambda data: _headed(data, 100, b"0000755\0"),
    "symbolic-link": lambda data: _headed(data, 156, b"2"),
    "owner": lambda data: _headed(data, 265, b"root"),
    "mtime": lambda data: _headed(data, 136, b"00000000001\0"),
    "upwards": lambda data: _headed(data, 0, b"../a\0\0\0\0"),
    "another-checksum": lambda data: data[:148] + b"000000\0 " + data[156:],
    "size-in-base-256": lambda data: _headed(data, 124, b"\x80" + bytes(10) + b"\x01"),
    "member-twice": lambda data: data[: -len(TRAILER)] + header(FILTER, 0) + TRAILER,
    "not-sorted": lambda data: header("z", 0) + data,
    "no-manifest": lambda data: packed({name: d for name, d in unpacked(data).items() if name != MANIFEST}),
    "no-filter": lambda data: packed({name: d for name, d in unpacked(data).items() if name != FILTER}),
    "manifest-version-2": _text(MANIFEST, b"bundle/v1", b"bundle/v2"),
    "manifest-line-more": _text(MANIFEST, b"\n\n", b"\nmore yes\n\n"),
    "manifest-31st-of-september": _text(MANIFEST, b"\nmade 2026-09-22", b"\nmade 2026-09-31"),
    "sums-in-binary-mode": _text(SUMS, b"  ", b" *"),
    "filter-with-a-blank": _text(FILTER, b",", b", "),
    "filter-classes-empty": _text(FILTER, b'["operational"]', b"[]"),
    "filter-time-with-offset": _text(FILTER, b"15:13:20Z", b"15:13:20+00:00"),
    "filter-time-with-zero-fraction": _text(FILTER, b"15:13:20Z", b"15:13:20.000000Z"),
    "filter-twice-the-tenant": _text(FILTER, b'"tenant":"acme"', b'"tenant":"acme","tenant":"acme"'),
    "filter-no-tenant": _text(FILTER, b'"tenant":"acme"', b'"tenant":null'),
    "disclosure-with-an-empty-line": _text(DISCLOSURE, b"\n", b"\n\n"),
    "disclosure-of-no-chain": _text(DISCLOSURE, b"/0 ", b"/00 "),
}


def _headed(data: bytes, at: int, new: bytes) -> bytes:
    """The first header with other bytes, its checksum made right."""
    block = data[:at] + new + data[at + len(new) : 512]
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:] + data[512:]


def bundles() -> dict[str, bytes]:
    """Every case of `test_bundle` that can be taken apart, as what differs from `kept/good.bundle`."""
    untouched = unpacked((FOLDER / "kept" / "good.bundle").read_bytes())
    cases = {"untouched": untouched}
    cases |= {name: unpacked(signed(edit(untouched))) for name, (edit, _) in LIES.items()}
    cases |= {f"signed by {who}": unpacked(signed(untouched, key=key, name=name)) for who, (key, name) in BY_KEY.items()}
    cases |= {name: edit(untouched) for name, edit in BY_NOBODY.items()}
    files: dict[str, bytes] = {}
    expected = []
    for name, changed in cases.items():
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
        files |= {f"bundles/{slug}/{n}": data for n, data in changed.items() if untouched.get(n) != data}
        report = verified(packed(changed))
        expected.append(
            {
                "name": name,
                "folder": slug,
                "gone": sorted(untouched.keys() - changed.keys()),
                "outcome": "good" if report.good else "not verified",
                "findings": [{n: v for n, v in f.as_json().items() if n not in ("detail", "where")} for f in report.findings],
                "valid": report.verdicts["VALID"],
                "seals": sum(c.seals for c in report.chains),
            }
        )
    files["bundles/expected.json"] = json.dumps(expected, indent=1).encode() + b"\n"
    return files


def archive() -> dict[str, bytes]:
    """Every case of `test_tamper` that a copy on disk can show, as what differs from `kept/archive`."""
    good = from_disk()
    copy = LocalCopy(FOLDER / "kept" / "archive")
    trusted = checkpoint_of([entry for segment in good.chains[CHAIN] for entry in segment])
    files = {
        "archive/root.vkey": f"{ROOT.vkey}\n".encode(),
        "archive/trusted.checkpoint": trusted.encode(),
        **{f"archive/keys/{tenant}.key": opening_key(f"tenant-data-{tenant}").private_bytes_raw() for tenant in TENANTS},
    }
    expected = [_expected("untouched", {}, [], "", copy), _expected("untouched, with a checkpoint", {}, [], trusted, copy)]
    entries, others = ([e for segment in good.chains[chain] for e in segment] for chain in CHAINS)
    marks = {CHAIN: mark_of(entries, len(entries)), CHAINS[1]: mark_of(others, len(others))}
    rotated = ending(ending(good.archive, "sealer", Role.SEALER, marks), "archive", Role.ARCHIVE, marks)
    added = {key: rotated.data(key) for key in sorted(rotated.objects.keys() - good.archive.objects.keys())}
    files |= {f"archive/keys-that-ended/{name}": data for name, data in added.items()}
    expected.append(_expected("keys that ended", added, [], "", damaged_copy(rotated)) | {"folder": "keys-that-ended"})
    for case in CASES:
        damaged = case.damage(good)
        if case.name == "and sworn to by a forger" or any(finding[0] in ("HIDDEN", "WRONG-LOCK") for finding in case.findings):
            continue  # it encrypts anew; and a copy has neither versions nor locks
        changed = {k: damaged.data(k) for k in damaged.objects if good.archive.objects.get(k) != damaged.objects[k]}
        gone = sorted(good.archive.objects.keys() - damaged.objects.keys())
        slug = re.sub(r"[^a-z0-9]+", "-", case.name.lower())
        files |= {f"archive/{slug}/{name}": data for name, data in changed.items()}
        checkpoint = trusted if case.trusted else ""
        expected.append(_expected(case.name, changed, gone, checkpoint, damaged_copy(damaged)) | {"folder": slug})
    files["archive/expected.json"] = json.dumps(expected, indent=1).encode() + b"\n"
    return files


def damaged_copy(damaged: Archive) -> Archive:
    """As a copy on disk shows it: without locks."""
    copy = damaged.copy()
    copy.without_locks = True
    return copy


def _expected(name: str, changed: dict[str, bytes], gone: list[str], checkpoint: str, source: Source) -> dict[str, Any]:
    report = verify_archive(source, Trust(ROOT, openers(*TENANTS), {CHAIN: checkpoint.encode()} if checkpoint else {}))
    return {
        "name": name,
        "folder": None,
        "changed": sorted(changed),
        "gone": gone,
        "checkpoint": bool(checkpoint),
    } | result(report)


def result(report: Report) -> dict[str, Any]:
    """What every verifier must come to."""
    return {
        "outcome": "good" if report.good else "intact" if report.intact else "not verified",
        "findings": [{n: v for n, v in f.as_json().items() if n not in ("detail", "where")} for f in report.findings],
        "valid": report.verdicts["VALID"],
        "seals": sum(c.seals for c in report.chains),
    }


def from_disk() -> Built:
    """The archive of `kept/archive`, and what was sealed into it, read back from it."""
    made, chains = Archive(), dict[str, list[list[Entry]]]()
    folder = FOLDER / "kept" / "archive"
    for path in sorted(p for p in folder.rglob("*.*") if p.is_file()):
        made.put(path.relative_to(folder).as_posix(), path.read_bytes())
    for key in made.keys("chains/"):
        segment = decode_segment(made.data(key))
        chains.setdefault(segment.chain, []).append(_entries(made, segment))
    return Built(made, chains)


def _entries(made: Archive, segment: Segment) -> list[Entry]:
    rows: dict[int, tuple[Content, str]] = {}
    signatures = dict(segment.signatures)
    for reference in segment.contents:
        for frame in decode_frames(made.data(reference.name)):
            opened = open_frame(frame, openers(frame.tenant)[frame.key_id])
            rows |= {seq: (content, frame.tenant) for seq, content in opened}
    found = []
    for data in segment.seals:
        seal = decode_seal(data)
        content, tenant = rows[seal.seq]
        found.append(Entry(seal, data, leaf_hash(data), content, signatures.get(seal.seq), tenant))
    return found


def kept() -> dict[str, bytes]:
    """Different at every call: they hold HPKE ciphertexts."""
    whole = built().archive
    return kept_alone() | {f"kept/archive/{key}": whole.data(key) for key in whole.objects}


def kept_alone() -> dict[str, bytes]:
    """Of these, what is one value alone."""
    source, pipeline = signing_key("source-github"), public_of_opening("pipeline")
    frame = seal_frame(
        [(0, CONTENT), (1, CONTENT)],
        chain=CHAIN,
        first_seq=0,
        log_class="none",
        tenant="@deployment",
        public=tenant_public("@deployment"),
        random=counted("vectors"),
    )
    session = open_run(RUN, AUDIENCE, seed("session"), pipeline, public_of("source-github"), source.sign)
    bundle = made_bundles.of_an_hour()
    index = subject_index(seed("tenant-index"), "bob")
    wrapped = wrap_subject_key(CHAIN, index, subject_key(), START_S * 1_000_000, public_of_opening("tenant-subject-acme"))
    return {
        "kept/contents.avro": encode_frames([frame]),
        "kept/session.bin": session,
        "kept/good.bundle": bundle,
        "kept/subject_key.bin": wrapped.encode(),
    }


def public_of_opening(name: str) -> bytes:
    """The public half of a key that opens, 32 bytes."""
    return opening_key(name).public_key().public_bytes_raw()


def _referring(made: Segment, **fields: Any) -> bytes:
    """A segment whose one reference is another."""
    return encode_segment(replace(made, contents=(replace(made.contents[0], **fields),)))


def _length(data: bytes) -> bytes:
    zigzag = len(data) << 1
    return bytes([zigzag & 0x7F | 0x80, zigzag >> 7]) if zigzag > 0x7F else bytes([zigzag])


def _body(block: bytes) -> bytes:
    """The record of a container's one block: without its count, its size and the sync marker."""
    size, shift, position = 0, 0, 1
    while True:
        size |= (block[position] & 0x7F) << shift
        shift, position = shift + 7, position + 1
        if not block[position - 1] & 0x80:
            return block[position : position + (size >> 1)]


def write(files: dict[str, bytes]) -> None:
    """Write files below this folder."""
    for name, data in files.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    if "--kept" in sys.argv[1:]:
        write(kept())
    write(good() | bad() | archive() | bundles())
