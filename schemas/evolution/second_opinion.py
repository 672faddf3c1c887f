"""What Apache Avro says of two versions of a schema, where it is installed (a development dependency).

Its checker knows resolution alone: nothing of classes, patterns, redaction or logical types.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from schemas.evolution.changes import Judgement


def is_there() -> bool:
    """Whether Apache Avro is installed."""
    return find_spec("avro") is not None


def breaks(old: str, new: str) -> Iterator[tuple[Judgement, str]]:
    """What breaks, in its words; nothing where it is not installed.

    Args:
        old, new: texts of the two versions.
    """
    if not is_there():
        return
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import parse

    before, after = parse(old), parse(new)
    for judgement, reader, writer in ((Judgement.READERS, before, after), (Judgement.WRITERS, after, before)):
        found = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)  # type: ignore[no-untyped-call]
        if found.compatibility is not SchemaCompatibilityType.compatible:
            yield judgement, ", ".join(sorted(str(kind.value) for kind in set(found.incompatibilities)))
