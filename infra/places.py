"""Where the local stack keeps things, and on which ports it listens. Arithmetic only, no I/O but `Ports.free`.

<state>/root/        root.key and ca.key ("offline": no role's configuration points here), root.vkey is public
<state>/tls/         ca.pem, <role>.pem, <role>.key       TLS for Kafka and S3
<state>/keys/<role>/ that role's keystore                  <state>/keys/certs/ all certificates, public
<state>/roles/       <role>.toml: the settings and credentials of one role
<state>/kafka|seaweed|opensearch/   configuration and data
<state>/run/ logs/   pid files, ports.json · one log per server
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path

DEFAULT_BASE_PORT = 19090  # below Linux's ephemeral range (32768), so no outgoing connection takes one first
FREE_PORTS = range(20_000, 32_768)
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """One port per listener; all on the loopback interface."""

    kafka: int
    kafka_controller: int
    s3: int
    s3_grpc: int
    filer: int
    filer_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    opensearch: int
    opensearch_transport: int

    @classmethod
    def from_base(cls, base: int) -> Ports:
        """Consecutive ports from `base`, in the order of the fields."""
        return cls(*(base + number for number in range(len(fields(cls)))))

    @classmethod
    def free(cls) -> Ports:
        """Ports that were free a moment ago; for tests, which may run beside another stack.

        Below Linux's ephemeral range: a client that tries again and again to reach a dead server there can be given the
        server's own port as its source, connects to itself, and the server cannot come back.
        """
        return cls(*free_ports(len(fields(cls))))

    def __post_init__(self) -> None:
        if len(set(astuple(self))) != len(fields(self)):
            raise ValueError("two listeners share a port")


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    numbers: list[int] = []
    with ExitStack() as held:
        for number in random.sample(FREE_PORTS, len(FREE_PORTS)):
            if len(numbers) == count:
                break
            probe = held.enter_context(socket.socket())
            try:
                probe.bind((HOST, number))
            except OSError:
                continue
            numbers.append(number)
    return numbers


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names under which clients reach the servers, and the address on which those listen for them."""

    kafka: str = HOST
    s3: str = HOST
    opensearch: str = HOST
    listen: str = HOST


LOOPBACK = Hosts()


@dataclass(frozen=True, slots=True)
class Places:
    """The folders under one state directory."""

    state: Path

    @property
    def root(self) -> Path:
        """Keys that stay offline in a real deployment."""
        return self.state / "root"

    @property
    def tls(self) -> Path:
        """Certificates and keys for Kafka and S3."""
        return self.state / "tls"

    @property
    def keys(self) -> Path:
        """One keystore folder per role, and `certs`."""
        return self.state / "keys"

    @property
    def roles(self) -> Path:
        """One settings file per role."""
        return self.state / "roles"

    @property
    def run(self) -> Path:
        """Pid files and the ports in use."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """One log per server."""
        return self.state / "logs"

    def server(self, name: str) -> Path:
        """Configuration and data of one server."""
        return self.state / name

    def log(self, name: str) -> Path:
        """The log of one server."""
        return self.logs / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """The pid file of one server."""
        return self.run / f"{name}.pid"
