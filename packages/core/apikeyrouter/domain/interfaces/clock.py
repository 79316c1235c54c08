"""Time as an argument."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """The only way to learn the time.

    Laws: `monotonic_s` never goes back; durations and deadlines use it. `utc_now` is for calendars and for people; it
    carries the UTC zone. `sleep` returns after at least `delay_s` seconds of this clock.
    """

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def utc_now(self) -> datetime:
        """The time of day, zone UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits; `delay_s` <= 0 only yields."""
        ...
