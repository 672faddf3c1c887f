"""`make tamper`, in small: some hundred bits of a segment and some hundred random edits, each found where it is.

The whole, every bit and 10,000 edits, takes an hour or two: `python -m tests.tamper`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.archives import verify
from tests.tamper import __main__ as command
from tests.tamper.edits import DRAWS, Edits
from tests.tamper.flips import Flips, problem, thousand
from tests.tamper.places import Part, Place, places_of

BITS = 40  # of each part of the object
EDITS = 450


def spread(of_part: list[int]) -> Iterator[int]:
    """Bits at even distances, the distance odd, so that all eight bits of a byte are met."""
    yield from of_part[:: max(len(of_part) // BITS, 1) | 1]


def test_bits_of_every_part_of_a_segment_of_1000_seals_are_found_where_they_are() -> None:
    flips = Flips()
    built = thousand()
    places = places_of(built.archive.data(built.key(0)))
    for part in Part:
        bits = list(spread([bit for bit in range(8 * len(places)) if places[bit // 8].part is part]))
        assert {bit % 8 for bit in bits} == set(range(8)), part
        assert [told for told in map(flips, bits) if told is not None] == []


def test_random_edits_of_every_kind_are_found_where_they_are_and_nothing_else_is() -> None:
    edits = Edits(seed=2)
    assert [told for told in map(edits, range(EDITS)) if told is not None] == []
    drawn = Counter(kind for number in range(EDITS) for kind in edits.drawn(number).kinds.values())
    assert len(drawn) == len({(draw.__module__, draw.__qualname__.partition(".")[0]) for draw in DRAWS})


def test_a_report_that_does_not_tell_of_a_flip_is_a_miss() -> None:
    built = thousand()
    assert problem(Place(Part.SEAL, 7), verify(built.archive)) == "GOOD"
    altered = verify(built.edited(0, lambda s: replace(s, checkpoint="")))
    assert problem(Place(Part.CHECKPOINT), altered) is None
    assert problem(Place(Part.SEAL, 7), altered) is not None


class Misses:
    """A trial of three things, of which the last is missed."""

    what = "things"

    def __call__(self, number: int) -> str | None:
        return "the last one" if number == 2 else None

    def __len__(self) -> int:
        return 3


def test_the_command_says_what_was_tried_and_found_and_fails_for_one_miss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Flips", Misses)
    monkeypatch.setattr(command, "Edits", lambda seed: Misses())
    for words, status, last in (
        ("--edits=2", 1, "5 tried, 4 found"),
        ("--edits=2 --sample=2 --begin=1", 0, "3 tried, 3 found"),
    ):
        monkeypatch.setattr(sys, "argv", ["tamper", *words.split()])
        assert command.main() == status
        assert capsys.readouterr().out.splitlines()[-1] == f"tamper: {last}"
