"""The kit of a connector's developer: typed builders of events, context, and ways in from applications."""

from producers.kit.administration import Deployed
from producers.kit.audit import Audit
from producers.kit.content import keyed_by
from producers.kit.context import context, own_context
from producers.kit.diff import Change, changed
from producers.kit.message import Attempt, Message
from producers.kit.statement import Act
from producers.kit.values import (
    Actor,
    Authorization,
    BusinessObject,
    Content,
    ContentRef,
    Delivery,
    Extension,
    Subject,
)
from producers.kit.words import ActorKind, AuthorizationMethod, Decision, Effect, EventType, Outcome, Result

__all__ = [
    "Act",
    "Actor",
    "ActorKind",
    "Attempt",
    "Audit",
    "Authorization",
    "AuthorizationMethod",
    "BusinessObject",
    "Change",
    "Content",
    "ContentRef",
    "Decision",
    "Delivery",
    "Deployed",
    "Effect",
    "EventType",
    "Extension",
    "Message",
    "Outcome",
    "Result",
    "Subject",
    "changed",
    "context",
    "keyed_by",
    "own_context",
]
