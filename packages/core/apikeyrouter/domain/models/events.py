"""Facts that the pipeline tells its observers: frozen, with units, never a secret in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

__all__ = ["KeyMoved", "Observer", "ProviderHealthChanged", "QuotaChanged", "RequestEnded"]


class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """A request finished, well or not.

    `outcome`: "ok" or the error's code. `status`: what a proxy answered. `duration_s`: whole request. `ttft_s`: to the
    first byte of the reply, None when none came. `cost_nano_usd`: settled. `attempts`: (key label, outcome) per send.
    `decision_id`: where its reasons are. `caller`: the virtual key's name, empty when nobody says.
    """

    request_id: str
    operation: str
    model: str
    provider_id: str
    key_label: str
    outcome: str
    status: int
    stream: bool
    duration_s: float
    ttft_s: float | None
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int
    attempts: tuple[tuple[str, str], ...]
    decision_id: str = ""
    caller: str = ""


@dataclass(frozen=True, slots=True)
class KeyMoved:
    """A key changed state. `cause`: the failure class or operator action."""

    key_id: str
    label: str
    provider_id: str
    from_state: str
    to_state: str
    cause: str
    until_s: float | None


@dataclass(frozen=True, slots=True)
class QuotaChanged:
    """The outlook of one limit of a quota pool changed.

    `pool_id`: "provider/pool"; `models`: the model or class of models; `window`: what is limited ("requests per
    minute"). `before`, `after`: capacity states. `alert`: "runs_dry" (it will be dry soon, more likely than not),
    "dry", "all_clear", or None when only the state changed. `outlook`: in words. `limit`, `remaining`: in the window's
    units, None: unknown. `runs_dry_in_s`: seconds until it is dry, as likely as not; `resets_in_s`: until everything
    is back; None: never, or not foreseen.
    """

    pool_id: str
    models: str
    window: str
    before: str
    after: str
    alert: str | None
    outlook: str
    limit: int | None = None
    remaining: int | None = None
    runs_dry_in_s: float | None = None
    resets_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderHealthChanged:
    """A provider stopped answering, or answers again. `before`, `after`: "healthy", "down"; `before` may be "unknown".

    `detail`: the last outcome in words. `latency_s`: of the last look at it, None when there was none. Told to the
    observers' optional method `provider_health(event)`.
    """

    provider_id: str
    before: str
    after: str
    detail: str
    latency_s: float | None


class Observer(Protocol):
    """Is told facts. Called synchronously: keep it short; what it raises is logged and cannot fail a request."""

    def request_ended(self, event: RequestEnded) -> None:
        """Once per request."""
        ...

    def key_moved(self, event: KeyMoved) -> None:
        """Once per state change."""
        ...
