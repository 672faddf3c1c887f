"""`Audit`: what a connector's developer holds. Builders by family, over any `Emitter`.

    audit = Audit(AuditProducer(settings, "slack", "web-1"), "slack", digest=keyed_by(Keystore.open(settings.keys)))
    with audit.context(tenant="acme", actor=Actor.user("ada@acme.example")):
        audit.admin.changed(BusinessObject("routing-rule", "r-7"), before={"enabled": True}, after={"enabled": False})

Every builder states one event and returns its id, 16 bytes. A refusal is a ContractError that names the field, never its
value; it is counted by field, and where the emitter can, recorded: the application goes on. Any thread may call; of one
message, one at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, Unpack, runtime_checkable

from producers.kit.administration import Admin, Deployment, Hold, Retention
from producers.kit.automation import Automation
from producers.kit.content import BodyDigest
from producers.kit.context import Context, context, current
from producers.kit.families import (
    Access,
    ApiCall,
    Authentication,
    ConnectorState,
    Export,
    FileShare,
    Mention,
    PolicyVerdict,
)
from producers.kit.message import Facts, Message
from producers.kit.statement import Act, Stated, draft_of, layered, only_known
from producers.kit.tracing import TraceApi, installed_api, recording
from producers.kit.values import Content, ContentRef, Delivery
from schemas.emitter import Emitter
from sealtrail.errors import ContractError


@runtime_checkable
class RefusalRecorder(Protocol):
    """An emitter that records what was refused before it came to it. Returns at once; any thread may call."""

    def refuse(self, error: ContractError) -> None: ...


class Audit:
    """See the module. Builders: access, admin, api_call, authentication, automation, connector, deployment, export,
    file_share, hold, mention, policy, retention, and `message(…)`.

    Args:
        emitter: where events go.
        system: first part of every event's name, and where acts begin unless they say otherwise: slack.
        digest: keyed digests of bodies and payloads; without it, content cannot be referred to.
        clock: nanoseconds since 1970; random: as `os.urandom`.
        traces: where the span under way is asked for; OpenTelemetry's API, if it is installed.

    Attributes:
        refused: how many events were refused, by field.
    """

    def __init__(
        self,
        emitter: Emitter,
        system: str,
        *,
        digest: BodyDigest | None = None,
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
        traces: Callable[[], TraceApi | None] = installed_api,
    ) -> None:
        self.system = system
        self.refused: Counter[str] = Counter()
        self.random = random
        self._emitter = emitter
        self._digest = digest
        self._clock = clock
        self._traces = traces()
        self._lock = threading.Lock()
        self.access = Access(self._tell)
        self.admin = Admin(self._tell)
        self.api_call = ApiCall(self._tell)
        self.authentication = Authentication(self._tell)
        self.automation = Automation(self._tell)
        self.connector = ConnectorState(self._tell)
        self.deployment = Deployment(self._tell)
        self.export = Export(self._tell)
        self.file_share = FileShare(self._tell)
        self.hold = Hold(self._tell)
        self.mention = Mention(self._tell)
        self.policy = PolicyVerdict(self._tell)
        self.retention = Retention(self._tell)

    def context(self, **given: Unpack[Context]) -> AbstractContextManager[None]:
        """As `producers.kit.context.context`: what is stated inside is of this tenant, by this actor, …"""
        return context(**given)

    def message(
        self,
        identifier: str,
        message_type: str,
        *,
        recipients: int,
        group: str | None = None,
        sender: str | None = None,
        content: Content | ContentRef | None = None,
        delivery: Delivery | None = None,
        idempotency_key: str | None = None,
        **stated: Unpack[Stated],
    ) -> Message:
        """A message, of which nothing is stated yet.

        Args:
            identifier: opaque. Also its correlation id and idempotency key, where no others are given.
            message_type: a slug: direct, channel, broadcast.
            recipients: how many. group: its opaque id, never one person's.
            sender: hashed. content: the body. delivery: how it goes out.
            stated: of every event of its life.
        """
        facts = Facts(identifier, message_type, recipients, group, sender, content, delivery, idempotency_key)
        return Message(self._tell, facts, only_known(**stated), self._digest, self._clock)

    def state(self, act: Act, **stated: Unpack[Stated]) -> bytes:
        """Any other event. Its id; errors as `Emitter.emit`."""
        return self._tell(act, only_known(**stated), {})

    def _tell(self, act: Act | Callable[[str], Act], stated: Stated, defaults: Mapping[str, object]) -> bytes:
        said = layered(defaults, current(), self._span(), stated)
        try:
            draft = draft_of(self.system, act, said, self._digest)
        except ContractError as error:
            self._count(error)
            if isinstance(self._emitter, RefusalRecorder):
                self._emitter.refuse(error)
            raise
        try:
            return self._emitter.emit(draft)
        except ContractError as error:
            self._count(error)
            raise error from None  # what an emitter tried before it refused may quote the value

    def _span(self) -> Mapping[str, object]:
        span = recording(self._traces)
        return {} if span is None else {"traceparent": span}

    def _count(self, error: ContractError) -> None:
        with self._lock:
            self.refused[error.field] += 1
