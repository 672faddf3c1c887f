"""`sealtrail emit deployment`: the last step of a pipeline states what it deployed. Exit codes as `emit`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from producers.audit import AuditProducer
from producers.deployment import Deployed, draft_of
from sealtrail.errors import ConfigError

SOURCE = "ci"
CLOSE_S = 60.0
RESULTS = ("SUCCESS", "FAILURE", "DENIED", "PARTIAL", "UNKNOWN")


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
    outcome: Annotated[str, typer.Option(help="completed, failed or denied.")] = "completed",
    instance: Annotated[str, typer.Option(help="Which running copy of the connector speaks.")] = "emit",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """State one deployment, and wait until Kafka has acknowledged it."""
    with explained():
        deployed = Deployed(
            tenant=tenant,
            environment=environment,
            target=target,
            by=by,
            commit=commit,
            artifact_digest=artifact_digest,
            approver=approver,
            checks=dict(_check(text) for text in check or ()),
            ticket=ticket,
            run=run,
            succeeded=_succeeded(outcome),
        )
        emitter = AuditProducer(settings_of(config, SOURCE), SOURCE, instance)
        try:
            event_id = emitter.emit(draft_of(deployed))
        finally:
            emitter.close(CLOSE_S)
    if as_json:
        print(json.dumps({"event_id": event_id.hex(), "acknowledged": emitter.counts.acknowledged}))
    say(f"deployment stated as event {event_id.hex()}")


def _check(text: str) -> tuple[str, str]:
    name, equals, result = text.partition("=")
    if not equals or result not in RESULTS:
        raise ConfigError(f"option --check: expected NAME=RESULT, RESULT one of {', '.join(RESULTS)}")
    return name, result


def _succeeded(outcome: str) -> bool | None:
    try:
        return {"completed": True, "failed": False, "denied": None}[outcome]
    except KeyError:
        raise ConfigError("option --outcome: expected completed, failed or denied") from None
