"""Names in the archive: path arithmetic, all that writer and verifier share about the store.

    chains/<chain>/segments/<first seq, 20 digits>.avro
    contents/<class>/<lock date>/<chain>-<first seq, 20 digits>-<attempt>.avro
    keys/<key id>.cert    keys/<key id>-<SHA-256>.end
    schemas/<SHA-256>.avsc    policies/<SHA-256>.toml|.txt    glossary/<SHA-256>.md

The chain's slashes stay slashes. A chain is `<authority>/<deployment>/<raw topic>.<first 8 hex of
the topic's UUID>.<generation>/<partition>`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sealtrail.errors import EvidenceError

CHAINS = "chains/"
CONTENTS = "contents/"
KEYS = "keys/"
SCHEMAS = "schemas/"
POLICIES = "policies/"
GLOSSARY = "glossary/"
DOCUMENT_PREFIXES = (KEYS, SCHEMAS, POLICIES, GLOSSARY)

END = ".end"

DAY_MS = 86_400_000

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,248}"
_CHAIN = re.compile(rf"{_NAME}/{_NAME}/{_NAME}\.[0-9a-f]{{8}}\.(0|[1-9][0-9]*)/(0|[1-9][0-9]*)")
_LOCK_DATE = re.compile(rf"{CONTENTS}[a-z]+/([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/")
_CONTENTS = re.compile(rf"{CONTENTS}[a-z]+/[0-9-]+/({_CHAIN.pattern})-([0-9]{{20}})-[^/]+\.avro")
_SEGMENT = re.compile(rf"chains/({_CHAIN.pattern})/segments/([0-9]{{20}})\.avro")


def chain_name(authority: str, deployment: str, raw_topic: str, topic_uuid: bytes, generation: int, partition: int) -> str:
    """The chain of one partition of one raw topic.

    Args:
        topic_uuid: the topic's UUID as Kafka gives it, 16 bytes: a topic made anew is another chain.

    Raises:
        ValueError: a part that a chain's name cannot carry.
    """
    chain = f"{authority}/{deployment}/{raw_topic}.{topic_uuid[:4].hex()}.{generation}/{partition}"
    if not _CHAIN.fullmatch(chain):
        raise ValueError(f"not a chain's name: {chain}")
    return chain


def is_chain(name: str) -> bool:
    """Whether a string has the form of a chain's name."""
    return _CHAIN.fullmatch(name) is not None


def segments_prefix(chain: str) -> str:
    """Where the segments of a chain lie."""
    return f"{CHAINS}{chain}/segments/"


def segment_key(chain: str, first_seq: int) -> str:
    """The segment that begins with a seq."""
    return f"{segments_prefix(chain)}{first_seq:020d}.avro"


def parse_segment_key(key: str) -> tuple[str, int]:
    """Chain and first seq of a segment's key.

    Raises:
        EvidenceError: not a segment's key.
    """
    match = _SEGMENT.fullmatch(key)
    if match is None:
        raise EvidenceError(f"not a segment's key: {key}")
    return match.group(1), int(match.group(4))


def contents_key(log_class: str, retain_until_ms: int, chain: str, first_seq: int, attempt: str) -> str:
    """A contents object of a segment; `attempt` makes each try's name its own.

    Args:
        retain_until_ms: the lock date, UTC midnight in milliseconds since 1970.
    """
    day = datetime.fromtimestamp(retain_until_ms / 1000, UTC).strftime("%Y-%m-%d")
    return f"{CONTENTS}{log_class}/{day}/{chain}-{first_seq:020d}-{attempt}.avro"


def segment_of_contents(key: str) -> tuple[str, int] | None:
    """Chain and first seq of the segment that a contents object was written for; None if its name states none."""
    match = _CONTENTS.fullmatch(key)
    return None if match is None else (match.group(1), int(match.group(4)))


def lock_date_ms(key: str) -> int:
    """The lock date that a contents object's key states, in milliseconds since 1970; 0 if it states none."""
    match = _LOCK_DATE.match(key)
    if match is None:
        return 0
    try:
        return int(datetime.strptime(match.group(1), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return 0


def certificate_key(key_id: bytes) -> str:
    """The certificate of a key."""
    return f"{KEYS}{key_id.hex()}.cert"


def end_key(key_id: bytes, digest: bytes) -> str:
    """A statement of a key's end, by the SHA-256 of its bytes."""
    return f"{KEYS}{key_id.hex()}-{digest.hex()}{END}"


def schema_key(digest: bytes) -> str:
    """The text of a schema, by its SHA-256."""
    return f"{SCHEMAS}{digest.hex()}.avsc"


def policy_key(digest: bytes) -> str:
    """The text of one policy file, by its SHA-256."""
    return f"{POLICIES}{digest.hex()}.toml"


def policy_pair_key(combined: bytes) -> str:
    """Which base and tenant file a record's policy hash stands for."""
    return f"{POLICIES}{combined.hex()}.txt"


def policy_pair_text(base: bytes, tenant: bytes) -> str:
    """The text at `policy_pair_key`; `tenant` is 32 zero bytes where no tenant file applies."""
    return f"base {base.hex()}\ntenant {tenant.hex()}\n"
