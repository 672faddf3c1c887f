"""The archive's bucket as the sink and the publisher write it: an S3 client with explicit time-outs and our errors.

- Every PUT carries the SHA-256 of its bytes, and a lock; nothing is ever deleted or overwritten here.
- Objects are listed and read by *version*: a delete marker or a second version on top must show.
- No retries: a PUT without a reply may have landed, and only the caller knows how to find out.

    ConfigError      403, no such bucket, a bucket without versioning or Object Lock, credentials that do not work
    TransientError   no connection, no reply, 5xx, slow down; TakenError of a conditional PUT: something is there
    EvidenceError    a version that the listing showed is not there
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

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
from sealtrail.errors import ConfigError, EvidenceError, SealtrailError, TransientError
from sinks.archive.writer import Lock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_S = 5.0
READ_S = 30.0  # a PUT of 32 MiB is answered in 1 s here; S3 itself may take some seconds
REGION = "us-east-1"  # used when the environment names none; servers other than AWS take any
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound"})


class TakenError(TransientError):
    """A conditional PUT was refused: something is there, or another writer is at it. Read what is there."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker, as listed."""

    key: str
    version: str
    is_latest: bool
    is_marker: bool
    size: int


class ArchiveStore:
    """One bucket. Threads may share it (botocore clients allow that). Every method raises the errors above."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet."""
        settings.require("archive_bucket")
        self.bucket = settings.archive_bucket
        self._client = _client(settings)

    def check_bucket(self) -> None:
        """Check that the bucket keeps versions and has Object Lock. Raises ConfigError when not."""
        doing = f"asking how bucket {self.bucket} is set up"
        try:
            versioning = self._client.get_bucket_versioning(Bucket=self.bucket).get("Status", "off")
            lock = self._client.get_object_lock_configuration(Bucket=self.bucket)["ObjectLockConfiguration"]
        except (ClientError, BotoCoreError) as error:
            if _code(error) == "ObjectLockConfigurationNotFoundError":
                raise ConfigError(f"bucket {self.bucket} has no Object Lock (setting archive_bucket)") from error
            raise _mapped(error, doing) from error
        if versioning != "Enabled" or lock.get("ObjectLockEnabled") != "Enabled":
            raise ConfigError(f"bucket {self.bucket}: versioning is {versioning}, Object Lock {lock.get('ObjectLockEnabled')}")

    def put(self, key: str, data: bytes, lock: Lock, *, legal_hold: bool = False, if_absent: bool = False) -> str:
        """Write one locked object; returns its version id.

        With `if_absent` nothing is written when something is there (TakenError). After any other TransientError it is
        not known whether the object was written.
        """
        extra: dict[str, str] = {}
        if legal_hold:
            extra["ObjectLockLegalHoldStatus"] = "ON"
        if if_absent:
            extra["IfNoneMatch"] = "*"
        try:
            reply = self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                ObjectLockMode=lock.mode.value,
                ObjectLockRetainUntilDate=datetime.fromtimestamp(lock.until_ms / 1000, UTC),
                **extra,  # type: ignore[arg-type]  # the stubs want literals
            )
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, f"writing {self.bucket}/{key}") from error
        version = reply.get("VersionId")
        if not version or version == "null":
            raise ConfigError(f"bucket {self.bucket} keeps no versions: {key} was written without a version id")
        return version

    def set_legal_hold(self, key: str, version: str, *, on: bool) -> None:
        """Put one version under legal hold, or take it off. Doing it again changes nothing."""
        status: Literal["ON", "OFF"] = "ON" if on else "OFF"
        try:
            self._client.put_object_legal_hold(Bucket=self.bucket, Key=key, VersionId=version, LegalHold={"Status": status})
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, f"legal hold {status} on {self.bucket}/{key} version {version}") from error

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """All versions and delete markers of the keys with a prefix and above `after`, in key order, newest first."""
        key_marker, version_marker = after, ""
        while True:
            markers = {"KeyMarker": key_marker} if key_marker else {}
            if version_marker:
                markers["VersionIdMarker"] = version_marker
            try:
                page = self._client.list_object_versions(Bucket=self.bucket, Prefix=prefix, **markers)  # type: ignore[arg-type]  # optional ones
            except (ClientError, BotoCoreError) as error:
                raise _mapped(error, f"listing {self.bucket}/{prefix}") from error
            found = [Version(v["Key"], v["VersionId"], v["IsLatest"], False, v["Size"]) for v in page.get("Versions", ())]
            found += [Version(m["Key"], m["VersionId"], m["IsLatest"], True, 0) for m in page.get("DeleteMarkers", ())]
            # stable: within a key each list comes newest first, and the latest of both stands first
            yield from sorted(found, key=lambda v: (v.key, not v.is_latest))
            if not page.get("IsTruncated"):
                return
            key_marker, version_marker = page["NextKeyMarker"], page.get("NextVersionIdMarker", "")

    def read(self, key: str, version: str) -> bytes:
        """The bytes of one version. Raises EvidenceError when the store says that it is not there."""
        try:
            return self._client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise _mapped(error, f"reading {self.bucket}/{key} version {version}") from error

    def read_latest(self, key: str) -> bytes | None:
        """The bytes of what a plain GET gives, or None when it gives nothing."""
        try:
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            if _code(error) in _GONE:
                return None
            raise _mapped(error, f"reading {self.bucket}/{key}") from error

    def exists(self, key: str) -> bool:
        """Whether a plain HEAD finds something."""
        try:
            self._client.head_object(Bucket=self.bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            if _code(error) in _GONE:
                return False
            raise _mapped(error, f"looking for {self.bucket}/{key}") from error
        return True


def _client(settings: Settings) -> S3Client:
    secret, access = settings.archive_secret_key, settings.archive_access_key
    if settings.archive_ca is not None and not settings.archive_ca.is_file():
        raise ConfigError(f"setting archive_ca: no file at {settings.archive_ca}")
    try:
        return boto3.client(
            "s3",
            endpoint_url=settings.archive_endpoint or None,
            verify=str(settings.archive_ca) if settings.archive_ca else None,
            region_name=None if not settings.archive_endpoint else REGION,
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"total_max_attempts": 1, "mode": "standard"},
                request_checksum_calculation="when_required",  # ours is SHA-256; a second one would be CRC
                response_checksum_validation="when_required",  # every byte read is checked against a seal or a digest
                s3={"addressing_style": "path" if settings.archive_endpoint else "auto"},
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"setting archive_endpoint: {error}") from error


def _code(error: ClientError | BotoCoreError) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _mapped(error: ClientError | BotoCoreError, doing: str) -> SealtrailError:
    """The error of our family; messages carry what the server said, which names no secret."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return ConfigError(f"{doing}: {error}")
    if not isinstance(error, ClientError):
        return TransientError(f"{doing}: {str(error).splitlines()[0][:300]}", 2)
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"{doing}: {status} {code} {error.response.get('Error', {}).get('Message', '')}".strip()[:400]
    if status in (409, 412) or code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return TakenError(message)
    if code == "NoSuchBucket" or status in (401, 403):
        return ConfigError(message)
    if code in _GONE:
        return EvidenceError(message)
    if status >= 500 or status in (0, 408, 429) or code in ("SlowDown", "RequestTimeout", "BadDigest", "IncompleteBody"):
        return TransientError(message, 2)
    return ConfigError(message)
