"""What each role may do and may not, on a real broker and a real S3 server: every forbidden act beside an allowed one.

The topic matrix is complete: each role tries every topic, both ways, and what succeeds is exactly what the catalogue
says. `tests/test_side_doors.py` tries the ways around the S3 port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from infra.bucket import s3_client
from infra.roles import ROLES, s3_endpoint
from infra.seaweed import Credentials
from infra.stack import Stack
from kafkaio.admin import reachable, strange_acls
from schemas import catalogue
from schemas.catalogue import topic_name, transactional_prefix
from tests import kafka_acts
from tests.conftest import BUCKETS, Deployment, wait_until

CATALOGUE = catalogue.load()
KAFKA_ROLES = sorted(role for role, needs in ROLES.items() if needs.kafka and role != "admin")
BUCKET = BUCKETS[0]
DAY = timedelta(days=1)


# -- Kafka


@pytest.mark.parametrize("role", KAFKA_ROLES)
def test_a_role_writes_exactly_the_topics_that_the_catalogue_grants(module_deployment: Deployment, role: str) -> None:
    names = {topic_name(module_deployment.topic_prefix, topic.name): topic for topic in CATALOGUE.topics}
    outcome = kafka_acts.write(module_deployment.settings(role), list(names))
    assert outcome == {name: None if role in topic.writers else "TOPIC_AUTHORIZATION_FAILED" for name, topic in names.items()}


@pytest.mark.parametrize("role", KAFKA_ROLES)
def test_a_role_reads_exactly_the_topics_that_the_catalogue_grants(module_deployment: Deployment, role: str) -> None:
    names = {topic_name(module_deployment.topic_prefix, topic.name): topic for topic in CATALOGUE.topics}
    outcome = kafka_acts.read(module_deployment.settings(role), list(names))
    assert outcome == {name: None if role in topic.readers else "TOPIC_AUTHORIZATION_FAILED" for name, topic in names.items()}


@pytest.mark.parametrize("role", KAFKA_ROLES)
def test_a_role_joins_its_own_group_and_no_other(module_deployment: Deployment, role: str) -> None:
    settings = module_deployment.settings(role)
    readable = next((topic.name for topic in CATALOGUE.topics if role in topic.readers), "audit.raw")
    topic = topic_name(module_deployment.topic_prefix, readable)
    groups = {group for own in CATALOGUE.groups.values() for group in own}
    mine = set(CATALOGUE.groups.get(role, ()))
    foreign = sorted(groups - mine)[:2]
    joined = {
        group: kafka_acts.join(settings, topic_name(module_deployment.topic_prefix, group), topic)
        for group in (*mine, *foreign)
    }
    refusals = {"GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"} if not mine else {"GROUP_AUTHORIZATION_FAILED"}
    assert all(joined[group] is None for group in mine)
    assert all(joined[group] in refusals for group in foreign)


def test_a_connector_cannot_join_the_sealers_group(module_deployment: Deployment) -> None:
    raw = topic_name(module_deployment.topic_prefix, "audit.raw")
    group = topic_name(module_deployment.topic_prefix, "sealer")
    assert kafka_acts.join(module_deployment.settings("sealer"), group, raw) is None
    assert kafka_acts.join(module_deployment.settings("github"), group, raw) == "GROUP_AUTHORIZATION_FAILED"


TRANSACTIONAL_REFUSAL = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


@pytest.mark.parametrize(
    ("role", "own_prefix", "expected"),
    [
        ("sealer", True, None),
        ("sealer", False, TRANSACTIONAL_REFUSAL),
        *((role, True, TRANSACTIONAL_REFUSAL) for role in KAFKA_ROLES if role != "sealer"),
    ],
)
def test_only_the_sealer_claims_transactional_ids_and_only_its_deployments(
    module_deployment: Deployment, role: str, own_prefix: bool, expected: str | None
) -> None:
    prefix = transactional_prefix(module_deployment.name if own_prefix else "another")
    assert kafka_acts.begin(module_deployment.settings(role), f"{prefix}audit.raw/0") == expected


def test_a_right_under_one_prefix_is_none_under_another(module_deployment: Deployment) -> None:
    own = topic_name(module_deployment.topic_prefix, "audit.archive")
    foreign = topic_name("elsewhere.", "audit.archive")
    outcome = kafka_acts.write(module_deployment.settings("sealer"), [own, foreign])
    assert outcome == {own: None, foreign: "TOPIC_AUTHORIZATION_FAILED"}


@pytest.mark.parametrize("role", ["github", "sealer", "sink-archive", "verifier"])
def test_only_the_administrator_deletes_records_makes_or_deletes_topics_or_grants_rights(
    deployment: Deployment, role: str
) -> None:
    settings, admin = deployment.settings(role), deployment.settings("admin")
    archive = topic_name(deployment.topic_prefix, "audit.archive")
    new = topic_name(deployment.topic_prefix, "new")
    assert kafka_acts.delete_records(settings, archive) in ("TOPIC_AUTHORIZATION_FAILED", "_NOENT")
    assert kafka_acts.create_topic(settings, new) == "TOPIC_AUTHORIZATION_FAILED"
    assert kafka_acts.delete_topic(settings, archive) == "TOPIC_AUTHORIZATION_FAILED"
    assert kafka_acts.grant(settings, role, archive) == "CLUSTER_AUTHORIZATION_FAILED"
    assert strange_acls(admin, CATALOGUE) == ()

    assert kafka_acts.delete_records(admin, archive) is None
    assert kafka_acts.create_topic(admin, new) is None
    assert kafka_acts.delete_topic(admin, new) is None
    assert kafka_acts.grant(admin, role, topic_name(deployment.topic_prefix, "audit.quarantine")) is None


def test_a_right_granted_outside_the_catalogue_is_reported(deployment: Deployment) -> None:
    admin = deployment.settings("admin")
    raw = topic_name(deployment.topic_prefix, "audit.raw")
    assert strange_acls(admin, CATALOGUE) == ()
    assert kafka_acts.grant(admin, "sink-siem", raw) is None
    strange = wait_until(lambda: strange_acls(admin, CATALOGUE), what="the right")
    assert strange == (f"User:sink-siem ALLOW WRITE TOPIC LITERAL {raw}",)


def test_a_certificate_of_another_authority_and_plaintext_are_refused(stack: Stack) -> None:
    good = stack.settings("sealer")
    grpc = stack.places.server("seaweed") / "grpc"
    foreign = stack.settings("sealer", kafka_certificate=grpc / "seaweed.pem", kafka_key=grpc / "seaweed.key")
    assert reachable(good) is None
    assert "_TRANSPORT" in (reachable(foreign, timeout_s=2) or "")
    assert reachable(good) is None  # the broker is not what was missing


# -- S3


def client(stack: Stack, role: str) -> S3Client:
    settings = stack.settings(role)
    assert settings.archive_access_key and settings.archive_secret_key and settings.archive_ca
    given = Credentials(settings.archive_access_key.get_secret_value(), settings.archive_secret_key.get_secret_value())
    return s3_client(s3_endpoint(stack.ports), settings.archive_ca, given)


def put(who: S3Client, key: str, *, mode: str | None = None, until: datetime | None = None, hold: bool = False) -> str:
    """Put a small object; returns its version id."""
    lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until} if mode else {}
    held = {"ObjectLockLegalHoldStatus": "ON"} if hold else {}
    reply = who.put_object(Bucket=BUCKET, Key=key, Body=b"x" * 1024, ChecksumAlgorithm="SHA256", **lock, **held)  # type: ignore[arg-type]
    return reply["VersionId"]


@dataclass(frozen=True, slots=True)
class Locked:
    """An object that the archive sink put under a compliance lock, and what the acts below need."""

    key: str
    version: str
    until: datetime


@pytest.fixture(scope="module")
def locked(stack: Stack) -> Locked:
    until = (datetime.now(UTC) + 2 * DAY).replace(microsecond=0)
    key = "chains/access/locked"
    return Locked(key, put(client(stack, "sink-archive"), key, mode="COMPLIANCE", until=until), until)


def outcome(act: Callable[[], object]) -> str:
    """`allowed`, or the code of the refusal."""
    try:
        reply = act()
    except ClientError as error:
        return error.response["Error"]["Code"]
    errors = reply.get("Errors") if isinstance(reply, dict) else None
    return errors[0]["Code"] if errors else "allowed"


DENIED = "AccessDenied"
Act = Callable[[S3Client, Locked], object]


def _put(prefix: str, **lock: object) -> Act:
    return lambda who, at: put(who, f"{prefix}/access/{id(who)}", **lock)  # type: ignore[arg-type]


def _put_locked(prefix: str) -> Act:
    return lambda who, at: put(who, f"{prefix}/access/{id(who)}", mode="COMPLIANCE", until=at.until)


def _retain(mode: Literal["COMPLIANCE", "GOVERNANCE"], days: int) -> Act:
    return lambda who, at: who.put_object_retention(
        Bucket=BUCKET,
        Key=at.key,
        VersionId=at.version,
        Retention={"Mode": mode, "RetainUntilDate": at.until + days * DAY},
    )


def _bulk(who: S3Client, at: Locked) -> object:
    return who.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": at.key, "VersionId": at.version}]})


ACTS: dict[str, Act] = {
    "read a version": lambda who, at: who.get_object(Bucket=BUCKET, Key=at.key, VersionId=at.version),
    "read its lock": lambda who, at: who.get_object_retention(Bucket=BUCKET, Key=at.key, VersionId=at.version),
    "list versions": lambda who, at: who.list_object_versions(Bucket=BUCKET, Prefix="chains/"),
    "read the bucket's lock": lambda who, at: who.get_object_lock_configuration(Bucket=BUCKET),
    "write chains": _put_locked("chains"),
    "write contents": _put_locked("contents"),
    "write keys": _put_locked("keys"),
    "write policies": _put_locked("policies"),
    "write schemas": _put_locked("schemas"),
    "write glossary": _put_locked("glossary"),
    "write selftest": _put_locked("selftest"),
    "write holds": _put_locked("holds"),
    "write elsewhere": _put_locked("elsewhere"),
    "write keys under hold": _put("keys", hold=True),
    "write chains under hold": _put("chains", hold=True),
    "lengthen a lock": _retain("COMPLIANCE", 1),
    "shorten a lock": _retain("COMPLIANCE", -1),
    "downgrade a lock": _retain("GOVERNANCE", 3),
    "delete a locked version": lambda who, at: who.delete_object(Bucket=BUCKET, Key=at.key, VersionId=at.version),
    "delete a locked version with bypass": lambda who, at: who.delete_object(
        Bucket=BUCKET, Key=at.key, VersionId=at.version, BypassGovernanceRetention=True
    ),
    "delete in bulk": _bulk,
    "hide by a marker": lambda who, at: who.delete_object(Bucket=BUCKET, Key=at.key),
    "put a hold": lambda who, at: who.put_object_legal_hold(
        Bucket=BUCKET, Key=at.key, VersionId=at.version, LegalHold={"Status": "ON"}
    ),
    "suspend versioning": lambda who, at: who.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "set a life cycle": lambda who, at: who.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "none/"}, "Expiration": {"Days": 1}}]
        },
    ),
    "drop the bucket policy": lambda who, at: who.delete_bucket_policy(Bucket=BUCKET),
    "delete the bucket": lambda who, at: who.delete_bucket(Bucket=BUCKET),
    "make a bucket": lambda who, at: who.create_bucket(Bucket="another-bucket"),
    "copy outside its prefix": lambda who, at: who.copy_object(
        Bucket=BUCKET, Key="elsewhere/copy", CopySource={"Bucket": BUCKET, "Key": at.key, "VersionId": at.version}
    ),
    "upload in parts outside its prefix": lambda who, at: who.create_multipart_upload(Bucket=BUCKET, Key="elsewhere/m"),
}

READING = {"read a version", "read its lock", "list versions", "read the bucket's lock"}
ALLOWED = {
    "reader": READING,
    "verifier": READING,
    "sink-archive": READING | {"write chains", "write contents", "lengthen a lock"},
    "publisher": READING
    | {"write keys", "write policies", "write schemas", "write glossary", "write keys under hold", "lengthen a lock"}
    | {"put a hold"},
    "prober": READING | {"write selftest", "lengthen a lock"},
    "holds": READING | {"write holds", "put a hold", "lengthen a lock"},
}


@pytest.mark.parametrize("act", sorted(ACTS))
@pytest.mark.parametrize("role", sorted(ALLOWED))
def test_an_identity_may_exactly_what_its_role_needs(stack: Stack, locked: Locked, role: str, act: str) -> None:
    if act == "lengthen a lock":
        # each lengthening moves the date, so the act has an object of its own
        locked = Locked(f"{locked.key}-{role}", "", locked.until)
        version = put(client(stack, "sink-archive"), locked.key, mode="COMPLIANCE", until=locked.until)
        locked = Locked(locked.key, version, locked.until)
    got = outcome(lambda: ACTS[act](client(stack, role), locked))
    assert got == ("allowed" if act in ALLOWED[role] else DENIED)


@pytest.mark.parametrize(
    "act",
    [
        "shorten a lock",
        "downgrade a lock",
        "delete a locked version",
        "delete a locked version with bypass",
        "delete in bulk",
        "suspend versioning",
    ],
)
def test_even_the_administrator_cannot_break_a_compliance_lock(stack: Stack, locked: Locked, act: str) -> None:
    admin = client(stack, "admin")
    assert outcome(lambda: ACTS[act](admin, locked)) in (DENIED, "InvalidBucketState")
    body = admin.get_object(Bucket=BUCKET, Key=locked.key, VersionId=locked.version)["Body"].read()
    assert body == b"x" * 1024


def test_what_is_not_locked_the_administrator_deletes(stack: Stack) -> None:
    admin = client(stack, "admin")
    version = put(admin, "selftest/unlocked")
    assert outcome(lambda: admin.delete_object(Bucket=BUCKET, Key="selftest/unlocked", VersionId=version)) == "allowed"


@pytest.mark.parametrize("role", ["sink-archive", "publisher", "holds"])
def test_a_writer_cannot_delete_even_its_own_unlocked_object(stack: Stack, role: str) -> None:
    prefix = {"sink-archive": "contents", "publisher": "keys", "holds": "holds"}[role]
    who, key = client(stack, role), f"{prefix}/access/unlocked-{role}"
    version = put(who, key)
    bulk = {"Objects": [{"Key": key, "VersionId": version}]}
    assert outcome(lambda: who.delete_object(Bucket=BUCKET, Key=key)) == DENIED
    assert outcome(lambda: who.delete_object(Bucket=BUCKET, Key=key, VersionId=version)) == DENIED
    assert outcome(lambda: who.delete_objects(Bucket=BUCKET, Delete=bulk)) == DENIED  # type: ignore[arg-type]
    assert outcome(lambda: client(stack, "admin").delete_object(Bucket=BUCKET, Key=key, VersionId=version)) == "allowed"


def test_the_prober_bypasses_governance_and_never_compliance(stack: Stack) -> None:
    prober, until = client(stack, "prober"), datetime.now(UTC) + DAY
    governed = put(prober, "selftest/governed", mode="GOVERNANCE", until=until)
    compliant = put(prober, "selftest/compliant", mode="COMPLIANCE", until=until)

    def delete(key: str, version: str, *, bypass: bool) -> str:
        return outcome(
            lambda: prober.delete_object(Bucket=BUCKET, Key=key, VersionId=version, BypassGovernanceRetention=bypass)
        )

    assert delete("selftest/governed", governed, bypass=False) == DENIED
    assert delete("selftest/compliant", compliant, bypass=True) == DENIED
    assert delete("selftest/governed", governed, bypass=True) == "allowed"


def test_a_conditional_put_takes_an_absent_name_once(stack: Stack) -> None:
    sink = client(stack, "sink-archive")

    def attempt() -> str:
        return outcome(lambda: sink.put_object(Bucket=BUCKET, Key="chains/access/once", Body=b"1", IfNoneMatch="*"))

    assert [attempt(), attempt()] == ["allowed", "PreconditionFailed"]
