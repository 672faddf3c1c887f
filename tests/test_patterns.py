"""Whether one pattern admits all that another admits: decided, or said to be unknown; never guessed."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.evolution.patterns import counterexample, includes
from schemas.fields import field_tree
from schemas.registry import AUDIT_EVENT

TABLE = [
    ("^[a-z]{1,9}$", "^[a-z]{1,9}$", True),
    ("^[a-z]{1,9}$", "^[a-z]{2,3}$", True),
    ("^[a-z]{2,3}$", "^[a-z]{1,9}$", False),
    ("^[a-z]*$", "^[a-z]{0,300}$", True),
    ("^[a-z]{0,300}$", "^[a-z]*$", False),
    ("^(a|b)+$", "^[ab][ab]*$", True),
    ("^(ab|a)*$", "^a(ba)*b?$", True),
    ("^.*$", "^\\n$", False),
    ("^[^0-9]$", "^[a-z]$", True),
    ("^[^0-9]$", "^[!-~]$", False),
    ("^x?$", "^$", True),
    ("^(true|false|[0-9]{1,3})$", "^(true|17)$", True),
    ("^00-[0-9a-f]{32}$", "^00-[0-9a-f]{31}0$", True),
    ("^(/[A-Za-z0-9_.-]{0,62}){1,16}$", "^(/[a-z]{0,8}){1,4}$", True),
    ("^(/[a-z]{0,8}){1,4}$", "^(/[A-Za-z0-9_.-]{0,62}){1,16}$", False),
    ("^(?i:a)$", "^a$", None),
    ("^a$", "^(a)\\1$", None),
    ("^\\w$", "^a$", None),
    ("^a\\b$", "^a$", None),
    ("^(", "^a$", None),
]


@pytest.mark.parametrize(("wide", "narrow", "said"), TABLE)
def test_inclusion_is_decided_or_said_to_be_unknown(wide: str, narrow: str, said: bool | None) -> None:
    assert includes(wide, narrow) is said


def test_what_would_take_too_long_is_unknown() -> None:
    assert includes("^[!-?A-~]{1,512}$", "^(/[A-Za-z0-9_.-]{0,62}){1,16}$") is None


def test_every_pattern_of_the_event_includes_itself() -> None:
    found = {leaf.marks.pattern for leaf in field_tree(AUDIT_EVENT.text).leaves() if leaf.marks and leaf.marks.pattern}
    assert len(found) > 5
    assert all(includes(pattern, pattern) for pattern in found)


def _repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bounds = st.sampled_from(["?", "*", "+", "{2}", "{0,2}", "{1,3}"])
    return st.one_of(
        st.builds(lambda part, bound: f"({part}){bound}", inner, bounds),
        st.builds(lambda one, two: f"{one}{two}", inner, inner),
        st.builds(lambda one, two: f"({one}|{two})", inner, inner),
    )


SHORT = ["".join(letters) for length in range(7) for letters in product("abc", repeat=length)]
expressions = st.recursive(st.sampled_from(["a", "b", "[ab]", "[^a]", "(|b)"]), _repeated, max_leaves=6)


@given(expressions, expressions)
def test_the_answer_is_right_for_every_short_text_and_a_no_is_shown_by_a_text(wide: str, narrow: str) -> None:
    text = counterexample(f"^{wide}$", f"^{narrow}$")
    if text is None:
        assert all(re.fullmatch(wide, short) for short in SHORT if re.fullmatch(narrow, short))
    else:
        assert re.fullmatch(narrow, text)
        assert not re.fullmatch(wide, text)
