"""Texts that the archive keeps so that a stranger can read it: schemas by their SHA-256, policies by theirs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator

from sealtrail.avro import Codec
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.layout import GLOSSARY, POLICIES, SCHEMAS, policy_key, policy_pair_key, schema_key
from sealtrail.source import MissingObjectError, Source

_NAME = re.compile(rf"(?:{SCHEMAS}([0-9a-f]{{64}})\.avsc|{POLICIES}([0-9a-f]{{64}})\.toml|{GLOSSARY}([0-9a-f]{{64}})\.md)")
_PAIR_NAME = re.compile(rf"{POLICIES}([0-9a-f]{{64}})\.txt")
_PAIR = re.compile(rb"base ([0-9a-f]{64})\ntenant ([0-9a-f]{64})\n")


def policy_pair_of(data: bytes, combined: bytes) -> tuple[bytes, ...] | None:
    """Digests of the texts that a policy is made of, the base's and a tenant's if it has one; None: not the policy's pair."""
    match = _PAIR.fullmatch(data)
    if match is None:
        return None
    pair = bytes.fromhex(match[1].decode()), bytes.fromhex(match[2].decode())
    return tuple(d for d in pair if any(d)) if hashlib.sha256(b"".join(pair)).digest() == combined else None


class Documents:
    """Schemas of an archive, each read and compiled once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._codecs: dict[bytes, Codec | str] = {}
        self._policies: dict[bytes, str] = {}

    def codec(self, digest: bytes) -> Codec:
        """The codec of a schema.

        Raises:
            UndecidedError: the archive does not hold its text, or holds another under its name.
        """
        found = self._codecs.get(digest)
        if found is None:
            found = self._codecs[digest] = self._read(digest)
        if isinstance(found, str):
            raise UndecidedError(found)
        return found

    def policy_problem(self, combined: bytes) -> str:
        """Why the policy of a record cannot be read from the archive; "" if its texts are there, unaltered."""
        if combined not in self._policies:
            self._policies[combined] = self._check_policy(combined)
        return self._policies[combined]

    def policy_names(self, combined: bytes) -> tuple[str, ...]:
        """Names of what a policy is made of: the pair, and the texts that it names if it is there."""
        key = policy_pair_key(combined)
        pairs = (policy_pair_of(data, combined) for data in self._versions(key))
        named = next((pair for pair in pairs if pair is not None), ())
        return (key, *map(policy_key, named))

    def _check_policy(self, combined: bytes) -> str:
        key = policy_pair_key(combined)
        for data in self._versions(key):
            named = policy_pair_of(data, combined)
            if named is None:
                continue
            missing = [d for d in named if not self._holds(policy_key(d), d)]
            return f"{policy_key(missing[0])}: not in the archive" if missing else ""
        return f"{key}: not in the archive, or not the two digests that its name stands for"

    def _holds(self, key: str, digest: bytes) -> bool:
        return any(hashlib.sha256(data).digest() == digest for data in self._versions(key))

    def _versions(self, key: str) -> Iterator[bytes]:
        for stored in self._source.list(key):
            if stored.key == key and not stored.is_marker:
                try:
                    yield self._source.read(key, stored.version)
                except EvidenceError:
                    continue  # another version may be there

    def _read(self, digest: bytes) -> Codec | str:
        key = schema_key(digest)
        found = f"{key}: not in the archive"
        for stored in self._source.list(key):
            if stored.key != key or stored.is_marker:
                continue
            try:
                text = self._source.read(key, stored.version)
                if hashlib.sha256(text).digest() == digest:
                    return Codec(text.decode("utf-8"))
                found = f"{key}: the text is not the one that its name says"
            except (EvidenceError, UnicodeDecodeError) as error:
                found = f"{key}: {error}"
        return found


def altered(source: Source, say: Callable[[str], None]) -> Iterator[str]:
    """Names of documents of which a version is not what the digest in the name stands for; `say` is told what was not read."""
    found = ""
    for prefix in (SCHEMAS, POLICIES, GLOSSARY):
        for stored in source.list(prefix):
            if stored.is_marker or stored.key == found:
                continue
            try:
                if not _is_its_names(stored.key, source.read(stored.key, stored.version)):
                    found = stored.key
                    yield found
            except MissingObjectError:
                continue  # gone since it was listed
            except UndecidedError as error:
                say(f"{stored.key}: {error}")


def _is_its_names(key: str, data: bytes) -> bool:
    """Whether these bytes may lie under a name; a name that states no digest asks for nothing."""
    match, pair = _NAME.fullmatch(key), _PAIR_NAME.fullmatch(key)
    if pair is not None:
        return policy_pair_of(data, bytes.fromhex(pair[1])) is not None
    return match is None or hashlib.sha256(data).hexdigest() == match[match.lastindex or 0]
