"""Step 1 of `verify`: the certified keys of an archive, and where those of them that ended did.

What does not verify is a finding, and counts for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from sealtrail.certificate import Certificate, UnknownRoleError, verify_certificate
from sealtrail.ending import MAX_SIZE, End, counting, verify_end
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.layout import END, KEYS, certificate_key, end_key
from sealtrail.note import MAX_NOTE_SIZE, NoteKey
from sealtrail.report import Finding, FindingKind, Report
from sealtrail.source import Source, StoredObject


def keyring_of(source: Source, root: NoteKey, report: Report) -> Keyring:
    """Certificates and ends of keys in a source. Raises UndecidedError when one that is listed cannot be read."""
    listed = list(source.list(KEYS))
    for stored in listed:
        if stored.is_marker:
            detail = "a delete marker hides a certificate, or the end of a key"
            report.findings.append(Finding(FindingKind.HIDDEN, 2, "", None, 1, stored.key, detail))
    bodies = [stored for stored in listed if not stored.is_marker]
    certificates = _certificates(source, [s for s in bodies if not s.key.endswith(END)], root, report)
    ends = _ends(source, [s for s in bodies if s.key.endswith(END)], certificates, report)
    return Keyring(certificates.values(), ends)


def endless(keyring: Keyring) -> Iterator[str]:
    """What cannot be ruled out of keys that were followed and not ended; nothing if there are none."""
    succeeded = keyring.succeeded()
    if succeeded:
        yield (
            f"{len(succeeded)} keys have a successor and no stated end, {succeeded[0].key_id.hex()[:16]}… first: whoever holds "
            "one can still date what it signs back into its certificate's time"
        )


def _certificates(source: Source, listed: Iterable[StoredObject], root: NoteKey, report: Report) -> dict[bytes, Certificate]:
    certificates: dict[bytes, Certificate] = {}
    for stored in listed:
        try:
            _of_size(stored, MAX_NOTE_SIZE)
            certificate = verify_certificate(source.read(stored.key, stored.version), root)
            if stored.key != certificate_key(certificate.key_id):
                raise EvidenceError("it lies under another key's name")
            if certificates.setdefault(certificate.key_id, certificate) != certificate:
                raise EvidenceError("a second, different certificate of one key")
        except UnknownRoleError as error:
            report.caveats.append(f"{stored.key}: {error}")
        except EvidenceError as error:
            report.findings.append(_unknown(stored, error))
    return certificates


def _ends(source: Source, listed: Iterable[StoredObject], certificates: dict[bytes, Certificate], report: Report) -> list[End]:
    """All of them, every version of an object too: a statement only takes away."""
    ends = []
    for stored in listed:
        try:
            _of_size(stored, MAX_SIZE)
            data = source.read(stored.key, stored.version)
            end = verify_end(data, certificates)
            if stored.key != end_key(end.key_id, hashlib.sha256(data).digest()):
                raise EvidenceError("it lies under another name than its own")
            ends.append(end)
        except EvidenceError as error:
            report.findings.append(_unknown(stored, error))
    return counting(ends, certificates)


def _of_size(stored: StoredObject, most: int) -> None:
    """Refuse, unread, what is larger than such a note can be."""
    if stored.size > most:
        raise EvidenceError(f"{stored.size} bytes; at most {most}")


def _unknown(stored: StoredObject, error: EvidenceError) -> Finding:
    return Finding(FindingKind.UNKNOWN_KEY, 1, "", None, 1, stored.key, str(error))
