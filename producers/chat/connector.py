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
from producers.chat.events import Progress, Way
from producers.chat.message import ChatMessage, SendingPolicy, problem_of
from producers.chat.retry import DEFAULT, RetryPolicy, policy_named
from producers.chat.trace import begun
from producers.chat.transport import Outcome, Reply, Transport
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
        self._digest = digest
        self._instance = instance
        self._tenants = tuple(tenants)
        self._retry = retry or policy_named(DEFAULT)
        self._sending = sending or SendingPolicy()
        self._escalation = escalation
        self._stop = stop or threading.Event()
        self._lots = lots or Random()  # noqa: S311 - jitter is no secret
        self._random = random
        self._clock = clock
        self._way = Way(transport.hop, transport.signed, transport.encrypted, self._retry.name, self._sending)
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
        progress = Progress(
            self._digest(message.tenant, message.body),
            self._digest(message.tenant, payload),
            begun(self._random, message.traceparent),
        )
        self._count("messages")
        problem = problem_of(message)
        if problem is not None:
            self._emit(events.malformed(message, self._way, progress, problem), progress)
            self._count("malformed")
            return False
        if not self._sending.allows(message):
            self._emit(events.denied(message, self._way, progress), progress)
            self._count("denied")
            return False
        whole_life = self._sending.needs_approval(message)
        if whole_life:
            for stage in (events.drafted, events.approved, events.queued):
                self._emit(stage(message, self._way, progress), progress)
        reply, given_up = self._attempts(message, payload, progress)
        if reply.outcome is not Outcome.ACKNOWLEDGED:
            self._fail(message, progress, reply, given_up)
            return False
        self._emit(events.delivered(message, self._way, progress, reply), progress)
        self._count("delivered")
        if whole_life:
            self._ask_for_receipts(message, progress)
        return True

    def _attempts(self, message: ChatMessage, payload: bytes, progress: Progress) -> tuple[Reply, str | None]:
        """Attempt until it is acknowledged, refused for good, or given up; the last reply, and why it was given up."""
        while True:
            number = len(progress.attempts) + 1
            if number == 1:
                progress.sent = self._emit(events.sent(message, self._way, progress), progress)
            else:
                progress.traceparent = begun(self._random, progress.traceparent)
                self._emit(events.retried(message, self._way, progress), progress)
                self._count("retried")
            at_us = self._clock() // 1000
            reply = self._transport.deliver(payload, message.id, progress.traceparent, self._retry.timeout_s)
            progress.note(reply, at_us, self._transport.hop)
            self._notice(reply)
            if reply.final:
                return reply, None
            if number >= self._retry.attempts:
                return reply, None
            with self._lock:
                lot = self._lots.random()
            if self._stop.wait(self._retry.wait_s(number, lot, reply.after_s)):
                return reply, STOPPED

    def _fail(self, message: ChatMessage, progress: Progress, reply: Reply, given_up: str | None) -> None:
        self._emit(events.failed(message, self._way, progress, reply, given_up), progress)
        self._count("failed")
        if self._escalation is None:
            return
        reason = given_up or reply.reason
        notice = {"message": message.id, "tenant": message.tenant, "reason": reason, "attempts": len(progress.attempts)}
        told = self._escalation.deliver(
            json.dumps(notice).encode(), f"escalation-{message.id}", progress.traceparent, self._retry.timeout_s
        )
        self._emit(events.escalated(message, self._way, progress, self._escalation.hop, told), progress)
        self._count("escalated")

    def _ask_for_receipts(self, message: ChatMessage, progress: Progress) -> None:
        try:
            receipts = self._transport.receipts(message.id, RECEIPT_S)
        except TransientError:
            self._count("receipts_unknown")  # nothing is known, so nothing is stated
            return
        if receipts.viewers:
            self._emit(events.seen(message, self._way, progress, receipts), progress)
        if receipts.archived:
            self._emit(events.archived(message, self._way, progress), progress)

    def _emit(self, draft: Draft, progress: Progress) -> bytes:
        progress.last = self._emitter.emit(draft)
        return progress.last

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
