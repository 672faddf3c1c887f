"""A redacted event as it leaves the application, what is tokenised encrypted; and back. In records: `OpenRun.record`."""

from __future__ import annotations

from itertools import count
from typing import Any

from schemas.registry import packaged_registry
from schemas.tokenized import Tokenized
from sealtrail.token import FieldCipher

CIPHER = FieldCipher(bytes(32))
TOKENIZED = Tokenized(packaged_registry())


def sent(event: dict[str, Any], tokenized: Tokenized = TOKENIZED) -> dict[str, Any]:
    """The event with every value that is to be tokenised encrypted."""
    numbers = count()

    def encrypt(path: str, text: str, _: str) -> str:
        return CIPHER.encrypt(event["emitter"]["seq"], next(numbers), event["event_id"], path, text.encode()).decode()

    return tokenized(event, encrypt)


def opened(event: dict[str, Any], tokenized: Tokenized = TOKENIZED) -> dict[str, Any]:
    """The event with every one of them decrypted."""
    number, event_id = event["emitter"]["seq"], event["event_id"]
    return tokenized(event, lambda path, text, _: CIPHER.decrypt(number, event_id, path, text))
