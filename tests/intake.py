"""An intake under way on a real socket, as the tests of it ask for it; the keys of three connectors, and their tokens."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from infra import keys
from infra.places import Places
from producers.intake import Intake
from producers.memory import MemoryBroker
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from tests.conftest import wait_until

TOKEN, OTHER_TOKEN = "t0ken-of-chat-" + "x" * 32, "t0ken-of-ci-" + "y" * 32
SECRET = "It's a Secret to Everybody"  # of GitHub's published example
BODY = b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
JSON = "application/json"
CANARY = "Zebulon-Quixote"  # what is to be seen nowhere
GITHUB_VALUE = {"hook": "push", "malformed": False, "settings": []}

SOURCES = f"""
[sources.chat]
tenants = ["acme"]
tokens = ["{hashlib.sha256(TOKEN.encode()).hexdigest()}"]

[sources.ci]
tenants = ["globex"]
tokens = ["{hashlib.sha256(OTHER_TOKEN.encode()).hexdigest()}"]

[sources.github]
tenants = ["acme"]
[sources.github.webhooks]
acme = ["github-acme.secret"]
"""


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    document: Any


@dataclass(slots=True)
class Running:
    """An intake under way, and what its brokers have."""

    intake: Intake
    broker: MemoryBroker
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        assert self.intake.address is not None
        return ask(self.intake.address, method, path, body, **headers)

    def post(self, document: object, *, key: str | None = None, token: str = TOKEN, kind: str = JSON, **headers: str) -> Answer:
        """As a client would: `document` as it is if it is bytes, else as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        given = {
            "Authorization": f"Bearer {token}",
            "Content-Type": kind,
            "Idempotency-Key": f"key-{next(self.numbers)}" if key is None else key,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.ask("POST", "/v1/events", body, **given)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What arrived of the sources' own making, in order."""
        return [e for e in self.all if not e["event_name"].startswith("emitter.")]

    @property
    def refused(self) -> list[str]:
        """The fields of recorded refusals."""
        return [e["object"]["id"] for e in self.all if e["event_name"] == "emitter.refused"]

    @property
    def all(self) -> list[dict[str, Any]]:
        return [AUDIT_EVENT.decode(record.value) for record in list(self.broker.records)]


def ask(address: tuple[str, int], method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), json.loads(response.read()))
    finally:
        connection.close()


def event(**given: object) -> dict[str, object]:
    return {
        "event_name": "chat.note.added",
        "tenant": "acme",
        "event_type": "OTHER",
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "actor": {"kind": "USER", "id": "4711", "display": "Ada", "login": "ada@lovelace.example"},
        **given,
    }


def made_places(folder: Path) -> Places:
    made = Places(folder)
    keys.ensure(made, datetime.now(UTC))
    # A deployment of its own gives the intake one keystore with the keys of its sources; here, those of three connectors.
    for role in ("ci", "github"):
        for path in (made.keys / role).iterdir():
            shutil.copy(path, made.keys / "chat" / path.name)
    return made


def settings_of(places: Places, folder: Path, **given: Any) -> Settings:
    (folder / "sources.toml").write_text(SOURCES)
    (folder / "github-acme.secret").write_text(f"{SECRET}\n")
    values = {
        "role": "chat",
        "keys": f"file:{places.keys / 'chat'}",
        "root_vkey": places.root / "root.vkey",
        "certificates": places.keys / "certs",
        "intake_listen": "127.0.0.1:0",
        "intake_tokens": folder / "sources.toml",
        "intake_durable_s": 30.0,
    }
    return Settings.load(**{**values, **given})


@contextmanager
def running(settings: Settings, broker: MemoryBroker) -> Iterator[Running]:
    intake, stop = Intake(settings, "intake-1", producer_factory=broker.connect), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(intake.run, stop)
        try:
            wait_until(lambda: intake.address or done.done(), what="listening")
            yield Running(intake, broker)
        finally:
            stop.set()
        done.result()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"sealtrail_intake_{name}", labels) or 0.0
