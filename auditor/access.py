"""Reading the trail is an act in the trail: asked for with a purpose, allowed by the class policy, sealed before the first row.

    with Access(settings, purpose="audit", tenant="acme") as access:
        access.open(Act("trail.searched", …))      # returns once the event is sealed
        … read; what may be shown: access.classes, access.tenant

- Which classes are shown follows from the policy's `readers`: the role of this reader (setting `reader_role`) and the purpose
  that the person states; in which of them tokens are revealed, from their `reveal`. Nothing allowed, or a tenant that this
  reader is not for: the refusal is sealed as DENIED, and ContractError ends the command. Without that tenant's hash key it is
  an event of the deployment's, which names the tenant.
- An access whose event is not sealed in time is an access that did not happen: TransientError, nothing is shown.
- The event says who, what for, of which tenant, which classes, in which fields was looked. What was looked *for* stands in it
  as an HMAC under the tenant's hash key: the same question can be recognised, not read.

Not here: what is read (`auditor.query`, `auditor.finding`, `auditor.replay`).
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from kafkaio.reader import PartitionReader, Record
from kafkaio.transaction import Ends
from keystore import Keystore
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.partitioner import partition_of
from schemas.policy import Policy, Roles
from schemas.redact import hash_value, is_hashed
from schemas.search_names import CLASSES
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, EvidenceError, TransientError
from sealtrail.seal import DEPLOYMENT_TENANT, Kind, LogClass, decode_seal, decode_sealed_event

SOURCE, INSTANCE = "reader", "command"
SEALED_S = 30.0  # a sealer that runs takes a quarter of a second
CLOSE_S = 30.0
_TENANT_HASH = "tenant-hash-"
_SCOPE = re.compile(r"[!-?A-~]{1,200}")  # what a scope can carry, less its own first word


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody is about to read.

    Attributes:
        name: of the event: trail.searched, trail.shown, trail.revealed, trail.replayed, trail.exported.
        what: the kind of the object: query, event, range.
        which: its identifier, or the question itself; hashed unless it is a UUID.
        where: the store that is read.
        fields: names of the fields that the question looks at, or that are to be seen in clear.
        export: rows leave for a file.
        classes: only these are asked for; None for all.
        reveal: what is tokenised is seen in clear.
    """

    name: str
    what: str
    which: str
    where: str
    fields: tuple[str, ...] = ()
    export: bool = False
    ticket: str | None = None
    approver: str | None = None
    classes: frozenset[LogClass] | None = None
    reveal: bool = False

    @property
    def verb(self) -> str:
        """What it does with a record, for a refusal."""
        return "reveal" if self.reveal else "see"


class Access:
    """One reader's session with the trail: the policy's answer, and an emitter for what it states.

    Args:
        settings: of role reader, with `reader_role` and `person`.
        purpose: why; one of those that the policy knows for the role.
        tenant: whose records are wanted; "" for all that this reader may see.

    Raises:
        ConfigError: a setting, key or certificate is missing.
    """

    def __init__(self, settings: Settings, purpose: str, tenant: str = "") -> None:
        settings.require("reader_role", "person", "keys")
        self.settings = settings
        self.policy = Policy.load(settings.policy)
        self.role, self.purpose = settings.reader_role, purpose
        self.tenant = tenant or settings.reader_tenant
        self._permitted = not settings.reader_tenant or self.tenant == settings.reader_tenant
        self._keystore = Keystore.open(settings.keys)
        self.classes = frozenset(c for c in CLASSES if self._permitted and self.may_see(c, self.tenant))
        self._revealing = frozenset(c for c in self.classes if self.may_reveal(c, self.tenant))
        self._topic = topic_name(settings.topic_prefix, "audit.archive")
        self._emitter = AuditProducer(settings, SOURCE, INSTANCE)
        self._stated: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._emitter.close(CLOSE_S)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose values can be looked for: the one asked for, or all whose hash keys this reader holds."""
        if self.tenant:
            return (self.tenant,)
        held = (name.removeprefix(_TENANT_HASH) for name in self._keystore.names() if name.startswith(_TENANT_HASH))
        return tuple(sorted(held))

    def may_see(self, log_class: LogClass, tenant: str) -> bool:
        """Whether the policy lets this role see a tenant's events of a class for this purpose."""
        return self._among(self.policy.readers(log_class, tenant))

    def may_reveal(self, log_class: LogClass, tenant: str) -> bool:
        """Whether it lets this role see in clear, for this purpose, what is tokenised in a tenant's events of a class."""
        return self._among(self.policy.revealers(log_class, tenant))

    def classes_for(self, act: Act) -> frozenset[LogClass]:
        """The classes that an act may show, of those it asks for.

        Of one that reveals, those in which the policy lets this role do so for this purpose. Of an export, those that it lets
        leave for a file: some leave with an approver and a ticket only, some never.
        """
        shown = self._asked(act)
        if not act.export:
            return shown
        allowed = {"allowed": True, "with-approval": bool(act.ticket and act.approver), "never": False}
        return frozenset(c for c in shown if allowed[self.policy.classes[c].export])

    def shows(self, act: Act, log_class: LogClass, tenant: str) -> bool:
        """Whether one record, as it was found, may be shown."""
        return log_class in self.classes_for(act) and self.tenant in ("", tenant)

    def hashed(self, value: str) -> list[str]:
        """What a personal value looks like in the events of each tenant asked for. One that is hashed already is itself."""
        if is_hashed(value):
            return [value]
        return [hash_value(self._key(tenant), value) for tenant in self.tenants]

    def open(self, act: Act) -> UUID:
        """State the access and wait until it is sealed; its event id.

        Raises:
            ContractError: not allowed; the refusal is sealed too.
            ConfigError: allowed, but this reader has no hash key of the tenant.
            TransientError: not sealed in time; nothing may be shown.
        """
        self.require_allowed(act)
        return self._state(act, "SUCCESS", "ALLOW")

    def require_allowed(self, act: Act) -> None:
        """Nothing, if the act may show anything: to be asked before what a refusal must not hang on, such as the tenant's key.

        Raises:
            ContractError: not allowed; the refusal is sealed.
            TransientError: the refusal was not sealed in time.
        """
        if self.classes_for(act):
            return
        asked = self._asked(act)
        if not self._open_to(act):
            raise self.refuse(act, f"may {act.verb} nothing{'' if self._permitted else ' of this tenant'} for {self.purpose!r}")
        if not asked:
            raise self.refuse(act, f"may {act.verb} nothing of these classes for {self.purpose!r}")
        if all(self.policy.classes[c].export == "never" for c in asked):
            raise self.refuse(act, "may export nothing of this: its classes never leave")
        raise self.refuse(act, "may export nothing of this without --ticket and --approver")

    def refuse(self, act: Act, why: str) -> ContractError:
        """State that something was asked for and is not shown; the error to raise, once that is sealed."""
        stated = self._state(act, "DENIED", "DENY")
        return ContractError("", f"role {self.role} {why}; the refusal is recorded as {stated}")

    def completed(self, draft: Mapping[str, Any]) -> None:
        """State what became of an export; acknowledged when this returns. Raises TransientError."""
        self._emitter.emit({**self._common(self._tenant_or_deployment), **draft, "causation_id": self._stated})
        if not self._emitter.await_broker(SEALED_S):
            raise TransientError("what was exported could not be recorded")

    def digest(self, parts: Iterable[bytes]) -> bytes:
        """HMAC-SHA-256 of the parts, joined, under the hash key of the tenant asked for, 32 bytes."""
        made = hmac.new(self._key(self._tenant_or_deployment), digestmod="sha256")
        for part in parts:
            made.update(part)
        return made.digest()

    def _among(self, roles: Roles) -> bool:
        return any(role == self.role and self.purpose in purposes for role, purposes in roles)

    def _open_to(self, act: Act) -> frozenset[LogClass]:
        """The classes in which such an act is allowed, exports aside."""
        return self._revealing if act.reveal else self.classes

    def _asked(self, act: Act) -> frozenset[LogClass]:
        return self._open_to(act) if act.classes is None else self._open_to(act) & act.classes

    @property
    def _tenant_or_deployment(self) -> str:
        return self.tenant or DEPLOYMENT_TENANT

    def _common(self, tenant: str) -> dict[str, Any]:
        return {
            "tenant": tenant,
            "source_system": "sealtrail",
            "actor": {"kind": "USER", "id": self.settings.person, "display": None},
            "changes": [],
        }

    def _state(self, act: Act, result: str, decision: str) -> UUID:
        tenant, asked = self._tenant_or_deployment, []
        if decision == "DENY" and _TENANT_HASH + tenant not in self._keystore.names():
            # nothing of that tenant can be hashed or stated here, and the refusal must be
            named = tenant if _SCOPE.fullmatch(tenant) else hash_value(self._key(DEPLOYMENT_TENANT), tenant)
            tenant, asked = DEPLOYMENT_TENANT, [f"tenant:{named}"]
        scopes = [
            f"role:{self.role}",
            f"purpose:{self.purpose}",
            *[f"class:{log_class.lower()}" for log_class in sorted(self.classes_for(act))],
            *[f"field:{name}" for name in act.fields],
            *asked,
        ]
        draft = {
            **self._common(tenant),
            "event_name": act.name,
            "event_type": "EXPORT" if act.export else "ACCESS",
            "result": result,
            "effect": "ATTEMPTED",
            "target_system": act.where,
            "object": {"type": act.what, "id": self._named(act.which, tenant)},
            "ticket": act.ticket,
            "approver": act.approver,
            "authorization": {
                "method": "CERTIFICATE",
                "scopes": scopes,
                "policy": "class-policy",
                "policy_version": self.policy.notes()[1].hex(),
                "decision": decision,
            },
        }
        self._stated = self._emit_and_wait(draft)
        return UUID(bytes=self._stated)

    def _named(self, which: str, tenant: str) -> str:
        try:
            return str(UUID(which))
        except ValueError:
            return hash_value(self._key(tenant), which)

    def _key(self, tenant: str) -> bytes:
        try:
            return self._keystore.secret(_TENANT_HASH + tenant)
        except ConfigError:
            raise ConfigError(f"option --tenant: this reader has no hash key of tenant {tenant!r}") from None

    def _emit_and_wait(self, draft: Mapping[str, Any]) -> bytes:
        """Emit one event and return when a committed seal holds it."""
        count = Ends(self.settings).partition_count(self._topic)
        partition = partition_of(f"{SOURCE}/{INSTANCE}".encode(), count)
        with PartitionReader(self.settings) as reader:
            since = reader.bounds(self._topic, partition).stable
            event_id = self._emitter.emit(draft)
            if not self._emitter.await_broker(SEALED_S):
                raise TransientError("the access could not be recorded; nothing is shown")
            reader.start(self._topic, partition, since)
            deadline = time.monotonic() + SEALED_S
            while time.monotonic() < deadline:
                if any(_holds(record, event_id) for record in reader.read(1000, 1 << 24, 0.2)):
                    return event_id
        raise TransientError(f"the access was not sealed within {SEALED_S:.0f} s, so nothing is shown; does the sealer run?")


def _holds(record: Record, event_id: bytes) -> bool:
    try:
        sealed = decode_sealed_event(record.value or b"")
        return sealed.content.event_id == event_id and decode_seal(sealed.seal).kind is Kind.EVENT
    except EvidenceError:
        return False
