"""`sealtrail export --tiles DIR`: every chain as a C2SP tlog-tiles log that any tool for the format can check.

A folder a chain, named as the chain: `checkpoint`, `tile/…`, `log.vkey`. Seals alone: no content, so no reading that a policy
would have to allow. Nothing is verified here but what the format needs; `sealtrail verify` does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from auditor.archive import ArchiveReader
from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from auditor.looking import archived_keyring
from auditor.trust import root_of
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, parse_segment_key
from sealtrail.merkle import Frontier
from sealtrail.note import ED25519, NoteKey
from sealtrail.seal import leaf_hash
from sealtrail.segment import Segment, decode_segment
from sealtrail.source import Source, StoredObject
from sealtrail.sworn import genuine_checkpoint
from sealtrail.tiles import Tiler


def export(
    tiles: Annotated[Path, typer.Option("--tiles", help="An empty or new folder.")],
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Export each chain's tree as C2SP tlog-tiles, for checkers that are not ours."""
    with explained():
        settings = settings_of(config, "reader")
        source = ArchiveReader(settings)
        logs = export_tiles(source, archived_keyring(source, root_of(settings)), tiles, chain)
    for name, size in logs.items():
        say(f"{name}: {size:,} entries in {tiles / name}")
    if as_json:
        print(json.dumps(logs, indent=1))


def export_tiles(source: Source, keyring: Keyring, folder: Path, prefix: str = "") -> dict[str, int]:
    """Write a log for each chain; their sizes by chain.

    Raises:
        ConfigError: the folder holds something, or there is no chain of that name.
        EvidenceError: a segment is missing or damaged, or the tree is not the one that the last checkpoint states.
        UndecidedError: the store did not answer.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty")
    stored = [o for o in source.list(CHAINS + prefix) if not o.is_marker]
    logs = {
        chain: _export_chain(_segments(source, list(objects)), keyring, folder / chain)
        for chain, objects in groupby(stored, key=lambda o: parse_segment_key(o.key)[0])
    }
    if not logs:
        raise ConfigError(f"no chain's name begins with {prefix!r}")
    return logs


def _segments(source: Source, objects: list[StoredObject]) -> Iterator[Segment]:
    for stored in objects:
        yield decode_segment(source.read(stored.key, stored.version))


def _export_chain(segments: Iterator[Segment], keyring: Keyring, folder: Path) -> int:
    tiler, tree, last = Tiler(), Frontier(), None
    for segment in segments:
        if segment.first_seq != tree.size:
            raise EvidenceError(f"{segment.chain}: a segment begins at seq {segment.first_seq}; {tree.size} is next")
        for seal in segment.seals:
            tree.append(leaf_hash(seal))
            for path, data in tiler.add(seal):
                _write(folder / path, data)
        last = segment
    if last is None:
        raise EvidenceError("a chain without a segment")
    for path, data in tiler.rest():
        _write(folder / path, data)
    signed, certificate = genuine_checkpoint(last.checkpoint.encode(), keyring)
    if (signed.checkpoint.size, signed.checkpoint.root) != (tree.size, tree.root()):
        raise EvidenceError(f"{last.chain}: its seals are not the tree that its last checkpoint states")
    _write(folder / "log.vkey", f"{NoteKey(last.chain, ED25519, certificate.public).vkey}\n".encode())
    _write(folder / "checkpoint", last.checkpoint.encode())  # last: a log is complete when it is there
    return tree.size


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
