"""A message's life in the kit's words: what every event of it says (`producers.kit.message`).

What an event says, it says of one message (`correlation_id` is its id) and, where something was sent, of one attempt:
number, idempotency key, the trace's span. The body stands nowhere; its keyed digest, size and place do.
"""

from __future__ import annotations

from importlib.resources import files

from producers.chat.message import ChatMessage, SendingPolicy
from producers.kit import (
    Actor,
    Audit,
    Authorization,
    AuthorizationMethod,
    Content,
    Decision,
    Delivery,
    Extension,
    Message,
)
from sealtrail.avro import Codec

CHAT = Codec((files("schemas") / "extensions" / "chat.avsc").read_text("utf-8"))
SYSTEM = "chat"


def extension(**said: object) -> dict[str, object]:
    """The connector's own record as a draft has it, with what is given."""
    return Extension(CHAT, said).stated()


def life_of(audit: Audit, message: ChatMessage, sending: SendingPolicy, delivery: Delivery, traceparent: str) -> Message:
    """The message, of which nothing is stated yet. traceparent: the span of what is stated before the first attempt."""
    return audit.message(
        message.id,
        str(message.type),
        recipients=message.recipient_count,
        group=message.recipient_group,
        sender=message.sender,
        content=Content(message.body, message.media_type, message.location),
        delivery=delivery,
        tenant=message.tenant,
        actor=Actor.user(message.sender, login=message.sender),
        approver=message.approver,
        authorization=authorization(message, sending, Decision.ALLOW),
        credential=message.credential,
        source_ip=message.source_ip,
        ticket=message.ticket,
        traceparent=traceparent,
    )


def authorization(message: ChatMessage, sending: SendingPolicy, decision: Decision) -> Authorization:
    """On what authority it is sent, or is not."""
    method = AuthorizationMethod.SSO_SESSION if message.credential else AuthorizationMethod.NONE
    return Authorization(method, [sending.scope], sending.name, sending.version, decision)
