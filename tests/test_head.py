"""The head of an event and the partition of its key: what is known of a record before it is decoded."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.head import Head, read_head
from schemas.partitioner import murmur2, partition_of
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import EvidenceError
from tests.strategies import events


@given(events())
def test_the_head_is_what_the_decoder_shows(event: dict[str, Any]) -> None:
    emitter = event["emitter"]
    shown = Head(
        event["event_id"],
        event["event_name"],
        event["tenant"],
        emitter["source"],
        emitter["instance"],
        emitter["epoch"],
        emitter["seq"],
    )
    assert read_head(AUDIT_EVENT.encode(event)) == shown


@given(st.binary(max_size=400))
def test_no_bytes_break_the_head_other_than_by_evidence_error(data: bytes) -> None:
    with suppress(EvidenceError):
        read_head(AUDIT_EVENT.header + data)


@pytest.mark.parametrize(
    ("key", "value"),  # Kafka's own test of its default partitioner
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_kafkas_published_values(key: bytes, value: int) -> None:
    assert murmur2(key) == value & 0xFFFFFFFF


@given(st.binary(max_size=60), st.integers(1, 512))
def test_every_key_has_one_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
