"""Providers in virtual time: a `Transport` without sockets whose keys, providers and hours fail as told.

`World.send` asks `behave(now_s, key, rng)` what happens to a send: a `Fate`. Keys are told apart by the number at the
end of their secret. `drive` sends requests through a router at a steady rate and notes how each one ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from apikeyrouter import ApiKeyRouter, OpenAIAdapter, SystemError
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest, SendPhase, TransportError
from apikeyrouter.testing import VirtualClock
from tests.support.routers import ask

__all__ = ["Ending", "Fate", "World", "drive", "router_in"]

_BODY = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
)
_FAULT = b'{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}'


@dataclass(frozen=True, slots=True)
class Fate:
    """What a send meets: the status, after so many seconds. Status 0: no connection."""

    status: int = 200
    after_s: float = 0.2


Behaviour = Callable[[float, int, random.Random], Fate]


class _Reply:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers = [(b"content-type", b"application/json")]
        self._body = body

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def aclose(self) -> None:
        pass


class World:
    """`sends`: (virtual seconds, key, status) of each send, in order."""

    def __init__(self, behave: Behaviour, seed: int = 1) -> None:
        self._behave = behave
        self._rng = random.Random(seed)
        self.sends: list[tuple[float, int, int]] = []

    async def send(self, request: HttpRequest) -> HttpReply:
        bearer = next(value for name, value in request.headers if name.lower() == b"authorization")
        key = int(bearer.rpartition(b"-")[2])
        now_s = asyncio.get_running_loop().time()
        fate = self._behave(now_s, key, self._rng)
        self.sends.append((now_s, key, fate.status))
        await asyncio.sleep(fate.after_s)
        if not fate.status:
            raise TransportError("refused", SendPhase.NotSent, "nothing listens there")
        return _Reply(fate.status, _BODY if fate.status == 200 else _FAULT)

    async def aclose(self) -> None:
        pass

    def sent(self, from_s: float = 0.0, to_s: float = float("inf")) -> int:
        return sum(from_s <= at_s < to_s for at_s, _, _ in self.sends)


async def router_in(
    world: World, keys: int, *, providers: int = 1, metadata: dict[str, Any] | None = None, **config: Any
) -> ApiKeyRouter:
    """A started router with keys 0, 1, ... dealt out to providers p0, p1, ..."""
    router = ApiKeyRouter(config=config, transport=world, clock=VirtualClock(), rng=random.Random(7))
    for i in range(providers):
        await router.register_provider(f"p{i}", OpenAIAdapter("http://127.0.0.1:9/v1"))
    for i in range(keys):
        await router.register_key(f"sk-virtual-{i}", f"p{i % providers}", metadata=metadata, label=f"key-{i}")
    return router


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. `at_s`: when it came. `code`: the error's, empty when it was served."""

    at_s: float
    took_s: float
    ok: bool
    code: str = ""


@dataclass(slots=True)
class Run:
    """What came of the requests of a drive, in order of arrival."""

    endings: list[Ending] = field(default_factory=list)

    def success(self, from_s: float = 0.0, to_s: float = float("inf")) -> float:
        """Share of the requests that came in this time and were served; 1.0 when none came."""
        came = [e.ok for e in self.endings if from_s <= e.at_s < to_s]
        return sum(came) / len(came) if came else 1.0


async def drive(router: ApiKeyRouter, *, per_s: float, for_s: float, objective: str | None = None) -> Run:
    """Sends `per_s` requests a second for `for_s` seconds, each in a task of its own, and waits for all of them."""
    run, loop = Run(), asyncio.get_running_loop()

    async def one() -> None:
        at_s = loop.time()
        ok, code = True, ""
        try:
            await router.route(ask(), objective)
        except SystemError as error:
            ok, code = False, error.provider_code or error.category.value
        run.endings.append(Ending(at_s, loop.time() - at_s, ok, code))

    tasks: set[asyncio.Task[None]] = set()
    start_s = loop.time()
    for i in range(int(per_s * for_s)):
        await asyncio.sleep(max(0.0, start_s + i / per_s - loop.time()))
        task = loop.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    run.endings.sort(key=lambda e: e.at_s)
    return run
