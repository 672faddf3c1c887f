"""Three brokers on loopback, TLS and rights as on the local stack; every record on all three, two suffice to acknowledge.

Each node is broker and controller, so a broker that is killed takes a vote of the quorum with it. Clients have two ways in:
the listener CLIENT, and PROXIED, whose advertised address is a port of ours: `relay` listens there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from infra import kafka, keys, lock, process, roles
from infra.artifacts import obtain_all
from infra.pki import Authority, TlsFiles, utc_now
from infra.places import HOST, Places, Ports, free_ports
from infra.report import Reporter
from infra.server import Launch, answers, bring_up
from kafkaio.admin import admin_client, provision, reachable
from schemas import catalogue
from schemas.settings import Settings
from sealtrail.errors import SealtrailError, TransientError
from tests.conftest import wait_until

BROKERS = (1, 2, 3)
JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m")
START_S = 300.0  # three nodes that start together on a machine that does other things as well
WHOLE_S = 300.0  # a broker that was killed reads its logs, and catches up with the others
NAME = "campaign"
FIXED = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "CLIENT",
    "listener.security.protocol.map": "CLIENT:SSL,PROXIED:SSL,CONTROLLER:SSL",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One broker: its id, and its ports. `proxied` is where it listens for what comes through `relay`."""

    number: int
    client: int
    controller: int
    proxied: int
    relay: int

    @property
    def name(self) -> str:
        """Of its folder, its log and its process."""
        return f"kafka-{self.number}"


class UnfitError(Exception):
    """This machine does not carry the cluster; that says nothing of sealers."""


class Cluster:
    """The brokers of one folder, with topics, rights and keys for one deployment."""

    def __init__(self, folder: Path, partitions: int, report: Reporter) -> None:
        """`partitions`: of the raw topic."""
        self.places = Places(folder.resolve())
        self.partitions = partitions
        self.topic_prefix = f"{NAME}."
        ports = free_ports(4 * len(BROKERS))
        self.nodes = [Node(number, *ports[4 * index : 4 * index + 4]) for index, number in enumerate(BROKERS)]
        self._report = report
        self._launches: dict[int, Launch] = {}
        self._tls: dict[str, TlsFiles] = {}

    def up(self) -> None:
        """Start all, and make topics, rights and keys. Raises UnfitError; TransientError where artifacts cannot be had."""
        for folder in (self.places.state, self.places.run, self.places.logs):
            folder.mkdir(parents=True, exist_ok=True)
        authority = self.authority()
        self._tls = {role: authority.issue(self.places.tls, role) for role, needs in roles.ROLES.items() if needs.kafka}
        self._tls |= {name: authority.issue(self.places.tls, name, server=True) for name in ("broker", "s3")}
        keys.ensure(self.places, utc_now())
        roles.write(self.places, Ports.free(), self._tls, {}, "")
        wanted = [item for item in lock.load() if item.registry == "maven" and ":zip" not in item.coordinate]
        paths = obtain_all(wanted, self._report)
        jars = [path for coordinate, path in sorted(paths.items()) if coordinate.endswith(":jar")]
        identity = kafka.new_cluster_id()
        self._launches = {node.number: self._launch(node, jars, identity) for node in self.nodes}
        with ThreadPoolExecutor(len(BROKERS)) as pool:
            list(pool.map(self.start, BROKERS))
        topics = replace(catalogue.load(), replication_factor=len(BROKERS), min_insync_replicas=2)
        provision(self.settings("admin"), topics, raw_partitions=self.partitions)

    def authority(self) -> Authority:
        """Who signs what brokers and clients show each other."""
        return Authority(self.places.tls / "ca.pem", self.places.root / "ca.key", "sealtrail campaign", utc_now())

    def down(self, *, remove: bool) -> None:
        """End the brokers, at once; with `remove` nothing of them stays."""
        for node in self.nodes:
            process.stop(self.places.pid_file(node.name), patience_s=0)
        if remove:
            shutil.rmtree(self.places.state, ignore_errors=True)

    def start(self, number: int) -> None:
        """Start one broker and return when it answers. Raises UnfitError."""
        try:
            bring_up(self._launches[number], self.places, self._report)
        except SealtrailError as error:
            raise UnfitError(str(error)) from error

    def kill(self, number: int) -> None:
        """kill -9."""
        running = process.running(self.places.pid_file(self._node(number).name))
        if running is None:
            raise TransientError(f"broker {number} does not run")
        running.kill()
        wait_until(lambda: process.running(self.places.pid_file(self._node(number).name)) is None, what="its end")

    def await_whole(self) -> None:
        """Return when every partition is led, and in sync on all brokers."""
        client = admin_client(self.settings("admin"))

        def whole() -> bool:
            topics = client.list_topics(timeout=10).topics.values()
            found = [p for topic in topics for p in topic.partitions.values()]
            return bool(found) and all(p.leader in BROKERS and len(p.isrs) == len(BROKERS) for p in found)

        wait_until(whole, deadline_s=WHOLE_S, what="all brokers in sync")

    def role_file(self, role: str) -> Path:
        """The settings file of a role; `settings` and `flags` go over it."""
        return self.places.roles / f"{role}.toml"

    def flags(self, ports: Sequence[int]) -> dict[str, str]:
        """What a process of this deployment is told beside its role's file, for the brokers at these ports."""
        bootstrap = ",".join(f"{HOST}:{port}" for port in ports)
        return {"kafka_bootstrap": bootstrap, "topic_prefix": self.topic_prefix, "deployment": NAME}

    def settings(self, role: str, **flags: object) -> Settings:
        """The settings of a role that reaches the brokers directly."""
        return Settings.load(self.role_file(role), **{**self.flags([node.client for node in self.nodes]), **flags})

    def tls(self, name: str) -> TlsFiles:
        """A role's files, or the broker's."""
        return self._tls[name]

    def _node(self, number: int) -> Node:
        return next(node for node in self.nodes if node.number == number)

    def _launch(self, node: Node, jars: Sequence[Path], identity: str) -> Launch:
        home = self.places.server(node.name)
        ports = replace(Ports.from_base(1), kafka=node.client, kafka_controller=node.controller)
        single = kafka.properties(ports, home / kafka.DATA, home / kafka.KEYSTORE, self._tls["broker"].ca)
        values = dict(line.split("=", 1) for line in single.splitlines() if not line.startswith("#"))
        del values["controller.quorum.bootstrap.servers"]
        controller = f"CONTROLLER://{HOST}:{node.controller}"
        values |= FIXED | {
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(f"{n.number}@{HOST}:{n.controller}" for n in self.nodes),
            "listeners": f"CLIENT://{HOST}:{node.client},PROXIED://{HOST}:{node.proxied},{controller}",
            "advertised.listeners": f"CLIENT://{HOST}:{node.client},PROXIED://{HOST}:{node.relay},{controller}",
        }
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        listeners = {"clients": node.client, "relay": node.proxied, "controller": node.controller}
        admin = self.settings("admin", kafka_bootstrap=f"{HOST}:{node.client}")

        def health() -> str | None:
            if not answers(node.client):
                return f"does not answer on port {node.client}"
            return reachable(admin, timeout_s=3)

        launch = kafka.launch_node(node.name, home, text, listeners, jars, self._tls["broker"], health, ("-t", identity), JVM)
        return replace(launch, patience_s=START_S)
