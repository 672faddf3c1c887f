"""`sealtrail search QUERY`: what hot search knows, for a purpose, within what the class policy lets one see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.access import Access, Act
from auditor.console import EXIT_PARTIAL, AsJson, ConfigFile, explained, say, settings_of
from auditor.export import CSV, JSON_LINES, as_text, check_output, export
from auditor.query.build import Scope, query_of
from auditor.query.index import HotIndex
from auditor.query.language import Term, parse
from auditor.rows import as_lines, write_csv, write_json_lines
from schemas.search_names import CLASSES
from schemas.settings import Settings

Purpose = Annotated[str, typer.Option(help="Why you read: one of the purposes that the class policy gives your role.")]
Tenant = Annotated[str, typer.Option(help="Only this tenant's events.")]
MOST = 100_000  # rows a command


def search(
    query: Annotated[str, typer.Argument(help="Such as: actor:u-17 event:github.member* after:2026-11-01 words")],
    purpose: Purpose,
    tenant: Tenant = "",
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Rows at most, the newest first.")] = 50,
    output: Annotated[Path | None, typer.Option(help="Export to this file instead: JSON lines, or CSV by its name.")] = None,
    ticket: Annotated[str | None, typer.Option(help="Of an export: the request that it answers.")] = None,
    approver: Annotated[str | None, typer.Option(help="Of an export: who approved it.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Search the events of the trail. The search itself is an event, sealed before the first row is shown."""
    with explained():
        settings = settings_of(config, "reader")
        done = run_search(settings, query, purpose, tenant, limit, output, ticket, approver)
    documents = list(done["documents"])
    if as_json:
        print(json.dumps({**done, "documents": documents}, indent=1))
    else:
        for line in as_lines(documents):
            print(line)
    say(
        f"{done['shown']} of {done['total']} shown, {done['took_ms']} ms; access recorded as {done['access']}"
        + (f"; exported to {output}" if output else "")
    )
    if done["left_out"]:
        say(f"not shown to role {settings.reader_role} for {purpose}: {', '.join(done['left_out'])}")
        if output is not None:
            raise typer.Exit(EXIT_PARTIAL)


def run_search(
    settings: Settings,
    text: str,
    purpose: str,
    tenant: str = "",
    limit: int = 50,
    output: Path | None = None,
    ticket: str | None = None,
    approver: str | None = None,
) -> dict[str, Any]:
    """Ask, state the asking, and give the documents; with `output` they are in the file and not in the answer.

    Raises:
        ContractError: the query is not one, or the policy does not allow it.
        ConfigError, TransientError: see `Access` and `HotIndex`.
    """
    terms = parse(text)
    with Access(settings, purpose, tenant or _only_tenant(terms)) as access:
        fields = tuple(sorted({term.field or "words" for term in terms}))
        if output is not None:
            check_output(output)
        act = Act("trail.searched", "query", text or "*", "search-index", fields, output is not None, ticket, approver)
        access.require_allowed(act)
        query = query_of(terms, Scope(access.tenant, access.classes_for(act)), access.hashed)
        stated = access.open(act)
        index = HotIndex(settings)
        try:
            answer = index.ask(query, limit)
            if output is None:
                documents = list(answer.documents)
                shown = len(documents)
            else:
                write, media = (write_csv, CSV) if output.suffix.lower() == ".csv" else (write_json_lines, JSON_LINES)
                documents, shown = [], export(access, output, as_text(lambda to: write(answer.documents, to)), media)
        finally:
            index.close()
    return {
        "access": str(stated),
        "total": answer.total,
        "shown": shown,
        "took_ms": answer.took_ms,
        "left_out": sorted(c.lower() for c in CLASSES if c not in access.classes_for(act)),
        "documents": documents,
    }


def _only_tenant(terms: tuple[Term, ...]) -> str:
    """The tenant that the query itself is limited to, if it is to one."""
    named: Iterator[Term] = (term for term in terms if term.field == "tenant" and not term.negated)
    values = {value for term in named for value in term.values}
    return values.pop() if len(values) == 1 else ""
