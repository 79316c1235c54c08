"""Noticing that a client has hung up, so that nobody works for it any more.

Main entry: `Watches.watch`, a context around the work for one request. Law: a request that is answered within 20 ms
costs no timer and no task of its own: one timer looks after all that have just begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from apikeyrouter_proxy.wire.body import ClientGone

__all__ = ["ClientWatch", "Watches"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_WATCH_AFTER_S = 0.02


class Watches:
    """The watches of one event loop that have not begun to watch: `_young` those of the running 20 ms, `_old` those of
    the 20 ms before, which begin at its end."""

    def __init__(self) -> None:
        self._young: list[ClientWatch] = []
        self._old: list[ClientWatch] = []
        self._armed = False

    def watch(self, receive: Receive) -> ClientWatch:
        """A watch for the running task."""
        watch = ClientWatch(receive)
        self._young.append(watch)
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._look)
        return watch

    def _look(self) -> None:
        for watch in self._old:
            if not watch.over:
                watch.now()
        self._old, self._young = self._young, []
        if self._old:
            asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._look)
        else:
            self._armed = False


class ClientWatch:
    """Cancels the running task when the client hangs up. `over`: the block has been left.

    Watching costs a task, so it starts only when the answer is not there within 20 to 40 ms, or when `now` is called.
    On leaving the block, a cancellation that this watch caused becomes `ClientGone`.
    """

    __slots__ = ("_gone", "_receive", "_task", "_watcher", "over")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False
        self.over = False

    def __enter__(self) -> ClientWatch:
        return self

    def now(self) -> None:
        """Watches from now on."""
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="client-watch")

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.over = True
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientGone from None
        self._task = None
