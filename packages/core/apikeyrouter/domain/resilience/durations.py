"""Every way in which a provider says "come back later", as seconds.

Main entries: `retry_after_s` for headers, `hint_in_text` for sentences, `parse_duration_s` for one value.
Laws: nothing here raises on what a provider sent; every answer is None or lies in 0..`DURATION_MAX_S`; a negative or
absurd value is None (no hint), because obeying it would park a key for ever; no clock is read. Absolute times are
compared with the reply's own `Date`, so that a wrong clock here or there cancels out.
Sources: RFC 9110 10.2.3 (Retry-After), RFC 3339, Go's `time.ParseDuration` (OpenAI, Groq), Azure OpenAI's millisecond
headers, google.rpc.RetryInfo.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = [
    "ABSURD_S",
    "DURATION_MAX_S",
    "LimitFacts",
    "hint_in_details",
    "hint_in_text",
    "limit_in_text",
    "parse_duration_s",
    "provider_now",
    "retry_after_s",
    "seconds_until",
]

DURATION_MAX_S = 86_400.0
"""Longest rest that one hint may cause, in seconds: after a day somebody should look again. Longer hints are cut."""

ABSURD_S = 32 * 86_400.0
"""A hint above this is no duration (the longest quota window is a month) but a Unix time or milliseconds. Ignored."""

_TEXT_MAX = 4_096
_VALUE_MAX = 64
_FINER = (b"retry-after-ms", b"x-ms-retry-after-ms")

_UNIT_S: Mapping[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
}
_WORD_UNIT: Mapping[str, str] = {"mil": "ms", "sec": "s", "min": "m", "hou": "h", "hr": "h", "hrs": "h", "day": "d"}

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
# The longest unit comes first: with `m` before `ms`, "120ms" would be two hours instead of 0.12 s.
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|h|m|s|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ns|us|µs|μs|ms|h|m|s|d))+")
_CLOCK = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]*)?)(m?s))?")
"""What nearly all limit headers hold ("1h2m3.5s", "6m0s", "120ms"), read in one go."""

_BARE = re.compile(rf"\+?{_NUMBER}")

_WORDS = r"(?:milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|ns|us|µs|μs|ms|h|m|s|d)(?![A-Za-z])"
_SPAN = re.compile(
    rf"\b(?:re)?try(?:ing)?(?:\s+again|\s+your\s+request)?\s+(?:in|after)\s+"
    rf"((?:{_NUMBER}\s?{_WORDS}(?:,?\s)?(?:and\s)?)+)",
    re.IGNORECASE,
)
_SPAN_PART = re.compile(rf"({_NUMBER})\s?([A-Za-zµμ]+)")
_FACTS = re.compile(
    r"\bLimit:?\s+([0-9]{1,15}),\s*(?:Used:?\s+([0-9]{1,15}),\s*)?Requested:?\s+([0-9]{1,15})", re.IGNORECASE
)
_PER_DAY = re.compile(r"\bper[ -]day\b|\((?:TPD|RPD)\)", re.IGNORECASE)
_PER_MINUTE = re.compile(r"\bper[ -]min(?:ute)?\b|\((?:TPM|RPM|ITPM|OTPM)\)", re.IGNORECASE)


def _sane(value_s: float) -> float | None:
    """`value_s` cut to 0..DURATION_MAX_S; None when it is negative, absurd or no number."""
    if math.isnan(value_s) or value_s < 0.0 or value_s > ABSURD_S:
        return None
    return min(value_s, DURATION_MAX_S)


def parse_duration_s(text: str) -> float | None:
    """Seconds meant by one value: Go's form ("6m0s", "120ms", "36.43s") or bare seconds ("20", "1.5"); else None."""
    text = text.strip()
    if not 0 < len(text) <= _VALUE_MAX:
        return None
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        hours, minutes, seconds, unit = clock.groups()
        value_s = 0.0 if hours is None else float(hours) * 3_600.0
        if minutes is not None:
            value_s += float(minutes) * 60.0
        if seconds is not None:
            value_s += float(seconds) * _UNIT_S[unit]
        return _sane(value_s)
    if _BARE.fullmatch(text):
        return _sane(float(text))
    if not _DURATION.fullmatch(text):
        return None
    return _sane(sum(float(amount) * _UNIT_S[unit] for amount, unit in _PART.findall(text)))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _rfc3339(text: str) -> datetime | None:
    if len(text) < len("2026-01-01T00:00Z") or text[10] not in "Tt ":
        return None
    try:
        moment = datetime.fromisoformat(text.replace("t", "T").replace("z", "Z"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def seconds_until(text: str, *, now: datetime) -> float | None:
    """Seconds from `now` to an absolute time written as HTTP-date or RFC 3339 (offset required); else None."""
    text = text.strip()
    if len(text) > _VALUE_MAX:
        return None
    moment = _rfc3339(text) or _http_date(text)
    if moment is None:
        return None
    try:
        return _sane((moment - now).total_seconds())
    except OverflowError:  # an offset that leads out of the calendar
        return None


def provider_now(headers: Iterable[tuple[bytes, bytes]], utc_now: datetime) -> datetime:
    """The time on the provider's clock when it answered: its `Date` header, or `utc_now` without a usable one."""
    for name, value in headers:
        if name.lower() == b"date":
            moment = _http_date(value.decode("latin-1").strip()[:_VALUE_MAX])
            return utc_now if moment is None else moment
    return utc_now


def retry_after_s(headers: list[tuple[bytes, bytes]], utc_now: datetime) -> float | None:
    """Seconds that a reply's headers ask to wait; None when they ask for nothing that makes sense.

    The finer header wins: `retry-after-ms`, `x-ms-retry-after-ms`, then `retry-after` as seconds, decimal seconds, a
    duration, an HTTP-date or RFC 3339. A header that makes no sense yields to the next. Never call it for a 2xx: some
    providers send Retry-After with success, where it must cool nothing.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower == b"retry-after" or lower in _FINER:
            found.setdefault(lower, value.decode("latin-1").strip())
    for name in _FINER:
        text = found.get(name, "")
        if len(text) <= _VALUE_MAX and _BARE.fullmatch(text):
            hint_s = _sane(float(text) / 1_000.0)
            if hint_s is not None:
                return hint_s
    text = found.get(b"retry-after", "")
    hint_s = parse_duration_s(text)
    return hint_s if hint_s is not None else seconds_until(text, now=provider_now(headers, utc_now))


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """What a rejection says about its limit, in the limit's own unit (tokens or requests). `used` may be untold.

    One of these calibrates a pool exactly. `window_s`: 60 or 86,400 when the sentence names it, else None.
    """

    limit: int
    used: int | None
    requested: int
    window_s: float | None

    @property
    def too_large(self) -> bool:
        """Whether the request can never fit: it asks for more than the whole limit."""
        return self.requested > self.limit

    @property
    def refill_s(self) -> float | None:
        """Seconds until it fits if the limit refills evenly over its window; None when that cannot be told.

        Source: agrees to 10 ms with the "try again in" of Groq's messages (Limit 6000, Used 4626, Requested 4022 per
        minute: 26.48 s; Limit 100000, Used 99336, Requested 1187 per day: 7m31.872s).
        """
        if self.used is None or self.window_s is None or self.limit <= 0 or self.too_large:
            return None
        return _sane(max(0, self.used + self.requested - self.limit) * self.window_s / self.limit)


def limit_in_text(message: str) -> LimitFacts | None:
    """The numbers in "(TPM): Limit 6000, Used 5000, Requested 1500", as OpenAI and Groq write them; else None."""
    message = message[:_TEXT_MAX]
    match = _FACTS.search(message)
    if match is None:
        return None
    limit, used, requested = match.groups()
    lower = message.lower()  # most limits are those of a minute, and a search that finds nothing is slow
    daily = ("day" in lower or "pd)" in lower) and _PER_DAY.search(message) is not None
    window_s = 86_400.0 if daily else 60.0 if _PER_MINUTE.search(message) else None
    return LimitFacts(int(limit), None if used is None else int(used), int(requested), window_s)


def hint_in_text(message: str) -> float | None:
    """Seconds that a sentence asks to wait: "try again in 1m6.7s", "retry after 9 seconds"; else by its limit facts."""
    match = _SPAN.search(message[:_TEXT_MAX])
    if match is None:
        facts = limit_in_text(message)
        return None if facts is None else facts.refill_s
    total_s = 0.0
    for amount, word in _SPAN_PART.findall(match.group(1)):
        unit = word.lower()
        unit = unit if unit in _UNIT_S else _WORD_UNIT.get(unit[:3], "s")
        total_s += float(amount) * _UNIT_S[unit]
    return _sane(total_s)


def hint_in_details(details: Iterable[Mapping[str, object]]) -> float | None:
    """Seconds of a google.rpc.RetryInfo among `details`: "36s", "36.43s" or {seconds, nanos}; else None."""
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            hint_s = parse_duration_s(delay)
        elif isinstance(delay, Mapping):
            seconds, nanos = delay.get("seconds", 0), delay.get("nanos", 0)
            numeric = isinstance(seconds, int | float | str) and isinstance(nanos, int | float)
            hint_s = _seconds_and_nanos(str(seconds), float(nanos)) if numeric else None
        else:
            continue
        if hint_s is not None:
            return hint_s
    return None


def _seconds_and_nanos(seconds: str, nanos: float) -> float | None:
    """Protobuf's Duration, whose 64-bit seconds travel as a number or, in JSON, as a string."""
    whole_s = parse_duration_s(seconds)
    return None if whole_s is None else _sane(whole_s + nanos * 1e-9)
