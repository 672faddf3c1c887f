"""A kit over an emitter that keeps what it is told; for every test of the kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from producers.kit import (
    Actor,
    Audit,
    Authorization,
    AuthorizationMethod,
    BusinessObject,
    Decision,
)
from producers.kit.content import body_digest
from producers.samples.emitter import SampleEmitter
from sealtrail.errors import ContractError

ADA = Actor.user("ada@acme.example", "Ada Zebulon", "ada.zebulon@acme.example")
RULE = BusinessObject("routing-rule", "r-7", "Invoices of Zebulon")
KEY = b"k" * 32
VERDICT = Authorization(AuthorizationMethod.SSO_SESSION, ["chat:write"], "sending", "3", Decision.DENY)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Builder = Callable[[Audit], object]


def digest(tenant: str, data: bytes) -> bytes:
    if tenant not in ("acme", "globex"):
        raise ContractError("tenant", "no hash key of that tenant is held here")
    return body_digest(KEY, data)


@dataclass
class Kit:
    """A kit over an emitter that keeps what it is told."""

    audit: Audit
    emitter: SampleEmitter

    @property
    def last(self) -> dict[str, Any]:
        return self.emitter.events[-1]

    def names(self) -> list[str]:
        return [event["event_name"] for event in self.emitter.events]


def made(system: str = "slack") -> Kit:
    """A kit for two tenants, without traces."""
    emitter = SampleEmitter(["acme", "globex"])
    return Kit(Audit(emitter, system, digest=digest, traces=lambda: None), emitter)


def nested(depth: int, leaf: object) -> dict[str, Any]:
    made: Any = leaf
    for _ in range(depth):
        made = {"a": made}
    return dict(made)
