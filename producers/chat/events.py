"""The events of a message's life, as drafts. Pure: one function a stage, no clock, no network.

What an event says, it says of one message (`correlation_id` is its id) and, where something was sent, of one attempt:
number, idempotency key, the trace's span. The body stands nowhere; its keyed digest, size and place do.

Effects: a `sent` or `retried` event states an attempt *before* it is made. `delivered` states what took effect. `failed`
after a time-out has the result UNKNOWN: the receiver may have processed what it did not acknowledge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from producers.chat.message import ChatMessage, SendingPolicy
from producers.chat.transport import Outcome, Receipts, Reply
from producers.lifecycle import Draft
from sealtrail.avro import Codec

CHAT = Codec((files("schemas") / "extensions" / "chat.avsc").read_text("utf-8"))
SYSTEM = "chat"
_NOTHING: dict[str, object] = {"rows": None, "viewers": None, "repeated": None, "operation": None, "status": None}


@dataclass(frozen=True, slots=True)
class Way:
    """How this connector sends: what stands in every event of it."""

    hop: str
    signed: bool
    encrypted: bool
    retry_policy: str
    sending: SendingPolicy


@dataclass(slots=True)
class Progress:
    """How far one message is. `sent`: event id of the first attempt; `last`: of the event before."""

    digest: bytes
    payload_digest: bytes
    traceparent: str
    sent: bytes | None = None
    last: bytes | None = None
    attempts: list[dict[str, object]] = field(default_factory=list)

    def note(self, reply: Reply, at_us: int, hop: str) -> None:
        """One more attempt was made, and came back with `reply`."""
        number = len(self.attempts) + 1
        self.attempts.append({"number": number, "at": at_us, "outcome": str(reply.outcome), "status": reply.status, "hop": hop})


def extension(**said: object) -> dict[str, object]:
    """The connector's own record, with what is given."""
    return {"schema": CHAT.sha256, "payload": CHAT.encode_body({**_NOTHING, **said})}


def drafted(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """Somebody wrote it."""
    return _event(message, way, progress, "drafted", "SUCCESS", "EFFECTIVE")


def approved(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """Somebody else agreed."""
    return _event(message, way, progress, "approved", "SUCCESS", "EFFECTIVE")


def denied(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """The sending policy forbids it: a verdict, and nothing is sent."""
    event = _event(message, way, progress, "failed", "DENIED", "NONE")
    return {
        **event,
        "event_name": "chat.policy.denied",
        "event_type": "POLICY",
        "authorization": _authorization(message, way, "DENY"),
    }


def queued(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """It waits for its turn."""
    return _event(message, way, progress, "queued", "SUCCESS", "EFFECTIVE")


def sent(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """The first attempt begins."""
    return _event(message, way, progress, "sent", "UNKNOWN", "ATTEMPTED", attempt=1)


def retried(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """A further attempt begins."""
    return _event(message, way, progress, "retried", "UNKNOWN", "ATTEMPTED", attempt=len(progress.attempts) + 1)


def delivered(message: ChatMessage, way: Way, progress: Progress, reply: Reply) -> Draft:
    """The receiver acknowledged it. `repeated`: it had already processed an earlier attempt."""
    event = _event(message, way, progress, "delivered", "SUCCESS", "EFFECTIVE", attempt=len(progress.attempts))
    event["delivery"] = {**_delivery(way, progress), "acknowledgement": reply.reference}
    if reply.repeated:
        event["extension"] = extension(repeated=True)
    return event


def seen(message: ChatMessage, way: Way, progress: Progress, receipts: Receipts) -> Draft:
    """Recipients have read it."""
    return {
        **_event(message, way, progress, "viewed", "SUCCESS", "EFFECTIVE"),
        "extension": extension(viewers=receipts.viewers),
    }


def archived(message: ChatMessage, way: Way, progress: Progress) -> Draft:
    """The receiver moved it to its own archive."""
    return _event(message, way, progress, "archived", "SUCCESS", "EFFECTIVE")


def malformed(message: ChatMessage, way: Way, progress: Progress, problem: str) -> Draft:
    """It is not well-formed: nothing was sent."""
    event = _event(message, way, progress, "failed", "FAILURE", "NONE")
    event["delivery"] = {**_delivery(way, progress), "validated": False, "failure": problem, "failed_hop": SYSTEM}
    return event


def failed(message: ChatMessage, way: Way, progress: Progress, reply: Reply, given_up: str | None = None) -> Draft:
    """No attempt was acknowledged, and there will be no other; `given_up`: the reason, where it is not the receiver's."""
    may_have_worked = any(attempt["outcome"] == Outcome.TIMED_OUT for attempt in progress.attempts)
    result = "UNKNOWN" if may_have_worked else "FAILURE"
    event = _event(message, way, progress, "failed", result, "ATTEMPTED", attempt=len(progress.attempts))
    event["delivery"] = {**_delivery(way, progress), "failure": given_up or reply.reason, "failed_hop": way.hop}
    return event


def escalated(message: ChatMessage, way: Way, progress: Progress, hop: str, reply: Reply) -> Draft:
    """People on call were told, or could not be told."""
    told = reply.outcome is Outcome.ACKNOWLEDGED
    event = _event(message, way, progress, "escalated", "SUCCESS" if told else "FAILURE", "EFFECTIVE" if told else "ATTEMPTED")
    event["target_system"] = hop
    event["delivery"] = {
        **_delivery(way, progress),
        "acknowledgement": reply.reference,
        "failure": None if told else reply.reason,
        "failed_hop": None if told else hop,
    }
    return event


def _event(
    message: ChatMessage, way: Way, progress: Progress, stage: str, result: str, effect: str, attempt: int | None = None
) -> Draft:
    return {
        "event_name": f"chat.message.{stage}",
        "tenant": message.tenant,
        "event_type": "MESSAGE",
        "result": result,
        "effect": effect,
        "source_system": SYSTEM,
        "target_system": way.hop,
        "object": {"type": "message", "id": message.id},
        "ticket": message.ticket,
        "traceparent": progress.traceparent,
        "correlation_id": message.id,
        "causation_id": progress.last,
        "retry": None
        if attempt is None
        else {"original_event_id": progress.sent, "attempt": attempt, "idempotency_key": message.id},
        "authorization": _authorization(message, way, "ALLOW"),
        "delivery": _delivery(way, progress),
        "message": {
            "stage": stage.upper(),
            "type": str(message.type),
            "recipient_group": message.recipient_group,
            "recipient_count": message.recipient_count,
        },
        "content_ref": {
            "digest": progress.digest,
            "size": len(message.body),
            "media_type": message.media_type,
            "location": message.location,
        },
        "actor": {"kind": "USER", "id": message.sender, "display": None},
        "sender": message.sender,
        "approver": message.approver,
        "credential": message.credential,
        "source_ip": message.source_ip,
    }


def _authorization(message: ChatMessage, way: Way, decision: str) -> Mapping[str, object]:
    return {
        "method": "SSO_SESSION" if message.credential else "NONE",
        "scopes": [way.sending.scope],
        "policy": way.sending.name,
        "policy_version": way.sending.version,
        "decision": decision,
    }


def _delivery(way: Way, progress: Progress) -> dict[str, object]:
    attempts: Sequence[dict[str, object]] = progress.attempts
    return {
        "validated": True,
        "signed": way.signed,
        "encrypted": way.encrypted,
        "payload_digest": progress.payload_digest,
        "retry_policy": way.retry_policy,
        "attempts": list(attempts),
        "acknowledgement": None,
        "failure": None,
        "failed_hop": None,
    }
