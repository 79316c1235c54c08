"""Single values of limit headers: whole numbers and resets, as bytes from the wire.

Main entries: `count`, `reset_s`, `provider_clock`. Laws: nothing here raises; a negative, absurd or unreadable value is
None, which means "not said" (Azure sends -1 where it does not know); a reset lies in 0..`RESET_MAX_S`, and one in the
past is 0: whatever was to come back is back. Values repeat from reply to reply, so their readings are remembered.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.resilience.durations import DURATION_MAX_S, parse_duration_s, provider_now

__all__ = ["RESET_MAX_S", "clamped_reset_s", "count", "month_end_s", "provider_clock", "reset_reading", "reset_s"]

RESET_MAX_S = 32 * 86_400.0
"""The longest wait that a limit can ask for, in seconds: a month. Longer resets are not believed."""

_DIGITS_MAX = 15
_VALUE_MAX = 64
_EPOCH_FROM_S = 1e9
"""Bare numbers from here on (2001 as a Unix time, 31 years as a duration) are moments."""
_EPOCH_MS_FROM = 1e11


def count(value: bytes | None) -> int | None:
    """A whole number of things, rounded down: b"29999", b"30,000", b"2.0", b"100, 100;w=60"; None when it is none.

    A share of one thing (b"0.6") is None as well: rounding it to 0 would forbid everything.
    """
    if value is None:
        return None
    if value.isdigit():
        return int(value) if len(value) <= _DIGITS_MAX else None
    return _odd_count(value)


@lru_cache(maxsize=1024)
def _odd_count(value: bytes) -> int | None:
    text = value[:_VALUE_MAX].decode("latin-1").strip()
    for mark in (";", ", "):
        text = text.partition(mark)[0]
    whole, point, fraction = text.replace(",", "").replace("_", "").strip().partition(".")
    if not (whole.isascii() and whole.isdigit()) or len(whole) > _DIGITS_MAX:
        return None
    if point and fraction and not (fraction.isascii() and fraction.isdigit()):
        return None
    number = int(whole)
    return None if number == 0 and fraction.strip("0") else number


def clamped_reset_s(wait_s: float) -> float | None:
    """`wait_s` as a reset: 0 for what is past, None when it is absurd or no number."""
    if wait_s <= 0.0:
        return 0.0
    return wait_s if wait_s <= RESET_MAX_S else None


@lru_cache(maxsize=4096)
def reset_reading(value: bytes) -> tuple[float, bool] | None:
    """(seconds, whether they are a Unix time) of a reset: a duration, bare seconds, a Unix time in s or ms, RFC 3339.

    None when it is none of them. Durations lie in 0..`RESET_MAX_S` already, moments do not.
    """
    if value[-1:] == b"s":  # "36.43s" and "120ms", without a look for anything else: most are so
        digits, unit_s = (value[:-2], 0.001) if value[-2:-1] == b"m" else (value[:-1], 1.0)
        if digits[:1].isdigit() and digits.replace(b".", b"", 1).isdigit() and len(digits) <= _DIGITS_MAX:
            told_s = float(digits) * unit_s
            if told_s <= DURATION_MAX_S:
                return told_s, False
    text = value[:_VALUE_MAX].decode("latin-1").strip()
    if text[-1:] != "s" and text.isascii() and text.replace(".", "", 1).isdigit():
        number = float(text)
        if number >= _EPOCH_MS_FROM:
            number /= 1_000.0
        if number >= _EPOCH_FROM_S:
            return number, True
        return (number, False) if number <= RESET_MAX_S else None
    wait_s = parse_duration_s(text)
    if wait_s is not None:
        return wait_s, False
    moment_s = _moment_s(text)
    return None if moment_s is None else (moment_s, True)


def _moment_s(text: str) -> float | None:
    """A moment in RFC 3339 as Unix time."""
    if len(text) < len("2026-01-01T00:00Z"):
        return None
    try:
        moment = datetime.fromisoformat(text.replace("t", "T").replace("z", "Z"))
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _dated(date: bytes) -> float | None:
    moment = provider_now([(b"date", date)], _NEVER)
    return None if moment is _NEVER else moment.timestamp()


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def provider_clock(headers: Headers, utc_now: datetime) -> float:
    """Unix time on the provider's clock when it answered: its `Date` header, else `utc_now`."""
    for name, value in headers:
        if len(name) == 4 and name.lower() == b"date":
            dated = _dated(value)
            return utc_now.timestamp() if dated is None else dated
    return utc_now.timestamp()


def reset_s(value: bytes | None, headers: Headers, utc_now: datetime) -> float | None:
    """Seconds from the reply to the reset that `value` tells; None when it tells none."""
    reading = None if value is None else reset_reading(value)
    if reading is None:
        return None
    wait_s, is_moment = reading
    return clamped_reset_s(wait_s - provider_clock(headers, utc_now)) if is_moment else wait_s


def month_end_s(now_s: float) -> float:
    """Seconds from the Unix time `now_s` to the first of the next month, 00:00 UTC."""
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s)
    following = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)
    return (following.replace(day=1) - now).total_seconds()
