"""Documents that would rot are held against the code that they speak of."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from schemas.settings import PREFIX, Settings
from sealtrail.disclosed import ROW
from sealtrail.seal import SEAL, SEAL_NOTE, SEALED_EVENT
from sealtrail.segment import FRAME, SEGMENT
from sealtrail.session import RUN_SESSION
from sealtrail.token import SUBJECT_KEY

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "docs" / "requirements.md"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
IDENTIFIERS = re.compile(r"\b(?:CAP|CON|EVI|ROU|RET|DET|CTL)-[0-9]\b")
EXPECTED = {"CAP": 8, "CON": 7, "EVI": 8, "ROU": 3, "RET": 4, "DET": 3, "CTL": 5}


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions in a file."""
    tree = ast.parse(path.read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"))


def rows() -> dict[str, list[str]]:
    """Cells of the table in docs/requirements.md, by identifier."""
    found = {}
    for line in REQUIREMENTS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and IDENTIFIERS.fullmatch(cells[0]):
            found[cells[0]] = cells
    return found


def test_every_requirement_has_one_row() -> None:
    wanted = {f"{family}-{number}" for family, count in EXPECTED.items() for number in range(1, count + 1)}
    assert set(rows()) == wanted


@pytest.mark.parametrize("identifier", sorted(rows()))
def test_a_requirement_said_to_be_met_names_tests_that_exist(identifier: str) -> None:
    _, _, status, evidence = rows()[identifier]
    assert status in {"met", "in part", "not yet"}
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", evidence)
    assert named or status == "not yet"
    for module, name in named:
        path = ROOT / "tests" / f"{module}.py"
        assert path.is_file(), module
        assert not name or name in names_in(path), f"{module}::{name}"


def test_the_evidence_format_states_what_the_code_writes() -> None:
    text = (ROOT / "docs" / "evidence-format.md").read_text()
    codecs = {
        "Seal": SEAL, "SealNote": SEAL_NOTE, "SealedEvent": SEALED_EVENT, "Segment": SEGMENT, "Frame": FRAME,
        "Row": ROW, "RunSession": RUN_SESSION, "SubjectKey": SUBJECT_KEY,
    }  # fmt: skip
    stated = dict(re.findall(r"^\| (\w+) \| (`[0-9a-f]{20}` \| `[0-9a-f]{64}`) \|$", text, re.MULTILINE))
    assert stated == {name: f"`{codec.header.hex()}` | `{codec.sha256.hex()}`" for name, codec in codecs.items()}
    vectors = ROOT / "tests" / "vectors" / "good"
    values = json.loads((vectors / "values.json").read_text())
    seal = (vectors / "seal.bin").read_bytes()
    assert f"seal 1 ({len(seal)} bytes)" in text and seal.hex()[20:28] in text
    assert values["leaf hashes"][1] in text and values["root of both"] in text and values["seal signature"][:64] in text
    assert values["tokens"]["encrypted"] in text and values["tokens"]["token for acme"] in text
    for name in ("certificate.txt", "statement.txt"):
        assert (vectors / name).read_text().partition("\n\n")[0] in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        row = f"| `{name}` | `{PREFIX}{name.upper()}` | {default} | {field.description} |"
        assert row in text, f"docs/settings.md lacks or differs: {row}"


def test_every_command_that_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"bin/sealtrail ((?:[a-z][a-z-]+ ?){1,2})", (ROOT / "README.md").read_text()))
    assert len(shown) >= 5
    for command in sorted(shown):
        words = [w for w in command.split() if w.islower()]
        done = subprocess.run([sys.executable, "-m", "auditor", *words, "--help"], capture_output=True, check=False)
        assert done.returncode == 0, command


def test_the_make_targets_that_the_readme_shows_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_no_document_names_a_place_of_one_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.])/(?:root|home|work|tmp)/", document.read_text()), document
