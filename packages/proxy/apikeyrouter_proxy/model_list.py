"""The list of models that `/v1/models` answers, from a cache.

Providers are asked in the background at the start and then at most every ten minutes; a request never waits for them,
except the very first one while nothing is known yet. When a provider cannot answer, what it said last stays.
Deployment groups, and groups of models among which `auto` chooses, are models too: requests may name them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from apikeyrouter.domain.errors import RouterError
from apikeyrouter.muxer.groups import DEFAULT
from apikeyrouter.router import ApiKeyRouter

__all__ = ["ModelList"]

_OWNER = "apikeyrouter"
"""Whose models deployments are."""

_FRESH_S = 600.0
_FIRST_WAIT_S = 5.0


class ModelList:
    """Models by id, as OpenAI model objects."""

    def __init__(self, router: ApiKeyRouter) -> None:
        self._router = router
        self._models: dict[str, dict[str, Any]] = {}
        self._asked_s: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def all(self) -> list[dict[str, Any]]:
        """Every known model and deployment, sorted by id."""
        self.refresh()
        if not self._models and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=_FIRST_WAIT_S)
        known = {**self._models, **self._deployments()}
        return [known[name] for name in sorted(known)]

    async def find(self, model: str) -> dict[str, Any] | None:
        """One model, with or without a provider prefix."""
        await self.all()
        _, bare = self._router.directory.split_model(model)
        return self._deployments().get(model) or self._models.get(model) or self._models.get(bare)

    def _deployments(self) -> dict[str, dict[str, Any]]:
        """Names that stand for other models, and groups among which one is chosen; deployments that only have fallbacks
        are their providers' models."""
        names = [one.name for one in self._router.directory.deployments.all() if one.targets]
        groups = self._router.settings.model_groups
        names += ["auto" if group.name == DEFAULT else f"auto/{group.name}" for group in groups]
        return {name: {"id": name, "object": "model", "owned_by": _OWNER} for name in names}

    def refresh(self) -> None:
        """Asks the providers in the background, when the list is old."""
        now_s = self._router.now_s()
        if self._asking is None and (self._asked_s is None or now_s - self._asked_s > _FRESH_S):
            self._asked_s = now_s
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="model-list")

    def forget_age(self) -> None:
        """Keys or providers changed: the next look asks again."""
        self._asked_s = None

    async def aclose(self) -> None:
        """Ends a running question."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            found = await self._router.list_models()
        except RouterError:
            found = []
        finally:
            self._asking = None
        self._models.update({model["id"]: model for model in found})
        if not found:
            self._asked_s = None
