"""A syslog server of our own (RFC 5425): it stands for a SIEM's, reads octet-counted frames, and keeps them in memory.

A connection's frames count as received when its peer ended in order. Loopback only.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

from infra.pki import TlsFiles
from infra.places import HOST

_COUNT = re.compile(rb"([1-9][0-9]{0,8}) ")
READ = 65_536


class SyslogReceiver:
    """A context: listens while it lasts.

    Attributes:
        messages: of connections that ended in order.
        torn: how many ended within a frame, or otherwise than in order.
        break_after: bytes after which a connection is cut; 0 for never.
    """

    def __init__(self, tls: TlsFiles, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.torn = 0
        self.break_after = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.certificate, tls.key)
        self.ca = tls.ca
        self._listener = socket.create_server((HOST, port))
        self._listener.settimeout(0.1)
        self.port = int(self._listener.getsockname()[1])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                plain, _ = self._listener.accept()
            except TimeoutError:
                continue
            with plain:
                self._take(plain)

    def _take(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        data = b""
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                while chunk := connection.recv(READ):
                    data += chunk
                    if self.break_after and len(data) >= self.break_after:
                        self.torn += 1
                        return  # closed with what it has, in the middle
                frames = _frames(data)
                self.messages += frames  # before our end: who sees it knows that they are kept
                connection.unwrap()
        except (OSError, ssl.SSLError, ValueError):
            self.torn += 1


def _frames(data: bytes) -> list[bytes]:
    """The messages of a whole connection. Raises ValueError for a torn or malformed frame."""
    found, at = [], 0
    while at < len(data):
        match = _COUNT.match(data, at)
        if match is None:
            raise ValueError("not an octet count")
        start, size = match.end(), int(match.group(1))
        if start + size > len(data):
            raise ValueError("a torn frame")
        found.append(data[start : start + size])
        at = start + size
    return found
