"""Names in the search index: what the sink makes and what a query asks for.

    <prefix>audit-<class>-<hot days>d-<month or day of sealing>     one index
    <prefix>audit                                                   alias of them all

Class, hot period and time of sealing are facts of the record, so a record repeated years later meets the index that it
was in, and an index is gone when its period is over. Months; days for operational and debug, where the volume is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sealtrail.seal import LogClass

BY_DAY = frozenset({LogClass.OPERATIONAL, LogClass.DEBUG})
CLASSES = tuple(c for c in LogClass if c is not LogClass.NONE)


def index_prefix(topic_prefix: str) -> str:
    """`topic_prefix` as an index name may begin: lower case, no character that OpenSearch refuses."""
    return re.sub(r"^[._-]+", "", re.sub(r"[^a-z0-9._-]", "-", topic_prefix.lower()))


def alias(topic_prefix: str) -> str:
    """The name under which all indices of a deployment are asked."""
    return f"{index_prefix(topic_prefix)}audit"


def patterns(topic_prefix: str) -> list[str]:
    """What the names of a deployment's indices look like; no two deployments' patterns meet."""
    return [f"{alias(topic_prefix)}-{log_class.lower()}-*" for log_class in CLASSES]


def document_id(chain: str, seq: int) -> str:
    """The id of the document of one seal: chain and seq, at most 512 bytes."""
    return f"{chain}:{seq}"


@dataclass(frozen=True, slots=True)
class Index:
    """One index and the moment, in microseconds since 1970, at which the last record in it leaves hot search."""

    name: str
    ends_us: int


def index_of(topic_prefix: str, log_class: LogClass, hot_days: int, sealed_at_us: int) -> Index:
    """The index of a record sealed at that moment, microseconds since 1970, UTC."""
    sealed = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=sealed_at_us)).date()
    if log_class in BY_DAY:
        period, after = f"{sealed:%Y-%m-%d}", sealed + timedelta(days=1)
    else:
        period = f"{sealed:%Y-%m}"
        after = date(sealed.year + sealed.month // 12, sealed.month % 12 + 1, 1)
    ends = datetime(after.year, after.month, after.day, tzinfo=UTC) + timedelta(days=hot_days)
    return Index(f"{alias(topic_prefix)}-{log_class.lower()}-{hot_days}d-{period}", int(ends.timestamp()) * 1_000_000)
