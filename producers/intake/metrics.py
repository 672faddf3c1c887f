"""What the intake counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

ANSWERS = Counter("sealtrail_intake_answers_total", "Answers, by way in and HTTP status.", ["way", "status"])
EVENTS = Counter("sealtrail_intake_events_total", "Events handed over.", ["source"])
REFUSED = Counter("sealtrail_intake_refused_total", "Events, or whole requests, that were refused.", ["source"])
REPEATED = Counter("sealtrail_intake_repeated_total", "Requests that had been taken before.", ["source"])
UNAUTHENTICATED = Counter("sealtrail_intake_unauthenticated_total", "Requests of nobody we know.", ["way"])
DURABLE = Histogram("sealtrail_intake_durable_seconds", "From the whole body to durable.", ["source"])
