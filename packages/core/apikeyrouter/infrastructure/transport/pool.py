"""The connections of one origin: kept, lent, counted.

Entries: `take` (an idle connection, at once), `obtain` (waits or opens one), `release` and `lost` (called by the
connection). Newest first, so that a pool shrinks by itself when traffic falls.
Laws: choosing and taking are one step, so no connection is lent twice; idle, lent and opening ones together never
exceed `connections_per_origin`; who waits is served in order, and nobody overtakes the queue. Nothing scans the pool
per request.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable

from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError
from apikeyrouter.infrastructure.transport.connection import Connection
from apikeyrouter.infrastructure.transport.limits import OriginStats, TransportLimits
from apikeyrouter.infrastructure.transport.wire import Origin

__all__ = ["OriginPool"]

Open = Callable[[Origin, Callable[[], Connection]], Awaitable[Connection]]


class OriginPool:
    """`idle` maps each idle connection to the monotonic second since which it is unused, oldest first."""

    __slots__ = (
        "_closing",
        "_live",
        "_loop",
        "_now_s",
        "_open",
        "_opened",
        "_reused",
        "_slots_used",
        "_sweep",
        "_waiters",
        "idle",
        "limits",
        "origin",
    )

    def __init__(
        self,
        origin: Origin,
        limits: TransportLimits,
        loop: asyncio.AbstractEventLoop,
        now_s: Callable[[], float],
        open_connection: Open,
    ) -> None:
        self.origin = origin
        self.limits = limits
        self.idle: dict[Connection, float] = {}
        self._loop = loop
        self._now_s = now_s
        self._open = open_connection
        self._live: set[Connection] = set()
        self._slots_used = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._opened = 0
        self._reused = 0
        self._closing: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        stats = self.stats()
        waiting = f", {stats.waiting} waiting" if stats.waiting else ""
        return f"<{self.origin}: {stats.idle} idle, {stats.active} active{waiting}, {stats.opened} opened>"

    def stats(self) -> OriginStats:
        """See `OriginStats`."""
        idle = len(self.idle)
        return OriginStats(
            idle=idle,
            active=self._slots_used - idle,
            waiting=len(self._waiters),
            opened=self._opened,
            reused=self._reused,
        )

    def take(self, now_s: float) -> Connection | None:
        """The newest idle connection, or None."""
        idle = self.idle
        while idle:
            connection, since_s = idle.popitem()
            if now_s - since_s < self.limits.idle_s:
                self._reused += 1
                return connection
            connection.drop()
        return None

    async def obtain(self, connect_s: float | None, deadline_s: float | None) -> Connection:
        """A connection, waited for in order or opened. Raises TransportError of phase NotSent; both together take at
        most `connect_s`, and end at `deadline_s`."""
        connect_limit_s = math.inf if connect_s is None else connect_s
        deadline_limit_s = math.inf if deadline_s is None else deadline_s - self._now_s()
        limit_s = min(connect_limit_s, deadline_limit_s)
        opening = False
        try:
            async with asyncio.timeout(None if limit_s == math.inf else limit_s):
                connection = await self._wait_for_slot()
                if connection is not None:
                    self._reused += 1
                    return connection
                opening = True
                return await self._open_in_slot()
        except TimeoutError:
            raise self._too_late(deadline_limit_s < connect_limit_s, opening, limit_s) from None

    def release(self, connection: Connection, now_s: float) -> None:
        """`connection` is free: it goes to who waits longest, else it becomes idle."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closing is not None or len(self.idle) >= self.limits.idle_per_origin:
            connection.drop()
            return
        self.idle[connection] = now_s
        if self._sweep is None:
            self._sweep = self._loop.call_later(self.limits.idle_s, self._drop_expired)

    def lost(self, connection: Connection) -> None:
        """`connection` is closed for good."""
        self.idle.pop(connection, None)
        if connection.pooled:
            connection.pooled = False
            self._live.discard(connection)
            self._free_slot()
        if self._closing is not None and not self._live and not self._closing.done():
            self._closing.set_result(None)

    async def aclose(self) -> None:
        """Closes every connection and returns when the loop has let go of them."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(self.closed_error())
        if self._closing is None:
            self._closing = self._loop.create_future()
        for connection in list(self._live):
            connection.shut()
        if self._live:
            await asyncio.shield(self._closing)

    def closed_error(self) -> TransportError:
        """What a request gets that comes after `aclose`."""
        return TransportError("closed", SendPhase.NotSent, "The transport is closed; nothing was sent.")

    async def _wait_for_slot(self) -> Connection | None:
        """A connection that became free, or None: then the caller owns a slot and opens its own."""
        while True:
            if self._closing is not None:
                raise self.closed_error()
            if self._slots_used < self.limits.connections_per_origin:
                self._slots_used += 1
                return None
            waiter: asyncio.Future[Connection | None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                connection = await waiter
            except BaseException:
                self._leave_queue(waiter)
                raise
            if connection is None or not connection.closed:
                return connection
            # It died between release and here; its slot went back when it did.

    def _leave_queue(self, waiter: asyncio.Future[Connection | None]) -> None:
        """A waiter gave up: what it was just handed goes on to the next one."""
        if not waiter.done() or waiter.cancelled():
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        elif waiter.exception() is None:
            connection = waiter.result()
            if connection is None:
                self._free_slot()
            elif not connection.closed:
                self.release(connection, self._now_s())

    async def _fresh(self) -> Connection:
        connection = await self._open(self.origin, self._make)
        if self._closing is not None:
            connection.drop()
            raise self.closed_error()
        if connection.closed:
            text = f"{self.origin.address} closed a new connection at once."
            raise TransportError("connect", SendPhase.NotSent, text)
        return connection

    async def _open_in_slot(self) -> Connection:
        try:
            connection = await self._fresh()
        except BaseException:
            self._free_slot()
            raise
        connection.pooled = True
        self._live.add(connection)
        self._opened += 1
        return connection

    def _make(self) -> Connection:
        return Connection(self, self._loop, self._now_s)

    def _free_slot(self) -> None:
        """Hands the slot to who waits longest, else gives it back."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._slots_used -= 1

    def _drop_expired(self) -> None:
        self._sweep = None
        oldest_allowed_s = self._now_s() - self.limits.idle_s
        expired = []
        next_s = None
        for connection, since_s in self.idle.items():
            if since_s > oldest_allowed_s:
                next_s = since_s - oldest_allowed_s
                break
            expired.append(connection)
        for connection in expired:
            connection.drop()
        if next_s is not None:
            self._sweep = self._loop.call_later(max(0.001, next_s), self._drop_expired)

    def _too_late(self, by_deadline: bool, opening: bool, limit_s: float) -> TransportError:
        address = self.origin.address
        if by_deadline:
            text = f"The deadline of the request passed before there was a connection to {address}."
            return TransportError("deadline", SendPhase.NotSent, text)
        if opening:
            text = f"No connection to {address} within {limit_s:g} s: check the network, or raise connect_s."
            return TransportError("connect_timeout", SendPhase.NotSent, text)
        text = (
            f"All {self.limits.connections_per_origin} connections to {address} stayed busy for {limit_s:g} s: "
            "raise connections_per_origin, or send less at once."
        )
        return TransportError("pool", SendPhase.NotSent, text)
