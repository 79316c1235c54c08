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

__all__ = ["AccountConfig", "Limits", "Pace", "SimConfig", "Standing", "load_config"]

_Positive = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class Standing(StrEnum):
    """How an account stands with the provider."""

    Active = "active"
    NoCredit = "no_credit"
    Deactivated = "deactivated"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one account; None means none. Requests a minute, tokens a minute, requests a day."""

    rpm: _Positive | None = 500
    tpm: _Positive | None = 200_000
    rpd: _Positive | None = None


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
