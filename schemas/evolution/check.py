"""`sealtrail schema check`: whether what is current keeps faith with everything that was released.

Archives hold events of every released version for years, and connectors run on with theirs; so of each current schema:

1. It is lint-free, and it *is* the newest released version: what a process may write, a later check must know.
2. Every older version and it read each other, and its contract admits what older ones wrote: transitively, not only the last.
   Apache Avro, where it is installed, says the same of the reading.
3. No step from one version to the next weakens a protection, unless `weakened.toml` says so, with reason and approver; a line
   there that speaks of nothing is a complaint too.

A change that cannot be made so is another record: io.sealtrail….v2, beside the first.

Not here: what a change is and how it is judged (`schemas.evolution.changes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from schemas.evolution import second_opinion
from schemas.evolution.changes import BREAKING, Judgement, changes
from schemas.evolution.linting import faults
from schemas.evolution.released import SUMS, WEAKENED, Versions, Weakening, load, weakened
from schemas.fields import field_tree
from sealtrail.errors import ContractError


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a build fails. `against` is the released version that it concerns, or 0 for the current text alone."""

    schema: str
    against: int
    path: str
    problem: str


def complaints(
    texts: Mapping[str, str], released: Versions, accepted: frozenset[Weakening] = frozenset()
) -> tuple[Complaint, ...]:
    """Everything that must not be, in the order of the module's steps; none: the build goes on."""
    found: list[Complaint] = []
    for name, text in texts.items():
        wrong = [Complaint(name, 0, error.field, error.problem) for error in faults(text)]
        found += wrong
        if not wrong:
            found += _against(name, text, released.get(name, ()))
    steps = dict(_weakenings(texts, released))
    found += [complaint for step, complaint in steps.items() if step not in accepted]
    for line in sorted(accepted - steps.keys(), key=str):
        found.append(Complaint(line.schema, line.version, line.path, f"{WEAKENED} speaks of what did not happen"))
    return tuple(found)


def release(texts: Mapping[str, str], where: Path) -> tuple[str, ...]:
    """Write every current text that is not the newest of its versions as the next one; the names of the new files.

    Raises:
        ContractError: one of them would break or weaken something; nothing is written.
    """
    released = load(where)
    new = {name: text for name, text in texts.items() if released.get(name, ("",))[-1] != text}
    would_be = {**released, **{name: (*released.get(name, ()), text) for name, text in new.items()}}
    for complaint in complaints(texts, would_be, weakened(where)):
        raise ContractError(complaint.path, f"{complaint.schema}: {complaint.problem}")
    written = []
    for name, text in new.items():
        file = where / name / f"{len(would_be[name])}.avsc"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode())
        written.append(f"{name}/{file.name}")
    lines = [
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}/{number}.avsc\n"
        for name, versions in sorted(would_be.items())
        for number, text in enumerate(versions, 1)
    ]
    (where / SUMS).write_text("".join(lines), "utf-8")
    return tuple(written)


def _against(name: str, text: str, versions: tuple[str, ...]) -> Iterator[Complaint]:
    if not versions or versions[-1] != text:
        yield Complaint(name, len(versions), "", "not released: `sealtrail schema release` makes it the next version")
    tree = field_tree(text)
    for number, older in enumerate(versions, 1):
        if older == text:
            continue
        for change in changes(field_tree(older), tree):
            for judgement in sorted(change.judgements & BREAKING):
                yield Complaint(name, number, change.path, f"{change.what}: {judgement}")
        for judgement, problem in second_opinion.breaks(older, text):
            yield Complaint(name, number, "", f"Apache Avro: {problem}: {judgement}")


def _weakenings(texts: Mapping[str, str], released: Versions) -> Iterator[tuple[Weakening, Complaint]]:
    for name in sorted(texts.keys() | released.keys()):
        versions = released.get(name, ())
        text = texts.get(name)
        if text is not None and not faults(text) and versions[-1:] != (text,):
            versions = (*versions, text)
        for number, (before, after) in enumerate(pairwise(versions), 2):
            for change in changes(field_tree(before), field_tree(after)):
                if Judgement.WEAKER in change.judgements:
                    step = Weakening(name, number, change.path, change.what)
                    yield (
                        step,
                        Complaint(name, number, change.path, f"{change.what}: {Judgement.WEAKER}, and nobody answers for it"),
                    )
