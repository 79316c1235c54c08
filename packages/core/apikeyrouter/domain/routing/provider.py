"""A registered provider as routing sees it: an id, an adapter, and a breaker per model."""

from __future__ import annotations

from dataclasses import dataclass, field

from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter, ProviderCapabilities
from apikeyrouter.domain.resilience.breaker import Breaker
from apikeyrouter.domain.resilience.retry import RetryBudget

__all__ = ["Provider"]


@dataclass(slots=True)
class Provider:
    """`capabilities`: as the adapter declared them at registration. `breakers`: one per model, made on first use.
    `retry_budget`: what failures of this provider may cost in sends."""

    provider_id: str
    adapter: ProviderAdapter
    breakers: dict[str, Breaker] = field(default_factory=dict)
    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    capabilities: ProviderCapabilities = field(init=False)

    def __post_init__(self) -> None:
        self.capabilities = self.adapter.get_capabilities()

    def breaker(self, model: str) -> Breaker:
        """The breaker of one model at this provider."""
        found = self.breakers.get(model)
        if found is None:
            found = self.breakers[model] = Breaker()
        return found
