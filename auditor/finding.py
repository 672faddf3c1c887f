"""Finding one record in the archive by its event id, and what can be shown of it alone.

The contents are encrypted and carry no index, so this reads segments one after the other until the
event turns up; who knows its chain and seq, from hot search, is spared that. What is checked is checked
here and now: nothing is taken from an earlier report, and nothing of what hot search says.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sealtrail.contents import Openers
from sealtrail.documents import Documents
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS, parse_segment_key, segments_prefix
from sealtrail.merkle import Frontier
from sealtrail.seal import Content, Seal, SealedEvent, decode_seal, leaf_hash
from sealtrail.segment import Reference, Segment, decode_frames, decode_segment, open_frame
from sealtrail.signatures import check_signatures
from sealtrail.source import Lock, Source, StoredObject
from sealtrail.sworn import sworn


@dataclass(frozen=True, slots=True)
class Found:
    """A record, where it lies, and each check with its outcome: "" for passed, else what is wrong.

    `holder` is the segment itself, `sealed` the record as it left the sealer.
    """

    seal: Seal
    leaf: bytes
    sealed: SealedEvent
    holder: Segment
    event: dict[str, Any]
    tenant: str
    segment: StoredObject
    reference: Reference
    lock: Lock | None
    checks: dict[str, str]


def find_event(
    source: Source,
    event_id: bytes,
    keyring: Keyring,
    openers: Openers,
    prefix: str = "",
    place: tuple[str, int] | None = None,
) -> Found | None:
    """The first record with this event id, or None if no readable content has it.

    Args:
        place: chain and seq where it may be; looked at first.

    Raises:
        UndecidedError: the store did not answer, a schema is not in the archive, or it was not found and a segment on the
            way cannot be read.
    """
    documents = Documents(source)
    unreadable: list[str] = []
    if place is not None:
        likely = segment_with(source, *place)
        with suppress(EvidenceError):
            found = None if likely is None else _in_segment(source, likely, event_id, keyring, openers, documents)
            if found is not None:
                return found
    for stored in source.list(CHAINS + prefix):
        if stored.is_marker:
            continue
        try:
            found = _in_segment(source, stored, event_id, keyring, openers, documents)
        except EvidenceError as error:  # damage elsewhere does not hide this record; `verify` speaks of it
            unreadable.append(f"{stored.key}: {error}")
            continue
        if found is not None:
            return found
    if unreadable:
        raise UndecidedError(f"not found, but {len(unreadable)} segments cannot be read, first {unreadable[0]}")
    return None


def segment_with(source: Source, chain: str, seq: int) -> StoredObject | None:
    """The last segment of a chain that begins at or before a seq."""
    found = None
    for stored in source.list(segments_prefix(chain)):
        if not stored.is_marker and parse_segment_key(stored.key)[1] <= seq:
            found = stored
    return found


def _in_segment(
    source: Source, stored: StoredObject, event_id: bytes, keyring: Keyring, openers: Openers, documents: Documents
) -> Found | None:
    segment = decode_segment(source.read(stored.key, stored.version))
    for reference in segment.contents:
        for frame in decode_frames(source.read(reference.name, reference.version)):
            opener = openers.get(frame.key_id)
            if opener is None or frame.log_class == "none":
                continue
            for seq, content in open_frame(frame, opener):
                if content.event_id == event_id:
                    event = documents.codec(content.content_schema).decode(content.content)
                    return _show(source, stored, segment, reference, frame.tenant, seq, content, event, keyring)
    return None


def _show(
    source: Source,
    stored: StoredObject,
    segment: Segment,
    reference: Reference,
    tenant: str,
    seq: int,
    content: Content,
    event: dict[str, Any],
    keyring: Keyring,
) -> Found:
    data = segment.seals[seq - segment.first_seq]
    seal, leaf = decode_seal(data), leaf_hash(data)
    checks = {
        "content digest": "" if content.digest() == seal.content_digest else "the content is not what the seal states",
        "attested by the sealer": _attested(segment, seq, keyring),
        "in the tree of the checkpoint": _in_tree(segment, keyring),
    }
    lock = source.lock(reference.name, reference.version)
    sealed = SealedEvent(data, content, dict(segment.signatures).get(seq))
    return Found(seal, leaf, sealed, segment, event, tenant, stored, reference, lock, checks)


def _attested(segment: Segment, seq: int, keyring: Keyring) -> str:
    """From the seal on, through `prev`, to the first signature that vouches for it."""
    seals = [decode_seal(data) for data in segment.seals]
    leaves = [leaf_hash(data) for data in segment.seals]
    valid, problems = check_signatures(list(enumerate(seals)), leaves, segment.signatures, keyring)
    for index in range(seq - segment.first_seq, len(seals)):
        if index > seq - segment.first_seq and seals[index].prev != leaves[index - 1]:
            return f"the seal at {segment.first_seq + index} does not name its predecessor"
        if index in valid:
            return ""
    return "; ".join(detail for _, _, detail in problems) or "no signature at or after it in its segment"


def _in_tree(segment: Segment, keyring: Keyring) -> str:
    try:
        tree = Frontier(segment.first_seq, segment.frontier)
    except EvidenceError as error:
        return str(error)
    for data in segment.seals:
        tree.append(leaf_hash(data))
    said = sworn(segment, keyring)
    if said.checkpoint is None:
        return "; ".join(problem.detail for problem in said.problems)
    stated = said.checkpoint.checkpoint
    return "" if (stated.size, stated.root) == (tree.size, tree.root()) else "the checkpoint states another root"
