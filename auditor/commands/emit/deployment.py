"""`sealtrail emit deployment`: the last step of a pipeline states what it deployed. Exit codes as `emit`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from producers.audit import AuditProducer
from producers.kit import Actor, Audit, Authorization, AuthorizationMethod, Decision, Deployed, Result
from sealtrail.errors import ConfigError

SOURCE = "ci"
CLOSE_S = 60.0


class Outcome(StrEnum):
    """completed: it is in place; failed: it is not; denied: a check or a missing approval stopped it before."""

    COMPLETED = "completed"
    FAILED = "failed"
    DENIED = "denied"


def deployment(
    tenant: Annotated[str, typer.Option(help="Whose deployment it is.")],
    environment: Annotated[str, typer.Option(help="Where to: production, staging.")],
    target: Annotated[str, typer.Option(help="What was deployed: the service's name.")],
    commit: Annotated[str, typer.Option(help="Of the source, in hex.")],
    artifact_digest: Annotated[str | None, typer.Option(help="sha256:<64 hex digits>.")] = None,
    approver: Annotated[str | None, typer.Option(help="Who agreed; hashed in the event.")] = None,
    check: Annotated[list[str] | None, typer.Option(help="A control check and its result: tests=SUCCESS. Repeatable.")] = None,
    by: Annotated[str, typer.Option(help="The account that deployed; hashed in the event.")] = "pipeline",
    ticket: Annotated[str | None, typer.Option(help="The change request.")] = None,
    run: Annotated[str | None, typer.Option(help="The pipeline's run; correlates its events.")] = None,
    outcome: Annotated[Outcome, typer.Option(help="What became of it.")] = Outcome.COMPLETED,
    instance: Annotated[str, typer.Option(help="Which running copy of the connector speaks.")] = "emit",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """State one deployment, and wait until Kafka has acknowledged it."""
    with explained():
        deployed = Deployed(target, environment, commit, artifact_digest, dict(_check(text) for text in check or ()))
        emitter = AuditProducer(settings_of(config, SOURCE), SOURCE, instance)
        try:
            audit = Audit(emitter, SOURCE)
            with audit.context(tenant=tenant, actor=Actor.service(by), ticket=ticket, correlation_id=run):
                event_id = state(audit, outcome, deployed, approver)
        finally:
            emitter.close(CLOSE_S)
    if as_json:
        print(json.dumps({"event_id": event_id.hex(), "acknowledged": emitter.counts.acknowledged}))
    say(f"deployment stated as event {event_id.hex()}")


def state(audit: Audit, outcome: Outcome, deployed: Deployed, approver: str | None) -> bytes:
    """State a deployment, within a context that says whose and by whom; the event's id, 16 bytes. Raises ContractError."""
    decision = Decision.DENY if outcome is Outcome.DENIED else Decision.ALLOW if approver else Decision.NOT_CHECKED
    scopes = (f"deploy:{deployed.environment}",)
    authorization = Authorization(AuthorizationMethod.SERVICE_TOKEN, scopes, decision=decision)
    match outcome:
        case Outcome.COMPLETED:
            return audit.deployment.completed(deployed, approver, authorization=authorization)
        case Outcome.FAILED:
            return audit.deployment.failed(deployed, approver=approver, authorization=authorization)
        case Outcome.DENIED:
            return audit.deployment.denied(deployed, approver=approver, authorization=authorization)


def _check(text: str) -> tuple[str, Result]:
    name, equals, result = text.partition("=")
    if not equals or result not in list(Result):
        raise ConfigError(f"option --check: expected NAME=RESULT, RESULT one of {', '.join(Result)}")
    return name, Result(result)
