"""Strict Avro single-object codec over `fastavro`.

fastavro decodes, without complaint, bytes that no writer should have made: trailing bytes, a map
with a repeated key, over-long varints, false block sizes, a boolean of 7. Whoever forwards or
hashes received bytes forwards what hides in them, so `decode` accepts one encoding of each value
only: the one that `encode` gives. It does not resolve schemas: reader and writer are the same.

Logical types are dropped on loading: timestamps stay integers of the unit that their field names.

Bytes cannot make a decoder work longer than their length deserves, because a schema of which a value
could take no byte, or could nest without end, is refused: under such a one fastavro fills memory from
a ten-byte count, or overflows the C stack.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from sealtrail.errors import EvidenceError

MARKER = b"\xc3\x01"  # Avro 1.11, "Single object encoding"
HEADER_SIZE = 10  # marker and CRC-64-AVRO fingerprint, little-endian


class NonCanonicalError(EvidenceError):
    """The bytes decode, but are not the one encoding that the strict codec accepts."""


class TrailingBytesError(EvidenceError):
    """Bytes follow the last field."""


def without_logical_types(node: object) -> object:
    """A schema as parsed JSON, with every `logicalType` removed, at any depth."""
    if isinstance(node, dict):
        return {k: without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [without_logical_types(v) for v in node]
    return node


class Codec:
    """Encoder and decoder of one schema, known by its full text.

    Args:
        text: the `.avsc` file's exact content. Its SHA-256 (`sha256`) names the schema in the
            archive; its CRC-64-AVRO (`fingerprint`) heads every encoded value. The second is not
            unique over texts: Avro's canonical form drops docs, defaults and logical types.

    Raises:
        EvidenceError: the text is not an Avro schema, or one that is recursive or has values of no bytes.
    """

    __slots__ = ("_parsed", "fingerprint", "header", "sha256", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha256 = hashlib.sha256(text.encode()).digest()
        try:
            document = without_logical_types(json.loads(text))
            self._parsed: Any = fastavro.parse_schema(cast("dict[str, Any]", document), named_schemas={})
            canonical = to_parsing_canonical_form(cast("dict[str, Any]", document))
            _check_bounded(json.loads(canonical))
        except EvidenceError:
            raise
        except Exception as error:
            # fastavro raises many kinds on what is not a schema; all of them mean the same here.
            raise EvidenceError(f"not an Avro schema: {type(error).__name__}") from error
        self.fingerprint = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        self.header = MARKER + self.fingerprint

    def encode(self, value: Mapping[str, object]) -> bytes:
        """Single-object encoding of a value."""
        return self.header + self.encode_body(value)

    def encode_body(self, value: object) -> bytes:
        """Avro body alone. Raises ValueError or TypeError when the value does not fit the schema."""
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._parsed, cast("dict[str, Any]", value))
        return out.getvalue()

    def decode(self, data: bytes) -> dict[str, Any]:
        """The value of strict single-object bytes.

        Raises:
            EvidenceError: wrong header, truncated, trailing bytes, not canonical.
        """
        value = self.decode_lenient(data)
        self._check_canonical(value, data[HEADER_SIZE:])
        return value

    def decode_lenient(self, data: bytes) -> dict[str, Any]:
        """Like `decode`, but accepts other encodings of the same value; still no trailing bytes."""
        if data[:HEADER_SIZE] != self.header:
            raise EvidenceError(f"expected header {self.header.hex()}, got {data[:HEADER_SIZE].hex()}")
        return cast("dict[str, Any]", self._read(data, HEADER_SIZE))

    def decode_body(self, data: bytes) -> Any:
        """Strict decoding of a body without header."""
        value = self._read(data, 0)
        self._check_canonical(value, data)
        return value

    def decode_body_lenient(self, data: bytes) -> Any:
        """Like `decode_body`, but accepts other encodings of the same value; still no trailing bytes."""
        return self._read(data, 0)

    def _check_canonical(self, value: object, body: bytes) -> None:
        try:
            encoded = self.encode_body(value)
        except Exception as error:
            # A value that was read but cannot be written, e.g. of a union that another reading fits better.
            raise NonCanonicalError(f"its value cannot be encoded ({type(error).__name__})") from error
        if encoded != body:
            raise NonCanonicalError("not the canonical encoding of its value")

    def _read(self, data: bytes, start: int) -> object:
        source = io.BytesIO(data)
        source.seek(start)
        try:
            value = fastavro.schemaless_reader(source, self._parsed, None)
        except Exception as error:
            # fastavro raises a dozen kinds on hostile bytes (EOFError, IndexError, struct.error,
            # UnicodeDecodeError, OverflowError, MemoryError …); all of them mean the same here.
            raise EvidenceError(f"undecodable Avro ({type(error).__name__})") from error
        if source.tell() != len(data):
            raise TrailingBytesError(f"{len(data) - source.tell()} bytes after the last field")
        return value


def _check_bounded(node: object, within: frozenset[str] = frozenset()) -> None:
    """Refuse a canonical schema with recursion, or with values that take no byte outside a union.

    Args:
        within: full names of the types that this node is a part of.
    """
    if isinstance(node, list):
        for branch in node:
            if branch != "null":
                _check_bounded(branch, within)
        return
    if isinstance(node, str):
        if node in within:
            raise EvidenceError("a recursive schema")
        if node == "null":
            raise EvidenceError("a schema of which a value takes no byte")
        return  # a primitive, or a name that was checked where it was defined
    if not isinstance(node, dict):
        raise EvidenceError("not an Avro schema")
    match node["type"]:
        case "record" | "error":
            if not node["fields"]:
                raise EvidenceError("a schema of which a value takes no byte")
            for part in node["fields"]:
                _check_bounded(part["type"], within | {node["name"]})
        case "fixed":
            if node["size"] < 1:
                raise EvidenceError("a schema of which a value takes no byte")
        case "enum":
            pass
        case "array":
            _check_bounded(node["items"], within)
        case "map":
            _check_bounded(node["values"], within)
        case other:
            _check_bounded(other, within)


def packaged(name: str) -> str:
    """The exact text of one of this package's schemas, e.g. `seal`."""
    return (resources.files("sealtrail") / "avsc" / f"{name}.avsc").read_text("utf-8")


def write_container(records: Iterable[Mapping[str, object]], codec: Codec) -> bytes:
    """An Avro object container file: codec null, one record a block, deterministic.

    The header carries the schema's full text; the sync marker is SHA-256(text)[:16]. Written by
    hand, so that the bytes do not depend on how a library's version prints a schema.
    """
    sync = codec.sha256[:16]
    out = bytearray(_container_header(codec))
    for record in records:
        body = codec.encode_body(record)
        out += _long(1) + _long(len(body)) + body + sync
    return bytes(out)


def read_container(data: bytes, codec: Codec) -> list[dict[str, Any]]:
    """All records of a file that `write_container` made under the same schema.

    Raises:
        EvidenceError: any other bytes: another schema, a torn block, trailing bytes.
    """
    header = _container_header(codec)
    if not data.startswith(header):
        raise EvidenceError("not a container file of this schema")
    sync = codec.sha256[:16]
    records: list[dict[str, Any]] = []
    position = len(header)
    while position < len(data):
        count, position = _read_long(data, position)
        size, position = _read_long(data, position)
        end = position + size
        if count != 1 or size < 0 or data[end : end + 16] != sync:
            raise EvidenceError(f"torn or foreign block at byte {position}")
        records.append(codec.decode_body(data[position:end]))
        position = end + 16
    return records


def _container_header(codec: Codec) -> bytes:
    text = codec.text.encode()
    metadata = _long(2) + _bytes(b"avro.schema") + _bytes(text) + _bytes(b"avro.codec") + _bytes(b"null") + _long(0)
    return b"Obj\x01" + metadata + codec.sha256[:16]


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _long(value: int) -> bytes:
    """Avro's zigzag varint of a number that is not negative."""
    zigzag = value << 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _read_long(data: bytes, position: int) -> tuple[int, int]:
    """A varint that is not negative and not over-long, and the position after it."""
    start = position
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            number = value >> 1
            if value & 1 or _long(number) != data[start:position]:
                break
            return number, position
        shift += 7
    raise EvidenceError(f"bad length at byte {start}")
