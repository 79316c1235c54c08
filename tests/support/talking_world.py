"""Models in virtual time that say what a test tells them: a `Transport` without sockets, for what is asked of whom.

`TalkingWorld.send` asks `say(model, number, body)` what comes back: a `Saying`. `number` counts the sends to a model
from 0. Answers stream where the request wants that. Law: `asked` holds every send, in order, with its body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest, SendPhase, TransportError
from apikeyrouter.testing import VirtualClock

__all__ = ["Saying", "TalkingWorld", "talking_router"]


@dataclass(frozen=True, slots=True)
class Saying:
    """`status` 0: no connection. `tokens`: of input and output. `logprob`: of each of two words, None: not told."""

    text: str = "Hello!"
    status: int = 200
    after_s: float = 0.1
    tokens: tuple[int, int] = (10, 20)
    finish: str = "stop"
    logprob: float | None = None


Say = Callable[[str, int, dict[str, Any]], Saying]


class _Reply:
    def __init__(self, status: int, kind: bytes, parts: list[bytes]) -> None:
        self.status = status
        self.headers = [(b"content-type", kind)]
        self._parts = parts

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes:
        return b"".join(self._parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part

    def aclose(self) -> None:
        pass


class TalkingWorld:
    """`asked`: (model, body) of each send."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def models(self) -> list[str]:
        return [model for model, _ in self.asked]

    async def send(self, request: HttpRequest) -> HttpReply:
        body = json.loads(request.body)
        model = body["model"]
        said = self._say(model, self.models.count(model), body)
        self.asked.append((model, body))
        await asyncio.sleep(said.after_s)
        if not said.status:
            raise TransportError("refused", SendPhase.NotSent, "nothing listens there")
        if said.status != 200:
            fault = {"error": {"message": "The server had an error", "type": "server_error"}}
            return _Reply(said.status, b"application/json", [json.dumps(fault).encode()])
        if body.get("stream"):
            return _Reply(200, b"text/event-stream", _events(model, said))
        return _Reply(200, b"application/json", [json.dumps(_whole(model, said)).encode()])

    async def aclose(self) -> None:
        pass


def _usage(said: Saying) -> dict[str, int]:
    given, made = said.tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _logprobs(said: Saying) -> dict[str, Any] | None:
    if said.logprob is None:
        return None
    return {"content": [{"token": "a", "logprob": said.logprob, "bytes": None, "top_logprobs": []}] * 2}


def _whole(model: str, said: Saying) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.text}
    choice = {"index": 0, "message": message, "finish_reason": said.finish, "logprobs": _logprobs(said)}
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice],
        "usage": _usage(said),
    }  # fmt: skip


def _events(model: str, said: Saying) -> list[bytes]:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model}
    half = len(said.text) // 2
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": said.text[:half]}, {"content": said.text[half:]}]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": _logprobs(said)}]}
        for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": said.finish}]})
    chunks.append({**head, "choices": [], "usage": _usage(said)})
    return [b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks] + [b"data: [DONE]\n\n"]


async def talking_router(world: TalkingWorld, keys: int = 1, **config: Any) -> ApiKeyRouter:
    """A started router with the provider "openai" in this world."""
    router = ApiKeyRouter(config=config, transport=world, clock=VirtualClock())
    await router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
    for number in range(keys):
        await router.register_key(f"sk-virtual-{number}", "openai", label=f"key-{number}")
    return router
