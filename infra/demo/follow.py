"""One record followed into every store; each cell is measured on the store itself, by the record's own id.

recorded     its exact seal stands in a segment of the archive
searchable   a search for its event id finds exactly it
immutable    who may delete is refused its segment and its contents, by version id; both are still there
SIEM         both collectors hold it, or neither does, as the policy says
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from botocore.exceptions import ClientError

from auditor.archive import ArchiveReader
from auditor.finding import segment_with
from infra.bucket import s3_client
from infra.demo.path import Receivers
from infra.demo.session import Session
from infra.demo.trail import Sealed
from infra.seaweed import Credentials
from schemas.search_names import alias
from sealtrail.errors import ConfigError
from sealtrail.seal import decode_seal
from sealtrail.segment import Segment, decode_segment
from sealtrail.source import StoredObject
from sinks.search.assembly import search_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE_S = 90.0  # a segment is cut every few seconds, an index refreshes every second
LOOK_S = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """Whether what was claimed of one store held, and what was seen there."""

    good: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario's record in every store."""

    name: str
    event_id: str
    event_name: str
    cells: tuple[Cell, ...]


class Follower:
    """Asks the stores of one run of the demo."""

    def __init__(self, session: Session, receivers: Receivers) -> None:
        self._session = session
        self._receivers = receivers
        self._reader = ArchiveReader(session.settings("reader"))
        settings = session.settings("sink-search")
        self._search = search_client(settings)
        self._alias = alias(settings.topic_prefix)

    def row(self, name: str, record: Sealed, *, siem: bool) -> Row:
        """All cells of a scenario."""
        cells = (self.recorded(record), self.searchable(record), self.immutable(record), self.in_siem(record, expected=siem))
        return Row(name, str(UUID(bytes=record.event_id)), record.event_name, cells)

    def recorded(self, record: Sealed) -> Cell:
        """Its exact seal in a segment."""
        found = _patiently(lambda: self._archived(record))
        if found is None:
            return Cell(False, "in no segment")
        _, segment = found
        stored = decode_seal(segment.seals[record.seal.seq - segment.first_seq])
        return Cell(stored == record.seal, f"seq {record.seal.seq}")

    def searchable(self, record: Sealed) -> Cell:
        """Found by its event id, once."""
        query = {"query": {"term": {"event.id": str(UUID(bytes=record.event_id))}}, "size": 0, "track_total_hits": True}
        count = _patiently(lambda: int(self._search.search(index=self._alias, body=query)["hits"]["total"]["value"]))
        return Cell(count == 1, f"{count} found")

    def immutable(self, record: Sealed) -> Cell:
        """Segment and contents: a delete by version id is refused, and they are still there."""
        found = self._archived(record)
        if found is None:
            return Cell(False, "not archived")
        stored, segment = found
        wanted = f"/{record.seal.log_class.lower()}/"
        objects = [(stored.key, stored.version)] + [(r.name, r.version) for r in segment.contents if wanted in r.name]
        answers = []
        for key, version in objects:
            answers.append(self.delete(key, version))
            self._reader.read(key, version)
        return Cell(len(objects) > 1 and all(answers), f"{len(objects)} deletes: {', '.join(sorted(set(answers))) or 'done'}")

    def control(self) -> Cell:
        """The same identity deletes an object that no lock holds."""
        key, bucket = f"control/{self._session.name}", self._session.settings("admin").archive_bucket
        made = self._admin.put_object(Bucket=bucket, Key=key, Body=b"not locked", ChecksumAlgorithm="SHA256")
        refused = self.delete(key, made["VersionId"])
        gone = not any(o.version == made["VersionId"] for o in self._reader.list(key))
        return Cell(not refused and gone, refused or f"{key}: gone")

    def in_siem(self, record: Sealed, *, expected: bool) -> Cell:
        """In both collectors, or in neither. Ask for absence when everything sealed has been delivered."""
        uid = f"{record.seal.chain}:{record.seal.seq}"

        def held() -> list[bool]:
            return [uid in self._receivers.hec.got, uid in syslog_ids(self._receivers)]

        seen = held()
        if expected:
            _patiently(lambda: all(held()))
            seen = held()
            return Cell(all(seen), f"in {sum(seen)} of 2")
        return Cell(not any(seen), "PRESENT" if any(seen) else "absent, as the policy says")

    def delete(self, key: str, version: str) -> str:
        """Delete a version as an identity that may; "" if the store did, else how it refused."""
        try:
            self._admin.delete_object(Bucket=self._session.settings("admin").archive_bucket, Key=key, VersionId=version)
        except ClientError as error:
            return f"{error.response.get('ResponseMetadata', {}).get('HTTPStatusCode')}"
        return ""

    @cached_property
    def _admin(self) -> S3Client:
        settings = self._session.settings("admin")
        if not (settings.archive_access_key and settings.archive_secret_key and settings.archive_ca):
            raise ConfigError("role admin has no S3 credentials")
        given = Credentials(settings.archive_access_key.get_secret_value(), settings.archive_secret_key.get_secret_value())
        return s3_client(settings.archive_endpoint, settings.archive_ca, given)

    def _archived(self, record: Sealed) -> tuple[StoredObject, Segment] | None:
        last = segment_with(self._reader, record.seal.chain, record.seal.seq)
        if last is None:
            return None
        segment = decode_segment(self._reader.read(last.key, last.version))
        return (last, segment) if record.seal.seq < segment.first_seq + len(segment.seals) else None


def syslog_ids(receivers: Receivers) -> set[str]:
    """The ids that stand in the structured data of what the syslog server holds."""
    return {message.partition(b'id="')[2].partition(b'"')[0].decode() for message in list(receivers.syslog.messages)}


def _patiently(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = ask()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_S)
