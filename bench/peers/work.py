"""The work that every contestant does to a raw record, in plain Python: what naive form, Faust and Quix Streams share.

    decode → authenticate → check redaction → tokenise → encode → classify → chain → sign → route

1. Decode: the whole AuditEvent from its Avro single-object encoding.
2. Authenticate: the record's st-mac, under the key of the run that the event names. (Runs are opened once; their MAC keys
   are given.)
3. Check redaction: every field that the schema marks as hashed, masked, omitted or encrypted looks so. What is encrypted, a
   person's login, becomes a token under a key of that person, which is made at the first need; wrapping it for its tenant is
   left out.
4. Encode: the content is the one encoding of what was decoded, so nothing goes on that no one looked at.
5. Classify: the class policy's rules in their order; retention by class.
6. Chain: content digest, scope, `prev`, and the seal's bytes (docs/evidence-format.md); all values by the product's format.
7. Sign: what the policy names, and as many more as a chain has commit intervals.
8. Route: the sealed event to archive, and by the policy to hot and SIEM.

The sealer does more: contract, entitlement, numbering of runs, the net for secrets, activity, quarantine. It is not asked of
the others. A record that fails a check ends the contestant: the benchmark's input has none.

Only fastavro and cryptography are needed, so that it runs in another engine's environment. `SealStreams.java` is the same
work in Java.
"""

from __future__ import annotations

import base64
import hmac
import io
import json
import os
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import fastavro
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

DAY_US = 86_400_000_000
HEADER = 10  # bytes: marker and fingerprint of the single-object encoding
ARCHIVE, HOT, SIEM = 1, 2, 4
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What a contestant is told, as JSON in a file. Bytes are hex; paths are absolute; sizes and times as named."""

    name: str  # also the group, the application's id and the transactional id
    bootstrap: str
    ca: str
    certificate: str
    key: str
    keystore: str  # certificate and key in one PEM file, as a JVM wants them
    raw: str
    archive: str
    hot: str
    siem: str
    partitions: int
    commit_ms: int
    chain: str  # of partition p: chain + str(p)
    event_schema: str
    event_header: str
    seal_schema: str
    seal_header: str
    sealed_schema: str
    sealed_header: str
    content_schema: str
    policy: str
    retain_ms: dict[str, int]  # by class
    signing_key: str
    key_id: str
    disclosure_key: str
    mac_keys: dict[str, str]  # by a run's epoch
    token_keys: dict[str, str]  # of encrypted fields, by a run's epoch
    state: str  # a folder of the contestant's own

    @classmethod
    def read(cls, path: str) -> Task:
        """The task in a file."""
        return cls(**json.loads(Path(path).read_text()))


@dataclass(slots=True)
class Head:
    """Where a chain stands: the next seq, the last leaf hash, the time of the last seal and of the last signed one."""

    seq: int = 0
    prev: bytes = bytes(32)
    sealed_at: int = 0
    signed_at: int = 0

    def as_json(self) -> list[Any]:
        """For a state store that takes JSON."""
        return [self.seq, self.prev.hex(), self.sealed_at, self.signed_at]

    @classmethod
    def of_json(cls, value: list[Any] | None) -> Head:
        """The head in a state store, or a chain's first."""
        return cls() if value is None else cls(value[0], bytes.fromhex(value[1]), value[2], value[3])


@dataclass(frozen=True, slots=True)
class Checked:
    """A record after steps 1 to 5."""

    offset: int
    event_id: bytes
    tenant: str
    content: bytes
    log_class: str
    sign: bool
    routes: int


class Work:
    """The steps for one contestant."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._scope_keys: dict[tuple[str, str], bytes] = {}
        self._subjects: dict[tuple[str, str], tuple[str, AESSIV]] = {}
        self._token_keys = {bytes.fromhex(epoch): AESGCM(bytes.fromhex(key)) for epoch, key in task.token_keys.items()}
        self._mac_keys = {bytes.fromhex(epoch): bytes.fromhex(key) for epoch, key in task.mac_keys.items()}
        self._event_schema = _parsed(task.event_schema)
        self._seal_schema = _parsed(task.seal_schema)
        self._sealed_schema = _parsed(task.sealed_schema)
        self._event_header = bytes.fromhex(task.event_header)
        self._seal_header = bytes.fromhex(task.seal_header)
        self._sealed_header = bytes.fromhex(task.sealed_header)
        self._topic = task.raw.encode()
        self._policy = bytes.fromhex(task.policy)
        self._content_schema = bytes.fromhex(task.content_schema)
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(task.signing_key))
        self._key_id = bytes.fromhex(task.key_id)
        self._disclosure = bytes.fromhex(task.disclosure_key)

    def check(self, value: bytes, mac: bytes, offset: int) -> Checked:
        """Steps 1 to 5 for a record at a raw offset. Raises ValueError for one that fails."""
        event = self._decode(value)
        self._authenticate(event["emitter"], value, mac)
        check_redaction(event)
        self._tokenise(event)
        content = _encode(self._event_header, self._event_schema, event)
        log_class, sign, routes = classify(event)
        return Checked(offset, event["event_id"], event["tenant"], content, log_class, sign, routes)

    def due(self, head: Head) -> bool:
        """Whether a commit interval has passed since a chain's last signature: for who does not see its transaction's end."""
        return time.time_ns() // 1000 - head.signed_at >= self.task.commit_ms * 1000

    def link(self, head: Head, partition: int, checked: Checked, *, sign: bool) -> bytes:
        """Steps 6 and 7: the sealed event's bytes; the head moves on."""
        head.sealed_at = max(head.sealed_at, time.time_ns() // 1000)
        chain, salt = self.task.chain + str(partition), os.urandom(16)
        digest = sha256(
            b"sealtrail/content/v1\n" + salt + self._policy + self._content_schema + checked.event_id + checked.content
        )
        retain_us = head.sealed_at + self.task.retain_ms[checked.log_class] * 1000
        seal = _encode(
            self._seal_header,
            self._seal_schema,
            {
                "prev": head.prev,
                "content_digest": digest.digest(),
                "scope": self._scope(checked.tenant, chain, head.seq),
                "version": 1,
                "kind": "EVENT",
                "reason": "NONE",
                "log_class": checked.log_class,
                "signed": sign,
                "routes": checked.routes,
                "seq": head.seq,
                "source_offset": checked.offset,
                "source_count": 1,
                "sealed_at": head.sealed_at,
                "retain_until": -(-retain_us // DAY_US) * (DAY_US // 1000),
                "chain": chain,
            },
        )
        leaf = sha256(b"\x00" + seal).digest()
        signature = None
        if sign:
            signature = {"key_id": self._key_id, "value": self._key.sign(b"sealtrail/seal/v1\n" + leaf)}
            head.signed_at = head.sealed_at
        head.prev = leaf
        head.seq += 1
        return _encode(
            self._sealed_header,
            self._sealed_schema,
            {
                "seal": seal,
                "salt": salt,
                "policy": self._policy,
                "content_schema": self._content_schema,
                "event_id": checked.event_id,
                "content": checked.content,
                "signature": signature,
            },
        )

    def outputs(self, routes: int) -> list[str]:
        """Step 8: the topics that a sealed event goes to."""
        task = self.task
        return [topic for bit, topic in ((ARCHIVE, task.archive), (HOT, task.hot), (SIEM, task.siem)) if routes & bit]

    def _decode(self, value: bytes) -> Event:
        if value[:HEADER] != self._event_header:
            raise ValueError("unknown schema")
        body = io.BytesIO(value)
        body.seek(HEADER)
        event = cast("Event", fastavro.schemaless_reader(body, self._event_schema, None))
        if body.tell() != len(value):
            raise ValueError("bytes after the event")
        return event

    def _authenticate(self, emitter: Event, value: bytes, mac: bytes) -> None:
        key = self._mac_keys.get(emitter["epoch"])
        message = self._topic + emitter["seq"].to_bytes(8, "big") + sha256(value).digest()
        if key is None or not hmac.compare_digest(mac, hmac.digest(key, message, "sha256")):
            raise ValueError("not authentic")

    def _tokenise(self, event: Event) -> None:
        """Put tokens in the places of encrypted logins."""
        emitter, tenant = event["emitter"], event["tenant"]
        for name in ("actor", "subject"):
            person = event[name]
            if person is None or not person["login"]:
                continue
            data = base64.urlsafe_b64decode(person["login"][4:] + "==")
            nonce = emitter["seq"].to_bytes(8, "big") + data[:4]
            about = event["event_id"] + f"{name}.login".encode()
            text = self._token_keys[emitter["epoch"]].decrypt(nonce, data[4:], about)
            key_id, siv = self._subject(tenant, person["id"])
            sealed = siv.encrypt(text, [b"sealtrail/token/v1\n" + tenant.encode()])
            person["login"] = f"tok_{key_id}_{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def _subject(self, tenant: str, subject: str) -> tuple[str, AESSIV]:
        found = self._subjects.get((tenant, subject))
        if found is None:
            key = os.urandom(64)
            key_id = sha256(b"sealtrail/key-id/v1\n" + key).hexdigest()[:16]
            found = self._subjects[tenant, subject] = (key_id, AESSIV(key))
        return found

    def _scope(self, tenant: str, chain: str, seq: int) -> bytes:
        key = self._scope_keys.get((tenant, chain))
        if key is None:
            name = tenant.encode()
            message = len(name).to_bytes(4, "big") + name + chain.encode()
            key = self._scope_keys[tenant, chain] = hmac.digest(self._disclosure, message, "sha256")
        return hmac.digest(key, seq.to_bytes(8, "big"), "sha256")[:16]


def _parsed(path: str) -> Any:
    """A schema, compiled; times stay integers, as the product reads them."""
    return fastavro.parse_schema(_plain(json.loads(Path(path).read_text())))


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _plain(below) for name, below in node.items() if name != "logicalType"}
    return [_plain(below) for below in node] if isinstance(node, list) else node


def _encode(header: bytes, schema: Any, value: Event) -> bytes:
    buffer = io.BytesIO()
    buffer.write(header)
    fastavro.schemaless_writer(buffer, schema, value)
    return buffer.getvalue()


# -- redaction: the form that each marked field must have

HASHED = re.compile(r"hmac_[0-9a-f]{16}_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
ENCRYPTED = re.compile(r"enc_[A-Za-z0-9_-]{28,}")
CLEAR = re.compile(r'null|true|false|-?[0-9]{1,12}|"[a-z_]{1,32}"')
CLEAR_PATHS = frozenset(
    ("/visibility", "/permission", "/role", "/privacy", "/state", "/archived", "/enabled", "/retention_days", "/rule")
)
KEPT = "*@.-_/: +()"


def check_redaction(event: Event) -> None:
    """Raise ValueError for a marked field that is not redacted."""
    for person in (event["actor"], event["subject"]):
        if person is not None:
            _hashed(person["id"])
            _masked(person["display"])
            if person["login"] and ENCRYPTED.fullmatch(person["login"]) is None:
                raise ValueError("a login is not encrypted")
    for name in ("sender", "approver", "credential", "source_ip"):
        _hashed(event[name])
    _masked(event["object_name"])
    _masked(event["reason"])
    if event["detail"]:
        raise ValueError("detail: not omitted")
    for change in event["changes"]:
        for value in (change["before"], change["after"]):
            if value is not None and not (change["path"] in CLEAR_PATHS and CLEAR.fullmatch(value)):
                _masked(value)


def _hashed(value: str | None) -> None:
    if value and HASHED.fullmatch(value) is None:
        raise ValueError("a field is not hashed")


def _masked(value: str | None) -> None:
    if value and value[: len(value) - min(4, len(value) // 4)].strip(KEPT):
        raise ValueError("a field is not masked")


# -- the class policy's rules, in their order: schemas/policy/base.toml

CHANGES = (
    "github.branch_protection",
    "github.deploy_key",
    "github.deployment",
    "github.github_app_authorization",
    "github.installation",
    "github.member",
    "github.meta",
    "github.org_block",
    "github.organization",
    "github.personal_access_token",
    "github.public",
    "github.repository.",
    "github.repository_ruleset",
    "github.security_and_analysis",
    "github.team",
)
ALERTS = (
    "github.code_scanning_alert",
    "github.dependabot_alert",
    "github.repository_advisory",
    "github.repository_vulnerability_alert",
    "github.secret_scanning_alert",
    "github.security_advisory",
)
ROUTINE = ("github.workflow_", "github.check_")
BY_TYPE = {
    "POLICY": ("SECURITY", True, 7),
    "EXPORT": ("COMPLIANCE", True, 7),
    "RETENTION": ("COMPLIANCE", True, 7),
    "HOLD": ("COMPLIANCE", True, 7),
    "ERASURE": ("COMPLIANCE", True, 7),
    "DETECTION": ("SECURITY", True, 7),
    "RESPONSE": ("SECURITY", True, 7),
    "AUTHENTICATION": ("SECURITY", False, 7),
}


def classify(event: Event) -> tuple[str, bool, int]:
    """Class, whether the policy has it signed, and routes of an event."""
    name, kind = event["event_name"], event["event_type"]
    if event["tenant"] == "@deployment" and name.startswith("emitter."):
        return "OPERATIONAL", False, 3
    if (kind in ("ADMIN", "DEPLOYMENT") or name.startswith(CHANGES)) and not name.startswith(ROUTINE):
        return "ADMIN", True, 7
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    authorization = event["authorization"]
    if event["result"] == "DENIED" or (authorization is not None and authorization["decision"] == "DENY"):
        return "SECURITY", False, 7
    if kind == "ACCESS":
        return "SECURITY", False, 3
    if kind == "REVIEW":
        return "COMPLIANCE", False, 3
    if name.startswith(ALERTS):
        return "SECURITY", False, 7
    if ".connector." in name:
        return "OPERATIONAL", False, 7
    if kind == "OTHER" and ".debug." in name:
        return "DEBUG", False, 3
    return "OPERATIONAL", False, 3
