"""Events with values of persons and secrets in every text that can hold one; deterministic by the seed.

    python -m tests.leaks.plant CONFIG --seed N --count N --result FILE

As a process it hands them to the real producer, and writes what became of them. A text of the schema is planted with what its
pattern admits; where none of the pool is admitted it is left alone.
"""

from __future__ import annotations

import argparse
import json
import re
import string
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from producers.audit import AuditProducer
from schemas.fields import DataClass, Node, Redact, field_tree
from schemas.registry import AUDIT_EVENT
from schemas.secrets import MARK
from schemas.settings import Settings
from sealtrail.errors import ContractError
from tests.leaks.forms import luhn, made, some
from tests.leaks.places import places
from tests.strategies import GITHUB

SOURCE = "loadgen"
TENANTS = ("acme", "globex", "initech")
KINDS = ("OTHER", "ADMIN", "AUTHENTICATION", "EXPORT", "MESSAGE", "POLICY")
PERSONS, ROUNDS = 300, 20  # of the pool: three values a person; every form of secret so many times
SPARED = 0.9  # of the texts whose pattern takes no mark
_TREE, _EXTENSION = field_tree(AUDIT_EVENT.text), field_tree(GITHUB.text)
_NOT_THE_CALLERS = ("event_id", "emitter.", "region", "redaction.", "tenant", "event_name", "traceparent")


@dataclass(frozen=True, slots=True)
class Pool:
    """What is planted: persons as (name, mail, phone), secrets as (whole text, what must go)."""

    persons: tuple[tuple[str, str, str], ...]
    secrets: tuple[tuple[str, str], ...]

    @property
    def values(self) -> frozenset[str]:
        """Everything that must be found nowhere."""
        return frozenset(v for person in self.persons for v in person) | {secret for _, secret in self.secrets}


def pool(seed: int) -> Pool:
    """The pool of a seed."""
    random = Random(f"leaks/{seed}")
    persons = []
    for _ in range(PERSONS):
        first, last = (some(random, string.ascii_lowercase, n) for n in (7, 9))
        phone = f"+49 {some(random, string.digits, 3)} {some(random, string.digits, 8)}"
        persons.append(
            (f"{first.title()} {last.title()}", f"{first}.{last}@{some(random, string.ascii_lowercase, 10)}.example", phone)
        )
    lower = string.ascii_lowercase + string.digits
    secrets = [(form.text, form.secret) for _ in range(ROUNDS) for form in made(random)]
    # Of the few shapes that fit the pattern of names, or of hexadecimal ids.
    for _ in range(ROUNDS):
        secrets += [
            (text, text)
            for text in (f"glpat-{some(random, lower, 24)}", f"npm_{some(random, lower, 36)}", luhn(random, "4", 16))
        ]
    return Pool(tuple(persons), tuple(secrets))


def draft(random: Random, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event of the caller's, and its extension's value, with harmless text."""
    attempt = {"number": 1, "at": 1_795_000_000_000_000, "outcome": "REFUSED", "status": 500, "hop": "edge"}
    event: dict[str, Any] = {
        "event_name": "load.leak",
        "tenant": random.choice(TENANTS),
        "event_type": random.choice(KINDS),
        "result": random.choice(["SUCCESS", "FAILURE", "DENIED"]),
        "effect": "EFFECTIVE",
        "source_system": "load",
        "target_system": "store",
        "object": {"type": "room", "id": f"room-{number}"},
        "ticket": f"CHG-{number}",
        "correlation_id": f"lineage-{number}",
        "retry": {"original_event_id": None, "attempt": 2, "idempotency_key": f"k-{number}"},
        "authorization": {"method": "NONE", "scopes": ["read"], "policy": "p", "policy_version": "1", "decision": "ALLOW"},
        "delivery": {
            "validated": True,
            "signed": None,
            "encrypted": None,
            "payload_digest": None,
            "retry_policy": "thrice",
            "attempts": [attempt],
            "acknowledgement": "a-1",
            "failure": None,
            "failed_hop": None,
        },
        "message": {"stage": "SENT", "type": "direct", "recipient_group": "g-1", "recipient_count": 3},
        "content_ref": {"digest": bytes(32), "size": 1, "media_type": "text/plain", "location": "s3://b/k"},
        "changes": [{"op": "REPLACE", "path": random.choice(["/state", "/description"]), "before": '"a"', "after": '"b"'}],
        "actor": {"kind": "USER", "id": f"u-{number}", "display": None, "login": f"user-{number}"},
        "subject": {"id": "s", "display": None, "login": None},
    }
    value: dict[str, Any] = {name: None for name, node in _EXTENSION.fields if node.nullable}
    value |= {"hook": "push", "malformed": False, "settings": [{"name": "n", "before": None, "after": None}]}
    return event, value


def plant(random: Random, event: dict[str, Any], extension: dict[str, Any], given: Pool) -> Counter[str]:
    """Put values of the pool into some of the event's texts; how many, by class of the field, and in extensions."""
    spots = [p for p in places(event, _TREE) if not p[0].startswith(_NOT_THE_CALLERS)]
    spots += places(extension, _EXTENSION, "extension.payload.")
    planted: Counter[str] = Counter()
    for path, put, node in random.sample(spots, random.randrange(3, 9)):
        text = _text(random, node, given)
        if text is not None and node.marks is not None:
            put(json.dumps(text) if path.startswith("changes[].") and node.marks.redact else text)
            planted[str(node.marks.data_class)] += 1
            planted["extension"] += path.startswith("extension.")
            planted["change"] += path.startswith("changes[].")
            planted["tokenised"] += node.marks.redact is Redact.TOKENIZE
    return planted


def _text(random: Random, node: Node, given: Pool) -> str | None:
    assert node.marks is not None
    if node.marks.data_class in (DataClass.PUBLIC, DataClass.INTERNAL):
        pattern = node.marks.pattern or ""
        if re.fullmatch(pattern, MARK.format("jwt")) is None and random.random() < SPARED:
            return None  # the event would be refused: enough that some are
        fitting = _fitting(pattern, given)
        return random.choice(fitting) if fitting else None
    name, mail, phone = random.choice(given.persons)
    secret = random.choice(given.secrets)[0]
    if node.marks.redact is Redact.HASH:
        return random.choice([mail, phone, name, secret[:1000]])
    return random.choice(
        [name, mail, phone, secret, f"ask {name} <{mail}> ({phone}), {secret}", f"{secret}\n{name}", f"ends in {secret}"]
    )


@cache
def _fitting(pattern: str, given: Pool) -> list[str]:
    return [text for text, _ in given.secrets if re.fullmatch(pattern, text)]


def hand_over(settings: Settings, seed: int, count: int) -> dict[str, int]:
    """Emit until `count` events were accepted; what was planted, accepted and refused."""
    random, given = Random(f"events/{seed}"), pool(seed)
    planted: Counter[str] = Counter()
    accepted = refused = 0
    with AuditProducer(settings, SOURCE, "leaks") as producer:
        while accepted < count:
            event, value = draft(random, accepted)
            what = plant(random, event, value, given)
            event["extension"] = {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(value)}
            try:
                producer.emit(event)
            except ContractError:
                refused += 1
            else:
                accepted += 1
                planted += what
    return {**planted, "accepted": accepted, "refused": refused}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.leaks.plant")
    parser.add_argument("config", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True)
    asked = parser.parse_args()
    settings = Settings.load(asked.config, spool=asked.result.parent / "spool")  # among the files that are scanned
    asked.result.write_text(json.dumps(hand_over(settings, asked.seed, asked.count)))


if __name__ == "__main__":
    main()
