"""The query language and what it becomes: mistakes are pointed at, and no query gets beyond its scope."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.query.build import Scope, query_of
from auditor.query.fields import FIELDS
from auditor.query.language import MAX_QUERY, MAX_TERMS, Term, parse
from auditor.rows import write_csv
from sealtrail.errors import ContractError
from sealtrail.seal import LogClass
from sinks.search.mapping import PROPERTIES

SCOPE = Scope("acme", frozenset({LogClass.ADMIN, LogClass.SECURITY}))


def built(text: str, scope: Scope = SCOPE) -> dict[str, Any]:
    return query_of(parse(text), scope, lambda value: [f"hashed {value}"])


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("tenant:acme", (Term("tenant", ("acme",), False),)),
        ("outcome:DENIED,FAILURE", (Term("outcome", ("DENIED", "FAILURE"), False),)),
        ("-class:debug", (Term("class", ("debug",), True),)),
        ('"change of role" -push', (Term(None, ("change of role",), False), Term(None, ("push",), True))),
        ("object:urn:x:1", (Term("object", ("urn:x:1",), False),)),
        ("after:2026-11-01T10:00:00Z", (Term("after", ("2026-11-01T10:00:00Z",), False),)),
        ('actor:"a, b",c', (Term("actor", ("a, b", "c"), False),)),
        ("Tenant:acme", (Term("tenant", ("acme",), False),)),
    ],
)  # fmt: skip
def test_a_query_is_read_as_it_is_meant(text: str, terms: tuple[Term, ...]) -> None:
    assert parse(text) == terms


@pytest.mark.parametrize(
    ("text", "at"), [("tenant:", 7), ('actor:"u', 6), ("tenant:acme,", 12), ("- ", 2), (": x", 0), ("a tenant:b :", 11)]
)
def test_a_mistake_is_pointed_at(text: str, at: int) -> None:
    with pytest.raises(ContractError) as caught:
        parse(text)
    assert str(caught.value).splitlines()[-1] == f"  {' ' * at}^"


def test_an_unknown_field_is_named_and_a_near_one_proposed() -> None:
    with pytest.raises(ContractError, match=r"no field 'actr'; did you mean actor\?"):
        parse("x actr:u-17")
    with pytest.raises(ContractError, match="there are: id, tenant"):
        parse("zzzz:1")


@pytest.mark.parametrize("text", ["x" * (MAX_QUERY + 1), "a " * (MAX_TERMS + 1)])
def test_a_query_has_a_size(text: str) -> None:
    with pytest.raises(ContractError, match="at most"):
        parse(text)


@pytest.mark.parametrize("text", ["seq:x", "seq:-1", "after:yesterday", 'ticket:""', "actor:u*", "class:ad*", "seq:١"])
def test_a_value_that_its_field_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="query"):
        built(text)


def test_personal_values_are_looked_for_as_the_events_hold_them() -> None:
    assert {"terms": {"user.id": ["hashed u-17"]}} in built("actor:u-17")["bool"]["filter"]


def test_every_field_is_one_of_the_index() -> None:
    def there(path: str, properties: dict[str, Any]) -> bool:
        first, _, rest = path.partition(".")
        return first in properties and (not rest or there(rest, properties[first].get("properties", {})))

    missing = [path for field in FIELDS.values() for path in field.paths if not there(path, PROPERTIES)]
    assert not missing


@given(st.text(max_size=60) | st.from_regex(r'(-?[a-z_]{2,8}:("[^"]*"|[a-z*,]{1,9}) ?){1,4}', fullmatch=True))
def test_no_query_gets_beyond_its_scope_or_breaks_the_program(text: str) -> None:
    try:
        query = built(text)
    except ContractError:
        return
    filters = query["bool"]["filter"]
    assert filters[:2] == [{"terms": {"sealtrail.class": ["admin", "security"]}}, {"term": {"organization.id": "acme"}}]
    assert set(query["bool"]) == {"filter", "must_not"}
    assert "query_string" not in json.dumps(query).replace(json.dumps(text), "")


@given(st.sampled_from(["=1+1", "+x", "-2", "@SUM(A1)", "\tx", "\rx"]))
def test_no_cell_of_a_spreadsheet_begins_a_formula(text: str) -> None:
    document = {
        "@timestamp": "2026-11-24T00:00:00Z",
        "event": {"id": "x", "action": "chat.x"},
        "organization": {"id": "acme"},
        "user": {"id": text},
        "sealtrail": {"class": "admin", "result": "SUCCESS", "chain": "c", "seq": 1, "object": {"type": "t", "id": "i"}},
    }
    to = io.StringIO(newline="")
    assert write_csv([document], to) == 1
    (row,) = csv.DictReader(io.StringIO(to.getvalue(), newline=""))
    assert row["actor"] == f"'{text}"
    assert row["object"] == "t:i"
