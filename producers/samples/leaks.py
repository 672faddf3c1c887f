"""Where a mark of `planting` stands in an event that is about to leave: in clear, or in a form that anybody can undo. Pure.

Looked for, in every text and bytes of the event and of its extension: the mark in small and capital letters, backwards, in
UTF-16, percent-encoded, in hexadecimal, in base64 at each of its three alignments, and as an unkeyed digest (MD5, SHA-1,
SHA-256, SHA-512; raw, hexadecimal, base64), which whoever guesses the value can check. A keyed digest
and a mask give nothing away.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from producers.samples.planting import PREFIX, Planted
from schemas.registry import Registry

_DIGESTS = ("md5", "sha1", "sha256", "sha512")


@dataclass(frozen=True, slots=True)
class Leak:
    """A mark that comes out. field: of the event; form: how; place: in the payload, where it is known."""

    field: str
    form: str
    place: str | None


def leaks(event: Mapping[str, object], planted: Sequence[Planted], registry: Registry) -> tuple[Leak, ...]:
    """The leaks of an event as its receiver decodes it; one a field and place."""
    leaves = list(_leaves(event, registry))
    everything = b"\n".join(data for _, data in leaves)
    low = everything.lower()
    signs = [_Sign(place, form, sign) for one in planted for place in [one.place] for form, sign in _signs(one)]
    signs += [_Sign(None, form, sign) for form, sign in _marks(PREFIX)]
    suspects = [sign for sign in signs if sign.within(everything, low)]
    found: dict[tuple[str, str | None], Leak] = {}
    for field, data in leaves:
        told = False
        for suspect in suspects:
            if (suspect.place is not None or not told) and suspect.within(data, data.lower()):
                told = True  # the beginning of a mark says nothing where the whole of one was found
                found.setdefault((field, suspect.place), Leak(field, suspect.form, suspect.place))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Sign:
    """Bytes that give a mark away, and in which form."""

    place: str | None
    form: str
    sign: bytes

    def within(self, data: bytes, low: bytes) -> bool:
        """low: the same in small letters."""
        return self.sign in (low if self.form in _FOLDED else data)


def _leaves(event: Mapping[str, object], registry: Registry) -> Iterator[tuple[str, bytes]]:
    """(field, its bytes) of every text and bytes; the extension's own in place of its payload."""
    for field, value in _walked(event, ""):
        if field != "extension.payload" and field != "extension.schema":
            yield field, value
    extension = event.get("extension")
    if isinstance(extension, Mapping):
        yield from _walked(registry.extension_value(extension["schema"], extension["payload"]), "extension.payload")


def _walked(node: object, path: str) -> Iterator[tuple[str, bytes]]:
    if isinstance(node, Mapping):
        for name, below in node.items():
            yield from _walked(below, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        for below in node:
            yield from _walked(below, f"{path}[]")
    elif isinstance(node, str):
        yield path, node.encode()
    elif isinstance(node, bytes):
        yield path, node


_FOLDED = frozenset({"in clear", "backwards", "in UTF-16", "percent-encoded", "in hexadecimal"})  # whatever the case


def _signs(planted: Planted) -> Iterator[tuple[str, bytes]]:
    for needle in planted.needles:
        yield from _marks(needle)
    for text in {planted.value, *planted.needles}:
        yield from _digests(text)


def _marks(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    yield "in clear", raw
    yield "backwards", raw[::-1]
    yield "in UTF-16", text.encode("utf-16-le")[:-1]  # within the bytes of either order
    yield "percent-encoded", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "in hexadecimal", raw.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6  # characters that its neighbours do not touch
        yield "in base64", encoded[first:last]


def _digests(text: str) -> Iterator[tuple[str, bytes]]:
    for name in _DIGESTS:
        digest = hashlib.new(name, text.encode(), usedforsecurity=False)
        yield f"as its {name}", digest.digest()
        yield f"as its {name}", digest.hexdigest().encode()
        yield f"as its {name}", digest.hexdigest().upper().encode()
        yield f"as its {name}", base64.b64encode(digest.digest()).rstrip(b"=")
        yield f"as its {name}", base64.urlsafe_b64encode(digest.digest()).rstrip(b"=")
