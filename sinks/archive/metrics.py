"""What the archive sink counts; by partition of the archive topic."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SEGMENTS = Counter("sealtrail_archive_segments_total", "Segments that this process committed.", ["partition"])
SEALS = Counter("sealtrail_archive_seals_total", "Seals in segments that this process committed.", ["partition"])
BYTES = Counter(
    "sealtrail_archive_bytes_total", "Bytes of contents objects that were written, orphans among them.", ["partition"]
)
ADOPTIONS = Counter("sealtrail_archive_adoptions_total", "Segments found in place and taken as the chain's own.", ["partition"])
REFUSALS = Counter(
    "sealtrail_archive_refusals_total", "Times a partition was stopped because its evidence is bad.", ["partition"]
)
RETRIES = Counter("sealtrail_archive_retries_total", "Times a partition waits because something did not answer.", ["partition"])
NEXT_SEQ = Gauge("sealtrail_archive_next_seq", "The seq after the last archived one.", ["partition"])
STOPPED = Gauge("sealtrail_archive_stopped", "1 while a partition is stopped because its evidence is bad.", ["partition"])
