"""Every error that ApiKeyRouter raises, in one tree.

    RouterError
    ├── SystemError                      a request failed; says why (category), whether a retry can help, and when
    │   ├── NoEligibleKeysError          no key could serve it now; one reason per key, earliest retry_after
    │   ├── BudgetExceededError          a hard budget has no room for it; nothing was sent
    │   ├── ProviderNotRegisteredError   the request names, or implies, a provider that this router does not have
    │   ├── UnknownPriceError            a hard budget applies and the model has no known price
    │   └── UnboundedCostError           a hard budget applies and the request's cost has no upper bound
    ├── KeyRegistrationError             key material or metadata cannot be accepted
    ├── KeyNotFoundError                 no key has this id
    ├── InvalidStateTransitionError      a key cannot go from its state by that event
    ├── ProviderRegistrationError        provider id taken, or adapter unusable
    ├── BudgetNotFoundError, BudgetDefinitionError
    ├── ConfigurationError               settings are wrong; lists every fault
    ├── StateStoreError                  our own store failed (never the caller's fault, never a 401)
    └── SealError                        a stored secret cannot be opened: wrong encryption key, or altered bytes

A message says what happened, why, and what to do. No message ever contains key material.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = [
    "BudgetDefinitionError",
    "BudgetExceededError",
    "BudgetNotFoundError",
    "ConfigurationError",
    "ErrorCategory",
    "InvalidStateTransitionError",
    "KeyNotFoundError",
    "KeyRegistrationError",
    "NoEligibleKeysError",
    "ProviderNotRegisteredError",
    "ProviderRegistrationError",
    "RouterError",
    "SealError",
    "StateStoreError",
    "SystemError",
    "UnboundedCostError",
    "UnknownPriceError",
]


class ErrorCategory(StrEnum):
    """Why a request failed, in terms that a caller can act on."""

    AuthenticationError = "authentication_error"
    RateLimitError = "rate_limit_error"
    QuotaExceededError = "quota_exceeded_error"
    ProviderError = "provider_error"
    TimeoutError = "timeout_error"
    NetworkError = "network_error"
    ValidationError = "validation_error"
    BudgetExceededError = "budget_exceeded_error"
    UnknownError = "unknown_error"


class RouterError(Exception):
    """The root of all errors of this library. `message` is a sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SystemError(RouterError):  # noqa: A001 - the compatibility contract names it
    """A request failed.

    `category`: see `ErrorCategory`. `retryable`: whether sending the same request again can succeed.
    `retry_after`: seconds until that is worth while, None when unknown; always >= 0.
    `provider_code`: the provider's own error code, if it gave one. `status`: the HTTP status that a proxy should answer
    with. `provider_body` and `provider_content_type`: the provider's error body for errors that are the caller's own
    (status 400, 404, 413, 422 ...), passed on untouched.
    """

    def __init__(
        self,
        category: ErrorCategory,
        message: str,
        *,
        provider_code: str | None = None,
        retryable: bool = False,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        status: int = 502,
        provider_body: bytes | None = None,
        provider_content_type: str | None = None,
        decision: RoutingDecision | None = None,
    ) -> None:
        super().__init__(message)
        self.category = category
        self.provider_code = provider_code
        self.retryable = retryable
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after
        self.status = status
        self.provider_body = provider_body
        self.provider_content_type = provider_content_type
        self._decision: RoutingDecision | None = decision
        self._to_decide: Callable[[], RoutingDecision] | None = None

    @property
    def decision(self) -> RoutingDecision | None:
        """What was chosen and rejected before it failed; None where nothing was decided."""
        if self._to_decide is not None:
            self.decision = self._to_decide()
        return self._decision

    @decision.setter
    def decision(self, decision: RoutingDecision | None) -> None:
        self._decision, self._to_decide = decision, None

    def decided_by(self, render: Callable[[], RoutingDecision]) -> None:
        """The decision is what `render` gives, which is called when somebody reads it: most refusals are only counted,
        and rendering costs more than refusing."""
        self._to_decide = render


class NoEligibleKeysError(SystemError):
    """No key can serve the request now.

    Raised also when every key answered 429: then `category` is RateLimitError, and `retry_after` the seconds until the
    first of them may serve again. `reasons` maps each key id to a sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        reasons: Mapping[str, str] | None = None,
        category: ErrorCategory = ErrorCategory.ProviderError,
        retry_after: float | None = None,
        status: int = 503,
        decision: RoutingDecision | None = None,
        provider_code: str | None = None,
    ) -> None:
        self.reasons: dict[str, str] = dict(reasons or {})
        super().__init__(
            category,
            message,
            provider_code=provider_code,
            retryable=retry_after is not None,
            details={"reasons": self.reasons},
            retry_after=retry_after,
            status=status,
            decision=decision,
        )


class BudgetExceededError(SystemError):
    """A hard budget has no room for this request. Nothing was sent and nothing is held.

    Amounts are US dollars. `remaining_budget`: what the tightest violated budget has left, holds of running requests
    taken off. `cost_estimate`: the most that the request could cost. `spent`, `held`, `scope`, `scope_id`, `reset_at`:
    of that budget. `max_output_tokens`: the largest output that would fit now, None when none would.
    """

    def __init__(
        self,
        message: str,
        *,
        remaining_budget: Decimal,
        violated_budgets: Sequence[str],
        cost_estimate: Decimal,
        budget_limit: Decimal,
        spent: Decimal | None = None,
        held: Decimal | None = None,
        scope: str | None = None,
        scope_id: str | None = None,
        reset_at: datetime | None = None,
        max_output_tokens: int | None = None,
        decision: RoutingDecision | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.remaining_budget = remaining_budget
        self.spent = spent
        self.held = held
        self.scope = scope
        self.scope_id = scope_id
        self.reset_at = reset_at
        self.max_output_tokens = max_output_tokens
        self.violated_budgets = list(violated_budgets)
        self.cost_estimate = cost_estimate
        self.budget_limit = budget_limit
        super().__init__(
            ErrorCategory.BudgetExceededError,
            message,
            provider_code="budget_exceeded",
            details={
                "remaining_budget": remaining_budget,
                "violated_budgets": list(violated_budgets),
                "cost_estimate": cost_estimate,
                "budget_limit": budget_limit,
                "spent": spent,
                "held": held,
                "scope": scope,
                "scope_id": scope_id,
                "reset_at": reset_at,
                "max_output_tokens": max_output_tokens,
            },
            retryable=retry_after is not None,
            retry_after=retry_after,
            status=402,
            decision=decision,
        )


class ProviderNotRegisteredError(SystemError):
    """The request names, or its model implies, a provider that is not registered. `registered` lists those that are."""

    def __init__(self, message: str, *, provider_id: str | None, registered: Sequence[str]) -> None:
        self.provider_id = provider_id
        self.registered = list(registered)
        super().__init__(
            ErrorCategory.ValidationError,
            message,
            provider_code="model_not_found",
            details={"provider_id": provider_id, "registered": list(registered)},
            status=404,
        )


class UnknownPriceError(SystemError):
    """A hard budget applies, and no price is known for the model, so what the request may cost cannot be bounded."""

    def __init__(self, message: str, *, model: str, provider_id: str) -> None:
        self.model = model
        self.provider_id = provider_id
        super().__init__(
            ErrorCategory.BudgetExceededError,
            message,
            provider_code="unknown_price",
            details={"model": model, "provider_id": provider_id},
            status=402,
        )


class UnboundedCostError(SystemError):
    """A hard budget applies, and part of the request (`parts`, such as a file by reference) may cost any amount."""

    def __init__(self, message: str, *, model: str, parts: Sequence[str]) -> None:
        self.model = model
        self.parts = list(parts)
        super().__init__(
            ErrorCategory.BudgetExceededError,
            message,
            provider_code="unbounded_cost",
            details={"model": model, "parts": list(parts)},
            status=402,
        )


class KeyRegistrationError(RouterError):
    """Key material or metadata cannot be accepted; nothing was stored."""


class KeyNotFoundError(RouterError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"No key has the id {key_id!r}. `list_keys()` shows the ids that exist.")
        self.key_id = key_id


class InvalidStateTransitionError(RouterError):
    """A key's state machine does not know this event in this state; the state is unchanged."""


class ProviderRegistrationError(RouterError):
    """The provider id is taken or malformed, or the adapter does not implement `ProviderAdapter`."""


class BudgetDefinitionError(RouterError):
    """A budget's scope, limit or period makes no sense; nothing was created."""


class BudgetNotFoundError(RouterError):
    """No budget has this id."""


class ConfigurationError(RouterError):
    """Settings are wrong. `faults` lists every one of them, so that one reading is enough."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("Configuration is not usable:\n" + "\n".join(f"  - {fault}" for fault in faults))


class StateStoreError(RouterError):
    """Our own store failed or is unreachable. A proxy answers 503, never 401."""


class SealError(RouterError):
    """A stored secret cannot be opened: the encryption key is not the one that sealed it, or the bytes were altered."""
