"""The search sink on a real OpenSearch and a real Kafka: what it indexes, what it refuses, what it waits for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from opensearchpy import TransportError
from structlog.testing import capture_logs

from infra.stack import Stack
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.fields import field_tree
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from schemas.search_names import alias, document_id, index_of, index_prefix
from sealtrail.errors import ConfigError
from sealtrail.seal import LogClass, decode_sealed_event
from sinks.delivery import Item, Outcome, State
from sinks.search.assembly import destination_of, open_sink, search_client
from sinks.search.destination import SearchDestination
from sinks.search.document import CATEGORIES, document_of
from sinks.search.mapping import PROPERTIES
from tests.conftest import Deployment, new_deployment, wait_until
from tests.faults.proxy import Relay
from tests.sealed import PARTITIONS, TOKEN, SinkUnderTest, full_event, item_of, place_of, plain_event, running

DAY_US = 86_400_000_000


class Hot(SinkUnderTest):
    """A deployment whose hot topic this test fills, and its index."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment, "sink-search", "audit.hot")
        self.client = search_client(self.settings())

    def documents(self) -> list[dict[str, Any]]:
        """Everything in the index, by chain and seq."""
        if not self.client.indices.exists_alias(name=alias(self.deployment.topic_prefix)):
            return []
        with contextlib.suppress(Exception):  # an index that is closed cannot be refreshed
            self.client.indices.refresh(index=alias(self.deployment.topic_prefix))
        query = {"size": 10_000, "query": {"match_all": {}}, "sort": ["sealtrail.chain", "sealtrail.seq"]}
        found = self.client.search(index=alias(self.deployment.topic_prefix), body=query)
        return list(found["hits"]["hits"])

    def ids(self) -> list[str]:
        return [hit["_source"]["event"]["id"] for hit in self.documents()]

    def wait_for(self, *ids: str) -> None:
        wait_until(lambda: set(ids) <= set(self.ids()), what=f"{len(ids)} documents")

    def count(self, index: str) -> int | None:
        """Documents of one index; None while it is so new that no shard of it has started."""
        try:
            return int(self.client.count(index=index)["count"])
        except TransportError as error:
            if error.status_code != 503:
                raise
            return None

    def index(self, log_class: LogClass, hot_days: int) -> str:
        return index_of(self.deployment.topic_prefix, log_class, hot_days, self.topic.maker.now_us).name


@pytest.fixture
def hot(search_stack: Stack) -> Iterator[Hot]:
    made = Hot(new_deployment(search_stack))
    yield made
    made.client.indices.delete(index=f"{alias(made.deployment.topic_prefix)}-*")  # a node takes a thousand


def test_an_event_is_found_by_every_field_that_the_mapping_names(hot: Hot) -> None:
    event = full_event()
    (event_id,) = hot.topic.send(event)
    with running(open_sink(hot.settings())):
        hot.wait_for(event_id)
    (hit,) = hot.documents()
    source, seal = hit["_source"], hot.topic.maker
    assert hit["_id"] == document_id(seal.chain, 0)
    assert hit["_index"] == hot.index(LogClass.OPERATIONAL, 90)
    assert source["organization"] == {"id": "acme"}
    assert source["user"] == {"id": "hmac_actor", "name": "**** Ada", "target": {"id": "hmac_subject", "name": "**** Bob"}}
    assert source["sealtrail"]["actor_login"] == source["sealtrail"]["subject_login"] == TOKEN
    assert source["trace"] == {"id": "4bf92f3577b34da6a3ce929d0e0e4736"}
    assert source["sealtrail"]["leaf_hash"] == seal.prev.hex()
    assert source["sealtrail"]["delivery"]["attempts"][1]["status"] == 202
    for path, value in leaves(source):
        if path not in SHOWN_ONLY:
            assert hot.client.count(index=hit["_index"], body={"query": {"match": {path: value}}})["count"] == 1, path
    for words in ("delivered", "messenger m", "CHG refused", "role"):
        query = {"match": {"sealtrail.words": {"query": words, "operator": "and"}}}
        assert hot.client.count(index=hit["_index"], body={"query": query})["count"] == 1, words


SHOWN_ONLY = frozenset(
    {
        "sealtrail.changes.before",
        "sealtrail.changes.after",
        "sealtrail.delivery.payload_digest",
        "sealtrail.content_ref.location",
    }
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def test_nothing_of_a_content_field_or_an_extension_is_indexed(hot: Hot) -> None:
    event = full_event(reason="reason-marker", detail="detail-marker")
    hot.topic.send(event)
    with running(open_sink(hot.settings())):
        wait_until(hot.documents, what="the document")
    text = json.dumps(hot.documents())
    assert not [marker for marker in ("reason-marker", "detail-marker", "payload-marker") if marker in text]


def test_every_family_of_events_has_a_category_that_is_one_of_the_schemas() -> None:
    allowed = {
        "api", "authentication", "configuration", "database", "driver", "email", "file", "host", "iam", "intrusion_detection",
        "library", "malware", "network", "package", "process", "registry", "session", "threat", "vulnerability", "web",
    }  # fmt: skip
    symbols = next(node for name, node in field_tree(AUDIT_EVENT.text).fields if name == "event_type").symbols
    assert set(CATEGORIES) == set(symbols)
    assert all(set(category) <= allowed for category, _ in CATEGORIES.values())


def test_every_field_of_the_model_is_in_the_mapping_or_left_out_on_purpose() -> None:
    document = document_of(item_of(full_event()))
    unmapped = [path for path, _ in leaves(document) if not mapped(path.split("."), PROPERTIES)]
    assert not unmapped


def mapped(path: list[str], properties: dict[str, Any]) -> bool:
    inner = properties.get(path[0])
    return inner is not None and (len(path) == 1 or mapped(path[1:], inner.get("properties", {})))


def test_delivering_again_makes_no_second_document(hot: Hot) -> None:
    ids = hot.topic.send(*[plain_event() for _ in range(50)])
    with running(open_sink(hot.settings())):
        hot.wait_for(*ids)
        wait_until(lambda: hot.committed() >= 50, what="the position committed")
    group = topic_name(hot.deployment.topic_prefix, "sink-search")
    wait_until(lambda: forget(hot, group), what="the group's positions deleted")
    more = hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        hot.wait_for(*more)
    assert sorted(hot.ids()) == sorted([*ids, *more])


def forget(hot: Hot, group: str) -> bool:
    try:
        hot.admin.delete_consumer_groups([group])[group].result()
    except Exception:  # it still has a member for a moment
        return False
    return True


def test_what_an_aborted_transaction_wrote_is_no_document(hot: Hot) -> None:
    hot.topic.write([hot.topic.seal(plain_event())], abort=True)
    ids = hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        hot.wait_for(*ids)
    assert hot.ids() == ids


def test_bad_records_become_dead_letters_and_the_rest_is_indexed(hot: Hot) -> None:
    good = hot.topic.seal(plain_event())
    sealed = decode_sealed_event(hot.topic.seal(plain_event()))
    foreign = bytearray(hot.topic.seal(plain_event()))
    foreign[-5] ^= 1  # the content is not what was sealed
    unknown = hot.topic.seal(plain_event())
    position = unknown.index(AUDIT_EVENT.sha256)
    bad = [
        b"",
        b"not avro",
        hot.topic.maker.heartbeat(),
        sealed.seal,
        bytes(foreign),
        unknown[:position] + bytes(32) + unknown[position + 32 :],
    ]
    last = hot.topic.seal(plain_event())
    hot.topic.write([*bad[:3], good, *bad[3:], last])
    with capture_logs() as logs, running(open_sink(hot.settings())):
        wait_until(lambda: len(hot.documents()) == 2, what="two documents")
        wait_until(lambda: hot.committed() >= 8, what="the position behind them")
    letters = hot.letters()
    assert sorted(letter["record"] for letter in letters) == sorted(bad)
    assert {letter["reason"] for letter in letters} == {"undecodable"}
    assert {letter["by"] for letter in letters} == {"sink-search"}
    assert sum(entry["event"] == "record given up" for entry in logs) == len(bad)


def test_half_a_bulk_refused_for_its_mapping_leaves_the_other_half_indexed(hot: Hot) -> None:
    conflicting = {"mappings": {"properties": {"sealtrail": {"properties": {"ticket": {"type": "long"}}}}}}
    destination_of(hot.settings()).deliver([])  # the template, as the sink puts it
    hot.client.indices.create(index=hot.index(LogClass.OPERATIONAL, 90), body=conflicting)
    secret = "not-a-number"
    events = [plain_event(ticket=secret if number % 2 else None) for number in range(20)]
    ids = hot.topic.send(*events)
    with running(open_sink(hot.settings())):
        hot.wait_for(*ids[0::2])
        wait_until(lambda: len(hot.letters()) == 10, what="ten dead letters")
        wait_until(lambda: hot.committed() >= 20, what="the position behind them")
    assert sorted(hot.ids()) == sorted(ids[0::2])
    letters = hot.letters()
    assert {letter["event_id"] for letter in letters} == {event["event_id"] for event in events[1::2]}
    assert {(letter["reason"], letter["status"]) for letter in letters} == {("mapping", 400)}
    assert all("sealtrail.ticket" in letter["detail"] and secret not in letter["detail"] for letter in letters)
    assert {(letter["chain"], letter["seq"]) for letter in letters} == {place_of(letter["record"]) for letter in letters}


def test_a_field_that_the_index_does_not_know_is_refused_and_not_guessed(hot: Hot) -> None:
    destination_of(hot.settings()).deliver([])
    narrow = {"mappings": {"dynamic": "strict", "properties": {}}}
    with contextlib.suppress(Exception):
        hot.client.indices.delete_index_template(name=alias(hot.deployment.topic_prefix))
    hot.client.indices.create(
        index=hot.index(LogClass.OPERATIONAL, 90), body={**narrow, "aliases": {alias(hot.deployment.topic_prefix): {}}}
    )
    hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        (letter,) = wait_until(hot.letters, what="a dead letter")
    assert (letter["reason"], letter["detail"].split()[0]) == ("mapping", "strict_dynamic_mapping_exception")


def test_a_document_over_the_limit_is_refused_alone(hot: Hot) -> None:
    large = plain_event(correlation_id="c" * 200)
    ids = hot.topic.send(plain_event(), large, plain_event())
    sizes = {len(json.dumps(document_of(item_of(event)))) for event in (plain_event(), large)}
    with running(open_sink(hot.settings(search_document_bytes=sum(sizes) // 2))):
        hot.wait_for(ids[0], ids[2])
        (letter,) = wait_until(hot.letters, what="a dead letter")
    assert (letter["reason"], letter["event_id"]) == ("too-large", large["event_id"])


def test_a_request_that_the_server_finds_too_large_is_halved(hot: Hot) -> None:
    """The local stack's OpenSearch takes 16 MiB; real documents of 300 KiB make more than that in one request."""
    changes = [{"op": "ADD", "path": f"/p{n}", "before": None, "after": '"' + "*" * 8000 + '"'} for n in range(38)]
    events = [plain_event(changes=changes) for _ in range(64)]
    for event in events:
        hot.topic.send(event)
    settings = hot.settings()
    client = search_client(settings)
    asked: list[int] = []
    send = client.bulk
    client.bulk = lambda **given: asked.append(len(given["body"])) or send(**given)  # type: ignore[func-returns-value]
    destination = SearchDestination(
        client,
        settings.topic_prefix,
        lambda _: Policy.load(),
        document_bytes=settings.search_document_bytes,
        bulk_bytes=1 << 30,
    )
    items = [item_of(event) for event in events]
    outcomes = destination.deliver(items)
    assert {outcome.state for outcome in outcomes} == {State.DELIVERED}
    assert asked[0] > 16 << 20 and len(asked) >= 3


def test_an_index_closed_by_its_operator_is_waited_for_and_nothing_is_lost(hot: Hot) -> None:
    first = hot.topic.send(plain_event())
    with capture_logs() as logs, running(open_sink(hot.settings())):
        hot.wait_for(*first)
        hot.client.indices.close(index=hot.index(LogClass.OPERATIONAL, 90))
        second = hot.topic.send(plain_event(), plain_event())
        wait_until(lambda: any(e.get("reason") == "index-unavailable" for e in logs), what="a line about the closed index")
        other = hot.topic.send(plain_event(event_type="AUTHENTICATION"), partition=1)  # another index, another lane
        index = hot.index(LogClass.SECURITY, 180)
        wait_until(lambda: hot.client.indices.exists(index=index), what="the other index")
        wait_until(lambda: hot.count(index) == 1, what="the other lane goes on")
        hot.client.indices.open(index=hot.index(LogClass.OPERATIONAL, 90))
        hot.wait_for(*first, *second, *other)
    assert len(hot.ids()) == 4 and not hot.letters()


def test_an_index_deleted_under_the_sink_is_made_again_from_the_template(hot: Hot) -> None:
    first = hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        hot.wait_for(*first)
        hot.client.indices.delete(index=hot.index(LogClass.OPERATIONAL, 90))
        second = hot.topic.send(plain_event())
        hot.wait_for(*second)
    mapping = hot.client.indices.get_mapping(index=hot.index(LogClass.OPERATIONAL, 90))
    assert mapping[hot.index(LogClass.OPERATIONAL, 90)]["mappings"]["dynamic"] == "strict"


def test_a_search_server_that_goes_away_is_waited_for_and_nothing_is_lost(hot: Hot) -> None:
    with Relay(hot.deployment.stack.ports.opensearch) as relay:
        first = hot.topic.send(plain_event())
        sink = open_sink(hot.settings(search_endpoint=f"http://127.0.0.1:{relay.port}"))
        with capture_logs() as logs, running(sink):
            hot.wait_for(*first)
            relay.cut()
            second = hot.topic.send(*[plain_event() for _ in range(30)])
            wait_until(lambda: any(e.get("reason") == "unreachable" for e in logs), what="a line about the server")
            assert len(hot.ids()) == 1
            relay.join()
            hot.wait_for(*first, *second)
    assert len(hot.ids()) == 31 and not hot.letters()


def test_what_comes_after_its_hot_period_makes_no_index(hot: Hot) -> None:
    settings = hot.settings()
    late = time.time_ns() // 1000 + 400 * DAY_US
    destination = SearchDestination(
        search_client(settings), settings.topic_prefix, lambda _: Policy.load(), document_bytes=1 << 20, now_us=lambda: late
    )
    assert [outcome.state for outcome in destination.deliver([item_of(plain_event())])] == [State.DELIVERED]
    assert not hot.client.indices.exists_alias(name=alias(settings.topic_prefix))


def test_a_record_that_breaks_the_destinations_code_costs_itself_alone(hot: Hot) -> None:
    class Fragile:
        """A destination whose code breaks on one record."""

        def __init__(self, inner: SearchDestination, culprit: bytes) -> None:
            self.inner, self.culprit = inner, culprit

        def deliver(self, items: Sequence[Item]) -> list[Outcome]:
            if any(item.event["event_id"] == self.culprit for item in items):
                raise RuntimeError("what nobody foresaw")
            return self.inner.deliver(items)

        def close(self) -> None:
            self.inner.close()

    events = [plain_event() for _ in range(20)]
    ids = hot.topic.send(*events)
    with running(open_sink(hot.settings(), destination=Fragile(destination_of(hot.settings()), events[7]["event_id"]))):
        hot.wait_for(*ids[:7], *ids[8:])
        (letter,) = wait_until(hot.letters, what="a dead letter")
        wait_until(lambda: hot.committed() >= 20, what="the position behind it")
    assert (letter["reason"], letter["event_id"]) == ("unprocessable", events[7]["event_id"])


def test_records_that_expired_before_they_were_read_are_counted_and_the_rest_is_indexed(hot: Hot) -> None:
    first = hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        hot.wait_for(*first)
        wait_until(lambda: hot.committed() >= 1, what="the position committed")
    hot.topic.send(plain_event(), plain_event())
    last = hot.topic.send(plain_event())
    cut = TopicPartition(hot.topic.topic, 0, end_of(hot) - 2)  # the last record and its marker stay
    hot.admin.delete_records([cut])[cut].result()
    with capture_logs() as logs, running(open_sink(hot.settings())):
        hot.wait_for(*first, *last)
    (entry,) = [entry for entry in logs if entry["event"] == "records expired before delivery"]
    assert (entry["partition"], entry["last"]) == (0, cut.offset - 1)


def end_of(hot: Hot) -> int:
    return Ends(hot.deployment.settings("admin")).high([(hot.topic.topic, 0)])[hot.topic.topic, 0]


def test_two_sinks_share_the_partitions_and_index_everything_once(hot: Hot) -> None:
    with running(open_sink(hot.settings()), open_sink(hot.settings())):
        for number in range(12):
            hot.topic.send(*[plain_event() for _ in range(20)], partition=number % PARTITIONS)
        wait_until(lambda: len(hot.ids()) >= 240, what="240 documents")
    assert len(hot.ids()) == 240


@pytest.mark.parametrize("fault", ["inside-bulk", "after-bulk"])
def test_a_sink_killed_in_or_after_a_bulk_repeats_without_a_second_document(hot: Hot, fault: str) -> None:
    ids = hot.topic.send(*[plain_event() for _ in range(40)])
    killed = process(hot, fault)
    assert killed.wait(120) == -signal.SIGKILL
    assert hot.committed() == 0
    if fault == "after-bulk":
        assert len(hot.ids()) == 40
    more = hot.topic.send(plain_event())
    with running(open_sink(hot.settings())):
        hot.wait_for(*ids, *more)
    assert len(hot.ids()) == 41


def process(hot: Hot, fault: str) -> subprocess.Popen[bytes]:
    config = hot.deployment.stack.places.roles / "sink-search.toml"
    flags = {"topic_prefix": hot.deployment.topic_prefix, "deployment": hot.deployment.name}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.search_sink", str(config), json.dumps(flags), fault],
        env={**os.environ, "PYTHONPATH": "."},
    )


def test_no_two_deployments_share_an_index_or_a_pattern() -> None:
    assert index_prefix("Team.A/x_") == "team.a-x_"
    assert index_prefix("_-.x") == "x"
    now = time.time_ns() // 1000
    names = {index_of(prefix, LogClass.DEBUG, 7, now).name for prefix in ("", "a.", "b.")}
    assert len(names) == 3


def test_a_month_and_a_day_end_when_their_last_record_has_been_hot_long_enough() -> None:
    of_december = index_of("", LogClass.ADMIN, 10, 1_798_675_200_000_000)  # 2026-12-31
    assert (of_december.name, of_december.ends_us) == ("audit-admin-10d-2026-12", 1_799_625_600_000_000)  # 2027-01-11
    of_a_day = index_of("", LogClass.DEBUG, 7, 1_798_675_200_000_000)
    assert (of_a_day.name, of_a_day.ends_us) == ("audit-debug-7d-2026-12-31", 1_799_366_400_000_000)  # 2027-01-08


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:9200"])
def test_a_wrong_address_ends_the_sink_and_names_the_setting(hot: Hot, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="search_endpoint"):
        open_sink(hot.settings(search_endpoint=endpoint))
