"""The last part of the demo: verify, and tamper with a copy. Every check is measured on the real store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

from auditor.archive import ArchiveReader
from auditor.commands.export import asked, run_bundle
from auditor.commands.verify import verify_store
from auditor.copying import copy_archive
from auditor.finding import find_event
from auditor.looking import archived_keyring
from auditor.trust import openers_of, root_of
from infra.demo.checks import Check, Checks
from infra.demo.path import raw_end
from infra.demo.session import Session
from sealtrail.checkpoint import parse_checkpoint
from sealtrail.layout import CHAINS, parse_segment_key, segments_prefix
from sealtrail.report import Report
from sealtrail.segment import decode_segment
from sealtrail.text import lines

TENANT, CLASSES, PURPOSE, TICKET = "acme", ["operational"], "audit", "CASE-7"


def run_proof(session: Session, an_event: bytes) -> Checks:
    """All checks, in the order in which a sceptic would ask. an_event: id of one that is found again."""
    checks = Checks()
    report = verify_store(session.settings("verifier"), session.chain_prefix, [])
    for line in lines(report):
        session.report.line(line)
    _counts(checks, session, report)
    _show(session, checks, an_event)
    _tampering(session, checks, report)
    _bundle(session, checks)
    return checks


def _counts(checks: Checks, session: Session, report: Report) -> None:
    records = sum(c.records for c in report.chains)
    events = sum(c.kinds["EVENT"] for c in report.chains)
    valid, seals = report.verdicts["VALID"], sum(c.seals for c in report.chains)
    raw = raw_end(session)
    checks.add(
        Check(
            "raw records = records sealed and archived",
            raw == records == events,
            f"{raw:,} = {records:,}, all of them events: none refused or repeated",
        )
    )
    checks.add(Check("every seal verifies", report.good and valid == seals, f"{valid:,} VALID of {seals:,} seals"))


def _show(session: Session, checks: Checks, event_id: bytes) -> None:
    settings = session.settings("reader")
    source = ArchiveReader(settings)
    keyring = archived_keyring(source, root_of(settings))
    found = find_event(source, event_id, keyring, openers_of(settings), session.chain_prefix)
    claim = "the retention edit is found again by its event id, with its proofs"
    if found is None:
        checks.add(Check(claim, False, f"{UUID(bytes=event_id)} not found"))
        return
    good = not any(found.checks.values()) and found.event["event_id"] == event_id
    where = f"{found.event['event_name']} of {found.tenant}, class {found.seal.log_class}, seq {found.seal.seq}"
    checks.add(Check(claim, good, f"{UUID(bytes=event_id)}: {where}"))


def _tampering(session: Session, checks: Checks, report: Report) -> None:
    """A copy verifies offline with the evidence package alone; with one byte changed it does not, and says where."""
    clean, tampered = session.folder / "clean", session.folder / "tampered"
    count, size_bytes = copy_archive(ArchiveReader(session.settings("reader")), clean, session.chain_prefix)
    status, _ = _offline(session, clean)
    checks.add(Check("a copy verifies offline", status == 0, f"{count} objects, {size_bytes:,} bytes, exit status {status}"))
    shutil.copytree(clean, tampered)
    path, seq = _flip_a_byte(tampered)
    status, findings = _offline(session, tampered)
    named = [(f["finding"], f["seq"]) for f in findings]
    said = f"seq {seq} of {path.name} changed; exit status {status}, found {named[:3]}"
    claim = "one byte changed in the copy is found, and the record is named"
    checks.add(Check(claim, status == 1 and named == [("ALTERED", seq)], said))
    first = max(report.chains, key=lambda c: c.segments)
    kept = session.folder / "last.checkpoint"
    kept.write_text(first.checkpoint)
    shutil.rmtree(tampered)
    shutil.copytree(clean, tampered)
    size = parse_checkpoint(first.checkpoint.encode())[0].size
    cut = _cut_tail(tampered, first.chain, size)
    status, findings = _offline(session, tampered, "--checkpoint", str(kept))
    kinds = [f["finding"] for f in findings if f["chain"] == first.chain]
    said = f"{cut} segments removed from the end; exit status {status}, found {kinds}"
    checks.add(Check("a cut tail is found against a checkpoint kept from before", status == 1 and kinds == ["TRUNCATED"], said))


def _bundle(session: Session, checks: Checks) -> None:
    """One tenant's records for somebody who has the root's public key and nothing else of ours; then with a bit changed."""
    file, root = session.folder / "acme.bundle", str(session.settings("reader").root_vkey)
    done = run_bundle(session.settings("reader"), asked(TENANT, CLASSES, "", "", None, None), PURPOSE, file, TICKET, "A. Boss")
    command = [sys.executable, "-m", "sealtrail", str(file), "--root", root]
    status = subprocess.run(command, capture_output=True, check=False).returncode
    said = f"{done['records']:,} records in {file.stat().st_size:,} bytes, exit status {status}"
    checks.add(Check("a tenant's bundle verifies with the root's public key alone", status == 0 and done["records"] > 0, said))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    status = subprocess.run(command, capture_output=True, check=False).returncode
    checks.add(Check("one bit changed in the bundle is found", status == 1, f"exit status {status}"))


def _cut_tail(copy: Path, chain: str, size: int) -> int:
    """Remove the segment with the last of the first `size` seals, and what came after; how many segments that are."""
    segments = sorted((copy / segments_prefix(chain)).iterdir())
    last = max(path for path in segments if parse_segment_key(path.relative_to(copy).as_posix())[1] < size)
    cut = [path for path in segments if path >= last]
    for path in cut:
        path.unlink()
    return len(cut)


def _flip_a_byte(copy: Path) -> tuple[Path, int]:
    """Change one byte inside a seal in the middle of the largest segment; its path and the seal's seq."""
    path = max((copy / CHAINS).rglob("*.avro"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    segment = decode_segment(bytes(data))
    middle = len(segment.seals) // 2
    position = data.index(segment.seals[middle]) + 50  # within content_digest
    data[position] ^= 0x01
    path.write_bytes(bytes(data))
    return path, segment.first_seq + middle


def _offline(session: Session, copy: Path, *more: str) -> tuple[int, list[dict[str, object]]]:
    """`python -m sealtrail` on a copy: exit status and findings."""
    settings = session.settings("verifier")
    keys = settings.keys.removeprefix("file:")
    command = [sys.executable, "-m", "sealtrail", str(copy), "--root", str(settings.root_vkey), "--keys", keys, "--json", *more]
    done = subprocess.run(command, capture_output=True, check=False)
    findings: list[dict[str, object]] = json.loads(done.stdout)["findings"] if done.stdout else []
    return done.returncode, findings
