"""One message's life: drafted, approved, queued, sent, retried, delivered, viewed, failed, escalated, archived (CAP-5).

    message = audit.message("m-1", "direct", recipients=1, delivery=Delivery("messenger", signed=True))
    attempt = message.sent()                                    # before it is made
    attempt = attempt.retried(Outcome.TIMED_OUT)                # how the first one ended; the second begins
    attempt.delivered(acknowledgement="a-77", status=202)

- All events of a message have one correlation id (its own id, where no other is given; never the context's, for a life goes
  on after the request that began it), and each is caused by the one before it.
- An attempt is stated before it is made: its effect is ATTEMPTED, its result UNKNOWN. Every attempt carries the id of the
  first one's event, its number and the idempotency key (CAP-6). What followed carries all attempts, with time and outcome.
- An attempt can be retried, delivered or failed, once; what was not sent cannot be retried: the type checker sees to it.
- After a time-out a failed message has the result UNKNOWN: the receiver may have processed what it did not acknowledge.

One thread at a time states the events of one message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Unpack

from producers.kit.content import BodyDigest
from producers.kit.context import NAMES as CONTEXT_NAMES
from producers.kit.families import Tell
from producers.kit.statement import Act, Stated, content_ref, keyed, layered, only_known
from producers.kit.values import Authorization, BusinessObject, Content, ContentRef, Delivery
from producers.kit.words import Effect, EventType, Outcome, Result, Stage
from sealtrail.errors import ContractError

_LASTING = CONTEXT_NAMES - {"cause"}  # what an attempt hands on to the event of its outcome: its span, its actor


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of a message all its life; see `Audit.message`."""

    id: str
    type: str
    recipients: int
    group: str | None = None
    sender: str | None = field(default=None, repr=False)
    content: Content | ContentRef | None = None
    delivery: Delivery | None = None
    idempotency_key: str | None = None


class _Life:
    """How far one message is."""

    def __init__(self, tell: Tell, facts: Facts, stated: Stated, digest: BodyDigest | None, clock: Callable[[], int]) -> None:
        self.facts = facts
        self.clock = clock
        self.stated = layered({"correlation_id": facts.id}, stated)
        self.attempts: list[dict[str, object]] = []
        self.first: bytes | None = None  # the event of the first attempt
        self._tell = tell
        self._digest = digest
        self._last: bytes | None = None
        self._referred: dict[str, tuple[ContentRef | None, bytes | None]] = {}  # by tenant: once, not at each stage

    def state(
        self,
        stage: Stage,
        result: Result,
        effect: Effect,
        stated: Stated,
        *,
        attempt: int | None = None,
        name: str | None = None,
        event_type: EventType = EventType.MESSAGE,
        **outcome: object,
    ) -> bytes:
        """One stage. outcome: fields of the schema's `delivery`, over those that hold all the message's life."""
        lineage: Stated = {} if self._last is None else {"cause": self._last}
        said = layered(self.stated, lineage, only_known(**stated))
        facts = self.facts
        where = {} if facts.delivery is None else {"target_system": facts.delivery.hop}

        def act(tenant: str) -> Act:
            content, payload_digest = self._of(tenant)
            records: dict[str, object] = {
                "message": {
                    "stage": str(stage),
                    "type": facts.type,
                    "recipient_group": facts.group,
                    "recipient_count": facts.recipients,
                },
                "sender": facts.sender,
                "delivery": self._delivery(payload_digest, outcome),
                "retry": None if attempt is None else self._retry(attempt),
            }
            what = BusinessObject("message", facts.id)
            return Act(name or f"message.{stage.lower()}", event_type, result, effect, what, content=content, records=records)

        self._last = self._tell(act, said, where)
        return self._last

    def _of(self, tenant: str) -> tuple[ContentRef | None, bytes | None]:
        found = self._referred.get(tenant)
        if found is None:
            record = content_ref(self.facts.content, tenant, self._digest)
            payload = None if self.facts.delivery is None else self.facts.delivery.payload
            found = self._referred[tenant] = (
                None if record is None else ContentRef(**record),  # type: ignore[arg-type]
                None if payload is None else keyed(tenant, payload, self._digest, "delivery.payload_digest"),
            )
        return found

    def _delivery(self, payload_digest: bytes | None, outcome: dict[str, object]) -> dict[str, object] | None:
        way = self.facts.delivery
        if way is None and not self.attempts and all(said is None for said in outcome.values()):
            return None
        return {
            "validated": None if way is None else way.validated,
            "signed": None if way is None else way.signed,
            "encrypted": None if way is None else way.encrypted,
            "payload_digest": payload_digest,
            "retry_policy": None if way is None else way.retry_policy,
            "attempts": [dict(attempt) for attempt in self.attempts],
            "acknowledgement": None,
            "failure": None,
            "failed_hop": None,
            **{name: said for name, said in outcome.items() if said is not None},
        }

    def _retry(self, attempt: int) -> dict[str, object]:
        key = self.facts.idempotency_key or self.facts.id
        return {"original_event_id": self.first, "attempt": attempt, "idempotency_key": key}

    @property
    def hop(self) -> str | None:
        """The system that the message is handed to."""
        return None if self.facts.delivery is None else self.facts.delivery.hop


class Attempt:
    """One attempt to deliver a message, stated and not yet ended. `event_id`: of the statement; number: from 1."""

    def __init__(self, life: _Life, number: int, event_id: bytes, stated: Stated) -> None:
        self.number = number
        self.event_id = event_id
        self._life = life
        self._began_us = life.clock() // 1000
        self._stated = layered({name: value for name, value in stated.items() if name in _LASTING})
        self._ended = False

    def delivered(self, acknowledgement: str | None = None, *, status: int | None = None, **stated: Unpack[Stated]) -> bytes:
        """The receiver acknowledged it. acknowledgement: its reference; status: its status code."""
        said = self._end(Outcome.ACKNOWLEDGED, status, stated)
        success, effect = Result.SUCCESS, Effect.EFFECTIVE
        return self._life.state(Stage.DELIVERED, success, effect, said, attempt=self.number, acknowledgement=acknowledgement)

    def retried(self, outcome: Outcome, *, status: int | None = None, **stated: Unpack[Stated]) -> Attempt:
        """This attempt ended so, and the next one begins."""
        self._end(outcome, status, stated)
        return _begun(self._life, Stage.RETRIED, self.number + 1, stated)

    def failed(
        self, failure: str, outcome: Outcome, *, status: int | None = None, hop: str | None = None, **stated: Unpack[Stated]
    ) -> bytes:
        """This attempt ended so, and there will be no other. failure: a slug; hop: where, if not at the receiver."""
        said = self._end(outcome, status, stated)
        perhaps = any(attempt["outcome"] == Outcome.TIMED_OUT for attempt in self._life.attempts)
        result = Result.UNKNOWN if perhaps else Result.FAILURE
        where = hop or self._life.hop
        return self._life.state(
            Stage.FAILED, result, Effect.ATTEMPTED, said, attempt=self.number, failure=failure, failed_hop=where
        )

    def _end(self, outcome: Outcome, status: int | None, stated: Stated) -> Stated:
        if self._ended:
            raise ContractError("delivery.attempts", "this attempt has ended already")
        self._ended = True
        word = str(outcome) if isinstance(outcome, str) else outcome
        self._life.attempts.append(
            {"number": self.number, "at": self._began_us, "outcome": word, "status": status, "hop": self._life.hop}
        )
        return layered(self._stated, stated)


class Message:
    """A message; made by `Audit.message`. Every method states one event; its id, or what can be done next."""

    def __init__(self, tell: Tell, facts: Facts, stated: Stated, digest: BodyDigest | None, clock: Callable[[], int]) -> None:
        self._life = _Life(tell, facts, stated, digest, clock)

    def drafted(self, **stated: Unpack[Stated]) -> bytes:
        """Somebody wrote it."""
        return self._life.state(Stage.DRAFTED, Result.SUCCESS, Effect.EFFECTIVE, stated)

    def approved(self, approver: str, /, **stated: Unpack[Stated]) -> bytes:
        """Somebody else agreed; all later events name them."""
        self._life.stated = layered(self._life.stated, {"approver": approver})
        return self._life.state(Stage.APPROVED, Result.SUCCESS, Effect.EFFECTIVE, stated)

    def queued(self, **stated: Unpack[Stated]) -> bytes:
        """It waits for its turn."""
        return self._life.state(Stage.QUEUED, Result.SUCCESS, Effect.EFFECTIVE, stated)

    def sent(self, **stated: Unpack[Stated]) -> Attempt:
        """The first attempt begins: state it, then make it."""
        return _begun(self._life, Stage.SENT, 1, stated)

    def retried(self, original: bytes, number: int, **stated: Unpack[Stated]) -> Attempt:
        """A further attempt begins, whose forerunners another process made. original: the event id of the first one."""
        self._life.first = original
        return _begun(self._life, Stage.RETRIED, number, stated)

    def delivered(self, acknowledgement: str | None = None, **stated: Unpack[Stated]) -> bytes:
        """The receiver has it, and the attempts are not ours to tell: a platform's own report, a webhook."""
        return self._life.state(Stage.DELIVERED, Result.SUCCESS, Effect.EFFECTIVE, stated, acknowledgement=acknowledgement)

    def failed(self, failure: str, *, hop: str | None = None, validated: bool | None = None, **stated: Unpack[Stated]) -> bytes:
        """It failed before any attempt. failure: a slug; validated: False where it is not well-formed."""
        return self._life.state(
            Stage.FAILED, Result.FAILURE, Effect.NONE, stated, failure=failure, failed_hop=hop, validated=validated
        )

    def denied(self, authorization: Authorization, /, **stated: Unpack[Stated]) -> bytes:
        """A policy forbids it: a verdict, policy.denied, and nothing is sent."""
        said = layered(stated, {"authorization": authorization})
        kind = EventType.POLICY
        return self._life.state(Stage.FAILED, Result.DENIED, Effect.NONE, said, name="policy.denied", event_type=kind)

    def viewed(self, **stated: Unpack[Stated]) -> bytes:
        """Recipients have read it."""
        return self._life.state(Stage.VIEWED, Result.SUCCESS, Effect.EFFECTIVE, stated)

    def archived(self, **stated: Unpack[Stated]) -> bytes:
        """The receiver moved it to its own archive."""
        return self._life.state(Stage.ARCHIVED, Result.SUCCESS, Effect.EFFECTIVE, stated)

    def escalated(self, to: str, *, reference: str | None = None, **stated: Unpack[Stated]) -> bytes:
        """People were told. to: the system that tells them; reference: its own."""
        said = layered({"target_system": to}, stated)
        return self._life.state(Stage.ESCALATED, Result.SUCCESS, Effect.EFFECTIVE, said, acknowledgement=reference)

    def not_escalated(self, to: str, failure: str, **stated: Unpack[Stated]) -> bytes:
        """People should have been told, and could not be. failure: a slug."""
        said = layered({"target_system": to}, stated)
        return self._life.state(Stage.ESCALATED, Result.FAILURE, Effect.ATTEMPTED, said, failure=failure, failed_hop=to)


def _begun(life: _Life, stage: Stage, number: int, stated: Stated) -> Attempt:
    event_id = life.state(stage, Result.UNKNOWN, Effect.ATTEMPTED, stated, attempt=number)
    if number == 1:
        life.first = event_id
    return Attempt(life, number, event_id, stated)
