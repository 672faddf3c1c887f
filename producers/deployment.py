"""A deployment as an event: what was deployed where, who approved it, which control checks said what (CAP-7).

    ci.deployment.completed   all checks passed and it is in place
    ci.deployment.failed      it is not in place
    ci.deployment.denied      a check or a missing approval stopped it

Pure: arguments to a draft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from producers.lifecycle import Draft

SYSTEM = "ci"


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a pipeline knows of one deployment.

    environment, target: slugs. commit: 40 or 64 hex digits. artifact_digest: sha256:<64 hex>. checks: name to a word of
    `Result`. approver: who agreed, if anybody. succeeded: whether it is in place; None where it was stopped before.
    """

    tenant: str
    environment: str
    target: str
    by: str
    commit: str
    artifact_digest: str | None = None
    approver: str | None = None
    checks: Mapping[str, str] = field(default_factory=dict)
    ticket: str | None = None
    run: str | None = None
    traceparent: str | None = None
    succeeded: bool | None = True


def draft_of(deployed: Deployed) -> Draft:
    """The draft; the contract checks its values when it is emitted."""
    name, result, effect = {
        True: ("completed", "SUCCESS", "EFFECTIVE"),
        False: ("failed", "FAILURE", "ATTEMPTED"),
        None: ("denied", "DENIED", "NONE"),
    }[deployed.succeeded]
    return {
        "event_name": f"ci.deployment.{name}",
        "tenant": deployed.tenant,
        "event_type": "DEPLOYMENT",
        "result": result,
        "effect": effect,
        "source_system": SYSTEM,
        "target_system": deployed.target,
        "object": {"type": "deployment", "id": f"{deployed.target}/{deployed.environment}"},
        "ticket": deployed.ticket,
        "correlation_id": deployed.run,
        "traceparent": deployed.traceparent,
        "deployment": {
            "environment": deployed.environment,
            "commit": deployed.commit,
            "artifact_digest": deployed.artifact_digest,
            "checks": [{"name": check, "result": said} for check, said in deployed.checks.items()],
        },
        "authorization": {
            "method": "SERVICE_TOKEN",
            "scopes": [f"deploy:{deployed.environment}"],
            "policy": None,
            "policy_version": None,
            "decision": "DENY" if deployed.succeeded is None else "ALLOW" if deployed.approver else "NOT_CHECKED",
        },
        "actor": {"kind": "SERVICE", "id": deployed.by, "display": None},
        "approver": deployed.approver,
    }
