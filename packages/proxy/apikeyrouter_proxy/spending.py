"""Spend reports: which hours, grouped how, and as a table of rows.

Main entries: `interval`, `Grouping` and `report_rows`. Reports are summed from hourly roll-ups, so an interval is
widened to whole hours; a day begins at midnight of the report's time zone.
Laws: amounts are whole nano-dollars until they are shown; a request with several tags is in the row of each of them, so
only rows without tags add up to the total, which is counted apart.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.interfaces.shared_ledger import UsageRow
from apikeyrouter_proxy.budget_forms import money

__all__ = ["GROUPS", "Interval", "Sums", "group_of", "interval", "report_rows", "tagged_rows", "to_csv"]

GROUPS = {
    "provider": "provider_id",
    "key": "key_id",
    "model": "model",
    "virtual-key": "virtual_key_id",
    "team": "team",
    "tag": "tags",
    "hour": "hour_s",
    "day": "hour_s",
}
"""What can be grouped by, and the field of the roll-ups behind it."""

_AGO = re.compile(r"(\d{1,5})\s*(m|min|h|hours?|d|days?|w|weeks?)")
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_HOUR_S = 3600
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_UNTAGGED = "(none)"


@dataclass(frozen=True, slots=True)
class Interval:
    """[since, until), whole hours."""

    since: datetime
    until: datetime


@dataclass(slots=True)
class Sums:
    """What a group used; see `UsageRow`."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    presumed_nano_usd: int = 0

    def add(self, row: UsageRow) -> None:
        """One more row."""
        self.requests += row.requests
        self.failures += row.failures
        self.input_tokens += row.input_tokens
        self.cached_input_tokens += row.cached_input_tokens
        self.output_tokens += row.output_tokens
        self.cost_nano_usd += row.cost_nano_usd
        self.presumed_nano_usd += row.presumed_nano_usd

    @property
    def cost(self) -> Decimal:
        """US dollars, exact."""
        return to_decimal_usd(self.cost_nano_usd)

    @property
    def presumed(self) -> Decimal:
        """US dollars, exact."""
        return to_decimal_usd(self.presumed_nano_usd)


def group_of(name: str) -> str:
    """The name in `GROUPS` of what somebody wants to group by: "keys", "virtual_key", "Model". Raises ValueError."""
    text = name.strip().lower().replace("_", "-").removesuffix("-id")
    for known in (text, text.removesuffix("s")):
        if known in GROUPS:
            return known
    raise ValueError(f"{name[:40]!r} cannot be grouped by; use one of {', '.join(GROUPS)}")


def interval(since: str, until: str, now: datetime, zone: tzinfo) -> Interval:
    """The hours that two texts mean. `since`: "7d", "12h", "today", "yesterday", "week", "month" (the running one), or
    an ISO date or time; `until` likewise, or "now". Times without an offset, and days, are the zone's.

    Raises ValueError.
    """
    start, end = _moment(since, now, zone), _moment(until, now, zone)
    if start >= end:
        raise ValueError(
            f"since ({start.isoformat(timespec='minutes')}) must be before until ({end.isoformat(timespec='minutes')})"
        )
    first = math.floor(start.timestamp() / _HOUR_S) * _HOUR_S
    last = math.ceil(end.timestamp() / _HOUR_S) * _HOUR_S
    return Interval(datetime.fromtimestamp(first, zone), datetime.fromtimestamp(last, zone))


def _moment(text: str, now: datetime, zone: tzinfo) -> datetime:
    word = text.strip().lower()
    local = now.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    words = {
        "now": local,
        "today": midnight,
        "yesterday": midnight - timedelta(days=1),
        "week": midnight - timedelta(days=midnight.weekday()),
        "month": midnight.replace(day=1),
    }
    word = word.removeprefix("this ").removeprefix("this-").removesuffix(" ago")
    if word in words:
        return words[word]
    ago = _AGO.fullmatch(word)
    if ago is not None:
        return now - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2][0]])
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is no time: use 7d, 12h, today, yesterday, week, month, a date such as 2026-11-01, "
            "or a time such as 2026-11-01T14:00"
        ) from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zone)


def report_rows(
    rows: Iterable[UsageRow], by: Sequence[str], zone: tzinfo, tag: str | None = None
) -> tuple[list[tuple[tuple[str, ...], Sums]], Sums]:
    """(a row for each group: its values in the order of `by`, and sums; the sums of everything). Groups come in the
    order of time if that is among `by`, and dearest first. `tag`: only what carries it, as "name=value"."""
    groups: dict[tuple[str, ...], Sums] = {}
    total = Sums()
    for row in rows:
        tags = _tags(row.tags)
        if tag is not None and tag not in tags:
            continue
        total.add(row)
        for one in (tags or [_UNTAGGED]) if "tag" in by else [""]:
            groups.setdefault(tuple(_value(row, name, one, zone) for name in by), Sums()).add(row)
    if not by:
        return [], total
    times = [index for index, name in enumerate(by) if name in ("hour", "day")]
    found = sorted(groups.items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].requests, item[0]))
    found.sort(key=lambda item: [item[0][index] for index in times])
    return found, total


def tagged_rows(rows: Iterable[UsageRow], tag: str) -> list[UsageRow]:
    """The rows that carry a tag, as "name=value"."""
    return [row for row in rows if tag in _tags(row.tags)]


def _tags(text: str) -> list[str]:
    return [f"{name}={value}" for name, value in json.loads(text or "{}").items()]


def _value(row: UsageRow, name: str, tag: str, zone: tzinfo) -> str:
    if name == "tag":
        return tag
    if name == "day":
        return datetime.fromtimestamp(row.hour_s, zone).date().isoformat()
    if name == "hour":
        # In UTC first: the hour that a clock shows twice in autumn is two hours.
        return datetime.fromtimestamp(row.hour_s, UTC).astimezone(zone).isoformat(timespec="minutes")
    return str(getattr(row, GROUPS[name]))


def to_csv(columns: Sequence[str], rows: Iterable[tuple[Sequence[str], Sums]]) -> str:
    """Comma-separated values (RFC 4180) with a header. Text that a spreadsheet would run as a formula gets an
    apostrophe in front (https://owasp.org/www-community/attacks/CSV_Injection)."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    numbers = ["requests", "failures", "input_tokens", "cached_input_tokens", "output_tokens"]
    out.writerow([*columns, *numbers, "cost_usd", "presumed_usd"])
    for values, sums in rows:
        out.writerow(
            [
                *(f"'{value}" if value.startswith(_FORMULA) else value for value in values),
                *(getattr(sums, name) for name in numbers),
                money(sums.cost),
                money(sums.presumed),
            ]
        )
    return text.getvalue()
