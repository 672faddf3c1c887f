"""The durable spool: what an application handed over survives its death until Kafka has it. See `Spool`."""

from producers.spool.frame import Spooled
from producers.spool.opening import Found
from producers.spool.spool import MAX_BYTES, Spool, SpoolFullError

__all__ = ["MAX_BYTES", "Found", "Spool", "SpoolFullError", "Spooled"]
