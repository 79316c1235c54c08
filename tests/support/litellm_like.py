"""Something that answers like a LiteLLM proxy: the simulated provider with a health page and, if wanted, a master key.

Main entry: `litellm_like()`, a context manager that yields a `Served`, over real HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from apikeyrouter.simulation.asgi import SimulatedProvider
from tests.support.server import Served, run_app

__all__ = ["litellm_like"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@contextmanager
def litellm_like(master_key: str | None = None) -> Iterator[Served]:
    """Served until the block ends. `master_key`: what requests must carry; None: anything goes."""
    sim = SimulatedProvider()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["path"] == "/health/liveliness":
            await _say(send, 200, b'"I\'m alive!"')
        elif master_key is not None and dict(scope["headers"]).get(b"authorization") != f"Bearer {master_key}".encode():
            await _say(
                send, 401, b'{"error": {"message": "Authentication Error", "type": "auth_error", "code": "401"}}'
            )
        else:
            kept = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            await sim({**scope, "headers": [*kept, (b"authorization", b"Bearer sk-behind-the-gateway")]}, receive, send)

    with run_app(app) as served:
        yield served


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _say(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
