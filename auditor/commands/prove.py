"""`sealtrail prove EVENT_ID`: one record with its way to the archive's checkpoint, for somebody who trusts neither of us.

Writes the proof, and beside it what else a stranger needs: `keys/` with the certificates, `schemas/` with the schema of its
content. `python -m sealtrail FILE --root root.vkey` checks it, offline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TextIO
from uuid import UUID

import typer

from auditor.access import Act
from auditor.commands.search import Purpose
from auditor.console import EXIT_FAILED, AsJson, ConfigFile, event_uuid, explained, say, settings_of
from auditor.export import TEXT, as_text, check_output, export
from auditor.looking import Looked, look
from schemas.settings import Settings
from sealtrail.ending import parse_end
from sealtrail.errors import EvidenceError
from sealtrail.layout import END, KEYS, certificate_key, schema_key
from sealtrail.proof import format_proof
from sealtrail.proof import prove as prove_record
from sealtrail.source import Source
from sealtrail.sworn import genuine_checkpoint

SUFFIX = ".tlog-proof"


def prove(
    event_id: Annotated[str, typer.Argument(help="UUID of the event.")],
    purpose: Purpose,
    output: Annotated[Path | None, typer.Option(help="The file to write; default: EVENT_ID.tlog-proof here.")] = None,
    ticket: Annotated[str | None, typer.Option(help="The request that it answers.")] = None,
    approver: Annotated[str | None, typer.Option(help="Who approved it.")] = None,
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a proof of one event that anyone can check offline: a C2SP tlog-proof with seal, content and salt.

    The record leaves in clear, so this is an export: an event, sealed before anything is written.
    """
    wanted = event_uuid(event_id)
    file = output or Path(f"{wanted}{SUFFIX}")
    with explained():
        done = run_prove(settings_of(config, "reader"), wanted, purpose, file, chain, ticket, approver)
    if done is None:
        say(f"no readable record of event {wanted} in the archive")
        raise typer.Exit(EXIT_FAILED)
    say(f"entry {done['seq']} of {done['chain']}, in its tree of {done['size']} seals: {file}; recorded as {done['access']}")
    if as_json:
        print(json.dumps(done, indent=1))


def run_prove(
    settings: Settings,
    wanted: UUID,
    purpose: str,
    file: Path,
    prefix: str = "",
    ticket: str | None = None,
    approver: str | None = None,
) -> dict[str, Any] | None:
    """State the export, find the record, write the proof and what it needs; None if there is no readable record.

    Raises:
        EvidenceError: the record does not verify; nothing is written.
        ContractError, ConfigError, TransientError, UndecidedError: see `look`.
    """
    check_output(file)
    act = Act("trail.proved", "event", str(wanted), "archive", export=True, ticket=ticket, approver=approver)
    return look(settings, act, purpose, prefix, lambda looked: _write(looked, file))


def _of_keys(source: Source, signers: Iterable[bytes]) -> Iterator[str]:
    """Prefixes of what a stranger needs of these keys: their certificates, their ends, and the keys that state those."""
    for signer in signers:
        yield f"{KEYS}{signer.hex()}"
        for stored in source.list(f"{KEYS}{signer.hex()}"):
            if stored.key.endswith(END) and not stored.is_marker:
                with suppress(EvidenceError):
                    yield certificate_key(parse_end(source.read(stored.key, stored.version)).successor)


def _write(looked: Looked, file: Path) -> dict[str, Any]:
    found, source = looked.found, looked.source
    problems = [f"{check}: {problem}" for check, problem in found.checks.items() if problem]
    if problems:
        raise EvidenceError(f"the record does not verify: {problems[0]}")
    proof = prove_record(found.holder, found.sealed)
    text = format_proof(proof).decode()
    signers = [genuine_checkpoint(proof.checkpoint.encode(), looked.keyring)[1].key_id]
    signers += [found.sealed.signature.key_id] if found.sealed.signature else []
    for prefix in (*_of_keys(source, signers), schema_key(found.sealed.content.content_schema)):
        for stored in source.list(prefix):
            if not stored.is_marker:
                path = file.parent / stored.key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read(stored.key, stored.version))

    def write(to: TextIO) -> int:
        to.write(text)
        return 1

    export(looked.access, file, as_text(write), TEXT)
    return {
        "access": str(looked.stated),
        "file": str(file),
        "chain": found.seal.chain,
        "seq": found.seal.seq,
        "size": found.holder.next_seq,
        "leaf_hash": found.leaf.hex(),
    }
