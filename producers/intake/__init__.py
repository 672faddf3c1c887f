"""The HTTP intake: events of services in other languages, and GitHub's webhooks, answered only when they are durable.

    server ── who is it, how much, how long ──► desk ── all or nothing ──► AuditProducer ──► spool or Kafka
       ▲                                                                        │
       └────────────────────────── settling: one wait for many requests ◄───────┘

`strict` and `reading` turn bytes into drafts, `sources` says who may speak for whom, `process` puts it together from the
settings. aiohttp is imported here and nowhere else.
"""

from producers.intake.process import Intake

__all__ = ["Intake"]
