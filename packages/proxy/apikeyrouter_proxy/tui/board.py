"""What the terminal dashboard knows: keys with their tightest limit, the newest decisions, the last seconds in sums.

Main entry: `Board`; it takes what the API says (`take_*`) and gives rows in the wanted order. Laws: plain data, no
clock, no terminal; memory is bounded (`DECISIONS_MAX`, `SECONDS_KEPT`); money is exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

__all__ = ["DECISIONS_MAX", "SORTS", "Board", "KeyRow", "Limit", "tightest"]

DECISIONS_MAX = 200
SECONDS_KEPT = 60
_RATE_OVER = 5
"""Seconds that a rate is taken over: long enough not to flicker."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One known limit. `left`: 0..1 of it."""

    name: str
    left: float
    remaining: int
    limit: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key. `limit`: the known one with the least left; None: none is known. `pressure`: above 1 it will not last."""

    key_id: str
    label: str
    provider_id: str
    state: str
    until: str
    in_flight: int
    served: int
    failed: int
    limit: Limit | None
    outlook: str
    pressure: float


Sort = Callable[[KeyRow], Any]

SORTS: Mapping[str, Sort] = {
    "forecast": lambda row: (-row.pressure, row.limit.left if row.limit else 2.0, row.label),
    "left": lambda row: (row.limit.left if row.limit else 2.0, row.label),
    "key": lambda row: row.label,
    "state": lambda row: (row.state, row.label),
    "in flight": lambda row: (-row.in_flight, row.label),
    "served": lambda row: (-row.served, row.label),
}
"""Orders of keys, what needs a look first."""


def tightest(pool: Mapping[str, Any]) -> Limit | None:
    """The known limit with the least left."""
    known = [
        Limit(str(one["name"]), max(0, one["remaining"] or 0) / one["limit"], one["remaining"] or 0, one["limit"])
        for one in pool["limits"]
        if one["limit"]
    ]
    return min(known, key=lambda one: one.left, default=None)


@dataclass(slots=True)
class Totals:
    """The last seconds in sums. Rates are per second; `ttft_s`: the newest median and 95th percentile. `spent_usd`:
    since the dashboard was opened; `spend_per_hour_usd`: at the pace of the seconds that are kept."""

    requests_per_s: float = 0.0
    failed_ratio: float = 0.0
    in_flight: int = 0
    ttft_s: Mapping[str, float] | None = None
    spent_usd: Decimal = Decimal(0)
    spend_per_hour_usd: Decimal = Decimal(0)
    history: Sequence[int] = ()


@dataclass(slots=True)
class Board:
    """`sort`, `reverse`, `text`: which keys are shown, and how; `text` is looked for in label, id, provider and state.
    `missed`: events that this listener was too slow for."""

    sort: str = "forecast"
    reverse: bool = False
    text: str = ""
    missed: int = 0
    keys: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    pools: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    decisions: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=DECISIONS_MAX))
    _ids: set[str] = field(default_factory=set)
    _ticks: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=SECONDS_KEPT))
    _spent: Decimal = Decimal(0)
    _ttft: Mapping[str, float] | None = None

    def take_keys(self, keys: Iterable[Mapping[str, Any]]) -> None:
        """All keys, as `/api/v1/keys` lists them."""
        self.keys = {str(key["id"]): key for key in keys}

    def take_pools(self, pools: Iterable[Mapping[str, Any]]) -> None:
        """All quota pools, as `/api/v1/quota` lists them."""
        self.pools = {str(key_id): pool for pool in pools for key_id in pool["key_ids"]}

    def take_decisions(self, newest_last: Iterable[Mapping[str, Any]]) -> None:
        """Finished requests. Those that are known are left out."""
        for row in newest_last:
            if row["id"] not in self._ids:
                self.decisions.appendleft(row)
                self._ids.add(str(row["id"]))
        if len(self._ids) > 2 * DECISIONS_MAX:
            self._ids = {str(row["id"]) for row in self.decisions}

    def take_tick(self, tick: Mapping[str, Any]) -> None:
        """One second in sums."""
        self._ticks.append(tick)
        self._spent += Decimal(str(tick["cost_usd"]))
        self._ttft = tick["ttft_s"] or self._ttft

    def totals(self) -> Totals:
        """See `Totals`."""
        lately = list(self._ticks)[-_RATE_OVER:]
        requests = sum(tick["requests"] for tick in lately)
        spent = sum((Decimal(str(tick["cost_usd"])) for tick in self._ticks), Decimal(0))
        return Totals(
            requests_per_s=requests / max(1, len(lately)),
            failed_ratio=sum(tick["failures"] for tick in lately) / max(1, requests),
            in_flight=int(self._ticks[-1].get("in_flight", 0)) if self._ticks else 0,
            ttft_s=self._ttft,
            spent_usd=self._spent,
            spend_per_hour_usd=spent * 3600 / max(1, len(self._ticks)),
            history=[int(tick["requests"]) for tick in self._ticks],
        )

    def rows(self) -> list[KeyRow]:
        """The keys that are wanted, in the wanted order."""
        wanted = self.text.strip().lower()
        rows = [self._row(key) for key in self.keys.values() if not wanted or wanted in _searched(key)]
        rows.sort(key=SORTS[self.sort], reverse=self.reverse)
        return rows

    def shown_decisions(self) -> list[Mapping[str, Any]]:
        """The decisions that are wanted, newest first: by the same text, in model, key, caller and outcome too."""
        wanted = self.text.strip().lower()
        names = ("model", "provider_id", "key_label", "caller", "outcome", "id")
        return [
            row for row in self.decisions if not wanted or wanted in " ".join(str(row[name]) for name in names).lower()
        ]

    def _row(self, key: Mapping[str, Any]) -> KeyRow:
        pool = self.pools.get(str(key["id"]))
        return KeyRow(
            key_id=str(key["id"]),
            label=str(key["label"]),
            provider_id=str(key["provider_id"]),
            state=str(key["state"]),
            until=str(key["cooldown_until"] or ""),
            in_flight=int(key["in_flight"]),
            served=int(key["usage_count"]),
            failed=int(key["failure_count"]),
            limit=None if pool is None else tightest(pool),
            outlook="" if pool is None else str(pool["outlook"]),
            pressure=0.0 if pool is None else float(pool["pressure"] or 0.0),
        )


def _searched(key: Mapping[str, Any]) -> str:
    return " ".join(str(key[name]) for name in ("label", "id", "provider_id", "state")).lower()
