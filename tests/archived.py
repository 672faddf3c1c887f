"""One invariant for every test of the archive: what the topic holds is in the bucket once, chained, locked, readable.

Written against the auditor's reader and the evidence format alone, so that it shares no code with the sink.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.archive import ArchiveReader
from keystore import Keystore, load_keyring, load_root
from schemas.settings import Settings
from sealtrail.certificate import Role
from sealtrail.checkpoint import verify_checkpoint
from sealtrail.keyring import Keyring
from sealtrail.layout import parse_segment_key, segments_prefix
from sealtrail.merkle import Frontier
from sealtrail.seal import Content, SealedEvent, decode_seal, decode_sealed_event, leaf_hash
from sealtrail.segment import Segment, decode_frames, decode_segment, open_frame, verify_statement


@dataclass(frozen=True, slots=True)
class Archived:
    """What was found of one chain: its segments in order, and contents objects that no segment names."""

    segments: tuple[Segment, ...]
    orphans: tuple[str, ...]

    @property
    def next_seq(self) -> int:
        """The seq after the last archived one."""
        return self.segments[-1].next_seq if self.segments else 0


def archived_seq(reader: ArchiveReader, chain: str) -> int:
    """How many seals the bucket holds of a chain; only looks at the last segment."""
    last = None
    for stored in reader.list(segments_prefix(chain)):
        last = stored
    return decode_segment(reader.read(last.key, last.version)).next_seq if last else 0


def check_archived(settings: Settings, chain: str, values: Sequence[bytes]) -> Archived:
    """Check everything archived of `chain` against the records that its topic holds, from seq 0.

    Args:
        settings: of a role that may read the bucket and holds the tenants' data keys.
        values: all records; the archive may end before the last of them.
    """
    reader = ArchiveReader(settings)
    assert settings.certificates
    assert settings.root_vkey
    keyring = load_keyring(settings.certificates, load_root(settings.root_vkey))
    events = [decode_sealed_event(value) for value in values]
    archive = keyring.of_role(Role.ARCHIVE)[0].public
    listed = list(reader.list(segments_prefix(chain)))
    assert len({stored.key for stored in listed}) == len(listed), "a segment has two versions"
    frontier, previous, segments = Frontier(), bytes(32), []
    for stored in listed:
        assert not stored.is_marker
        data = reader.read(stored.key, stored.version)
        segment = decode_segment(data)
        assert parse_segment_key(stored.key) == (chain, frontier.size) == (segment.chain, segment.first_seq)
        assert segment.frontier == frontier.hashes
        verify_statement(segment, previous, archive)
        _check_seals(segment, events, frontier, keyring)
        signed = verify_checkpoint(segment.checkpoint.encode(), archive)
        assert (signed.checkpoint.size, signed.checkpoint.root) == (frontier.size, frontier.root())
        lock = reader.lock(stored.key, stored.version)
        seals = [decode_seal(seal) for seal in segment.seals]
        assert lock
        assert lock.mode == "COMPLIANCE"
        assert lock.until_ms >= max(s.retain_until_ms for s in seals)
        _check_contents(segment, events, reader, settings)
        previous = hashlib.sha256(data).digest()
        segments.append(segment)
    named = {(r.name, r.version) for segment in segments for r in segment.contents}
    found = [s for s in reader.list("contents/") if chain in s.key]
    assert named <= {(s.key, s.version) for s in found}
    return Archived(tuple(segments), tuple(s.key for s in found if (s.key, s.version) not in named))


def _check_seals(segment: Segment, events: Sequence[SealedEvent], frontier: Frontier, keyring: Keyring) -> None:
    expected = events[segment.first_seq : segment.next_seq]
    assert segment.seals == tuple(event.seal for event in expected)
    assert segment.signatures == tuple(
        (segment.first_seq + n, e.signature) for n, e in enumerate(expected) if e.signature is not None
    )
    assert all(keyring.find(signature.key_id, Role.SEALER) for _, signature in segment.signatures)
    for seal in segment.seals:
        frontier.append(leaf_hash(seal))


def _check_contents(segment: Segment, events: Sequence[SealedEvent], reader: ArchiveReader, settings: Settings) -> None:
    keystore = Keystore.open(settings.keys)
    rows: dict[int, Content] = {}
    for reference in segment.contents:
        data = reader.read(reference.name, reference.version)
        assert (hashlib.sha256(data).digest(), len(data)) == (reference.sha256, reference.size)
        lock = reader.lock(reference.name, reference.version)
        assert lock is not None
        assert lock.mode
        found: list[tuple[int, Content]] = []
        for frame in decode_frames(data):
            assert (frame.chain, frame.first_seq) == (segment.chain, segment.first_seq)
            found += open_frame(frame, keystore.opener(f"tenant-data-{frame.tenant}").open)
        assert len(found) == reference.rows
        for seq, content in found:
            seal = decode_seal(events[seq].seal)
            assert lock.until_ms >= seal.retain_until_ms
            assert seal.log_class.lower() == reference.name.split("/")[1]
            assert seq not in rows, "archived twice"
            rows[seq] = content
    assert rows == {seq: events[seq].content for seq in range(segment.first_seq, segment.next_seq)}
