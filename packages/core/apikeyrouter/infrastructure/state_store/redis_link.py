"""The way to a Redis server: connections, scripts, time limits, and what its failures are called here.

Main entry: `RedisLink`. A connection serves one call at a time; idle ones are kept. Every call has a time limit that
includes connecting, so that a server that is gone is noticed within it.
Laws: every failure is a StateStoreError; `StoreUnavailableError` when the server did not do the work or may have done
it unheard, and would perhaps do it later; no message has a password in it; nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions as faults
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.redis_scripts import GREET, Script
from apikeyrouter.infrastructure.state_store.redis_url import RedisPlace

__all__ = ["RedisLink", "StoreUnavailableError", "Word"]

Word = str | bytes | int | float
"""A word of a command."""

_CONNECTIONS_MAX = 16
"""Per store object. A call that finds all of them busy waits, within its time limit."""

_FORMAT = b"1"
"""Of our keys; `lua/greet.lua` writes it into an empty store."""

_SERVER_UNABLE = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED", "BUSY ")
"""First words of replies that mean "not now"."""


class StoreUnavailableError(StateStoreError):
    """The server cannot be reached, did not answer in time, or takes no writes at present."""


class RedisLink:
    """Connections to one server, for one event loop.

    `timeout_s`: the most that a call takes. `run_id`: of the server at the time of the newest connection; it changes
    with every start of a server. After `close` the link is of no use.
    """

    def __init__(self, place: RedisPlace, *, timeout_s: float) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False
        self.run_id = ""
        self._loop = asyncio.get_running_loop()

    @property
    def is_here(self) -> bool:
        """Whether its event loop is the running one, or at least not over while none runs."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return not self._loop.is_closed()

    async def call(self, *words: Word) -> Any:
        """The reply to one command."""
        return (await self.calls([words]))[0]

    async def calls(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """The replies to several commands, sent at once and not as one step. The first error reply is raised."""
        async with self._limited(self._timeout_s), self._slots, self._connection() as connection:
            return await _converse(connection, commands)

    async def step(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """The replies to several commands that are one step on the server."""
        replies: list[Any] = (await self.calls([("MULTI",), *commands, ("EXEC",)]))[-1]
        return replies

    async def wait(self, wait_s: float, *words: Word) -> Any:
        """The reply to a command that waits up to `wait_s` in the server. It has a connection of its own."""
        async with self._limited(self._timeout_s + wait_s), self._connection() as connection:
            return (await _converse(connection, [words]))[0]

    async def run(self, script: Script, words: Sequence[Word]) -> Any:
        """The answer of a script: one step on the server."""
        prefix = self._place.prefix
        async with self._limited(self._timeout_s), self._slots, self._connection() as connection:
            try:
                return (await _converse(connection, [("EVALSHA", script.sha, 1, prefix, *words)]))[0]
            except faults.NoScriptError:  # a server that was started anew; nothing was done
                return (await _converse(connection, [("EVAL", script.text, 1, prefix, *words)]))[0]

    async def close(self) -> None:
        """Ends every connection; calls under way fail."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in [*idle, *self._busy]:
            await connection.disconnect(nowait=connection in self._busy)

    def leave(self) -> None:
        """Gives every connection up because their event loop is not here any more; nobody waits for them."""
        self._closed = True
        for connection in [*self._idle, *self._busy]:
            _hang_up(connection, self._loop)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = await self._connected()
        try:
            yield connection
        except faults.ResponseError:
            await self._keep(connection)
            raise
        except BaseException as error:
            self._busy.discard(connection)
            spoilt = [connection]  # a reply may still be under way
            if not isinstance(error, asyncio.CancelledError):
                spoilt += self._idle  # they are as old or older
                self._idle = []
            for one in spoilt:
                await one.disconnect(nowait=True)
            raise
        await self._keep(connection)

    async def _connected(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError(f"The store {self._place.description} was closed meanwhile.")
        while self._idle:
            connection = self._idle.pop()
            self._busy.add(connection)
            if await _is_usable(connection):
                return connection
            self._busy.discard(connection)
            await connection.disconnect(nowait=True)
        connection = _new_connection(self._place, self._timeout_s)
        self._busy.add(connection)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            await self._greet(connection)
        except BaseException:
            self._busy.discard(connection)
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        ((run_id, form),) = await _converse(connection, [("EVAL", GREET.text, 1, self._place.prefix)])
        self.run_id = run_id.decode()
        if form != _FORMAT:
            raise StateStoreError(
                f"The store {self._place.description} was written by another version of this program (format "
                f"{form.decode()}): upgrade, or give this store a name of its own (?name=...)."
            )

    async def _keep(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)

    @asynccontextmanager
    async def _limited(self, timeout_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except (faults.RedisError, OSError, RuntimeError, UnicodeError) as error:  # a timeout is an OSError
            raise self._named(error) from error

    def _named(self, error: Exception) -> StateStoreError:
        store = f"The store {self._place.description}"
        if isinstance(error, TimeoutError | faults.TimeoutError):
            return StoreUnavailableError(f"{store} did not answer within {self._timeout_s:g} s.")
        if isinstance(error, UnicodeError):
            return StateStoreError(f"{store} cannot take a text that is not Unicode: {error}.")
        said = self._without_password(str(error))
        if isinstance(error, faults.OutOfMemoryError):
            return StoreUnavailableError(f"{store} is full: it has reached its maxmemory. Give it more, or tidy it up.")
        if isinstance(error, faults.ReadOnlyError):
            return StoreUnavailableError(f"{store} is a replica and takes no writes. Name the primary server.")
        if isinstance(error, faults.BusyLoadingError):
            return StoreUnavailableError(f"{store} is still loading its data.")
        if isinstance(error, faults.AuthenticationError):
            return StateStoreError(f"{store} refused our user or password: {said}")
        if isinstance(error, faults.NoPermissionError):
            return StateStoreError(f"{store} does not let us do what we must: {said} Its ACL must allow all on akr:*.")
        if isinstance(error, faults.ResponseError) and not said.startswith(_SERVER_UNABLE):
            return StateStoreError(f"{store} refused a command: {said}")
        return StoreUnavailableError(f"{store} cannot be reached: {said}")

    def _without_password(self, text: str) -> str:
        return text.replace(self._place.password, "***") if self._place.password else text


def _new_connection(place: RedisPlace, timeout_s: float) -> Connection:
    return (SSLConnection if place.tls else Connection)(
        **place.connection_arguments(),
        socket_timeout=None,  # `_limited` sets the time limits
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _hang_up(connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
    """Ends a connection of another event loop, which may be closed and then cannot do it itself."""
    writer, connection._writer = connection._writer, None  # noqa: SLF001 - redis-py offers only what awaits
    if writer is None:
        return
    if not loop.is_closed():
        loop.call_soon_threadsafe(writer.close)
        return
    with contextlib.suppress(RuntimeError):  # "Event loop is closed": by then the transport is marked as ended
        writer.close()
    with contextlib.suppress(AttributeError):  # a loop that is not asyncio's own, whose transports close themselves
        getattr(writer.transport, "_sock").close()  # noqa: B009 - asyncio gives no other way to the file descriptor
        setattr(writer.transport, "_sock", None)  # noqa: B010 - it would warn of it


async def _is_usable(connection: Connection) -> bool:
    """Whether nothing has come in since the last reply: neither the end of the connection nor a stray reply."""
    look = getattr(connection, "can_read", None) or connection.can_read_destructive  # its name before redis-py 8
    try:
        return not await look()
    except (faults.RedisError, OSError):
        return False


async def _converse(connection: Connection, commands: Sequence[Sequence[Word]]) -> list[Any]:
    if len(commands) == 1:
        await connection.send_command(*commands[0], check_health=False)
        return [await connection.read_response()]
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Any] = []
    refusal: faults.ResponseError | None = None
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except faults.ResponseError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return replies
