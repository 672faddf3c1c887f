"""The local stack as one object: up, down, status, reset. State in one folder, processes detached from this one.

`up` is idempotent: certificates, keys, credentials, topics, rights and the bucket are made if they are not there,
servers that run and are healthy stay as they are. The servers start side by side; when one fails the others stay up and
the next `up` goes on from there. `down` ends the processes that the pid files name, if they are still those. `reset`
also removes the folder.

What is true after `up` returns: every server answered an authenticated request, every topic and right of the catalogue
exists, the bucket has Object Lock and its policy, and each role's settings file works.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra import bucket, kafka, keys, lock, opensearch, process, roles, seaweed
from infra.artifacts import obtain_all, unpacked
from infra.pki import Authority, TlsFiles, utc_now
from infra.places import DEFAULT_BASE_PORT, HOST, Places, Ports
from infra.report import Reporter
from infra.server import Launch, answers, bring_up, refuse_taken
from kafkaio.admin import provision, reachable
from schemas import catalogue
from schemas.settings import Settings
from sealtrail.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVERS = (kafka.NAME, seaweed.NAME, opensearch.NAME)
DEFAULT_STATE = Path(".sealtrail")
DEFAULT_BUCKET = "sealtrail-local"
STOP_S = {kafka.NAME: kafka.STOP_S, seaweed.NAME: seaweed.STOP_S, opensearch.NAME: opensearch.STOP_S}
MARKER = "sealtrail-state"  # `reset` removes only a folder that carries it


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server as it is now. `memory_mib` is its resident memory."""

    name: str
    running: bool
    healthy: bool
    pid: int | None
    memory_mib: int
    address: str
    log: str


class Stack:
    """The servers of one state folder.

    Args:
        state: the folder; made by `up`.
        ports: where to listen. None takes those of the last `up`, or else the default ones.
        buckets: names of the buckets; the roles' settings name the first, and its rights hold in all.
        raw_partitions: partitions of the raw topic; None takes the catalogue's number.
        report: where progress goes.
    """

    def __init__(
        self,
        state: Path = DEFAULT_STATE,
        *,
        ports: Ports | None = None,
        buckets: tuple[str, ...] = (DEFAULT_BUCKET,),
        raw_partitions: int | None = None,
        report: Reporter | None = None,
    ) -> None:
        self.places = Places(state.resolve())
        self.ports = ports or self._recorded_ports() or Ports.from_base(DEFAULT_BASE_PORT)
        self.buckets = buckets
        self._raw_partitions = raw_partitions
        self._report = report or Reporter()

    def role_file(self, role: str) -> Path:
        """The settings file of `role`; exists after `up`."""
        return self.places.roles / f"{role}.toml"

    def settings(self, role: str, **flags: object) -> Settings:
        """The settings of `role`, with `flags` over them."""
        return Settings.load(self.role_file(role), **flags)

    # -- up

    def up(self, *, search: bool = True, archive: bool = True) -> None:
        """Bring everything up; returns when it is healthy. Raises ConfigError or TransientError with one clear line.

        Args:
            search, archive: whether OpenSearch and the S3 server are wanted.
        """
        self._prepare()
        paths = obtain_all(self._wanted(search=search), self._report)
        tls = self._certificates()
        credentials = seaweed.identities(self.places.server(seaweed.NAME), self.buckets)
        keys.ensure(self.places, utc_now())
        roles.write(self.places, self.ports, tls, credentials, self.buckets[0])
        launches = [self.kafka_launch(paths, tls)]
        if archive:
            launches.append(self.seaweed_launch(tls))
        if search:
            launches.append(self._opensearch_launch(paths))
        for launch in launches:
            refuse_taken(launch, self.places)  # before anything is started
        after = {kafka.NAME: self._topics, seaweed.NAME: self._buckets}
        with ThreadPoolExecutor(max_workers=len(launches)) as pool:
            futures = [pool.submit(self._bring_up, launch, after.get(launch.name)) for launch in launches]
        for future in futures:
            future.result()
        self._report.line(f"up: {self.places.roles}/<role>.toml · logs in {self.places.logs}")

    def _prepare(self) -> None:
        state = self.places.state
        if state.exists() and any(state.iterdir()) and not (state / MARKER).exists():
            raise ConfigError(f"state folder {state} holds something else; choose another with --state")
        state.mkdir(mode=0o755, parents=True, exist_ok=True)
        (state / MARKER).write_text("made by `sealtrail stack up`; `sealtrail stack reset` removes it\n")
        for folder in (self.places.run, self.places.logs):
            folder.mkdir(exist_ok=True)
        recorded = self._recorded_ports()
        if recorded != self.ports:
            if any(process.running(self.places.pid_file(name)) for name in SERVERS):
                raise ConfigError(f"the stack in {state} runs on other ports: take it down first")
            (self.places.run / "ports.json").write_text(json.dumps(asdict(self.ports), indent=1))

    def _wanted(self, *, search: bool) -> list[lock.Artifact]:
        return [item for item in lock.load() if item.registry == "maven" and (search or ":zip" not in item.coordinate)]

    def _recorded_ports(self) -> Ports | None:
        try:
            return Ports(**json.loads((self.places.run / "ports.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # first `up`, or a version with other listeners

    def _certificates(self) -> dict[str, TlsFiles]:
        authority = Authority(self.places.tls / "ca.pem", self.places.root / "ca.key", "sealtrail local stack", utc_now())
        issued = {role: authority.issue(self.places.tls, role) for role, needs in roles.ROLES.items() if needs.kafka}
        issued["broker"] = authority.issue(self.places.tls, "broker", server=True)
        issued["s3"] = authority.issue(self.places.tls, "s3", server=True)
        return issued

    def _bring_up(self, launch: Launch, then: Callable[[], None] | None) -> None:
        bring_up(launch, self.places, self._report)
        if then:
            then()

    def kafka_launch(self, paths: dict[str, Path], tls: dict[str, TlsFiles]) -> Launch:
        """How to start Kafka; its configuration is written by this call."""
        admin = self.settings("admin")

        def health() -> str | None:
            if not answers(self.ports.kafka):
                return f"does not answer on port {self.ports.kafka}"
            return reachable(admin, timeout_s=3)

        jars = [path for coordinate, path in sorted(paths.items()) if coordinate.endswith(":jar")]
        return kafka.launch(self.places, self.ports, jars, tls["broker"], health)

    def _topics(self) -> None:
        made = provision(self.settings("admin"), catalogue.load(), raw_partitions=self._raw_partitions)
        self._report.line(f"kafka has {len(made.topics)} topics ({made.created} new) and {made.acls} rights")

    def _buckets(self) -> None:
        client = self._admin_s3()
        for name in self.buckets:
            bucket.ensure(client, name)
        self._report.line(f"seaweed has bucket {', '.join(self.buckets)} with Object Lock")

    def seaweed_launch(self, tls: dict[str, TlsFiles]) -> Launch:
        """How to start the S3 server; its configuration is written by this call."""
        client = self._admin_s3()

        def health() -> str | None:
            if not answers(self.ports.s3):
                return f"does not answer on port {self.ports.s3}"
            return bucket.reachable(client)

        return seaweed.launch(self.places, self.ports, tls["s3"], health)

    def _admin_s3(self) -> S3Client:
        admin = self.settings("admin")
        if not (admin.archive_access_key and admin.archive_secret_key and admin.archive_ca):
            raise ConfigError(f"{self.role_file('admin')}: no S3 credentials")
        given = seaweed.Credentials(admin.archive_access_key.get_secret_value(), admin.archive_secret_key.get_secret_value())
        return bucket.s3_client(admin.archive_endpoint, admin.archive_ca, given)

    def _opensearch_launch(self, paths: dict[str, Path]) -> Launch:
        artifact = next(item for item in lock.load() if item.coordinate.endswith(":zip"))
        home = unpacked(artifact, paths[artifact.coordinate], keep=opensearch.keep)
        return opensearch.launch(self.places, self.ports, home)

    # -- down, status, reset

    def down(self, *, at_once: bool = False) -> tuple[str, ...]:
        """End this stack's own processes; returns the names of those that ran. Data stays.

        They may finish what they do, unless `at_once`.
        """

        def end(name: str) -> bool:
            return process.stop(self.places.pid_file(name), patience_s=0 if at_once else STOP_S[name])

        with ThreadPoolExecutor(max_workers=len(SERVERS)) as pool:
            ended = list(pool.map(end, SERVERS))
        if ended[SERVERS.index(seaweed.NAME)]:
            seaweed.remove_sockets(self.ports)
        names = tuple(name for name, ran in zip(SERVERS, ended, strict=True) if ran)
        self._report.line(f"down: ended {', '.join(names)}" if names else "down: nothing ran")
        return names

    def status(self) -> tuple[ServerStatus, ...]:
        """Every server as it is now. Never raises because one is down."""
        ports = {kafka.NAME: self.ports.kafka, seaweed.NAME: self.ports.s3, opensearch.NAME: self.ports.opensearch}
        found = []
        for name in SERVERS:
            own = process.running(self.places.pid_file(name))
            memory = 0
            if own is not None:
                memory = process.resident_bytes(own) >> 20
            found.append(
                ServerStatus(
                    name=name,
                    running=own is not None,
                    healthy=own is not None and answers(ports[name]),
                    pid=own.pid if own is not None else None,
                    memory_mib=memory,
                    address=f"{HOST}:{ports[name]}",
                    log=str(self.places.log(name)),
                )
            )
        return tuple(found)

    def reset(self) -> None:
        """`down`, then remove the state folder with all data, keys and credentials. The download cache stays."""
        self.down(at_once=True)
        state = self.places.state
        if state.exists() and not (state / MARKER).exists():
            raise ConfigError(f"state folder {state} was not made by this stack; nothing removed")
        shutil.rmtree(state, ignore_errors=True)
        self._report.line(f"reset: removed {state}")
