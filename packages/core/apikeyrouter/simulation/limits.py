"""How a simulated provider counts, and the durations in which OpenAI speaks of it.

Main entry: `meter_of`, which makes the `Meter` of one limit: a `Bucket` refills all the time (with `Bursts`, over a
shorter stretch than it tells of), a `Rolling` one lets nothing back before its time is over, a `Fixed` one all at once
at the end of the clock minute. Source: `x-ratelimit-*` of recorded replies (limit 500, remaining 499, reset 120ms;
limit 200000, 19 used, reset 5ms) show a continuous refill, rounded down to whole milliseconds; the other kinds are what
other providers document. Written without `domain.quota`, which it judges.
Laws: `remaining` stays within 0..capacity; time that goes back gives nothing back; `wait_s` is true: after so long
without a request the amount fits, and not a millisecond sooner; no stretch of a `Rolling` period holds more than the
limit.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum
from typing import Protocol

__all__ = ["Bucket", "Bursts", "Fixed", "Meter", "Refill", "Rolling", "go_duration", "meter_of"]

_ROUNDING_S = 1e-6  # float noise must not turn 120 ms into 119 ms


class Refill(StrEnum):
    """How what was used comes back: all the time, each unit after a whole period, or all of it when the clock period
    ends."""

    Continuous = "continuous"
    Rolling = "rolling"
    Fixed = "fixed"


class Meter(Protocol):
    """One limit. `capacity`: the limit as told; `largest`: the most that one request may take."""

    capacity: int
    largest: float

    def refill(self, now_s: float) -> None:
        """Brings it up to date."""
        ...

    def take(self, amount: int) -> None:
        """Takes so much, or for a refused request that counts, so much of it as there is."""
        ...

    def lacks(self, amount: int) -> bool:
        """Whether `amount` does not fit now."""
        ...

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` fits if nobody takes anything meanwhile; 0 when it fits now."""
        ...

    @property
    def remaining(self) -> int:
        """Whole units left, as told."""
        ...

    @property
    def reset_s(self) -> float:
        """Seconds until everything is back, which is what `x-ratelimit-reset-*` means."""
        ...


class Bucket:
    """A level that falls with use and refills at `capacity` per `period_s`, starting full at `now_s`."""

    __slots__ = ("_at_s", "capacity", "largest", "level", "rate_per_s")

    def __init__(self, capacity: int, period_s: float, now_s: float) -> None:
        self.capacity = capacity
        self.largest = float(capacity)
        self.rate_per_s = capacity / period_s
        self.level = float(capacity)
        self._at_s = now_s

    def refill(self, now_s: float) -> None:
        """Brings the level up to date."""
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0:
            self.level = min(float(self.capacity), self.level + elapsed_s * self.rate_per_s)
            self._at_s = now_s

    def take(self, amount: int) -> None:
        """Lowers the level, to zero at the least."""
        self.level = max(0.0, self.level - amount)

    def lacks(self, amount: int) -> bool:
        """Whether `amount` does not fit now."""
        return self.level + _ROUNDING_S < amount

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` fits if nobody takes anything meanwhile; 0 when it fits now."""
        return max(0.0, (amount - self.level) / self.rate_per_s)

    @property
    def remaining(self) -> int:
        """Whole units left."""
        return int(self.level + _ROUNDING_S)

    @property
    def reset_s(self) -> float:
        """Seconds until full again."""
        return max(0.0, (self.capacity - self.level) / self.rate_per_s)


class Bursts(Bucket):
    """A bucket that tells of a whole period, but lets in no more at once than comes back in `burst_s`."""

    __slots__ = ("_small_at_s", "_small_level")

    def __init__(self, capacity: int, period_s: float, burst_s: float, now_s: float) -> None:
        super().__init__(capacity, period_s, now_s)
        self.largest = max(1.0, capacity * burst_s / period_s)
        self._small_level = self.largest
        self._small_at_s = now_s

    def refill(self, now_s: float) -> None:
        """Brings both levels up to date."""
        super().refill(now_s)
        elapsed_s = now_s - self._small_at_s
        if elapsed_s > 0:
            self._small_level = min(self.largest, self._small_level + elapsed_s * self.rate_per_s)
            self._small_at_s = now_s

    def take(self, amount: int) -> None:
        """Lowers both levels, to zero at the least."""
        super().take(amount)
        self._small_level = max(0.0, self._small_level - amount)

    def lacks(self, amount: int) -> bool:
        """Whether `amount` does not fit now; the smaller level is never the higher one."""
        return self._small_level + _ROUNDING_S < amount

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` fits."""
        return max(0.0, (amount - self._small_level) / self.rate_per_s)


class Rolling:
    """What was taken during the last `period_s` counts, to the instant.

    A refused request that counts takes the place of the oldest: who hammers at a full limit keeps it full.
    """

    __slots__ = ("_log", "_now_s", "_used", "capacity", "largest", "period_s")

    def __init__(self, capacity: int, period_s: float, now_s: float) -> None:
        self.capacity = capacity
        self.largest = float(capacity)
        self.period_s = period_s
        self._log: deque[tuple[float, int]] = deque()
        self._used = 0
        self._now_s = now_s

    def refill(self, now_s: float) -> None:
        """Forgets what is a period old."""
        self._now_s = max(self._now_s, now_s)
        while self._log and self._log[0][0] + self.period_s <= self._now_s:
            self._used -= self._log.popleft()[1]

    def take(self, amount: int) -> None:
        """Counts `amount` from now on."""
        amount = min(amount, self.capacity)
        if amount <= 0:
            return
        while self._used + amount > self.capacity:
            at_s, oldest = self._log.popleft()
            excess = self._used + amount - self.capacity
            self._used -= oldest
            if oldest > excess:
                self._log.appendleft((at_s, oldest - excess))
                self._used += oldest - excess
        self._log.append((self._now_s, amount))
        self._used += amount

    def lacks(self, amount: int) -> bool:
        """Whether `amount` does not fit now."""
        return self._used + amount > self.capacity

    def wait_s(self, amount: int) -> float:
        """Seconds until enough of what was taken is a period old."""
        missing = self._used + amount - self.capacity
        if missing <= 0:
            return 0.0
        for at_s, taken in self._log:
            missing -= taken
            if missing <= 0:
                return at_s + self.period_s - self._now_s
        return math.inf

    @property
    def remaining(self) -> int:
        """Units left."""
        return self.capacity - self._used

    @property
    def reset_s(self) -> float:
        """Seconds until the last that was taken is a period old."""
        return self._log[-1][0] + self.period_s - self._now_s if self._log else 0.0


class Fixed:
    """What was taken since the running clock period began counts; one began at `epoch_s` (monotonic)."""

    __slots__ = ("_ends_s", "_now_s", "_used", "capacity", "largest", "period_s")

    def __init__(self, capacity: int, period_s: float, epoch_s: float, now_s: float) -> None:
        self.capacity = capacity
        self.largest = float(capacity)
        self.period_s = period_s
        self._used = 0
        self._now_s = now_s
        self._ends_s = epoch_s + (math.floor((now_s - epoch_s) / period_s) + 1) * period_s

    def refill(self, now_s: float) -> None:
        """Starts anew when the period has ended."""
        self._now_s = max(self._now_s, now_s)
        if self._now_s >= self._ends_s:
            self._ends_s += (math.floor((self._now_s - self._ends_s) / self.period_s) + 1) * self.period_s
            self._used = 0

    def take(self, amount: int) -> None:
        """Counts `amount`, up to the limit."""
        self._used = min(self.capacity, self._used + amount)

    def lacks(self, amount: int) -> bool:
        """Whether `amount` does not fit now."""
        return self._used + amount > self.capacity

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` fits: none, or those until the period ends."""
        return self._ends_s - self._now_s if self.lacks(amount) else 0.0

    @property
    def remaining(self) -> int:
        """Units left."""
        return self.capacity - self._used

    @property
    def reset_s(self) -> float:
        """Seconds until the period ends; 0 when nothing was taken."""
        return self._ends_s - self._now_s if self._used else 0.0


def meter_of(
    capacity: int, period_s: float, refill: Refill, burst_s: float | None, *, now_s: float, epoch_s: float
) -> Meter:
    """The meter of one limit, full. `burst_s`: see `Bursts`, None for the whole period; `epoch_s`: see `Fixed`."""
    if refill is Refill.Rolling:
        return Rolling(capacity, period_s, now_s)
    if refill is Refill.Fixed:
        return Fixed(capacity, period_s, epoch_s, now_s)
    if burst_s is not None and burst_s < period_s:
        return Bursts(capacity, period_s, burst_s, now_s)
    return Bucket(capacity, period_s, now_s)


def go_duration(seconds: float) -> str:
    """A duration as Go prints it, whole milliseconds, rounded down: `0s`, `120ms`, `1.5s`, `6m0s`, `1h0m3.25s`."""
    total_ms = int((max(0.0, seconds) + _ROUNDING_S) * 1000)
    if total_ms == 0:
        return "0s"
    if total_ms < 1000:
        return f"{total_ms}ms"
    total_s, rest_ms = divmod(total_ms, 1000)
    minutes, whole_s = divmod(total_s, 60)
    hours, minutes = divmod(minutes, 60)
    second_part = f"{whole_s}.{rest_ms:03d}".rstrip("0") if rest_ms else str(whole_s)
    if hours:
        return f"{hours}h{minutes}m{second_part}s"
    return f"{minutes}m{second_part}s" if minutes else f"{second_part}s"
