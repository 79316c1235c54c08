"""What anybody says about a limit, as one value: a provider's headers and error bodies, the operator, a list of tiers.

Main entries: `LimitFact`, `ChargeRule`, `LimitDialect`. Dialects (how each provider speaks of its limits) produce the
facts; `domain.quota` alone decides what to believe. A fact names what it was told and leaves out what it was not: None
is "not said", never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.resilience.failures import Failure

__all__ = ["DAY_S", "MINUTE_S", "MONTH_S", "ChargeRule", "Dimension", "LimitDialect", "LimitFact", "Refill", "Source"]

MINUTE_S = 60.0
DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
"""Stands for a calendar month, whatever its length."""


class Dimension(StrEnum):
    """What is counted. Concurrency: requests under way. Spend: nano-USD. Tokens: input and output together."""

    Requests = "requests"
    InputTokens = "input_tokens"
    OutputTokens = "output_tokens"
    Tokens = "tokens"
    Concurrency = "concurrency"
    Spend = "spend"


class Refill(StrEnum):
    """How capacity comes back. Continuous: a token bucket, limit / period all the time. Rolling: what was taken leaves
    one period later. Fixed: everything at the end of a window that began with its first request or at any other time.
    Calendar: at the border of a minute, hour, day or month in the provider's time zone."""

    Continuous = "continuous"
    Rolling = "rolling"
    Fixed = "fixed"
    Calendar = "calendar"


class Source(StrEnum):
    """Who says so, most trusted first."""

    Header = "header"
    ErrorBody = "error_body"
    Configured = "configured"
    Tier = "tier"
    Learned = "learned"


class LimitFact(msgspec.Struct, frozen=True, gc=False):
    """One limit as it was told, once.

    `period_s`: 1, 60, 3600, 86400 ...; 0 for concurrency. `limit`, `remaining`: whole units, `remaining` as of the
    moment when the provider admitted (or refused) the request that the reply belongs to. `reset_s`: seconds from the
    receipt of the reply to what `reset_means`: "full": everything is back; "next": something is back; "window": the
    window ends. `models`: which models share the limit: "" only the one asked for, "*" all of the account, else the
    name of a class of models, such as "claude-sonnet". `refill`: None when the provider does not say. `time_zone`: of
    the calendar ("America/Los_Angeles"). `charged`: what the provider charged this very request, where it says so.
    `fraction`: what was left beyond `remaining`, which is rounded: -1.0..1.0 (`hints.sharpened`), 0.0 if nothing tells.
    Every reply makes a few, so it is a struct: a frozen dataclass takes six times as long to make.
    """

    dimension: Dimension
    period_s: float
    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    reset_means: Literal["full", "next", "window"] = "full"
    models: str = ""
    refill: Refill | None = None
    time_zone: str = "UTC"
    source: Source = Source.Header
    charged: int | None = None
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class ChargeRule:
    """What a provider counts against its limits.

    `output_at_admission`: "cap" charges the caller's `max_tokens` (or, without one, an estimate) when a request is let
    in; "none" charges output as it is generated. `corrected`: whether the charge becomes the true use at the end.
    `cached_input_counts`: whether input read from the cache counts. `refused_count`: whether refused requests count
    against the request limit. `failed_count`: whether requests that failed otherwise do.
    """

    output_at_admission: Literal["cap", "none"] = "cap"
    corrected: bool = False
    cached_input_counts: bool = True
    refused_count: bool = True
    failed_count: bool = True


class LimitDialect(Protocol):
    """How one provider speaks of its limits. Pure; never raises on bad input.

    `charges`: what it counts. `header_limits`: whether successful replies carry limits at all.
    """

    charges: ChargeRule
    header_limits: bool

    def models_sharing(self, model: str) -> str:
        """The name of the limit group that a model belongs to: itself, a class such as "claude-sonnet", or "*"."""
        ...

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """What the headers of a reply say, whatever its status; empty when they say nothing."""
        ...

    def of_failure(self, failure: Failure, headers: Headers, body: bytes, *, utc_now: datetime) -> Sequence[LimitFact]:
        """What a refusal says beyond its headers (limits named in its text or details); those of the headers too."""
        ...

    def of_tier(self, tier: str, model: str) -> Sequence[LimitFact]:
        """The published limits of a tier for a model, source Tier; empty for an unknown tier or model."""
        ...
