"""`sealtrail schema lint`: everything that is wrong with one schema's text, told at once.

1. Avro reads it, and a value cannot be of no bytes or without end (`sealtrail.avro`).
2. Every leaf is classified and protected (`schemas.fields`).
3. Names: namespace io.sealtrail[.<connector>].v<n>, types UpperCamel, fields a-z and _, symbols A-Z, 0-9 and _.
4. Docs: the record, every field, every symbol of an enum (`symbolDocs`), and no symbol that is none.
5. Every leaf has an example, of its type, that the contract admits.
6. A subjectField with a dot leads to a text of the event that identifies somebody; an extension's too.
7. A default is one of its type: null where null may stand.

A violation names the field and the rule; no value is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from schemas.contract import problem_of
from schemas.evolution.released import EVENT, full_name
from schemas.fields import Node, field_tree, subject_problems, violations
from schemas.registry import AUDIT_EVENT
from sealtrail.avro import Codec
from sealtrail.errors import ContractError, EvidenceError

_NAMESPACE = re.compile(r"io\.sealtrail(\.[a-z][a-z_]*)*\.v[1-9][0-9]*")
_TYPE = re.compile(r"[A-Z][A-Za-z0-9]*")
_SYMBOL = re.compile(r"[A-Z][A-Z0-9_]*")
_NAMED = ("record", "enum", "fixed")


def faults(text: str) -> tuple[ContractError, ...]:
    """Everything that is wrong, each once, in the schema's order."""
    tree, found = violations(text)
    return tuple({(error.field, error.problem): error for error in (*found, *_further(text, tree))}.values())


def _further(text: str, tree: Node | None) -> Iterator[ContractError]:
    try:
        Codec(text)
    except EvidenceError as error:
        yield ContractError("", str(error))
    if tree is None:
        return
    try:
        name = full_name(text)
    except ContractError as error:
        name = ""
        yield error
    if name and not _NAMESPACE.fullmatch(name.rpartition(".")[0]):
        yield ContractError("", "a namespace that is not io.sealtrail[.<connector>].v<n>")
    yield from _of(tree, name == EVENT)
    yield from subject_problems(tree, tree if name == EVENT else field_tree(AUDIT_EVENT.text))


def _of(node: Node, of_event: bool) -> Iterator[ContractError]:
    if node.kind in _NAMED and not _TYPE.fullmatch(node.name):
        yield ContractError(node.path, "a type whose name is not UpperCamel")
    if not node.doc.strip():
        yield ContractError(node.path, "no doc")
    if node.kind == "enum":
        yield from _symbols(node)
    if node.optional and not _is_default(node):
        yield ContractError(node.path, "a default that is not of its type")
    if node.kind == "record":
        for _, below in node.fields:
            yield from _of(below, of_event)
    elif node.items is not None:
        yield from _of(node.items, of_event)
    elif node.marks is not None:
        yield from _example(node, of_event)


def _symbols(node: Node) -> Iterator[ContractError]:
    documented = {symbol for symbol, doc in node.symbol_docs if doc.strip()}
    for symbol in sorted(node.symbols):
        if not _SYMBOL.fullmatch(symbol):
            yield ContractError(node.path, "a symbol that is not of A-Z, 0-9 and _")
        elif symbol not in documented:
            yield ContractError(node.path, f"no doc of the symbol {symbol}")
    if documented - node.symbols:
        yield ContractError(node.path, "symbolDocs of a symbol that is none")
    if node.fallback and node.fallback not in node.symbols:
        yield ContractError(node.path, "a default symbol that is none")


def example_of(leaf: Node) -> Any:
    """The example of a leaf (of an array: of one item) as a value of its type; None: it has none.

    Raises:
        ValueError: of a fixed or bytes, what is there is not hexadecimal.
    """
    stated = leaf.marks.example if leaf.marks is not None else None
    kind = leaf.items.kind if leaf.items is not None else leaf.kind
    if kind in ("fixed", "bytes") and stated is not None:
        return bytes.fromhex(stated) if isinstance(stated, str) else stated
    return stated


def _example(leaf: Node, of_event: bool) -> Iterator[ContractError]:
    try:
        value = example_of(leaf)
    except ValueError:
        yield ContractError(leaf.path, "example: not hexadecimal")
        return
    problem = "missing" if value is None else problem_of(leaf, value, of_event=of_event)
    if problem is not None:
        yield ContractError(leaf.path, f"example: {problem}")


def _is_default(node: Node) -> bool:
    if node.nullable:
        return node.default is None  # a default belongs to a union's first branch
    if node.kind == "array":
        return node.default == []
    if node.kind in ("float", "double"):
        return type(node.default) in (int, float)
    if node.kind in ("string", "boolean", "int", "long", "enum"):
        return problem_of(node, node.default, of_event=False) is None
    return False  # records, fixed and bytes: null is the default that says nothing
