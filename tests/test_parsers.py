"""Every parser of evidence against hostile bytes: it reads them or raises EvidenceError, in memory that its input bounds.

Inputs are what is good, damaged as an attacker who knows the format would: bits, cuts, repeats, pieces of other values, and
lengths that promise more than there is. `make fuzz` runs the same for longer.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sealtrail
from sealtrail.bundle import DISCLOSURE, FILTER, MANIFEST, SUMS, parse_manifest, parse_sums
from sealtrail.certificate import verify_certificate
from sealtrail.checkpoint import parse_checkpoint, verify_checkpoint
from sealtrail.disclosed import decode_filter, decode_keys, decode_records
from sealtrail.ending import parse_end
from sealtrail.errors import EvidenceError
from sealtrail.hold import decode_items, encode_items, verify_manifest
from sealtrail.note import parse_note, parse_vkey
from sealtrail.proof import parse_proof, verify_proof
from sealtrail.seal import SEAL_NOTE, decode_seal, decode_sealed_event
from sealtrail.segment import decode_frames, decode_segment, parse_statement
from sealtrail.session import verify_session
from sealtrail.sworn import sworn
from sealtrail.token import SUBJECT_KEY, parse_wrapped_key, subject_prefix
from tests.archives import ROOT, public_of
from tests.bundles import opened, unpacked
from tests.test_hold import ITEMS, SIGNED
from tests.test_hold import KEYRING as HOLDERS
from tests.test_vectors import KEYRING
from tests.vectors.make import CHAIN, CONTENT, FOLDER

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
PER_BYTE, BASE = 400, 1 << 17  # of memory: a decoded value takes many times its bytes, and never more than that


def vector(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text, fed with bytes that may be none."""
    return lambda data: parse(data.decode("utf-8", "replace"))


def wrapped_key(value: bytes) -> object:
    """A record of `audit.subject-keys`, under the key that its value states."""
    stated = SUBJECT_KEY.decode(value)
    return parse_wrapped_key(subject_prefix(CHAIN, stated["subject"]) + stated["key_id"], value)


BUNDLE = unpacked(vector("kept/good.bundle"))
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "vkey": (text(parse_vkey), ROOT.vkey.encode()),
    "note": (parse_note, vector("good/checkpoint.txt")),
    "checkpoint": (parse_checkpoint, vector("good/checkpoint.txt")),
    "checkpoint, verified": (lambda d: verify_checkpoint(d, public_of("archive")), vector("good/checkpoint.txt")),
    "statement": (text(parse_statement), vector("good/statement.txt").partition(b"\n\n")[0] + b"\n"),
    "certificate": (lambda d: verify_certificate(d, ROOT), vector("good/certificate.txt")),
    "end of a key": (parse_end, vector("good/end.txt")),
    "proof": (parse_proof, vector("good/record.tlog-proof")),
    "proof, verified": (lambda d: verify_proof(parse_proof(d), KEYRING), vector("good/record.tlog-proof")),
    "seal": (decode_seal, vector("good/seal.bin")),
    "seal note": (SEAL_NOTE.decode, CONTENT.content),
    "sealed event": (decode_sealed_event, vector("good/sealed_event.bin")),
    "segment": (decode_segment, vector("good/segment.avro")),
    "segment, sworn": (lambda d: sworn(decode_segment(d), KEYRING), vector("good/segment.avro")),
    "contents": (decode_frames, vector("kept/contents.avro")),
    "items of a hold": (decode_items, encode_items(ITEMS)),
    "manifest of a hold": (lambda d: verify_manifest(d, HOLDERS), SIGNED),
    "bundle": (opened, vector("good/form.bundle")),
    "manifest of a bundle": (parse_manifest, BUNDLE[MANIFEST]),
    "sums of a bundle": (parse_sums, BUNDLE[SUMS]),
    "filter of a bundle": (decode_filter, BUNDLE[FILTER]),
    "disclosure keys of a bundle": (decode_keys, BUNDLE[DISCLOSURE]),
    "records of a bundle": (decode_records, next(data for name, data in BUNDLE.items() if name.startswith("records/"))),
    "session": (lambda d: verify_session(d, KEYRING, 0), vector("kept/session.bin")),
    "key of a subject": (wrapped_key, vector("kept/subject_key.bin")),
}
PIECES = sorted({good for _, good in PARSERS.values()})
HUGE = [b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80\x80\x80\x80\x20", b"\x80\x80\x80\x80\x80\x80\x80\x80\x20"]


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Some damages of a good value, one on top of the other."""
    data = good
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(1, 64))
        how = draw(st.integers(0, 6))
        if how == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif how == 1:
            data = data[:at] + data[at + size :]
        elif how == 2:
            data = data[:at] + draw(st.binary(max_size=64)) + data[at:]
        elif how == 3:
            data = data[:at] + data[at : at + size] * draw(st.integers(2, 40)) + data[at:]
        elif how == 4:
            other = draw(st.sampled_from(PIECES))
            start = draw(st.integers(0, len(other)))
            data = data[:at] + other[start : start + 4 * size] + data[at:]
        elif how == 5:
            data = data[:at] + draw(st.sampled_from(HUGE)) + data[at + draw(st.integers(0, 10)) :]
        else:
            data = data[:at]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_bytes_are_read_or_an_evidence_error_in_bounded_memory(name: str) -> None:
    parse, good = PARSERS[name]
    if name != "session":  # its time is another
        parse(good)
    longest = [0.0]

    @given(damaged(good))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(data: bytes) -> None:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with suppress(EvidenceError):
            parse(data)
        taken = tracemalloc.get_traced_memory()[1] - before
        longest[0] = max(longest[0], taken / (BASE + PER_BYTE * len(data)))
        assert taken <= BASE + PER_BYTE * len(data), f"{taken:,} bytes for {len(data):,}"

    tracemalloc.start()
    try:
        run()
    finally:
        tracemalloc.stop()
    assert longest[0] > 0, "something was parsed"


def test_every_parser_of_the_package_is_among_them() -> None:
    """A new `parse_…` or `decode_…` of bytes must be added above."""
    found = set()
    for path in Path(sealtrail.__file__).parent.glob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith(("def parse_", "def decode_")) and "bytes" in line.partition(")")[0]:
                found.add(line.removeprefix("def ").partition("(")[0])
    known = {"parse_note", "parse_checkpoint", "parse_proof", "parse_end", "decode_seal", "decode_sealed_event"}
    known |= {"decode_segment", "decode_frames", "decode_items"}
    known |= {"parse_manifest", "parse_sums", "decode_filter", "decode_keys", "decode_records", "parse_wrapped_key"}
    assert found == known, found ^ known
