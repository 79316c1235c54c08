"""How a provider counts: token bucket, rolling window, clock minute, slots. The judge's own arithmetic.

Main entries: `Bucket`, `Rolling`, `Minute`, `Slots`, all with the same verbs. Laws: `take` never makes `free` negative
(`charge_late` may); a bucket never holds more than its capacity; in a rolling window no 60 s ever hold more than the
limit. Times are seconds and must not go back. Written without `domain.quota`, which it judges.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

__all__ = ["Bucket", "Limiter", "Minute", "Rolling", "Slots"]

_MINUTE_S = 60.0


class Bucket:
    """A token bucket: `limit` a minute flow in, `limit * horizon_s / 60` fit."""

    __slots__ = ("_at_s", "capacity", "level", "limit", "rate_per_s")

    def __init__(self, limit: float, horizon_s: float, now_s: float = 0.0) -> None:
        self.limit = limit
        self.rate_per_s = limit / _MINUTE_S
        self.capacity = limit * horizon_s / _MINUTE_S
        self.level = self.capacity
        self._at_s = now_s

    def free(self, now_s: float) -> float:
        """What could be taken now."""
        if now_s > self._at_s:
            level = self.level + (now_s - self._at_s) * self.rate_per_s
            if level > self.capacity:
                level = self.capacity
            self.level = level
            self._at_s = now_s
        return self.level

    def take(self, amount: float, now_s: float) -> None:
        """Takes what was seen to be free."""
        if now_s > self._at_s:
            self.free(now_s)
        self.level -= amount

    def drain(self, amount: float, now_s: float) -> None:
        """Takes as much of it as there is: a refused request that counts."""
        self.level = max(min(0.0, self.level), self.free(now_s) - amount)

    def charge_late(self, amount: float, now_s: float) -> None:
        """Takes it whatever there is; gives back when negative."""
        self.level = min(self.capacity, self.free(now_s) - amount)

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until `amount` fits if nobody else takes; infinite when it never does."""
        if amount > self.capacity:
            return math.inf
        missing = amount - (self.free(now_s) if now_s > self._at_s else self.level)
        return missing / self.rate_per_s if missing > 0.0 else 0.0

    def full_in_s(self, now_s: float) -> float:
        """Seconds until it is full again."""
        missing = self.capacity - (self.free(now_s) if now_s > self._at_s else self.level)
        return missing / self.rate_per_s if missing > 0.0 else 0.0

    def scale(self, factor: float, now_s: float) -> None:
        """Another tier: limit and contents times `factor`."""
        self.level = self.free(now_s) * factor
        self.limit *= factor
        self.rate_per_s *= factor
        self.capacity *= factor


class Rolling:
    """What was taken during the last 60 s counts."""

    __slots__ = ("_log", "_used", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    @property
    def capacity(self) -> float:
        """The most that one request may take."""
        return self.limit

    def free(self, now_s: float) -> float:
        """See `Bucket.free`."""
        log = self._log
        while log and log[0][0] <= now_s - _MINUTE_S:
            self._used -= log.popleft()[1]
        return self.limit - self._used

    def take(self, amount: float, now_s: float) -> None:
        """See `Bucket.take`."""
        if amount:
            self._log.append((now_s, amount))
            self._used += amount

    def drain(self, amount: float, now_s: float) -> None:
        """See `Bucket.drain`."""
        self.take(max(0.0, min(amount, self.free(now_s))), now_s)

    def charge_late(self, amount: float, now_s: float) -> None:
        """See `Bucket.charge_late`."""
        self.take(amount, now_s)

    def wait_s(self, amount: float, now_s: float) -> float:
        """See `Bucket.wait_s`."""
        if amount > self.limit:
            return math.inf
        missing = amount - self.free(now_s)
        for at_s, taken in self._log:
            if missing <= 0:
                break
            missing -= taken
            if missing <= 0:
                return max(0.0, at_s + _MINUTE_S - now_s)
        return 0.0

    def full_in_s(self, now_s: float) -> float:
        """See `Bucket.full_in_s`."""
        self.free(now_s)
        return self._log[-1][0] + _MINUTE_S - now_s if self._log else 0.0

    def scale(self, factor: float, now_s: float) -> None:
        """Another tier; what was taken still counts."""
        self.free(now_s)
        self.limit *= factor


class Minute:
    """Everything comes back when the provider's clock minute ends; its clock is `skew_s` ahead."""

    __slots__ = ("_skew_s", "_used", "_window", "limit")

    def __init__(self, limit: float, skew_s: float = 0.0) -> None:
        self.limit = limit
        self._skew_s = skew_s
        self._window = -1
        self._used = 0.0

    @property
    def capacity(self) -> float:
        """The most that one request may take."""
        return self.limit

    def free(self, now_s: float) -> float:
        """See `Bucket.free`."""
        window = math.floor((now_s + self._skew_s) / _MINUTE_S)
        if window != self._window:
            self._window = window
            self._used = 0.0
        return self.limit - self._used

    def take(self, amount: float, now_s: float) -> None:
        """See `Bucket.take`."""
        self.free(now_s)
        self._used += amount

    def drain(self, amount: float, now_s: float) -> None:
        """See `Bucket.drain`."""
        self.take(max(0.0, min(amount, self.free(now_s))), now_s)

    def charge_late(self, amount: float, now_s: float) -> None:
        """See `Bucket.charge_late`."""
        self.take(amount, now_s)

    def wait_s(self, amount: float, now_s: float) -> float:
        """See `Bucket.wait_s`."""
        if amount > self.limit:
            return math.inf
        return 0.0 if amount <= self.free(now_s) else self.full_in_s(now_s)

    def full_in_s(self, now_s: float) -> float:
        """See `Bucket.full_in_s`."""
        self.free(now_s)
        return 0.0 if self._used <= 0 else (self._window + 1) * _MINUTE_S - self._skew_s - now_s

    def scale(self, factor: float, now_s: float) -> None:
        """Another tier; what was taken still counts."""
        self.free(now_s)
        self.limit *= factor


Limiter = Bucket | Rolling | Minute


class Slots:
    """Requests under way, at most `limit`; each leaves at a time that is known when it begins."""

    __slots__ = ("_ends", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ends: list[float] = []

    def free(self, now_s: float) -> int:
        """Slots that are free now."""
        ends = self._ends
        while ends and ends[0] <= now_s:
            heapq.heappop(ends)
        return self.limit - len(ends)

    def take(self, until_s: float) -> None:
        """Takes one until `until_s`."""
        heapq.heappush(self._ends, until_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until a slot is free."""
        return 0.0 if self.free(now_s) > 0 else self._ends[0] - now_s
