"""Deployment groups and fallbacks that are set while the router runs: kept in the store, the same in every process.

`DeploymentKeeper` fills the `Deployments` that the directory reads; whoever changes one tells the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from apikeyrouter.domain.components.document_keeper import DocumentKeeper
from apikeyrouter.domain.components.shared_list import Subscribe
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.routing.deployments import Deployment, Deployments, read_deployment

__all__ = ["SETTING", "DeploymentKeeper"]

SETTING = "deployments"
"""The name of the store's setting: a JSON list of deployments as they were written."""


class DeploymentKeeper:
    """Deployments of one router; `book` is what the directory reads. `configured`: those of the configuration.
    `is_model`: whether a name is known to be a provider's own model."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        configured: Iterable[Deployment] = (),
        is_model: Callable[[str], object] | None = None,
    ) -> None:
        self.book = Deployments(configured)
        self.on_change: Callable[[], None] = lambda: None
        self._is_model = is_model
        self._keeper = DocumentKeeper(
            store,
            clock,
            setting=SETTING,
            word="deployment",
            read=read_deployment,
            name_of=lambda one: one.name,
            taken_in=self._take_in,
            configured=self.book.configured,
        )

    async def open(self) -> None:
        """Loads what is stored. Raises StateStoreError."""
        await self._keeper.load()

    def follow(self, subscribe: Subscribe, on_change: Callable[[], None]) -> None:
        """Hears of other processes by `subscribe` (of the store's feed), and tells of other groups by `on_change`."""
        subscribe("setting", self._keeper.changed)
        self.on_change = on_change

    def configure(self, deployments: Iterable[Deployment]) -> None:
        """The configuration's deployments are these from now on."""
        self.book.configure(deployments)
        self.on_change()

    def all(self) -> list[Deployment]:
        """By name."""
        return self.book.all()

    def get(self, name: str) -> Deployment | None:
        """What the name stands for, None for a model without any of this."""
        return self.book.get(name)

    async def set(self, deployment: Mapping[str, Any]) -> Deployment:
        """Adds one, or replaces that of the same name: `set({"name": "fast-chat", "targets": ["openai/gpt-4o-mini",
        "groq/llama-3.3-70b-versatile"], "fallbacks": ["claude-haiku-4-5"]})`.

        Raises ConfigurationError listing every fault; nothing was changed then. Raises StateStoreError.
        """
        found = self.read(deployment)
        await self._keeper.put(found)
        return found

    async def remove(self, name: str) -> bool:
        """Removes one that was set; whether it was there. Raises ConfigurationError for one of the configuration, and
        StateStoreError."""
        return await self._keeper.remove(name)

    def read(self, given: Mapping[str, Any]) -> Deployment:
        """A deployment as it was written. Raises ConfigurationError listing every fault."""
        try:
            return read_deployment(given, self._is_model)
        except ValueError as fault:
            raise ConfigurationError(str(fault).splitlines()) from None

    def _take_in(self, stored: Sequence[Deployment]) -> None:
        self.book.load(stored)
        self.on_change()
