"""An encoder made for one schema: the bytes of `Codec.encode_body`, sooner.

fastavro decides for every value of every union anew which branch it is. Here one function is written per schema, once, in
which that is settled: a union is null or its other branch, an enum's symbol is its bytes, an unset field one append. It
is for values that `schemas.contract` admits, whose types are known to be right. On any other it raises, or gives what
fastavro gives; fastavro stays the oracle, and a property test holds the two byte-identical.

Types are those of `schemas.fields`: records, arrays, enums, fixed, primitives, and unions of null and one other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from schemas.fields import PRIMITIVES

Encoder = Callable[[Mapping[str, object]], bytes]
SplitEncoder = Callable[[Mapping[str, object]], tuple[bytes, bytes]]

_TABLED = 1024  # lengths, counts and numbers below it are looked up
_WRITTEN: dict[str, str] = {  # how a value `v` of a primitive becomes parts; `a` appends one
    "boolean": "a(TRUE if v is True else FALSE if v is False else fail(v))",
    "int": "a(SIZES[v] if 0 <= v < TABLED else number(v, 31))",
    "long": "a(SIZES[v] if 0 <= v < TABLED else number(v, 63))",
    "float": "a(F32(v))",
    "double": "a(F64(v))",
    "bytes": "n = len(v); a(SIZES[n] if n < TABLED else number(n, 63)); a(v)",
    "string": "v = v.encode(); n = len(v); a(SIZES[n] if n < TABLED else number(n, 63)); a(v)",
}


_SHIFTS = tuple(range(0, 7 * last, 7) for last in range(10))


def number(value: int, bits: int) -> bytes:
    """Zig-zag varint of an integer of `bits` + 1 bits. Raises OverflowError beyond them."""
    if not -(1 << bits) <= value < 1 << bits:
        raise OverflowError(f"not an integer of {bits + 1} bits")
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    if rest < 0x80:
        return rest.to_bytes(1, "big")
    last = (rest.bit_length() - 1) // 7
    return bytes([rest >> shift & 0x7F | 0x80 for shift in _SHIFTS[last]]) + (rest >> 7 * last).to_bytes(1, "big")


def _fail(value: object) -> bytes:
    raise TypeError(f"a value of type {type(value).__name__} where the schema has another")


def encoder(text: str) -> Encoder:
    """Avro body of a value of the schema `text`."""
    return cast("Encoder", Writer(text).function())


def split_encoder(text: str, field: str) -> SplitEncoder:
    """Avro body without the top-level field `field`: what comes before it, and what follows it."""
    return cast("SplitEncoder", Writer(text, field).function())


class Writer:
    """Writes the source of one schema's function.

    Every name in it is made here, and every text from the schema goes in as a literal (`repr`): no schema can say more
    than values. `schemas.admission` writes more into the same places: see `_begin`, `_leaf` and `_end`.

    Args:
        text: the schema's.
        split: a top-level field that is left out; its place parts the result in two.
    """

    def __init__(self, text: str, split: str | None = None) -> None:
        self._document: Any = json.loads(text)
        self._split = split
        self._named: dict[str, dict[str, Any]] = {}
        self._names: dict[str, object] = {
            "SIZES": tuple(number(n, 63) for n in range(_TABLED)),
            "TABLED": _TABLED,
            "TRUE": b"\x01",
            "FALSE": b"\x00",
            "F32": struct.Struct("<f").pack,
            "F64": struct.Struct("<d").pack,
            "number": number,
            "fail": _fail,
        }

    def function(self, arguments: str = "r0") -> Callable[..., Any]:
        """The function; its first argument is the value, `r0`."""
        lines = [f"def encode({arguments}):", "    parts = []", "    a = parts.append"]
        lines += [f"    {line}" for line in self._record(self._document, 0, "")]
        lines += [f"    {line}" for line in self._end()]
        source = "\n".join(lines)
        exec(compile(source, f"<encoder of {self._document['name']!r}>", "exec"), self._names)  # noqa: S102 - see the class
        return cast("Callable[..., Any]", self._names["encode"])

    def _constant(self, value: object) -> str:
        name = f"C{len(self._names)}"
        self._names[name] = value
        return name

    # -- what a writer of more may write otherwise

    def _begin(self, schema: dict[str, Any], depth: int) -> Iterator[str]:
        """Lines before a record's fields."""
        yield from ()

    def _leaf(self, definition: dict[str, Any], field: dict[str, Any], path: str) -> Iterator[str]:
        """Lines that append the leaf in `v`; `field` is the record's field that it is of, `path` as in `schemas.fields`."""
        kind = definition["type"]
        if kind == "enum":
            symbols = {symbol: number(index, 31) for index, symbol in enumerate(definition["symbols"])}
            yield f"a({self._constant(symbols)}[v])"
        elif kind == "fixed":
            yield f"a(v if len(v) == {int(definition['size'])} else fail(v))"
        else:
            yield _WRITTEN[kind]

    def _end(self) -> Iterator[str]:
        """Lines that return."""
        yield "return b''.join(parts)" if self._split is None else "return before, b''.join(parts)"

    # -- the walk

    def _record(self, schema: dict[str, Any], depth: int, path: str) -> Iterator[str]:
        """Lines that append the record in `r<depth>`."""
        self._remember(schema)
        yield from self._begin(schema, depth)
        for field in schema["fields"]:
            name = field["name"]
            if depth == 0 and name == self._split:
                self._define(field["type"])
                yield "before = b''.join(parts)"
                yield "parts.clear()"
                continue
            if "default" in field:
                yield f"v = r{depth}.get({name!r}, {self._constant(field['default'])})"
            else:
                yield f"v = r{depth}[{name!r}]"
            yield from self._value(field["type"], depth, field, f"{path}.{name}" if path else name)

    def _value(self, schema: Any, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        """Lines that append the value in `v`."""
        if isinstance(schema, list):
            (other,) = [branch for branch in schema if branch != "null"]
            null = schema.index("null")
            yield "if v is None:"
            yield f"    a({self._constant(number(null, 31))})"
            yield "else:"
            yield from (f"    {line}" for line in self._other(other, null, depth, field, path))
            return
        definition = self._define(schema)
        kind = definition["type"]
        if kind == "record":
            yield f"r{depth + 1} = v"
            yield from self._record(definition, depth + 1, path)
        elif kind == "array":
            yield "n = len(v) if isinstance(v, (list, tuple)) else fail(v)"
            yield "if n:"
            yield "    a(SIZES[n] if n < TABLED else number(n, 63))"
            yield "    for v in v:"
            yield from (f"        {line}" for line in self._value(definition["items"], depth, field, f"{path}[]"))
            yield "a(FALSE)"
        else:
            yield from self._leaf(definition, field, path)

    def _other(self, schema: Any, null: int, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        """Lines that append the branch's number and the value in `v`, which is not null; `null` is that branch's number."""
        yield f"a({self._constant(number(1 - null, 31))})"
        yield from self._value(schema, depth, field, path)

    def _define(self, schema: Any) -> dict[str, Any]:
        """The definition of a type, by name or in place, remembered from its first use on."""
        if isinstance(schema, str):
            return {"type": schema} if schema in PRIMITIVES else self._named[schema.rpartition(".")[2]]
        self._remember(schema)
        if schema["type"] == "record":
            for field in schema["fields"]:
                for branch in field["type"] if isinstance(field["type"], list) else [field["type"]]:
                    if not isinstance(branch, str):
                        self._define(branch)
        return cast("dict[str, Any]", schema)

    def _remember(self, schema: dict[str, Any]) -> None:
        if "name" in schema:
            self._named[schema["name"].rpartition(".")[2]] = schema
