"""One HTTP exchange as the simulated provider sees it: read, pause, write, break off, notice that the client left.

Main entry: `Connection`, around ASGI's `scope`, `receive`, `send`. ASGI knows no way to reset a socket or to end a
reply half way, so the server puts a `Socket` into `scope["extensions"]["apikeyrouter.socket"]`.
Laws: at most one task per connection, owned here and ended by `release`; nothing is written after the client left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.simulation.api_errors import Headers

__all__ = ["SOCKET_EXTENSION", "Connection", "Receive", "Scope", "Send", "Socket"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SOCKET_EXTENSION = "apikeyrouter.socket"
_RST_GRACE_S = 0.02  # what was written must leave before an RST throws the send buffer away


class Socket(Protocol):
    """The connection below HTTP."""

    def reset(self) -> None:
        """Ends it with an RST; what was not sent is lost."""
        ...

    def close(self) -> None:
        """Sends what was written, then a FIN."""
        ...


class Connection:
    """One request and its reply. `gone`: the client left, or we broke off. `broken`: it was us."""

    __slots__ = ("_receive", "_send", "_watch", "broken", "clock", "complete", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send, clock: Clock) -> None:
        self.scope = scope
        self.clock = clock
        self.complete = False
        self.broken = False
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether nobody listens any more. Known only while `watch` runs."""
        return self._watch is not None and self._watch.done()

    async def body(self) -> bytes | None:
        """The whole request body; None when the client left before its end."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return bytes(message.get("body", b""))
        parts = bytearray()
        while message["type"] == "http.request":
            parts += message.get("body", b"")
            if not message.get("more_body"):
                return bytes(parts)
            message = await self._receive()
        return None

    def watch(self) -> asyncio.Task[None]:
        """Begins to notice that the client leaves. Call it after the body was read."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._until_gone())
        return self._watch

    async def pause(self, delay_s: float) -> bool:
        """Waits, less when the client leaves; returns whether it is still there."""
        watch = self.watch()
        sleeper = asyncio.ensure_future(self.clock.sleep(delay_s))
        try:
            await asyncio.wait({watch, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
        return not watch.done()

    async def hang(self) -> None:
        """Waits until the client leaves."""
        await asyncio.wait({self.watch()})

    async def start(self, status: int, headers: Headers) -> None:
        """Sends the status line and headers."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Sends a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Sends the last part of the body."""
        self.complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def break_off(self, *, rst: bool) -> None:
        """Ends the connection below HTTP and waits until it is gone. Raises RuntimeError under a foreign server."""
        socket = self._socket()
        if socket is None:
            raise RuntimeError(
                "this fault needs the connection itself: run the provider with apikeyrouter_proxy.sim_server"
            )
        watch = self.watch()
        if rst:
            await self.clock.sleep(_RST_GRACE_S)
        self.broken = True
        if rst:
            socket.reset()
        else:
            socket.close()
        await asyncio.wait({watch})

    def hang_up(self) -> None:
        """Ends the connection at once, for a server that stops."""
        socket = self._socket()
        if socket is not None:
            self.broken = True
            socket.reset()

    def release(self) -> None:
        """Ends the watching. Idempotent."""
        if self._watch is not None:
            self._watch.cancel()

    def _socket(self) -> Socket | None:
        found: Socket | None = self.scope.get("extensions", {}).get(SOCKET_EXTENSION)
        return found

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
