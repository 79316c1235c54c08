"""What other processes changed, heard as it is committed: LISTEN on one connection, and a table that misses nothing.

Main entry: `ChangeFeed.changes`. Laws: a notification says only that there is something to read, what it is stands in
the table, so nothing is missed while the connection is down or away; without a listening connection the table is asked
every 100 ms, with one every 5 s.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import Change, Changes
from apikeyrouter.infrastructure.state_store.postgres_session import Connection, Sessions, hang_up
from apikeyrouter.infrastructure.state_store.postgres_text import plain

__all__ = ["ChangeFeed"]

_POLL_S = 5.0
_POLL_DEAF_S = 0.1
_CHANGES_MAX = 2_000
"""Changes per answer; whoever wants more asks again."""

_READ = """
    SELECT head.seq, head.dropped, changes.seq, changes.kind, changes.entity_id
    FROM change_head head LEFT JOIN LATERAL (
        SELECT * FROM changes WHERE changes.seq > $1 AND changes.seq <= head.seq ORDER BY seq LIMIT $2) changes ON true
    ORDER BY changes.seq
"""


class ChangeFeed:
    """Hears of changes on behalf of one store, in one event loop."""

    def __init__(self, sessions: Sessions, clock: Clock, channel: str) -> None:
        self._sessions = sessions
        self._clock = clock
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._listening = asyncio.Lock()
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """`StateStore.changes`."""
        if after is None:
            return await self._read(None)
        deadline_s = self._clock.monotonic_s() + wait_s
        unannounced = False
        while True:
            listens = wait_s > 0 and await self._listen()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                found = await self._read(after)
                if unannounced and found.changes:
                    self._hang_up()  # it looks alive and tells nothing: a connection that somebody on the way forgot
                left_s = deadline_s - self._clock.monotonic_s()
                if found.changes or found.lost or left_s <= 0 or self._closed:
                    return found
                await asyncio.wait([waiter], timeout=min(left_s, _POLL_S if listens else _POLL_DEAF_S))
                unannounced = listens and not waiter.done()
            finally:
                self._waiters.discard(waiter)

    async def close(self) -> None:
        """Stops listening; who waits is answered."""
        self._closed = True
        self._wake()
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def leave(self, *, forked: bool) -> list[Connection]:
        """Gives the connection up because its event loop is gone, as `Sessions.leave` does."""
        connection, self._connection = self._connection, None
        if connection is None:
            return []
        if not forked:
            hang_up(connection, self._loop)
        return [connection]

    async def _read(self, after: int | None) -> Changes:
        rows = await self._sessions.run(lambda c: c.fetch(_READ, 2**62 if after is None else after, _CHANGES_MAX))
        head, dropped = rows[0][0], rows[0][1]
        if after is None:
            return Changes(head)
        if after < dropped or after > head:
            return Changes(head, lost=True)
        changes = [Change(row[3], plain(row[4])) for row in rows if row[2] is not None]
        cursor = rows[-1][2] if len(changes) == _CHANGES_MAX else head
        return Changes(cursor, tuple(dict.fromkeys(changes)))

    async def _listen(self) -> bool:
        """Whether notifications arrive; tries to have it so."""
        if self._connection is not None and not self._connection.is_closed():
            return True
        return await self._sessions.finish(self._begin_to_listen())

    async def _begin_to_listen(self) -> bool:
        async with self._listening:
            if self._connection is not None and not self._connection.is_closed():
                return True
            try:
                connection = await self._sessions.dedicated(self._subscribe)
            except StateStoreError:
                return False  # the question that follows tells whether the store is down
            if self._closed:
                connection.terminate()
                return False
            self._connection = connection
            return True

    async def _subscribe(self, connection: Connection) -> None:
        await connection.add_listener(self._channel, self._notified)
        connection.add_termination_listener(self._notified)

    def _notified(self, *_: object) -> None:
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
