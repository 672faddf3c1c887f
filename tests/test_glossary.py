"""The glossary explains every word that a reader of the evidence meets (CON-7)."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from schemas.fields import DataClass, Redact
from sealtrail.certificate import Role
from sealtrail.seal import Kind, LogClass, Reason, Route

GLOSSARY = (Path(__file__).parent.parent / "schemas" / "glossary.md").read_text("utf-8")
WORDS = [w.strip() for row in re.findall(r"^\| ([^|]+) \|", GLOSSARY, re.MULTILINE) for w in row.split(",")]
IN_GENERAL = {"none", "event"}  # NONE is the lack of one; an event is what everything is about


@pytest.mark.parametrize("words", [DataClass, Redact, Kind, LogClass, Reason, Role], ids=lambda e: e.__name__)
def test_every_value_of_an_enumeration_is_explained(words: type[Enum]) -> None:
    named = {str(word.value).lower().replace("_", "-") for word in words} - IN_GENERAL
    assert sorted(named - set(WORDS)) == []


def test_the_routes_are_named() -> None:
    (row,) = [line for line in GLOSSARY.splitlines() if line.startswith("| route |")]
    assert all((route.name or "").lower() in row.lower() for route in Route)
