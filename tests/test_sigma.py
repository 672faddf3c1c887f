"""Sigma detections mean what the specification says, and what we do not evaluate is refused when it is compiled."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import sigma
from sealtrail.errors import ConfigError

EVENT: dict[str, Any] = {
    "event_name": "github.member.added",
    "tenant": "acme",
    "actor": {"kind": "USER", "id": "x", "display": None},
    "object": None,
    "count": 5,
    "ratio": 0.5,
    "one": 1,
    "flag": True,
    "off": False,
    "empty": "",
    "id": b"\x01\xff",
    "ip": "192.0.2.17",
    "six": "2001:db8::17",
    "text": "first line\nsecond [x] a*b c?d \\ end",
    "tags": ["red", "Green", None],
    "none": [],
    "changes": [
        {"path": "/visibility", "before": "public", "after": None},
        {"path": "/role", "before": None, "after": "admin"},
    ],
}

# field condition, value, whether it matches
FIELDS: list[tuple[str, object, bool]] = [
    # text
    ("tenant", "acme", True),
    ("tenant", "ACME", True),
    ("tenant", "acm", False),
    ("tenant|cased", "ACME", False),
    ("tenant|cased", "acme", True),
    ("tenant", ["globex", "acme"], True),
    ("tenant", ["globex", "initech"], False),
    ("empty", "", True),
    ("tenant", "", False),
    ("tenant", "*", True),
    ("empty", "*", True),
    ("object", "*", False),
    # wildcards and escapes
    ("event_name", "github.*", True),
    ("event_name", "*.added", True),
    ("event_name", "*member*", True),
    ("event_name", "git*member*d", True),
    ("event_name", "git*team*", False),
    ("tenant", "a?me", True),
    ("tenant", "a?e", False),
    ("tenant", "?acme", False),
    ("event_name", "githubXmember*", False),
    ("text|contains", "a\\*b", True),
    ("text|contains", "a\\*c", False),
    ("text|contains", "c\\?d", True),
    ("text", "first*end", True),
    # modifiers
    ("event_name|contains", "MEMBER", True),
    ("event_name|startswith", "GitHub.", True),
    ("event_name|startswith", "member", False),
    ("event_name|endswith", ".added", True),
    ("event_name|contains|all", ["git", "added"], True),
    ("event_name|contains|all", ["git", "removed"], False),
    ("event_name|contains", ["removed", "added"], True),
    ("tenant|neq", "globex", True),
    ("tenant|neq", "acme", False),
    ("text|contains|cased", "SECOND", False),
    # regular expressions: anywhere, with case
    ("event_name|re", "member", True),
    ("event_name|re", "^member", False),
    ("event_name|re", "MEMBER", False),
    ("event_name|re|i", "MEMBER", True),
    ("event_name|re", r"^github\.[a-z]+\.added$", True),
    ("text|re", "^second", False),
    ("text|re|m", "^second", True),
    ("text|re", "line.second", False),
    ("text|re|s", "line.second", True),
    ("count|re", "^5$", True),
    # numbers, booleans, bytes
    ("count", 5, True),
    ("count", 5.0, True),
    ("count", 6, False),
    ("count", "5", True),
    ("tenant", 5, False),
    ("flag", True, True),
    ("flag", False, False),
    ("off", False, True),
    ("flag", 1, False),
    ("flag", "true", True),
    ("count", True, False),
    ("one", True, False),
    ("count|gt", 4, True),
    ("count|gt", 5, False),
    ("count|gte", 5, True),
    ("count|lt", 5, False),
    ("count|lte", 5, True),
    ("ratio|lt", 1, True),
    ("flag|gt", 0, False),
    ("tenant|gt", 0, False),
    ("id", "01ff", True),
    ("id", "01FF", True),
    # null and existence
    ("object", None, True),
    ("missing", None, True),
    ("none", None, True),
    ("tenant", None, False),
    ("empty", None, False),
    ("actor.display", None, True),
    ("object.id", None, True),
    ("tenant", ["globex", None], False),
    ("object", ["x", None], True),
    ("tenant|exists", True, True),
    ("tenant|exists", False, False),
    ("object|exists", False, True),
    ("object.id|exists", True, False),
    ("empty|exists", True, True),
    # paths and lists
    ("actor.kind", "user", True),
    ("tags", "green", True),
    ("tags", "blue", False),
    ("tags|all", ["red", "green"], True),
    ("tags|all", ["red", "blue"], False),
    ("tags|contains", "ree", True),
    ("changes.path", "/role", True),
    ("changes.before", "public", True),
    ("changes.after", "public", False),
    ("changes", "x", False),
    ("tenant.path", "x", False),
    # addresses
    ("ip|cidr", "192.0.2.0/24", True),
    ("ip|cidr", "192.0.3.0/24", False),
    ("ip|cidr", ["10.0.0.0/8", "192.0.2.16/30"], True),
    ("six|cidr", "2001:db8::/32", True),
    ("ip|cidr", "2001:db8::/32", False),
    ("tenant|cidr", "192.0.2.0/24", False),
    ("count|cidr", "0.0.0.0/0", False),
]


@pytest.mark.parametrize(("key", "value", "matches"), FIELDS, ids=[f"{i}-{f[0]}" for i, f in enumerate(FIELDS)])
def test_one_field_against_one_condition(key: str, value: object, matches: bool) -> None:
    assert sigma.compile({"s": {key: value}, "condition": "s"})(EVENT) is matches


YES, NO = {"tenant": "acme"}, {"tenant": "globex"}

CONDITIONS: list[tuple[str, bool]] = [
    ("yes", True),
    ("no", False),
    ("not no", True),
    ("not yes", False),
    ("yes and no", False),
    ("yes or no", True),
    ("no or no or yes", True),
    ("yes and yes and no", False),
    ("yes and not no", True),
    ("not (yes and no)", True),
    ("no and no or yes", True),
    ("no and (no or yes)", False),
    ("1 of them", True),
    ("all of them", False),
    ("1 of sel_*", True),
    ("any of sel_*", True),
    ("all of sel_*", False),
    ("not all of sel_*", True),
    ("yes and not 1 of bad_*", True),
]


@pytest.mark.parametrize(("condition", "matches"), CONDITIONS, ids=[c for c, _ in CONDITIONS])
def test_a_condition_over_selections(condition: str, matches: bool) -> None:
    selections = {"yes": YES, "no": NO, "sel_a": YES, "sel_b": NO, "bad_a": NO, "bad_b": NO}
    assert sigma.compile({**selections, "condition": condition})(EVENT) is matches


def test_fields_of_one_selection_all_match_and_one_of_a_list_of_selections_does() -> None:
    assert sigma.compile({"s": {"tenant": "acme", "count": 5}, "condition": "s"})(EVENT)
    assert not sigma.compile({"s": {"tenant": "acme", "count": 6}, "condition": "s"})(EVENT)
    assert sigma.compile({"s": [{"tenant": "acme", "count": 6}, {"count": 5}], "condition": "s"})(EVENT)
    assert not sigma.compile({"s": [{"count": 6}, {"count": 7}], "condition": "s"})(EVENT)


def test_a_predicate_says_which_fields_it_reads() -> None:
    predicate = sigma.compile({"a": {"tenant|contains": "x"}, "b": [{"actor.kind": "USER"}], "condition": "a or b"})
    assert predicate.fields == {"tenant", "actor.kind"}


@given(
    st.text(),
    st.dictionaries(st.sampled_from(["tenant", "actor", "count"]), st.none() | st.text() | st.lists(st.integers())),
)
def test_a_text_without_wildcards_matches_itself_in_any_event(text: str, rest: dict[str, object]) -> None:
    escaped = "".join("\\" + c if c in "*?\\" else c for c in text)
    detection = {"s": {"name": escaped, "tenant|exists": True}, "condition": "s"}
    event = {**rest, "name": text}
    assert sigma.compile(detection)(event) is bool(event.get("tenant") is not None and event["tenant"] != [])


REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("no condition", {"s": YES}, "one condition"),
    ("two conditions", {"s": YES, "condition": ["s", "not s"]}, "one condition"),
    ("no selection", {"condition": "s"}, "."),
    ("unknown selection", {"s": YES, "condition": "t"}, "t"),
    ("pattern without selections", {"s": YES, "condition": "s and 1 of filter_*"}, "nobody wrote"),
    ("negated pattern without selections", {"s": YES, "condition": "s and not 1 of filter_*"}, "nobody wrote"),
    ("syntax", {"s": YES, "condition": "s and and"}, "."),
    ("aggregation", {"s": YES, "condition": "s | count() > 5"}, "pipe"),
    ("keywords", {"s": ["one", "two"], "condition": "s"}, "keywords"),
    ("keyword", {"s": "one", "condition": "s"}, "keywords"),
    ("mixed list", {"s": [YES, "one"], "condition": "s"}, "keywords"),
    ("value without field", {"s": {"|contains": "x"}, "condition": "s"}, "without a field"),
    ("empty selection", {"s": {}, "condition": "s"}, "not fields"),
    ("no values", {"s": {"tenant": []}, "condition": "s"}, "no values"),
    ("timeframe", {"s": YES, "timeframe": "5m", "condition": "s"}, "timeframe"),
    ("unknown modifier", {"s": {"tenant|sounds": "x"}, "condition": "s"}, "unsupported modifier sounds"),
    ("base64", {"s": {"tenant|base64": "x"}, "condition": "s"}, "unsupported modifier base64"),
    ("windash", {"s": {"tenant|windash": "-x"}, "condition": "s"}, "unsupported modifier windash"),
    ("fieldref", {"s": {"tenant|fieldref": "y"}, "condition": "s"}, "unsupported modifier fieldref"),
    ("expand", {"s": {"tenant|expand": "%x%"}, "condition": "s"}, "unsupported modifier expand"),
    ("hour", {"s": {"occurred_at|hour": 3}, "condition": "s"}, "unsupported modifier hour"),
    ("look-ahead", {"s": {"tenant|re": "(?=a)"}, "condition": "s"}, "RE2"),
    ("back-reference", {"s": {"tenant|re": r"(a)\1"}, "condition": "s"}, "RE2"),
    ("broken expression", {"s": {"tenant|re": "("}, "condition": "s"}, "."),
    ("empty expression", {"s": {"tenant|re|contains": ""}, "condition": "s"}, "."),
    ("comparison with text", {"s": {"count|gt": "x"}, "condition": "s"}, "."),
    ("no network", {"s": {"ip|cidr": "home"}, "condition": "s"}, "CIDR"),
    ("unknown field", {"s": {"tennant": "x"}, "condition": "s"}, "unknown field tennant"),
]


@pytest.mark.parametrize(("detection", "problem"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_not_evaluated_is_refused(detection: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        sigma.compile(detection, ["tenant", "count", "ip", "occurred_at"])


def test_a_hostile_expression_takes_linear_time() -> None:
    matches = sigma.compile({"s": {"text|re": "(a*)*b$", "text|contains": "a"}, "condition": "s"})
    assert not matches({"text": "a" * 8192})  # a backtracking engine does not return


def test_a_hostile_wildcard_takes_linear_time() -> None:
    matches = sigma.compile({"s": {"text": "*a*a*a*a*a*a*a*a*a*a*b"}, "condition": "s"})
    assert not matches({"text": "a" * 8192})
