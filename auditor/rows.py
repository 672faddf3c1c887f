"""Documents of hot search as rows: for people, for machines, for a spreadsheet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

COLUMNS = ("time", "class", "tenant", "event", "outcome", "actor", "object", "chain", "seq", "event_id")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula

Row = dict[str, Any]


def row_of(document: dict[str, Any]) -> Row:
    """The columns of one document."""
    said = document["sealtrail"]
    business_object = said.get("object", {})
    return {
        "time": document["@timestamp"],
        "class": said["class"],
        "tenant": document["organization"]["id"],
        "event": document["event"]["action"],
        "outcome": said["result"],
        "actor": document.get("user", {}).get("id", ""),
        "object": f"{business_object['type']}:{business_object['id']}" if "id" in business_object else "",
        "chain": said["chain"],
        "seq": said["seq"],
        "event_id": document["event"]["id"],
    }


def write_json_lines(documents: Iterable[dict[str, Any]], to: TextIO) -> int:
    """One whole document a line; how many."""
    count = 0
    for document in documents:
        to.write(json.dumps(document, separators=(",", ":")) + "\n")
        count += 1
    return count


def write_csv(documents: Iterable[dict[str, Any]], to: TextIO) -> int:
    """The columns, with a head; no cell begins a formula."""
    writer = csv.DictWriter(to, COLUMNS)
    writer.writeheader()
    count = 0
    for document in documents:
        writer.writerow({name: _harmless(value) for name, value in row_of(document).items()})
        count += 1
    return count


def as_lines(documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line a document for people."""
    for document in documents:
        row = row_of(document)
        yield (
            f"{row['time'][:23]}Z  {row['class']:<11} {row['tenant']:<12} {row['event']:<40} {row['outcome']:<8} "
            f"{row['object'] or '-':<32} {row['event_id']}"
        )


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
