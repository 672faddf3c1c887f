"""The leak test on the session's stack, with fewer events than `make leaktest`; and its scanner, which can fail."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from random import Random
from urllib.parse import quote

import pytest

from infra.report import Reporter
from infra.stack import Stack
from tests.conftest import BUCKETS
from tests.leaks.__main__ import Metered, run
from tests.leaks.forms import ALNUM, luhn, some
from tests.leaks.plant import pool
from tests.leaks.scan import Scanner

EVENTS = int(os.environ.get("LEAK_EVENTS", "600"))
BUCKET = BUCKETS[3]  # shared with nothing that leaves damage


@pytest.mark.slow
def test_no_planted_value_is_in_any_store_and_what_is_let_out_is_found_told_and_goes_no_further(search_stack: Stack) -> None:
    with Metered(search_stack, Reporter(quiet=True)) as session:
        session.set(archive_bucket=BUCKET)
        checks, summary = run(session, EVENTS, 20_261_128)
    print("\n".join([*checks.lines(), summary]))
    assert not [f"{check.claim}: {check.measured}" for check in checks.all if not check.good]


R = Random(4)
VALUES = {
    "a token": some(R, ALNUM, 36),
    "a name": "Jörg Quendlinburg",
    "a mail": "jorg.quendlinburg@zwetschge.example",
    "a phone": "+49 341 99887766",
    "a card": luhn(R, "4", 16),
    "a long key": "\n".join(some(R, ALNUM + "+/", 64) for _ in range(10)),
}
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "clear": str.encode,
    "lower case": lambda v: v.lower().encode(),
    "hex": lambda v: v.encode().hex().encode(),
    "upper hex": lambda v: v.encode().hex().upper().encode(),
    "base64": lambda v: base64.b64encode(v.encode()),
    "base64 behind one byte": lambda v: base64.b64encode(b"x" + v.encode() + b"yz"),
    "base64 behind two bytes": lambda v: base64.b64encode(b"xy" + v.encode() + b"z"),
    "base64url": lambda v: base64.urlsafe_b64encode(b"xyz" + v.encode()),
    "URL": lambda v: quote(v, safe="").encode(),
    "JSON": lambda v: json.dumps(v).encode(),
    "UTF-16": lambda v: v.encode("utf-16-le"),
    "UTF-16, big end first": lambda v: v.encode("utf-16-be"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", VALUES)
def test_the_scan_finds_a_value_in_every_encoding(value: str, encoding: str) -> None:
    scanner = Scanner(VALUES.values())
    noise = Random(1).randbytes(5000)
    scanner.scan("store", noise + ENCODINGS[encoding](VALUES[value]) + noise, "here")
    assert set(scanner.stores["store"].hits) == {VALUES[value]}
    assert list(scanner.hits(VALUES.values())) == ["store"]
    assert not scanner.hits(VALUES.values(), but=["store"])


def test_the_scan_finds_a_part_of_a_value_and_one_across_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.leaks.scan.CHUNK", 1000)
    token = VALUES["a token"]
    scanner = Scanner([token])
    scanner.scan("part", token[:24].encode())
    for at in range(960, 1010):
        scanner.scan(f"across {at}", bytes(at) + token.encode())
    assert len(scanner.hits([token])) == 51


def test_the_scan_finds_nothing_in_what_a_mask_or_a_mark_leaves() -> None:
    given = pool(3)
    scanner = Scanner(given.values)
    for name, mail, phone in given.persons:
        scanner.scan("masked", f"{'*' * 12}{name[-4:]} {'*' * 12}{mail[-4:]} {phone[-4:]} [secret:jwt]".encode())
    scanner.scan("noise", Random(2).randbytes(2_000_000) + base64.b64encode(Random(3).randbytes(2_000_000)))
    assert not scanner.hits(given.values)
    assert scanner.size > 4_000_000
