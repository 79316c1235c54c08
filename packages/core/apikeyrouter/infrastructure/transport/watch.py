"""The time limits of one connection, at the price of one comparison per request.

Entry: `Watch`. Its owner moves `due_s` and `deadline_s` freely, which costs nothing; the timer is armed once, looks at
them when it fires, and sleeps on if neither has come. Only a time earlier than the armed one needs `arm` at once.
Law: `late` is called no earlier than `due_s` or `deadline_s`, and within a millisecond or so of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["NEVER_S", "Watch"]

NEVER_S = math.inf


class Watch:
    """`due_s`: when the running phase is too late. `deadline_s`: when the request is. Both are monotonic seconds, or
    `NEVER_S`. `late` is told whether it was the deadline; it is called once and the watch then rests."""

    __slots__ = ("_late", "_loop", "_now_s", "_timer", "_timer_at_s", "deadline_s", "due_s")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now_s: Callable[[], float], late: Callable[[bool], None]
    ) -> None:
        self._loop = loop
        self._now_s = now_s
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = NEVER_S
        self.due_s = NEVER_S
        self.deadline_s = NEVER_S

    def arm(self, now_s: float) -> None:
        """Call after a limit was set that may come before the armed one."""
        due_s = min(self.due_s, self.deadline_s)
        if self._timer is not None:
            if self._timer_at_s <= due_s:
                return
            self._timer.cancel()
            self._timer = None
        if due_s != NEVER_S:
            self._timer_at_s = due_s
            # At least a millisecond: loops round delays, and a timer that fires early must not spin.
            self._timer = self._loop.call_later(max(0.001, due_s - now_s), self._fire)

    def stop(self) -> None:
        """Forgets everything."""
        self.due_s = self.deadline_s = NEVER_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now_s = self._now_s()
        if now_s >= self.deadline_s:
            self._late(True)
        elif now_s >= self.due_s:
            self._late(False)
        else:
            self.arm(now_s)
