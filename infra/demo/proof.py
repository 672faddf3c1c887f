"""The second half of the demo: verify, attack, tamper. Every check is measured on the real store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from botocore.exceptions import ClientError

from auditor.archive import ArchiveReader
from auditor.commands.show import archived_keyring
from auditor.commands.verify import openers_of, verify_store
from auditor.copying import copy_archive
from auditor.finding import find_event
from infra.bucket import s3_client
from infra.demo.checks import Check, Checks
from infra.demo.path import PathFacts
from infra.demo.session import Session
from infra.seaweed import Credentials
from keystore import load_root
from sealtrail.errors import ConfigError
from sealtrail.layout import CHAINS
from sealtrail.report import Report
from sealtrail.segment import decode_segment
from sealtrail.text import lines

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def run_proof(session: Session, facts: PathFacts) -> Checks:
    """All checks, in the order in which a sceptic would ask."""
    checks = Checks()
    report = verify_store(session.settings("verifier"), session.chain_prefix, [])
    for line in lines(report):
        session.report.line(line)
    _counts(checks, facts, report)
    _show(session, checks, facts)
    _locks(session, checks)
    _tampering(session, checks, report)
    return checks


def _counts(checks: Checks, facts: PathFacts, report: Report) -> None:
    records = sum(c.records for c in report.chains)
    events = sum(c.kinds["EVENT"] for c in report.chains)
    valid, seals = report.verdicts["VALID"], sum(c.seals for c in report.chains)
    checks.add(
        Check(
            "records acknowledged = raw records = records sealed and archived",
            facts.acknowledged == facts.raw_end == records == events,
            f"{facts.acknowledged:,} = {facts.raw_end:,} = {records:,} "
            f"({facts.real} real, {facts.generated:,} generated, the emitters' own; none refused or repeated)",
        )
    )
    checks.add(Check("every seal verifies", report.good and valid == seals, f"{valid:,} VALID of {seals:,} seals"))
    checks.add(Check("rate, first event to last segment", True, f"{records / facts.seconds:,.0f} records/s end to end"))


def _show(session: Session, checks: Checks, facts: PathFacts) -> None:
    settings = session.settings("reader")
    if settings.root_vkey is None:
        raise ConfigError("setting root_vkey is missing (role reader)")
    source = ArchiveReader(settings)
    keyring = archived_keyring(source, load_root(settings.root_vkey))
    found = find_event(source, facts.an_event, keyring, openers_of(settings), session.chain_prefix)
    claim = "one member change is found again by its event id, with its proofs"
    if found is None:
        checks.add(Check(claim, False, f"{UUID(bytes=facts.an_event)} not found"))
        return
    good = not any(found.checks.values()) and found.event["event_id"] == facts.an_event
    where = f"{found.event['event_name']} of {found.tenant}, class {found.seal.log_class}, seq {found.seal.seq}"
    checks.add(Check(claim, good, f"{UUID(bytes=facts.an_event)}: {where}"))


def _locks(session: Session, checks: Checks) -> None:
    """An identity that may delete deletes an unlocked object, and is refused a locked one."""
    settings = session.settings("admin")
    if not (settings.archive_access_key and settings.archive_secret_key and settings.archive_ca):
        raise ConfigError("role admin has no S3 credentials")
    given = Credentials(settings.archive_access_key.get_secret_value(), settings.archive_secret_key.get_secret_value())
    client = s3_client(settings.archive_endpoint, settings.archive_ca, given)
    bucket = settings.archive_bucket
    reader = ArchiveReader(session.settings("reader"))
    segment = next(reader.list(CHAINS + session.chain_prefix))
    content = decode_segment(reader.read(segment.key, segment.version)).contents[0]
    for kind, key, version in (
        ("segment", segment.key, segment.version),
        ("contents object", content.name, content.version),
    ):
        refused = _delete(client, bucket, key, version)
        kept = bool(reader.read(key, version))
        claim = f"a locked {kind} cannot be deleted by an identity that may delete"
        checks.add(Check(claim, bool(refused) and kept, f"{key}: {refused}"))
    key = f"control/{session.name}"
    version = client.put_object(Bucket=bucket, Key=key, Body=b"not locked", ChecksumAlgorithm="SHA256")["VersionId"]
    refused = _delete(client, bucket, key, version)
    gone = not any(o.version == version for o in reader.list(key))
    checks.add(Check("the same identity deletes an unlocked control object", not refused and gone, f"{key}: gone"))


def _delete(client: S3Client, bucket: str, key: str, version: str) -> str:
    """Delete a version; "" if the store did, else how it refused."""
    try:
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return f"refused with {status} {error.response.get('Error', {}).get('Code')}"
    return ""


def _tampering(session: Session, checks: Checks, report: Report) -> None:
    """A copy verifies offline with the evidence package alone; with one byte changed it does not, and says where."""
    clean, tampered = session.folder / "clean", session.folder / "tampered"
    count, size = copy_archive(ArchiveReader(session.settings("reader")), clean, session.chain_prefix)
    status, _ = _offline(session, clean)
    checks.add(Check("a copy verifies offline", status == 0, f"{count} objects, {size:,} bytes, exit status {status}"))
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
    last = max((tampered / CHAINS / first.chain / "segments").iterdir())
    last.unlink()
    status, findings = _offline(session, tampered, "--checkpoint", str(kept))
    kinds = [f["finding"] for f in findings if f["chain"] == first.chain]
    said = f"{last.name} removed; exit status {status}, found {kinds}"
    checks.add(Check("a cut tail is found against a checkpoint kept from before", status == 1 and kinds == ["TRUNCATED"], said))


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
