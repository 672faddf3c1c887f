"""The durable spool: what an application handed over survives its death until Kafka has it. See `Spool`."""

from producers.record import RawRecord
from producers.spool.opening import Found
from producers.spool.spool import MAX_BYTES, Spool, SpoolFullError, SpoolInUseError

__all__ = ["MAX_BYTES", "Found", "RawRecord", "Spool", "SpoolFullError", "SpoolInUseError"]
