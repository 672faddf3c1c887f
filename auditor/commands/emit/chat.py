"""`sealtrail emit chat`: a messaging integration at work on synthetic traffic; its messages really go out by HTTP.

People read stderr; `--json` writes one document on stdout. SIGTERM switches it off in order. Exit: 0 everything handed over
and acknowledged by Kafka, whatever became of the messages; 3 configuration; 4 Kafka did not acknowledge in time.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Annotated

import typer

from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from keystore import Keystore
from producers.audit import AuditProducer
from producers.chat import ChatConnector, ChatMessage, HttpTransport
from producers.chat.retry import DEFAULT, policy_named
from producers.chat.traffic import Doing, traffic
from producers.kit.content import keyed_by
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError

SOURCE = "chat"
CLOSE_S = 60.0  # a stack that is still coming up takes less
SECRET = "SEALTRAIL_CHAT_SECRET"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do; see the command's options."""

    receiver: str
    messages: int
    tenants: tuple[str, ...]
    seed: int = 1
    workers: int = 8
    rate: float = 0.0
    idle: bool = False
    instance: str = "emit"
    retry_policy: str = DEFAULT
    on_call: str | None = None
    receiver_ca: Path | None = None
    prefix: str = "m"


def chat(
    receiver: Annotated[str, typer.Option(help="Where messages go: http://HOST:PORT or https://HOST:PORT.")],
    messages: Annotated[int, typer.Option(min=0, help="How many messages; other acts come on top.")] = 100,
    tenants: Annotated[str, typer.Option(help="Whose messages, separated by commas.")] = "acme,globex,initech",
    seed: Annotated[int, typer.Option(help="The same seed, the same traffic.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many messages are under way at once.")] = 8,
    rate: Annotated[float, typer.Option(min=0, help="At most so many messages a second; 0: as fast as it goes.")] = 0.0,
    idle: Annotated[bool, typer.Option("--idle", help="When done, stay, with pulses, until told to stop.")] = False,
    instance: Annotated[str, typer.Option(help="Which running copy of the connector speaks.")] = "emit",
    retry_policy: Annotated[str, typer.Option(help="once.v1, exponential-3.v1 or exponential-8.v1.")] = DEFAULT,
    on_call: Annotated[str | None, typer.Option(help="Where failed messages are escalated to; none: they are not.")] = None,
    receiver_ca: Annotated[Path | None, typer.Option(help="PEM file of the authority that signed the receiver.")] = None,
    prefix: Annotated[str, typer.Option(help="Of the messages' ids, which a receiver takes once.")] = "m",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send synthetic chat messages by HTTP, and state each step of their lives.

    SEALTRAIL_CHAT_SECRET, if set, is shared with the receiver and signs each request.
    """
    stop = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    with explained():
        whose = tuple(tenant for tenant in tenants.split(",") if tenant)
        plan = Plan(receiver, messages, whose, seed, workers, rate, idle, instance, retry_policy, on_call, receiver_ca, prefix)
        result = emit_chat(settings_of(config, SOURCE), plan, stop)
    if as_json:
        print(json.dumps(result, indent=1))
    say(
        f"{result['messages']} messages in {result['seconds']:.1f} s: {result['delivered']} delivered, "
        f"{result['failed']} failed, {result['retried']} attempts again; "
        f"{result['acknowledged']} of {result['events']} events acknowledged by Kafka"
    )


def emit_chat(settings: Settings, plan: Plan, stop: threading.Event) -> dict[str, float]:
    """Do what the plan says, until it is done or `stop` is set, and close. Raises ConfigError and TransientError."""
    began = time.monotonic()
    emitter = AuditProducer(settings, SOURCE, plan.instance)
    try:
        unknown = set(plan.tenants) - set(emitter.tenants)
        if unknown or not plan.tenants:
            raise ConfigError(f"option --tenants: this connector speaks for {', '.join(emitter.tenants) or 'none'}")
        secret = os.environ.get(SECRET, "").encode() or None
        transport = HttpTransport(plan.receiver, secret=secret, ca=plan.receiver_ca)
        digest = keyed_by(Keystore.open(settings.keys))
        connector = ChatConnector(
            emitter,
            transport,
            digest,
            instance=plan.instance,
            tenants=plan.tenants,
            retry=policy_named(plan.retry_policy),
            escalation=HttpTransport(plan.on_call, hop="on-call", secret=secret, ca=plan.receiver_ca) if plan.on_call else None,
            stop=stop,
            lots=Random(plan.seed),  # noqa: S311 - jitter is no secret
        )
        connector.start()
        say(f"chat connector {SOURCE}/{plan.instance} started")
        doings = traffic(plan.seed, plan.messages, plan.tenants, digest, plan.prefix)
        refused = _work(connector, doings, plan, stop)
        seconds = time.monotonic() - began
        if plan.idle:
            stop.wait()
        connector.stop()
        transport.close()
    finally:
        emitter.close(CLOSE_S)
    counted = ("messages", "delivered", "failed", "retried", "denied", "malformed", "escalated", "acts")
    return {
        **{name: connector.counts[name] for name in counted},
        "refused": refused,
        "events": emitter.counts.accepted,
        "acknowledged": emitter.counts.acknowledged,
        "seconds": seconds,
    }


def _work(connector: ChatConnector, doings: Iterator[Doing], plan: Plan, stop: threading.Event) -> int:
    """`plan.workers` threads, each with one thing at a time; how many things the contract refused."""
    lock = threading.Lock()
    failures: list[BaseException] = []
    refused = 0
    next_at = time.monotonic()

    def take() -> Doing | None:
        nonlocal next_at
        with lock:
            doing = next(doings, None)
            if doing is None or stop.is_set() or failures:
                return None
            if not plan.rate or not isinstance(doing, ChatMessage):
                return doing
            next_at = max(next_at + 1 / plan.rate, time.monotonic())
            wait_s = next_at - time.monotonic()
        stop.wait(max(0.0, wait_s))
        return doing

    def work() -> None:
        nonlocal refused
        try:
            while (doing := take()) is not None:
                try:
                    _do(connector, doing)
                except ContractError:
                    with lock:
                        refused += 1  # stated by the emitter itself
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, name=f"chat-{n}") for n in range(plan.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return refused


def _do(connector: ChatConnector, doing: Doing) -> None:
    if isinstance(doing, ChatMessage):
        connector.send(doing)
    else:
        connector.act(doing)
