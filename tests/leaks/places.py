"""Every text of a record, by the schema's tree: its path, a way to set it, its node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from schemas.fields import Node

Place = tuple[str, Callable[[str], None], Node]


def places(value: dict[str, Any], node: Node, prefix: str = "") -> Iterator[Place]:
    """The texts of a record, those of the records and lists in it included; a list becomes the one text that is set."""
    for name, below in node.fields:
        inner = value.get(name)
        if below.kind == "record" and inner is not None:
            yield from places(inner, below, prefix)
        elif below.items is not None and below.items.kind == "record":
            for item in inner or ():
                yield from places(item, below.items, prefix)
        elif below.kind == "string":
            yield prefix + below.path, _setter(value, name), below
        elif below.items is not None and below.items.kind == "string":
            yield prefix + below.items.path, _setter(value, name, listed=True), below.items


def _setter(value: dict[str, Any], name: str, *, listed: bool = False) -> Callable[[str], None]:
    def put(text: str) -> None:
        value[name] = [text] if listed else text

    return put
