"""What the stores hold after the kills, counted against what Kafka acknowledged to the emitters."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from auditor.archive import ArchiveReader
from auditor.commands.verify import verify_store
from auditor.trust import openers_of
from infra.demo.checks import Check, Checks
from infra.demo.path import Receivers, raw_end
from infra.demo.session import Session
from infra.demo.stores import collected, documents_of
from infra.demo.trail import Trail
from schemas.search_names import alias
from sealtrail.layout import CHAINS
from sealtrail.seal import Kind, Route, decode_seal
from sealtrail.segment import decode_frames, decode_segment, open_frame
from sinks.search.assembly import search_client


def tally(session: Session, receivers: Receivers, trail: Trail, acknowledged: list[bytes]) -> Checks:
    """Every claim about the stores."""
    checks = Checks()
    given = set(acknowledged)
    archived, indexed = _archived(session), _indexed(session)
    _acknowledged(checks, given, trail, archived, indexed)
    twice = {"archive": _twice(archived), "index": _twice(indexed)}
    checks.add(
        Check(
            "duplicates in archive and index: 0",
            not any(twice.values()) and len(archived) == len(indexed) == trail.kinds[Kind.EVENT],
            f"{twice}; {len(archived):,} events archived, {len(indexed):,} documents, {trail.kinds[Kind.EVENT]:,} seals",
        )
    )
    _verified(checks, session, trail)
    _siem(checks, receivers, trail)
    return checks


def _acknowledged(checks: Checks, given: set[bytes], trail: Trail, archived: Counter[bytes], indexed: Counter[bytes]) -> None:
    lost = {
        "sealed": len(given - trail.event_ids),
        "archived": len(given - archived.keys()),
        "indexed": len(given - indexed.keys()),
    }
    checks.add(
        Check(
            "acknowledged events lost: 0",
            bool(given) and not any(lost.values()),
            f"of {len(given):,} acknowledged are missing {lost}",
        )
    )


def _verified(checks: Checks, session: Session, trail: Trail) -> None:
    report = verify_store(session.settings("verifier"), session.chain_prefix, [], show_progress=False)
    seals, raw = sum(c.seals for c in report.chains), raw_end(session)
    checks.add(
        Check(
            "the archive verifies, every raw record in it once",
            report.good and report.verdicts["VALID"] == seals and raw == sum(c.raw_offsets for c in report.chains),
            f"{report.verdicts['VALID']:,} VALID of {seals:,} seals, {raw:,} raw records, {len(report.findings)} findings, "
            f"{report.orphans} orphaned contents",
        )
    )
    refused = {kind.value: count for kind, count in trail.kinds.items() if kind in (Kind.DUPLICATE, Kind.REJECTED, Kind.GAP)}
    checks.add(Check("nothing was sealed as duplicate, rejected or gap", not refused, f"{refused or 'none'}"))


def _siem(checks: Checks, receivers: Receivers, trail: Trail) -> None:
    checks.add(collected(receivers, trail))
    repeats = {uid: copies for uid, copies in receivers.hec.got.items() if len(copies) > 1}
    other = sum(len(set(copies)) > 1 for copies in repeats.values())
    messages = Counter(receivers.syslog.messages)
    again = sum(messages.values()) - len(messages)
    checks.add(
        Check(
            "repeats to the SIEM keep their id, and their bytes",
            bool(repeats) and not other and len(messages) == len(trail.places[Route.SIEM]),
            f"{sum(map(len, repeats.values())) - len(repeats):,} repeats at the collector, {again:,} at the syslog server; "
            f"{other} differ from the first",
        )
    )


def _archived(session: Session) -> Counter[bytes]:
    """How often each event id stands in a content that a segment names, as an event."""
    settings = session.settings("reader")
    reader, openers = ArchiveReader(settings), openers_of(settings)
    found: Counter[bytes] = Counter()
    for stored in reader.list(CHAINS + session.chain_prefix):
        segment = decode_segment(reader.read(stored.key, stored.version))
        seals = [decode_seal(data) for data in segment.seals]
        for reference in segment.contents:
            for frame in decode_frames(reader.read(reference.name, reference.version)):
                for seq, content in open_frame(frame, openers[frame.key_id]):
                    if seals[seq - segment.first_seq].kind is Kind.EVENT:
                        found[content.event_id] += 1
    return found


def _indexed(session: Session) -> Counter[bytes]:
    """How often each event id stands in a document."""
    settings = session.settings("sink-search")
    documents = documents_of(search_client(settings), alias(settings.topic_prefix))
    return Counter(UUID(document["event"]["id"]).bytes for document in documents)


def _twice(ids: Counter[bytes]) -> int:
    return sum(count - 1 for count in ids.values())
