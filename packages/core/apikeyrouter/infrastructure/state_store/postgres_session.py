"""Connections to one PostgreSQL server: how they are made, shared, lost and found again.

Main entry: `Sessions.run`, which lends a connection to a piece of work. `in_transaction` makes a transaction of it.
Laws: every failure is a StateStoreError, and comes within the connect timeout or the call timeout; a connection that
failed is never used again; work that the server rolled back because of others (deadlock, serialization) is repeated,
work whose outcome is unknown is not. Work goes on when its caller is cancelled: a half-said question would cost the
connection. No text of this module contains a password.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.state_store.postgres_schema import migrate
from apikeyrouter.infrastructure.state_store.postgres_url import PostgresTarget

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

__all__ = ["Connection", "Sessions", "hang_up", "in_transaction", "is_outage", "store_error"]

_T = TypeVar("_T")

_ATTEMPTS_MAX = 10
"""How often work is begun anew after the server rolled it back."""

_DOWN_S = 0.25
"""For so long after a failure to connect everybody is told of that failure at once, without another try."""

_MIGRATION_TIMEOUT_S = 120.0

_ROLLED_BACK = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
"""The server undid the work wholly, and would perhaps not do so again."""

_OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalServerError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.UndefinedTableError,
)
"""Failures that have nothing to do with the rows that were to be written: the next rows would fail too."""


def is_outage(error: BaseException | None) -> bool:
    """Whether the store as a whole failed, and not this piece of work."""
    cause = error.__cause__ if isinstance(error, StateStoreError) else error
    # A value that the driver cannot send is one of its InterfaceErrors too; a bad certificate is a ValueError too.
    refused_value = isinstance(cause, asyncpg.DataError | ValueError) and not isinstance(cause, OSError)
    return isinstance(cause, _OUTAGES) and not refused_value


def _advice(error: BaseException) -> str:
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "the server refused the role or its password; check both in the URL"
        case asyncpg.InvalidCatalogNameError():
            return "that database does not exist; create it, or name another one in the URL"
        case asyncpg.InsufficientPrivilegeError():
            return "the role may not do that; it needs to own the schema, or CREATE on the database to make it"
        case asyncpg.TooManyConnectionsError():
            return "the server takes no more connections; raise its max_connections or lower that of the store"
        case asyncpg.DiskFullError():
            return "the server's disk is full; free space on it"
        case asyncpg.ReadOnlySQLTransactionError():
            return "the server is a read-only standby; name the primary, or add target_session_attrs=read-write"
        case asyncpg.LockNotAvailableError() | asyncpg.QueryCanceledError():
            return "the server took too long, perhaps because another session holds a lock"
        case asyncpg.CannotConnectNowError() | asyncpg.AdminShutdownError() | asyncpg.CrashShutdownError():
            return "the server is starting up or shutting down; it is tried again with the next call"
        case OSError() | TimeoutError() | asyncpg.PostgresConnectionError() | asyncpg.InterfaceError():
            return "the server cannot be reached or broke off; it is tried again with the next call"
        case asyncpg.DataError() | ValueError() | OverflowError() | TypeError():
            return "a row holds a value that PostgreSQL cannot keep"
    return "the server refused"


def store_error(error: BaseException, description: str) -> StateStoreError:
    """What happened, why, what to do; its cause is `error`."""
    if isinstance(error, StateStoreError):
        return error
    said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    result = StateStoreError(f"The store {description} failed: {_advice(error)}. It says: {said}.")
    result.__cause__ = error
    return result


async def in_transaction(connection: Connection, work: Callable[[Connection], Awaitable[_T]]) -> _T:
    """The result of `work` once its transaction is committed; rolled back if it raises."""
    await connection.execute("BEGIN")
    try:
        result = await work(connection)
    except asyncio.CancelledError:
        connection.terminate()
        raise
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


class Sessions:
    """At most `connections_max` connections, made when they are needed, of one event loop in one process.

    `connect_timeout_s`: for making one; `call_timeout_s`: for a piece of work, after which its connection is cut.
    """

    def __init__(
        self,
        target: PostgresTarget,
        clock: Clock,
        *,
        connections_max: int,
        connect_timeout_s: float,
        call_timeout_s: float,
    ) -> None:
        self.target = target
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._slots = asyncio.Semaphore(connections_max)
        self._connecting = asyncio.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._migrated = False
        self._down: tuple[float, str, BaseException | None] | None = None

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The result of `work` on a connection of its own. Raises StateStoreError."""
        return await self.finish(self._run(work))

    async def finish(self, going: Coroutine[Any, Any, _T]) -> _T:
        """The result of `going`, which goes on when the caller is cancelled, and which `close` waits for."""
        task = asyncio.get_running_loop().create_task(going)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone; then nobody else would look at it

    async def transact(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The same, in a transaction."""
        return await self.run(lambda connection: in_transaction(connection, work))

    async def close(self) -> None:
        """Waits for running work and closes every connection; the next `run` makes new ones."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._say_goodbye(connection)

    async def dedicated(self, prepare: Callable[[Connection], Awaitable[None]]) -> Connection:
        """A connection that only the caller uses and terminates, once `prepare` is through. Raises StateStoreError."""
        connection = await self._connect()
        watchdog = asyncio.get_running_loop().call_later(self._call_timeout_s, connection.terminate)
        try:
            await prepare(connection)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, Exception):
                raise store_error(error, self.target.description) from error
            raise
        finally:
            watchdog.cancel()
        return connection

    def leave(self, *, forked: bool) -> list[Connection]:
        """Gives every connection up, because their event loop has ended or belongs to another process.

        After a fork the sockets are the parent's too: nothing may be sent or shut down. Returns what must not be
        collected as garbage, which would talk to the server.
        """
        left = [*self._idle, *self._busy]
        self._idle, self._busy = [], set()
        if not forked:
            for connection in left:
                hang_up(connection, self._loop)
        return left

    async def _run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        attempt = 1
        while True:
            async with self._slots:
                connection = self._taken() or await self._connect()
                try:
                    return await self._use(connection, work)
                except _ROLLED_BACK as error:
                    if attempt == _ATTEMPTS_MAX:
                        raise store_error(error, self.target.description) from error
                    attempt += 1
                except StateStoreError:
                    raise
                except Exception as error:
                    raise store_error(error, self.target.description) from error

    def _taken(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _use(self, connection: Connection, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        self._busy.add(connection)
        watchdog = asyncio.get_running_loop().call_later(self._call_timeout_s, self._cut, connection)
        try:
            result = await work(connection)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) or connection.is_closed() or connection.is_in_transaction():
                connection.terminate()
            raise
        finally:
            watchdog.cancel()
            self._busy.discard(connection)
            if not connection.is_closed():
                self._idle.append(connection)
        return result

    def _cut(self, connection: Connection) -> None:
        error = TimeoutError(f"no answer within {self._call_timeout_s} s")
        self._note_down(store_error(error, self.target.description).message, error)
        connection.terminate()

    def _note_down(self, reason: str, cause: BaseException | None) -> None:
        self._down = (self._clock.monotonic_s() + _DOWN_S, reason, cause)

    async def _connect(self) -> Connection:
        if self._down is not None and self._clock.monotonic_s() < self._down[0]:
            _, reason, cause = self._down
            raise StateStoreError(reason) from cause
        try:
            connection = await asyncpg.connect(
                self.target.dsn,
                timeout=self._connect_timeout_s,
                statement_cache_size=200,
                server_settings=self._settings(),
            )
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            failure = store_error(error, self.target.description)
            self._note_down(failure.message, error)
            raise failure from error
        try:
            await self._prepare(connection)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, Exception):
                raise store_error(error, self.target.description) from error
            raise
        self._down = None
        return connection

    async def _prepare(self, connection: Connection) -> None:
        if self._migrated:
            return
        async with self._connecting:
            if not self._migrated:
                watchdog = asyncio.get_running_loop().call_later(_MIGRATION_TIMEOUT_S, connection.terminate)
                try:
                    await migrate(connection, self.target)
                finally:
                    watchdog.cancel()
                self._migrated = True

    def _settings(self) -> dict[str, str]:
        """What each session asks of the server. A client that vanished in mid-transaction must not block the others
        for longer than a call may take: its locks end with its transaction."""
        call_ms = str(max(1, round(self._call_timeout_s * 800)))  # so that the server gives up before we cut
        return {
            "application_name": "apikeyrouter",
            "search_path": f'"{self.target.schema}"',
            "default_transaction_isolation": "read committed",
            "statement_timeout": call_ms,
            "lock_timeout": call_ms,
            "idle_in_transaction_session_timeout": call_ms,
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }

    async def _say_goodbye(self, connection: Connection) -> None:
        try:
            await connection.close(timeout=self._connect_timeout_s)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


def hang_up(connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
    """Ends a connection of another event loop, which may be closed and then cannot do it itself."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(connection.terminate)
        return
    transport = getattr(connection, "_transport", None)
    endpoint = None if transport is None else transport.get_extra_info("socket")
    with contextlib.suppress(RuntimeError):  # "Event loop is closed": by then the connection is marked as ended
        connection.terminate()
    with contextlib.suppress(OSError, AttributeError):
        getattr(endpoint, "_sock").close()  # noqa: B009 - asyncio gives no other way to the file descriptor
