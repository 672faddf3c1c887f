"""What slips through an application is overwritten or refused in the sealer, kept nowhere, and counted (CON-3)."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.activity import ACTIVITY, Activity, decode_activity
from processors.detect.finding import LEAK, of_leak
from processors.detect.leaks import WINDOW_US, Leaked, LeakWatch
from processors.records import Outputs, RawRecord
from producers.drafts import completed
from schemas.contract import Contract
from schemas.fields import field_tree
from schemas.net import Net
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.secret_shapes import SHAPES
from sealtrail.avro import Codec
from sealtrail.errors import ConfigError
from sealtrail.seal import SEAL_NOTE, Kind, LogClass, Reason, Route
from sealtrail.session import Run
from tests.leaks.forms import UPPER, Form, luhn, made, some
from tests.strategies import GITHUB, minimal_event
from tests.test_pipeline import EVENT, Speaker, World, kinds, seal_all, sealed_of, source, world

__all__ = ["source", "world"]  # fixtures

R = Random(3)
AWS = "AKIA" + some(R, UPPER, 16)
LOWER = "glpat-" + some(R, "abcdefghij0123456789", 24)
CARD = luhn(R, "4", 16)
REJECTED = (Kind.REJECTED, Reason.CONTRACT)


def everything(outputs: Outputs) -> bytes:
    """All bytes that a transaction would write."""
    values = [*outputs.archive, *outputs.hot, *outputs.siem, *outputs.quarantine, *outputs.activity]
    return b"\n".join([*values, *(key + value for key, value in outputs.sources)])


def leaks(outputs: Outputs) -> list[tuple[str, str, int, int, int]]:
    rows = [row for value in outputs.activity for row in ACTIVITY.decode(value)["leaks"]]
    return [(row["field"], row["shape"], row["events"], row["first_seq"], row["last_seq"]) for row in rows]


def test_a_secret_that_the_application_let_through_is_overwritten_in_what_is_sealed(world: World, source: Speaker) -> None:
    """The rest of the event is as it was, in every output."""
    given: dict[str, Any] = {
        "object": {"type": "room", "id": f"room/{AWS}"},
        "ticket": CARD,
        "correlation_id": "plain",
        "event_type": "ADMIN",
    }
    sent = source.event(1, **given)
    _, outputs = seal_all(world, [source.record(0), source.record(1, **given), source.record(2)])
    assert kinds(outputs) == [EVENT, EVENT, EVENT]
    event = AUDIT_EVENT.decode(sealed_of(outputs)[1][1].content.content)
    marked = {"object": {"type": "room", "id": "room/[secret:aws-access-key]"}, "ticket": "[secret:card-number]"}
    stated = {"status": "APPLIED", "policy": "v1", "fields": ["object.id", "ticket"]}
    assert event == {**sent, **marked, "redaction": stated}
    assert not any(secret.encode() in everything(outputs) for secret in (AWS, CARD))
    assert outputs.siem and outputs.hot
    assert leaks(outputs) == [("object.id", "aws-access-key", 1, 1, 1), ("ticket", "card-number", 1, 1, 1)]
    assert outputs.leaks == {"aws-access-key": 1, "card-number": 1}


def test_an_event_without_secrets_is_sealed_as_received(world: World, source: Speaker) -> None:
    record = source.record(1, reason="*** ****", correlation_id="4111-1111")
    _, outputs = seal_all(world, [source.record(0), record])
    assert sealed_of(outputs)[1][1].content.content == record.value
    assert leaks(outputs) == []


def test_a_secret_in_an_extension_is_overwritten_or_its_event_refused(world: World, source: Speaker) -> None:
    fields: dict[str, Any] = {name: None for name, node in field_tree(GITHUB.text).fields if node.nullable}
    value = {**fields, "hook": "push", "malformed": False, "settings": [], "commit": None}
    bent = {**value, "delivery_id": CARD}
    records = [source.record(0), source.record(1, extension={"schema": GITHUB.sha256, "payload": GITHUB.encode_body(bent)})]
    _, outputs = seal_all(world, records)
    assert kinds(outputs) == [EVENT, REJECTED]  # [0-9a-f-] takes a card's digits, and no mark
    assert leaks(outputs) == [("extension.payload.delivery_id", "card-number", 1, 1, 1)]
    assert CARD.encode() not in everything(outputs)


def opened(world: World, outputs: Outputs) -> list[dict[str, Any]]:
    return [world.open_quarantined(value) for value in outputs.quarantine]


def test_where_no_mark_fits_the_event_is_refused_and_its_bytes_are_kept_nowhere(world: World, source: Speaker) -> None:
    _, outputs = seal_all(world, [source.record(0), source.record(1, source_system=LOWER)])
    assert kinds(outputs) == [EVENT, REJECTED]
    note = SEAL_NOTE.decode(sealed_of(outputs)[1][1].content.content)
    assert note["detail"] == "source_system: holds what looks like a secret (gitlab-token)"
    (kept,) = opened(world, outputs)
    assert (kept["key"], kept["value"], kept["headers"], kept["truncated"]) == (b"", b"", (), True)
    assert (note["received_size"] > 0, note["received_digest"], note["number"]) == (True, None, 1)
    assert leaks(outputs) == [("source_system", "gitlab-token", 1, 1, 1)]


def refused_for_something_else(source: Speaker) -> dict[str, RawRecord]:
    """Records that are not sealed as events, and hold a secret besides."""
    good = source.record(1, ticket=AWS)
    return {
        "of another region": source.record(1, ticket=AWS, region="elsewhere"),
        "against the contract": source.record(1, ticket=f"{AWS} with spaces"),
        "a marked field in clear": source.record(1, reason=f"because {AWS}"),
        "not entitled": source.record(1, ticket=AWS, event_name="chat.message"),
        "undecodable": source.record(1, good.value + b"\0", source.headers(1, good.value + b"\0")),
        "not authentic": good._replace(headers=()),
        "a secret in a header": source.record(1)._replace(headers=(("x", AWS.encode()), *source.headers(1, b""))),
        "a secret in the key": source.record(1)._replace(key=AWS.encode()),
        "hidden by zero width": source.record(1, reason=f"{CARD[:7]}\u200b{CARD[7:]}"),
    }


REFUSED = (
    *("of another region", "against the contract", "a marked field in clear", "not entitled", "undecodable"),
    *("not authentic", "a secret in a header", "a secret in the key", "hidden by zero width"),
)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_record_that_may_hold_a_secret_is_kept_nowhere(world: World, source: Speaker, name: str) -> None:
    records = refused_for_something_else(source)
    assert set(records) == set(REFUSED)
    record = records[name]
    _, outputs = seal_all(world, [source.record(0), record])
    assert kinds(outputs)[1][0] is Kind.REJECTED
    (kept,) = opened(world, outputs)
    assert (kept["key"], kept["value"], kept["headers"], kept["truncated"]) == (b"", b"", (), True)


def test_a_refused_record_without_one_is_kept_as_before(world: World, source: Speaker) -> None:
    record = source.record(1, region="elsewhere")
    _, outputs = seal_all(world, [source.record(0), record])
    (kept,) = opened(world, outputs)
    assert (kept["value"], kept["truncated"]) == (record.value, False)


def test_a_repeated_record_with_a_secret_is_a_duplicate_and_kept_nowhere(world: World, source: Speaker) -> None:
    records = [source.record(0), source.record(1, ticket=AWS), source.record(1, ticket=AWS)]
    _, outputs = seal_all(world, records)
    assert kinds(outputs) == [EVENT, EVENT, (Kind.DUPLICATE, Reason.NONE)]
    (kept,) = opened(world, outputs)
    assert kept["value"] == b"" and kept["truncated"]
    assert SEAL_NOTE.decode(sealed_of(outputs)[2][1].content.content)["received_digest"] is None
    assert leaks(outputs) == [("ticket", "aws-access-key", 1, 1, 1)]  # told once: anybody can send an old record again


def test_a_marked_field_that_came_unredacted_is_counted_as_a_leak(world: World, source: Speaker) -> None:
    in_clear = source.record(1, reason="because Alice said so", detail="all of it")
    hashed = source.record(2, actor={"kind": "USER", "id": "alice", "display": None})
    _, outputs = seal_all(world, [source.record(0), in_clear, hashed, source.record(3)])
    assert kinds(outputs) == [EVENT, REJECTED, REJECTED, EVENT]
    assert leaks(outputs) == [
        ("reason", "not-masked", 1, 1, 1),
        ("detail", "not-omitted", 1, 1, 1),
        ("actor.id", "not-hashed", 1, 2, 2),
    ]


def test_leaks_of_one_field_and_shape_are_one_row_with_the_first_and_the_last_seal(world: World, source: Speaker) -> None:
    records = [source.record(0), *(source.record(n, ticket=AWS if n % 2 else "CHG-7") for n in range(1, 8))]
    _, outputs = seal_all(world, records)
    assert leaks(outputs) == [("ticket", "aws-access-key", 4, 1, 7)]
    (only,) = (ACTIVITY.decode(value) for value in outputs.activity)
    assert [(row["source"], row["instance"]) for row in only["leaks"]] == [("github", "one")]


def test_records_that_are_not_authentic_accuse_nobody(world: World, source: Speaker) -> None:
    forged = source.record(1, ticket=AWS, reason="in clear")._replace(headers=())
    _, outputs = seal_all(world, [source.record(0), forged])
    assert leaks(outputs) == []


FORMS = [form for form in made(Random(21)) if len(form.text) <= 256 and form.text.isascii() and " " not in form.text]


@pytest.mark.parametrize("form", FORMS, ids=[f"{at}-{form.shape}" for at, form in enumerate(FORMS)])
def test_every_shape_that_fits_an_identifier_is_taken_out(world: World, source: Speaker, form: Form) -> None:
    fits = all("!" <= c <= "~" and c != "@" for c in form.text)
    _, outputs = seal_all(world, [source.record(0), source.record(1, correlation_id=form.text)])
    assert form.secret.encode() not in everything(outputs)
    assert kinds(outputs)[1] == (EVENT if fits else REJECTED)


# -- what is told

S = 1_000_000
HOUR = WINDOW_US // S
CHAIN = "audit.example/local/audit.raw.1f0c2a9b.0/0"
WHO = ("chat", "one", "object.id", "aws-access-key")


def told_of(number: int, second: float, *rows: tuple[str, str, str, str, int], part: int = 0) -> dict[str, Any]:
    """An activity record: its leaks as (source, instance, field, shape, events)."""
    seq = number * 100
    names = ("source", "instance", "field", "shape", "events")
    leaked = [{**dict(zip(names, row, strict=True)), "first_seq": seq, "last_seq": seq + row[4]} for row in rows]
    return {"chain": CHAIN, "first_seq": seq, "count": 100, "part": part, "sealed_at": int(second * S), "leaks": leaked}


def told(records: list[dict[str, Any]]) -> list[Leaked]:
    watch, found = LeakWatch(), list[Leaked]()
    for record in records:
        found += watch.due(record)
        watch.add(record)
    return found


def test_a_leak_is_told_at_once_and_what_follows_within_the_hour_in_one_sum() -> None:
    records = [told_of(n, 60 * n, (*WHO, n + 1)) for n in range(5)]
    beats = [told_of(5, HOUR - 1), told_of(6, HOUR), told_of(7, HOUR + 1)]
    first, rest = told([*records, *beats])
    assert (first.events, first.first_seq, first.last_seq, first.from_us) == (1, 0, 1, 0)
    assert (rest.events, rest.first_seq, rest.last_seq) == (2 + 3 + 4 + 5, 100, 405)
    assert (rest.from_us, rest.to_us) == (60 * S, 240 * S)


def test_after_a_quiet_hour_a_leak_is_told_at_once_again() -> None:
    assert [found.from_us for found in told([told_of(n, 2 * HOUR * n, (*WHO, 1)) for n in range(3)])] == [
        n * 2 * WINDOW_US for n in range(3)
    ]


def test_another_emitter_field_or_shape_is_told_for_itself() -> None:
    others = [("chat", "two", *WHO[2:]), ("github", *WHO[1:]), (*WHO[:2], "ticket", WHO[3]), (*WHO[:3], "jwt")]
    assert len(told([told_of(n, n, (*who, 1)) for n, who in enumerate([WHO, *others])])) == 5


def test_a_secret_and_a_field_in_clear_are_findings_of_their_own_names() -> None:
    (secret, field) = told([told_of(0, 0, (*WHO, 1), (*WHO[:2], "reason", "not-masked", 1))])
    assert (secret.rule, field.rule) == ("leaked_secret", "leaked_field")


OTHER = ("github", "two", "ticket", "jwt")
leak_rows = st.tuples(*(st.sampled_from(values) for values in zip(WHO, OTHER, strict=True)), st.integers(1, 9))
leak_records = st.lists(st.tuples(st.integers(0, 3 * HOUR), st.lists(leak_rows, max_size=3)), max_size=20)


def chain_of(drawn: list[tuple[int, list[tuple[str, str, str, str, int]]]]) -> list[dict[str, Any]]:
    """Drawn times and rows as one chain's activity, and heartbeats until every window has passed."""
    times = sorted(second for second, _ in drawn)
    rows = [{row[:4]: row for row in rows}.values() for _, rows in drawn]  # a transaction has one row of each
    records = [told_of(number, second, *rows[number]) for number, second in enumerate(times)]
    return [*records, *(told_of(100 + n, 4 * HOUR + n * HOUR) for n in range(3))]


@given(leak_records)
def test_every_leak_is_told_in_the_end_and_no_key_twice_within_a_window(drawn: Any) -> None:
    records = chain_of(drawn)
    watch = LeakWatch()
    counted, stated, last = Counter[Any](), Counter[Any](), dict[Any, int]()
    for record in records:
        for row in record["leaks"]:
            counted[row["source"], row["instance"], row["field"], row["shape"]] += row["events"]
        for found in watch.due(record):
            key = (found.source, found.instance, found.field, found.shape)
            stated[key] += found.events
            assert record["sealed_at"] - last.get(key, -WINDOW_US) >= WINDOW_US
            last[key] = record["sealed_at"]
        watch.add(record)
    assert stated == counted


@given(leak_records, st.data())
def test_records_that_come_again_and_a_detector_started_anew_change_no_finding(drawn: Any, data: st.DataObject) -> None:
    records = chain_of(drawn)
    again = [copy for record in records for copy in [record] * data.draw(st.integers(1, 2))]
    assert told(again) == told(records)
    cut = data.draw(st.integers(0, len(records)))
    watch, found = LeakWatch(), told(records[:cut])
    for record in records[:cut]:  # read back, nothing stated
        watch.add(record)
    for record in records[cut:]:
        found += watch.due(record)
        watch.add(record)
    assert found == told(records)


def test_a_finding_names_source_owner_field_shape_and_seals_and_keeps_the_contract() -> None:
    (leaked,) = told([told_of(3, 9, (*WHO[:2], "authorization.scopes[]", "aws-access-key", 4))])
    draft = of_leak(bytes(32), leaked, CHAIN, "Team chat connectors")
    now = {"event_id": minimal_event()["event_id"], "instance": "one", "region": "eu-central", "now_us": 1_795_000_000 * S}
    event = completed({**draft, "occurred_at": now["now_us"]}, source="detect", **now)
    Contract(packaged_registry()).check(event)
    assert Net(packaged_registry())(event) == (event, ())
    assert (event["event_name"], event["tenant"], event["source_system"]) == ("detection.leaked_secret", "@deployment", "chat")
    report = LEAK.decode_body(draft["extension"]["payload"])
    assert report == {
        "source": "chat", "instance": "one", "owner": "Team chat connectors", "field": "authorization.scopes[]",
        "shape": "aws-access-key", "count": 4, "from": 9 * S, "to": 9 * S, "chain": CHAIN, "first_seq": 300, "last_seq": 304,
    }  # fmt: skip
    decision = Policy.load().decide(event)
    assert (decision.log_class, decision.sign, bool(decision.routes & Route.SIEM)) == (LogClass.SECURITY, True, True)


def test_an_owner_is_the_sources_own_or_that_of_the_default_class() -> None:
    policy = Policy.load()
    assert policy.owner_of("chat") == "Team chat connectors"
    assert policy.owner_of("github") == policy.owner_of("nobody") == "Head of integrations"
    report = next(node for name, node in field_tree(LEAK.text).fields if name == "owner")
    assert report.marks is not None and report.marks.pattern is not None
    assert all(re.fullmatch(report.marks.pattern, table.owner) for table in policy.classes.values())


@pytest.mark.parametrize("owner", ["", "Zoë", "a\nb", "x" * 201, "[secret]"])
def test_an_owner_that_a_report_cannot_carry_is_refused(owner: str) -> None:
    base = (resources.files("schemas") / "policy" / "base.toml").read_text("utf-8")
    with pytest.raises(ConfigError, match=r"sources\.chat\.owner"):
        Policy(base.replace('owner = "Team chat connectors"', f"owner = {json.dumps(owner)}"), {})


def test_activity_from_before_leaks_were_counted_is_still_read() -> None:
    schema = json.loads(ACTIVITY.text)
    earlier = Codec(json.dumps({**schema, "fields": schema["fields"][:-1]}))
    record = {"chain": "c", "first_seq": 0, "count": 1, "part": 0, "sealed_at": 1, "emitters": [], "actors": [], "lineages": []}
    assert decode_activity(earlier.encode(record)) == {**record, "leaks": []}
    assert decode_activity(ACTIVITY.encode({**record, "leaks": []})) == {**record, "leaks": []}


def test_a_row_of_leaks_is_below_the_bound_of_a_row() -> None:
    trees = [field_tree(AUDIT_EVENT.text)] + [
        field_tree(codec.text)
        for digest, codec in packaged_registry().extensions.items()
        if digest not in packaged_registry().unclassified
    ]
    longest = max(len("extension.payload." + leaf.path) for tree in trees for leaf in tree.leaves())
    names = max(len(shape.name) for shape in SHAPES)
    activity = Activity()
    activity.leak(Run("s" * 128, "i" * 128, bytes(16)), "f" * longest, "n" * names, 1 << 62)
    full = activity.records({}, chain="c", first_seq=0, count=1, sealed_at_us=0)
    empty = Activity().records({}, chain="c", first_seq=0, count=1, sealed_at_us=0)
    assert len(full[0]) - len(empty[0]) < 512
