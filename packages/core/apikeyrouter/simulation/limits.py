"""Token buckets and the durations in which OpenAI speaks of them.

Main entry: `Bucket`. Its capacity is what the limit allows per period; it refills continuously, so one request of 500 a
minute is back after 120 ms. Source: `x-ratelimit-*` of recorded replies (limit 500, remaining 499, reset 120ms; limit
200000, 19 used, reset 5ms) show a continuous refill, rounded down to whole milliseconds.
Laws: the level stays within 0..capacity; time that goes back refills nothing.
"""

from __future__ import annotations

__all__ = ["Bucket", "go_duration"]

_ROUNDING_S = 1e-6  # float noise must not turn 120 ms into 119 ms


class Bucket:
    """A level that falls with use and refills at `capacity` per `period_s`, starting full at `now_s`."""

    __slots__ = ("_at_s", "capacity", "level", "rate_per_s")

    def __init__(self, capacity: int, period_s: float, now_s: float) -> None:
        self.capacity = capacity
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
        """Seconds until full again, which is what `x-ratelimit-reset-*` means."""
        return max(0.0, (self.capacity - self.level) / self.rate_per_s)


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
