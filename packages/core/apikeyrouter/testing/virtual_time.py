"""Time for tests: hours pass in microseconds, in an order that never varies.

Main entries: `run_virtual(coro)` runs a coroutine on a loop whose clock jumps instead of waiting; `VirtualClock` is the
`Clock` on that loop; `ManualClock` is a `Clock` moved by hand, for code that never awaits.
Laws: timers fire in the order of their due times, and then of their creation; no time passes while anything can run; a
program in which nothing can ever run again is a `DeadlockError`, not a hanging test.
Virtual time knows no sockets and no other threads: what they bring takes real time, which this loop does not wait for.
Source of the idea: the autojump clock of trio's `MockClock`.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["DeadlockError", "ManualClock", "VirtualClock", "VirtualTimeLoop", "run_virtual"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_START_UTC = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR_S = 366 * 86_400.0


class DeadlockError(RuntimeError):
    """Nothing is scheduled and nothing can become ready, or virtual time ran past its limit. Names who waits."""


class JumpSelector(selectors.DefaultSelector):
    """Never waits: where the loop would sleep `timeout` seconds, it moves the loop's clock instead."""

    def __init__(self, now_s: float, limit_s: float, waiting: Callable[[], str]) -> None:
        super().__init__()
        self.now_s = now_s
        self._limit_s = limit_s
        self._waiting = waiting

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise DeadlockError(f"Deadlock: nothing is scheduled. Waiting for ever: {self._waiting()}.")
        # At least one step of the float, or a timer due in less than that would never come.
        self.now_s = max(self.now_s + timeout, math.nextafter(self.now_s, math.inf))
        if self.now_s > self._limit_s:
            raise DeadlockError(f"Virtual time passed {self._limit_s:g} s. Still waiting: {self._waiting()}.")
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at `start_s` and jumps to the next timer whenever nothing can run.

    `limit_s`: the time past which running on is taken for a deadlock (an endless loop of sleeps). `run_in_executor`
    (and so `asyncio.to_thread`) runs its function in place, which keeps the order of events fixed.
    """

    def __init__(self, start_s: float = 0.0, *, limit_s: float = _YEAR_S) -> None:
        self._jumps = JumpSelector(start_s, start_s + limit_s, self._waiting_tasks)
        super().__init__(self._jumps)
        # asyncio fires what is due before time() + this; where that sum rounds to time(), nothing would ever be due.
        self._clock_resolution = max(1e-9, math.ulp(start_s + limit_s))

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumps.now_s

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002 - the signature is asyncio's
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Calls `func(*args)` now, on this thread; `executor` is ignored."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future

    def _waiting_tasks(self) -> str:
        names = sorted(f"{task.get_name()} ({_name_of(task)})" for task in asyncio.all_tasks(self))
        return ", ".join(names) or "no task"


def _name_of(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", "?"))


def run_virtual(coro: Coroutine[Any, Any, _T], *, start_s: float = 0.0, limit_s: float = _YEAR_S) -> _T:
    """Runs `coro` to its end on a new `VirtualTimeLoop` and returns its result; left-over tasks are cancelled.

    Raises DeadlockError when it can never end. Like `asyncio.run`, it cannot be called while a loop runs.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start_s, limit_s=limit_s)) as runner:
        return runner.run(coro)


class VirtualClock:
    """The `Clock` of a `VirtualTimeLoop`: of `loop`, or of whichever loop runs when it is asked.

    `utc_start` is the time of day when the loop's time is 0.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, utc_start: datetime = _START_UTC) -> None:
        self._loop = loop
        self._utc_start = utc_start.astimezone(UTC)

    def monotonic_s(self) -> float:
        """The loop's time in seconds."""
        return (self._loop or asyncio.get_running_loop()).time()

    def utc_now(self) -> datetime:
        """`utc_start` plus the loop's time."""
        return self._utc_start + timedelta(seconds=self.monotonic_s())

    async def sleep(self, delay_s: float) -> None:
        """Waits `delay_s` virtual seconds; zero or less only yields."""
        await asyncio.sleep(max(0.0, delay_s))


class ManualClock:
    """A `Clock` that stands still until `advance`. For code that never awaits: whoever sleeps on it moves it."""

    def __init__(self, start_s: float = 0.0, *, utc: datetime = _START_UTC) -> None:
        self._now_s = start_s
        self._start_s = start_s
        self._utc_start = utc.astimezone(UTC)

    def monotonic_s(self) -> float:
        """Seconds: `start_s` plus everything advanced."""
        return self._now_s

    def utc_now(self) -> datetime:
        """`utc` plus everything advanced."""
        return self._utc_start + timedelta(seconds=self._now_s - self._start_s)

    def advance(self, delay_s: float) -> None:
        """Moves time forward. Raises ValueError for a negative `delay_s`: a monotonic clock never goes back."""
        if delay_s < 0:
            raise ValueError(f"a clock cannot go back: advance({delay_s})")
        self._now_s += delay_s

    async def sleep(self, delay_s: float) -> None:
        """Advances by `delay_s` (if positive) and yields once."""
        self.advance(max(0.0, delay_s))
        await asyncio.sleep(0)
