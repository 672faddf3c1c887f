"""The fields that a query may name, and where they are in the index. What is not here cannot be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Form(Enum):
    """How a value is looked for."""

    EXACT = "as it stands"
    UPPER = "in upper case"
    LOWER = "in lower case"
    PREFIX = "as it stands, or what begins with it"
    HASHED = "hashed under the tenant's key, as the events hold it"
    NUMBER = "a whole number"
    SINCE = "that time or later"
    UNTIL = "before that time"


@dataclass(frozen=True, slots=True)
class Field:
    """Paths in the document, of which one must hold."""

    form: Form
    paths: tuple[str, ...]


def _field(form: Form, *paths: str) -> Field:
    return Field(form, paths)


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "id": _field(Form.LOWER, "event.id"),
        "tenant": _field(Form.EXACT, "organization.id"),
        "class": _field(Form.LOWER, "sealtrail.class"),
        "event": _field(Form.PREFIX, "event.action"),
        "type": _field(Form.UPPER, "sealtrail.type"),
        "outcome": _field(Form.UPPER, "sealtrail.result"),
        "effect": _field(Form.UPPER, "sealtrail.effect"),
        "actor": _field(Form.HASHED, "user.id"),
        "subject": _field(Form.HASHED, "user.target.id"),
        "approver": _field(Form.HASHED, "sealtrail.approver"),
        "sender": _field(Form.HASHED, "sealtrail.sender"),
        "ip": _field(Form.HASHED, "sealtrail.source_ip"),
        "object": _field(Form.PREFIX, "sealtrail.object.id"),
        "object_type": _field(Form.EXACT, "sealtrail.object.type"),
        "system": _field(Form.PREFIX, "sealtrail.source_system", "sealtrail.target_system"),
        "source": _field(Form.EXACT, "sealtrail.emitter.source"),
        "instance": _field(Form.EXACT, "sealtrail.emitter.instance"),
        "correlation": _field(Form.EXACT, "sealtrail.correlation_id"),
        "cause": _field(Form.LOWER, "sealtrail.causation_id"),
        "trace": _field(Form.LOWER, "trace.id"),
        "ticket": _field(Form.PREFIX, "sealtrail.ticket"),
        "stage": _field(Form.UPPER, "sealtrail.message.stage"),
        "failure": _field(Form.EXACT, "sealtrail.delivery.failure"),
        "environment": _field(Form.EXACT, "sealtrail.deployment.environment"),
        "chain": _field(Form.EXACT, "sealtrail.chain"),
        "seq": _field(Form.NUMBER, "sealtrail.seq"),
        "after": _field(Form.SINCE, "@timestamp"),
        "before": _field(Form.UNTIL, "@timestamp"),
        "sealed_after": _field(Form.SINCE, "event.ingested"),
        "sealed_before": _field(Form.UNTIL, "event.ingested"),
    }
)
