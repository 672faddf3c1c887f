"""Every schema that a content may be written with, known by its text.

The event schema and the extensions ship with this package; the seals' notes and the runs' statement come from
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
from schemas.fields import field_tree, lint
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
        events: event schemas; each is linted, and its first three fields are event_id, event_name and tenant.
        extensions: connectors' own records; each is linted.
        sealed: schemas of the evidence format that carry no person's data: extensions that need no classes.

    Attributes:
        by_header: 10-byte single-object header to event codec.
        by_digest: SHA-256 of the schema's text to codec: events, extensions and notes.
        extensions: the same, extensions alone.

    Raises:
        ConfigError: names a schema that the rules refuse, or two event schemas with one fingerprint.
    """

    def __init__(self, events: Iterable[Codec], extensions: Iterable[Codec], sealed: Iterable[Codec] = ()) -> None:
        self.by_header: dict[bytes, Codec] = {}
        self.extensions: dict[bytes, Codec] = {}
        self.unclassified: frozenset[bytes] = frozenset(codec.sha256 for codec in sealed)
        for codec in events:
            _lint(codec)
            if [(name, node.kind, node.size) for name, node in field_tree(codec.text).fields[:3]] != _HEAD:
                raise ConfigError(f"schema {codec.sha256.hex()[:16]}: does not begin with event_id, event_name, tenant")
            if codec.header in self.by_header:
                raise ConfigError(f"two event schemas with fingerprint {codec.fingerprint.hex()}")
            self.by_header[codec.header] = codec
        for codec in extensions:
            _lint(codec)
            self.extensions[codec.sha256] = codec
        self.extensions.update({codec.sha256: codec for codec in sealed})
        self.by_digest: dict[bytes, Codec] = {
            **{codec.sha256: codec for codec in self.by_header.values()},
            **self.extensions,
            SEAL_NOTE.sha256: SEAL_NOTE,
        }
        self._encoders: dict[bytes, Encoder] = {}
        self._last: tuple[bytes, bytes, dict[str, Any]] | None = None

    def extension_value(self, schema: bytes, payload: bytes) -> dict[str, Any]:
        """The value of an extension's payload, whose bytes are its one canonical encoding; not to be changed by the caller.

        The last one is remembered: the contract and the redaction check both ask for it. Any thread may call.

        Raises:
            ContractError: the schema is not registered, or the payload is not its canonical encoding.
        """
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
        """The payload of an extension whose value its contract admits; `extension_value` gives the value again for nothing."""
        payload = self._encoder(self.extensions[schema])(value)
        self._last = (schema, payload, value)
        return payload

    def _encoder(self, codec: Codec) -> Encoder:
        found = self._encoders.get(codec.sha256)
        if found is None:
            found = self._encoders[codec.sha256] = encoder(codec.text)
        return found


@cache
def packaged_registry() -> Registry:
    """The registry of what ships: the event, `schemas/extensions/*.avsc`, and the runs' session for `emitter.open`."""
    folder = resources.files("schemas") / "extensions"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".avsc")), key=lambda f: f.name)
    return Registry([AUDIT_EVENT], [Codec(f.read_text("utf-8")) for f in files], [RUN_SESSION])


def _lint(codec: Codec) -> None:
    try:
        lint(codec.text)
    except ContractError as error:
        raise ConfigError(f"schema {codec.sha256.hex()[:16]}: {error}") from error
