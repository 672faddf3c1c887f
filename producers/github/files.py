"""Webhooks kept in files: one payload, a list of payloads, or the index of `@octokit/webhooks-examples`.

{…}                                     a payload; its webhook's name is given by the caller
[{…}, …]                                payloads of one webhook
[{"name": "push", "examples": [{…}, …]}, …]   payloads with their webhooks' names
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping


def webhooks(data: bytes, hook: str | None) -> Iterator[tuple[str, object]]:
    """(webhook's name, payload) of a file's content, in its order.

    Raises:
        ValueError: not JSON, or payloads without a name while `hook` is None.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None  # the parser's message may quote the payload
    entries = document if isinstance(document, list) else [document]
    for number, entry in enumerate(entries):
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and isinstance(entry.get("examples"), list):
            for payload in entry["examples"]:
                yield entry["name"], payload
        elif hook is None:
            raise ValueError(f"entry {number} is a payload without its webhook's name: say --event")
        else:
            yield hook, entry
