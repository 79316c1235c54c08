"""Opening what a router needs from its surroundings: the keys that its store's secrets are sealed with, the rules and
tokenizer that its budgets go by, and the pipeline over the transport of its event loop."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from apikeyrouter.attempt import Learners
from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.errors import ConfigurationError, SealError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.interfaces.transport import Transport
from apikeyrouter.domain.models.call import Call
from apikeyrouter.funding import Funding, FundingRules
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.infrastructure.state_store.keyring import ENVIRONMENT_NAME, Keyring
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer
from apikeyrouter.infrastructure.tokens import tokenizer
from apikeyrouter.kept_back import KeptBack
from apikeyrouter.patience import Patience
from apikeyrouter.pipeline import Pipeline
from apikeyrouter.random_ids import random_id
from apikeyrouter.sending import Limits
from apikeyrouter.waiting_room import WaitingRoom, WaitingRules

if TYPE_CHECKING:
    from apikeyrouter.muxer.front import ModelRouting
    from apikeyrouter.muxer.shadow import ShadowedPipeline
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["learners_of", "leaves_model", "open_muxer", "open_pipeline", "open_room", "open_sealer"]

_DOUBT = 0.25
"""On the bursty code trace 1.1 serves 1.2 % less than 0.5, which serves 0.2 to 0.3 % less than 0.25 (60, 80 and 95 %
load); 0.1 and 0 serve less again, and more wait in vain."""

_SALT = "sealing.salt"


def learners_of(
    keys: KeyManager, costs: CostController, clock: Clock, rng: Random, freed: Callable[[], None]
) -> Learners:
    """Who learns from attempts."""
    return Learners(keys, costs.lengths, costs.ratios, costs.reconciler, clock, rng, freed)


def open_room(settings: RouterSettings, clock: Clock) -> WaitingRoom:
    """Where requests wait for quota, as configured."""
    rules = WaitingRules(wait_s=settings.quota_wait_s, waiting_max=settings.waiting_max, doubt=_DOUBT)
    return WaitingRoom(clock, rules)


def leaves_model(router: ApiKeyRouter, call: Call) -> bool:
    """Whether a call asks for `auto`, and not for a provider's model or a deployment of that name."""
    name = call.model
    if not name.startswith("auto") or (len(name) > 4 and name[4] not in ":/") or call.provider_id is not None:
        return False
    return name not in router.deployments.book.names


def open_muxer(router: ApiKeyRouter, clock: Clock) -> ModelRouting:
    """Model routing of a router."""
    from apikeyrouter.muxer.front import ModelRouting

    made = ModelRouting(router, clock)
    router.feed.subscribe("setting", made.feedback.changed)
    return made


def open_pipeline(
    router: ApiKeyRouter, transport: Transport, learners: Learners, clock: Clock
) -> Pipeline | ShadowedPipeline:
    """The path of requests through the router's parts, watched where a group of models asks for it."""
    pipeline = _pipeline(router, transport, learners, clock)
    if not any(group.shadow for group in router.settings.model_groups):
        return pipeline
    from apikeyrouter.muxer.shadow import ShadowedPipeline

    return ShadowedPipeline(pipeline, router.muxer)


def _pipeline(router: ApiKeyRouter, transport: Transport, learners: Learners, clock: Clock) -> Pipeline:
    chosen = router.settings
    return Pipeline(
        router.directory,
        router.chooser,
        router.cost_controller,
        transport,
        funding=_open_funding(router.cost_controller, clock, chosen),
        patience=Patience(router.waiting_room, clock, KeptBack(router.directory.group_for)),
        shares=router.pool_shares,
        tenants=router.tenant_limits,
        learners=learners,
        journal=router.journal,
        limits=Limits(chosen.attempts_max, chosen.retry_unanswered, timeouts=router.timeouts),
        new_id=_new_decision_id,
    )


def _new_decision_id() -> str:
    return "dec_" + random_id()


def _open_funding(costs: CostController, clock: Clock, settings: RouterSettings) -> Funding:
    """How requests get their money, as configured; with the exact tokenizer when it is installed."""
    rules = FundingRules(settings.budget_wait_s, settings.clamp_output, settings.clamp_min_tokens)
    exact = tokenizer(allow_download=settings.tokenizer_downloads)
    return Funding(costs, clock, rules, tokenizer=exact)


async def open_sealer(store: StateStore, environ: Mapping[str, str]) -> tuple[Sealer, str | None]:
    """The sealer for this store, and a note for the operator when a data key file was made or used.

    With a persistent store and no APIKEYROUTER_ENCRYPTION_KEY the data key lies beside the store (mode 0600). Raises
    SealError or ConfigurationError.
    """
    salt = await store.put_setting(_SALT, secrets.token_bytes(16), only_if_absent=True)
    if store.persistent and store.path is None and not environ.get(ENVIRONMENT_NAME, "").strip():
        raise ConfigurationError(
            [
                (
                    f"{store.description} outlives this process, so its secrets need an encryption key that does too: "
                    f"set {ENVIRONMENT_NAME} (make one with: openssl rand -hex 32)."
                )
            ]
        )
    await _check_data_key(store, environ)
    keyring, note = Keyring.from_environment(environ, salt=salt, beside=store.path)
    return EnvelopeSealer(keyring), note


async def _check_data_key(store: StateStore, environ: Mapping[str, str]) -> None:
    """Raises SealError when stored secrets need a data key file that is gone: a new one could not open them."""
    missing = _missing_data_key(store, environ)
    if missing is not None and any(row.sealed_secret for row in await store.load_keys()):
        raise SealError(
            f"The data key {missing} is missing, and {store.description} holds secrets that were sealed with it. Put "
            f"the file back, or set {ENVIRONMENT_NAME} to the key that was in use. Nothing was changed."
        )


def _missing_data_key(store: StateStore, environ: Mapping[str, str]) -> Path | None:
    """The data key file that this store would use, if it is not there."""
    if store.path is None or environ.get(ENVIRONMENT_NAME, "").strip():
        return None
    data_key = Path(f"{store.path}.key")
    return None if data_key.exists() else data_key
