"""`sealtrail show EVENT_ID`: one record, where it is, and what was verified of it just now."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from auditor.access import Act
from auditor.commands.search import Purpose
from auditor.console import EXIT_FAILED, AsJson, ConfigFile, event_uuid, explained, say, settings_of
from auditor.finding import Found
from auditor.looking import Place, look
from auditor.printing import event_document, seal_document, time_text
from schemas.settings import Settings
from sealtrail.seal import Route

NO_RECEIPT = "routed; what its sink has done is not known to the trail yet"


def show(
    event_id: Annotated[str, typer.Argument(help="UUID of the event.")],
    purpose: Purpose,
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one event from the archive: its content, its seal, where it is, and what was verified.

    Looking at it is an event itself, sealed before anything is shown.
    """
    wanted = event_uuid(event_id)
    with explained():
        document = run_show(settings_of(config, "reader"), wanted, purpose, chain)
    if document is None:
        say(f"no readable record of event {event_id} in the archive")
        raise typer.Exit(EXIT_FAILED)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print(document)
    if any(problem != "ok" for problem in document["verified"].values()):
        raise typer.Exit(EXIT_FAILED)


def run_show(settings: Settings, wanted: UUID, purpose: str, prefix: str = "") -> dict[str, Any] | None:
    """State the access, find the record, check it; None if the archive has no readable record of it.

    Raises:
        ContractError, ConfigError, TransientError, UndecidedError, EvidenceError: see `look`.
    """
    act = Act("trail.shown", "event", str(wanted), "archive")
    return look(settings, act, purpose, prefix, lambda looked: as_document(looked.found, str(looked.stated), looked.indexed))


def as_document(found: Found, access: str, indexed: Place | None) -> dict[str, Any]:
    """What is shown, with bytes as hex and times as RFC 3339.

    Args:
        access: id of the event that states this reading.
        indexed: index, chain and seq as hot search has them.
    """
    seal, lock = found.seal, found.lock
    return {
        "access": {"recorded_as": access},
        "event": event_document(found.event),
        "seal": seal_document(seal, found.leaf),
        "archived": {
            "segment": found.segment.key,
            "segment_version": found.segment.version,
            "content": found.reference.name,
            "content_version": found.reference.version,
            "tenant": found.tenant,
            "lock": None if lock is None else {"mode": lock.mode, "until": time_text(lock.until_ms / 1e3)},
        },
        "elsewhere": {
            "hot_search": "not found" if indexed is None else indexed[0],
            "siem": NO_RECEIPT if seal.routes & Route.SIEM else "not routed",
        },
        "verified": {
            **{check: problem or "ok" for check, problem in found.checks.items()},
            **({} if indexed is None else {"named alike in hot search": _agrees(found, indexed[1:])}),
        },
    }


def _agrees(found: Found, place: tuple[str, int]) -> str:
    return "ok" if place == (found.seal.chain, found.seal.seq) else f"hot search has it as {place[0]} {place[1]}"


def _print(document: dict[str, Any]) -> None:
    for part, fields in document.items():
        print(part)
        for name, value in fields.items():
            if value is not None:
                print(f"  {name:<16} {value if isinstance(value, str | int) else json.dumps(value)}")
