"""SeaweedFS as the S3 server with Object Lock, with its side doors closed.

Its defaults undo WORM: the filer's HTTP port deletes locked objects without credentials, the shell does so over gRPC,
telemetry and two catalogue servers listen by themselves. Here HTTP is off for master and filer, every HTTP token is
signed with a key that nobody but the server has, gRPC wants certificates of an authority of its own, unix sockets lie
in a folder of this user, and S3 speaks TLS. `tests/test_access.py` tries each of these doors.

Rights: an identity per role in `s3.json`, read at start; a bucket policy denies the deletes that `Write` includes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from infra.pki import Authority, TlsFiles, utc_now, write_private
from infra.places import HOST, LOOPBACK, Hosts, Places, Ports
from infra.server import Launch
from sealtrail.errors import ConfigError

NAME = "seaweed"
START_S = 60.0  # 3.3 s measured
STOP_S = 4.0  # asked to end, its filer waits up to a minute for the volume server that ended first; what is written is safe

READ = ("Read", "List", "GetBucketObjectLockConfiguration", "GetObjectRetention", "GetObjectLegalHold")

# Per role: actions on the whole bucket, and prefixes it may write. `Write` includes delete; see NO_DELETE.
RIGHTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "admin": (("Admin",), ()),
    "sink-archive": ((*READ, "PutObjectRetention"), ("chains", "contents")),
    "publisher": ((*READ, "PutObjectRetention", "PutObjectLegalHold"), ("keys", "policies", "schemas", "glossary")),
    "reader": (READ, ()),
    "verifier": (READ, ()),
    "prober": ((*READ, "PutObjectRetention", "BypassGovernanceRetention"), ("selftest",)),
    "holds": ((*READ, "PutObjectRetention", "PutObjectLegalHold"), ("holds",)),
}
NO_DELETE = ("sink-archive", "publisher", "holds")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an S3 client shows: an access key and its secret."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r}, secret_key=***)"


def actions(role: str, buckets: Iterable[str]) -> list[str]:
    """The identity's actions in SeaweedFS's words, for every bucket."""
    whole, prefixes = RIGHTS[role]
    if role == "admin":
        return list(whole)
    stated = []
    for bucket in buckets:
        stated += [f"{action}:{bucket}" for action in whole]
        stated += [f"Write:{bucket}/{prefix}/*" for prefix in prefixes]
    return stated


def bucket_policy(bucket: str) -> str:
    """The policy that denies every delete to those who write and may not delete."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "NoDelete",
                    "Effect": "Deny",
                    "Principal": {"AWS": [f"arn:aws:iam::*:user/{role}" for role in NO_DELETE]},
                    "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
                    "Resource": [f"arn:aws:s3:::{bucket}/*"],
                }
            ],
        }
    )


def identities(home: Path, buckets: Iterable[str]) -> dict[str, Credentials]:
    """Every role's credentials, made on first use; writes `s3.json`, which the server reads at start."""
    path = home / "credentials.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for role in RIGHTS:
        known.setdefault(role, [secrets.token_hex(10), secrets.token_urlsafe(30)])
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps(known).encode())
    names = tuple(buckets)
    entries = [
        {
            "name": role,
            "credentials": [{"accessKey": known[role][0], "secretKey": known[role][1]}],
            "actions": actions(role, names),
        }
        for role in RIGHTS
    ]
    write_private(home / "s3.json", json.dumps({"identities": entries}, indent=1).encode())
    return {role: Credentials(*known[role]) for role in RIGHTS}


def secure(home: Path, places: Places) -> None:
    """Write `security.toml` and what it names, by paths relative to `home`, the server's working directory."""
    authority = Authority(home / "grpc" / "ca.pem", places.root / "seaweed-ca.key", "sealtrail seaweed", utc_now())
    files = authority.issue(home / "grpc", "seaweed", server=True)
    ca, certificate, key = (path.relative_to(home) for path in (files.ca, files.certificate, files.key))
    path = home / "security.toml"
    if path.exists():
        return  # the signing keys stay: tokens of a running server must not change
    lines = []
    for section in ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read"):
        lines += [f"[{section}]", f'key = "{secrets.token_urlsafe(32)}"', ""]
    lines += ["[grpc]", f'ca = "{ca}"', ""]
    for part in ("master", "volume", "filer", "s3", "client"):
        lines += [f"[grpc.{part}]", f'cert = "{certificate}"', f'key = "{key}"', ""]
    write_private(path, "\n".join(lines).encode())


def program() -> str:
    """The path of `weed`, which its wheel puts beside the interpreter. Raises ConfigError when it is not there."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if not found:
        raise ConfigError("no `weed` beside the interpreter: install the extra `stack`")
    return found


def _sockets(home: Path) -> Path:
    """A folder of this user for unix sockets, whose paths must stay below 108 bytes."""
    folder = home / "sockets"
    if len(str(folder)) > 80:
        folder = Path(tempfile.gettempdir()) / f"sealtrail-{sha256(str(home).encode()).hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise ConfigError(f"{NAME}: {folder} is not a private folder of this user: remove it")
    return folder


def remove_sockets(ports: Ports) -> None:
    """Remove the unix sockets that a server which was killed leaves in /tmp; gRPC under TLS like the ports."""
    for port in (ports.filer_grpc, ports.master_grpc, ports.volume_grpc, ports.s3_grpc):
        for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            path.unlink(missing_ok=True)


def options(
    data: Path, sockets: Path, identities_file: Path, tls: TlsFiles, ports: Ports, hosts: Hosts = LOOPBACK
) -> dict[str, object]:
    """The server's options. Only S3 listens beyond the loopback interface, and only where `hosts` says so."""
    return {
        "dir": data,
        "ip": HOST,
        "ip.bind": HOST,
        "disableHttp": "true",
        "master.peers": "none",  # restart in 2 s instead of 13
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "master.port": ports.master,
        "master.port.grpc": ports.master_grpc,
        "volume.port": ports.volume,
        "volume.port.grpc": ports.volume_grpc,
        "volume.max": 100,
        "volume.preStopSeconds": 1,
        "filer": "true",
        "filer.port": ports.filer,
        "filer.port.grpc": ports.filer_grpc,
        "filer.localSocket": sockets / "filer",
        "s3": "true",
        "s3.ip.bind": hosts.listen,
        "s3.port": ports.s3,
        "s3.port.grpc": ports.s3_grpc,
        "s3.localSocket": sockets / "s3",
        "s3.cert.file": tls.certificate,
        "s3.key.file": tls.key,
        "s3.config": identities_file,
        "s3.iam": "false",  # an API that changes identities
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
    }


def arguments(options: Mapping[str, object]) -> tuple[str, ...]:
    """What follows the program's name."""
    return ("-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items()))


def launch(places: Places, ports: Ports, tls: TlsFiles, health: Callable[[], str | None]) -> Launch:
    """Write the configuration and say how to start the server. `identities` must have been called before."""
    home = places.server(NAME)
    data = home / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secure(home, places)
    stated = options(data, _sockets(home), home / "s3.json", tls, ports)
    return Launch(
        name=NAME,
        command=(program(), *arguments(stated)),
        cwd=home,  # security.toml is read from the working directory
        ports={
            "s3": ports.s3,
            "s3 grpc": ports.s3_grpc,
            "filer": ports.filer,
            "filer grpc": ports.filer_grpc,
            "master": ports.master,
            "master grpc": ports.master_grpc,
            "volume": ports.volume,
            "volume grpc": ports.volume_grpc,
        },
        health=health,
        patience_s=START_S,
        stop_s=STOP_S,
    )
