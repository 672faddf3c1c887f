"""The archive's bucket on the local S3 server: made with Object Lock, with a policy that denies deletes.

A real deployment's bucket is made by whoever owns the account; this is the same set-up through the same API.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.seaweed import Credentials, bucket_policy
from sealtrail.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"  # the server takes any; boto3 wants one


def s3_client(endpoint: str, ca: Path, credentials: Credentials, *, attempts: int = 1) -> S3Client:
    """A client for `endpoint` that trusts `ca` alone and addresses buckets by path."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        verify=str(ca),
        region_name=REGION,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=Config(
            connect_timeout=2,
            read_timeout=20,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": "path"},
        ),
    )


def reachable(client: S3Client) -> str | None:
    """None when the server answers this identity, else why not, in one line."""
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError) as error:
        return str(error).splitlines()[0][:200]
    return None


def ensure(client: S3Client, bucket: str) -> None:
    """Make `bucket` with Object Lock unless it is there, and set its policy.

    Raises ConfigError when a bucket of this name exists without Object Lock, TransientError when the server is away.
    """
    try:
        if bucket not in {entry["Name"] for entry in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        client.put_bucket_policy(Bucket=bucket, Policy=bucket_policy(bucket))
        lock = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        if lock.get("ObjectLockEnabled") != "Enabled":
            raise ConfigError(f"bucket {bucket} exists without Object Lock")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
            raise ConfigError(f"bucket {bucket} exists without Object Lock") from error
        raise TransientError(f"bucket {bucket}: {error}") from error
    except BotoCoreError as error:
        raise TransientError(f"bucket {bucket}: {error}") from error
