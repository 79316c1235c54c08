"""How much a key's quota pool has left, as users see it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

__all__ = ["CapacityEstimate", "CapacityState", "QuotaState", "TimeWindow"]


class TimeWindow(StrEnum):
    """The period of a limit. Calendar periods start at 00:00 UTC (week: Monday). Total never resets."""

    Minute = "minute"
    Hourly = "hourly"
    Daily = "daily"
    Weekly = "weekly"
    Monthly = "monthly"
    Total = "total"


class CapacityState(StrEnum):
    """A word for the headroom of a pool: the state weights routing, only Exhausted excludes."""

    Abundant = "abundant"
    Constrained = "constrained"
    Critical = "critical"
    Exhausted = "exhausted"
    Recovering = "recovering"
    Unknown = "unknown"


class CapacityEstimate(BaseModel):
    """An amount of capacity. `value` is None while nothing is known; `confidence` 0..1; `source` says who told."""

    value: int | None = None
    confidence: float = Field(default=0.0, ge=0, le=1)
    source: str = "unknown"


class QuotaState(BaseModel):
    """The quota pool behind one key.

    `remaining_capacity` and `total_capacity` count requests in `time_window`; `remaining_tokens` and `total_tokens`
    count tokens. Each is None while neither the provider nor the configuration has said. `used_requests` and
    `used_tokens`: what this router settled in the window. `in_flight`: requests under way.
    """

    key_id: str
    pool_id: str
    capacity_state: CapacityState
    remaining_capacity: CapacityEstimate
    total_capacity: int | None = None
    remaining_tokens: int | None = None
    total_tokens: int | None = None
    used_requests: int = 0
    used_tokens: int = 0
    in_flight: int = 0
    time_window: TimeWindow = TimeWindow.Minute
    reset_at: datetime | None = None
    updated_at: datetime
