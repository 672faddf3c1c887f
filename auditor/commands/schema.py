"""`sealtrail schema lint | diff | check | release | docs`: the contract's schemas, and how they may change (docs/schemas.md).

Nothing here needs a server or settings. People read stderr; stdout is for machines, with `--json`. Exit code 1: something is
wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from auditor.console import EXIT_FAILED, EXIT_USAGE, AsJson, explained, say
from auditor.topics import VALUES
from schemas.evolution import second_opinion
from schemas.evolution.changes import BREAKING, Judgement, changes, judged
from schemas.evolution.check import complaints, release
from schemas.evolution.linting import faults
from schemas.evolution.released import current, load, weakened
from schemas.fields import field_tree
from schemas.published.pages import published

RELEASED, DOCS = Path("schemas/released"), Path("docs/catalogue")

app = typer.Typer(name="schema", help="The contract's schemas: their form, their changes, their pages.", no_args_is_help=True)

Schema = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An .avsc file.")]


@app.command("lint")
def lint_command(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="The .avsc files.")], as_json: AsJson = False
) -> None:
    """Tell everything that is wrong with these schemas: classes, redactions, patterns, names, docs, examples."""
    found = [(file, fault) for file in files for fault in faults(_text(file))]
    for file, fault in found:
        say(f"{file}: {fault.field or 'schema'}: {fault.problem}")
    if as_json:
        print(json.dumps([{"file": str(file), "field": fault.field, "problem": fault.problem} for file, fault in found]))
    say(f"{len(files)} schemas, {len(found)} faults")
    if found:
        raise typer.Exit(EXIT_FAILED)


@app.command("diff")
def diff_command(old: Schema, new: Schema, as_json: AsJson = False) -> None:
    """What changed, each change judged; exit code 1 if one breaks readers or writers, or weakens a protection."""
    with explained():
        before, after = _text(old), _text(new)
        found = changes(field_tree(before), field_tree(after))
        told = list(second_opinion.breaks(before, after))
    together = judged(found)
    for change in found:
        say(f"{change.path or 'schema'}: {change.what}: {', '.join(sorted(change.judgements))}")
    for judgement, problem in told:
        say(f"Apache Avro: {problem}: {judgement}")
    if as_json:
        lines = [{"path": c.path, "what": c.what, "judgements": sorted(c.judgements)} for c in found]
        print(json.dumps({"changes": lines, "judgements": sorted(together), "apache": sorted({j for j, _ in told})}))
    say(f"{len(found)} changes: {', '.join(sorted(together))}")
    if together & {*BREAKING, Judgement.WEAKER}:
        raise typer.Exit(EXIT_FAILED)


@app.command("check")
def check_command(as_json: AsJson = False) -> None:
    """Check every current schema against every released version, backward and forward; the build runs it."""
    with explained():
        texts, released = current(), load()
        found = complaints(texts, released, weakened())
    for complaint in found:
        against = f" against version {complaint.against}" if complaint.against else ""
        say(f"{complaint.schema}{against}: {complaint.path or 'schema'}: {complaint.problem}")
    if as_json:
        names = ("schema", "against", "path", "problem")
        print(json.dumps([{name: getattr(complaint, name) for name in names} for complaint in found]))
    versions = sum(map(len, released.values()))
    opinion = "Apache Avro asked as well" if second_opinion.is_there() else "Apache Avro not installed, so not asked"
    say(f"{len(texts)} schemas, {versions} released versions, {len(found)} complaints; {opinion}")
    if found:
        raise typer.Exit(EXIT_FAILED)


@app.command("release")
def release_command(
    where: Annotated[Path, typer.Argument(file_okay=False, help="The folder of released versions.")] = RELEASED,
) -> None:
    """Make each current schema that differs from its newest released version the next one, if it breaks nothing."""
    with explained():
        written = release(current(), where)
    for name in written:
        say(f"released {where / name}")
    say(f"{len(written)} versions released")


@app.command("docs")
def docs_command(
    where: Annotated[Path, typer.Argument(file_okay=False, help="The folder to write.")] = DOCS,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a page is not as it would be.")] = False,
) -> None:
    """Make the event catalogue, the field reference, the examples, RACI and AsyncAPI document anew."""
    with explained():
        pages = published({topic: codec.text for topic, codec in VALUES.items()})
    there = {p.relative_to(where).as_posix(): p.read_text("utf-8") for p in where.rglob("*") if p.is_file()}
    stale = [name for name, text in pages.items() if there.get(name) != text]
    foreign = sorted(there.keys() - pages.keys())
    for name in stale:
        say(f"{where / name}: {'stale' if check else 'made anew'}")
        if not check:
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_text(pages[name], "utf-8")
    for name in foreign:
        say(f"{where / name}: not a page of the catalogue; remove it")
    say(f"{len(pages)} pages, {len(stale)} of them {'stale' if check else 'made anew'}")
    if foreign or (check and stale):
        raise typer.Exit(EXIT_FAILED)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        say(f"{file}: not UTF-8")
        raise typer.Exit(EXIT_USAGE) from None
