"""The evidence keys of the local stack: root, one keystore folder per role, and the certificates of all public keys.

    <state>/root/root.key         the root, "offline": no role's settings point at it; quarantine.key lies beside it
    <state>/root/root.vkey        its public half: the trust anchor of every verifier
    <state>/keys/<role>/<name>.key    32 raw bytes, 0600      <state>/keys/<role>/<name>.cert    beside each private key
    <state>/keys/certs/<name>.cert    every certificate, public

Who holds what is HOLDERS, after the table in the design: a sealer key and an archive key stand alone, and `holds`, `reader`
and `verifier` alone have the key of their own source beside the auditor's (ADR 8). The sealer makes tokens, with `tenant-index`
and the public half of `tenant-subject`; the reader, who has the private half, reveals them. Keys that exist stay; what a new
tenant or source needs, or a stack that an earlier version made lacks, is made at the next `up`. What follows a key or ends it:
`sealtrail keys`, here as anywhere.

Not here: how keys are used (`keystore`), and TLS (`infra.pki`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from infra.pki import write_private
from infra.places import Places
from infra.roles import SOURCES
from keystore.ceremony import Root
from sealtrail.certificate import Role

AUTHORITY = "audit.example"
DEPLOYMENT_TENANT = "@deployment"  # notes and the connectors' own open, pulse and close events
TENANTS = ("acme", "globex", "initech", "octo")  # those of the packaged class policy
OF_THE_DEPLOYMENT = ("verifier",)  # sources that state nothing of any tenant


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One key pair to make: its role, the name in its certificate, its file name, and the roles that hold it."""

    role: Role
    name: str
    file: str
    holders: tuple[str, ...]


def key_pairs(tenants: Iterable[str], authority: str = AUTHORITY) -> tuple[KeyPair, ...]:
    """Every key pair of the local stack, for all deployments of the authority. No holder: it stays with the root."""
    pairs = [KeyPair(Role.SOURCE, source, f"source-{source}", (source,)) for source in SOURCES]
    pairs += [
        KeyPair(Role.SEALER, authority, "sealer", ("sealer",)),
        KeyPair(Role.ARCHIVE, authority, "archive", ("sink-archive",)),
        KeyPair(Role.AUDITOR, authority, "auditor", ("verifier",)),
        KeyPair(Role.AUDITOR, authority, "auditor", ("holds",)),
        KeyPair(Role.AUDITOR, authority, "auditor", ("reader",)),
        KeyPair(Role.PIPELINE, authority, "pipeline", ("sealer",)),
        KeyPair(Role.QUARANTINE, authority, "quarantine", ()),
    ]
    for tenant in (*tenants, DEPLOYMENT_TENANT):
        pairs.append(KeyPair(Role.TENANT_DATA, tenant, f"tenant-data-{tenant}", ("verifier", "reader")))
        pairs.append(KeyPair(Role.TENANT_SUBJECT, tenant, f"tenant-subject-{tenant}", ("reader",)))
    return tuple(pairs)


def symmetric_keys(tenants: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """File name and holders of every symmetric key."""
    of_tenants = tuple(source for source in SOURCES if source not in OF_THE_DEPLOYMENT)
    hashing = {**dict.fromkeys(tenants, of_tenants), DEPLOYMENT_TENANT: SOURCES}
    return {
        **{f"tenant-hash-{tenant}": holders for tenant, holders in hashing.items()},
        **{f"tenant-index-{tenant}": ("sealer",) for tenant in hashing},
        **{f"spool-{source}": (source,) for source in SOURCES},
        "disclosure": ("sealer", "verifier", "reader"),
    }


def ensure(places: Places, now: datetime, *, tenants: Iterable[str] = TENANTS, authority: str = AUTHORITY) -> None:
    """Make what is missing of root, keys and certificates."""
    for folder in (places.root, places.keys):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificates = places.keys / "certs"
    certificates.mkdir(mode=0o755, exist_ok=True)
    root = _root(places.root, authority)
    names = tuple(tenants)
    for pair in key_pairs(names, authority):
        _ensure_pair(pair, places, certificates, root, now)
    for name, holders in symmetric_keys(names).items():
        _ensure_symmetric(name, [_keystore(places, holder) for holder in holders])


def _root(folder: Path, authority: str) -> Root:
    return Root.open(folder) if (folder / "root.key").exists() else Root.create(folder, authority)


def _keystore(places: Places, role: str) -> Path:
    folder = places.keys / role
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _ensure_pair(
    pair: KeyPair,
    places: Places,
    certificates: Path,
    root: Root,
    now: datetime,
) -> None:
    folders = [_keystore(places, holder) for holder in pair.holders] or [places.root]
    unique = f"{pair.file}-{pair.holders[0]}" if pair.role is Role.AUDITOR else pair.file
    public_copy = certificates / f"{unique}.cert"
    wanted = [folder / f"{pair.file}.{ending}" for folder in folders for ending in ("key", "cert")]
    if all(path.exists() for path in (*wanted, public_copy)):
        return
    private, public = _existing_or_new(pair, [folder / f"{pair.file}.key" for folder in folders])
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    _, text = root.certify(pair.role, pair.name, public, int(start.timestamp()))
    for folder in folders:
        write_private(folder / f"{pair.file}.key", private)
        write_private(folder / f"{pair.file}.cert", text.encode())
    public_copy.write_text(text, encoding="utf-8")


def _existing_or_new(pair: KeyPair, paths: Iterable[Path]) -> tuple[bytes, bytes]:
    """The raw private and public key; what one holder has already stays the key of all."""
    stored = next((path.read_bytes() for path in paths if path.exists()), None)
    signing = pair.role.algorithm == "Ed25519"
    if stored is None:
        stored = (Ed25519PrivateKey if signing else X25519PrivateKey).generate().private_bytes_raw()
    loaded = (Ed25519PrivateKey if signing else X25519PrivateKey).from_private_bytes(stored)
    return stored, loaded.public_key().public_bytes_raw()


def _ensure_symmetric(name: str, folders: list[Path]) -> None:
    paths = [folder / f"{name}.key" for folder in folders]
    stored = next((path.read_bytes() for path in paths if path.exists()), None) or secrets.token_bytes(32)
    for path in paths:
        if not path.exists():
            write_private(path, stored)
