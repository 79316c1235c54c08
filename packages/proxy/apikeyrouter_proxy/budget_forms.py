"""What people write for a budget, and what it means: amounts, periods, time zones, tags.

Main entries: `limit`, `period`, `time_zone`, `tag`. Each returns the exact value, or raises ValueError that says what
is expected; management API and command line share them, so both understand and refuse the same.
Law: an amount is never guessed: another currency, or a comma that is no separator of thousands, is refused.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

from apikeyrouter.domain.models.budget import TimeWindow

__all__ = ["Dollars", "Limit", "Period", "Zone", "dollars", "limit", "money", "period", "tag", "time_zone"]

_Value = TypeVar("_Value")

_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?(e[+-]?\d{1,2})?", re.IGNORECASE)
_UNIT_BEFORE = re.compile(r"^([+-]?)\s*(US\s*\$|\$|USD\b)\s*", re.IGNORECASE)
_UNIT_AFTER = re.compile(r"\s*(US\s*\$|\$|USD|dollars?)$", re.IGNORECASE)
_DIGITS_MAX = 40

_PERIODS = {
    TimeWindow.Minute: ("minute", "minutely", "min", "1min"),
    TimeWindow.Hourly: ("hourly", "hour", "h", "1h"),
    TimeWindow.Daily: ("daily", "day", "d", "1d", "24h"),
    TimeWindow.Weekly: ("weekly", "week", "w", "1w", "7d"),
    TimeWindow.Monthly: ("monthly", "month", "mo", "1mo", "30d"),
    TimeWindow.Total: ("total", "ever", "forever", "once", "lifetime", "all", "never"),
}
_BY_NAME = {name: window for window, names in _PERIODS.items() for name in names}
_PERIOD_NAMES = "hourly, daily, weekly, monthly or total (for good)"
_ZONE_ALIASES = {"z": "utc", "gmt": "utc"}
_ABBREVIATIONS = {
    "pt": "America/Los_Angeles", "pst": "America/Los_Angeles", "pdt": "America/Los_Angeles", "mdt": "America/Denver",
    "cdt": "America/Chicago", "et": "America/New_York", "edt": "America/New_York", "bst": "Europe/London",
    "cest": "Europe/Berlin", "ist": "Asia/Kolkata", "jst": "Asia/Tokyo", "sgt": "Asia/Singapore",
    "aest": "Australia/Sydney",
}  # fmt: skip
"""What people call zones. They are suggestions only: most of these letters mean several zones."""


def dollars(given: object) -> Decimal:
    """An amount of US dollars: 10, "10.50", "$10", "10 USD", "1,000". Raises ValueError for everything else.

    A float counts by its shortest text, so 0.1 is a tenth.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float | Decimal):
        raise ValueError("expected an amount of US dollars such as 10 or 10.50")  # noqa: TRY004 - one kind for callers
    if isinstance(given, Decimal):
        return given
    text = str(given).strip()
    bare = _UNIT_AFTER.sub("", _UNIT_BEFORE.sub(r"\1", text)).strip()
    if len(bare) <= _DIGITS_MAX and _NUMBER.fullmatch(bare) and any(c.isdigit() for c in bare):
        return Decimal(bare.replace(",", ""))
    shown = repr(text[:_DIGITS_MAX])
    if re.search(r"[€£¥₹]|\b(EUR|GBP|JPY|CHF|CNY|INR|CAD|AUD)\b", text, re.IGNORECASE):
        raise ValueError(f"{shown} is not in US dollars; providers bill in US dollars, so write the amount in them")
    if re.fullmatch(r"\d+,\d+", bare):
        raise ValueError(f"{shown} can be read in two ways; write decimals with a point, such as 10.50")
    raise ValueError(f"{shown} is not an amount; write US dollars such as 10, 10.50 or $10")


def limit(given: object) -> Decimal:
    """An amount that can be a budget's limit. Raises ValueError."""
    amount = dollars(given)
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"must be above zero, not {str(given)[:_DIGITS_MAX]}; to stop all spending, disable the keys")
    return amount


def money(amount: Decimal) -> str:
    """An exact amount as digits, without exponent and without zeros at its end: "0.0000075"."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def period(given: object) -> TimeWindow:
    """A budget's period by any of its names: "day", "d", "daily". Raises ValueError."""
    text = str(given).strip().lower()
    found = _BY_NAME.get(text.removeprefix("per ").strip())
    if found is not None:
        return found
    if text == "m":
        raise ValueError('"m" could be a month or a minute; write month or minute')
    close = get_close_matches(text, _BY_NAME, 1)
    hint = f"; did you mean {_BY_NAME[close[0]].value}?" if close else ""
    raise ValueError(f"{text[:40]!r} is not a period: use {_PERIOD_NAMES}{hint}")


def time_zone(given: object) -> str:
    """The IANA name of a time zone, in its own spelling: "europe/berlin" is "Europe/Berlin". Raises ValueError with
    suggestions for what is no such name."""
    text = str(given).strip()
    zones = _zones()
    folded = text.replace(" ", "_").lower()
    found = zones.get(_ZONE_ALIASES.get(folded, folded))
    if found is not None:
        return found
    cities = {name.rpartition("/")[2]: full for name, full in zones.items() if "/" in name}
    suggested = [_ABBREVIATIONS[folded]] if folded in _ABBREVIATIONS else []
    suggested += [zones[name] for name in zones if name.rpartition("/")[2] == folded and "/" in name]
    suggested += [cities[name] for name in get_close_matches(folded.rpartition("/")[2], cities, 2, 0.75)]
    suggested += [zones[name] for name in get_close_matches(folded, zones, 2, 0.75)]
    listed = list(dict.fromkeys(suggested))[:3]
    hint = f"; did you mean {' or '.join(listed)}?" if listed else ""
    raise ValueError(f"{text[:64]!r} is not a time zone: use an IANA name such as Europe/Berlin or UTC{hint}")


def tag(given: str) -> str:
    """A tag as "name=value", without blanks around its parts. Raises ValueError."""
    name, equals, value = (part.strip() for part in given.partition("="))
    if not equals or not name or not value or not given.isprintable():
        raise ValueError(f"{given[:64]!r} is not a tag: write name=value, such as feature=search")
    return f"{name}={value}"


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Names by their lower-case form; those that are kept for old programs only are left out."""
    names = zoneinfo.available_timezones()
    return {name.lower(): name for name in sorted(names) if not name.startswith(("posix/", "right/"))} | {"utc": "UTC"}


def _checked(read: Callable[[object], _Value]) -> Callable[[object], _Value]:
    """For pydantic, which would put words of its own before the message of a ValueError."""

    def check(given: object) -> _Value:
        try:
            return read(given)
        except ValueError as fault:
            raise PydanticCustomError("form", "{fault}", {"fault": str(fault)}) from None

    return check


def _text(given: Any) -> str:
    return money(Decimal(given))


Dollars = Annotated[Decimal, PlainSerializer(_text, return_type=str, when_used="json")]
"""An exact amount of US dollars in an answer: digits as text, never with an exponent."""

Limit = Annotated[Decimal, BeforeValidator(_checked(limit), json_schema_input_type=str | float)]
"""A limit in US dollars in a request."""

Period = Annotated[TimeWindow, BeforeValidator(_checked(period), json_schema_input_type=str)]
"""A period in a request."""

Zone = Annotated[str, BeforeValidator(_checked(time_zone))]
"""A time zone in a request."""
