"""What matches of an expression begin with, against the expressions themselves."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schemas.beginnings import LEAST, MOST, Beginning, beginnings, fewest
from schemas.secret_shapes import SHAPES, Shape
from schemas.secrets import find, text_beginnings
from tests.leaks.forms import Form, made

FORMS = made(Random(11))
ALL = text_beginnings()


def spelt(pattern: bytes) -> set[str]:
    """The beginnings, each place as its bytes in order."""
    return {" ".join(bytes(sorted(members)).decode("latin-1") for members in one) for one in beginnings(pattern)}


def stands_in(data: bytes, among: tuple[Beginning, ...] | frozenset[Beginning]) -> bool:
    """Whether one of the beginnings is somewhere in the bytes."""
    return any(
        all(byte in members for byte, members in zip(data[at:], one, strict=False))
        for one in among
        for at in range(len(data) - len(one) + 1)
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (rb"abc", {"a b c"}),
        (rb"ab|cd", {"a b", "c d"}),
        (rb"gh[pousr]_", {"g h oprsu _"}),
        (rb"a[^\x00-a\x7f-\xff]", {"a " + bytes(range(98, 127)).decode()}),
        (rb"(?i)ab|cd", {"Aa Bb", "Cc Dd"}),
        (rb"a(?i:b)c", {"a Bb c"}),
        (rb"xy?z", {"x z", "x y z"}),
        (rb"xyz*a", {"x y"}),
        (rb"xyz+a", {"x y z"}),
        (rb"x{3}y", {"x x x y"}),
        (rb"x{2,3}y", {"x x y", "x x x y"}),
        (rb"x{2,}y", {"x x"}),
        (rb"x{2,9}y", {"x x"}),
        (rb"(?:ab|c)[ -]?d", {"a b d", "a b  - d", "c d", "c  - d"}),
        (rb"(?:ab){2}c", {"a b a b c"}),
        (rb"a\.\\\sb", {"a . \\ \t\n\x0c\r  b"}),  # RE2's white space has no \x0b
        (rb"a[^\s!-\xff]", {"a " + bytes(c for c in range(32) if c not in b"\t\n\x0c\r").decode()}),
        (rb"a{30}b", {" ".join("a" * MOST)}),
    ],
)
def test_an_expression_s_beginnings_are_what_no_match_is_without(pattern: bytes, expected: set[str]) -> None:
    assert spelt(pattern) == expected


@pytest.mark.parametrize(
    "pattern",
    [rb"a", rb"a*bc", rb"a?", rb"(?:a|bc)", rb"", rb"ab|", rb"^ab", rb"ab$", rb"\bab", rb"\dab", rb"(ab)", rb"(?:ab", rb"ab)",
     rb"a.b", rb"[ab", rb"a(?P<x>b)", rb"a(?i)b", rb"*ab"],
)  # fmt: skip
def test_what_it_cannot_tell_is_an_error(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="hint"):
        beginnings(pattern)


def test_what_another_covers_is_left_out() -> None:
    pieces = beginnings(rb"abc|aec|abd|a[a-z]c|xy|xyz|xw")
    assert {tuple(map(len, one)) for one in fewest(pieces)} == {(1, 26, 1), (1, 1, 2), (1, 2)}
    assert all(stands_in(bytes(min(members) for members in one), fewest(pieces)) for one in pieces)


@pytest.mark.parametrize("shape", SHAPES, ids=[f"{at}-{shape.name}" for at, shape in enumerate(SHAPES)])
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_hint_matches_has_one_of_its_beginnings(shape: Shape, data: st.DataObject) -> None:
    """Drawn from the hint itself."""
    drawn = data.draw(st.from_regex(re.compile(shape.hint), fullmatch=True))
    assume(b"\x0b" not in drawn)  # white space to Python, not to RE2
    assert stands_in(drawn, beginnings(shape.hint)) and stands_in(drawn, ALL)
    assert all(LEAST <= len(one) <= MOST for one in ALL)


@given(st.sampled_from(FORMS), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_is_found_in_a_text_without_a_beginning(form: Form, before: str, after: str) -> None:
    text = before + form.text + after
    assert stands_in(text.encode(), ALL) or not find(text)
