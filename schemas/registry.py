"""Every schema that a content may be written with, known by its text: what is written now, and every released version.

The event schema and the extensions ship with this package, with all that were released (`schemas.evolution.released`), so
that connectors of an older version are heard and old archives are read; the seals' notes and the runs' statement come from
`sealtrail`. An event schema or an extension that leaves a field unclassified is refused when the registry is made, so a
process with a bad schema does not start.

Not here: what the fields mean (`schemas.fields`), and the archive's copies of the texts (the archive sink writes them).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from schemas.encoder import Encoder, encoder
from schemas.evolution.released import full_name, load
from schemas.fields import Node, Redact, field_tree, lint, subject_problems
from sealtrail.avro import Codec
from sealtrail.errors import ConfigError, ContractError, EvidenceError
from sealtrail.seal import SEAL_NOTE
from sealtrail.session import RUN_SESSION

AUDIT_EVENT = Codec((resources.files("schemas") / "audit_event.avsc").read_text("utf-8"))

# Who reads only whose event it is reads these and stops; so they come first in every version of the event.
_HEAD = [("event_id", "fixed", 16), ("event_name", "string", 0), ("tenant", "string", 0)]


class Registry:
    """Codecs by what names them in a record, in a content and in an event.

    Args:
        events: event schemas, the current one first, older ones after it from the newest; each is linted, and its first
            three fields are event_id, event_name and tenant; what is tokenised comes after emitter, which numbers it.
        extensions: connectors' own records; each is linted.
        sealed: schemas of the evidence format that carry no person's data: extensions that need no classes.

    Attributes:
        by_header: 10-byte single-object header to event codec. Texts that differ only in docs, classes or patterns share
            a header, for Avro's fingerprint does not see those: the first given stands for it (ADR 12).
        by_digest: SHA-256 of the schema's text to codec: events, extensions and notes.
        events: the same, events alone.
        extensions: the same, extensions alone.

    Raises:
        ConfigError: names a schema that the rules refuse.
    """

    def __init__(self, events: Iterable[Codec], extensions: Iterable[Codec], sealed: Iterable[Codec] = ()) -> None:
        self.by_header: dict[bytes, Codec] = {}
        self.events: dict[bytes, Codec] = {}
        self._current: tuple[bytes, Node] | None = None  # header and tree
        self.extensions: dict[bytes, Codec] = {}
        self.unclassified: frozenset[bytes] = frozenset(codec.sha256 for codec in sealed)
        for codec in events:
            _lint(codec)
            tree = field_tree(codec.text)
            _subjects(codec, tree, tree)
            if [(name, node.kind, node.size) for name, node in tree.fields[:3]] != _HEAD:
                raise ConfigError(f"schema {codec.sha256.hex()[:16]}: does not begin with event_id, event_name, tenant")
            if early := _before_emitter(tree):
                raise ConfigError(f"schema {codec.sha256.hex()[:16]}: {early}: tokenised, and not after emitter")
            self._current = self._current or (codec.header, tree)
            self.by_header.setdefault(codec.header, codec)
            self.events.setdefault(codec.sha256, codec)
        for codec in extensions:
            _lint(codec)
            if self._current is not None:
                _subjects(codec, field_tree(codec.text), self._current[1])
            self.extensions[codec.sha256] = codec
        self.extensions.update({codec.sha256: codec for codec in sealed})
        self.by_digest: dict[bytes, Codec] = {
            **self.events,
            **self.extensions,
            SEAL_NOTE.sha256: SEAL_NOTE,
        }
        self._encoders: dict[bytes, Encoder] = {}
        self._last: tuple[bytes, bytes, dict[str, Any]] | None = None

    def as_current(self, event: dict[str, Any], written_with: Codec) -> dict[str, Any]:
        """An event of any version with every field that the current one has: what an older lacks has its default.

        The given is not changed; one that lacks nothing is returned as it is. Any thread may call.
        """
        if self._current is None or written_with.header == self._current[0]:
            return event
        return _completed(self._current[1], event)

    def extension_value(self, schema: bytes, payload: bytes) -> dict[str, Any]:
        """The value of an extension's payload, whose bytes are its one canonical encoding; not to be changed by the caller.

        The last one is remembered: the contract and the redaction check both ask for it. Any thread may call.

        Raises:
            ContractError: the schema is not registered, or the payload is not its canonical encoding.
        """
        if type(payload) is not bytes:  # one that can change could be remembered for what it is not
            raise ContractError("extension.payload", "not bytes")
        last = self._last
        if last is not None and last[0] == schema and last[1] == payload:
            return last[2]
        codec = self.extensions.get(schema)
        if codec is None:
            raise ContractError("extension.schema", "not a registered extension")
        try:
            value: dict[str, Any] = codec.decode_body_lenient(payload)
            canonical = self._encoder(codec)(value) == payload
        except (EvidenceError, ValueError, OverflowError):  # the latter two: read, yet outside its type
            canonical = False
        if not canonical:
            raise ContractError("extension.payload", "not the canonical encoding of the extension's schema") from None
        self._last = (schema, payload, value)
        return value

    def extension_payload(self, schema: bytes, value: dict[str, Any]) -> bytes:
        """The payload of an extension whose value its contract admits."""
        return self._encoder(self.extensions[schema])(value)

    def _encoder(self, codec: Codec) -> Encoder:
        found = self._encoders.get(codec.sha256)
        if found is None:
            found = self._encoders[codec.sha256] = encoder(codec.text)
        return found


@cache
def packaged_registry() -> Registry:
    """The registry of what ships: the event, `schemas/extensions/*.avsc`, all of their released versions, and the runs'
    session for `emitter.open`."""
    folder = resources.files("schemas") / "extensions"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".avsc")), key=lambda f: f.name)
    released = {name: [Codec(text) for text in reversed(texts)] for name, texts in load().items()}
    events = released.pop(full_name(AUDIT_EVENT.text), [])
    older = [codec for versions in released.values() for codec in versions]
    return Registry([AUDIT_EVENT, *events], [*(Codec(f.read_text("utf-8")) for f in files), *older], [RUN_SESSION])


def _completed(node: Node, value: dict[str, Any]) -> dict[str, Any]:
    """The record with what it lacks; itself if that is nothing."""
    changed: dict[str, Any] = {}
    for name, below in node.fields:
        if name not in value:
            changed[name] = below.default if below.kind != "array" or below.nullable else []
            continue
        old = value[name]
        new = old
        if below.kind == "record" and old is not None:
            new = _completed(below, old)
        elif below.items is not None and below.items.kind == "record" and old:
            new = [_completed(below.items, item) for item in old]
        if new is not old and new != old:
            changed[name] = new
    return {**value, **changed} if changed else value


def _before_emitter(tree: Node) -> str:
    """The path of a tokenised leaf that comes before the number that its ciphertext is made with, or ""."""
    for name, node in tree.fields:
        if name == "emitter":
            break
        for leaf in Node("", "record", fields=((name, node),)).leaves():
            if leaf.marks is not None and leaf.marks.redact is Redact.TOKENIZE:
                return leaf.path
    return ""


def _lint(codec: Codec) -> None:
    try:
        lint(codec.text)
    except ContractError as error:
        raise _refused(codec, error) from error


def _subjects(codec: Codec, tree: Node, event: Node) -> None:
    for error in subject_problems(tree, event):
        raise _refused(codec, error) from error


def _refused(codec: Codec, error: ContractError) -> ConfigError:
    return ConfigError(f"schema {codec.sha256.hex()[:16]}: {error}")
