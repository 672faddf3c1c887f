"""Synthetic traffic: what people of a few tenants do in a chat. For demonstrations and load.

Deterministic: the same seed, tenants and number give the same people, messages and acts, in the same order. Texts carry
nothing real; they only have the shape and length of what people write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from producers.chat import acts
from producers.chat.acts import Act
from producers.chat.message import ChatMessage, MessageType
from producers.kit.content import BodyDigest
from producers.lifecycle import Draft

PEOPLE, GROUPS = 200, 25  # of a tenant: enough to tell apart, few enough to meet again
ACTS_PER_MESSAGE = 0.06
_WORDS = (
    "the",
    "invoice",
    "is",
    "ready",
    "please",
    "check",
    "order",
    "route",
    "failed",
    "again",
    "thanks",
    "see",
    "you",
    "soon",
)

Doing = ChatMessage | Draft


def traffic(seed: int, messages: int, tenants: Sequence[str], digest: BodyDigest, prefix: str = "m") -> Iterator[Doing]:
    """`messages` messages, and on top the other acts between them. prefix: of the messages' ids, which must be new."""
    random = Random(f"sealtrail/chat/{seed}")  # noqa: S311 - the same again for a seed is what is wanted
    for number in range(messages):
        tenant = random.choice(tenants)
        yield _message(random, tenant, f"{prefix}-{seed}-{number}")
        if random.random() < ACTS_PER_MESSAGE:
            yield random.choice(_ACTS)(random, tenant, digest)


def _message(random: Random, tenant: str, identifier: str) -> ChatMessage:
    lot = random.random()
    sender = _person(random, tenant)
    kind, group, count, approver = MessageType.DIRECT, None, 1, None
    if lot > 0.993:
        kind, group, count = MessageType.BROADCAST, _group(random), random.randrange(50, 2000)
        approver = _person(random, tenant) if lot > 0.995 else None  # now and then nobody was asked
    elif lot > 0.6:
        kind, group, count = MessageType.CHANNEL, _group(random), random.randrange(2, 50)
    text = " ".join(random.choices(_WORDS, k=random.randrange(3, 40)))
    return ChatMessage(
        id=identifier,
        tenant=tenant,
        type=kind,
        sender=sender,
        recipient_group=group,
        recipient_count=count,
        body=text.encode(),
        location=f"chat:{identifier}",
        approver=approver if approver != sender else None,
        credential=f"session-{random.getrandbits(32):08x}",
        source_ip=f"192.0.2.{random.randrange(1, 255)}",
        traceparent=f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-01",
    )


def _person(random: Random, tenant: str) -> str:
    return f"user{random.randrange(PEOPLE)}@{tenant}.example"


def _group(random: Random) -> str:
    return f"group-{random.randrange(GROUPS)}"


def _act(random: Random, tenant: str) -> Act:
    return Act(
        tenant,
        _person(random, tenant),
        credential=f"session-{random.getrandbits(32):08x}",
        source_ip=f"192.0.2.{random.randrange(1, 255)}",
    )


def _login(random: Random, tenant: str, _: BodyDigest) -> Draft:
    act = _act(random, tenant)
    return acts.login(act, act.by, succeeded=random.random() > 0.03)


def _permission(random: Random, tenant: str, _: BodyDigest) -> Draft:
    before, after = random.choice([(None, "member"), ("member", "admin"), ("admin", "member"), ("member", None)])
    return acts.permission(_act(random, tenant), _person(random, tenant), _group(random), before, after)


def _configuration(random: Random, tenant: str, _: BodyDigest) -> Draft:
    before = random.choice([30, 90, 365])
    return acts.configuration(_act(random, tenant), "channel-retention", "/retention_days", before, before * 2)


def _export(random: Random, tenant: str, _: BodyDigest) -> Draft:
    return acts.export(_act(random, tenant), f"export-{random.getrandbits(32):08x}", random.randrange(1, 500), "warehouse")


def _mention(random: Random, tenant: str, _: BodyDigest) -> Draft:
    return acts.mention(_act(random, tenant), _person(random, tenant), f"mentioned-{random.getrandbits(32):08x}")


def _file(random: Random, tenant: str, digest: BodyDigest) -> Draft:
    content = random.randbytes(64)
    name = f"report-{random.randrange(1000)}.pdf"
    identifier = f"file-{random.getrandbits(32):08x}"
    return acts.file_share(
        _act(random, tenant), identifier, name, digest(tenant, content), len(content), "application/pdf", _group(random)
    )


def _call(random: Random, tenant: str, _: BodyDigest) -> Draft:
    status = random.choices([200, 403, 500], [96, 2, 2])[0]
    return acts.api_call(_act(random, tenant), "tickets.create", "ticketing", status)


def _automation(random: Random, tenant: str, _: BodyDigest) -> Draft:
    run = f"run-{random.getrandbits(32):08x}"
    return acts.automation(_act(random, tenant), "daily-digest", run, executed=random.random() > 0.05)


def _trace(random: Random, tenant: str, _: BodyDigest) -> Draft:
    return acts.trace(_act(random, tenant), random.choice(["route", "render", "enqueue"]))


_ACTS: tuple[Callable[[Random, str, BodyDigest], Draft], ...] = (
    *[_login] * 8, _permission, _configuration, _export, *[_mention] * 3, *[_file] * 2, *[_call] * 2, *[_automation] * 2,
    _trace,
)  # fmt: skip
