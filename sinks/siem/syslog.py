"""Syslog (RFC 5424) over TLS (RFC 5425): octet-counted frames, the server verified.

The protocol has no acknowledgement. So a batch is a connection: after the last frame we end our side, and the peer's orderly
end after ours is the sign that it read everything. An end before ours, a reset or silence: the whole batch again, under the
same ids. That is the strongest sign there is; it says *read*, not *stored*.

    <110>1 2026-11-24T10:00:00.000000Z local sealtrail - OCSF-3004 [sealtrail@32473 id="…" tenant="acme" leaf="…"] BOM JSON

Facility 13 (log audit); severity from the OCSF event.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sealtrail.errors import ConfigError, TransientError
from sinks.delivery import DELIVERED, Item, Outcome, refused
from sinks.siem.ocsf import ocsf_of, record_uid

FACILITY = 13
CONNECT_S = 10.0
END_S = 60.0  # for the peer to read what is under way and to end
_SEVERITY = {1: 6, 2: 5, 3: 4, 4: 3}  # OCSF informational … high -> syslog informational … error
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SyslogSettings:
    """Where the peer is, and who we are.

    Attributes:
        enterprise: the private enterprise number of the structured data.
        hostname: the HOSTNAME field: printable ASCII, no space.
        most_bytes: the largest message; what the peer would cut or split is refused here instead.
    """

    host: str
    port: int
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    enterprise: int = 32473
    hostname: str = "-"
    most_bytes: int = 65_536
    ocsf_version: str = "1.9.0"


class SyslogDestination:
    """See `sinks.delivery.Destination`. One thread. Raises ConfigError for certificates that cannot be read."""

    def __init__(self, settings: SyslogSettings) -> None:
        self._settings = settings
        try:
            self._tls = ssl.create_default_context(cafile=settings.ca)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            if settings.certificate:
                self._tls.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError):
            raise ConfigError("setting siem_syslog_ca, siem_syslog_certificate or siem_syslog_key: cannot be read") from None

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """Send all on one connection; see the module. Raises TransientError."""
        outcomes: list[Outcome] = []
        frames = []
        for item in items:
            data = message_of(item, self._settings)
            if len(data) > self._settings.most_bytes:
                outcomes.append(refused("too-large", f"{len(data)} bytes; at most {self._settings.most_bytes}"))
            else:
                frames.append(b"%d %s" % (len(data), data))
                outcomes.append(DELIVERED)
        if frames:
            self._send(b"".join(frames))
        return outcomes

    def close(self) -> None:
        """Nothing stays open between batches."""

    def _send(self, data: bytes) -> None:
        where = (self._settings.host, self._settings.port)
        try:
            with socket.create_connection(where, CONNECT_S) as plain:
                plain.settimeout(END_S)
                with self._tls.wrap_socket(plain, server_hostname=self._settings.host) as connection:
                    connection.sendall(data)
                    _end(connection)
        except (OSError, ssl.SSLError) as error:
            raise TransientError(f"syslog peer: {type(error).__name__}", 1.0) from error


def _end(connection: ssl.SSLSocket) -> None:
    """End our side and wait for the peer's end. Raises OSError when the peer's came first, or was a reset."""
    connection.setblocking(False)
    try:
        if connection.recv(1) == b"":
            raise ConnectionAbortedError("the peer ended before we did")
    except (ssl.SSLWantReadError, BlockingIOError):
        pass  # it is still there, and has said nothing: as it should be
    finally:
        connection.settimeout(END_S)
    try:
        plain = connection.unwrap()
    except ssl.SSLEOFError:
        return  # it read our end and closed the connection without a word of its own, in order
    plain.close()


def message_of(item: Item, settings: SyslogSettings) -> bytes:
    """One RFC 5424 message, without its frame."""
    event = ocsf_of(item, settings.ocsf_version)
    priority = FACILITY * 8 + _SEVERITY[event["severity_id"]]
    when = (
        (_EPOCH + timedelta(microseconds=item.event["occurred_at"])).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )
    data = {"id": record_uid(item), "tenant": item.event["tenant"], "leaf": item.leaf.hex()}
    structured = "".join(f' {name}="{escaped(value)}"' for name, value in data.items())
    head = (
        f"<{priority}>1 {when} {settings.hostname or '-'} sealtrail - OCSF-{event['class_uid']} "
        f"[sealtrail@{settings.enterprise}{structured}] "
    )
    return head.encode() + _BOM + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def escaped(value: str) -> str:
    """A structured data value: backslash, quote and closing bracket escaped (RFC 5424 §6.3.3)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
