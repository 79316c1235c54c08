"""The transport towards providers: a pool of HTTP/1.1 connections on the running loop (asyncio or uvloop).

Entry: `HttpTransport.send`. On a kept connection a request costs one write of one bytes object, one future and no task;
its times are watched by a timer that the connection owns.
Laws: those of `domain.interfaces.transport`. One request is one send: only GET and HEAD are sent again, once, when a
kept connection turns out to have been closed. No redirect is followed. HTTP/1.1 is read strictly, within
`TransportLimits`.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, TransportError
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.transport.connection import Connection
from apikeyrouter.infrastructure.transport.dial import Dialer, Resolver
from apikeyrouter.infrastructure.transport.limits import OriginStats, TransportLimits
from apikeyrouter.infrastructure.transport.pool import OriginPool
from apikeyrouter.infrastructure.transport.reply import Reply
from apikeyrouter.infrastructure.transport.wire import CACHE_ENTRIES_MAX, Origin, RequestWriter, Route, parse_proxy

__all__ = ["HttpTransport"]


class HttpTransport:
    """Implements `Transport`. Also an async context manager. Needs no running loop until the first `send`.

    `limits`: see `TransportLimits`. `clock`: what deadlines and timeouts are measured with. `proxy`:
    "http://[user:password@]host:port", used for every request (CONNECT for https). `ca_file`: PEM file of certificates
    to trust besides the system's. `ssl_context`: replaces both; it must verify. `resolver`: see `Resolver`.
    Raises ValueError for a proxy URL that cannot be read and for a TLS context that does not verify.
    """

    __slots__ = ("_clock", "_closed", "_dialer", "_limits", "_loop", "_now_s", "_pools", "_proxy", "_routes", "_writer")

    def __init__(
        self,
        *,
        limits: TransportLimits | None = None,
        clock: Clock | None = None,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._limits = limits or TransportLimits()
        self._clock: Clock = clock or SystemClock()
        self._now_s = self._clock.monotonic_s
        self._proxy = parse_proxy(proxy) if proxy else None
        self._dialer = Dialer(proxy=self._proxy, resolver=resolver, ca_file=ca_file, ssl_context=ssl_context)
        self._writer = RequestWriter(self._proxy)
        self._routes: dict[tuple[str, str], tuple[Route, OriginPool]] = {}
        self._pools: dict[Origin, OriginPool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        parts = [repr(pool)[1:-1] for pool in self._pools.values()] or ["unused"]
        if self._proxy is not None:
            parts.insert(0, f"through {self._proxy.origin.address}")
        if self._closed:
            parts = ["closed"]
        return f"<HttpTransport {'; '.join(parts)}>"

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def send(self, request: HttpRequest) -> Reply:
        """Sends and waits for the status line and headers. Raises TransportError."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        found = self._routes.get((request.method, request.url))
        route, pool = found if found is not None else self._route(loop, request)
        payload = self._writer.payload(route, request.headers, request.body)
        now_s = self._now_s()
        deadline_s = request.deadline_s
        if deadline_s is not None and deadline_s <= now_s:
            raise TransportError(
                "deadline", SendPhase.NotSent, f"The deadline had passed before anything was sent to {route.origin}."
            )
        connection = pool.take(now_s)
        if connection is None:
            if self._closed:
                raise pool.closed_error()
            connection = await pool.obtain(request.timeouts.connect_s, deadline_s)
            now_s = self._now_s()
        reply = await _exchange(connection, request, payload, route, now_s)
        error = reply.error
        if reply.status or error is None:
            return reply
        stale = error.reused and error.kind == "reset" and error.phase is SendPhase.Unanswered
        if not (stale and route.repeatable):
            raise error
        connection = await pool.obtain(request.timeouts.connect_s, deadline_s)
        reply = await _exchange(connection, request, payload, route, self._now_s())
        if not reply.status and reply.error is not None:
            raise reply.error
        return reply

    def stats(self) -> dict[str, OriginStats]:
        """Connections per origin ("https://host:port"), for metrics."""
        return {str(origin): pool.stats() for origin, pool in self._pools.items()}

    async def aclose(self) -> None:
        """Closes all connections; running replies break off. Idempotent."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            for pool in list(self._pools.values()):
                await pool.aclose()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Binds to `loop`. After `asyncio.run` has ended, the next one may use the same transport afresh."""
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("This transport is in use on another event loop; make one transport for each loop.")
        self._loop = loop
        self._pools.clear()
        self._routes.clear()

    def _route(self, loop: asyncio.AbstractEventLoop, request: HttpRequest) -> tuple[Route, OriginPool]:
        """Reads a URL that is new, and remembers it."""
        route = self._writer.route(request.method, request.url)
        pool = self._pools.get(route.origin)
        if pool is None:
            pool = OriginPool(route.origin, self._limits, loop, self._now_s, self._dialer.open)
            self._pools[route.origin] = pool
        if len(self._routes) >= CACHE_ENTRIES_MAX:
            del self._routes[next(iter(self._routes))]
        found = self._routes[request.method, request.url] = (route, pool)
        return found


async def _exchange(connection: Connection, request: HttpRequest, payload: bytes, route: Route, now_s: float) -> Reply:
    """One request and the head of its reply, or a reply with an error and no status."""
    reply = connection.start(request, payload, without_body=route.head_only, now_s=now_s)
    waiter = reply.waiter
    try:
        if waiter is not None:
            await waiter
    except BaseException:
        reply.aclose()
        raise
    return reply
