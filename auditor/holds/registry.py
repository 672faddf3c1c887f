"""The holds of a deployment as the compacted topic `audit.holds` has them: the last record of a matter counts.

Read to the end before every decision; written with acks=all before anybody is told. One person at a time works on a matter: two
commands at once would both finish, and the later record stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from types import TracebackType
from typing import Any, Self

from kafkaio.producer import IdempotentProducer
from kafkaio.reader import PartitionReader
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.avro import Codec
from sealtrail.errors import EvidenceError, TransientError
from sealtrail.hold import Scope

TOPIC = "audit.holds"
WRITE_S = 30.0

HOLD = Codec((resources.files("schemas") / "hold.avsc").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record of a matter; see `schemas/hold.avsc`."""

    matter: str
    scope: Scope
    state: str
    at_us: int
    ticket: str | None = None
    manifest: dict[str, Any] | None = None
    event_id: bytes | None = None


class Registry:
    """Reads and writes `audit.holds` under the role of `settings`. One thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = topic_name(settings.topic_prefix, TOPIC)
        self._reader = PartitionReader(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    def all(self) -> dict[str, Recorded]:
        """Every matter's last record, by name.

        Raises:
            EvidenceError: a record that cannot be read: nobody may conclude that something is not held.
            TransientError, ConfigError: the brokers, or the rights.
        """
        found = {}
        for record in self._reader.read_all(self._topic, 0):
            if record.value is None:
                raise EvidenceError(f"{self._topic} offset {record.offset}: a tombstone; a hold is lifted by a record")
            try:
                held = _decode(record.value)
            except EvidenceError as error:
                raise EvidenceError(f"{self._topic} offset {record.offset}: {error}") from error
            found[held.matter] = held
        return found

    def write(self, hold: Recorded) -> None:
        """Write a matter's record and wait until every in-sync replica has it. Raises TransientError, ConfigError."""
        problems: list[str] = []
        producer = IdempotentProducer(
            self._settings,
            self._topic,
            hold.matter,
            lambda _, problem: problems.append(problem) if problem else None,
            **{"linger.ms": 0},
        )
        taken = producer.produce(_encode(hold), ())
        if not taken or producer.flush(WRITE_S) or problems:
            producer.discard()
            raise TransientError(f"the hold's record was not acknowledged: {problems[0] if problems else 'no answer'}")


def _encode(hold: Recorded) -> bytes:
    scope = hold.scope
    return HOLD.encode(
        {
            "matter": hold.matter,
            "tenant": scope.tenant,
            "classes": list(scope.classes),
            "from": scope.from_us,
            "to": scope.to_us,
            "state": hold.state,
            "at": hold.at_us,
            "ticket": hold.ticket,
            "manifest": hold.manifest,
            "event_id": hold.event_id,
        }
    )


def _decode(value: bytes) -> Recorded:
    said = HOLD.decode(value)
    scope = Scope(said["tenant"], tuple(said["classes"]), said["from"], said["to"])
    return Recorded(said["matter"], scope, said["state"], said["at"], said["ticket"], said["manifest"], said["event_id"])
