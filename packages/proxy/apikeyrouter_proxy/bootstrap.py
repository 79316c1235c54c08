"""From settings to a running proxy.

Main entry: `open_proxy`. It opens the store, registers providers and the keys of the environment, refuses to run
unprotected, and, when no key was ever registered, starts the embedded simulated provider, so that the first request
works before anybody has a key. `Proxy` is everything that lives as long as the server does.
Laws: what the operator revoked or replaced does not come back from the environment; simulated keys never outlive their
run and never serve beside a real key; `notes` tells in words whatever was decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from random import SystemRandom

from apikeyrouter.domain.errors import KeyRegistrationError, RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter_proxy import logs
from apikeyrouter_proxy.access import Access, check_safe_start
from apikeyrouter_proxy.audit import Audit
from apikeyrouter_proxy.data_plane import DataPlane
from apikeyrouter_proxy.metrics import Metrics
from apikeyrouter_proxy.model_list import ModelList
from apikeyrouter_proxy.providers import SIMULATED, ProviderBook
from apikeyrouter_proxy.revoked import RetiredMaterial
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.sim_server import SimServer
from apikeyrouter_proxy.virtual_keys import VirtualKeys
from apikeyrouter_proxy.webhooks import Webhooks

__all__ = ["Proxy", "open_proxy"]

_log = logging.getLogger("apikeyrouter_proxy")
_FLUSH_EVERY_S = 0.25
_REFRESH_EVERY = 20
"""Virtual keys made by other processes are seen after this many flushes: 5 seconds."""


@dataclass(slots=True)
class Proxy:
    """A running proxy. `draining`: no new work is wanted. `notes`: what happened at the start, for people."""

    settings: ProxySettings
    clock: Clock
    router: ApiKeyRouter
    virtual_keys: VirtualKeys
    access: Access
    data_plane: DataPlane
    models: ModelList
    metrics: Metrics
    request_log: logs.RequestLog
    providers: ProviderBook
    retired: RetiredMaterial
    audit: Audit
    webhooks: Webhooks | None = None
    notes: list[str] = field(default_factory=list)
    simulator: SimServer | None = None
    draining: bool = False
    housekeeper: asyncio.Task[None] | None = None

    async def end_simulation(self) -> None:
        """Stops the simulated provider: from now on only real keys serve. Does nothing when it does not run."""
        simulator, self.simulator = self.simulator, None
        if simulator is None:
            return
        store, keys = self.router.state_store, self.router.key_manager
        over = [await keys.revoke_key(k.id, reason="the simulation is over") for k in await keys.list_keys(SIMULATED)]
        keys.flush_counters()  # what is posted later would bring a deleted row back
        for key in over:
            await store.delete_key(key.id)
        await self.providers.remove(self.router, SIMULATED)
        self.models.forget_age()
        await simulator.stop()

    async def aclose(self) -> None:
        """Ends everything, pending writes included. Call it when no request runs any more."""
        if self.housekeeper is not None:
            self.housekeeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.housekeeper
            self.housekeeper = None
        await self.models.aclose()
        try:
            if self.webhooks is not None:
                await self.webhooks.aclose()
            await self.end_simulation()
        finally:
            self.request_log.flush()
            await self.router.aclose()


async def open_proxy(settings: ProxySettings, clock: Clock | None = None) -> Proxy:
    """Opens everything. Raises ConfigurationError, StateStoreError or SealError; nothing is left open then."""
    clock = clock or SystemClock()
    proxy = _build(settings, clock)
    try:
        await proxy.router.state_store.open()
        await proxy.virtual_keys.open()
        check_safe_start(settings, proxy.virtual_keys)
        await proxy.retired.open()
        first_run = await _forget_old_simulation(proxy.router)
        await proxy.router.register_provider("openai", OpenAIAdapter(settings.openai_base_url))
        await proxy.providers.open(proxy.router)
        proxy.notes += settings.warnings
        proxy.notes += await _take_env_keys(proxy)
        if first_run and not await proxy.router.key_manager.list_keys():
            await _start_simulation(proxy)
        proxy.notes.append(f"State is kept in {proxy.router.state_store.description}.")
    except BaseException:
        await proxy.aclose()
        await proxy.router.state_store.close()
        raise
    if proxy.webhooks is not None:
        proxy.webhooks.start()
    proxy.housekeeper = asyncio.create_task(_keep_house(proxy), name="apikeyrouter-proxy-housekeeping")
    return proxy


def _build(settings: ProxySettings, clock: Clock) -> Proxy:
    json_lines = logs.configure(settings.log_level, settings.log_format)
    metrics = Metrics()
    request_log = logs.RequestLog(
        enabled=settings.log_level in ("DEBUG", "INFO"),
        json_lines=json_lines,
        utc_now_iso=lambda: clock.utc_now().isoformat(timespec="milliseconds"),
    )
    store = open_store(settings.store_url)
    webhooks = Webhooks(settings.webhook, store, clock, SystemRandom()) if settings.webhook else None
    key = settings.encryption_key
    router = ApiKeyRouter(
        store,
        {**settings.router_config, "log_level": settings.log_level},
        observers=[metrics, request_log, *([webhooks] if webhooks else [])],
        clock=clock,
        environ={} if key is None else {"APIKEYROUTER_ENCRYPTION_KEY": key.reveal()},
    )
    virtual_keys = VirtualKeys(store, clock)
    access = Access(settings, virtual_keys, clock)
    return Proxy(
        settings=settings,
        clock=clock,
        router=router,
        virtual_keys=virtual_keys,
        access=access,
        data_plane=DataPlane(router, access, body_limit_bytes=settings.body_limit_bytes),
        models=ModelList(router),
        metrics=metrics,
        request_log=request_log,
        providers=ProviderBook(store),
        retired=RetiredMaterial(store),
        audit=Audit(store, router.journal),
        webhooks=webhooks,
    )


async def _forget_old_simulation(router: ApiKeyRouter) -> bool:
    """Deletes simulated keys that a crash left behind; says whether no other key was ever registered."""
    store = router.state_store
    real = 0
    for row in await store.load_keys():
        if row.provider_id == SIMULATED:
            await store.delete_key(row.key_id)
        else:
            real += 1
    return real == 0


async def _take_env_keys(proxy: Proxy) -> list[str]:
    """Registers the keys of the environment that are not known yet; returns notes."""
    notes, added, known = [], [], 0
    keys = proxy.router.key_manager
    for given in proxy.settings.env_keys:
        if proxy.retired.holds(given.provider_id, given.material):
            notes.append(
                f"The key in {given.variable} was revoked or replaced here and stays out of service. Remove it there, "
                "or register it again through the management API."
            )
            continue
        try:
            if keys.find(given.material.reveal(), given.provider_id) is not None:
                known += 1
                continue
            key = await proxy.router.register_key(
                given.material.reveal(), given.provider_id, metadata={"source": given.variable}
            )
            added.append(f"{key.label} from {given.variable}")
        except KeyRegistrationError as error:
            notes.append(f"The key in {given.variable} was not taken: {error.message}")
    if added:
        notes.append(f"Registered {len(added)} key{'s' * (len(added) > 1)}: {_some(added)}.")
    if known:
        notes.append(
            f"{known} key{'s' * (known > 1)} of the environment {'were' if known > 1 else 'was'} known already."
        )
    return notes


async def _start_simulation(proxy: Proxy) -> None:
    """A provider of our own, on a loopback port, with its own keys."""
    simulator = SimServer()
    await simulator.start()
    proxy.simulator = simulator
    adapter = OpenAIAdapter(simulator.base_url, claims_all=True)
    await proxy.router.register_provider(SIMULATED, adapter, overwrite=True)
    for material in simulator.keys:
        await proxy.router.register_key(material, SIMULATED, metadata={"simulated": True})
    proxy.notes.append(
        "No provider key is configured, so a simulated provider answers with made-up text "
        f"({len(simulator.keys)} keys, {simulator.base_url}). It ends as soon as a real key comes: set OPENAI_API_KEY "
        "and start again, or POST one to /api/v1/keys."
    )


async def _keep_house(proxy: Proxy) -> None:
    """Writes request lines and looks for virtual keys of other processes, until cancelled."""
    turn = 0
    while True:
        await proxy.clock.sleep(_FLUSH_EVERY_S)
        turn += 1
        proxy.request_log.flush()
        if turn % _REFRESH_EVERY == 0:
            try:
                await proxy.virtual_keys.refresh()
            except StateStoreError as error:
                _log.warning("Virtual keys could not be read again: %s", error.message)
            except RouterError as error:
                _log.warning("%s", error.message)


def _some(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
