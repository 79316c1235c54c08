"""The simulated provider that stands in while no key is configured: one for all processes on a store.

Main entry: `Simulation`. Whoever finds no key and no simulation begins one: a server on a loopback port of its own
process, its keys in the store, its address in a setting, so that the other processes serve with it too.
Laws: simulated keys never serve beside a real key; the first process that hears of a real key ends the simulation for
all; an address at which nobody answers any more is that of a process that crashed, and is forgotten with its keys.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter_proxy.providers import SIMULATED

if TYPE_CHECKING:
    from apikeyrouter_proxy.sim_server import SimServer

__all__ = ["SETTING", "Simulation", "clear_away"]

SETTING = "simulation"
"""The name of the store's setting: the base URL of the simulation that runs, or nothing."""

_ANSWERS_WITHIN_S = 1.0


class Simulation:
    """The simulation as one process sees it. `over`: called when it ended, whoever ended it."""

    def __init__(self, router: ApiKeyRouter, over: Callable[[], None]) -> None:
        self._router = router
        self._over = over
        self._server: SimServer | None = None
        self.base_url: str | None = None

    @property
    def ours(self) -> SimServer | None:
        """The server, when this process runs it."""
        return self._server

    async def find(self) -> str | None:
        """The address of a simulation that answers, or None; then its remains are cleared away. Call it before keys are
        loaded. Raises StateStoreError."""
        store = self._router.state_store
        address = (await store.get_setting(SETTING) or b"").decode()
        if address and await _answers(address):
            return address
        await clear_away(store)
        return None

    async def join(self, address: str) -> None:
        """Serves with a simulation that another process runs."""
        await self._router.register_provider(SIMULATED, OpenAIAdapter(address, claims_all=True), overwrite=True)
        self.base_url = address

    async def begin(self) -> SimServer:
        """Runs one here, with its own keys, and tells the others."""
        from apikeyrouter_proxy.sim_server import SimServer  # 36 modules, for those who have no key yet

        server = SimServer()
        await server.start()
        self._server = server
        await self.join(server.base_url)
        for material in server.keys:
            await self._router.register_key(material, SIMULATED, metadata={"simulated": True})
        await self._router.state_store.put_setting(SETTING, server.base_url.encode())
        return server

    def hand_over(self) -> SimServer | None:
        """From now on somebody else keeps the server running."""
        server, self._server = self._server, None
        self.base_url = None
        return server

    async def refresh(self) -> None:
        """Another process may have ended the simulation, or begun one. Raises StateStoreError."""
        address = (await self._router.state_store.get_setting(SETTING) or b"").decode()
        if not address:
            await self._leave()
        elif address != self.base_url and self._server is None:
            await self.join(address)

    async def end(self) -> None:
        """Ends it for everybody: from now on only real keys serve. Does nothing when none runs."""
        if self.base_url is None:
            return
        store, keys = self._router.state_store, self._router.key_manager
        over = [await keys.revoke_key(k.id, reason="the simulation is over") for k in await keys.list_keys(SIMULATED)]
        keys.flush_counters()  # what is posted later would bring a deleted row back
        for key in over:
            await store.delete_key(key.id)
        await store.put_setting(SETTING, b"")
        await self._leave()

    async def close(self) -> None:
        """The process ends, and with it the simulation that it runs; another process's goes on."""
        if self._server is not None:
            await self.end()

    async def _leave(self) -> None:
        if self.base_url is None:
            return
        self.base_url = None
        self._router.directory.unregister(SIMULATED)
        server, self._server = self._server, None
        self._over()
        if server is not None:
            await server.stop()


async def clear_away(store: StateStore) -> None:
    """Forgets a simulation that ended without saying so. Raises StateStoreError."""
    for row in await store.load_keys():
        if row.provider_id == SIMULATED:
            await store.delete_key(row.key_id)
    if await store.get_setting(SETTING):
        await store.put_setting(SETTING, b"")


async def _answers(address: str) -> bool:
    """Whether a simulated provider listens there."""
    parts = urlsplit(address)
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(b"GET /_sim/faults HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b'"faults"' in await reader.read()
            finally:
                writer.close()
    return False
