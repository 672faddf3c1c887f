"""An encoder made for one schema: the bytes of `Codec.encode_body`, in a third of the time.

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

_TABLED = 1024  # lengths and counts below it are looked up
_WRITTEN: dict[str, str] = {  # how a value `v` of a primitive becomes parts; `a` appends one
    "boolean": "a(TRUE if v is True else FALSE if v is False else fail(v))",
    "int": "a(number(v, 31))",
    "long": "a(number(v, 63))",
    "float": "a(F32(v))",
    "double": "a(F64(v))",
    "bytes": "n = len(v); a(SIZES[n] if n < TABLED else number(n, 63)); a(v)",
    "string": "v = v.encode(); n = len(v); a(SIZES[n] if n < TABLED else number(n, 63)); a(v)",
}


def number(value: int, bits: int) -> bytes:
    """Zig-zag varint of an integer of `bits` + 1 bits. Raises OverflowError beyond them."""
    if not -(1 << bits) <= value < 1 << bits:
        raise OverflowError(f"not an integer of {bits + 1} bits")
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _fail(value: object) -> bytes:
    raise TypeError(f"a value of type {type(value).__name__} where the schema has another")


def encoder(text: str) -> Encoder:
    """Avro body of a value of the schema `text`."""
    return cast("Encoder", _Writer(text, None).function())


def split_encoder(text: str, field: str) -> SplitEncoder:
    """Avro body without the top-level field `field`: what comes before it, and what follows it."""
    return cast("SplitEncoder", _Writer(text, field).function())


class _Writer:
    """Writes the source of one schema's function.

    Every name in it is made here, and every text from the schema goes in as a literal (`repr`): no schema can say more
    than values.
    """

    def __init__(self, text: str, split: str | None) -> None:
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

    def function(self) -> Callable[[Mapping[str, object]], object]:
        lines = ["def encode(r0):", "    parts = []", "    a = parts.append"]
        lines += [f"    {line}" for line in self._record(self._document, 0)]
        if self._split is None:
            lines.append("    return b''.join(parts)")
        else:
            lines.append("    return before, b''.join(parts)")
        source = "\n".join(lines)
        exec(compile(source, f"<encoder of {self._document['name']!r}>", "exec"), self._names)  # noqa: S102 - see the class
        return cast("Callable[[Mapping[str, object]], object]", self._names["encode"])

    def _constant(self, value: object) -> str:
        name = f"C{len(self._names)}"
        self._names[name] = value
        return name

    def _record(self, schema: dict[str, Any], depth: int) -> Iterator[str]:
        """Lines that append the record in `r<depth>`."""
        self._remember(schema)
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
            yield from self._value(field["type"], depth)

    def _value(self, schema: Any, depth: int) -> Iterator[str]:
        """Lines that append the value in `v`."""
        if isinstance(schema, list):
            (other,) = [branch for branch in schema if branch != "null"]
            null = schema.index("null")
            yield "if v is None:"
            yield f"    a({self._constant(number(null, 31))})"
            yield "else:"
            yield f"    a({self._constant(number(1 - null, 31))})"
            yield from (f"    {line}" for line in self._value(other, depth))
            return
        definition = self._define(schema)
        kind = definition["type"]
        if kind == "record":
            yield f"r{depth + 1} = v"
            yield from self._record(definition, depth + 1)
        elif kind == "array":
            yield "n = len(v)"
            yield "if n:"
            yield "    a(SIZES[n] if n < TABLED else number(n, 63))"
            yield "    for v in v if isinstance(v, (list, tuple)) else fail(v):"
            yield from (f"        {line}" for line in self._value(definition["items"], depth))
            yield "a(FALSE)"
        elif kind == "enum":
            yield f"a({self._constant({s: number(i, 31) for i, s in enumerate(definition['symbols'])})}[v])"
        elif kind == "fixed":
            yield f"a(v if len(v) == {int(definition['size'])} else fail(v))"
        else:
            yield _WRITTEN[kind]

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
