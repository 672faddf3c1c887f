"""Both forms of the locator side by side: whatever the bytes, they locate the same, or both nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

from processors.native import Kernel
from schemas.locator import Hole, Located, Locator
from schemas.program import program
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import suspicious
from sealtrail.avro import Codec


class Both:
    """Callable: an event's bytes to what both forms locate, the Python form's key in it."""

    def __init__(
        self, kernel: Kernel, registry: Registry, region: str, asked: Iterable[str] = (), event: Codec = AUDIT_EVENT
    ) -> None:
        asked = tuple(asked)
        self.python = Locator(registry, region, asked, event)
        made = program(registry, region, asked, event)
        self.native = kernel.Locator(made.header, made.most, made.region, made.open, made.system, made.none, made.operations)
        self._keys: dict[bytes, tuple[object, ...]] = {}
        assert len(astuple(made)) == 7

    def __call__(self, data: bytes) -> Located | None:
        wanted, found = self.python(data), self.native.locate(data)
        if found is None or suspicious(data):  # the scan is its caller's
            assert wanted is None, "the kernel is slow where the Python form is not"
            return None
        assert wanted is not None, "the kernel lets through what the Python form does not"
        *fields, key, holes = found
        assert isinstance(key, bytes) and isinstance(holes, list)
        assert (*fields, [Hole._make(hole) for hole in holes]) == (*wanted[:-2], wanted.holes)
        assert [type(field) for field in fields] == [type(field) for field in wanted[:-2]]
        assert self._keys.setdefault(key, wanted.key) == wanted.key, "equal keys in the kernel, and not in the Python form"
        return wanted
