"""The packaged schemas are lint-free and keep faith with every released version; what does not is told, and fails the build."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from auditor.commands.schema import app
from schemas.evolution import released
from schemas.evolution.changes import Judgement
from schemas.evolution.check import Complaint, complaints, release
from schemas.evolution.linting import faults
from schemas.evolution.released import SUMS, WEAKENED, Weakening
from schemas.fields import _LEAF_ATTRIBUTES
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError, ContractError

Schema = dict[str, Any]
FOLDER = Path("schemas/released")
NAME = "io.sealtrail.thing.v1.Thing"


def thing(*more: Schema, **changed: object) -> str:
    """A lint-free schema; `changed` are attributes of its field `word`, `more` its further fields."""
    identity = {"name": "id", "type": "long", "dataClass": "public", "doc": "Which.", "example": 7}
    word = {"name": "word", "type": "string", "dataClass": "internal", "pattern": "^[a-z]{1,9}$", "doc": "It.", "example": "x"}
    fields = [identity, {key: value for key, value in {**word, **changed}.items() if value is not None}, *more]
    return json.dumps(
        {"type": "record", "name": "Thing", "namespace": "io.sealtrail.thing.v1", "doc": "A thing.", "fields": fields}
    )


COUNT: Schema = {"name": "count", "type": ["null", "int"], "dataClass": "public", "default": None, "doc": "Many.", "example": 1}
BARE: Schema = {"name": "count", "type": "int", "dataClass": "public", "doc": "Many.", "example": 1}
KIND: Schema = {"type": "enum", "name": "Kind", "symbols": ["GOOD", "BAD"], "symbolDocs": {"GOOD": "Good.", "BAD": "Bad."}}


def fixed(**changed: object) -> Schema:
    return {**COUNT, "type": ["null", {"type": "fixed", "name": "Id", "size": 2}], **changed}


def kind(**changed: object) -> Schema:
    defined = {key: value for key, value in {**KIND, **changed}.items() if value is not None}
    return {"name": "kind", "type": defined, "dataClass": "public", "doc": "Sort.", "example": "GOOD"}


# -- what is there now


def test_every_current_schema_is_lint_free_and_released_and_breaks_no_version() -> None:
    texts = released.current()
    assert len(texts) >= 4
    assert complaints(texts, released.load(), released.weakened()) == ()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.avsc")), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_a_released_version_is_itself_lint_free(path: Path) -> None:
    assert faults(path.read_text("utf-8")) == ()


def test_the_build_runs_the_check() -> None:
    recipe = Path("Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "schema check" in recipe
    assert "schema docs --check" in recipe


# -- lint

UGLY_DOCS = {**KIND["symbolDocs"], "UGLY": "Ugly."}
UGLY = kind(symbols=["GOOD", "BAD", "UGLY"], symbolDocs=UGLY_DOCS)
NULL_FIRST = "null comes first in a union, so that it can be the default"
FOREIGN = "a namespace that is not io.sealtrail[.<connector>].v<n>"
NO_SYMBOL = "symbolDocs of a symbol that is none"
COM = thing().replace("io.sealtrail.thing.v1", "com.example.v1")
FAULTY: list[tuple[str, str, str, str]] = [
    ("no doc", thing(doc=None), "word", "no doc"),
    ("blank doc", thing(doc="  "), "word", "no doc"),
    ("no example", thing(example=None), "word", "example: missing"),
    ("example against the pattern", thing(example="X 1"), "word", "example: does not match the field's pattern"),
    ("example of another type", thing(example=7), "word", "example: not text"),
    ("example not hexadecimal", thing(fixed(example="zz")), "count", "example: not hexadecimal"),
    ("example too short", thing(fixed(example="00")), "count", "example: 1 bytes; expected 2"),
    ("unclassified", thing(dataClass=None), "word", "not classified: dataClass is missing or unknown"),
    ("no pattern", thing(pattern=None), "word", "free text is never public or internal: a pattern is missing"),
    ("an alias", thing(aliases=["term"]), "word", "an attribute that is none of Avro's and none of the contract's"),
    ("null last", thing({**COUNT, "type": ["int", "null"]}), "count", NULL_FIRST),
    ("default of another type", thing({**COUNT, "type": "int", "default": "x"}), "count", "a default that is not of its type"),
    ("default null where null may not be", thing({**COUNT, "type": "int"}), "count", "a default that is not of its type"),
    ("default against the pattern", thing(default="X"), "word", "a default that is not of its type"),
    ("a symbol without a doc", thing(kind(symbolDocs={"GOOD": "Good."})), "kind", "no doc of the symbol BAD"),
    ("docs of no symbol", thing(kind(symbolDocs=UGLY_DOCS)), "kind", NO_SYMBOL),
    ("a symbol in lower case", thing(kind(symbols=["GOOD", "BAD", "ugly"])), "kind", "a symbol that is not of A-Z, 0-9 and _"),
    ("a default symbol that is none", thing(kind(default="UGLY")), "kind", "a default symbol that is none"),
    ("a type in lower case", thing(kind(name="kind")), "kind", "a type whose name is not UpperCamel"),
    ("a foreign namespace", COM, "", FOREIGN),
    ("a namespace without a version", thing().replace("thing.v1", "thing"), "", FOREIGN),
    ("no namespace", thing().replace('"namespace"', '"nothing"'), "", "no record with a namespace and a name"),
    ("a field in capitals", thing({**COUNT, "name": "Count"}), "", "a field whose name is not of a-z and _"),
    ("not JSON", "{", "", "schema is not JSON"),
    ("no schema of Avro", thing(kind(symbols=["GOOD", "BAD", "GOOD"])), "", "not an Avro schema: SchemaParseException"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "problem"), [row[1:] for row in FAULTY], ids=[row[0] for row in FAULTY])
def test_a_fault_is_told_with_its_field(text: str, field: str, problem: str) -> None:
    assert (field, problem) in [(fault.field, fault.problem) for fault in faults(text)]


def test_a_schema_without_faults_has_none() -> None:
    assert faults(thing(COUNT, kind())) == ()


def test_all_faults_are_told_at_once_and_none_twice() -> None:
    bad = thing({**COUNT, "dataClass": "personal", "doc": "", "example": "x"}, kind(symbolDocs={}), pattern="(?=a)", doc="")
    found = [(fault.field, fault.problem) for fault in faults(bad)]
    assert {field for field, _ in found} == {"word", "count", "kind"}
    assert len(found) == len(set(found)) >= 6


# -- check

NO_DEFAULT = {key: value for key, value in COUNT.items() if key != "default"}
WIDER = thing(pattern="^[a-z0-9]{1,9}$")

# what is done | released before | now, and released as well | where | which version is said | judgement
BREAKS: list[tuple[str, list[str], str, str, int, str]] = [
    ("a field more without a default", [thing()], thing(BARE), "count", 1, "breaking-for-writers"),
    ("a field less", [thing(COUNT)], thing(), "count", 1, "breaking-for-writers"),
    ("against the first version alone", [thing(), thing(COUNT)], thing(NO_DEFAULT), "count", 1, "breaking-for-writers"),
    ("a narrower pattern", [thing()], thing(pattern="^x$"), "word", 1, "breaking-for-writers"),
    ("a symbol more", [thing(kind())], thing(UGLY), "kind", 1, "breaking-for-readers"),
    ("a wider pattern", [thing()], WIDER, "word", 2, "weaker-protection"),
    ("an earlier step to a wider pattern", [thing(), WIDER], WIDER, "word", 2, "weaker-protection"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "now", "path", "against", "judgement"), [row[1:] for row in BREAKS], ids=[r[0] for r in BREAKS]
)
def test_what_breaks_or_weakens_a_released_version_is_a_complaint(
    versions: list[str], now: str, path: str, against: int, judgement: str
) -> None:
    found = complaints({NAME: now}, {NAME: (*versions, now)})
    assert [c for c in found if (c.path, c.against) == (path, against) and judgement in c.problem], found


def test_apache_avro_complains_as_well() -> None:
    found = complaints({NAME: thing()}, {NAME: (thing(COUNT), thing())})
    assert not [c for c in found if "Apache" in c.problem]  # it has a default: readable, and no longer admitted
    renamed = thing().replace('"id"', '"number"')
    assert [
        c for c in complaints({NAME: renamed}, {NAME: (thing(), renamed)}) if c.problem.startswith("Apache Avro: reader_field")
    ]


def test_what_is_compatible_is_no_complaint_once_it_is_released() -> None:
    now = thing(COUNT)
    (complaint,) = complaints({NAME: now}, {NAME: (thing(),)})
    assert "not released" in complaint.problem
    assert complaints({NAME: now}, {NAME: (thing(), now)}) == ()


def test_a_weakening_that_somebody_answers_for_passes_in_its_version_alone() -> None:
    accepted = frozenset({Weakening(NAME, 2, "word", "pattern widened")})
    assert complaints({NAME: WIDER}, {NAME: (thing(), WIDER)}, accepted) == ()
    widest = thing(pattern="^[a-z0-9_]{1,9}$")
    (complaint,) = complaints({NAME: widest}, {NAME: (thing(), WIDER, widest)}, accepted)
    assert (complaint.against, complaint.path) == (3, "word")


def test_an_acceptance_of_what_did_not_happen_is_a_complaint() -> None:
    accepted = frozenset({Weakening(NAME, 2, "word", "pattern widened")})
    assert complaints({NAME: thing()}, {NAME: (thing(),)}, accepted) == (
        Complaint(NAME, 2, "word", f"{WEAKENED} speaks of what did not happen"),
    )


# -- released versions as files


def folder(tmp_path: Path, versions: Mapping[str, tuple[str, ...]]) -> Path:
    where = tmp_path / "released"
    where.mkdir()
    (where / SUMS).write_text("")
    (where / WEAKENED).write_text("")
    for number in range(max(map(len, versions.values()))):
        release({name: texts[number] for name, texts in versions.items() if number < len(texts)}, where)
    return where


def test_a_release_is_the_next_version_and_once(tmp_path: Path) -> None:
    where = folder(tmp_path, {NAME: (thing(), thing(COUNT))})
    assert released.load(where) == {NAME: (thing(), thing(COUNT))}
    assert release({NAME: thing(COUNT)}, where) == ()


def test_what_breaks_is_not_released(tmp_path: Path) -> None:
    where = folder(tmp_path, {NAME: (thing(COUNT),)})
    with pytest.raises(ContractError, match="breaking-for-writers"):
        release({NAME: thing()}, where)
    assert released.load(where) == {NAME: (thing(COUNT),)}


def spoil_text(where: Path) -> None:
    path = where / NAME / "1.avsc"
    path.write_text(path.read_text().replace("A thing.", "Another."))


def take_away(where: Path) -> None:
    (where / NAME / "1.avsc").unlink()


def leave_a_hole(where: Path) -> None:
    (where / NAME / "1.avsc").rename(where / NAME / "3.avsc")
    (where / SUMS).write_text((where / SUMS).read_text().replace("/1.avsc", "/3.avsc"))


def put_in_another_place(where: Path) -> None:
    (where / NAME).rename(where / "io.sealtrail.other.v1.Other")
    (where / SUMS).write_text((where / SUMS).read_text().replace(NAME, "io.sealtrail.other.v1.Other"))


def put_a_file_beside(where: Path) -> None:
    (where / NAME / "notes.txt").write_text("notes")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_text, "is not the text that SHA256SUMS names"),
        (take_away, "is in SHA256SUMS and not there"),
        (leave_a_hole, "without holes"),
        (put_in_another_place, "is of another record"),
        (put_a_file_beside, "is no <n>.avsc"),
    ],
)
def test_a_released_version_that_was_touched_is_refused(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    where = folder(tmp_path, {NAME: (thing(),)})
    spoil(where)
    with pytest.raises(ConfigError, match=re.escape(said)):
        released.load(where)


@pytest.mark.parametrize("line", ['schema = "x"', 'schema = ""', "not TOML"])
def test_an_acceptance_without_reason_or_approver_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / WEAKENED).write_text(f"[[weakened]]\n{line}\n")
    with pytest.raises(ConfigError, match=WEAKENED):
        released.weakened(tmp_path)


# -- the commands


def test_lint_tells_every_fault_of_every_file_and_fails(tmp_path: Path) -> None:
    (tmp_path / "good.avsc").write_text(thing())
    (tmp_path / "bad.avsc").write_text(thing(doc="", example=None))
    good = CliRunner().invoke(app, ["lint", str(tmp_path / "good.avsc"), "--json"])
    assert (good.exit_code, json.loads(good.stdout)) == (0, [])
    bad = CliRunner().invoke(app, ["lint", str(tmp_path / "good.avsc"), str(tmp_path / "bad.avsc"), "--json"])
    assert bad.exit_code == 1
    assert [(Path(f["file"]).name, f["field"], f["problem"]) for f in json.loads(bad.stdout)] == [
        ("bad.avsc", "word", "no doc"),
        ("bad.avsc", "word", "example: missing"),
    ]


BOTH = ["breaking-for-readers", "breaking-for-writers"]


@pytest.mark.parametrize(
    ("new", "code", "judgements", "apache"),
    [
        (thing(COUNT), 0, ["compatible"], []),
        (thing(pattern="^[a-z]*$"), 1, ["weaker-protection"], []),
        (thing().replace('"id"', '"number"'), 1, BOTH, BOTH),
    ],
    ids=["compatible", "weaker", "breaking"],
)  # fmt: skip
def test_diff_judges_and_its_exit_code_says_so(
    tmp_path: Path, new: str, code: int, judgements: list[str], apache: list[str]
) -> None:
    (tmp_path / "old.avsc").write_text(thing())
    (tmp_path / "new.avsc").write_text(new)
    done = CliRunner().invoke(app, ["diff", str(tmp_path / "old.avsc"), str(tmp_path / "new.avsc"), "--json"])
    said = json.loads(done.stdout)
    assert (done.exit_code, said["judgements"], said["apache"]) == (code, judgements, apache)


def test_diff_of_what_is_no_schema_fails_and_shows_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "old.avsc").write_text("Zebulon")
    done = CliRunner().invoke(app, ["diff", str(tmp_path / "old.avsc"), str(tmp_path / "old.avsc")])
    assert done.exit_code == 1
    assert "Zebulon" not in done.output


def test_check_passes_here() -> None:
    done = CliRunner().invoke(app, ["check", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])


def test_release_writes_nothing_when_all_is_released(tmp_path: Path) -> None:
    where = shutil.copytree(FOLDER, tmp_path / "released")
    done = CliRunner().invoke(app, ["release", str(where)])
    assert done.exit_code == 0
    assert contents(where) == contents(FOLDER)


def contents(where: Path) -> dict[str, bytes]:
    return {p.relative_to(where).as_posix(): p.read_bytes() for p in where.rglob("*") if p.is_file()}


# -- docs/schemas.md

GUIDE = Path("docs/schemas.md").read_text()


def test_the_commands_of_the_guide_run_and_pass() -> None:
    commands = re.findall(r"^sealtrail schema (.+)$", GUIDE, re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"lint", "diff", "check"}
    for command in commands:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, (command, done.output)


def test_the_guide_names_every_attribute_and_judgement_and_shows_a_real_field() -> None:
    for attribute in _LEAF_ATTRIBUTES - {"extension"}:  # extension: of the event's own payload alone
        assert f"`{attribute}`" in GUIDE, attribute
    for judgement in Judgement:
        assert f"`{judgement}`" in GUIDE
    (shown,) = re.findall(r"```json\n(.+?)```", GUIDE, re.DOTALL)
    assert json.loads(shown) in json.loads(AUDIT_EVENT.text)["fields"]
