"""`RouterSettings`: how a router behaves. Frozen; built once, from arguments, then the environment, then defaults.

Environment variables are the field names with `APIKEYROUTER_` in front; `LOG_LEVEL` and `REQUEST_TIMEOUT` are read too.
Every fault is reported together, as one ConfigurationError; unknown arguments are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.routing_decision import ObjectiveType
from apikeyrouter.domain.routing.objectives import Values

__all__ = ["RouterSettings"]

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _also(name: str, alias: str) -> AliasChoices:
    return AliasChoices(name, f"apikeyrouter_{name}", alias)


class RouterSettings(BaseSettings):
    """Settings of one router. Raises ConfigurationError listing every fault.

    `log_level`: of the logger "apikeyrouter". `attempts_max`: sends per request. `request_timeout_s`: a whole request,
    failover included. `connect_timeout_s`: DNS, TCP and TLS of one connection. `first_byte_timeout_s`: from request sent
    to first byte. `idle_timeout_s`: between two reads of a reply. `retry_unanswered`: send again, with another key, what
    was sent and got no byte back; it may then be billed twice, and the ledger charges both. `rotation_overlap_s`: how
    long a replaced secret still counts. `decision_log_max`: decisions kept in memory. `considered_max`: candidates that a
    decision looks at; pools up to this size are looked at whole. `default_objective`: for requests that name none.
    `value_*_usd`: what a failed attempt, a second to the first token, a request in flight and a turn out of order are
    worth: see `domain.routing.objectives`. `response_max_bytes`: largest reply body that is accepted.
    """

    model_config = SettingsConfigDict(
        env_prefix="APIKEYROUTER_", extra="forbid", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    log_level: LogLevel = Field("INFO", validation_alias=_also("log_level", "log_level"))
    attempts_max: int = Field(3, ge=1, le=20)
    request_timeout_s: float = Field(
        600.0, gt=0, le=86_400, validation_alias=_also("request_timeout_s", "request_timeout")
    )
    connect_timeout_s: float = Field(5.0, gt=0, le=300)
    first_byte_timeout_s: float = Field(300.0, gt=0, le=86_400)
    idle_timeout_s: float = Field(120.0, gt=0, le=86_400)
    retry_unanswered: bool = True
    rotation_overlap_s: float = Field(300.0, ge=0, le=86_400)
    decision_log_max: int = Field(10_000, ge=1, le=1_000_000)
    considered_max: int = Field(24, ge=2, le=1_000)
    default_objective: ObjectiveType = ObjectiveType.Fairness
    value_failure_usd: float = Field(0.01, ge=0)
    value_latency_usd_per_s: float = Field(0.001, ge=0)
    value_load_usd: float = Field(0.0005, ge=0)
    value_turn_usd: float = Field(0.0005, ge=0)
    response_max_bytes: int = Field(64 * 1024 * 1024, ge=1024)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as invalid:
            raise ConfigurationError(
                [
                    f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}"
                    for e in invalid.errors(include_url=False, include_input=False)
                ]
            ) from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, given: object) -> object:
        return given.upper() if isinstance(given, str) else given

    @property
    def values(self) -> Values:
        """What things are worth, for the scorer."""
        return Values(
            self.value_failure_usd, self.value_latency_usd_per_s, self.value_load_usd, self.value_turn_usd
        )

    @classmethod
    def from_any(cls, given: RouterSettings | Mapping[str, Any] | None) -> RouterSettings:
        """Settings as they are, or built from a mapping of fields, or from the environment and defaults."""
        if isinstance(given, RouterSettings):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError([f"config: expected RouterSettings or a mapping, not {type(given).__name__}"])
        return cls(**dict(given or {}))
