"""What changed between two versions of a schema, each change judged.

    compatible              old and new read each other, and protect alike
    breaking-for-readers    whoever still reads by the old version cannot read what the new one writes
    breaking-for-writers    what was written by the old version — archives, connectors that run on — is not read by the new
                            one, or no longer admitted by its contract
    weaker-protection       more of a value may stand in the trail than before

The first two follow from Avro's resolution (`schemas.evolution.resolution`). The contract is stricter than Avro in what it
admits from old writers, because the sealer checks their events by the newest version: a field that is gone is a field that it
does not know; a symbol, a promoted type, a narrower pattern, a stronger redaction are refused as well. Of the last kind
Avro knows nothing: a lower class, a weaker redaction, a wider pattern, more paths in clear. Mask, hash and tokenize reveal
different things, so any instead of another is weaker: a token can be undone, until its subject's key is destroyed; a mask shows
the end, and a hash joins, for good. A token under another subject's key is weaker as well: the person that it was about can
no longer have it destroyed. Where two patterns cannot be compared, both judgements are given.

A changed logical type keeps the bytes and changes what they mean: it breaks both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.evolution.patterns import includes
from schemas.evolution.resolution import PROMOTIONS
from schemas.fields import DataClass, Marks, Node, Redact

# What the contract admits of an older type besides the same one: `schemas.contract` asks for Python's own type.
_ADMITTED = frozenset({("int", "long"), ("float", "double")})
_RANK = {DataClass.PUBLIC: 0, DataClass.INTERNAL: 1, DataClass.PERSONAL: 2, DataClass.CONTENT: 2, DataClass.SECRET: 3}


class Judgement(StrEnum):
    """What a change does."""

    COMPATIBLE = "compatible"
    READERS = "breaking-for-readers"
    WRITERS = "breaking-for-writers"
    WEAKER = "weaker-protection"


BREAKING = frozenset({Judgement.READERS, Judgement.WRITERS})


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where, what, and every judgement on it. `what` holds words of the schema alone."""

    path: str
    what: str
    judgements: frozenset[Judgement]


def changes(old: Node, new: Node) -> tuple[Change, ...]:
    """Every change from one version to the next, in the new one's order, then what is gone."""
    return tuple(_at(old, new))


def judged(found: tuple[Change, ...]) -> frozenset[Judgement]:
    """What they do together: COMPATIBLE only if every one is."""
    together = frozenset(j for change in found for j in change.judgements) - {Judgement.COMPATIBLE}
    return together or frozenset({Judgement.COMPATIBLE})


def _change(path: str, what: str, *judgements: Judgement | None) -> Change:
    said = frozenset(j for j in judgements if j is not None)
    return Change(path, what, said or frozenset({Judgement.COMPATIBLE}))


def _at(old: Node, new: Node) -> Iterator[Change]:
    path = new.path
    if old.nullable != new.nullable:
        what, judgement = ("may be null", Judgement.READERS) if new.nullable else ("may not be null", Judgement.WRITERS)
        yield _change(path, what, judgement)
    if (old.optional, old.default) != (new.optional, new.default):
        yield _change(path, "another default" if old.optional and new.optional else "a default came or went")
    if old.doc != new.doc and not path.endswith("[]"):
        yield _change(path, "another doc")
    if old.kind != new.kind:
        yield _kind(old, new)
        return
    if old.name != new.name:
        yield _change(path, f"{old.kind} {old.name} is {new.name}", Judgement.READERS, Judgement.WRITERS)
    if old.size != new.size:
        yield _change(path, f"{old.size} bytes are {new.size}", Judgement.READERS, Judgement.WRITERS)
    if old.logical != new.logical:
        what = f"logical type {old.logical or 'none'} is {new.logical or 'none'}"
        yield _change(path, what, Judgement.READERS, Judgement.WRITERS)
    yield from _symbols(old, new)
    if old.items is not None and new.items is not None:
        yield from _at(old.items, new.items)
    elif old.marks is not None and new.marks is not None:
        yield from _marks(path, old.marks, new.marks)
    yield from _fields(old, new)


def _kind(old: Node, new: Node) -> Change:
    return _change(
        new.path,
        f"{old.kind} is {new.kind}",
        None if (new.kind, old.kind) in PROMOTIONS else Judgement.READERS,
        None if (old.kind, new.kind) in _ADMITTED else Judgement.WRITERS,
        None if _rank(new) >= _rank(old) else Judgement.WEAKER,
    )


def _rank(node: Node) -> int:
    """Of the most sensitive leaf below."""
    return max((_RANK[leaf.marks.data_class] for leaf in node.leaves() if leaf.marks is not None), default=0)


def _fields(old: Node, new: Node) -> Iterator[Change]:
    before, after = dict(old.fields), dict(new.fields)
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield _change(new.path, "another order of fields")
    for name, below in new.fields:
        if name in before:
            yield from _at(before[name], below)
        elif below.optional:
            yield _change(below.path, "a field more, with a default")
        else:
            yield _change(below.path, "a field more, without a default", Judgement.WRITERS)
    for name, gone in old.fields:
        if name not in after:
            yield _change(gone.path, "a field less", None if gone.optional else Judgement.READERS, Judgement.WRITERS)


def _symbols(old: Node, new: Node) -> Iterator[Change]:
    more, less = new.symbols - old.symbols, old.symbols - new.symbols
    if more:
        known = old.fallback in old.symbols
        yield _change(new.path, f"symbols more: {', '.join(sorted(more))}", None if known else Judgement.READERS)
    if less:
        yield _change(new.path, f"symbols less: {', '.join(sorted(less))}", Judgement.WRITERS)
    if old.fallback != new.fallback:
        yield _change(new.path, "another default symbol")
    if old.symbol_docs != new.symbol_docs:
        yield _change(new.path, "other docs of symbols")


def _marks(path: str, old: Marks, new: Marks) -> Iterator[Change]:
    if old.data_class is not new.data_class:
        lower = _RANK[new.data_class] < _RANK[old.data_class]
        yield _change(path, f"{old.data_class} is {new.data_class}", Judgement.WEAKER if lower else None)
    if old.redact is not new.redact:
        yield _redaction(path, old.redact, new.redact)
    elif old.pattern is not None and new.pattern is not None:
        yield from _pattern(path, "pattern", old.pattern, new.pattern)
    if old.clear_paths != new.clear_paths:
        yield _change(
            path,
            "other clearPaths",
            Judgement.WEAKER if new.clear_paths - old.clear_paths else None,
            Judgement.WRITERS if old.clear_paths - new.clear_paths else None,
        )
    if old.clear_values is not None and new.clear_values is not None:
        yield from _pattern(path, "clearValues", old.clear_values, new.clear_values)
    if old.subject_field != new.subject_field and old.redact is new.redact:
        what = f"subject {old.subject_field or 'none'} is {new.subject_field or 'none'}"
        yield _change(path, what, None if old.subject_field is None else Judgement.WEAKER)
    if old.extension != new.extension:
        yield _change(path, "what holds an extension", Judgement.READERS, Judgement.WRITERS)
    if old.example != new.example:
        yield _change(path, "another example")


def _redaction(path: str, old: Redact | None, new: Redact | None) -> Change:
    """What is there already has the old form: it passes under the new rule only if it was left out altogether."""
    weaker = old is not None and new is not Redact.OMIT
    refused = old is not Redact.OMIT or new is None
    what = f"redaction {old or 'none'} is {new or 'none'}"
    return _change(path, what, Judgement.WEAKER if weaker else None, Judgement.WRITERS if refused else None)


def _pattern(path: str, which: str, old: str, new: str) -> Iterator[Change]:
    if old == new:
        return
    keeps, adds_nothing = includes(new, old), includes(old, new)
    said = {(True, True): "rewritten", (True, False): "widened", (False, True): "narrowed", (False, False): "changed"}
    what = "not comparable" if keeps is None or adds_nothing is None else said[keeps, adds_nothing]
    yield _change(path, f"{which} {what}", None if adds_nothing else Judgement.WEAKER, None if keeps else Judgement.WRITERS)
