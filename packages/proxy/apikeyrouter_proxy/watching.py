"""Noticing that a client has hung up, so that nobody works for it any more: `ClientWatch`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from apikeyrouter_proxy.wire.body import ClientGone

__all__ = ["ClientWatch"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_WATCH_AFTER_S = 0.02


class ClientWatch:
    """Cancels the running task when the client hangs up.

    Watching costs a task, so it starts only when the answer is not there within 20 ms, or when `now` is called. On
    leaving the block, a cancellation that this watch caused becomes `ClientGone`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> ClientWatch:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self.now)
        return self

    def now(self) -> None:
        """Watches from now on."""
        self._timer.cancel()
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="client-watch")

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientGone from None
