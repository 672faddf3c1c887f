"""A chat message as the connector takes it over, and what it must be before it may be sent.

Two questions, asked before the first attempt and answered in the trail: is it well-formed (`problem_of`), and does the
sending policy allow it (`SendingPolicy`). Values only; nothing here is sent or stated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_BODY_BYTES = 262_144  # what the large messengers take; a longer text is a file
MAX_RECIPIENTS = 1_000_000
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")


class MessageType(StrEnum):
    """How a message goes out. A broadcast needs a second person's approval and shows every stage in the trail."""

    DIRECT = "direct"
    CHANNEL = "channel"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message, from one sender to one group or person.

    id: opaque; correlates its events, and is the idempotency key of every attempt. recipient_group: opaque, never one
    person. body: goes to the receiver and nowhere else. location: where its owner keeps the body. traceparent: of the
    request that asked for it (W3C); None starts a trace. credential: a reference, never the credential.
    """

    id: str
    tenant: str
    type: MessageType
    sender: str
    recipient_group: str | None
    recipient_count: int
    body: bytes
    location: str
    media_type: str = "text/plain"
    approver: str | None = None
    ticket: str | None = None
    credential: str | None = None
    source_ip: str | None = None
    traceparent: str | None = None


def problem_of(message: ChatMessage) -> str | None:
    """Why the message is not well-formed, as a slug of the catalogue; None if it is."""
    if not message.body:
        return "body-empty"
    if len(message.body) > MAX_BODY_BYTES:
        return "body-too-large"
    if not 1 <= message.recipient_count <= MAX_RECIPIENTS:
        return "recipients-out-of-range"
    if not _MEDIA_TYPE.fullmatch(message.media_type):
        return "media-type-malformed"
    return None


@dataclass(frozen=True, slots=True)
class SendingPolicy:
    """Who may send what: broadcasts, and messages to many, need the approval of somebody other than the sender.

    name and version stand in every event of the message. A changed number is a new version.
    """

    name: str = "chat-sending"
    version: str = "1"
    unapproved_recipients: int = 50  # a team; beyond it a mistake reaches a department
    scope: str = "chat:write"

    def needs_approval(self, message: ChatMessage) -> bool:
        """Whether a second person must have agreed."""
        return message.type is MessageType.BROADCAST or message.recipient_count > self.unapproved_recipients

    def allows(self, message: ChatMessage) -> bool:
        """The decision."""
        return not self.needs_approval(message) or message.approver not in (None, "", message.sender)
