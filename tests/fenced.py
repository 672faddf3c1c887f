"""A chain's producer whose fence stands."""

from __future__ import annotations

from kafkaio.library import LIBRDKAFKA, Library
from kafkaio.transaction import INIT_S, ChainProducer
from schemas.settings import Settings


def fenced(settings: Settings, transactional_id: str, library: Library = LIBRDKAFKA) -> ChainProducer:
    """Made, and waited for. Raises as `ChainProducer.fenced`."""
    made = ChainProducer(settings, transactional_id, library)
    while not made.fenced(INIT_S):
        pass
    return made
