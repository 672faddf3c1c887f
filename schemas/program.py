"""The locator as a program: what `schemas.locator` writes in Python, as operations that the native kernel follows.

An operation is a tuple: code, whether its bytes are part of the key, and what it is for sealing (a place in PICKS, or -1);
then what its code asks for, as `processors/native/kernel.c` has it. A union, an array and an extension hold the operations
below them. The key is the schema's header and what stands in the fields that were asked for, as the event's bytes have it:
branches, counts and values one after the other, so equal keys are equal values in all of them.

What texts must be is asked of the same functions as there. A pattern that is a class of characters, once and again, is
handed over as that; all others are looked at in Python once, and remembered.

Not here: the walk over the bytes; the secret scan. `schemas.locator` is the oracle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.contract import MAX_EVENT_BYTES, OPEN, RANGES, RULES, uuid7
from schemas.encoder import Writer
from schemas.fields import Redact, field_tree
from schemas.locator import (
    ASKED,
    PICKED,
    Passes,
    Rule,
    below,
    clear_passes,
    clear_paths,
    hash_passes,
    identifying,
    leads_to,
    remembered,
    subject_path,
    symbols_at,
    text_passes,
)
from schemas.redact import is_masked
from schemas.registry import AUDIT_EVENT, Registry
from sealtrail.avro import Codec

Operation = tuple[Any, ...]

(
    NULLABLE, ARRAY, CLASS, KNOWN, CLEAR, EMPTY, ENCRYPTED, ENUM, FIXED, BOOLEAN, NUMBER, FLOAT, DOUBLE, BYTES, EXTENSION,
    VARIANT,
) = range(16)  # fmt: skip
PICKS = (
    "event_id", "event_name", "tenant", "source", "instance", "epoch", "actor", "correlation_id", "region",
    "seq", "result", "stage", "recipients", "kind", "status", "fields",
)  # fmt: skip
ABOUT_NOBODY, ABOUT_ITSELF, UNTOLD = -1, -2, -3
MAX_SUBJECTS = 64

# Which have few forms in all schemas: [a][b]{m,n} and [a]{m,n}, of ASCII alone.
_CLASS = r"\[(?:[ -,.-Z_-~]-[ -,.-Z_-~]|[ -,.-Z_-~])+-?\]"
_REPEATED = re.compile(rf"\^(?P<first>{_CLASS})?(?P<rest>{_CLASS})\{{(?P<low>[0-9]{{1,4}}),(?P<high>[0-9]{{1,4}})\}}\$")
_ASCII = [chr(code) for code in range(128)]
_INTEGERS = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel's `Locator` takes; see the module.

    Attributes:
        header: single-object header; most: bytes of an event.
        region: the one region whose events are good; open: the name of what is never good.
        system: of actor.kind, the kind whose id may be empty; none: of redaction.status, without fields. As Avro has them.
    """

    header: bytes
    most: int
    region: bytes
    open: bytes
    system: int
    none: int
    operations: tuple[Operation, ...]


def program(
    registry: Registry, region: str, asked: Iterable[str] = (), event: Codec = AUDIT_EVENT, most: int = MAX_EVENT_BYTES
) -> Program:
    """The program of what `Locator` locates with these arguments. Raises ValueError: a schema that has none."""
    extensions = tuple(
        (VARIANT, 0, -1, digest, _Writer(codec.text, {}).operations())
        for digest, codec in registry.extensions.items()
        if digest not in registry.unclassified
    )
    writer = _EventWriter(event.text, extensions, frozenset(asked))
    operations = writer.operations()
    kinds, statuses = writer.symbols("actor.kind"), writer.symbols("redaction.status")
    return Program(
        event.header,
        most,
        region.encode(),
        OPEN.encode(),
        2 * kinds.index("SYSTEM"),
        2 * statuses.index("NONE"),
        operations,
    )


def repeated_class(pattern: str) -> tuple[bytes, bytes, int, int] | None:
    """Of a pattern that is one class of ASCII characters again and again: which may stand first, which then; least, most.

    The first may be of another class. None: the pattern is another.
    """
    found = _REPEATED.fullmatch(pattern)
    if found is None:
        return None
    first, rest = (_members(found[name]) for name in ("first", "rest")) if found["first"] else (_members(found["rest"]),) * 2
    extra = 1 if found["first"] else 0
    low, high = int(found["low"]) + extra, int(found["high"]) + extra
    return (first, rest, low, high) if low <= high <= 8191 else None


def _members(written: str) -> bytes:
    return "".join(character for character in _ASCII if re.fullmatch(written, character)).encode()


class _Writer(Writer):
    """Writes the operations of one schema's value."""

    def __init__(self, text: str, rules: Mapping[str, Rule]) -> None:
        super().__init__(text)
        self._rules = rules

    def operations(self) -> tuple[Operation, ...]:
        """Those of the whole value."""
        return self._fields(self._document, "")

    def symbols(self, path: str) -> list[str]:
        """Of the enum at a path."""
        return symbols_at(self._document, path)

    # -- what a writer of more may write otherwise

    def _keyed(self, path: str) -> int:
        """Whether what stands at a path is part of the key."""
        return 0

    def _pick(self, path: str) -> int:
        """What a leaf, or an array's count, is for sealing."""
        return -1

    def _subject(self, path: str) -> int:
        """The register that the text at a path fills."""
        return ABOUT_NOBODY

    def _subjects_below(self, path: str) -> tuple[int, ...]:
        """The registers that a null at a path empties."""
        return ()

    def _about(self, field: dict[str, Any], path: str) -> int:
        """Whom an encrypted value is about."""
        return UNTOLD

    # -- the walk

    def _fields(self, schema: dict[str, Any], path: str) -> tuple[Operation, ...]:
        self._remember(schema)
        return tuple(
            operation for field in schema["fields"] for operation in self._operations(field["type"], field, below(path, field))
        )

    def _operations(self, schema: Any, field: dict[str, Any], path: str) -> tuple[Operation, ...]:
        if isinstance(schema, list):
            (other,) = [branch for branch in schema if branch != "null"]
            null = 2 * schema.index("null")
            made = self._operations(other, field, path)
            return ((NULLABLE, self._keyed(path), -1, null, 2 - null, self._subjects_below(path), made),)
        definition = self._define(schema)
        kind = definition["type"]
        if kind == "record":
            return self._fields(definition, path)
        if kind != "array":
            return (self._operation(definition, field, path),)
        omitted = int(field.get("redact") == Redact.OMIT)
        items = self._operations(definition["items"], field, f"{path}[]")
        return ((ARRAY, self._keyed(path), self._pick(path), omitted, items),)

    def _operation(self, definition: dict[str, Any], field: dict[str, Any], path: str) -> Operation:
        """Of a leaf."""
        kind, redact, rule = definition["type"], field.get("redact"), self._rules.get(path)
        if kind == "string":
            return self._public(field, path, rule) if redact is None else self._marked(field, path, Redact(redact))
        common, empty = (self._keyed(path), self._pick(path)), int(redact is not None)
        if kind in _INTEGERS and (rule is None or rule in RANGES):
            low, high = _INTEGERS[kind]
            least, most = (low, high) if rule is None else RANGES[rule]
            return (NUMBER, *common, empty, max(low, least), min(high, most))
        if kind == "fixed" and rule in (None, uuid7):
            return (FIXED, *common, empty, int(definition["size"]), int(rule is uuid7))
        if rule is not None:
            raise ValueError(f"{path}: a rule that no operation has")
        if kind == "enum":
            return (ENUM, *common, empty, min(2 * len(definition["symbols"]) - 2, 126))  # beyond, it takes two bytes
        if kind == "boolean":
            return (BOOLEAN, *common, empty, 1)
        if kind == "bytes":
            return (BYTES, *common, empty, 0)  # bytes that are there are for the oracle
        return (FLOAT if kind == "float" else DOUBLE, *common, empty)

    def _public(self, field: dict[str, Any], path: str, rule: Rule | None) -> Operation:
        """Public or internal text: it matches its pattern."""
        is_path = int(field["name"] == "path")  # tells where, for what stands in clear at some paths alone
        common = (self._keyed(path), self._pick(path), self._subject(path), is_path)
        repeated = None if rule is not None else repeated_class(field["pattern"])
        return (KNOWN, *common, *remembered(text_passes(field, rule))) if repeated is None else (CLASS, *common, *repeated)

    def _marked(self, field: dict[str, Any], path: str, redact: Redact) -> Operation:
        """Text that was redacted."""
        place = (self._keyed(path), self._pick(path))
        if redact is Redact.TOKENIZE:
            return (ENCRYPTED, *place, self._about(field, path), path)
        common = (*place, self._subject(path))
        if redact is Redact.OMIT:
            return (EMPTY, *common)
        if "clearPaths" in field:
            clear = remembered(clear_passes(field))
            return (CLEAR, *common, *remembered(is_masked), clear_paths(field), *clear)
        passes: Passes = hash_passes if redact is Redact.HASH else is_masked
        return (KNOWN, *common, 0, *remembered(passes))


class _EventWriter(_Writer):
    """The event schema: what is picked out, what makes the key, whom values are about, and its extension."""

    def __init__(self, text: str, extensions: tuple[Operation, ...], asked: frozenset[str]) -> None:
        super().__init__(text, RULES)
        self._extensions = extensions
        self._asked = asked
        leaves = list(field_tree(text).leaves())
        self._tokenized = {leaf.path for leaf in leaves if leaf.marks is not None and leaf.marks.redact is Redact.TOKENIZE}
        self._registers = {path: number for number, path in enumerate(sorted(identifying(leaves)))}
        if len(self._registers) > MAX_SUBJECTS:
            raise ValueError("fields that say whom a value is about: too many")
        self._filled: set[str] = set()  # registers' paths that lie behind

    def _keyed(self, path: str) -> int:
        return int(leads_to(self._asked, path))

    def _pick(self, path: str) -> int:
        name = PICKED.get(path) or ASKED.get(path)
        return -1 if name is None else PICKS.index(name)

    def _subject(self, path: str) -> int:
        if path not in self._registers:
            return ABOUT_NOBODY
        self._filled.add(path)
        return self._registers[path]

    def _subjects_below(self, path: str) -> tuple[int, ...]:
        return tuple(n for other, n in self._registers.items() if other == path or other.startswith(f"{path}."))

    def _about(self, field: dict[str, Any], path: str) -> int:
        named = field.get("subjectField")
        if named is None:
            return ABOUT_NOBODY
        if named == path.removesuffix("[]").rpartition(".")[2]:
            return ABOUT_ITSELF
        where = subject_path(path, named)
        # Whom it is about may stand further on, or be encrypted itself.
        return self._registers[where] if where in self._filled and where not in self._tokenized else UNTOLD

    def _operations(self, schema: Any, field: dict[str, Any], path: str) -> tuple[Operation, ...]:
        if path != "extension":
            return super()._operations(schema, field, path)
        null = 2 * schema.index("null")
        for branch in schema:
            if branch != "null":
                self._define(branch)
        return ((EXTENSION, 0, -1, null, 2 - null, self._extensions),)
