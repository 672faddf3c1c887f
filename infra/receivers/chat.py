"""A messenger of our own: it stands for the one that a deployment's connector sends to. HTTP on loopback.

    python -m infra.receivers.chat [--port N] [--journal FILE] [--secret S] [--refuse 0.01 --busy 0.05 …]

    POST /messages        Idempotency-Key    202 {"reference"}: acknowledged, effective once per key
    GET  /messages/KEY                       {"viewers", "archived"}
    GET  /stats                              what it has done so far
    POST /rules           {"refuse": 1.0}    change the rules

Its address is one JSON line on stdout. What a rule does to a message follows from its key alone, so a run can be repeated.
With a journal it still knows, after it died, what it had acknowledged.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.places import HOST

SIGNATURE_CONTEXT = b"sealtrail/message/v1\n"
SIGNATURE_AGE_S = 300


@dataclass(frozen=True, slots=True)
class Rules:
    """Shares of messages, 0 to 1, that something happens to; each is decided by the message's key.

    refuse: for good (422). busy: 503, the first attempt only. slow: processed, and answered after hang_s. lost: processed,
    the connection closed without an answer, the first attempt only. die_after: messages after which the process is gone in
    the middle of one; 0 for never.
    """

    refuse: float = 0.0
    busy: float = 0.0
    slow: float = 0.0
    lost: float = 0.0
    hang_s: float = 30.0
    die_after: int = 0


class ChatReceiver:
    """A context: listens while it lasts.

    Attributes:
        effective: the payload of each key that took effect, once.
    """

    def __init__(
        self, port: int = 0, *, rules: Rules | None = None, secret: bytes | None = None, journal: Path | None = None
    ) -> None:
        self.rules = rules or Rules()
        self.effective: dict[str, bytes] = {}
        self._secret = secret
        self._journal = journal
        self._seen: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        if journal is not None and journal.exists():
            for line in journal.read_text("utf-8").splitlines():
                self.effective[json.loads(line)["key"]] = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65_536  # one segment an answer

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._reply(
                    receiver._rule(body)
                    if self.path == "/rules"
                    else receiver._take(
                        self.headers.get("Idempotency-Key", ""), body, self.headers.get("Sealtrail-Signature", "")
                    )
                )

            def do_GET(self) -> None:
                self._reply(receiver._tell(self.path))

            def _reply(self, answer: tuple[int, dict[str, Any]] | None) -> None:
                if answer is None:
                    self.close_connection = True
                    return
                status, said = answer
                data = json.dumps(said).encode()
                self.send_response_only(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 503:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing to stderr."""

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://{HOST}:{self.port}"

    @property
    def counts(self) -> dict[str, int]:
        """requests, effective, repeated, refused, busy, slow, lost, badly_signed."""
        with self._lock:
            return {**self._counts, "effective": len(self.effective)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, key: str, body: bytes, signature: str) -> tuple[int, dict[str, Any]] | None:
        """The answer to one attempt; None to close the connection without one."""
        rules = self.rules
        if not key:
            return 400, {"reason": "no-idempotency-key"}
        with self._lock:
            self._counts["requests"] += 1
            if self._secret is not None and not self._signed(body, signature):
                self._counts["badly_signed"] += 1
                return 401, {"reason": "signature"}
            self._seen[key] += 1
            first = self._seen[key] == 1
            if _falls(key, "refuse", rules.refuse):
                self._counts["refused"] += 1
                return 422, {"reason": "recipient-unknown"}
            if first and _falls(key, "busy", rules.busy):
                self._counts["busy"] += 1
                return 503, {"reason": "busy"}
            repeated = key in self.effective
            if repeated:
                self._counts["repeated"] += 1
            else:
                self._process(key, body)
            if rules.die_after and len(self.effective) >= rules.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            slow, lost = _falls(key, "slow", rules.slow), first and _falls(key, "lost", rules.lost)
            self._counts["slow"] += slow
            self._counts["lost"] += lost
        if slow:
            self._ending.wait(rules.hang_s)
        if lost:
            return None
        return 202, {"reference": f"m-{hashlib.sha256(key.encode()).hexdigest()[:16]}", "repeated": repeated}

    def _process(self, key: str, body: bytes) -> None:
        self.effective[key] = body
        if self._journal is not None:
            with self._journal.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"key": key}) + "\n")

    def _signed(self, body: bytes, given: str) -> bool:
        said = dict(part.partition("=")[::2] for part in given.split(","))
        when = said.get("t", "")
        if not when.isdigit() or abs(time.time() - int(when)) > SIGNATURE_AGE_S:
            return False
        mac = hmac.digest(self._secret or b"", SIGNATURE_CONTEXT + when.encode() + b"\n" + body, "sha256").hex()
        return hmac.compare_digest(mac, said.get("v1", ""))

    def _tell(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "/stats":
            return 200, self.counts
        key = path.removeprefix("/messages/")
        with self._lock:
            if key not in self.effective:
                return 404, {"reason": "unknown"}
        seen = hashlib.sha256(key.encode()).digest()
        return 200, {"viewers": seen[0] % 50, "archived": seen[1] % 4 == 0}

    def _rule(self, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            self.rules = replace(self.rules, **json.loads(body))
        except (TypeError, ValueError):
            return 400, {"reason": "no-such-rule"}
        return 200, asdict(self.rules)


def _falls(key: str, rule: str, share: float) -> bool:
    """Whether a message falls under a rule: the same for every attempt of it, on every run."""
    return share > 0 and int.from_bytes(hashlib.sha256(f"{rule} {key}".encode()).digest()[:4]) < share * 2**32


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m infra.receivers.chat", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--secret", default="")
    for field in fields(Rules):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = vars(parser.parse_args(arguments))
    port, journal, secret = given.pop("port"), given.pop("journal"), given.pop("secret")
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    with ChatReceiver(port, rules=Rules(**given), secret=secret.encode() or None, journal=journal) as receiver:
        print(json.dumps({"url": receiver.url}), flush=True)
        done.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
