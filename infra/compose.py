"""What the containers of `compose.yaml` are given: a folder each, with only what that one may have.

    python -m infra.compose prepare [STATE]    on the host, before `docker compose up`; harmless when repeated
    python -m infra.compose provision          in a container, as `admin`: topics, rights and the bucket

    STATE/all/          everything, as on the local stack: root and authorities too. No container mounts it.
    STATE/for/<name>/   mounted at /sealtrail: a server's configuration, or a role's settings, certificate and keys
    STATE/data/<name>/  mounted at /data
    STATE/siem/         mounted at /siem: the place for your SIEM's authority

Versions, options, topics and rights are those of the local stack: the same functions give them, with other addresses.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from infra import bucket, kafka, keys, roles, seaweed
from infra.pki import Authority, TlsFiles, utc_now, write_private
from infra.places import Hosts, Places, Ports
from kafkaio.admin import provision, reachable
from schemas import catalogue
from schemas.settings import Settings
from sealtrail.errors import ConfigError, SealtrailError, TransientError

MOUNT = Path("/sealtrail")
DATA = Path("/data")
SOCKETS = Path("/tmp")  # of the container alone
DEFAULT_STATE = Path(".sealtrail-compose")
BUCKET = "sealtrail"
HOSTS = Hosts(kafka="kafka", s3="seaweed", opensearch="opensearch", listen="0.0.0.0")
PORTS = Ports(
    kafka=9092,
    kafka_controller=9093,
    s3=8333,
    s3_grpc=18333,
    filer=8888,
    filer_grpc=18888,
    master=9333,
    master_grpc=19333,
    volume=8080,
    volume_grpc=18080,
    opensearch=9200,
    opensearch_transport=9300,
)
BROKER_TLS = TlsFiles(certificate=MOUNT / "broker.pem", key=MOUNT / "broker.pem", ca=MOUNT / "ca.pem")
S3_TLS = TlsFiles(certificate=MOUNT / "s3.pem", key=MOUNT / "s3.key", ca=MOUNT / "ca.pem")
PROVISION_S = 120.0  # images start slower than processes
LOOK_S = 1.0


def prepare(state: Path) -> None:
    """Make what is missing of keys and certificates, and write every container's folder."""
    everything = Places(state / "all")
    authority = Authority(everything.tls / "ca.pem", everything.root / "ca.key", "sealtrail compose", utc_now())
    tls = {role: authority.issue(everything.tls, role) for role, needs in roles.ROLES.items() if needs.kafka}
    broker = authority.issue(everything.tls, "broker", server=True, host=HOSTS.kafka)
    s3 = authority.issue(everything.tls, "s3", server=True, host=HOSTS.s3)
    keys.ensure(everything, utc_now())
    (state / "siem").mkdir(mode=0o700, exist_ok=True)
    _broker(state, broker)
    credentials = _s3_server(state, everything, s3)
    for role in roles.ROLES:
        _role(state, everything, role, tls.get(role), s3, credentials.get(role))


def _folder(state: Path, name: str) -> Path:
    """The folder of one container. It stays the same folder: one that runs has it mounted."""
    folder = state / "for" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _data(state: Path, name: str) -> Path:
    folder = state / "data" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _broker(state: Path, tls: TlsFiles) -> None:
    folder, data = _folder(state, kafka.NAME), _data(state, kafka.NAME)
    write_private(folder / "broker.pem", kafka.keystore_of(tls))
    shutil.copyfile(tls.ca, folder / "ca.pem")
    text = kafka.properties(PORTS, DATA / "log", BROKER_TLS.certificate, BROKER_TLS.ca, HOSTS)
    (folder / "server.properties").write_text(text)
    (folder / "log4j2.xml").write_text(kafka.LOGGING)
    cluster = data / "cluster-id"
    if not cluster.exists():
        cluster.write_text(kafka.new_cluster_id())


def _s3_server(state: Path, everything: Places, tls: TlsFiles) -> dict[str, seaweed.Credentials]:
    _data(state, seaweed.NAME)
    folder, home = _folder(state, seaweed.NAME), everything.server(seaweed.NAME)
    credentials = seaweed.identities(home, (BUCKET,))
    seaweed.secure(home, everything)
    for name in ("s3.json", "security.toml"):
        shutil.copy2(home / name, folder / name)
    shutil.copytree(home / "grpc", folder / "grpc", dirs_exist_ok=True)
    for path in (tls.certificate, tls.key):
        shutil.copy2(path, folder / path.name)
    return credentials


def s3_options() -> dict[str, object]:
    """The S3 server's options in its container."""
    return seaweed.options(DATA, SOCKETS, MOUNT / "s3.json", S3_TLS, PORTS, HOSTS)


def _role(
    state: Path, everything: Places, role: str, own: TlsFiles | None, s3: TlsFiles, credentials: seaweed.Credentials | None
) -> None:
    """A role's folder: laid out as on the local stack, with nothing of another role."""
    folder, seen = Places(_folder(state, role)), Places(MOUNT)
    for place in (folder.tls, folder.root, folder.keys):
        place.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(s3.ca, folder.tls / "ca.pem")
    files = {"s3": TlsFiles(certificate=seen.tls, key=seen.tls, ca=seen.tls / "ca.pem")}  # a role knows its authority alone
    if own is not None:
        files[role] = TlsFiles(certificate=seen.tls / own.certificate.name, key=seen.tls / own.key.name, ca=seen.tls / "ca.pem")
        for path in (own.certificate, own.key):
            shutil.copy2(path, folder.tls / path.name)
    shutil.copyfile(everything.root / "root.vkey", folder.root / "root.vkey")
    shutil.copytree(everything.keys / "certs", folder.keys / "certs", dirs_exist_ok=True)
    if roles.ROLES[role].keys:
        shutil.copytree(everything.keys / role, folder.keys / role, dirs_exist_ok=True)
    values = roles.settings_of(role, seen, PORTS, files, credentials, BUCKET, HOSTS)
    write_private(folder.state / "settings.toml", roles.as_toml(values))
    if "verifier_state" in values:
        _data(state, role)
        Path(values["verifier_state"].replace(str(MOUNT), str(folder.state))).mkdir(mode=0o700, exist_ok=True)  # to mount on


def provision_all(settings: Settings) -> None:
    """Topics, rights and the bucket, as soon as the servers answer. Raises TransientError when they do not."""
    if not (settings.archive_access_key and settings.archive_secret_key and settings.archive_ca):
        raise ConfigError("provisioning needs the settings of role admin")
    given = seaweed.Credentials(settings.archive_access_key.get_secret_value(), settings.archive_secret_key.get_secret_value())
    client = bucket.s3_client(settings.archive_endpoint, settings.archive_ca, given)
    deadline = time.monotonic() + PROVISION_S
    while True:
        problem = reachable(settings, timeout_s=3) or bucket.reachable(client)
        if problem is None:
            break
        if time.monotonic() > deadline:
            raise TransientError(f"the servers do not answer after {PROVISION_S:.0f} s: {problem}")
        time.sleep(LOOK_S)
    made = provision(settings, catalogue.load())
    bucket.ensure(client, settings.archive_bucket)
    print(f"{len(made.topics)} topics, {made.acls} rights, bucket {settings.archive_bucket}", file=sys.stderr)


def main(words: list[str]) -> int:
    """The two commands; the exit status."""
    try:
        match words:
            case ["prepare"]:
                prepare(DEFAULT_STATE)
            case ["prepare", state]:
                prepare(Path(state))
            case ["provision"]:
                provision_all(Settings.load(MOUNT / "settings.toml"))
            case _:
                print("usage: python -m infra.compose prepare [STATE] | provision", file=sys.stderr)
                return 2
    except SealtrailError as error:
        print(f"infra.compose: {error}", file=sys.stderr)
        return 3 if isinstance(error, ConfigError) else 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
