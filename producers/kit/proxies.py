"""Where a request came from, and what its headers say of it: believed only as far as they can be. Pure.

`X-Forwarded-For` is read from its end, through proxies that are trusted, up to the first address that is not: whoever
stands outside can put anything before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from producers.kit.tracing import TRACEPARENT
from sealtrail.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

_IDENTIFIER = re.compile(r"[0-9A-Za-z_-]{16,64}")  # UUIDs, ULIDs, hex; too short a text is a name or a word
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d{1,5})?")


def networks(trusted: Iterable[str]) -> tuple[Network, ...]:
    """The networks of proxies that are trusted: 10.0.0.0/8, 2001:db8::1. Raises ConfigError."""
    try:
        return tuple(ip_network(text) for text in trusted)
    except ValueError:
        raise ConfigError("trusted_proxies: not an address or network") from None


def client_address(peer: str | None, headers: Headers, trusted: Sequence[Network]) -> str | None:
    """The address that the request came from, as far as it is known; None for what is no IP connection."""
    found = _address(peer or "")
    if found is None:
        return None
    hops = [hop for value in values(headers, b"x-forwarded-for") for hop in value.split(",")]
    while hops and any(found in network for network in trusted):
        before = _address(hops.pop())
        if before is None:
            break
        found = before
    return str(found)


def traceparent(headers: Headers) -> str | None:
    """The one valid traceparent (W3C), or None."""
    found = values(headers, b"traceparent")
    return found[0] if len(found) == 1 and TRACEPARENT.fullmatch(found[0]) else None


def identifier(headers: Headers, name: bytes) -> str | None:
    """A header that looks like an identifier: 16 to 64 letters, digits, - and _; or None."""
    found = values(headers, name)
    return found[0] if len(found) == 1 and _IDENTIFIER.fullmatch(found[0]) else None


def values(headers: Headers, name: bytes) -> list[str]:
    """All values of a header, in order. ASGI gives names in lower case."""
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _address(text: str) -> Address | None:
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(match[1] or match[2] if match else text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
