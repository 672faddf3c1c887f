"""Can a reader's schema read what was written with another? Avro 1.12, "Schema Resolution", over the contract's subset.

    kind        same; int to long, float, double; long to float, double; float to double; string to bytes and back
    null        a writer's null needs a reader that takes null
    record      of one name; each field of the reader is the writer's field of that name, or has a default
    enum        of one name; the writer's symbols are the reader's, or the reader has a default symbol
    fixed       of one name and size
    array       its items

The subset (`schemas.fields`) has no maps, no aliases, no recursion, and unions of null and one other type alone. Names are
compared without namespace, as the specification says.

Not here: what the contract asks beyond Avro (`schemas.evolution.changes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.fields import Node

PROMOTIONS = frozenset(
    {
        ("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"), ("float", "double"),
        ("string", "bytes"), ("bytes", "string"),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a reader cannot read what a writer writes: the field's path, and the rule."""

    path: str
    problem: str


def obstacles(writer: Node, reader: Node) -> tuple[Obstacle, ...]:
    """Everything that stands in the way of reading, in the order of the reader's fields; none: readable."""
    return tuple(_at(writer, reader))


def _at(writer: Node, reader: Node) -> Iterator[Obstacle]:
    if writer.nullable and not reader.nullable:
        yield Obstacle(reader.path, "null is written, and the reader does not take it")
    if writer.kind != reader.kind:
        if (writer.kind, reader.kind) not in PROMOTIONS:
            yield Obstacle(reader.path, f"{writer.kind} cannot be read as {reader.kind}")
        return
    if reader.kind in ("record", "enum", "fixed") and writer.name != reader.name:
        yield Obstacle(reader.path, f"{reader.kind} {writer.name} cannot be read as {reader.name}")
    if reader.kind == "fixed" and writer.size != reader.size:
        yield Obstacle(reader.path, f"{writer.size} bytes cannot be read as {reader.size}")
    if reader.kind == "enum" and writer.symbols - reader.symbols and reader.fallback not in reader.symbols:
        unknown = ", ".join(sorted(writer.symbols - reader.symbols))
        yield Obstacle(reader.path, f"symbols that the reader does not know: {unknown}")
    if reader.items is not None and writer.items is not None:
        yield from _at(writer.items, reader.items)
    written = dict(writer.fields)
    for name, below in reader.fields:
        if name in written:
            yield from _at(written[name], below)
        elif not below.optional:
            yield Obstacle(below.path, "not written, and the reader has no default")
