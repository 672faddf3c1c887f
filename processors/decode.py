"""Step 1: bytes to event, and the one encoding of it that may go on.

The received bytes go on as they are only if they are the canonical encoding of what the decoder
showed. Bytes that decode to the same event in another way (a key twice in a map, over-long varints,
false block sizes) are re-encoded, so that nothing the decoder did not show survives; bytes after
the last field are refused. The same holds inside `extension.payload`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from processors.records import Rejection
from schemas.registry import Registry
from sealtrail.avro import HEADER_SIZE, MARKER, Codec, NonCanonicalError, TrailingBytesError
from sealtrail.errors import EvidenceError
from sealtrail.seal import Reason

MAX_EVENT_SIZE = 1 << 20  # bytes of a raw record's value; design §5


@dataclass(frozen=True, slots=True)
class Decoded:
    """An event, the canonical bytes that will be its content, and the schema it was written with."""

    event: dict[str, Any]
    content: bytes
    codec: Codec


class Decode:
    """Callable: a raw value to `Decoded`; raises `Rejection`."""

    def __init__(self, registry: Registry) -> None:
        self._by_header = registry.by_header
        self._extensions = registry.extensions

    def schema_of(self, value: bytes) -> Codec:
        """The schema that a raw value was written with; raises `Rejection` without reading more than its header."""
        if len(value) > MAX_EVENT_SIZE:
            raise Rejection(Reason.TOO_LARGE, f"{len(value)} bytes; at most {MAX_EVENT_SIZE}")
        if not value.startswith(MARKER) or len(value) < HEADER_SIZE:
            raise Rejection(Reason.UNDECODABLE, "not Avro single-object encoding")
        codec = self._by_header.get(value[:HEADER_SIZE])
        if codec is None:
            raise Rejection(Reason.UNKNOWN_SCHEMA, f"fingerprint {value[2:HEADER_SIZE].hex()}")
        return codec

    def __call__(self, value: bytes) -> Decoded:
        codec = self.schema_of(value)
        try:
            event = codec.decode_lenient(value)
            self._canonical_payload(event)
            content = codec.encode(event)
        except EvidenceError as error:
            raise Rejection(Reason.UNDECODABLE, str(error)) from error
        except (ValueError, TypeError, OverflowError) as error:
            # fastavro reads numbers wider than their type; its writer, which is the oracle, does not take them
            raise Rejection(Reason.UNDECODABLE, f"a value outside its type ({type(error).__name__})") from error
        return Decoded(event, content, codec)

    def _canonical_payload(self, event: dict[str, Any]) -> None:
        """Give `extension.payload` its canonical bytes; an unregistered schema is the contract's to refuse."""
        extension = event.get("extension")
        codec = self._extensions.get(extension["schema"]) if extension else None
        if extension is None or codec is None:
            return
        try:
            codec.decode_body(extension["payload"])
        except TrailingBytesError:
            raise
        except NonCanonicalError:
            extension["payload"] = codec.encode_body(codec.decode_body_lenient(extension["payload"]))
