"""The native kernel against hostile bytes, for longer than the tests do; best with its sanitizers.

    python -m tests.kernel_fuzz [SECONDS] [SEED]

With AddressSanitizer and UBSan (gcc):

    python -m processors.native.build --sanitize
    export LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc
    python -m tests.kernel_fuzz 600
    rm processors/native/_kernel-*; python -m processors.native.build

Each round bends good events, with and without extension and encrypted values, at some places; both forms of the locator must
agree. Then a batch of good, bent, repeated and missing records must be sealed alike with the kernel, without it, and step by
step. The last line has the counts; the first thing that differs ends it, with its seed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processors.native import load
from processors.records import RawRecord
from schemas.registry import AUDIT_EVENT
from sealtrail.avro import HEADER_SIZE
from sealtrail.token import FieldCipher
from tests.locators import Both
from tests.strategies import GITHUB, minimal_event
from tests.test_contract import full_event
from tests.test_locator import A_HASH, ASKED, REDACT, REGION, REGISTRY, TOKENIZED, WALK_PEOPLE, WITH_PEOPLE
from tests.test_pipeline import MESSAGE, Speaker, World, github_value, made_world, sealed_alike

TELLING = (0, 1, 2, 3, 0x20, 0x3E, 0x40, 0x7E, 0x7F, 0x80, 0x81, 0xC3, 0xFE, 0xFF)


def main(seconds: float = 60.0, seed: int = 0) -> None:
    """Bend and compare until the time is over."""
    kernel = load()
    if kernel is None:
        raise SystemExit("no native kernel here: python -m processors.native.build")
    plain, people = Both(kernel, REGISTRY, REGION, ASKED), Both(kernel, REGISTRY, REGION, ASKED, WITH_PEOPLE)
    goods = [(plain, data) for data in _goods()] + [(people, data) for data in _people()]
    chance, end = random.Random(seed), time.monotonic() + seconds
    tried = located = batches = 0
    with tempfile.TemporaryDirectory() as folder:
        world = made_world(Path(folder), native=True)
        while time.monotonic() < end:
            for _ in range(2000):
                both, good = chance.choice(goods)
                tried += 1
                located += both(bent(chance, good)) is not None
            records = list(_records(chance, world, [good for both, good in goods if both is plain]))
            sealed_alike(world.pipeline, [records[: len(records) // 2], records[len(records) // 2 :]], world.pipeline.policy)
            batches += 1
    print(f"{tried:,} bent events, {located:,} of them located; {batches:,} batches sealed alike; seed {seed}")


def bent(chance: random.Random, good: bytes) -> bytes:
    """The bytes with one to three changes, mostly behind the header."""
    made = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(HEADER_SIZE if chance.random() < 0.99 else 0, max(len(made), HEADER_SIZE + 1))
        match chance.randrange(8):
            case 0 | 1 | 2:
                made[place : place + 1] = bytes([chance.choice(TELLING)])
            case 3:
                made[place : place + 1] = bytes([made[place] ^ 1 << chance.randrange(8)]) if place < len(made) else b""
            case 4:
                del made[place : place + chance.choice((1, 1, 2, 16))]
            case 5:
                made[place:place] = chance.randbytes(chance.choice((1, 1, 2, 9)))
            case 6:
                del made[place:]
            case _:
                start = chance.randrange(len(made) or 1)
                made[place:place] = made[start : start + chance.randrange(1, 40)]
    return bytes(made)


def _goods() -> Iterator[bytes]:
    """Encoded events that are located."""
    full = full_event()
    payload = GITHUB.encode_body(
        github_value(ref_forced=True, settings=[{"name": "contents", "before": "read", "after": None}])
    )
    drafts: list[dict[str, Any]] = [
        minimal_event(),
        minimal_event(message=MESSAGE, correlation_id="m-1", ticket="T-1"),
        full,
        {**full, "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "changes": full["changes"] * 3},
        minimal_event(extension={"schema": GITHUB.sha256, "payload": payload}),
    ]
    for draft in drafts:
        yield AUDIT_EVENT.encode(TOKENIZED(REDACT({**draft, "region": REGION}), lambda *_: ""))


def _people() -> Iterator[bytes]:
    cipher = FieldCipher(bytes(32))
    named = {"id": A_HASH, "login": "ada", "address": "b" * 60, "name": "ü" * 300, "manager": None, "late": None, "after": None}
    for people in ([], [named], [named, dict.fromkeys(named), {**named, "id": None}]):
        event = {**TOKENIZED(REDACT(minimal_event(region=REGION)), lambda *_: ""), "people": people}
        event = WALK_PEOPLE(event, lambda path, text, _: cipher.encrypt(3, 0, bytes(16), path, text.encode()).decode())
        yield WITH_PEOPLE.encode(event)


def _records(chance: random.Random, world: World, goods: list[bytes]) -> Iterator[RawRecord]:
    """Records of some runs: good and bent ones, resends, skipped numbers, missing offsets, headers and keys exchanged."""
    speakers = [world.speaker(), world.speaker(epoch=2), world.speaker("loadgen")]
    numbers, offset, earlier = [0, 0, 0], -1, list[RawRecord]()
    for _ in range(60):
        who = chance.randrange(len(speakers))
        record = _record(chance, speakers[who], numbers[who], goods)
        numbers[who] += chance.choice((0, 1, 1, 1, 1, 1, 1, 1, 2))
        if earlier and chance.random() < 0.1:
            other = chance.choice(earlier)
            record = chance.choice(
                (
                    other,
                    record._replace(headers=other.headers),
                    record._replace(key=other.key),
                    record._replace(value=other.value),
                )
            )
        earlier.append(record)
        offset += chance.choice((1,) * 15 + (2, 3))
        yield record._replace(offset=offset)


def _record(chance: random.Random, speaker: Speaker, number: int, goods: list[bytes]) -> RawRecord:
    if not number:
        return speaker.record(0)
    fields = AUDIT_EVENT.decode(chance.choice(goods))
    for name in ("event_id", "emitter", "event_name", "tenant"):
        del fields[name]
    event = speaker.event(number, **{**fields, "tenant": chance.choice(("acme", "globex", "nobody"))})
    event["actor"] = {**event["actor"], "login": chance.choice((None, "ada", "bob"))}
    value = AUDIT_EVENT.encode(speaker.encrypted(number, event))
    return speaker.record(number, bent(chance, value) if chance.random() < 0.1 else value)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 60.0, int(sys.argv[2]) if sys.argv[2:] else 0)
