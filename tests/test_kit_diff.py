"""Before and after as a diff, and what no diff can say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.kit import (
    Audit,
    changed,
)
from producers.kit.diff import MAX_NAMES
from producers.samples.emitter import SampleEmitter
from tests.kitted import ADA, RULE, Kit, nested

# -- before and after

DIFFS: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str, str | None, str | None]]]] = {
    "nothing": ({"a": 1}, {"a": 1}, []),
    "added": ({}, {"role": "admin"}, [("ADD", "/role", None, '"admin"')]),
    "removed": ({"role": None}, {}, [("REMOVE", "/role", "null", None)]),
    "replaced": ({"role": "member"}, {"role": "admin"}, [("REPLACE", "/role", '"member"', '"admin"')]),
    "to null": ({"role": "member"}, {"role": None}, [("REPLACE", "/role", '"member"', "null")]),
    "nested": ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}}, [("REPLACE", "/a/b/d", "2", "3")]),
    "true is not 1": ({"a": True}, {"a": 1}, [("REPLACE", "/a", "true", "1")]),
    "1 is not 1.0": ({"a": 1}, {"a": 1.0}, [("REPLACE", "/a", "1", "1.0")]),
    "the order of keys is nothing": ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, []),
    "a list's end": ({"a": ["x"]}, {"a": ["x", "y"]}, [("ADD", "/a/1", None, '"y"')]),
    "a list's beginning": ({"a": ["x", "y"]}, {"a": ["w", "x", "y"]}, [("ADD", "/a/0", None, '"w"')]),
    "removed from a list": ({"a": [1, 2, 3, 4]}, {"a": [1, 4]}, [("REMOVE", "/a/2", "3", None), ("REMOVE", "/a/1", "2", None)]),
    "within a list": ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("REPLACE", "/a/0/b", "1", "2")]),
    "another kind": ({"a": [1]}, {"a": {"b": 1}}, [("REPLACE", "/a", "[1]", '{"b": 1}')]),
    "text": ({"a": "ä"}, {"a": "ö/~"}, [("REPLACE", "/a", '"ä"', '"ö/~"')]),
    "a key that no path holds": (
        {"members": {"ada@acme.example": "r"}},
        {"members": {"ada@acme.example": "w"}},
        [("REPLACE", "/members", '{"ada@acme.example": "r"}', '{"ada@acme.example": "w"}')],
    ),
    "a pointer's own characters": (
        {"m": {"a/b": 1, "~": 2}},
        {"m": {"a/b": 1}},
        [("REPLACE", "/m", '{"a/b": 1, "~": 2}', '{"a/b": 1}')],
    ),
    "a secret": ({"api_key": "a-1"}, {"api_key": "a-2"}, [("REPLACE", "/api_key", None, None)]),
    "a secret below": ({}, {"smtp": {"host": "h", "password": "x"}}, [("ADD", "/smtp", None, None)]),
    "a secret in what is replaced whole": (
        {"smtp": ["h"]},
        {"smtp": {"password": "x"}},
        [("REPLACE", "/smtp", None, None)],
    ),
    "a secret in a list": ({"smtp": [{"token": "x"}]}, {"smtp": []}, [("REMOVE", "/smtp/0", None, None)]),
    "below a secret's name": ({"tokens": {"a": 1}}, {"tokens": {"a": 2}}, [("REPLACE", "/tokens/a", None, None)]),
}


@pytest.mark.parametrize("name", DIFFS)
def test_the_difference_of(name: str) -> None:
    before, after, expected = DIFFS[name]
    assert [(c.op, c.path, c.before, c.after) for c in changed(before, after)] == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "ä"]) | st.floats(-2, 2),
    lambda below: st.lists(below, max_size=5) | st.dictionaries(st.sampled_from(["a", "b", "c", "~/"]), below, max_size=4),
    max_leaves=12,
)
ANYBODYS = Audit(SampleEmitter(), "slack", traces=lambda: None)
SETTINGS = st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, max_size=3)


def text_of(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def applied(document: Any, changes: Any) -> Any:
    """RFC 6902, the three operations, on JSON values."""
    document = copy.deepcopy(document)
    for change in changes:
        *way, last = change["path"].split("/")[1:]
        inside = document
        for name in way:
            inside = inside[int(name)] if isinstance(inside, list) else inside[name]
        value = None if change["after"] is None else json.loads(change["after"])
        if isinstance(inside, list):
            at = int(last)
            if change["op"] == "ADD":
                inside.insert(at, value)
            elif change["op"] == "REMOVE":
                assert inside.pop(at) == json.loads(change["before"])
            else:
                inside[at] = value
        elif change["op"] == "REMOVE":
            del inside[last]
        else:
            assert (last in inside) == (change["op"] == "REPLACE")
            inside[last] = value
    return document


@given(SETTINGS, SETTINGS)
def test_the_changes_applied_in_order_to_what_was_give_what_is(before: dict[str, Any], after: dict[str, Any]) -> None:
    ANYBODYS.admin.changed(RULE, before, after, tenant="acme", actor=ADA)  # every diff keeps the contract
    changes = [{"op": c.op, "path": c.path, "before": c.before, "after": c.after} for c in changed(before, after)]
    assert text_of(applied(before, changes)) == text_of(after)
    assert bool(changes) == (text_of(before) != text_of(after))


def test_deeper_than_a_path_reaches_is_replaced_whole(acme: Kit) -> None:
    acme.audit.admin.changed(RULE, nested(MAX_NAMES + 3, 1), nested(MAX_NAMES + 3, 2))
    (change,) = acme.last["changes"]
    assert change["path"] == "/a" * MAX_NAMES
