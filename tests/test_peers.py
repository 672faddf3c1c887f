"""The benchmark against other engines: the work restated says what the product says, and the check finds what is wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bench.peers import watch as watching
from bench.peers.checking import TOKENISED, Asked, Expected, WrongError, check
from bench.peers.contestants import Contestant, formats
from bench.peers.figures import Outcome, result_of, table_of
from bench.peers.install import LOCK_FILE
from bench.peers.supply import Supply, expected_of, token_key
from bench.peers.watch import Figures, Sample, Seen, StalledError, Window, figures_of
from bench.peers.work import ALERTS, CHANGES, ROUTINE, Head, Task, Work, check_redaction, classify
from infra import lock
from kafkaio.reader import Record
from schemas.policy import Policy
from schemas.redact import RedactionCheck, Redactor
from schemas.registry import AUDIT_EVENT, packaged_registry
from sealtrail.seal import Route, SealedEvent, decode_sealed_event, encode_sealed_event
from sealtrail.session import mac_key, record_mac
from sealtrail.token import FieldCipher
from tests.strategies import events, minimal_event

POLICY = Policy.load()
REDACTED = RedactionCheck(packaged_registry())
REDACTOR = Redactor(AUDIT_EVENT.text, packaged_registry(), lambda tenant: bytes(32))
SESSION, SIGNING = bytes(range(32)), Ed25519PrivateKey.from_private_bytes(bytes(32))
EPOCH: bytes = minimal_event()["emitter"]["epoch"]
COUNT = 60
Topics = dict[str, list[bytes]]

NAMES = st.sampled_from([*CHANGES, *ALERTS, *ROUTINE, "emitter.", "chat.connector.", "load.debug."]).map(
    lambda name: name + "x"
)


# -- the work restated


@given(event=events(extension=False), name=st.none() | NAMES, tenant=st.sampled_from(["acme", "@deployment"]))
def test_the_rules_restated_are_the_class_policys(event: dict[str, Any], name: str | None, tenant: str) -> None:
    event = {**event, "tenant": tenant, "event_name": name or event["event_name"]}
    decision = POLICY.decide(event)
    assert classify(event) == (decision.log_class, decision.sign, decision.routes | Route.ARCHIVE)


@given(event=events(extension=False), redact=st.booleans())
def test_the_redaction_check_restated_finds_what_the_sealers_finds(event: dict[str, Any], redact: bool) -> None:
    event = REDACTOR(event) if redact else event
    try:
        check_redaction(event)
    except ValueError:
        assert REDACTED(event)
    else:
        assert not REDACTED(event)


def test_a_record_that_fails_a_check_stops_the_work() -> None:
    work = Work(_task())
    value, mac = _raw(0)
    with pytest.raises(ValueError, match="not authentic"):
        work.check(value, bytes(32), 0)
    with pytest.raises(ValueError, match="unknown schema"):
        work.check(b"\x00" + value[1:], mac, 0)
    with pytest.raises(ValueError, match="bytes after the event"):
        work.check(value + b"\x00", mac, 0)


# -- the check of outputs


def test_what_the_work_seals_passes() -> None:
    found = _checked(_trail())
    assert found == (COUNT, COUNT // 10 + 1)  # every tenth is an admin change, and the last is signed


def test_without_transactions_hot_may_be_behind() -> None:
    topics = _trail()
    del topics["hot"][-5:]
    with pytest.raises(WrongError, match="hot"):
        _checked(topics)
    _checked(topics, atomic=False)


def _altered(at: int, change: Callable[[SealedEvent], SealedEvent]) -> Callable[[Topics], None]:
    def act(topics: Topics) -> None:
        topics["archive"][at] = encode_sealed_event(change(decode_sealed_event(topics["archive"][at])))

    return act


def _with_login(event: SealedEvent, login: str) -> bytes:
    made = AUDIT_EVENT.decode(event.content.content)
    return AUDIT_EVENT.encode({**made, "actor": {**made["actor"], "login": login}})


def _drop(topic: str, at: int) -> Callable[[Topics], None]:
    return lambda topics: topics[topic].__delitem__(at)


def _move(topic: str, at: int, to: int) -> Callable[[Topics], None]:
    return lambda topics: topics[topic].insert(to, topics[topic].pop(at))


FAULTS: dict[str, tuple[str, Callable[[Topics], None]]] = {
    "a seal is missing": ("seq 8, 7 is next", _drop("archive", 7)),
    "two seals changed places": ("seq 8, 7 is next", _move("archive", 7, 8)),
    "a seal twice": ("seq 7, 8 is next", lambda topics: topics["archive"].insert(8, topics["archive"][7])),
    "another content": (
        "content digest",
        _altered(7, lambda event: replace(event, content=replace(event.content, content=event.content.content + b"x"))),
    ),
    "a token of somebody else": (
        "content digest",
        _altered(
            6, lambda event: replace(event, content=replace(event.content, content=_with_login(event, "tok_" + "0" * 40)))
        ),
    ),
    "a signature less": ("signed is True", _altered(10, lambda event: replace(event, signature=None))),
    "a signature of something else": (
        "signature",
        _altered(10, lambda event: replace(event, signature=event.signature and replace(event.signature, value=bytes(64)))),
    ),
    "a signature by another key": (
        "another key",
        _altered(10, lambda event: replace(event, signature=event.signature and replace(event.signature, key_id=bytes(32)))),
    ),
    "a last seal without signature": ("last seal", _drop("archive", -1)),
    "hot has one less": ("hot", _drop("hot", 7)),
    "hot has another order": ("hot", _move("hot", 7, 8)),
    "SIEM has one twice": ("siem", lambda topics: topics["siem"].append(topics["siem"][-1])),
    "SIEM has what is not routed there": ("siem", lambda topics: topics["siem"].insert(0, topics["archive"][1])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_outputs_that_are_not_the_work_are_refused(fault: str) -> None:
    topics = _trail()
    said, act = FAULTS[fault]
    act(topics)
    with pytest.raises(WrongError, match=said):
        _checked(topics)


def test_a_seal_that_the_policy_does_not_give_is_refused() -> None:
    expected = _expected()
    expected[10] = replace(expected[10], routes=Route.ARCHIVE)
    with pytest.raises(WrongError, match="not the policy's"):
        _checked(_trail(), expected=expected)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (lambda _: "person0@example.org", "not a token"),
        (lambda _: None, "0 tokens, not 1"),
        (lambda head: head[:-1] + ("A" if head[-1] != "A" else "Q"), "two tokens"),
    ],
)
def test_a_token_that_is_none_or_another_than_before_is_refused(login: Callable[[str], str | None], said: str) -> None:
    """Sealed like that by the contestant itself, so digests and signatures are right."""
    work, head = Work(_task()), Head()
    topics: Topics = {"archive": [], "hot": [], "siem": []}
    for number in range(COUNT):
        checked = work.check(*_raw(number), number)
        if number == COUNT - 3:
            event = AUDIT_EVENT.decode(checked.content)
            event["actor"]["login"] = login(event["actor"]["login"])
            checked = replace(checked, content=AUDIT_EVENT.encode(event))
        value = work.link(head, 0, checked, sign=checked.sign or number == COUNT - 1)
        for topic in work.outputs(checked.routes):
            topics[topic].append(value)
    with pytest.raises(WrongError, match=said):
        _checked(topics)


# -- time


def _samples(from_s: float, to_s: float, *rows: tuple[float, int, float]) -> Seen:
    return Seen(tuple(Sample(at, (stable,), cpu) for at, stable, cpu in rows), from_s, to_s, peak_bytes=3 << 20, start_s=1.0)


def test_the_rate_is_what_became_visible_in_the_window() -> None:
    places = {0: [offset for offset in range(1000) if offset % 100 != 99]}  # a marker every hundred
    rows = ((0, 0, 0), (1, 100, 1), (2, 200, 2), (3, 400, 2.5), (4, 600, 3), (5, 1000, 9), (6, 1000, 9))
    figures = figures_of(_samples(2, 4, *rows), places)
    assert (figures.records, figures.seconds, figures.rate) == (396, 2, 198)
    assert figures.cpu_us == pytest.approx(1 / 396 * 1e6)
    assert figures.peak_mib == 3
    to_the_end = figures_of(_samples(2, 60, *rows), places)
    assert (to_the_end.records, to_the_end.seconds) == (792, 3)  # the idle second after the input's end does not count


def test_an_input_that_ends_before_the_window_gives_no_rate() -> None:
    with pytest.raises(StalledError, match="--events"):
        figures_of(_samples(5, 10, (0, 0, 0), (1, 10, 1), (2, 20, 1)), {0: list(range(20))})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of a watch, which goes on while it sleeps."""
    made = [0.0]

    def sleep(seconds: float) -> None:
        made[0] += seconds

    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: made[0], sleep=sleep))
    return made


@pytest.mark.parametrize(("settled_s", "begins_s"), [(0, 4), (10, 14)])
def test_the_warm_up_begins_when_the_group_has_settled(now: list[float], settled_s: int, begins_s: int) -> None:
    seen = watching.watch(
        psutil.Process(), lambda: (int(now[0] * 1_000),), 10**6, Window(4.0, 0, 5.0), lambda: now[0] >= settled_s
    )
    assert round(seen.from_s) == begins_s
    assert seen.to_s - seen.from_s == pytest.approx(5)


def test_chains_that_say_that_they_live_after_all_is_sealed_do_not_keep_the_watch(now: list[float]) -> None:
    seen = watching.watch(
        psutil.Process(), lambda: (min(10_000, int(now[0] * 1_000)) + int(now[0]),), 10_000, Window(1e6, 0, 5.0)
    )
    assert seen.samples[-1].at_s < 20


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is half as fast in the second round changes no ratio."""

    def outcomes(*rates: int) -> list[Outcome]:
        return [Outcome(Figures(rate, 1.0, 1e6 / rate, 10.0, 1.0), rate, 0, load=2.0) for rate in rates]

    entrants = [Contestant(name, name, True, True, lambda _: []) for name in ("sealer", "naive")]
    found = Supply(((),), {}, {}, 400.0, 0.05, 0.0)
    result = result_of({}, found, entrants, {"sealer": outcomes(8000, 4000), "naive": outcomes(2000, 1000)})
    assert "| naive | 1,500 | 4.00 | 750.0 | 4.00 | 10 |" in table_of(result)
    assert "2.0 to 2.0" in table_of(result)


# -- what is installed


def test_the_peers_lock_gives_every_file_a_hash_and_no_address() -> None:
    text = LOCK_FILE.read_text()
    assert not re.search(r"[a-z]+://", text)
    wheels = re.findall(r"^[a-z0-9][\w.-]*==\S+.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert len(wheels) > 30
    assert all("--hash=sha256:" in wheel for wheel in wheels)
    assert len(lock.load(LOCK_FILE)) == 5


# -- a trail of one chain


def _task() -> Task:
    return Task(
        **dict.fromkeys(("name", "bootstrap", "ca", "certificate", "key", "keystore", "state"), "unused"),  # type: ignore[arg-type]
        raw="audit.raw",
        archive="archive",
        hot="hot",
        siem="siem",
        partitions=1,
        commit_ms=100,
        chain="audit.example/local/audit.raw.0011aabb.0/",
        **formats(POLICY),
        signing_key=SIGNING.private_bytes_raw().hex(),
        key_id=hashlib.sha256(SIGNING.public_key().public_bytes_raw()).hexdigest(),
        disclosure_key=bytes(32).hex(),
        mac_keys={EPOCH.hex(): mac_key(SESSION).hex()},
        token_keys={EPOCH.hex(): token_key(SESSION).hex()},
    )


def _event(number: int) -> dict[str, Any]:
    """Every third has a login, of two people in turn; encrypted, as the emitter leaves it."""
    emitter = {**minimal_event()["emitter"], "seq": number}
    name = "github.member" if number % 10 == 0 else "github.push"
    who = f"person{number % 2}"
    actor = {"kind": "USER", "id": who, "display": None, "login": f"{who}@example.org" if number % 3 == 0 else None}
    event = REDACTOR(minimal_event(emitter=emitter, event_name=name, actor=actor))
    cipher = FieldCipher(SESSION)
    return TOKENISED(event, lambda path, text, _: cipher.encrypt(number, 0, event["event_id"], path, text.encode()).decode())


def _raw(number: int) -> tuple[bytes, bytes]:
    """Value and MAC."""
    value = AUDIT_EVENT.encode(_event(number))
    return value, record_mac(mac_key(SESSION), "audit.raw", number, value)


def _expected() -> list[Expected]:
    return [expected_of(_event(number), _raw(number)[0], SESSION, POLICY) for number in range(COUNT)]


def _trail() -> Topics:
    work, head = Work(_task()), Head()
    topics: Topics = {"archive": [], "hot": [], "siem": []}
    for number in range(COUNT):
        checked = work.check(*_raw(number), number)
        value = work.link(head, 0, checked, sign=checked.sign or number == COUNT - 1)
        for topic in work.outputs(checked.routes):
            topics[topic].append(value)
    return topics


class _Reader:
    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def read_all(self, topic: str, partition: int) -> Iterable[Record]:
        return [Record(offset, 0, None, value) for offset, value in enumerate(self._topics[topic])]


def _checked(topics: Topics, *, atomic: bool = True, expected: list[Expected] | None = None) -> tuple[int, int]:
    asked = Asked("archive", "hot", "siem", SIGNING.public_key().public_bytes_raw(), atomic, attested=True)
    found = check(asked, dict.fromkeys(topics, 1), [expected or _expected()], _Reader(topics))
    assert found.places == {0: list(range(found.records))}
    return found.records, found.signed
