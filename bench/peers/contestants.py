"""Who takes part: the command of each, the names of its topics, and what is true of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.peers.install import Java, quix_python, streams_java
from bench.peers.work import Task
from infra.report import Reporter
from schemas.policy import DAY_MS, Policy
from schemas.registry import AUDIT_EVENT
from sealtrail.seal import SEAL, SEALED_EVENT

ROOT = Path(__file__).resolve().parent.parent.parent

HEAP = ("-Xms256m", "-Xmx1g")  # of Kafka Streams; the collector is the JVM's own choice
STREAMS_JVM = (
    *HEAP,
    "--enable-native-access=ALL-UNNAMED",
    "-Dcom.amazon.corretto.crypto.provider.registerEdKeyFactory=true",  # Ed25519 keys for the native signer
    "-Dorg.apache.avro.fastread=true",
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One engine.

    Attributes:
        title: as in the table.
        exactly_once: outputs and position are committed together, so what is visible is consistent at any moment.
        signs_last: the last seal of each of its transactions is signed; others sign one seal of each commit interval.
        warm_records: records that do not count besides the seconds that do not: a JVM compiles while it works.
        changelogs: topics that must be there before it starts, by suffix of its name; compacted.
        command: from the path of its task file.
    """

    name: str
    title: str
    exactly_once: bool
    signs_last: bool
    command: Callable[[Path], list[str]]
    warm_records: int = 0
    changelogs: tuple[str, ...] = ()
    ours: bool = False  # writes the product's own topics, with the product's own key


SEALER = "sealer"


def contestants(names: tuple[str, ...], report: Reporter) -> list[Contestant]:
    """Those of these names, installed. Raises ConfigError when one cannot be."""
    made = {
        SEALER: lambda: Contestant(
            SEALER, "sealer", True, True, lambda _: [sys.executable, "-m", "auditor", "run", "sealer"], ours=True
        ),
        "once": lambda: Contestant(
            "once",
            "the sealer without transactions, at least once",
            False,
            True,
            _module(Path(sys.executable), "bench.peers.at_least_once"),
            ours=True,
        ),
        "naive": lambda: Contestant(
            "naive",
            f"naive form, confluent-kafka {version('confluent-kafka')}",
            True,
            True,
            _module(Path(sys.executable), "bench.peers.naive"),
        ),
        "faust": lambda: Contestant(
            "faust",
            f"Faust {version('faust-streaming')}, at least once",
            False,
            False,  # ended between two batches or within one: it signs the last of each, if it comes to it
            _module(Path(sys.executable), "bench.peers.on_faust"),
            changelogs=("heads-changelog",),
        ),
        "quix": lambda: Contestant(
            "quix",
            "Quix Streams 3.28.1, exactly once",
            True,
            False,
            _module(quix_python(report), "bench.peers.quix"),
        ),
        "streams": lambda: Contestant(
            "streams",
            "Kafka Streams 4.3.1, exactly_once_v2",
            True,
            False,
            _java(streams_java(report)),
            warm_records=150_000,
        ),
    }
    return [made[name]() for name in names]


ALL = (SEALER, "once", "naive", "faust", "quix", "streams")
WITHOUT_TOKENS = ("streams",)  # AES-SIV is in no JDK; its work has no step for it


def formats(policy: Policy) -> dict[str, Any]:
    """The part of a `Task` that says what is read and written: schemas, headers, the policy's hash, retention by class."""
    return {
        "event_schema": str(ROOT / "schemas" / "audit_event.avsc"),
        "event_header": AUDIT_EVENT.header.hex(),
        "seal_schema": str(ROOT / "sealtrail" / "avsc" / "seal.avsc"),
        "seal_header": SEAL.header.hex(),
        "sealed_schema": str(ROOT / "sealtrail" / "avsc" / "sealed_event.avsc"),
        "sealed_header": SEALED_EVENT.header.hex(),
        "content_schema": AUDIT_EVENT.sha256.hex(),
        "policy": policy.notes()[1].hex(),
        "retain_ms": {str(name): found.archive_days * DAY_MS for name, found in policy.classes.items()},
    }


def write_task(task: Task, path: Path) -> Path:
    """The task as its contestant reads it."""
    path.write_text(json.dumps(asdict(task), indent=1))
    return path


def _module(python: Path, name: str) -> Callable[[Path], list[str]]:
    return lambda task: [str(python), "-m", name, str(task)]


def _java(java: Java) -> Callable[[Path], list[str]]:
    return lambda task: [java.program, *STREAMS_JVM, "-cp", java.class_path, "SealStreams", str(task)]
