"""The archive as a verifier reads it: versions, locks and holds, nothing else. Nothing here writes.

Shares only path arithmetic with the writer. Every object is read by version id, because a delete marker or a newer
version on top hides what a plain GET should give.

    UndecidedError       the store did not answer, or may not be asked: nothing may be concluded
    MissingObjectError   (an EvidenceError) the store says that the version is not there
    ConfigError          no such bucket, credentials that do not work, unusable settings
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from schemas.settings import Settings
from sealtrail.errors import ConfigError, SealtrailError, UndecidedError
from sealtrail.source import Lock, MissingObjectError, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_S = 5.0
READ_S = 30.0
ATTEMPTS = 4  # reading is harmless to repeat: about 10 s of a store that is away before a check is undecided
REGION = "us-east-1"  # used with an endpoint of one's own, which takes any

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "NotFound", "404"})
_NO_LOCK = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"})
_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"})


T = TypeVar("T")


class ArchiveReader:
    """One bucket, read only. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet. Raises ConfigError."""
        settings.require("archive_bucket")
        self.bucket = settings.archive_bucket
        self._client = _client(settings)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All versions and delete markers under a prefix: in key order, the latest first within a key."""
        markers: dict[str, str] = {}
        while True:
            try:
                page = self._client.list_object_versions(Bucket=self.bucket, Prefix=prefix, **markers)  # type: ignore[arg-type]  # optional ones
            except (ClientError, BotoCoreError) as error:
                raise _mapped(error, f"listing {self.bucket}/{prefix}") from error
            found = [
                (v["LastModified"], StoredObject(v["Key"], v["VersionId"], v["IsLatest"], False, v["Size"]))
                for v in page.get("Versions", ())
            ]
            found += [
                (m["LastModified"], StoredObject(m["Key"], m["VersionId"], m["IsLatest"], True, 0))
                for m in page.get("DeleteMarkers", ())
            ]
            found.sort(key=lambda item: (item[1].key, not item[1].is_latest, -item[0].timestamp()))
            yield from (stored for _, stored in found)
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                markers["VersionIdMarker"] = page["NextVersionIdMarker"]

    def read(self, key: str, version: str) -> bytes:
        """The bytes of one version."""
        try:
            return self._client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, f"reading {self.bucket}/{key} version {version}") from error

    def lock(self, key: str, version: str) -> Lock | None:
        """The lock and hold of one version; UndecidedError when this identity may not know."""
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=key, VersionId=version)
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, f"asking for the lock of {self.bucket}/{key} version {version}") from error
        mode, until = head.get("ObjectLockMode", ""), head.get("ObjectLockRetainUntilDate")
        if mode or until:
            return Lock(str(mode), _ms(until), head.get("ObjectLockLegalHoldStatus") == "ON")
        return self._asked_lock(key, version)

    def _asked_lock(self, key: str, version: str) -> Lock | None:
        """A HEAD leaves the lock out when there is none, and when the identity may not see it: ask outright."""
        where = f"asking for the lock of {self.bucket}/{key} version {version}"
        client, bucket = self._client, self.bucket
        try:
            retention = _or_none(lambda: client.get_object_retention(Bucket=bucket, Key=key, VersionId=version))
            hold = _or_none(lambda: client.get_object_legal_hold(Bucket=bucket, Key=key, VersionId=version))
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, where) from error
        mode, until, held = "", None, False
        if retention is not None:
            stated = retention.get("Retention", {})
            mode, until = str(stated.get("Mode", "")), stated.get("RetainUntilDate")
        if hold is not None:
            held = hold.get("LegalHold", {}).get("Status") == "ON"
        return Lock(mode, _ms(until), held)


def _or_none(ask: Callable[[], T]) -> T | None:
    """The answer, or None when the store says that nothing of the kind was set."""
    try:
        return ask()
    except ClientError as error:
        if _code(error) in _NO_LOCK:
            return None
        raise


def _client(settings: Settings) -> S3Client:
    secret, access = settings.archive_secret_key, settings.archive_access_key
    if settings.archive_ca is not None and not settings.archive_ca.is_file():
        raise ConfigError(f"setting archive_ca: no file at {settings.archive_ca}")
    try:
        return boto3.client(
            "s3",
            endpoint_url=settings.archive_endpoint or None,
            verify=str(settings.archive_ca) if settings.archive_ca else None,
            region_name=REGION if settings.archive_endpoint else None,
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                response_checksum_validation="when_required",  # what is read is checked against a seal or a reference
                s3={"addressing_style": "path" if settings.archive_endpoint else "auto"},
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"setting archive_endpoint: {error}") from error


def _ms(time: datetime | None) -> int:
    return round(time.timestamp() * 1000) if time is not None else 0


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _mapped(error: ClientError | BotoCoreError, doing: str) -> SealtrailError:
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return ConfigError(f"{doing}: {error}")
    if not isinstance(error, ClientError):
        return UndecidedError(f"{doing}: {str(error).splitlines()[0][:300]}")
    code = _code(error)
    message = f"{doing}: {_status(error)} {code} {error.response.get('Error', {}).get('Message', '')}".strip()[:400]
    if code in _CREDENTIALS:
        return ConfigError(message)
    if code in _MISSING:
        return MissingObjectError(message)
    return UndecidedError(message)
