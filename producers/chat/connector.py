"""The chat connector: messages go to a receiver by HTTP, and every step of theirs into the trail.

    validate → policy → [drafted, approved, queued] → sent → attempt → delivered | retried → attempt … | failed → escalated

- An attempt is stated before it is made (`sent`, `retried`), its outcome after. A process that dies in between leaves an
  attempt without an outcome, which is the truth.
- A direct message that works at once has two events, `sent` and `delivered`. One that needs approval shows every stage.
- All attempts of a message carry one idempotency key, the message's id: it takes effect once, whatever is repeated.
- A receiver that cannot be reached `BROKEN_AFTER` times in a row is stated once (`chat.connector.failed`), and its return.
- Told to stop, it makes no further attempt: what was not acknowledged by then has failed, with that reason.

Any number of threads may call `send`; the events of one message keep their order.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from producers.chat import acts, events
from producers.chat.events import CHAT
from producers.chat.message import ChatMessage, SendingPolicy, problem_of
from producers.chat.retry import DEFAULT, RetryPolicy, policy_named
from producers.chat.trace import begun
from producers.chat.transport import Reply, Transport
from producers.kit import Audit, Decision, Delivery, Extension, Message, Outcome
from producers.kit.content import BodyDigest
from producers.lifecycle import Draft
from schemas.emitter import Emitter
from sealtrail.errors import TransientError

BROKEN_AFTER = 5  # attempts without a connection, in a row: more than one message's bad luck
RECEIPT_S = 2.0
STOPPED = "connector-stopped"


class ChatConnector:
    """Sends messages and states what became of them.

    Args:
        emitter: where events go.
        transport: the way to the receiver.
        digest: keyed digests of bodies.
        tenants: whose connector this is: each is told of its state.
        escalation: the way to the people on call; None: nothing is escalated.
        stop: set, no wait and no further attempt begins.
        lots: decides the jitter; random: as os.urandom; clock: nanoseconds since 1970.
    """

    def __init__(
        self,
        emitter: Emitter,
        transport: Transport,
        digest: BodyDigest,
        *,
        instance: str,
        tenants: Sequence[str],
        retry: RetryPolicy | None = None,
        sending: SendingPolicy | None = None,
        escalation: Transport | None = None,
        stop: threading.Event | None = None,
        lots: Random | None = None,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._emitter = emitter
        self._transport = transport
        self._audit = Audit(emitter, events.SYSTEM, digest=digest, clock=clock, random=random)
        self._instance = instance
        self._tenants = tuple(tenants)
        self._retry = retry or policy_named(DEFAULT)
        self._sending = sending or SendingPolicy()
        self._escalation = escalation
        self._stop = stop or threading.Event()
        self._lots = lots or Random()  # noqa: S311 - jitter is no secret
        self._random = random
        self._lock = threading.Lock()
        self._unreached = 0
        self._broken = False
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """State that the connector works from here on."""
        self._state("started", works=True)

    def stop(self) -> None:
        """State that it was switched off."""
        self._state("stopped", works=True)

    def act(self, draft: Draft) -> bytes:
        """State something that is no message; see `acts`. The event's id; errors as `Emitter.emit`."""
        self._count("acts")
        return self._emitter.emit(draft)

    def send(self, message: ChatMessage) -> bool:
        """Send one message; whether it was acknowledged. Raises ContractError when its fields break the contract."""
        payload = payload_of(message)
        way = self._transport
        delivery = Delivery(way.hop, True, way.signed, way.encrypted, payload, self._retry.name)
        span = begun(self._random, message.traceparent)
        life = events.life_of(self._audit, message, self._sending, delivery, span)
        self._count("messages")
        problem = problem_of(message)
        if problem is not None:
            life.failed(problem, hop=events.SYSTEM, validated=False)
            self._count("malformed")
            return False
        if not self._sending.allows(message):
            life.denied(events.authorization(message, self._sending, Decision.DENY))
            self._count("denied")
            return False
        whole_life = self._sending.needs_approval(message)
        if whole_life:
            life.drafted()
            life.approved(message.approver or "")
            life.queued()
        if not self._delivered(message, life, payload, span):
            return False
        self._count("delivered")
        if whole_life:
            self._ask_for_receipts(message, life)
        return True

    def _delivered(self, message: ChatMessage, life: Message, payload: bytes, span: str) -> bool:
        """Attempt until it is acknowledged, refused for good, or given up."""
        attempt = life.sent(traceparent=span)
        while True:
            reply = self._transport.deliver(payload, message.id, span, self._retry.timeout_s)
            self._notice(reply)
            if reply.outcome is Outcome.ACKNOWLEDGED:
                repeated = Extension(CHAT, {"repeated": True}) if reply.repeated else None
                attempt.delivered(reply.reference, status=reply.status, extension=repeated)
                return True
            given_up = self._given_up(reply, attempt.number)
            if given_up is not None:
                attempt.failed(given_up, reply.outcome, status=reply.status)
                self._count("failed")
                self._escalate(message, life, span, given_up, attempt.number)
                return False
            span = begun(self._random, span)
            attempt = attempt.retried(reply.outcome, status=reply.status, traceparent=span)
            self._count("retried")

    def _given_up(self, reply: Reply, number: int) -> str | None:
        """Why there is no attempt after this one; None after the wait for the next."""
        if reply.final or number >= self._retry.attempts:
            return reply.reason or str(reply.outcome).lower()
        with self._lock:
            lot = self._lots.random()
        return STOPPED if self._stop.wait(self._retry.wait_s(number, lot, reply.after_s)) else None

    def _escalate(self, message: ChatMessage, life: Message, span: str, reason: str, attempts: int) -> None:
        if self._escalation is None:
            return
        notice = {"message": message.id, "tenant": message.tenant, "reason": reason, "attempts": attempts}
        told = self._escalation.deliver(json.dumps(notice).encode(), f"escalation-{message.id}", span, self._retry.timeout_s)
        hop = self._escalation.hop
        if told.outcome is Outcome.ACKNOWLEDGED:
            life.escalated(hop, reference=told.reference, traceparent=span)
        else:
            life.not_escalated(hop, told.reason or str(told.outcome).lower(), traceparent=span)
        self._count("escalated")

    def _ask_for_receipts(self, message: ChatMessage, life: Message) -> None:
        try:
            receipts = self._transport.receipts(message.id, RECEIPT_S)
        except TransientError:
            self._count("receipts_unknown")  # nothing is known, so nothing is stated
            return
        if receipts.viewers:
            life.viewed(extension=Extension(CHAT, {"viewers": receipts.viewers}))
        if receipts.archived:
            life.archived()

    def _notice(self, reply: Reply) -> None:
        """State once that the receiver cannot be reached, and once that it can be again."""
        with self._lock:
            self._unreached = self._unreached + 1 if reply.outcome is Outcome.UNREACHABLE else 0
            broken = self._unreached > 0 if self._broken else self._unreached >= BROKEN_AFTER
            if broken != self._broken:
                self._broken = broken
                self._state("failed" if broken else "recovered", works=not broken)

    def _state(self, state: str, *, works: bool) -> None:
        for tenant in self._tenants:
            self._emitter.emit(acts.connector(tenant, self._instance, state, self._transport.hop, works=works))

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def payload_of(message: ChatMessage) -> bytes:
    """What goes to the receiver: one JSON object."""
    return json.dumps(
        {
            "id": message.id,
            "tenant": message.tenant,
            "type": str(message.type),
            "from": message.sender,
            "to": message.recipient_group,
            "recipients": message.recipient_count,
            "media_type": message.media_type,
            "body": message.body.decode("utf-8", "replace"),
        },
        separators=(",", ":"),
    ).encode()
