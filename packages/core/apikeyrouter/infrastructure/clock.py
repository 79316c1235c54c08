"""The only module that reads time or sleeps."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

__all__ = ["SystemClock"]


class SystemClock:
    """The machine's clocks. `monotonic_s` is the event loop's clock too, on every loop that we run on."""

    __slots__ = ()

    monotonic_s = staticmethod(time.monotonic)

    def utc_now(self) -> datetime:
        """The time of day, zone UTC."""
        return datetime.now(UTC)

    async def sleep(self, delay_s: float) -> None:
        """Waits at least `delay_s` seconds; zero or less only yields."""
        await asyncio.sleep(max(0.0, delay_s))
