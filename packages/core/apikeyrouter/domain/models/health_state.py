"""Whether a provider or store answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

__all__ = ["HealthState", "HealthStatus"]


class HealthStatus(StrEnum):
    """Healthy: answers as it should. Degraded: answers, with faults. Down: does not answer."""

    Healthy = "healthy"
    Degraded = "degraded"
    Down = "down"


class HealthState(BaseModel):
    """The result of one look. `latency_ms`: round trip of that look."""

    status: HealthStatus
    last_check: datetime
    latency_ms: float | None = None
    details: dict[str, Any] = Field(default_factory=dict)
