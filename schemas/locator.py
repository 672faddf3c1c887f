"""Where things stand in an event's bytes: check an encoded event without decoding it, and pick out what sealing needs.

The sealer must know of every record that its bytes are the one encoding of an event that keeps the contract, that the
application redacted what it had to, and that no secret slipped through. Decoding it, walking it three times and encoding it
again to compare tells that, slowly. Here one function is written per schema that goes over the bytes once:

    k = b[i]; i += 1                 the branch of a union: null, or a text
    if k == 2: …                     its length, its bytes: seen before, or looked at now
    elif k: slow()

It knows only the good case, and in that the strict encoding alone: shortest varints, one block for each array, booleans 0
and 1, valid UTF-8, nothing after the last field. At the first thing that is not so it gives up and says nothing: decoder,
`schemas.contract`, `schemas.redact` and `schemas.net` judge, and they are the oracle. A property test holds that whatever is
located here is what they would have let through as it is, and that what is picked out is what they would have read.

Texts come again and again: those that passed once are remembered, bounded, by field. Encrypted values are told with their
places, so that tokens can be spliced in; those in an extension, whose length would change, are for the oracle.

Not here: who may state what; what a token is.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple, cast

from schemas.contract import FLOAT_MAX, MAX_EVENT_BYTES, OPEN, RULES
from schemas.encoder import Writer, number
from schemas.fields import Node, Redact, field_tree
from schemas.redact import is_hashed, is_masked
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import suspicious
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.token import is_encrypted

KNOWN = 4096  # texts remembered of one field
LONGEST_KNOWN = 256  # bytes

Rule = Callable[[Any], str | None]
Passes = Callable[[str], bool]
_Locate = Callable[[bytes], Any]


class Hole(NamedTuple):
    """An encrypted value, for a token to take its place.

    Attributes:
        start, end: where it stands in the event's bytes, its length included.
        path: as in `redaction.fields`. text: its encrypted form.
        subject: as for `schemas.tokenized`; None where the value itself says whom it is about.
    """

    start: int
    end: int
    path: str
    text: bytes
    subject: bytes | None


class Located(NamedTuple):
    """What sealing needs of an event.

    Attributes:
        actor: of actor.id; recipients: of message.recipient_count, 0 without a message.
        key: the schema's header, and what stands in the fields that were asked for; equal keys, equal values in all of them.
        holes: in the order in which they stand.
    """

    event_id: bytes
    event_name: bytes
    tenant: bytes
    source: bytes
    instance: bytes
    epoch: bytes
    seq: int
    actor: bytes
    result: int
    correlation_id: bytes | None
    stage: int | None
    recipients: int
    key: tuple[object, ...]
    holes: list[Hole]


PICKED = {  # path: field of Located
    "event_id": "event_id",
    "event_name": "event_name",
    "tenant": "tenant",
    "emitter.source": "source",
    "emitter.instance": "instance",
    "emitter.epoch": "epoch",
    "emitter.seq": "seq",
    "actor.id": "actor",
    "result": "result",
    "correlation_id": "correlation_id",
    "message.stage": "stage",
    "message.recipient_count": "recipients",
}
ASKED = {"region": "region", "actor.kind": "kind", "redaction.status": "status", "redaction.fields": "fields"}
_NOTHING = object()  # in a key: a record that is null


class _SlowError(Exception):
    """Not the good case; the oracle judges."""


class Locator:
    """Callable: an event's single-object bytes to `Located`, or None: the oracle is to be asked. Any thread may call.

    Args:
        registry: whose extensions are known.
        region: the one region whose events are good.
        asked: paths, without `[]`, of the fields whose values make the key.
        event: the schema that the events are written with; most: bytes that one may have.
    """

    def __init__(
        self,
        registry: Registry,
        region: str,
        asked: Iterable[str] = (),
        event: Codec = AUDIT_EVENT,
        most: int = MAX_EVENT_BYTES,
    ) -> None:
        self._header = event.header
        self._most = most
        extensions: dict[bytes, _Locate] = {
            digest: _Reader(codec.text, "extension.payload.").function("b")
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }
        self._locate: _Locate = _EventReader(event, extensions, region, frozenset(asked)).function("b")

    def __call__(self, data: bytes) -> Located | None:
        if len(data) > self._most or data[:HEADER_SIZE] != self._header:
            return None
        try:
            return cast("Located", self._locate(data))
        except (_SlowError, LookupError, ValueError, OverflowError, struct.error):
            return None


def _slow(_: object = None) -> Any:
    raise _SlowError


def _number(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """A zig-zag varint of at most `bits` + 1 bits in its shortest form, and the position after it."""
    byte, value, shift, end = data[at], 0, 0, at + 1
    while byte > 0x7F:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise _SlowError  # a megabyte of them must not make a number of a megabyte
        byte = data[end]
        end += 1
    value |= byte << shift
    if (not byte and shift) or value >> bits + 1:
        raise _SlowError  # over-long, or too large
    return value >> 1 ^ -(value & 1), end


def remembered(passes: Passes) -> tuple[set[bytes], Callable[[bytes], None]]:
    """The texts of a field that passed, and what looks at one that is not among them."""
    known: set[bytes] = set()

    def look(text: bytes) -> None:
        if not passes(text.decode()):
            raise _SlowError
        if len(text) <= LONGEST_KNOWN:
            if len(known) >= KNOWN:
                known.clear()
            known.add(text)

    return known, look


class _Reader(Writer):
    """Writes the function that goes over the bytes of one schema's value; returns when they end with it.

    In what it writes: `b` the bytes, `i` where it stands; `k` and `j` are for the moment; `v` is the leaf's value.
    """

    def __init__(self, text: str, prefix: str = "", rules: Mapping[str, Rule] | None = None) -> None:
        super().__init__(text)
        self._prefix = prefix
        self._rules = rules or {}
        self._start = "0"
        self._names |= {
            "slow": _slow,
            "varint": _number,
            "finite": math.isfinite,
            "F32": struct.Struct("<f").unpack_from,
            "F64": struct.Struct("<d").unpack_from,
        }

    def function(self, arguments: str = "b") -> Callable[..., Any]:
        lines = [f"def locate({arguments}):", *(f"    {line}" for line in self._opening())]
        lines += [f"    {line}" for line in self._record(self._document, 0, "")]
        lines += ["    if i != len(b): slow()", *(f"    {line}" for line in self._end())]
        source = "\n".join(lines)
        exec(compile(source, f"<locator of {self._document['name']!r}>", "exec"), self._names)  # noqa: S102 - see Writer
        return cast("Callable[..., Any]", self._names["locate"])

    # -- what a reader of more may write otherwise

    def _opening(self) -> Iterator[str]:
        yield f"i = {self._start}"

    def _end(self) -> Iterator[str]:
        yield "return i"

    def _found(self, path: str) -> Iterator[str]:
        """Lines after the leaf at `path` was read into `v`."""
        yield from ()

    def _null(self, schema: Any, path: str) -> Iterator[str]:
        """Lines where the value at `path` is null."""
        yield from ()

    # -- the walk

    def _record(self, schema: dict[str, Any], depth: int, path: str) -> Iterator[str]:
        self._remember(schema)
        for nullable, group in groupby(schema["fields"], lambda field: isinstance(field["type"], list)):
            fields = list(group)
            each = [list(self._field(field, depth, path)) for field in fields]
            if nullable and len(fields) > 1:  # mostly all of them are null
                nulls = b"".join(number(field["type"].index("null"), 31) for field in fields)
                yield f"if b[i:i + {len(nulls)}] == {nulls!r}:"
                yield f"    i += {len(nulls)}"
                for field in fields:
                    yield from (f"    {line}" for line in self._null(field["type"], below(path, field)))
                yield "else:"
                yield from (f"    {line}" for lines in each for line in lines)
            else:
                yield from (line for lines in each for line in lines)

    def _field(self, field: dict[str, Any], depth: int, path: str) -> Iterator[str]:
        yield from self._value(field["type"], depth, field, below(path, field))

    def _value(self, schema: Any, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        if isinstance(schema, list):
            (other,) = [branch for branch in schema if branch != "null"]
            null = schema.index("null")
            yield "k = b[i]; i += 1"
            yield f"if k == {2 - 2 * null}:"
            yield from (f"    {line}" for line in self._value(other, depth, {**field, "nullable": True}, path))
            yield f"elif k == {2 * null}:"
            yield "    pass"
            yield from (f"    {line}" for line in self._null(schema, path))
            yield "else: slow()"
            return
        definition = self._define(schema)
        kind = definition["type"]
        if kind == "record":
            yield from self._record(definition, depth + 1, path)
        elif kind == "array":
            yield from self._array(definition, depth, field, path)
        else:
            yield from self._leaf(definition, field, path)

    def _array(self, definition: dict[str, Any], depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        yield "v = k = b[i]; i += 1"
        yield from self._found(path)
        yield "if k:"
        yield "    if k & 1 or k > 127: slow()"
        if field.get("redact") == Redact.OMIT:
            yield "    slow()"
        yield f"    for n{depth} in range(k >> 1):"
        yield from (f"        {line}" for line in self._value(definition["items"], depth + 1, field, f"{path}[]"))
        yield "    if b[i]: slow()"
        yield "    i += 1"

    def _leaf(self, definition: dict[str, Any], field: dict[str, Any], path: str) -> Iterator[str]:
        kind = definition["type"]
        redact = field.get("redact")
        if kind == "string":
            yield from self._string()
            yield from self._text(field, path) if redact is None else self._marked(field, path, Redact(redact))
        else:
            yield from self._plain(definition, kind)
            if redact is not None:
                yield "if v: slow()"  # omitted, of a type that few have
            rule = self._rules.get(path)
            if rule is not None:
                yield f"if {self._constant(rule)}(v) is not None: slow()"
        yield from self._found(path)

    def _string(self) -> Iterator[str]:
        """Its bytes; longer than a length of two bytes tells, it is for the oracle."""
        yield "k = b[i]; i += 1"
        yield "if k > 127:"
        yield "    j = b[i]; i += 1"
        yield "    if not 0 < j < 128: slow()"
        yield "    k = k & 127 | j << 7"
        yield "if k & 1: slow()"
        yield "j = i + (k >> 1); v = b[i:j]; i = j"

    def _plain(self, definition: dict[str, Any], kind: str) -> Iterator[str]:
        if kind == "enum":
            yield "v = b[i]; i += 1"
            yield f"if v & 1 or v > {min(2 * len(definition['symbols']) - 2, 126)}: slow()"  # beyond, it takes two bytes
        elif kind == "fixed":
            size = int(definition["size"])
            yield f"j = i + {size}; v = b[i:j]; i = j"
        elif kind == "boolean":
            yield "v = b[i]; i += 1"
            yield "if v > 1: slow()"
        elif kind in ("int", "long"):
            yield "v = b[i]; i += 1"
            yield f"if v > 127: v, i = varint(b, i - 1, {31 if kind == 'int' else 63})"
            yield "else: v = v >> 1 ^ -(v & 1)"
        elif kind == "float":
            yield "v = F32(b, i)[0]; i += 4"
            yield f"if not abs(v) <= {FLOAT_MAX!r}: slow()"
        elif kind == "double":
            yield "v = F64(b, i)[0]; i += 8"
            yield "if not finite(v): slow()"
        else:
            yield "v = b[i]; i += 1"
            yield "if v: slow()"  # bytes that are there

    def _look(self, passes: Passes) -> str:
        known, look = remembered(passes)
        return f"if v not in {self._constant(known)}: {self._constant(look)}(v)"

    def _text(self, field: dict[str, Any], path: str) -> Iterator[str]:
        """Public or internal text: it matches its pattern."""
        yield self._look(text_passes(field, self._rules.get(path)))
        if field["name"] == "path":
            yield "where = v"  # for what stands in clear at some paths alone

    def _marked(self, field: dict[str, Any], path: str, redact: Redact) -> Iterator[str]:
        """Text that was redacted."""
        if redact is Redact.OMIT:
            yield "if v: slow()"
        elif redact is Redact.TOKENIZE:
            yield "if v:"
            yield from (f"    {line}" for line in self._encrypted(field, path))
        elif redact is Redact.HASH:
            yield self._look(hash_passes)
        elif "clearPaths" in field:
            clear = self._look(clear_passes(field))
            yield f"if where in {self._constant(clear_paths(field))}:"
            yield f"    {clear}"
            yield "else:"
            yield f"    {self._look(is_masked)}"
        else:
            yield self._look(is_masked)

    def _encrypted(self, field: dict[str, Any], path: str) -> Iterator[str]:
        """Lines for an encrypted value, `v`."""
        yield "slow()"


def text_passes(field: Mapping[str, Any], rule: Rule | None) -> Passes:
    """Whether public or internal text matches its pattern, and keeps its rule if it has one."""
    fullmatch = re.compile(field["pattern"]).fullmatch
    return lambda text: fullmatch(text) is not None and (rule is None or rule(text) is None)


def hash_passes(text: str) -> bool:
    """Whether text that is to be hashed is, or is empty."""
    return not text or is_hashed(text)


def clear_paths(field: Mapping[str, Any]) -> frozenset[bytes]:
    """Where a text that is masked elsewhere may stand in clear: see `clear_passes`."""
    return frozenset(path.encode() for path in field["clearPaths"])


def clear_passes(field: Mapping[str, Any]) -> Passes:
    """Whether text is masked, or what may stand in clear at those paths."""
    fullmatch = re.compile(field["clearValues"]).fullmatch
    return lambda text: is_masked(text) or fullmatch(text) is not None


def below(path: str, field: Mapping[str, Any]) -> str:
    """The path of a field of the record at `path`."""
    return f"{path}.{field['name']}" if path else str(field["name"])


class _EventReader(_Reader):
    """The event schema: what its fields say of each other, its extension, and what is picked out."""

    def __init__(self, event: Codec, extensions: Mapping[bytes, _Locate], region: str, asked: frozenset[str]) -> None:
        super().__init__(event.text, "", RULES)
        self._header = event.header
        self._asked = asked
        self._region = region.encode()
        self._start = str(HEADER_SIZE)
        self._names |= {"extensions": extensions, "suspicious": suspicious, "Located": Located._make, "NOTHING": _NOTHING}
        self._names |= {"encrypted": is_encrypted, "hole": Hole._make}
        leaves = list(field_tree(event.text).leaves())
        self._tokenized = {leaf.path for leaf in leaves if leaf.marks is not None and leaf.marks.redact is Redact.TOKENIZE}
        self._identifying = {path: f"subject{n}" for n, path in enumerate(sorted(identifying(leaves)))}
        self._read: set[str] = set()  # leaves that lie behind

    def _opening(self) -> Iterator[str]:
        yield from super()._opening()
        yield f"key = [{self._header!r}]; w = key.append; holes = []"
        for name in self._identifying.values():
            yield f"{name} = b''"
        yield "correlation_id = stage = None; recipients = 0"

    def _encrypted(self, field: dict[str, Any], path: str) -> Iterator[str]:
        named = field.get("subjectField")
        own = named == path.removesuffix("[]").rpartition(".")[2]
        where = named and subject_path(path, named)
        yield "if not encrypted(v.decode()): slow()"
        if named is None:
            subject = "b''"
        elif own:
            subject = "None"
        elif where in self._identifying and where in self._read and where not in self._tokenized:
            subject = f"{self._identifying[where]} or b''"
        else:  # whom it is about stands further on, or is encrypted itself
            yield "slow()"
            return
        yield "k = len(v) << 1"
        yield f"holes.append(hole((i - len(v) - (1 if k < 128 else 2), i, {path!r}, v, {subject})))"

    def _found(self, path: str) -> Iterator[str]:
        self._read.add(path)
        if path in self._identifying:
            yield f"{self._identifying[path]} = v"
        name = PICKED.get(path) or ASKED.get(path)
        if name is not None:
            yield f"{name} = v"
        if self._leads_to_asked(path):
            yield "w(v)"

    def _null(self, schema: Any, path: str) -> Iterator[str]:
        for subject, name in self._identifying.items():
            if subject == path or subject.startswith(f"{path}."):
                yield f"{name} = b''"  # of another item
        if path.replace("[]", "") in self._asked:
            yield "w(None)"
        elif self._leads_to_asked(path):
            yield "w(NOTHING)"

    def _leads_to_asked(self, path: str) -> bool:
        """Whether a leaf, an array's count, or something below stands in the key."""
        return leads_to(self._asked, path)

    def _value(self, schema: Any, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        if path != "extension":
            yield from super()._value(schema, depth, field, path)
            return
        null = schema.index("null")
        for branch in schema:
            if branch != "null":
                self._define(branch)
        yield "k = b[i]; i += 1"
        yield f"if k == {2 - 2 * null}:"
        yield "    j = i + 32; v = extensions[b[i:j]]"
        yield "    k, i = varint(b, j, 63)"
        yield "    if k < 0: slow()"
        yield "    j = i + k; v(b[i:j]); i = j"
        yield f"elif k != {2 * null}: slow()"

    def _end(self) -> Iterator[str]:
        kinds, statuses = (symbols_at(self._document, path) for path in ("actor.kind", "redaction.status"))
        yield f"if event_name == {OPEN.encode()!r} or region != {self._region!r}: slow()"
        yield f"if not actor and kind != {2 * kinds.index('SYSTEM')}: slow()"
        yield f"if fields and status == {2 * statuses.index('NONE')}: slow()"
        yield "if suspicious(b): slow()"
        names = ", ".join(Located._fields[:-2])
        yield f"return Located(({names}, tuple(key), holes))"


def leads_to(asked: Iterable[str], path: str) -> bool:
    """Whether one of these paths, without `[]`, is `path` or below it."""
    plain = path.replace("[]", "")
    return any(one == plain or one.startswith(f"{plain}.") for one in asked)


def identifying(leaves: Iterable[Node]) -> set[str]:
    """The paths of the leaves that say whom a tokenised value is about."""
    found = set()
    for leaf in leaves:
        named = leaf.marks.subject_field if leaf.marks is not None else None
        if named is not None:
            found.add(subject_path(leaf.path, named))
    return found


def subject_path(path: str, named: str) -> str:
    """The path of what says whom the value at `path` is about; `named`: its subjectField."""
    return named if "." in named else f"{path.rpartition('.')[0]}.{named}".lstrip(".")


def symbols_at(document: Mapping[str, Any], path: str) -> list[str]:
    """The symbols of the enum at a path through records, nullable ones too, in the schema's order."""
    node: Any = document
    for name in path.split("."):
        node = next(field["type"] for field in node["fields"] if field["name"] == name)
        if isinstance(node, list):
            (node,) = [branch for branch in node if branch != "null"]
    return list(node["symbols"])
