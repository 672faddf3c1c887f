"""A collector of our own that speaks Splunk's HEC protocol over TLS: it stands for a SIEM, and keeps what it got in memory.

What it is told to do wrong, it does: `faults` decides by request. Loopback only.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from infra.pki import TlsFiles
from infra.places import HOST

TOKEN = "a-token-of-the-demo"  # of a receiver on loopback that holds nothing
Reply = tuple[int, dict[str, Any]]
Fault = Callable[[list[dict[str, Any]]], Reply | None]
"""Given a request's events, the answer instead of taking them; None to take them."""


class HecReceiver:
    """A context: listens while it lasts.

    Attributes:
        got: per id (`fields.id`), the bytes of each copy that was *acknowledged*; more than one are repeats.
        taken: how many requests were taken, acknowledged or not.
        fault: see `Fault`.
        acknowledges: whether an ackId becomes true when asked for.
    """

    def __init__(self, tls: TlsFiles, port: int = 0, token: str = TOKEN) -> None:
        self.got: dict[str, list[bytes]] = defaultdict(list)
        self.taken = 0
        self.fault: Fault = lambda _: None
        self.acknowledges = True
        self.token = token
        self._pending: dict[int, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._connections.add(self.connection)

            def finish(self) -> None:
                receiver._connections.discard(self.connection)
                with contextlib.suppress(OSError):  # of a connection that was cut
                    super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = receiver._answer(self.path, dict(self.headers), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing to stderr."""

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.ca = tls.ca
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Its base address."""
        return f"https://{HOST}:{self.port}"

    def events(self) -> dict[str, dict[str, Any]]:
        """The OCSF event of each id."""
        with self._lock:
            return {uid: json.loads(copies[0]) for uid, copies in self.got.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop listening, and cut the connections that are open."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("Authorization") != f"Splunk {self.token}":
            return 403, {"text": "Invalid token", "code": 4}
        if not headers.get("X-Splunk-Request-Channel"):
            return 400, {"text": "Data channel is missing", "code": 10}
        if path.endswith("/ack"):
            return self._acknowledge(json.loads(body)["acks"])
        events = [json.loads(line) for line in body.splitlines()]
        with self._lock:
            fault = self.fault(events)
            if fault is not None:
                return fault
            self.taken += 1
            self._pending[self.taken] = events
            return 200, {"text": "Success", "code": 0, "ackId": self.taken}

    def _acknowledge(self, asked: list[int]) -> Reply:
        with self._lock:
            if self.acknowledges:
                for number in asked:
                    for event in self._pending.pop(number, ()):
                        self.got[event["fields"]["id"]].append(json.dumps(event["event"], separators=(",", ":")).encode())
            return 200, {"acks": {str(number): self.acknowledges for number in asked}}
