"""`ApiKeyRouter`: wires the parts and exposes the verbs. No policy lives here.

It needs nothing: no argument, no environment, no running event loop. State is opened at the first verb that needs it;
`async with ApiKeyRouter() as router` also closes it, and `aclose` does so by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.budget_check import check_budget
from apikeyrouter.domain.components.policy_engine import Given
from apikeyrouter.domain.components.routing_engine import RoutingEngine
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import PriceSource, SelfPriced
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.interfaces.transport import Timeouts, Transport
from apikeyrouter.domain.models.api_key import APIKey
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.domain.models.events import Observer
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision, RoutingObjective
from apikeyrouter.domain.models.system_response import SystemResponse
from apikeyrouter.domain.resilience.hedge import Hedger
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.health_watch import HealthWatch, look_at
from apikeyrouter.infrastructure.config.settings import RESTART_FIELDS, RouterSettings
from apikeyrouter.inspection import KeyCheck, StateSummary, check_key, list_models, summarize
from apikeyrouter.intents import call_of, dry_run, embedding_call
from apikeyrouter.opening import leaves_model, open_muxer, open_pipeline, open_sealer
from apikeyrouter.parts import RouterParts
from apikeyrouter.pipeline import Pipeline
from apikeyrouter.random_ids import random_id
from apikeyrouter.responses import build_response
from apikeyrouter.routed_stream import RoutedStream
from apikeyrouter.sending import Reply

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from apikeyrouter.muxer.front import ModelRouting
    from apikeyrouter.muxer.guard import RouteBook
    from apikeyrouter.muxer.shadow import ShadowedPipeline

__all__ = ["ApiKeyRouter"]

_log = logging.getLogger("apikeyrouter")


class ApiKeyRouter(RouterParts):
    """Routes requests over keys.

    `state_store`: where keys, budgets and decisions live; default: memory. `config`: RouterSettings, a dict of its
    fields, or None for the environment and defaults. `observers`: told of requests and key changes. The rest replaces
    a part: `transport`, `clock`, `rng`, `price_source`; tests and simulations use them.
    """

    def __init__(
        self,
        state_store: StateStore | None = None,
        config: RouterSettings | Mapping[str, Any] | None = None,
        *,
        observers: Sequence[Observer] = (),
        transport: Transport | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
        price_source: PriceSource | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(state_store, config, observers, clock, rng, price_source, environ)
        self.routing_engine = RoutingEngine(self._dry_run)
        self.cost_controller.checker = partial(check_budget, self)
        self.health = HealthWatch(
            self._clock,
            partial(look_at, self),
            lambda: list(self.directory.providers),
            observers=self.journal.observers,
            every_s=self.settings.health_check_s,
        )
        self._learners.heard = self.health.heard
        if self.settings.hedge:
            self._learners.hedger = Hedger(self.settings.values.latency_usd_per_s)
        self._given_transport = transport
        self._transport: Transport | None = None
        self._pipeline: Pipeline | ShadowedPipeline | None = None
        self._muxer: ModelRouting | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> ApiKeyRouter:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens the store and loads keys and budgets. Called by every verb; idempotent, also on a second event loop.

        Raises StateStoreError or SealError (stored secrets and encryption key do not belong together).
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        first = self._loop is None
        if self._loop is not None and not self._loop.is_closed():
            self._transport = None  # connections stay with the loop that made them
        self._loop = loop
        try:
            await self.state_store.open()
            await self.feed.start()  # before anything is loaded, so that no change falls between
            if first:
                sealer, note = await open_sealer(self.state_store, self._environ)
                if note:
                    _log.warning(note)
                await self._load(sealer)
                self.directory.changed()
        except BaseException:
            self._loop = None
            await self.feed.stop()
            raise
        self._transport = self._given_transport or self._transport or self._new_transport()
        self._pipeline = open_pipeline(self, self._transport, self._learners, self._clock)
        self._house.start()
        self.health.start()

    async def aclose(self) -> None:
        """Writes what is pending and closes connections and store. The router may be started again."""
        if self._loop is None:
            return
        same_loop = self._loop is asyncio.get_running_loop()
        self._loop = None
        if same_loop:
            await self.health.stop()
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None
        self._post()
        self.key_manager.flush_counters(closing=True)
        await self._house.stop(same_loop=same_loop)
        await self.state_store.flush()
        await self.state_store.close()

    def configure(self, settings: RouterSettings) -> None:
        """Goes on under other settings: requests from now on, all at once. What is only looked at when a router is made
        (`RESTART_FIELDS` of its settings) stays as it was; the caller says so to people."""
        kept = {name: getattr(self.settings, name) for name in RESTART_FIELDS}
        self.settings = settings.model_copy(update=kept)
        self._objectives.clear()
        self.prices.configure(settings.price_overrides)
        self.deployments.configure(settings.deployments)
        self.policy_engine.configure(settings.policies)
        if self._muxer is not None:
            self._muxer.configure(self.settings.model_groups)
        if self._transport is not None and self._pipeline is not None:
            self._pipeline = open_pipeline(self, self._transport, self._learners, self._clock)

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Registered providers by id."""
        return self.directory.providers

    @property
    def timeouts(self) -> Timeouts:
        """Time limits per phase of one send, as configured."""
        chosen = self.settings
        return Timeouts(chosen.connect_timeout_s, chosen.first_byte_timeout_s, chosen.idle_timeout_s)

    def now_s(self) -> float:
        """The router's monotonic clock."""
        return self._clock.monotonic_s()

    @property
    def transport(self) -> Transport:
        """The connections to providers; there once started."""
        if self._transport is None:
            raise RuntimeError("The router is not started: call `await router.start()` first.")
        return self._transport

    # -- providers and keys -----------------------------------------------------------------------------------------

    async def register_provider(self, provider_id: str, adapter: ProviderAdapter, overwrite: bool = False) -> None:
        """Adds a provider. Raises ProviderRegistrationError when the id is taken and `overwrite` is False."""
        self.directory.register(provider_id, adapter, overwrite=overwrite)
        self.prices.book.own_price(provider_id, adapter.own_price if isinstance(adapter, SelfPriced) else None)
        await self.start()

    async def register_key(
        self,
        key_material: str,
        provider_id: str,
        metadata: Mapping[str, Any] | None = None,
        label: str | None = None,
    ) -> APIKey:
        """Adds a key; it is sealed, stored and eligible when this returns. Material that the provider has already is
        not added twice: its key is returned, with label and metadata as given now.

        `metadata`: `cost_per_1k` (US dollars), `weight`, `models`, `rpm`, `tpm`, `quota_pool`, `base_url`, `tags`.
        Raises KeyRegistrationError (unusable material or metadata) or ProviderNotRegisteredError.
        """
        await self.start()
        self.directory.require(provider_id)
        known = self.key_manager.find(key_material, provider_id)
        if known is None:
            return await self.key_manager.register(key_material, provider_id, metadata, label)
        if metadata is None and label is None:
            return await self.key_manager.get_key(known.key_id)
        return await self.key_manager.update(known.key_id, metadata=metadata, label=label)

    async def register_credential(
        self,
        provider_id: str,
        credential: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        label: str | None = None,
    ) -> APIKey:
        """Adds a key whose secret is an access token that is renewed ahead of its end. `credential`: its `kind`
        ("client_credentials", "refresh_token", "google_service_account", "azure_entra", "command") and that kind's
        fields, see `credentials.specs`; or the file that Google gives for a service account.

        Raises ConfigurationError (a malformed credential), KeyRegistrationError (no token came for it),
        ProviderNotRegisteredError.
        """
        await self.start()
        self.directory.require(provider_id)
        return await self.credentials.add(provider_id, credential, metadata, label)

    async def revoke_key(self, key_id: str, reason: str = "") -> APIKey:
        """Retires a key for good; running requests end on it."""
        await self.start()
        return await self.key_manager.revoke_key(key_id, reason=reason)

    async def rotate_key(self, key_id: str, new_key_material: str) -> APIKey:
        """Gives a key new material; the old one drains for `settings.rotation_overlap_s` seconds."""
        await self.start()
        overlap_s = self.settings.rotation_overlap_s
        return await self.key_manager.rotate_key(key_id, new_key_material, overlap_s=overlap_s)

    async def check_key(self, key_id: str) -> KeyCheck:
        """Tries a key at its provider (lists models); what it learns moves the key's state. Raises KeyNotFoundError."""
        await self.start()
        return await check_key(self, key_id)

    async def list_models(self) -> list[dict[str, Any]]:
        """Models of every provider with an eligible key, as OpenAI model objects; asks the providers."""
        await self.start()
        return await list_models(self)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def route(
        self,
        intent: RequestIntent | Mapping[str, Any],
        objective: RoutingObjective | str | None = None,
        *,
        policy: Given | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> SystemResponse:
        """Serves one request. `objective`: "fairness" (default), "cost", "reliability", "latency", "quality",
        "balanced", or a RoutingObjective. `policy`: one more policy for this request, by its id or written out; it only
        narrows. `metadata`: labels for policies and metrics; never sent upstream.

        Raises NoEligibleKeysError, BudgetExceededError, ProviderNotRegisteredError, or SystemError with its category.
        """
        await self.start()
        call = call_of(self, intent, stream=False, tags=metadata)
        return self._response(call, await self.serve(call, self.objective(objective), policy))

    def route_stream(
        self,
        intent: RequestIntent | Mapping[str, Any],
        objective: RoutingObjective | str | None = None,
        *,
        policy: Given | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RoutedStream:
        """Serves one request as a stream: `async for chunk in router.route_stream(intent)`; chunks are strings.

        Raises, at the first chunk, what `route` raises; a stream that breaks off later raises SystemError.
        """
        return RoutedStream(self, intent, objective, metadata, policy)

    async def embed(
        self, model: str, texts: str | Sequence[Any], *, provider_id: str | None = None, **parameters: Any
    ) -> SystemResponse:
        """Embeds texts (or token lists); the vectors are in `response.raw["data"]`. Raises what `route` raises."""
        await self.start()
        call = embedding_call(self, {"model": model, "input": texts, **parameters}, provider_id)
        return self._response(call, await self.serve(call, self.objective(None)))

    async def serve(self, call: Call, objective: Objective, policy: Given | None = None) -> Reply:
        """The pipeline itself, under the operator's policies, for callers that speak the wire format. The router must
        be started. A call for the model `auto` is given one first: see `muxer`."""
        if self._pipeline is None:
            raise RuntimeError("The router is not started: call `await router.start()` first.")
        if call.model.startswith("auto") and leaves_model(self, call):
            return await self.muxer.serve(call, objective, policy)
        return await self._pipeline.serve(call, self.policy_engine.apply(objective, call, policy))

    @property
    def routed(self) -> Mapping[str, RouteBook]:
        """What is known of each group that `auto` was asked for, by name; reading it makes nothing."""
        return self._muxer.books if self._muxer is not None else {}

    @property
    def muxer(self) -> ModelRouting:
        """Model routing: groups, feedback, and what a request for `auto` becomes. Made when it is first needed."""
        if self._muxer is None:
            self._muxer = open_muxer(self, self._clock)
        return self._muxer

    def new_call(self, operation: Operation, body: bytes, peeked: Any, **fields: Any) -> Call:
        """A `Call` with ids and deadline filled in; `fields` go to `Call` and may override them."""
        now_s = self._clock.monotonic_s()
        provider_id, model = fields.pop("provider_id", None), fields.pop("model", None) or peeked.model
        if provider_id is None:
            provider_id, model = self.directory.split_model(model)
        timeout_s = fields.pop("timeout_s", None) or self.settings.request_timeout_s
        request_id = fields.pop("request_id", None) or _new_request_id()
        return Call(
            request_id,
            operation,
            model,
            body,
            peeked,
            started_s=now_s,
            deadline_s=now_s + timeout_s,
            provider_id=provider_id,
            **fields,
        )

    def openai_client(self, **options: Any) -> AsyncOpenAI:
        """The official OpenAI SDK over this router: see `sdk_clients`."""
        from apikeyrouter.sdk_clients import openai_client

        return openai_client(self, **options)

    def anthropic_client(self, **options: Any) -> AsyncAnthropic:
        """The official Anthropic SDK over this router: see `sdk_clients`."""
        from apikeyrouter.sdk_clients import anthropic_client

        return anthropic_client(self, **options)

    # -- inspection -------------------------------------------------------------------------------------------------

    async def get_decision(self, decision_or_request_id: str) -> RoutingDecision | None:
        """A decision by its id or its request's id, or None when it was never made or is forgotten."""
        await self.start()
        return await self.journal.find(decision_or_request_id)

    async def get_state_summary(self) -> StateSummary:
        """Counts of keys, exhausted quota and money spent."""
        await self.start()
        return await summarize(self)

    def _response(self, call: Call, reply: Reply) -> SystemResponse:
        raw = msgspec.json.decode(reply.body)
        decision = self.journal.render(reply.record)
        return build_response(call, reply, raw, reply.usage, decision=decision, now=self._clock.utc_now())

    def _dry_run(self, intent: RequestIntent, objective: RoutingObjective | str | None) -> RoutingDecision:
        return dry_run(self, intent, self.objective(objective))

    def _new_transport(self) -> Transport:
        from apikeyrouter.infrastructure.transport import HttpTransport, TransportLimits

        most = self.settings.response_max_bytes
        return HttpTransport(clock=self._clock, limits=TransportLimits(body_bytes=most, decoded_bytes=most))


def _new_request_id() -> str:
    return "req_" + random_id()
