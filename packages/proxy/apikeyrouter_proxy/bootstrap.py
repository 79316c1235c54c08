"""From settings to a running proxy.

Main entry: `open_proxy`. It opens the store, registers providers and the keys of the environment, refuses to run
unprotected, and, when no key was ever registered, starts the embedded simulated provider, so that the first request
works before anybody has a key. A worker opens beside others: what is done once per start was done before. `Proxy` is
everything that lives as long as the server does.
Laws: what the operator revoked or replaced does not come back from the environment; what another process on the store
changes (keys, virtual keys, providers, the simulation) counts here too; `notes` tells in words whatever was decided.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Any

from apikeyrouter.domain.errors import KeyRegistrationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.pinning import Pins
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter_proxy import logs
from apikeyrouter_proxy.access import Access, check_safe_start
from apikeyrouter_proxy.audit import Audit
from apikeyrouter_proxy.batch_watch import BatchWatch
from apikeyrouter_proxy.body_log import BodyLog
from apikeyrouter_proxy.config.keeper import ConfigKeeper
from apikeyrouter_proxy.dashboard.live import LiveHub
from apikeyrouter_proxy.dashboard.relay import Relay
from apikeyrouter_proxy.dashboard.sessions import Sessions
from apikeyrouter_proxy.data_plane import DataPlane
from apikeyrouter_proxy.health_alerts import HealthAlerts, breaker_gauges
from apikeyrouter_proxy.metrics import Gauges, KeyGauge, Metrics
from apikeyrouter_proxy.metrics_board import MetricsBoard
from apikeyrouter_proxy.metrics_model_routing import routing_gauges
from apikeyrouter_proxy.model_list import ModelList
from apikeyrouter_proxy.model_routing_alerts import ModelRoutingAlerts
from apikeyrouter_proxy.providers import SETTING as PROVIDERS
from apikeyrouter_proxy.providers import SIMULATED, ProviderBook, register_configured
from apikeyrouter_proxy.quota_alerts import QuotaAlerts
from apikeyrouter_proxy.revoked import RetiredMaterial
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.simulation import SETTING as SIMULATION
from apikeyrouter_proxy.simulation import Simulation
from apikeyrouter_proxy.tracing import Tracing, open_tracing
from apikeyrouter_proxy.virtual_keys import VirtualKeys
from apikeyrouter_proxy.webhooks import Webhooks

__all__ = ["Proxy", "Seat", "live_gauges", "open_proxy"]

_FLUSH_EVERY_S = 0.25
_CONNECTIONS = ("idle", "active", "waiting")
_SNAPSHOT_EVERY = 4
"""Other workers see this one's metrics after this many flushes at most: 1 second."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place beside others. `number`: 1, 2 ... `board`: where metrics of all workers meet.
    `simulation_over`: tells whoever runs the simulated provider that nobody needs it any more."""

    number: int
    board: MetricsBoard
    simulation_over: Callable[[], None]


@dataclass(slots=True)
class Proxy:
    """A running proxy.

    `draining`: no new work is wanted. `notes`: what happened at the start, for people. `worker`: its number among
    several, 0 when it is alone.
    """

    settings: ProxySettings
    clock: Clock
    router: ApiKeyRouter
    virtual_keys: VirtualKeys
    access: Access
    sessions: Sessions
    live: LiveHub
    data_plane: DataPlane
    models: ModelList
    metrics: Metrics
    request_log: logs.RequestLog
    providers: ProviderBook
    retired: RetiredMaterial
    audit: Audit
    simulation: Simulation
    pins: Pins
    batches: BatchWatch
    alerts: HealthAlerts
    config: ConfigKeeper = field(init=False)
    webhooks: Webhooks | None = None
    tracing: Tracing | None = None
    notes: list[str] = field(default_factory=list)
    worker: int = 0
    draining: bool = False
    housekeeper: asyncio.Task[None] | None = None

    async def catch_up(self) -> None:
        """Returns when everything is known that other processes changed before this call. Raises StateStoreError."""
        await self.router.feed.catch_up()

    def log_bodies(self, share: float, chance: Random) -> None:
        """From the next request on the bodies of this share of requests are logged, 0 to 1."""
        self.data_plane.bodies = (
            BodyLog(share, chance, tell=self.request_log.tell, utc_now_iso=lambda: _now_iso(self.clock))
            if share
            else None
        )

    async def end_simulation(self) -> None:
        """Stops the simulated provider: from now on only real keys serve. Does nothing when it does not run."""
        await self.simulation.end()

    async def aclose(self) -> None:
        """Ends everything, pending writes included. Call it when no request runs any more."""
        self.live.end()
        if self.housekeeper is not None:
            self.housekeeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.housekeeper
            self.housekeeper = None
        await self.batches.aclose()
        await self.models.aclose()
        try:
            if self.webhooks is not None:
                await self.webhooks.aclose()
            await self.simulation.close()
            await self.pins.stop()
        finally:
            self.request_log.flush()
            await self.router.aclose()
            if self.tracing is not None:
                await self.tracing.aclose()


async def open_proxy(settings: ProxySettings, clock: Clock | None = None, *, seat: Seat | None = None) -> Proxy:
    """Opens everything. `seat`: the place of a worker beside others; None: this process is alone, or the first.

    Raises ConfigurationError, StateStoreError or SealError; nothing is left open then.
    """
    clock = clock or SystemClock()
    proxy = _build(settings, clock, seat)
    try:
        proxy.tracing = open_tracing(proxy)
        await proxy.router.state_store.open()
        await proxy.router.feed.start()  # before anything is loaded, so that no change falls between
        await proxy.virtual_keys.open()
        await proxy.pins.start()
        await (_begin(proxy) if seat is None else _begin_beside(proxy))
    except BaseException:
        await proxy.aclose()
        await proxy.router.state_store.close()
        raise
    if proxy.webhooks is not None:
        proxy.webhooks.start()
    proxy.batches.start()
    if settings.config_watch_s and proxy.worker <= 1:  # of several workers one looks, and the others hear of it
        proxy.config.watch_files(round(settings.config_watch_s / _FLUSH_EVERY_S))
    proxy.housekeeper = asyncio.create_task(_keep_house(proxy), name="apikeyrouter-proxy-housekeeping")
    return proxy


async def _begin(proxy: Proxy) -> None:
    """What is done once per start."""
    settings, router = proxy.settings, proxy.router
    proxy.config.declare()
    check_safe_start(settings, proxy.virtual_keys)
    await proxy.retired.open()
    simulated = await proxy.simulation.find()
    first_run = not any(row.provider_id != SIMULATED for row in await router.state_store.load_keys())
    await register_configured(router, settings.providers)
    if "openai" not in router.providers:
        await router.register_provider("openai", OpenAIAdapter(settings.openai_base_url))
    await proxy.providers.refresh(router)
    proxy.notes += settings.warnings
    proxy.notes += await proxy.config.begin()
    if simulated is None or not settings.visiting:
        proxy.notes += await _take_env_keys(proxy)
    if simulated is not None:
        await proxy.simulation.join(simulated)
    if any(key.provider_id != SIMULATED for key in await router.key_manager.list_keys()):
        await proxy.simulation.end()
    elif simulated is not None:
        proxy.notes.append(f"Another process on this store runs a simulated provider, which answers ({simulated}).")
    elif first_run:
        server = await proxy.simulation.begin()
        proxy.notes.append(
            "No provider key is configured, so a simulated provider answers with made-up text "
            f"({len(server.keys)} keys, {server.base_url}). It ends as soon as a real key comes: "
            "`apikeyrouter keys add`, or set OPENAI_API_KEY and start again."
        )
    proxy.notes.append(f"State is kept in {router.state_store.description}.")


async def _begin_beside(proxy: Proxy) -> None:
    """What every worker does."""
    await proxy.retired.open()
    proxy.config.declare()
    with logs.told_before("apikeyrouter"):
        await register_configured(proxy.router, proxy.settings.providers)
        if "openai" not in proxy.router.providers:
            await proxy.router.register_provider("openai", OpenAIAdapter(proxy.settings.openai_base_url))
    await proxy.config.join()
    await proxy.providers.refresh(proxy.router)
    await proxy.simulation.refresh()


def _build(settings: ProxySettings, clock: Clock, seat: Seat | None) -> Proxy:
    metrics = Metrics(None if seat is None else seat.board)
    request_log = _request_log(settings, clock, beside=seat is not None)
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
    pins = Pins(store, feed=router.feed, clock=clock)
    batches = BatchWatch(router, clock)
    access = Access(settings, virtual_keys, clock, router.feed)
    proxy = Proxy(
        settings=settings,
        clock=clock,
        router=router,
        virtual_keys=virtual_keys,
        access=access,
        sessions=Sessions(lambda: router.sealer, clock),
        live=LiveHub(
            clock,
            router.journal.observers,
            lambda: {"in_flight": proxy.data_plane.in_flight, "open_holds": router.ledger.open_holds},
            None if seat is None else Relay(seat.board.place),
        ),
        data_plane=DataPlane(
            router,
            access,
            pins=pins,
            batches=batches,
            body_limit_bytes=settings.body_limit_bytes,
            upload_limit_bytes=settings.upload_limit_bytes,
            drop_params=settings.drop_params,
        ),
        models=ModelList(router),
        metrics=metrics,
        request_log=request_log,
        providers=ProviderBook(store, clock),
        retired=RetiredMaterial(store),
        audit=Audit(store, router.journal),
        simulation=Simulation(router, lambda: _simulation_over(proxy, seat)),
        pins=pins,
        batches=batches,
        alerts=_alerts(router, clock, webhooks),
        webhooks=webhooks,
        worker=0 if seat is None else seat.number,
    )
    router.feed.subscribe("virtual_key", lambda _: virtual_keys.refresh())
    router.feed.subscribe("setting", lambda names: _settings_changed(proxy, names))
    proxy.config = ConfigKeeper(proxy)
    proxy.log_bodies(settings.log_bodies, SystemRandom())
    proxy.live.follow(router.feed.subscribe)
    return proxy


def _request_log(settings: ProxySettings, clock: Clock, *, beside: bool) -> logs.RequestLog:
    return logs.RequestLog(
        enabled=settings.log_level in ("DEBUG", "INFO"),
        json_lines=logs.configure(settings.log_level, settings.log_format),
        utc_now_iso=lambda: _now_iso(clock),
        write=logs.write_whole_lines if beside else None,
    )


def _now_iso(clock: Clock) -> str:
    """The time of a line of the log."""
    return clock.utc_now().isoformat(timespec="milliseconds")


def _alerts(router: ApiKeyRouter, clock: Clock, webhooks: Webhooks | None) -> HealthAlerts:
    """Whoever tells of trouble begins to listen."""
    write, send = router.state_store.post, webhooks.queue if webhooks else None
    alerts = HealthAlerts(clock, write, send)
    router.journal.observers += [QuotaAlerts(clock, write, router.quota_awareness_engine.labels_of, send), alerts]
    router.journal.observers.append(ModelRoutingAlerts(clock, write, send))
    return alerts


def _simulation_over(proxy: Proxy, seat: Seat | None) -> None:
    proxy.models.forget_age()
    if seat is not None:
        seat.simulation_over()


async def _settings_changed(proxy: Proxy, names: frozenset[str] | None) -> None:
    """Another process added or removed a provider, or began or ended the simulation."""
    if names is None or PROVIDERS in names:
        await proxy.providers.refresh(proxy.router)
        proxy.models.forget_age()
    if names is None or SIMULATION in names:
        await proxy.simulation.refresh()


async def _take_env_keys(proxy: Proxy) -> list[str]:
    """Registers the keys of the environment that are not known yet; returns notes."""
    notes, added, known = [], [], 0
    keys = proxy.router.key_manager
    for given in proxy.settings.env_keys:
        if await proxy.retired.holds(given.provider_id, given.material):
            notes.append(
                f"The key in {given.variable} was revoked or replaced here and stays out of service. Remove it there, "
                "or register it again through the management API."
            )
            continue
        try:
            if keys.find(given.material.reveal(), given.provider_id) is not None:
                known += 1
                continue
            key = await proxy.router.register_key(given.material.reveal(), given.provider_id, metadata=given.metadata)
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


async def _keep_house(proxy: Proxy) -> None:
    """Writes request lines, and snapshots of the metrics for other workers, until cancelled."""
    turn = 0
    while True:
        await proxy.clock.sleep(_FLUSH_EVERY_S)
        turn += 1
        proxy.request_log.flush()
        if proxy.config.watch is not None:
            await proxy.config.watch.look()
        if turn % _SNAPSHOT_EVERY == 0:
            proxy.live.look()
            proxy.alerts.look(proxy.router.providers.values())
            proxy.metrics.share(live_gauges(proxy))


def live_gauges(proxy: Proxy) -> Gauges:
    """What only this process knows, for the metrics of all."""
    router = proxy.router
    records = [record for provider_id in router.providers for record in router.key_manager.records(provider_id)]
    stats: Mapping[str, Any] = getattr(router.transport, "stats", dict)()
    return Gauges(
        keys=[KeyGauge(r.key_id, r.label, r.provider_id, r.state.value, r.in_flight) for r in records],
        holds_open=router.ledger.open_holds,
        in_flight=proxy.data_plane.in_flight,
        tasks=len(asyncio.all_tasks()),
        connections=[(o, what, getattr(one, what)) for o, one in stats.items() for what in _CONNECTIONS],
        breakers=breaker_gauges(list(router.providers.values()), router.now_s()),
        model_routing=routing_gauges(router.routed),
        decisions_dropped=router.journal.dropped,
    )


def _some(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
