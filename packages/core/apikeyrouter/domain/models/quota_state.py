"""How much a key's quota pool has left, and when it runs dry, as users see it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

__all__ = [
    "CapacityEstimate",
    "CapacityState",
    "ExhaustionPrediction",
    "LimitState",
    "PoolState",
    "QuotaState",
    "TimeWindow",
]


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


class ExhaustionPrediction(BaseModel):
    """When a limit will be reached at the demand foreseen.

    `chance_10s`, `chance_60s`, `chance_before_reset`: probabilities 0..1 that it runs dry within that time; the last is
    None without a reset. `p10_s`, `p50_s`, `p90_s`: seconds by which it is dry with that probability, None: not before
    the reset, or not within an hour. `demand_per_s`: units a second that are expected in the next minute. `pressure`:
    0 with plenty left, 1 when the demand takes exactly what there is, up to 10. `text`: "runs dry in 4 m (2-9 m),
    resets in 11 m".
    """

    chance_10s: float = Field(ge=0, le=1)
    chance_60s: float = Field(ge=0, le=1)
    chance_before_reset: float | None = Field(default=None, ge=0, le=1)
    p10_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None
    resets_in_s: float | None = None
    demand_per_s: float = 0.0
    pressure: float = 0.0
    text: str


class LimitState(BaseModel):
    """One limit of a pool. `name`: "requests per minute". `models`: which models share it ("*": all). `limit` is None
    while it is only counted. `used`: settled in the running period or, for a bucket, not flowed back yet; `held`: of
    running requests. `refill`: continuous, rolling, fixed or calendar. `age_s`: since the provider last said
    something about it, None: never. `foreign_per_minute`: what others seem to take of it. `resets_in_s`: seconds until
    everything is back, as the provider told; None: it did not, or that time is over."""

    name: str
    models: str
    limit: int | None
    remaining: int | None
    used: int
    held: int
    period_s: float
    refill: str
    source: str
    confidence: float = Field(ge=0, le=1)
    age_s: float | None = None
    foreign_per_minute: float = 0.0
    resets_in_s: float | None = None
    state: CapacityState = CapacityState.Unknown
    prediction: ExhaustionPrediction | None = None


class QuotaState(BaseModel):
    """The quota pool behind one key.

    `remaining_capacity` and `total_capacity` count requests in `time_window`; `remaining_tokens` and `total_tokens`
    count tokens. Each is None while neither the provider nor the configuration has said. `used_requests` and
    `used_tokens`: what this router settled in the window. `in_flight`: requests under way. `limits`: every limit known.
    `outlook`: the tightest limit's, in words, `outlook_limit`: which one that is; a key that rests says that first.
    `shared_with`: other keys of the pool.
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
    outlook: str = ""
    outlook_limit: str = ""
    limits: list[LimitState] = Field(default_factory=list)
    shared_with: list[str] = Field(default_factory=list)


class PoolState(BaseModel):
    """One quota pool: its keys, limits and outlook. `outlook_limit`: the limit that the outlook is of ("tokens per
    minute, gpt-4o"); empty: nothing is foreseen. `capacity_state` is exhausted, too, where every key rests after a
    failure with room left in its limits; `outlook` then says for how long. `suspected_same`: pools whose reports fall
    together with those of this one: most likely one account, whose keys should be given the same `quota_pool`.
    `burst_horizon_s`: over how many seconds the provider seems to count (60: as it says)."""

    pool_id: str
    provider_id: str
    key_ids: list[str]
    key_labels: list[str]
    capacity_state: CapacityState
    outlook: str
    outlook_limit: str = ""
    pressure: float = 0.0
    in_flight: int = 0
    burst_horizon_s: float = 60.0
    limits: list[LimitState] = Field(default_factory=list)
    suspected_same: list[str] = Field(default_factory=list)
