"""A web application whose requests are audited: `python docs/examples/web.py` answers three and prints what was stated.

The application is bare ASGI; FastAPI and Starlette take the middleware by
`app.add_middleware(AuditMiddleware, audit=…, identify=…, routes=…)`.
"""

from __future__ import annotations

import asyncio

from producers.kit import Actor, Audit
from producers.kit.web import AuditMiddleware, Caller, Message, Receive, Route, Scope, Send
from producers.samples.emitter import SampleEmitter

emitter = SampleEmitter()  # an AuditProducer, in earnest
audit = Audit(emitter, "orders")


async def orders(scope: Scope, _: Receive, send: Send) -> None:
    """Order 7 exists."""
    status = 200 if scope["path"].endswith("/7") else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def who(scope: Scope) -> Caller | None:
    """Who asks: a session's cookie, a token's claims; here, a header."""
    user = dict(scope["headers"]).get(b"x-user")
    return None if user is None else Caller("acme", Actor.user(user.decode()))


app = AuditMiddleware(
    orders,
    audit=audit,
    identify=who,
    anonymous=Caller("acme", Actor.system("anonymous")),
    routes=[Route("GET", "/orders/{id}", require=True)],
    trusted_proxies=["10.0.0.0/8"],
)


async def ask(path: str, *headers: tuple[bytes, bytes]) -> None:
    """What a server does for each request."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        """To the client."""

    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers), "client": ("10.0.0.2", 4711)}
    await app(scope, receive, send)


if __name__ == "__main__":
    asyncio.run(ask("/orders/7", (b"x-user", b"ada@acme.example"), (b"x-forwarded-for", b"192.0.2.7")))
    asyncio.run(ask("/orders/8"))
    asyncio.run(ask("/health"))
    for event in emitter.events:
        print(event["event_name"], event["object"]["id"], event["result"], event["actor"]["kind"])
