"""A provider that keeps what reaches it and answers each path with a few fixed words: for what a router passes on.

Main entry: `upstream()`, a context manager that yields an `Upstream`, served over real HTTP. Law: it judges nothing;
an answer that a test sets stands until it is set anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.server import run_app

__all__ = ["Seen", "Upstream", "upstream"]

CHAT_ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. `target`: path and query as in the request line. `headers`: in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Upstream:
    """An ASGI application. `seen`: what came, oldest first."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.base_url = ""
        self._answers: dict[str, tuple[int, bytes, str]] = {}

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def answers(self, path: str, body: Any, *, status: int = 200, kind: str = "application/json") -> None:
        """From now on, for this path (without query); JSON-able or bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._answers[path] = (status, data, kind)

    def forget(self) -> None:
        """Nothing was seen, and every path answers as at the beginning."""
        self.seen.clear()
        self._answers.clear()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        target = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.seen.append(Seen(scope["method"], target + (f"?{query}" if query else ""), headers, body))
        status, data, kind = self._answers.get(target) or (200, json.dumps(CHAT_ANSWER).encode(), "application/json")
        told = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serves one on a free port; `base_url` ends in /v1."""
    app = Upstream()
    with run_app(app) as served:
        app.base_url = f"{served.origin}/v1"
        yield app
