"""Loading an edited class policy: from the folder where people edit it into force, with the change in the trail.

    read → compare → publish in the archive → state the intent → install → state the change

- Nothing is sealed under a policy that the archive does not hold yet: it is published before it is installed.
- The intent is stated, and acknowledged, before the link moves: a change that nobody recorded cannot be. If the process dies
  after that, loading again does and states the rest; a file beside the link remembers what was in force before.
- Each changed retention is an event of its own (type RETENTION: compliance, signed, to the SIEM) with the days before and
  after; what else changed is named, by path, in one event of type ADMIN.
- What is sealed already keeps its time: a shorter retention does not reach back.

Not here: running processes, which take the policy up by themselves (`schemas.policy_files`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers.audit import AuditProducer
from schemas.policy import Policy
from schemas.policy_files import PolicyFiles, install
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError
from sealtrail.seal import DEPLOYMENT_TENANT
from sinks.archive.assembly import publish_policy

ACKNOWLEDGED_S = 30.0
Draft = dict[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two policies. scope: base, or tenant/<tenant>. path: JSON Pointer in the file."""

    scope: str
    path: str
    before: object
    after: object

    @property
    def retained(self) -> str | None:
        """The class whose archive time it is; None for anything else."""
        parts = self.path.split("/")[1:]
        if parts[-1:] != ["archive_days"]:
            return None
        return parts[1] if parts[0] == "classes" else parts[-2]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did. events: ids of the changes that were stated."""

    policy: str
    changes: tuple[Change, ...]
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Authority:
    """Who changes the policy, or a key, and on what grounds."""

    person: str
    reason: str
    ticket: str | None = None
    approver: str | None = None


def read_files(folder: Path) -> dict[str, str]:
    """The texts of a policy folder by their place. Raises ConfigError."""
    try:
        tenants = sorted((folder / "tenants").glob("*.toml"))
        places = [folder / "base.toml", *tenants]
        return {str(path.relative_to(folder)): path.read_bytes().decode("utf-8") for path in places}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy in {folder}: {error}") from None


def difference(before: Policy, after: Policy) -> tuple[Change, ...]:
    """What differs, by file and path, in order."""
    old, new = _by_scope(before), _by_scope(after)
    return tuple(
        change for scope in sorted(old.keys() | new.keys()) for change in _differ(scope, "", old.get(scope), new.get(scope))
    )


def load(settings: Settings, folder: Path, authority: Authority, emitter: AuditProducer) -> Loaded:
    """Bring the policy in `folder` into force; see the module. Without a difference nothing is done.

    Raises:
        ConfigError: it is no policy, or setting `policy` names nothing that can be moved.
        TransientError: the archive or Kafka did not answer in time; load again.
    """
    if settings.policy is None:
        raise ConfigError("setting policy: names no link, so there is nothing to move")
    policy = Policy.load(folder)
    there = settings.policy.exists()
    before = PolicyFiles(settings.policy if there else None).current()
    changes = difference(before, policy)
    name = policy.notes()[1].hex()
    pending = settings.policy.with_name(f".{settings.policy.name}.pending")
    if there and before.texts.keys() == policy.texts.keys():
        if not pending.exists():
            return Loaded(name, (), ())
        changes = difference(Policy.load(Path(pending.read_text("utf-8"))), policy)  # in force, and not stated yet
    else:
        publish_policy(settings, policy)
        if changes:
            _state(emitter, [_intent(name, authority)])
        if there:
            pending.write_text(str(settings.policy.resolve()), "utf-8")
        install(settings.policy, policy, read_files(folder))
    events = _state(emitter, list(_stated(name, changes, authority)))
    pending.unlink(missing_ok=True)
    return Loaded(name, changes, events)


def _state(emitter: AuditProducer, drafts: list[Draft]) -> tuple[bytes, ...]:
    events = tuple(emitter.emit(draft) for draft in drafts)
    if not emitter.await_broker(ACKNOWLEDGED_S):
        raise TransientError("the change could not be recorded in time; load again", 1.0)
    return events


def _by_scope(policy: Policy) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for text in policy.texts.values():
        document = tomllib.loads(text)
        found[f"tenant/{document['tenant']}" if "tenant" in document else "base"] = document
    return found


def _differ(scope: str, path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old = before if isinstance(before, Mapping) else {}
        new = after if isinstance(after, Mapping) else {}
        for key in sorted(old.keys() | new.keys()):
            yield from _differ(scope, f"{path}/{key}", old.get(key), new.get(key))
    elif isinstance(before, list) and isinstance(after, list) and all(_named(item) for item in (*before, *after)):
        old, new = ({item["name"]: item for item in items} for items in (before, after))
        if [*old] != [*new]:
            yield Change(scope, f"{path}/order", [*old], [*new])
        for name in sorted(old.keys() | new.keys()):
            yield from _differ(scope, f"{path}/{name}", old.get(name), new.get(name))
    elif before != after:
        yield Change(scope, path, before, after)


def _named(item: object) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("name"), str)


def _intent(name: str, authority: Authority) -> Draft:
    return {**_event("policy.load.intended", "ADMIN", name, authority), "result": "UNKNOWN", "effect": "ATTEMPTED"}


def _stated(name: str, changes: tuple[Change, ...], authority: Authority) -> Iterator[Draft]:
    others = []
    for change in changes:
        log_class = change.retained
        if log_class is None:
            others.append(change)
            continue
        tenant = change.scope.removeprefix("tenant/") if change.scope != "base" else DEPLOYMENT_TENANT
        draft = _event("policy.retention.changed", "RETENTION", name, authority, tenant)
        values = [None if value is None else str(value) for value in (change.before, change.after)]
        stated = {"op": _op(change), "path": "/retention_days", "before": values[0], "after": values[1]}
        yield {**draft, "object": {"type": "retention", "id": f"{change.scope}/{log_class}"}, "changes": [stated]}
    if others:
        paths = [f"/{change.scope}{change.path}" for change in others]
        stated_paths = [
            {"op": _op(c), "path": _pointer(p), "before": None, "after": None} for c, p in zip(others, paths, strict=True)
        ]
        yield {**_event("policy.rules.changed", "ADMIN", name, authority), "changes": stated_paths}


def _event(name: str, event_type: str, policy: str, authority: Authority, tenant: str = DEPLOYMENT_TENANT) -> Draft:
    return {
        "event_name": name,
        "tenant": tenant,
        "event_type": event_type,
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "source_system": "sealtrail",
        "target_system": "sealtrail",
        "object": {"type": "policy", "id": policy},
        "correlation_id": policy,
        "ticket": authority.ticket,
        "actor": {"kind": "USER", "id": authority.person, "display": None},
        "approver": authority.approver,
        "reason": authority.reason or None,
        "authorization": {
            "method": "CERTIFICATE",
            "scopes": ["role:publisher"],
            "policy": None,
            "policy_version": None,
            "decision": "NOT_CHECKED",
        },
    }


def _op(change: Change) -> str:
    return "ADD" if change.before is None else "REMOVE" if change.after is None else "REPLACE"


def _pointer(path: str) -> str:
    """As the contract wants a path: other characters become `-`, long parts are cut."""
    parts = ["".join(c if c.isalnum() or c in "_.-" else "-" for c in part)[:62] for part in path.split("/")[1:]]
    return "".join(f"/{part}" for part in parts[:16])
