"""What a simulated provider is made of: accounts, limits, speeds, replies, faults; one frozen value, also as JSON.

Main entry: `SimConfig` (defaults: three accounts with one key each, 500 requests and 200,000 tokens a minute);
`load_config` reads it from a JSON file. Unknown fields are refused with their path.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from apikeyrouter.simulation.faults import Fault
from apikeyrouter.simulation.limits import Refill

__all__ = ["AccountConfig", "LimitHeaders", "Limits", "Pace", "SimConfig", "Standing", "load_config"]

_Positive = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(ge=0, le=86_400)]
_Stretch = Annotated[float, Meta(ge=0.1, le=3600)]


class Standing(StrEnum):
    """How an account stands with the provider."""

    Active = "active"
    NoCredit = "no_credit"
    Deactivated = "deactivated"


class LimitHeaders(StrEnum):
    """What replies tell of limits: OpenAI's `x-ratelimit-*`, or nothing, so that a client has to learn them."""

    OpenAI = "openai"
    Nothing = "none"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one account; None means none. Requests a minute, tokens a minute, requests a day. `itpm`, `otpm`: input
    and output tokens a minute, which requests in Anthropic's format are held to.

    `refill`: how what was used comes back. `burst_s`: with a continuous refill, over how many seconds the limits of a
    minute are enforced: no more at once than comes back in so long, whatever the headers say (as Azure and Anthropic
    do); None: over the whole minute. `period_s`: how long the "minute" is, for tests that cannot wait. `headers`: with
    "none" a refusal still says when to come back.
    """

    rpm: _Positive | None = 500
    tpm: _Positive | None = 200_000
    rpd: _Positive | None = None
    itpm: _Positive | None = None
    otpm: _Positive | None = None
    refill: Refill = Refill.Continuous
    burst_s: _Stretch | None = None
    period_s: _Stretch = 60.0
    headers: LimitHeaders = LimitHeaders.OpenAI

    def __post_init__(self) -> None:
        if self.burst_s is None:
            return
        if self.refill is not Refill.Continuous:
            raise ValueError(f"burst_s needs the refill 'continuous', not '{self.refill}'")
        if self.burst_s > self.period_s:
            raise ValueError(f"burst_s must not exceed period_s ({self.period_s:g})")


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast answers come, streamed or whole: seconds to the first token and seconds for each further one."""

    first_token_s: _Seconds = 0.0
    token_s: _Seconds = 0.0


class AccountConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account: limits live here, so all its keys share them. `limits` and `pace` None: the provider's defaults;
    "none": unlimited. `credit_tokens`: tokens it can pay for before `insufficient_quota`; None: no end."""

    name: str
    keys: tuple[str, ...]
    limits: Limits | Literal["none"] | None = None
    pace: Pace | None = None
    standing: Standing = Standing.Active
    credit_tokens: Annotated[int, Meta(ge=0)] | None = None


def _three_accounts() -> tuple[AccountConfig, ...]:
    return tuple(AccountConfig(name=f"account-{i}", keys=(f"sim-key-{i}",)) for i in (1, 2, 3))


class SimConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole provider.

    `seed`: replays replies, ids and chances. `auto_accounts`: any key that begins with `sk-` or `sim-` gets an account
    of its own. `failed_requests_count`: refused requests use up the request limit too, as OpenAI documents.
    `reply_tokens`: least and most tokens of a text reply. `record_last`: requests kept for inspection, 0 for none.
    `context_tokens`: replaces every model's context length.
    """

    seed: int = 1
    accounts: tuple[AccountConfig, ...] = msgspec.field(default_factory=_three_accounts)
    auto_accounts: bool = True
    limits: Limits | Literal["none"] = Limits()
    pace: Pace = Pace()
    failed_requests_count: bool = True
    reply_tokens: tuple[_Positive, _Positive] = (16, 48)
    record_last: Annotated[int, Meta(ge=0, le=100_000)] = 256
    context_tokens: _Positive | None = None
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.reply_tokens[0] > self.reply_tokens[1]:
            raise ValueError("reply_tokens: the first number is the least, it must not exceed the second")


def load_config(path: Path) -> SimConfig:
    """Reads a JSON file. Raises OSError when it cannot be read and ValueError (with the path of the field) when it is
    not a valid configuration."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SimConfig)
    except msgspec.MsgspecError as fault:
        raise ValueError(f"{path}: {fault}") from None
