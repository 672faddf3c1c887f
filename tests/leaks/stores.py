"""Everything that a run left behind, as bytes: topics, the broker's disk, archive, index, SIEM, logs, metrics."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from opensearchpy import OpenSearch

from auditor.archive import ArchiveReader
from infra import kafka, opensearch, seaweed
from infra.demo.path import Receivers
from infra.demo.session import Session
from infra.demo.stores import documents_of
from infra.places import HOST
from kafkaio.client import client_config
from keystore import Keystore
from schemas.search_names import alias
from sealtrail.segment import decode_frames, open_frame
from sinks.search.assembly import search_client
from tests.leaks.scan import Scanner

RAW, RAW_DISK = "topic audit.raw", "disk of audit.raw"
READ_S = 120.0
SEARCHES = 200  # asked at once


def scan_all(session: Session, receivers: Receivers, scanner: Scanner, metrics: dict[str, int], since_s: float) -> None:
    """Scan every store. metrics: ports by process; since_s: when the run began, for what it shares with other runs."""
    for role, port in metrics.items():
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as page:
            scanner.scan("metrics", page.read(), role)
    scan_topics(session, scanner)
    scan_disk(session, scanner, since_s)
    scan_archive(session, scanner)
    settings = session.settings("sink-search")
    client, name = search_client(settings), alias(settings.topic_prefix)
    for document in documents_of(client, name):
        scanner.scan("index", json.dumps(document, ensure_ascii=False).encode(), document["sealtrail"]["chain"])
    for identifier, copies in receivers.hec.got.items():
        for copy in copies:
            scanner.scan("HEC collector", copy, identifier)
    for message in receivers.syslog.messages:
        scanner.scan("syslog", message)
    for path in _files(session.folder, 0):
        if path.suffix not in (".key", ".pem"):  # of the receivers; every key in PEM begins alike
            scanner.scan("files of the run", path.read_bytes(), path.name)
    for path in sorted(session.stack.places.logs.iterdir()):
        if path.stat().st_mtime >= since_s:
            scanner.scan("logs", path.read_bytes(), path.name)


def scan_topics(session: Session, scanner: Scanner) -> None:
    """Every record of the run's topics and of the broker's own, aborted ones too: key, value and headers, decompressed."""
    settings = session.settings("admin")
    consumer = Consumer(
        {
            **client_config(settings),
            "group.id": "leaks",
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        topics = consumer.list_topics(timeout=30).topics
        wanted = {name for name in topics if name.startswith((settings.topic_prefix, "__"))}
        unread = {(name, partition) for name in wanted for partition in topics[name].partitions}
        consumer.assign([TopicPartition(*where, OFFSET_BEGINNING) for where in unread])
        deadline = time.monotonic() + READ_S
        while unread:
            assert time.monotonic() < deadline, f"no end of {sorted(unread)}"
            for message in consumer.consume(1000, 0.2):
                topic, partition, error = message.topic(), message.partition(), message.error()
                assert topic is not None and partition is not None
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    unread.discard((topic, partition))
                    continue
                data = b"\0".join((message.key() or b"", message.value() or b"", _headers(message)))
                scanner.scan(f"topic {topic.removeprefix(settings.topic_prefix)}", data, f"{partition}/{message.offset()}")
    finally:
        consumer.close()


def _headers(message: Message) -> bytes:
    given: Any = message.headers() or []  # typed as a list or a dict; it is a list of pairs
    return b"\0".join(name.encode() + b"\0" + (held or b"") for name, held in given)


def scan_disk(session: Session, scanner: Scanner, since_s: float) -> None:
    """What the servers wrote, as it lies on disk: the broker's segments and indices, the S3 server's and OpenSearch's files."""
    prefix, places = session.settings("admin").topic_prefix, session.stack.places
    data = places.server(kafka.NAME) / "data"
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        if folder.name.startswith((prefix, "__")):
            for path in _files(folder, 0):
                scanner.scan(f"disk of {folder.name.removeprefix(prefix).rpartition('-')[0]}", path.read_bytes(), path.name)
    for name in (seaweed.NAME, opensearch.NAME):
        for path in _files(places.server(name), since_s):
            with path.open("rb") as file:
                while piece := file.read(64 << 20):
                    scanner.scan(f"disk of {name}", piece, path.name)


def _files(folder: Path, since_s: float) -> Iterator[Path]:
    """Files that changed since; one that goes away meanwhile is none."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since_s:
                yield path
        except FileNotFoundError:
            continue


def scan_archive(session: Session, scanner: Scanner) -> None:
    """Every version in the bucket that is the run's or everybody's; contents as the tenants' keys open them, too."""
    settings = session.settings("verifier")
    reader, keystore = ArchiveReader(settings), Keystore.open(settings.keys)
    opened = 0
    for stored in reader.list(""):
        shared = not stored.key.startswith(("chains/", "contents/"))
        if stored.is_marker or not (shared or session.name in stored.key):
            continue
        data = reader.read(stored.key, stored.version)
        scanner.scan("archive, as stored", stored.key.encode() + b"\0" + data, stored.key)
        if stored.key.startswith("contents/"):
            for frame in decode_frames(data):
                for seq, content in open_frame(frame, keystore.opener(f"tenant-data-{frame.tenant}").open):
                    scanner.scan("archive, opened", content.content, f"{stored.key} seq {seq}")
                    opened += 1
    assert opened, "no content was opened: nothing was looked at"


def found_by_search(session: Session, values: Iterable[str]) -> int:
    """How many of the values a search of all fields finds, as a phrase."""
    settings = session.settings("sink-search")
    client: OpenSearch = search_client(settings)
    name, found, asked = alias(settings.topic_prefix), 0, list(values)
    for start in range(0, len(asked), SEARCHES):
        body: list[dict[str, object]] = []
        for value in asked[start : start + SEARCHES]:
            match = {"query": value[:256], "fields": ["*"], "type": "phrase", "lenient": True}
            body += [{}, {"size": 0, "query": {"multi_match": match}}]
        answers = client.msearch(body=body, index=name)["responses"]
        assert not [answer["error"] for answer in answers if "error" in answer]
        found += sum(answer["hits"]["total"]["value"] > 0 for answer in answers)
    return found
