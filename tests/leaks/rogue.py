"""A client that does not redact, as an entitled source: its records show that the scan finds what is there.

Authentic and numbered like the real producer's, uncompressed. Each value must be found on the raw topic, where it stays for a
short time, and nowhere else.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from random import Random
from typing import Any

from kafkaio.producer import IdempotentProducer
from producers.drafts import completed
from producers.identity import Identity
from producers.lifecycle import opened
from producers.run import Prepared
from producers.uuid7 import Uuid7
from schemas.catalogue import RAW, topic_name
from schemas.encoder import split_encoder
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from tests.leaks.forms import ALNUM, UPPER, luhn, some
from tests.leaks.plant import SOURCE, draft
from tests.strategies import GITHUB

INSTANCE = "rogue"


@dataclass(frozen=True, slots=True)
class Planted:
    """One value that the rogue lets out: where, and what the leak's report calls it. sealed: its event, with a mark."""

    value: str
    field: str
    shape: str
    sealed: bool


def planted(seed: int) -> tuple[Planted, ...]:
    """What is let out: marked fields in clear, secrets where a mark fits, and where none does."""
    random = Random(f"rogue/{seed}")
    return (
        Planted(f"Rogue {some(random, ALNUM, 20)} says so", "reason", "not-masked", False),
        Planted(f"{some(random, 'abcdefghijk', 14)}@rogue.example", "actor.id", "not-hashed", False),
        Planted(f"{some(random, 'abcdefghijk', 14)}@rogue.example", "subject.login", "not-tokenized", False),
        Planted("AKIA" + some(random, UPPER, 16), "ticket", "aws-access-key", True),
        Planted("xoxb-" + some(random, ALNUM, 40), "object.id", "slack-token", True),
        Planted("glpat-" + some(random, "abcdefghijk0123456789", 30), "source_system", "gitlab-token", False),
        Planted(luhn(random, "4", 16), "extension.payload.delivery_id", "card-number", False),
    )


def let_out(settings: Settings, seed: int) -> None:
    """Write one event for each, after the run's opening. Raises AssertionError if Kafka does not take them."""
    identity, topic = Identity(settings, SOURCE, INSTANCE), topic_name(settings.topic_prefix, RAW)
    uuid7, encode = Uuid7(time.time_ns, os.urandom), split_encoder(AUDIT_EVENT.text, "emitter")
    run = identity.open(uuid7(), os.urandom(32), topic, time.time())
    problems: list[str | None] = []
    producer = IdempotentProducer(
        settings, topic, run.run.key, lambda _, problem: problems.append(problem), **{"compression.type": "none"}
    )

    def send(event: dict[str, Any]) -> None:
        full = completed(
            event, event_id=uuid7(), source=SOURCE, instance=INSTANCE, region=settings.region, now_us=time.time_ns() // 1000
        )
        assert producer.produce(*run.record(Prepared(*encode(full))))

    nobody = {"kind": "SYSTEM", "id": "", "display": None}
    send({**opened(run.run.key, run.session), "actor": nobody})
    for number, one in enumerate(planted(seed)):
        event, extension = draft(Random(number), number)
        event["actor"] = nobody
        event["subject"], event["changes"] = None, []
        _set(event, extension, one)
        event["extension"] = {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(extension)}
        send(event)
    assert producer.flush(60) == 0 and not any(problems), problems


def _set(event: dict[str, Any], extension: dict[str, Any], one: Planted) -> None:
    if one.field.startswith("extension.payload."):
        extension[one.field.rpartition(".")[2]] = one.value
    elif one.field == "actor.id":
        event["actor"] = {"kind": "USER", "id": one.value, "display": None}
    elif one.field == "subject.login":
        event["subject"] = {"id": "", "display": None, "login": one.value}
    elif one.field == "object.id":
        event["object"] = {"type": "room", "id": one.value}
    else:
        event[one.field] = one.value
