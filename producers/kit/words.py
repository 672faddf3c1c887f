"""The closed lists of the event schema, so that a wrong word is an error of the type checker and not of the contract.

Each has the symbols of the enum of `audit_event.avsc` that bears its name; a test holds them together.
"""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """The family that an event belongs to. EMITTER is not here: those are the emitter's own to state."""

    ACCESS = "ACCESS"
    AUTHENTICATION = "AUTHENTICATION"
    ADMIN = "ADMIN"
    MESSAGE = "MESSAGE"
    MENTION = "MENTION"
    FILE_SHARE = "FILE_SHARE"
    API_CALL = "API_CALL"
    AUTOMATION = "AUTOMATION"
    DEPLOYMENT = "DEPLOYMENT"
    EXPORT = "EXPORT"
    POLICY = "POLICY"
    HOLD = "HOLD"
    RETENTION = "RETENTION"
    ERASURE = "ERASURE"
    DETECTION = "DETECTION"
    RESPONSE = "RESPONSE"
    REVIEW = "REVIEW"
    OTHER = "OTHER"


class Result(StrEnum):
    """How the act ended."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DENIED = "DENIED"
    PARTIAL = "PARTIAL"
    UNKNOWN = "UNKNOWN"


class Effect(StrEnum):
    """An act attempted, told apart from a change that took effect."""

    NONE = "NONE"
    ATTEMPTED = "ATTEMPTED"
    EFFECTIVE = "EFFECTIVE"


class ActorKind(StrEnum):
    """Who acted."""

    USER = "USER"
    SERVICE = "SERVICE"
    INTEGRATION = "INTEGRATION"
    SYSTEM = "SYSTEM"


class AuthorizationMethod(StrEnum):
    """On what authority."""

    OAUTH_CLIENT = "OAUTH_CLIENT"
    SSO_SESSION = "SSO_SESSION"
    SERVICE_TOKEN = "SERVICE_TOKEN"
    WEBHOOK_SIGNATURE = "WEBHOOK_SIGNATURE"
    CERTIFICATE = "CERTIFICATE"
    STEP_UP = "STEP_UP"
    NONE = "NONE"


class Decision(StrEnum):
    """What the policy said that was checked."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    NOT_CHECKED = "NOT_CHECKED"


class Outcome(StrEnum):
    """What came of one attempt to deliver."""

    ACKNOWLEDGED = "ACKNOWLEDGED"
    REFUSED = "REFUSED"
    TIMED_OUT = "TIMED_OUT"
    UNREACHABLE = "UNREACHABLE"


class Stage(StrEnum):
    """Of a message's life."""

    DRAFTED = "DRAFTED"
    APPROVED = "APPROVED"
    QUEUED = "QUEUED"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    VIEWED = "VIEWED"
    RETRIED = "RETRIED"
    FAILED = "FAILED"
    ESCALATED = "ESCALATED"
    ARCHIVED = "ARCHIVED"
