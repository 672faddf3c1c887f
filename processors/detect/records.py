"""What the detector reads, decoded: sealed events, activity, matches. Pure; what cannot be read is an EvidenceError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from processors.activity import MAX_ROWS
from processors.detect.rules import Category, Rules
from processors.detect.windows import Match
from schemas.registry import Registry
from sealtrail.avro import Codec
from sealtrail.errors import EvidenceError
from sealtrail.seal import Kind, Seal, decode_seal, decode_sealed_event

MATCH = Codec((resources.files("schemas") / "match.avsc").read_text("utf-8"))
_LISTS = {Category.ACTOR: "actors", Category.LINEAGE: "lineages"}


@dataclass(frozen=True, slots=True)
class Matched:
    """A match and what it belongs to. group: the tenant first."""

    rule: str
    group: tuple[str, ...]
    match: Match

    @property
    def key(self) -> bytes:
        """Of the record: all matches of a group are on one partition."""
        return "\0".join((self.rule, *self.group)).encode()

    def encode(self) -> bytes:
        """The record's value."""
        match = self.match
        return MATCH.encode(
            {
                "rule": self.rule,
                "tenant": self.group[0],
                "group": list(self.group),
                "chain": match.chain,
                "seq": match.seq,
                "row": match.row,
                "sealed_at": match.at_us,
                "event_id": match.event_id,
                "value": match.value,
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Matched:
        """Raises EvidenceError."""
        found = MATCH.decode(value)
        if not found["group"] or found["group"][0] != found["tenant"]:
            raise EvidenceError("a match whose group does not begin with its tenant")
        match = Match(found["sealed_at"], found["chain"], found["seq"], found["row"], found["value"], found["event_id"])
        return cls(found["rule"], tuple(found["group"]), match)


def decode_event(value: bytes, registry: Registry) -> tuple[Seal, dict[str, Any]]:
    """The seal and the event of a record of `audit.siem`. Raises EvidenceError."""
    sealed = decode_sealed_event(value)
    seal = decode_seal(sealed.seal)
    if seal.kind is not Kind.EVENT:
        raise EvidenceError(f"a seal of kind {seal.kind.value}, not an event")
    if sealed.content.digest() != seal.content_digest:
        raise EvidenceError("the content is not the one that was sealed")
    codec = registry.by_digest.get(sealed.content.content_schema)
    if codec is None:
        raise EvidenceError("content of an unknown schema")
    return seal, codec.decode(sealed.content.content)


def matches_of_event(rules: Rules, seal: Seal, event: Mapping[str, Any]) -> Iterator[Matched]:
    """What the rules find in one event. Findings themselves are looked at by no rule."""
    if event["event_type"] == "DETECTION":
        return
    for rule in rules.of(Category.EVENT):
        for row, (group, value) in enumerate(rule.groups(event)):
            yield Matched(
                rule.name, group, Match(seal.sealed_at_us, seal.chain, seal.seq, row, value, bytes(event["event_id"]))
            )


def matches_of_activity(rules: Rules, activity: Mapping[str, Any]) -> Iterator[Matched]:
    """What the rules find in the rows of one activity record."""
    for category, name in _LISTS.items():
        for rule in rules.of(category):
            for number, row in enumerate(activity[name]):
                place = activity["part"] * MAX_ROWS + number
                for group, value in rule.groups(row):
                    yield Matched(
                        rule.name,
                        group,
                        Match(activity["sealed_at"], activity["chain"], activity["first_seq"], place, value),
                    )
