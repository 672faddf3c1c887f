"""What the delivering sinks count; by sink."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DELIVERED = Counter("sealtrail_sink_delivered_total", "Records that the destination has.", ["sink"])
DEAD_LETTERS = Counter("sealtrail_sink_dead_letters_total", "Records given up, with a letter of each.", ["sink", "reason"])
RETRIES = Counter("sealtrail_sink_retries_total", "Deliveries that have to be tried again.", ["sink", "reason"])
EXPIRED = Counter("sealtrail_sink_expired_total", "Offsets that the topic deleted before they were delivered.", ["sink"])
WAITING = Gauge("sealtrail_sink_waiting", "1 while a partition waits for its destination.", ["sink", "partition"])
