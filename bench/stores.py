"""What a sealed record weighs in the archive in S3 and in hot search. Part of `bench.scaling`.

Events are sealed, archived and indexed by the real sinks on real servers, and what came of them is weighed: objects of segments
and of contents, and the index after a forced merge. Segments are cut as in production (30 s of record time), once with all
seals of a flood in each; segments of a trickle are smaller, and dearer.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

from auditor.archive import ArchiveReader
from bench.ground import Deployment, Ground
from schemas.search_names import alias
from sealtrail.layout import CHAINS, parse_segment_key
from sealtrail.seal import decode_seal
from sealtrail.segment import decode_segment
from sealtrail.source import StoredObject
from sinks.archive.assembly import publish_documents
from sinks.search.assembly import search_client

T = TypeVar("T")

PARTITIONS = 4
HEARTBEAT_S = 2.0  # moves record time on after the flood, so that the last segments are cut soon
STORED_S = 600.0


def weigh(ground: Ground, asked: Namespace) -> dict[str, float]:
    """Bytes a record and objects, by store."""
    with ground.deployment(PARTITIONS) as deployment:
        publish_documents(deployment.settings("publisher"))
        with deployment.sealer(heartbeat_s=HEARTBEAT_S):
            deployment.fill(asked.stored)
            deployment.await_sealed()
            with deployment.run("sink-archive", accept_weak_store=True), deployment.run("sink-search"):
                segments = _archived(deployment)
                indexed, size = _indexed(deployment, asked.stored)
        reader = ArchiveReader(deployment.settings("reader"))
        contents = [
            reference for stored in segments for reference in decode_segment(reader.read(stored.key, stored.version)).contents
        ]
    return {
        "segments": len(segments),
        "segment_bytes": sum(stored.size for stored in segments) / asked.stored,
        "contents": len(contents),
        "content_bytes": sum(reference.size for reference in contents) / asked.stored,
        "documents": indexed,
        "document_bytes": size / indexed,
    }


def _archived(deployment: Deployment) -> list[StoredObject]:
    """All segments, once they account for every raw record."""
    reader = ArchiveReader(deployment.settings("reader"))
    authority = deployment.settings("reader").authority
    raw = dict(enumerate(deployment.raw_ends()))

    def segments() -> list[StoredObject] | None:
        last: dict[int, StoredObject] = {}
        found = list(reader.list(f"{CHAINS}{authority}/{deployment.name}/"))
        for stored in found:
            chain, _ = parse_segment_key(stored.key)
            last[int(chain.rpartition("/")[2])] = stored
        for partition, end in raw.items():
            if partition not in last:
                return None
            segment = decode_segment(reader.read(last[partition].key, last[partition].version))
            if decode_seal(segment.seals[-1]).next_offset < end:
                return None
        return found

    return _awaited(segments, "not everything was archived")


def _indexed(deployment: Deployment, events: int) -> tuple[int, int]:
    """Documents and their bytes on disk, once there are as many as events."""
    settings = deployment.settings("sink-search")
    client, name = search_client(settings, 120.0), alias(settings.topic_prefix)

    def documents() -> int | None:
        client.indices.refresh(index=name, ignore_unavailable=True)
        found = int(client.count(index=name, ignore_unavailable=True)["count"])
        return found if found >= events else None

    count = _awaited(documents, "not everything was indexed")
    client.indices.forcemerge(index=name, max_num_segments=1)
    return count, int(client.indices.stats(index=name, metric="store")["_all"]["primaries"]["store"]["size_in_bytes"])


def _awaited(found: Callable[[], T | None], problem: str) -> T:
    deadline = time.monotonic() + STORED_S
    while True:
        result = found()
        if result is not None:
            return result
        if time.monotonic() > deadline:
            raise SystemExit(f"{problem} within {STORED_S:.0f} s")
        time.sleep(1.0)
