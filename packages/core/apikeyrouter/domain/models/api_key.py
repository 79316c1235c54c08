"""A key as users see it: everything about it except its secret."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["APIKey", "KeyState", "StateTransition"]


class KeyState(StrEnum):
    """Where a key stands. The table of transitions is `domain.keys.states`.

    Available: serves. Throttled: asked to slow down, until a time. Exhausted: its quota, credit or spend cap is used
    up, until a time or an operator. Recovering: one probe decides. Disabled: switched off by an operator. Invalid: the
    provider refuses the secret. Retired: revoked for good.
    """

    Available = "available"
    Throttled = "throttled"
    Exhausted = "exhausted"
    Recovering = "recovering"
    Disabled = "disabled"
    Invalid = "invalid"
    Retired = "retired"


class StateTransition(BaseModel):
    """One line of a key's audit trail.

    `trigger`: the event's name. `cause`: the failure class or operator action behind it. `evidence`: status, provider
    code, request id: facts, never bodies. `until`: when the new state ends by itself, if it does. `actor`: "provider",
    "clock" or who acted.
    """

    model_config = ConfigDict(frozen=True)

    entity_type: str = "api_key"
    entity_id: str
    from_state: KeyState
    to_state: KeyState
    transition_timestamp: datetime
    trigger: str
    cause: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)
    until: datetime | None = None
    actor: str = "provider"


class APIKey(BaseModel):
    """A registered key. It never holds the secret, so it may be printed, logged and sent.

    `label`: a short name that is safe to show. `pool_id`: the quota pool whose limits it shares. `cooldown_until`:
    when the last of its waits ends. `limited_models`: waits of single models, when only those rest. `version`: 1 for
    the first secret, one more per rotation. `metadata`: what was given at registration (`cost_per_1k`, `weight`,
    `models`, `tags` ...).
    """

    id: str
    provider_id: str
    label: str
    pool_id: str
    state: KeyState
    state_reason: str = ""
    state_updated_at: datetime
    created_at: datetime
    last_used_at: datetime | None = None
    usage_count: int = 0
    failure_count: int = 0
    in_flight: int = 0
    cooldown_until: datetime | None = None
    limited_models: dict[str, datetime] = Field(default_factory=dict)
    version: int = 1
    draining_until: datetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
