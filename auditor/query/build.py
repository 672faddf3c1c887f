"""From terms to one OpenSearch query: filters only, built from the field table, never from text that a person typed.

The scope is always in it: the tenant asked for and the classes that may be seen. No term can widen it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from auditor.query.fields import FIELDS, Form
from auditor.query.language import Term
from sealtrail.errors import ContractError
from sealtrail.seal import LogClass

SORT = [{"@timestamp": "desc"}, {"sealtrail.chain": "asc"}, {"sealtrail.seq": "desc"}]
_WORDS = "sealtrail.words"

Query = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be shown at all; tenant "" for every tenant."""

    tenant: str
    classes: Collection[LogClass]


def query_of(terms: Iterable[Term], scope: Scope, hashed: Callable[[str], list[str]]) -> Query:
    """The query of `terms` within `scope`.

    Args:
        hashed: what a personal value looks like in the events.

    Raises:
        ContractError: a value that its field cannot have.
    """
    filters: list[Query] = [{"terms": {"sealtrail.class": sorted(c.lower() for c in scope.classes)}}]
    if scope.tenant:
        filters.append({"term": {"organization.id": scope.tenant}})
    unwanted: list[Query] = []
    for term in terms:
        (unwanted if term.negated else filters).append(_clause(term, hashed))
    return {"bool": {"filter": filters, "must_not": unwanted}}


def _clause(term: Term, hashed: Callable[[str], list[str]]) -> Query:
    if term.field is None:
        return {"match": {_WORDS: {"query": " ".join(term.values), "operator": "and"}}}
    field = FIELDS[term.field]
    found = [
        clause
        for path in field.paths
        for value in term.values
        for clause in _clauses(term.field, field.form, path, value, hashed)
    ]
    return found[0] if len(found) == 1 else {"bool": {"should": found, "minimum_should_match": 1}}


def _clauses(name: str, form: Form, path: str, value: str, hashed: Callable[[str], list[str]]) -> list[Query]:
    if not value:
        raise ContractError("query", f"{name}: no value")
    if form in (Form.SINCE, Form.UNTIL):
        return [{"range": {path: {"gte" if form is Form.SINCE else "lt": moment(value, name)}}}]
    if form is Form.NUMBER:
        if not value.isascii() or not value.isdigit():
            raise ContractError("query", f"{name}: expected a whole number")
        return [{"term": {path: int(value)}}]
    if value.endswith("*") and form is Form.PREFIX:
        return [{"prefix": {path: value[:-1]}}]
    if value.endswith("*"):
        raise ContractError("query", f"{name}: '*' is not possible here")
    if form is Form.HASHED:
        return [{"terms": {path: hashed(value)}}]
    return [{"term": {path: {Form.UPPER: value.upper(), Form.LOWER: value.lower()}.get(form, value)}}]


def micros(text: str, name: str) -> int | None:
    """Microseconds since 1970 of what `moment` takes; None of nothing. Raises ContractError."""
    return int(datetime.fromisoformat(moment(text, name)).timestamp() * 1_000_000) if text else None


def moment(text: str, name: str) -> str:
    """A day or an RFC 3339 time as one; without an offset it is UTC. Raises ContractError."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ContractError("query", f"{name}: expected a day or time such as 2026-11-01 or 2026-11-01T12:30:00Z") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()
