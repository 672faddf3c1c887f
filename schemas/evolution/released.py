"""Released versions of the contract's schemas, kept as files: archives hold events of every one of them for years.

    schemas/released/<full name>/<n>.avsc     version n of a record, from 1, without holes; never changed
    schemas/released/SHA256SUMS               one line a file, as sha256sum reads them
    schemas/released/weakened.toml            what was weakened on purpose, by whom and why

Not here: whether the current texts keep faith with them (`schemas.evolution.check`).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from sealtrail.errors import ConfigError, ContractError

EVENT = "io.sealtrail.v1.AuditEvent"
SUMS, WEAKENED = "SHA256SUMS", "weakened.toml"
_FILE = re.compile(r"([1-9][0-9]{0,5})\.avsc")
_KEYS = frozenset({"schema", "version", "path", "what", "reason", "approver"})

Versions = Mapping[str, tuple[str, ...]]  # full name to the texts of versions 1, 2 …


@dataclass(frozen=True, slots=True)
class Weakening:
    """A weaker protection that somebody answers for: in this version, at this path, this change (`Change.what`)."""

    schema: str
    version: int
    path: str
    what: str


def full_name(text: str) -> str:
    """Namespace and name of a schema's record. Raises ContractError if the text has none."""
    try:
        document = json.loads(text)
        return f"{document['namespace']}.{document['name']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ContractError("", "no record with a namespace and a name") from None


def folder() -> Traversable:
    """Where the released versions are that ship with this package."""
    return resources.files("schemas") / "released"


def load(where: Traversable | Path | None = None) -> Versions:
    """All released versions.

    Raises:
        ConfigError: a version is missing, is not what SHA256SUMS says, or is of another record than its folder.
    """
    place = folder() if where is None else where
    sums = _sums(place / SUMS)
    found: dict[str, dict[int, str]] = {}
    for record in sorted((f for f in place.iterdir() if f.is_dir()), key=lambda f: f.name):
        for file in record.iterdir():
            name = f"{record.name}/{file.name}"
            matched = _FILE.fullmatch(file.name)
            if matched is None:
                raise ConfigError(f"released schemas: {name} is no <n>.avsc")
            data = file.read_bytes()
            if sums.pop(name, None) != hashlib.sha256(data).hexdigest():
                raise ConfigError(
                    f"released schemas: {name} is not the text that {SUMS} names; a released version never changes"
                )
            text = data.decode("utf-8")
            if full_name(text) != record.name:
                raise ConfigError(f"released schemas: {name} is of another record")
            found.setdefault(record.name, {})[int(matched[1])] = text
    if sums:
        raise ConfigError(f"released schemas: {min(sums)} is in {SUMS} and not there")
    for record_name, versions in found.items():
        if sorted(versions) != list(range(1, len(versions) + 1)):
            raise ConfigError(f"released schemas: the versions of {record_name} are not 1, 2 … without holes")
    return {name: tuple(text for _, text in sorted(versions.items())) for name, versions in found.items()}


def current(where: Traversable | Path | None = None) -> dict[str, str]:
    """What is written now, by full name: the event, and every connector's extension."""
    place = resources.files("schemas") if where is None else where
    files = [place / "audit_event.avsc", *(f for f in (place / "extensions").iterdir() if f.name.endswith(".avsc"))]
    texts = [file.read_bytes().decode("utf-8") for file in files]
    return {full_name(text): text for text in sorted(texts, key=full_name)}


def weakened(where: Traversable | Path | None = None) -> frozenset[Weakening]:
    """What weakened.toml says. Raises ConfigError: a key is unknown, missing or empty."""
    place = (folder() if where is None else where) / WEAKENED
    try:
        tables = tomllib.loads(place.read_text("utf-8")).get("weakened", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{WEAKENED}: {error}") from None
    for table in tables:
        if set(table) != _KEYS or not all(table.values()):
            raise ConfigError(f"{WEAKENED}: each [[weakened]] has {', '.join(sorted(_KEYS))}, none of them empty")
    return frozenset(Weakening(t["schema"], t["version"], t["path"], t["what"]) for t in tables)


def _sums(file: Traversable | Path) -> dict[str, str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"released schemas: no {SUMS} ({type(error).__name__})") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
