"""`sealtrail show EVENT_ID`: one record, where it is, and what was verified of it just now."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from auditor.archive import ArchiveReader
from auditor.commands.verify import openers_of
from auditor.console import EXIT_FAILED, EXIT_USAGE, AsJson, ConfigFile, explained, say, settings_of
from auditor.finding import Found, find_event
from keystore import load_root
from sealtrail.certificate import Keyring, verify_certificate
from sealtrail.layout import KEYS
from sealtrail.note import NoteKey
from sealtrail.source import Source


def show(
    event_id: Annotated[str, typer.Argument(help="UUID of the event.")],
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one event from the archive: its content, its seal, where it lies, and what was verified."""
    try:
        wanted = UUID(event_id).bytes
    except ValueError:
        say("EVENT_ID must be a UUID")
        raise typer.Exit(EXIT_USAGE) from None
    with explained():
        settings = settings_of(config, "reader")
        settings.require("root_vkey", "keys")
        if settings.root_vkey is None:
            raise AssertionError("require() lets no empty setting pass")
        source = ArchiveReader(settings)
        keyring = archived_keyring(source, load_root(settings.root_vkey))
        found = find_event(source, wanted, keyring, openers_of(settings), chain)
    if found is None:
        say(f"no readable record of event {event_id} in the archive")
        raise typer.Exit(EXIT_FAILED)
    document = as_document(found)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print(document)
    if any(found.checks.values()):
        raise typer.Exit(EXIT_FAILED)


def archived_keyring(source: Source, root: NoteKey) -> Keyring:
    """The certificates in the archive, each verified against the root. Raises EvidenceError."""
    stored = (o for o in source.list(KEYS) if not o.is_marker)
    return Keyring(verify_certificate(source.read(o.key, o.version), root) for o in stored)


def as_document(found: Found) -> dict[str, Any]:
    """What is shown, with bytes as hex and times as RFC 3339."""
    seal, lock = found.seal, found.lock
    return {
        "event": {**_printable(found.event), "event_id": str(UUID(bytes=found.event["event_id"]))},
        "seal": {
            "chain": seal.chain,
            "seq": seal.seq,
            "kind": str(seal.kind),
            "log_class": str(seal.log_class),
            "signed": seal.signed,
            "routes": [route.name.lower() for route in type(seal.routes) if route in seal.routes and route.name],
            "source_offset": seal.source_offset,
            "sealed_at": _time(seal.sealed_at_us / 1e6),
            "retain_until": _time(seal.retain_until_ms / 1e3),
            "leaf_hash": found.leaf.hex(),
        },
        "archived": {
            "segment": found.segment.key,
            "segment_version": found.segment.version,
            "content": found.reference.name,
            "content_version": found.reference.version,
            "tenant": found.tenant,
            "lock": None if lock is None else {"mode": lock.mode, "until": _time(lock.until_ms / 1e3)},
        },
        "verified": {check: problem or "ok" for check, problem in found.checks.items()},
    }


def _print(document: dict[str, Any]) -> None:
    for part, fields in document.items():
        print(part)
        for name, value in fields.items():
            if value is not None:
                print(f"  {name:<16} {value if isinstance(value, str | int) else json.dumps(value)}")


def _printable(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
