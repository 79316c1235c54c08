"""`SyncApiKeyRouter`: the router for scripts without an event loop.

One background thread runs one loop and one `ApiKeyRouter`; each method hands its call over and waits. It is a door, not
a second copy: everything behind it is the asynchronous code. Usable from any number of threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar

from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.models.api_key import APIKey
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision, RoutingObjective
from apikeyrouter.domain.models.system_response import SystemResponse
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.responses import StreamChunk
from apikeyrouter.router import ApiKeyRouter

__all__ = ["SyncApiKeyRouter"]

T = TypeVar("T")


class SyncApiKeyRouter:
    """Blocking methods with the names and errors of `ApiKeyRouter`. Close it, or use it in a `with` block."""

    def __init__(
        self, state_store: StateStore | None = None, config: RouterSettings | Mapping[str, Any] | None = None
    ) -> None:
        self._router = ApiKeyRouter(state_store, config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apikeyrouter-sync", daemon=True)
        self._thread.start()

    def __enter__(self) -> SyncApiKeyRouter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def router(self) -> ApiKeyRouter:
        """The asynchronous router behind it, for `run`."""
        return self._router

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs any coroutine of the router on its loop: `sync.run(sync.router.key_manager.list_keys())`."""
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("This SyncApiKeyRouter is closed; make a new one.")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def register_provider(self, provider_id: str, adapter: ProviderAdapter, overwrite: bool = False) -> None:
        """See `ApiKeyRouter.register_provider`."""
        self.run(self._router.register_provider(provider_id, adapter, overwrite))

    def register_key(
        self, key_material: str, provider_id: str, metadata: Mapping[str, Any] | None = None, label: str | None = None
    ) -> APIKey:
        """See `ApiKeyRouter.register_key`."""
        return self.run(self._router.register_key(key_material, provider_id, metadata, label))

    def create_budget(
        self,
        scope: BudgetScope,
        limit: Decimal,
        period: TimeWindow = TimeWindow.Daily,
        scope_id: str | None = None,
        enforcement_mode: EnforcementMode = EnforcementMode.Hard,
    ) -> Budget:
        """See `CostController.create_budget`."""
        return self.run(
            self._router.cost_controller.create_budget(
                scope=scope, limit=limit, period=period, scope_id=scope_id, enforcement_mode=enforcement_mode
            )
        )

    def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them."""
        return self.run(self._router.key_manager.list_keys(provider_id))

    def route(
        self, intent: RequestIntent | Mapping[str, Any], objective: RoutingObjective | str | None = None
    ) -> SystemResponse:
        """See `ApiKeyRouter.route`."""
        return self.run(self._router.route(intent, objective))

    def route_stream(
        self, intent: RequestIntent | Mapping[str, Any], objective: RoutingObjective | str | None = None
    ) -> Iterator[StreamChunk]:
        """See `ApiKeyRouter.route_stream`; a plain iterator. Leaving it early stops the provider."""
        stream = self._router.route_stream(intent, objective)
        done = object()

        async def following() -> object:
            return await anext(stream, done)

        try:
            while (chunk := self.run(following())) is not done:
                if isinstance(chunk, StreamChunk):
                    yield chunk
        finally:
            self.run(stream.aclose())

    def get_decision(self, decision_or_request_id: str) -> RoutingDecision | None:
        """See `ApiKeyRouter.get_decision`."""
        return self.run(self._router.get_decision(decision_or_request_id))

    def close(self) -> None:
        """Writes what is pending and ends the thread. Idempotent."""
        if self._loop.is_closed():
            return
        self.run(self._router.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
