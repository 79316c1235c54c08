"""A virtual-time loop for many small events: no selector, no handle per event.

Main entry: `run_world`. Beside asyncio's own timers it keeps a heap of plain calls (`WorldLoop.at`), which is what
arrivals and replies are: about a third of the time of a simulated request goes into the loop otherwise.
Laws: those of `testing.virtual_time`; calls due at the same time come before asyncio's timers of that time, in the
order in which they were made.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from apikeyrouter.testing.virtual_time import DeadlockError, VirtualTimeLoop

__all__ = ["WorldLoop", "run_world"]

_T = TypeVar("_T")
_DAY_S = 86_400.0


class WorldLoop(VirtualTimeLoop):
    """See above. `limit_s`: virtual time at which the run is taken for stuck."""

    # asyncio's own, as `BaseEventLoop` has had them since 3.4
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, *, limit_s: float = _DAY_S) -> None:
        super().__init__(limit_s=limit_s)
        self._limit_s = limit_s
        self._calls: list[tuple[float, int, Callable[[Any], object], Any]] = []
        self._made = 0

    def at(self, when_s: float, call: Callable[[Any], object], argument: Any) -> None:
        """`call(argument)` at `when_s`, or now if that is past."""
        self._made += 1
        heapq.heappush(self._calls, (when_s, self._made, call, argument))

    def _run_once(self) -> None:
        ready = self._ready
        if not ready and not self._stopping:
            self._jump()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - this is the loop

    def _jump(self) -> None:
        """To the next thing due, which becomes ready."""
        scheduled, calls, jumps = self._scheduled, self._calls, self._jumps
        while scheduled and scheduled[0].cancelled():
            _popped(scheduled)
        timer_s = scheduled[0].when() if scheduled else math.inf
        call_s = calls[0][0] if calls else math.inf
        due_s = min(timer_s, call_s)
        if due_s > self._limit_s:
            why = "nothing is scheduled" if due_s == math.inf else f"virtual time passed {self._limit_s:g} s"
            raise DeadlockError(f"Deadlock: {why}. Waiting for ever: {self._waiting_tasks()}.")
        if due_s > jumps.now_s:
            jumps.now_s = due_s
        if call_s <= timer_s:
            _, _, call, argument = heapq.heappop(calls)
            call(argument)
            return
        while scheduled and scheduled[0].when() <= jumps.now_s:
            self._ready.append(_popped(scheduled))


def _popped(scheduled: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
    handle = heapq.heappop(scheduled)
    handle._scheduled = False  # type: ignore[attr-defined] # noqa: SLF001 - asyncio's own mark: it is in the heap no more
    return handle


def run_world(coro: Coroutine[Any, Any, _T], *, limit_s: float = _DAY_S) -> _T:
    """Runs `coro` to its end on a new `WorldLoop`. Raises DeadlockError when it can never end."""
    with asyncio.Runner(loop_factory=lambda: WorldLoop(limit_s=limit_s)) as runner:
        return runner.run(coro)
