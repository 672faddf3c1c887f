"""What every simulated deployment shares: keys, the real pipeline, records of authentic runs. Made once a process."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra import keys
from infra.places import Places
from keystore import load_keyring, load_root
from processors.assembly import pipeline_of
from processors.pipeline import Pipeline
from processors.records import RawRecord
from schemas.partitioner import partition_of
from schemas.policy_files import PolicyFiles
from schemas.redact import hash_value
from schemas.settings import Settings
from sealtrail.keyring import Keyring
from sealtrail.token import FieldCipher
from tests.test_pipeline import NOW_S, Speaker, World, uuid7

RAW_PARTITIONS = (2, 3)  # of a simulated deployment
RUNS = 2  # emitters a raw partition
NUMBERS = 40  # records a run
LARGE = 3000  # bytes that some records exceed
GARBAGE = random.Random(1).randbytes(60)
_TYPES = ("OTHER", "ADMIN", "AUTHENTICATION", "OTHER")


@dataclass(frozen=True, slots=True)
class Stage:
    """The same for every seed."""

    settings: Settings
    pipeline: Pipeline
    policies: PolicyFiles
    keyring: Keyring
    runs: dict[tuple[int, int], list[list[RawRecord]]]  # by how many raw partitions there are, and which
    folder: TemporaryDirectory[str]  # of the keys; it goes with the stage


def set_up() -> Stage:
    """With keys of its own, as the local stack makes them."""
    folder = TemporaryDirectory()
    places = Places(Path(folder.name))
    keys.ensure(places, datetime.fromtimestamp(NOW_S, UTC))
    world = World(places, None, b"")  # type: ignore[arg-type]  # its speakers need no pipeline
    vkey = places.root / "root.vkey"
    anywhere = {"kafka_bootstrap": "simulated", "kafka_ca": vkey, "kafka_certificate": vkey, "kafka_key": vkey}
    quick = {"heartbeat_s": 5.0, "batch_ms": 200, "batch_records": 8}
    settings = world.settings("sealer").model_copy(update={**anywhere, **quick})
    pipeline = pipeline_of(settings, clock=lambda: float(NOW_S))
    runs = {(count, p): _runs(world, count, p) for count in RAW_PARTITIONS for p in range(count)}
    policies = PolicyFiles(None, lambda: 0.0)  # the packaged one, which is read once
    return Stage(settings, pipeline, policies, load_keyring(places.keys / "certs", load_root(vkey)), runs, folder)


def seeded(pipeline: Pipeline, choice: random.Random) -> Pipeline:
    """The pipeline, with salts that a seed gives."""
    return replace(pipeline, random=choice.randbytes)


def _runs(world: World, count: int, partition: int) -> list[list[RawRecord]]:
    names = (f"i{number}" for number in range(1000))
    here = [next(n for n in names if partition_of(f"github/{n}".encode(), count) == partition) for _ in range(RUNS)]
    return [
        _records(world.speaker(instance=name, epoch=epoch), FieldCipher(bytes([epoch]) * 32), 1000 * (RUNS * partition + epoch))
        for epoch, name in enumerate(here, 1)
    ]


def _records(speaker: Speaker, cipher: FieldCipher, first: int) -> list[RawRecord]:
    made = []
    for number in range(NUMBERS):
        scopes = ["s" * 200] * (LARGE // 200 + 1) if number % 13 == 7 else []
        access = {"method": "NONE", "scopes": scopes, "policy": None, "policy_version": None, "decision": "ALLOW"}
        fields: dict[str, Any] = {"event_type": _TYPES[number % len(_TYPES)], "authorization": access} if number else {}
        event_id = uuid7(10_000 + first + number)
        if number % 4 == 3:  # tokenised, once the event has such a field
            login = cipher.encrypt(number, 0, event_id, "actor.login", b"alice@example.com").decode()
            fields["actor"] = {"kind": "USER", "id": hash_value(bytes(32), f"u-{number % 3}"), "display": None, "login": login}
        made.append(speaker.record(number, event_id=event_id, **fields))
    return made
