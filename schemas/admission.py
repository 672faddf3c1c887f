"""Check, redact and encode an event in one pass: what the emitter asks of every event, in the caller's thread.

`Contract.check`, `Redactor` and the encoder each walk the whole event. Here one function is written per schema that does the
three for each field as it comes by. It knows only the good case. At the first thing that is not as it should be (a type, a
pattern, an unknown key, a size, a text that may hold a secret) it gives up, and the three do it one after the other: they
say what is wrong, and they are the oracle. A property test holds the two byte-identical, over good events and over
mutated ones.

    v = r0.get('reason', None)
    if v is None: …                                            the null branch
    else: check its type and length; mask it; note the path if that changed it; append length and bytes

A value is read once: what was checked is what is encoded, whatever another thread does meanwhile. Secrets are looked for in
what was encoded, and in texts as they were before their mask. What is tokenised leaves a hole (`schemas.holes`); in an event
without such values that costs a look at an empty list.

Not here: who may state what, and numbers (`producers`).
"""

from __future__ import annotations

import json
import marshal
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from schemas.contract import FLOAT_MAX, MAX_EVENT_BYTES, MAX_TEXT_BYTES, OPEN, RULES, Contract
from schemas.encoder import SplitEncoder, Writer, number, split_encoder
from schemas.fields import Redact
from schemas.holes import FILLING, Hole, InParts, inside, located, placed
from schemas.redact import (
    MAX_TOKENIZED_BYTES,
    HashKey,
    Redactor,
    hasher_of,
    is_hashed,
    mask,
    redaction_of,
)
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import suspicious
from schemas.tokenized import Tokenized
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.errors import ContractError
from sealtrail.token import encrypted_size

EMITTER_BYTES = 2 * (2 + 128) + 16 + 10  # the field `emitter`, at most: source, instance, epoch, number
MAX_DEPTH = 32  # of the event's own records and lists there are six
_SHORT = MAX_TEXT_BYTES // 4  # code points that surely are no more bytes than a text may have

Hasher = Callable[[str], str]
Body = tuple[bytes, bytes, tuple[Hole, ...]]
# Event, its tenant's hasher; then what it gives: paths that redaction changed, texts as they were before a mask, holes; and
# the tenant, for whether its values are tokenised.
_Fast = Callable[[Mapping[str, object], Hasher, list[str], list[bytes], list[InParts], str], Any]
ARGUMENTS = "r0, hasher, changed, raw, holes, tenant"


class _SlowError(Exception):
    """Not the good case; the oracle judges."""


class Admission:
    """Callable: an event to its Avro body up to and after the field `emitter`, and the holes in the latter.

    The event has what is the emitter's own: event_id, emitter, region, redaction; see `producers.drafts`. Its extension is
    {schema, value} or {schema, payload}. It is not changed. Any thread may call.

    Args:
        registry: whose extensions are admitted.
        region: the one region whose events are admitted.
        hash_key: the hash key of a tenant, 32 bytes.
        tokenizes: whether a tenant's values can be tokenised now; of one whose cannot, they are omitted. Asked only when
            there is such a value.
        event: the schema that the events are written with.

    Raises:
        ContractError: refused; names the field, never its value.
    """

    def __init__(
        self,
        registry: Registry,
        region: str | None,
        hash_key: HashKey,
        tokenizes: Callable[[str], bool] = lambda _: True,
        event: Codec = AUDIT_EVENT,
    ) -> None:
        self._contract = Contract(registry, region, event)
        self._redactor = Redactor(event.text, registry, hash_key, tokenizes)
        self._tokenized = Tokenized(registry, event)
        self._encode: SplitEncoder = split_encoder(event.text, "emitter")
        self._registry = registry
        self._hash_key = hash_key
        self._hashers: dict[str, Hasher] = {}  # of tenants whose key there is
        self._extensions: dict[bytes, _Fast] = {
            digest: _Admitting(codec.text, tokenizes, "extension.payload.").function(ARGUMENTS)
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }
        self._fast: _Fast = _Event(event.text, tokenizes, self._extension, region).function(ARGUMENTS)

    def __call__(self, event: Mapping[str, object]) -> Body:
        made = self._quickly(event)
        # Not within an `except`: a refusal's context would show a value.
        return self.slowly(snapshot(event)) if made is None else made

    def _quickly(self, event: Mapping[str, object]) -> Body | None:
        try:
            tenant = cast("str", event["tenant"])
            hasher = self._hashers.get(tenant) or self._hasher(tenant)
            return cast("Body", self._fast(event, hasher, [], [], [], tenant))
        except (_SlowError, ContractError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
            return None

    def slowly(self, event: Mapping[str, object]) -> Body:
        """The same, step by step."""
        extension = event.get("extension")
        if isinstance(extension, Mapping) and "value" in extension:
            event = {**event, "extension": self._contract.extension(extension.get("schema"), extension["value"])}
        self._contract.check(event)
        before, after, holes = located(self._redactor(event), self._tokenized, self._encode)
        size = HEADER_SIZE + len(before) + EMITTER_BYTES + len(after)
        if size > MAX_EVENT_BYTES:
            raise ContractError("", f"too large: {size} bytes encoded, at most {MAX_EVENT_BYTES}")
        return before, after, holes

    def _extension(
        self, given: dict[str, Any], hasher: Hasher, changed: list[str], raw: list[bytes], holes: list[Any], tenant: str
    ) -> tuple[bytes, bytes]:
        """Digest of the schema, and payload; `holes` becomes those of the payload."""
        schema = given["schema"]
        admit = self._extensions.get(schema)
        if admit is None or len(given) != 2:
            raise _SlowError
        value = given["value"] if "value" in given else self._registry.extension_value(schema, given["payload"])
        return schema, admit(value, hasher, changed, raw, holes, tenant)

    def _hasher(self, tenant: str) -> Hasher:
        made = self._hashers[tenant] = hasher_of(self._hash_key(tenant))
        return made


def snapshot(event: Mapping[str, object]) -> dict[str, Any]:
    """The event as it is at this moment, of plain types alone.

    What the oracle's steps look at, one after the other, is then one and the same, whatever another thread does to the draft,
    and whatever a subclass says of itself. `marshal` does it in one step that nothing interrupts, for plain types; nothing but
    what it just wrote is loaded.

    Raises:
        ContractError: nested too deeply, or without end.
    """
    try:
        data = marshal.dumps(event if type(event) is dict else dict(event))
    except ValueError:
        data = marshal.dumps(_plain(event, 0))
    return cast("dict[str, Any]", marshal.loads(data))  # noqa: S302 - our own bytes, made above


def _plain(value: object, depth: int) -> Any:
    """The value in plain types. What has none becomes an empty set, which no field admits."""
    if depth > MAX_DEPTH:
        raise ContractError("", f"nested more than {MAX_DEPTH} deep")
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an enum's symbol, say
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return frozenset()


def _slow(_: object = None) -> Any:
    raise _SlowError


class _Admitting(Writer):
    """Writes check and redaction into the places of the encoder."""

    def __init__(
        self,
        text: str,
        tokenizes: Callable[[str], bool],
        prefix: str = "",
        rules: Mapping[str, Callable[[Any], str | None]] | None = None,
    ) -> None:
        super().__init__(text, None if prefix else "emitter")
        self._prefix = prefix
        self._rules = rules or {}
        self._names |= {
            "slow": _slow,
            "mask": mask,
            "is_hashed": is_hashed,
            "finite": math.isfinite,
            "tokenizes": tokenizes,
            "encrypted_size": encrypted_size,
            "FILLING": FILLING,
            "placed": placed,
        }

    def _begin(self, schema: dict[str, Any], depth: int) -> Iterator[str]:
        known = self._constant(frozenset(field["name"] for field in schema["fields"]))
        yield f"if type(r{depth}) is not dict or not {known}.issuperset(r{depth}): slow()"

    def _value(self, schema: Any, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        if isinstance(schema, dict) and schema["type"] == "array" and field.get("redact") == Redact.OMIT:
            yield "if v: slow()"  # left out as a whole, whatever its items are
        yield from super()._value(schema, depth, field, path)

    def _leaf(self, definition: dict[str, Any], field: dict[str, Any], path: str) -> Iterator[str]:
        kind = definition["type"]
        redact = field.get("redact")
        if kind == "string":
            yield "if type(v) is not str: slow()"
            yield from self._text(field, path) if redact is None else self._marked(field, path, Redact(redact))
        elif redact is not None:
            yield "if v: slow()"  # omitted, of a type that few have: the oracle does it
            yield from super()._leaf(definition, field, path)
        else:
            yield {
                "int": "if type(v) is not int: slow()",
                "long": "if type(v) is not int: slow()",
                "bytes": "if type(v) is not bytes: slow()",
                "fixed": "if type(v) is not bytes: slow()",
                "float": f"if type(v) is not float or not abs(v) <= {FLOAT_MAX!r}: slow()",
                "double": "if type(v) is not float or not finite(v): slow()",
            }.get(kind, "pass")
            rule = self._rules.get(path)
            if rule is not None:
                yield f"if {self._constant(rule)}(v) is not None: slow()"
            yield from super()._leaf(definition, field, path)

    def _text(self, field: dict[str, Any], path: str) -> Iterator[str]:
        """Public or internal text: it matches its pattern."""
        yield f"if len(v) > {_SHORT} or {self._constant(re.compile(field['pattern']).fullmatch)}(v) is None: slow()"
        rule = self._rules.get(path)
        if rule is not None:
            yield f"if {self._constant(rule)}(v) is not None: slow()"
        if field["name"] == "path":
            yield "where = v"  # for what stands in clear at some paths alone
        yield "v = v.encode(); n = len(v)"
        yield "a(SIZES[n] if n < TABLED else number(n, 63)); a(v)"

    def _marked(self, field: dict[str, Any], path: str, redact: Redact) -> Iterator[str]:
        """Text that is redacted; omission of nullable text is `_other`'s."""
        yield f"if len(v) > {_SHORT}: slow()"
        if redact is Redact.TOKENIZE:
            yield from self._tokenized(path, "FALSE")
            return
        changed = f"changed.append({self._constant(self._prefix + path)})"
        if redact is Redact.OMIT:
            yield "if v: slow()"
        elif redact is Redact.HASH:
            yield "if v and not is_hashed(v):"  # hashing encodes it: a lone surrogate is refused
            yield f"    {changed}"
            yield "    v = hasher(v)"
        else:
            yield "raw.append(v.encode())"  # a lone surrogate is refused, even where it would be masked
            yield "w = mask(v)"
            clear = ""
            if "clearPaths" in field:
                paths, values = frozenset(field["clearPaths"]), re.compile(field["clearValues"]).fullmatch
                clear = f" and not (where in {self._constant(paths)} and {self._constant(values)}(v) is not None)"
            yield f"if w != v{clear}:"
            yield f"    {changed}"
            yield "    v = w"
        yield "v = v.encode(); n = len(v)"
        yield "a(SIZES[n] if n < TABLED else number(n, 63)); a(v)"

    def _tokenized(self, path: str, omitted: str, *before: str) -> Iterator[str]:
        """Lines that append a hole for the text in `v`, `before` in front of it; `omitted` where it cannot be tokenised."""
        constant = self._constant(self._prefix + path)
        yield "if v and not tokenizes(tenant):"
        yield f"    changed.append({constant})"
        yield "    raw.append(v.encode())"
        yield f"    a({omitted})"
        yield "else:"
        yield from (f"    a({part})" for part in before)
        yield "    v = v.encode(); n = len(v)"
        yield "    if n:"
        yield f"        if n > {MAX_TOKENIZED_BYTES}: slow()"
        yield f"        changed.append({constant})"
        yield "        raw.append(v)"
        yield "        n = encrypted_size(n)"
        yield "        a(SIZES[n] if n < TABLED else number(n, 63))"
        yield f"        holes.append((len(parts), 0, {constant}, v))"
        yield "        a(FILLING[:n])"
        yield "    else:"
        yield "        a(FALSE)"

    def _other(self, schema: Any, null: int, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        redact = field.get("redact")
        if redact not in (Redact.OMIT, Redact.TOKENIZE) or schema != "string":
            yield from super()._other(schema, null, depth, field, path)
            return
        yield f"if type(v) is not str or len(v) > {_SHORT}: slow()"
        nothing, something = self._constant(number(null, 31)), number(1 - null, 31)
        if redact == Redact.TOKENIZE:
            yield from self._tokenized(path, nothing, self._constant(something))
            return
        yield "v.encode()"
        yield "if v:"
        yield f"    changed.append({self._constant(self._prefix + path)})"
        yield f"    a({nothing})"
        yield "else:"
        yield f"    a({self._constant(something + number(0, 63))})"

    def _end(self) -> Iterator[str]:
        yield "if holes: holes[:] = placed(parts, holes)"
        yield from super()._end()


class _Event(_Admitting):
    """The event schema: what its fields say of each other, its extension, and what redaction did."""

    def __init__(
        self,
        text: str,
        tokenizes: Callable[[str], bool],
        extension: Callable[..., tuple[bytes, bytes]],
        region: str | None,
    ) -> None:
        super().__init__(text, tokenizes, "", RULES)
        self._region = region
        self._names |= {"extension": extension, "suspicious": suspicious, "inside": inside}

    def _value(self, schema: Any, depth: int, field: dict[str, Any], path: str) -> Iterator[str]:
        if path == "redaction":
            encode = Writer(json.dumps(self._define(schema))).function()

            @lru_cache(4096)  # of sets of paths; an application has a few dozen
            def redacted(changed: tuple[str, ...]) -> bytes:
                return cast("bytes", encode(redaction_of(list(dict.fromkeys(changed)))))

            self._names["redacted"] = redacted
            yield "k = len(parts); a(b'')"  # what it says is known at the end
        elif path == "extension":
            for branch in schema:
                if branch != "null":
                    self._define(branch)
            null = schema.index("null")
            yield "later = []"  # redaction names the event's own paths first
            yield "if v is None:"
            yield f"    a({self._constant(number(null, 31))})"
            yield "else:"
            yield "    inner = []"
            yield "    w, v = extension(v, hasher, later, raw, inner, tenant); n = len(v)"
            yield f"    a({self._constant(number(1 - null, 31))}); a(w); a(SIZES[n] if n < TABLED else number(n, 63))"
            yield "    if inner: holes += inside(len(parts), inner)"
            yield "    a(v)"
        else:
            yield from super()._value(schema, depth, field, path)

    def _end(self) -> Iterator[str]:
        yield f"if r0['event_name'] == {self._constant(OPEN)}: slow()"
        if self._region is not None:
            yield f"if r0['region'] != {self._constant(self._region)}: slow()"
        yield "w = r0['actor']"
        yield "if not w['id'] and w['kind'] != 'SYSTEM': slow()"
        yield "parts[k] = redacted((*changed, *later))"
        yield "after = b''.join(parts)"
        yield f"if len(before) + len(after) > {MAX_EVENT_BYTES - HEADER_SIZE - EMITTER_BYTES}: slow()"
        yield "if suspicious(b'\\n'.join((before, after, *raw))): slow()"
        yield "return before, after, placed(parts, holes) if holes else ()"
