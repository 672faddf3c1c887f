"""One settings file per role, `<state>/roles/<role>.toml`, holding only what that role may have.

Not here: what the credentials allow; see the topic catalogue (Kafka) and `infra.seaweed.RIGHTS` (S3).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.pki import TlsFiles, write_private
from infra.places import LOOPBACK, Hosts, Places, Ports
from infra.seaweed import Credentials

CONNECTORS = ("github", "chat", "loadgen", "ci")
SOURCES = (*CONNECTORS, "detect", "holds", "reader", "publisher", "verifier")  # whoever states events, with a certified key


@dataclass(frozen=True, slots=True)
class Needs:
    """Which servers a role reaches and whether it has a keystore."""

    kafka: bool = False
    archive: bool = False
    search: bool = False
    keys: bool = False


ROLES: Mapping[str, Needs] = {
    "admin": Needs(kafka=True, archive=True),
    **{name: Needs(kafka=True, keys=True) for name in CONNECTORS},
    "detect": Needs(kafka=True, keys=True),
    "sealer": Needs(kafka=True, keys=True),
    "sink-archive": Needs(kafka=True, archive=True, keys=True),
    "sink-search": Needs(kafka=True, search=True),
    "sink-siem": Needs(kafka=True),
    "verifier": Needs(kafka=True, archive=True, keys=True),
    "publisher": Needs(kafka=True, archive=True, keys=True),
    "prober": Needs(archive=True),
    "holds": Needs(kafka=True, archive=True, keys=True),
    "reader": Needs(kafka=True, archive=True, search=True, keys=True),
}


def s3_endpoint(ports: Ports, hosts: Hosts = LOOPBACK) -> str:
    """The address of the S3 server."""
    return f"https://{hosts.s3}:{ports.s3}"


def settings_of(
    role: str,
    places: Places,
    ports: Ports,
    tls: Mapping[str, TlsFiles],
    credentials: Credentials | None,
    bucket: str,
    hosts: Hosts = LOOPBACK,
) -> dict[str, str]:
    """The settings of one role, by name. Nothing is read: `places` and `tls` may be as somebody else will see them."""
    needs = ROLES[role]
    values = {"role": role}
    values["root_vkey"] = str(places.root / "root.vkey")
    values["certificates"] = str(places.keys / "certs")
    if needs.kafka:
        values["kafka_bootstrap"] = f"{hosts.kafka}:{ports.kafka}"
        values["kafka_ca"] = str(tls[role].ca)
        values["kafka_certificate"] = str(tls[role].certificate)
        values["kafka_key"] = str(tls[role].key)
    if needs.archive and credentials:
        values["archive_endpoint"] = s3_endpoint(ports, hosts)
        values["archive_ca"] = str(tls["s3"].ca)
        values["archive_bucket"] = bucket
        values["archive_access_key"] = credentials.access_key
        values["archive_secret_key"] = credentials.secret_key
    if needs.search:
        values["search_endpoint"] = f"http://{hosts.opensearch}:{ports.opensearch}"
    if role == "verifier":
        values["verifier_state"] = str(places.state / "verifier")
    if role == "reader":
        values["reader_role"] = "auditor"
    if role in ("reader", "holds", "publisher"):
        values["person"] = os.environ.get("USER") or "local"
    if needs.keys:
        values["keys"] = f"file:{places.keys / role}"
    return values


def write(
    places: Places, ports: Ports, tls: Mapping[str, TlsFiles], credentials: Mapping[str, Credentials], bucket: str
) -> dict[str, Path]:
    """Write every role's file (0600) and return the paths. Paths inside are absolute, so `up` writes them anew."""
    places.roles.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = {}
    for role in ROLES:
        values = settings_of(role, places, ports, tls, credentials.get(role), bucket)
        paths[role] = places.roles / f"{role}.toml"
        write_private(paths[role], as_toml(values))
    return paths


def as_toml(values: Mapping[str, str]) -> bytes:
    """A settings file. A JSON string is a TOML basic string for what stands here: paths, addresses, base64."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()).encode()
