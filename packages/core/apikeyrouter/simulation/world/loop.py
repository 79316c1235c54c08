"""A virtual-time loop for many small events: no selector, one heap, handles that are made quickly.

Main entries: `run_world`; `WorldLoop.at` for plain calls, which is what arrivals and replies are, and `WorldLoop.clock`
for sleepers: about a third of the time of a simulated request goes into the loop otherwise.
Laws: those of `testing.virtual_time`; calls due at the same time come before timers and sleepers of that time, each in
the order in which they were made; a timer that was cancelled, or whose sleeper was, moves no time.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from msgspec import Struct

from apikeyrouter.testing.virtual_time import DeadlockError, JumpSelector, VirtualClock, VirtualTimeLoop

__all__ = ["WorldClock", "WorldLoop", "run_world", "settle"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_DAY_S = 86_400.0
_GC_THRESHOLDS = (20_000, 20, 50)
"""Rarer rounds of the collector while a world runs, as in a serving proxy: 4 to 7 % of the time of a run."""
_TIMERS = 1 << 60
"""Added to the number of a timer: it comes after the calls of the same time."""


class _Handle(Struct, eq=False):
    """A handle by its verbs and by the names that asyncio's own have, made in a quarter of their time: a request takes
    half a dozen. `_when_s`: of a timer."""

    _context: Context
    _callback: Callable[..., object] | None
    _args: tuple[Any, ...]
    _when_s: float = 0.0
    _cancelled: bool = False

    def cancel(self) -> None:
        """See `asyncio.Handle.cancel`."""
        self._cancelled = True
        self._callback, self._args = None, ()  # a timer lies there until its time comes, which may be long

    def cancelled(self) -> bool:
        """See `asyncio.Handle.cancelled`."""
        return self._cancelled

    def when(self) -> float:
        """See `asyncio.TimerHandle.when`."""
        return self._when_s


class WorldLoop(VirtualTimeLoop):
    """See above. `limit_s`: virtual time at which the run is taken for stuck. Debug mode changes nothing."""

    _ready: deque[Any]  # asyncio's own, as `BaseEventLoop` has had them since 3.4
    _stopping: bool

    def __init__(self, *, limit_s: float = _DAY_S) -> None:
        super().__init__(limit_s=limit_s)
        self._limit_s = limit_s
        self._due: list[tuple[float, int, Callable[[Any], object] | None, Any]] = []
        self._made = 0
        self.clock = WorldClock(self, self._jumps)
        """The clock on this loop."""
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]  # the same, but all in C
        self.get_debug = bool  # type: ignore[method-assign]  # always False, in C: every future and task asks

    def at(self, when_s: float, call: Callable[[Any], object], argument: Any) -> None:
        """`call(argument)` at `when_s`, or now if that is past."""
        self._made += 1
        heapq.heappush(self._due, (when_s, self._made, call, argument))

    def wake(self, when_s: float, sleeper: asyncio.Future[None]) -> None:
        """Settles `sleeper` at `when_s`: a timer without a handle."""
        self._made += 1
        heapq.heappush(self._due, (when_s, _TIMERS + self._made, settle, sleeper))

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop.call_at`."""
        return self._timer(when, callback, args, context)

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop.call_later`."""
        return self._timer(self._jumps.now_s + delay, callback, args, context)

    def _timer(
        self, when_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        timer = _Handle(copy_context() if context is None else context, callback, args, when_s)
        self._made += 1
        heapq.heappush(self._due, (when_s, _TIMERS + self._made, None, timer))
        return timer  # type: ignore[return-value]  # it has all that a handle is used for

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop.call_soon`."""
        handle = _Handle(copy_context() if context is None else context, callback, args)
        self._ready.append(handle)
        return handle  # type: ignore[return-value]  # as above

    def _run_once(self) -> None:
        """Asyncio's, again and again until the loop is stopped."""
        ready = self._ready
        while True:
            if not ready and not self._stopping:
                self._jump()
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:  # noqa: SLF001 - this is the loop
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)  # noqa: SLF001
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as fault:  # noqa: BLE001 - told as asyncio tells it
                    told = {"message": f"Exception in callback of {handle!r}", "exception": fault, "handle": handle}
                    self.call_exception_handler(told)
            if self._stopping:
                return

    def _jump(self) -> None:
        """To the next thing due, which becomes ready: one call, or all timers of that time."""
        due, jumps = self._due, self._jumps
        while due:
            due_s, number, call, argument = heapq.heappop(due)
            if number < _TIMERS or not argument.cancelled():  # somebody still waits for it
                break
        else:
            due_s = math.inf
        if due_s > self._limit_s:
            why = "nothing is scheduled" if due_s == math.inf else f"virtual time passed {self._limit_s:g} s"
            raise DeadlockError(f"Deadlock: {why}. Waiting for ever: {self._waiting_tasks()}.")
        if due_s > jumps.now_s:
            jumps.now_s = due_s
        if number < _TIMERS and call is not None:
            call(argument)
            return
        while True:
            if call is not None:
                call(argument)
            else:
                self._ready.append(argument)
            if not due or due[0][0] > due_s or due[0][1] < _TIMERS:
                return
            _, _, call, argument = heapq.heappop(due)


class WorldClock(VirtualClock):
    """The clock of a `WorldLoop`: read a hundred times by a request, so it looks and does not ask."""

    def __init__(self, loop: WorldLoop, jumps: JumpSelector) -> None:
        super().__init__(loop)
        self._world = loop
        self._jumps = jumps

    def monotonic_s(self) -> float:
        """See `VirtualClock.monotonic_s`."""
        return self._jumps.now_s

    async def sleep(self, delay_s: float) -> None:
        """See `VirtualClock.sleep`."""
        if delay_s <= 0:
            await asyncio.sleep(0)
        else:
            sleeper: asyncio.Future[None] = self._world.create_future()
            self._world.wake(self._jumps.now_s + delay_s, sleeper)
            await sleeper


def settle(future: asyncio.Future[None]) -> None:
    """Lets whoever waits go on, unless it was cancelled."""
    if not future.done():
        future.set_result(None)


def run_world(coro: Coroutine[Any, Any, _T], *, limit_s: float = _DAY_S) -> _T:
    """Runs `coro` to its end on a new `WorldLoop`. Raises DeadlockError when it can never end."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=lambda: WorldLoop(limit_s=limit_s)) as runner:
            return runner.run(coro)
    finally:
        gc.set_threshold(*thresholds)
