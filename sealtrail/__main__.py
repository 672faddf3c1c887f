"""`python -m sealtrail`: verify a copy of an archive, a bundle, or the proof of one record, offline, with this package alone.

    python -m sealtrail COPY --root root.vkey [--keys DIR] [--checkpoint FILE …] [--from T] [--to T] [--jobs N] [--json]
    python -m sealtrail BUNDLE --root root.vkey [--checkpoint FILE …] [--json]
    python -m sealtrail EVENT.tlog-proof --root root.vkey [--json]      certificates and schema lie beside the file

What a file is, is told by how it begins. Exit codes: 0 good, 1 a check failed or could not be decided, 2 usage, 3 an argument's
file is unusable, 5 intact, but sources left out or reused numbers of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrail.bundle import is_bundle, open_bundle
from sealtrail.bundleverify import verify_bundle
from sealtrail.certified import keyring_of
from sealtrail.checkpoint import parse_checkpoint
from sealtrail.contents import Openers
from sealtrail.documents import Documents
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.extent import Extent
from sealtrail.local import LocalCopy, LocalFile
from sealtrail.note import NoteKey, parse_vkey
from sealtrail.parallel import verify_in_processes
from sealtrail.proof import HEADER, parse_proof, verify_proof
from sealtrail.report import Report, Verdict
from sealtrail.seal import leaf_hash
from sealtrail.session import hpke_open
from sealtrail.tar import BLOCK
from sealtrail.text import lines, printable
from sealtrail.verify import Trust


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sealtrail", description="Verify a copy of a Sealtrail archive, a bundle or a proof."
    )
    parser.add_argument("what", type=Path, help="a folder with chains/, contents/, keys/ …; a bundle; or a .tlog-proof")
    parser.add_argument("--root", type=Path, required=True, help="file with the root's verifier key (vkey)")
    parser.add_argument("--keys", type=Path, help="folder with tenants' data keys (*.key, 32 raw bytes each)")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a checkpoint kept from earlier")
    parser.add_argument("--chain", default="", help="only chains whose names begin so")
    parser.add_argument("--from", dest="since", type=at_us, help="only what was sealed at or after: 2026-11-25T08:00, UTC")
    parser.add_argument("--to", dest="until", type=at_us, help="only what was sealed before")
    parser.add_argument("--after-checkpoint", action="store_true", help="only from where the checkpoint given ends")
    parser.add_argument("--jobs", type=int, default=1, help="chains at once, a process each")
    parser.add_argument("--json", action="store_true", help="report as JSON on stdout")
    given = parser.parse_args(arguments)
    if given.what.is_file() and (given.keys or given.chain or given.since or given.until or given.after_checkpoint):
        parser.error("of a file, all is verified: --keys, --chain, --from, --to and --after-checkpoint are for a folder")
    try:
        if given.what.is_file():
            trust = Trust(parse_vkey(given.root.read_text().strip()), {}, read_checkpoints(given.checkpoint))
            return verify_file(given.what, trust, as_json=given.json)
        if not given.what.is_dir():
            raise OSError(f"{given.what} is not a folder, nor a file")
        trust = Trust(
            root=parse_vkey(given.root.read_text().strip()),
            openers=read_openers(given.keys) if given.keys else {},
            checkpoints=read_checkpoints(given.checkpoint),
        )
    except (OSError, UnicodeDecodeError, EvidenceError) as error:
        print(f"sealtrail: {error}", file=sys.stderr)
        return 3
    try:
        report = verify_in_processes(
            lambda: LocalCopy(given.what),
            trust,
            jobs=given.jobs,
            prefix=given.chain,
            extent=Extent(given.since, given.until, given.after_checkpoint),
        )
    except UndecidedError as error:
        print(f"sealtrail: could not decide: {error}", file=sys.stderr)
        return 1
    return _say(report, {}, as_json=given.json)


def verify_file(file: Path, trust: Trust, *, as_json: bool) -> int:
    """Verify a bundle or a proof, whichever the file is, and print what it shows; the exit code.

    Raises:
        OSError: it cannot be opened, or read.
        EvidenceError: it begins like neither.
    """
    with LocalFile(file) as opened:
        head = opened.read_at(0, BLOCK)
        if is_bundle(head):
            return _bundle(opened, trust, as_json=as_json)
    if not head.startswith(f"{HEADER}\n".encode()):
        raise EvidenceError(f"{file} is neither a bundle nor a tlog-proof")
    return _proof(file, trust.root, as_json=as_json)


def _bundle(file: LocalFile, trust: Trust, *, as_json: bool) -> int:
    """Check a bundle; prints what it was made for and what is true of it."""
    try:
        bundle = open_bundle(file.read_at, file.size)
        report = verify_bundle(bundle, trust)
    except EvidenceError as error:
        print(printable(f"sealtrail: NOT VERIFIED: not a bundle in its one form: {error}"), file=sys.stderr)
        return 1
    except UndecidedError as error:
        print(f"sealtrail: could not decide: {error}", file=sys.stderr)
        return 1
    about = bundle.as_json()
    wanted = {**bundle.filter.as_json(), "classes": " ".join(bundle.filter.classes or ("all",))}
    asked = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
    said = f"bundle of {about['deployment']}, made {about['made']}, in the name of {about['signed_by']}: {asked}"
    print(printable(f"{said}: {report.verdicts[Verdict.VALID]:,} records in clear are VALID"), file=sys.stderr)
    return _say(report, {"bundle": about}, as_json=as_json)


def _say(report: Report, about: dict[str, object], *, as_json: bool) -> int:
    """Print a report; the exit code."""
    if as_json:
        print(json.dumps({**about, **report.as_json()}, indent=2))
    for line in lines(report):
        print(line, file=sys.stderr)
    return 0 if report.good else 5 if report.intact else 1


def _proof(file: Path, root: NoteKey, *, as_json: bool) -> int:
    """Check the proof of one record with the certificates beside it; prints what it shows. Raises OSError, EvidenceError."""
    report, beside = Report(), LocalCopy(file.parent)
    keyring = keyring_of(beside, root, report)
    for finding in report.findings:
        print(f"sealtrail: {finding.where} counts for nothing: {finding.detail}", file=sys.stderr)
    try:
        proven = verify_proof(parse_proof(file.read_bytes()), keyring)
    except EvidenceError as error:
        print(f"sealtrail: NOT PROVEN: {error}", file=sys.stderr)
        return 1
    seal, content = proven.seal, proven.sealed.content
    try:
        event = Documents(beside).codec(content.content_schema).decode(content.content)
    except (EvidenceError, UndecidedError) as error:
        print(f"sealtrail: its content cannot be read, only compared: {error}", file=sys.stderr)
        event = None
    shown = {
        "chain": seal.chain,
        "seq": seal.seq,
        "kind": str(seal.kind),
        "class": str(seal.log_class),
        "sealed_at": seal.sealed_at_us / 1e6,
        "leaf_hash": leaf_hash(proven.sealed.seal).hex(),
        "tree_size": proven.size,
        "checkpoint_time": proven.time_s,
        "signed_by_sealer": proven.attested,
        "a_key_ended": proven.ended,
        "event": event,
    }
    if as_json:
        print(json.dumps(shown, indent=2, default=lambda value: value.hex()))
    said = f"entry {seal.seq} of {seal.chain}, in the tree of {proven.size} that the archive swore to at {proven.time_s}"
    print(f"sealtrail: PROVEN: {said}", file=sys.stderr)
    if proven.ended:
        said = "one of its keys has ended: a past made anew with it would look the same here"
        print(f"sealtrail: not ruled out: {said}; the archive, or a kept checkpoint, tells", file=sys.stderr)
    if not proven.attested:
        print("sealtrail: not ruled out: the seal itself is not signed; the archive's word vouches for it", file=sys.stderr)
    return 0


def read_openers(folder: Path) -> Openers:
    """HPKE openers of the X25519 keys in a folder, by key id.

    Raises:
        OSError: a file cannot be read, or is not 32 bytes.
    """
    openers = {}
    for path in sorted(folder.glob("*.key")):
        raw = path.read_bytes()
        if len(raw) != 32:
            raise OSError(f"{path} is not a key of 32 bytes")
        private = X25519PrivateKey.from_private_bytes(raw)
        openers[hashlib.sha256(private.public_key().public_bytes_raw()).digest()] = partial(hpke_open, private)
    return openers


def at_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time, or a day; UTC unless it says otherwise.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def read_checkpoints(paths: list[Path]) -> dict[str, bytes]:
    """Checkpoints by chain.

    Raises:
        OSError: a file cannot be read.
        EvidenceError: one is not a checkpoint.
    """
    found = {}
    for path in paths:
        data = path.read_bytes()
        found[parse_checkpoint(data)[0].origin] = data
    return found


if __name__ == "__main__":
    sys.exit(main())
