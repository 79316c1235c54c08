"""`RouterSettings`: how a router behaves. Frozen; built once, from arguments, then the environment, then defaults.

Environment variables are the field names in capitals with `APIKEYROUTER_` in front. `LOG_LEVEL` and `REQUEST_TIMEOUT`
are read too, where the prefixed variable is not set. Empty variables count as not set; others are not looked at.
Laws: every fault is reported together, as one ConfigurationError, with the variable that it came from; unknown
arguments are refused; no file is read but the one that `prices_file` names.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, PrivateAttr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from apikeyrouter.domain.cost.overrides import PriceOverride, read_overrides
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.routing_decision import ObjectiveType
from apikeyrouter.domain.routing.deployments import Deployment
from apikeyrouter.domain.routing.objectives import Values
from apikeyrouter.domain.routing.policy import Policy
from apikeyrouter.infrastructure.config.documents import deployments_given, groups_given, policies_given
from apikeyrouter.muxer.groups import ModelGroup, Strategy

__all__ = ["RESTART_FIELDS", "RouterSettings"]

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_PREFIX = "APIKEYROUTER_"
_BARE_NAMES = {
    "log_level": "LOG_LEVEL",
    "request_timeout_s": "REQUEST_TIMEOUT",
    "default_routing_strategy": "DEFAULT_ROUTING_STRATEGY",
    "cascade_routing_enabled": "CASCADE_ROUTING_ENABLED",
}
RESTART_FIELDS = (
    "log_level", "health_check_s", "hedge", "tokenizer_downloads", "soft_budgets_without_store", "decision_log_max",
    "quota_wait_s", "waiting_max", "considered_max", "shadow_objective", "response_max_bytes",
)  # fmt: skip
"""Settings that a running router cannot take over: they shape parts that live as long as it does."""

_SYNONYMS = {"WARN": "WARNING", "FATAL": "CRITICAL"}  # as Python's logging names them too


def _prices_given(given: object) -> tuple[PriceOverride, ...]:
    """Overrides from JSON text or objects. Raises ValueError with every fault."""
    if isinstance(given, tuple) and all(isinstance(one, PriceOverride) for one in given):
        return given
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError as fault:
            raise ValueError(f"is not JSON: {fault.msg} at character {fault.pos}") from None
    return read_overrides(given)


def _prices_in(path: Path) -> tuple[PriceOverride, ...]:
    """Overrides of a JSON file, or of a TOML file with [[prices]] tables. Raises ValueError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if path.suffix.lower() != ".toml":
        return _prices_given(text)
    try:
        return read_overrides(tomllib.loads(text).get("prices", []))
    except tomllib.TOMLDecodeError as fault:
        raise ValueError(f"{path} is not TOML: {fault}") from None


def _strategy_given(given: object) -> Strategy:
    if not isinstance(given, str):
        raise ValueError("expected the name of a strategy")  # noqa: TRY004 - pydantic reads ValueErrors
    return Strategy.named(given)


class _BareNames(PydanticBaseSettingsSource):
    """Variables without our prefix, which other programs share: they count least."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - its base's
        """The variable's text or None, the field's name, and False: the text needs no JSON decoding."""
        name = _BARE_NAMES.get(field_name)
        return (os.environ.get(name) or None) if name else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """What is set, by field name."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: text for name, text in found.items() if text is not None}


class RouterSettings(BaseSettings):
    """Settings of one router. Raises ConfigurationError listing every fault."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    log_level: LogLevel = "INFO"
    """Level of the logger "apikeyrouter", in any case: DEBUG, INFO, WARNING (or WARN), ERROR, CRITICAL (or FATAL)."""

    attempts_max: int = Field(3, ge=1, le=20)
    """The most sends per request that faults of a provider may cost, the first one included; 1 turns failover off.

    Keys that are refused for their own sake (rate limit, credit, revoked) do not count, up to 12 sends in all."""

    request_timeout_s: float = Field(600.0, gt=0, le=86_400)
    """Seconds for a whole request, waiting and failover included. Also read from `REQUEST_TIMEOUT`."""

    connect_timeout_s: float = Field(5.0, gt=0, le=300)
    """Seconds for DNS, TCP and TLS of one connection together."""

    first_byte_timeout_s: float = Field(300.0, gt=0, le=86_400)
    """Seconds from a request sent to the first byte of its reply: long, because models think before they answer."""

    idle_timeout_s: float = Field(120.0, gt=0, le=86_400)
    """Seconds between two reads of a reply's body."""

    retry_unanswered: bool = True
    """Whether a request that was sent, and got no byte back, is sent again with another key. The first send may then be
    billed as well; the ledger charges both."""

    health_check_s: float = Field(0.0, ge=0, le=86_400)
    """Seconds between two looks at each provider (its list of models, which costs nothing); 0: none, and its health is
    what requests tell."""

    hedge: bool = False
    """Whether a request that has waited longer than nineteen of twenty is sent a second time, elsewhere, where the time
    saved is worth more than the reply that is thrown away; at most one request in fifty. Both sends are charged."""

    budget_wait_s: float = Field(30.0, ge=0, le=3_600)
    """Seconds that a request may wait for budget that running requests hold; 0 refuses it at once."""

    clamp_output: bool = True
    """Whether `max_tokens` may be lowered when a hard budget has room for a shorter reply only; the decision, the
    response and a header say so. Off: such requests are refused with the largest output that would fit."""

    clamp_min_tokens: int = Field(16, ge=1, le=1_000_000)
    """A reply shorter than this is not worth its input: such a request is refused instead."""

    tokenizer_downloads: bool = False
    """Whether the exact tokenizer (extra `tokens`) may fetch a provider's vocabulary that is not in its cache."""

    soft_budgets_without_store: bool = True
    """Whether soft budgets let requests through, counted, while the store cannot be reached. Hard ones never do beyond
    what this process has leased."""

    rotation_overlap_s: float = Field(300.0, ge=0, le=86_400)
    """Seconds that a replaced secret still counts after a rotation; 0: none."""

    decision_log_max: int = Field(10_000, ge=1, le=1_000_000)
    """Decisions kept in memory for explanations; the oldest go first."""

    quota_wait_s: float = Field(10.0, ge=0, le=3600)
    """Seconds that a request may wait while every key that could serve it is at a rate limit; 0 refuses it at once. It
    waits only if it would be served in time."""

    waiting_max: int = Field(1_000, ge=0, le=100_000)
    """Requests that may wait for quota at a time; beyond that they are refused with the time to come back."""

    considered_max: int = Field(24, ge=2, le=1_000)
    """Candidates that one decision looks at. Pools up to this size are looked at whole."""

    default_objective: ObjectiveType = ObjectiveType.Fairness
    """The objective of requests that name none."""

    value_failure_usd: float = Field(0.01, ge=0, allow_inf_nan=False)
    """What avoiding one failed attempt is worth, in dollars; see `domain.routing.objectives`."""

    value_latency_usd_per_s: float = Field(0.001, ge=0, allow_inf_nan=False)
    """What one second less to the first token is worth, in dollars."""

    value_load_usd: float = Field(0.0005, ge=0, allow_inf_nan=False)
    """What one request fewer in flight on the chosen key is worth, in dollars."""

    value_turn_usd: float = Field(0.0005, ge=0, allow_inf_nan=False)
    """What keeping to turns is worth, in dollars per turn out of order."""

    value_quota_usd: float = Field(0.01, ge=0, allow_inf_nan=False)
    """What the last unit of a quota pool is worth above its price, in dollars."""

    shadow_objective: ObjectiveType | None = None
    """An objective that is asked beside the real one and not obeyed; decisions say whom it would have chosen."""

    response_max_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """The largest reply body that is accepted, in bytes; a provider that sends more is cut off."""

    prices: Annotated[tuple[PriceOverride, ...], NoDecode, PlainValidator(_prices_given)] = ()
    """Prices of your own, which go before the list's: a list of objects, or JSON text of one; see
    `domain.cost.overrides`. Dollars with their unit: `{"provider": "openai", "model": "gpt-4o", "unit": "per_1m",
    "input": "2.50", "output": "10"}`."""

    prices_file: Path | None = None
    """A file with more of them: JSON, or TOML with `[[prices]]` tables. Read once."""

    policies: Annotated[tuple[Policy, ...], NoDecode, PlainValidator(policies_given)] = ()
    """What the operator allows and wants, see `domain.routing.policy`: a list of objects, JSON text of one, or the name
    of a JSON or TOML file (`[[policies]]` tables). What is set here cannot be changed while the router runs."""

    deployments: Annotated[tuple[Deployment, ...], NoDecode, PlainValidator(deployments_given)] = ()
    """Names that stand for several models, and fallbacks, see `domain.routing.deployments`; given as `policies`."""

    model_groups: Annotated[tuple[ModelGroup, ...], NoDecode, PlainValidator(groups_given)] = ()
    """Groups of models among which `auto` chooses, see `muxer.groups`; given as `policies`. The group `default` is what
    `auto` means; without it, a weak and a strong model of every known provider that has keys."""

    default_routing_strategy: Annotated[Strategy, PlainValidator(_strategy_given)] = Strategy.Hybrid
    """How `auto` chooses where neither the request nor its group says: heuristic, cost_optimized, quality, balanced,
    latency, hybrid or cascade. Also read from `DEFAULT_ROUTING_STRATEGY`."""

    cascade_routing_enabled: bool = True
    """Whether requests may ask for a cascade, which may pay for several answers. Also read from
    `CASCADE_ROUTING_ENABLED`."""

    muxer_model: Path | None = None
    """A file of a predictor of your own for `auto`, as `apikeyrouter muxer train` writes it. Read once."""

    _prices_of_file: tuple[PriceOverride, ...] = PrivateAttr(())

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as invalid:
            # Inputs stay out of the message: a mistyped variable may hold a secret.
            errors = invalid.errors(include_url=False, include_input=False)
            raise ConfigurationError([_fault(error["loc"], error["msg"], given) for error in errors]) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - files are the proxy's business
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then prefixed variables, then bare ones."""
        return init_settings, env_settings, _BareNames(settings_cls)

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, given: object) -> object:
        return _SYNONYMS.get(given.strip().upper(), given.strip().upper()) if isinstance(given, str) else given

    @field_validator("prices_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            _prices_in(path)
        return path

    @field_validator("muxer_model")
    @classmethod
    def _sound(cls, path: Path | None) -> Path | None:
        if path is not None:
            from apikeyrouter.muxer.trained import load  # only who has one needs it before the first request for `auto`

            try:
                load(path)
            except ConfigurationError as fault:
                raise ValueError(" ".join(fault.faults)) from None
        return path

    def model_post_init(self, _: Any, /) -> None:
        """Reads the price file."""
        if self.prices_file is not None:
            self._prices_of_file = _prices_in(self.prices_file)

    @property
    def price_overrides(self) -> tuple[PriceOverride, ...]:
        """Prices of the settings, then those of the file."""
        return (*self.prices, *self._prices_of_file)

    @property
    def values(self) -> Values:
        """What things are worth, for the scorer."""
        return Values(
            self.value_failure_usd,
            self.value_latency_usd_per_s,
            self.value_load_usd,
            self.value_turn_usd,
            self.value_quota_usd,
        )

    @classmethod
    def from_any(cls, given: RouterSettings | Mapping[str, Any] | None) -> RouterSettings:
        """Settings as they are, or built from a mapping of fields, or from the environment and defaults."""
        if isinstance(given, RouterSettings):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError([f"config: expected RouterSettings or a mapping, not {type(given).__name__}"])
        return cls(**dict(given or {}))


def _fault(place: tuple[int | str, ...], message: str, given: Mapping[str, Any]) -> str:
    """One line about one field, with the variable that set it if no argument did."""
    field = str(place[0]) if place else ""
    message = message.removeprefix("Value error, ")
    if field in RouterSettings.model_fields and field not in given:
        prefixed = f"{_PREFIX}{field.upper()}"
        variable = prefixed if os.environ.get(prefixed) else _BARE_NAMES.get(field, prefixed)
        return f"{field} (from the environment variable {variable}): {message}"
    if field not in RouterSettings.model_fields:
        return f"{field}: there is no such setting; known are {', '.join(sorted(RouterSettings.model_fields))}"
    return f"{'.'.join(str(part) for part in place)}: {message}"
