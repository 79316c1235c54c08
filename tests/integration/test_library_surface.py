"""The library as its users meet it: every name and call of the contract that is not in the documents' snippets."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from apikeyrouter import (
    ApiKeyRouter,
    Message,
    OpenAIAdapter,
    RequestIntent,
    RouterSettings,
    SQLiteStateStore,
    SyncApiKeyRouter,
    SystemError,
)
from apikeyrouter.domain.errors import KeyNotFoundError, KeyRegistrationError, ProviderRegistrationError, SealError
from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from tests.support.routers import ask, key_ids, router_on
from tests.support.sim import Sim


def test_it_is_made_without_anything() -> None:
    router = ApiKeyRouter()
    assert router.settings == RouterSettings()
    assert ApiKeyRouter(config=RouterSettings(log_level="DEBUG")).settings.log_level == "DEBUG"
    assert ApiKeyRouter(config={"attempts_max": 5}).settings.attempts_max == 5


def test_the_sync_facade_serves_scripts(sim: Sim) -> None:
    with SyncApiKeyRouter() as router:
        router.register_provider("openai", OpenAIAdapter(sim.base_url))
        key = router.register_key("sk-key-1", "openai")
        intent = RequestIntent(model="gpt-4", messages=[Message(role="user", content="Hello!")])
        reply = router.route(intent, objective="cost")
        assert reply.key_used == key.id
        assert router.get_decision(reply.request_id) == reply.decision
        assert "".join(router.route_stream(intent))
        for chunk in router.route_stream(intent):
            if chunk:
                break
        budget = router.create_budget(BudgetScope.Global, Decimal("0.0000001"))
        with pytest.raises(SystemError) as refused:
            router.route(intent)
        assert refused.value.details["violated_budgets"] == [budget.id]
        assert [k.id for k in router.list_keys("openai")] == [key.id]
    with pytest.raises(RuntimeError, match="closed"):
        router.list_keys()


async def test_keys_in_a_file_outlive_the_router_and_their_data_key_is_private(
    sim: Sim, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.sqlite"
    async with router_on(sim, 2, state_store=SQLiteStateStore(path), environ={}) as router:
        before = await key_ids(router)
        first = await router.route(ask())
    data_key = Path(f"{path}.key")
    assert stat.S_IMODE(data_key.stat().st_mode) == 0o600
    assert any(str(data_key) in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    async with ApiKeyRouter(SQLiteStateStore(path), environ={}) as again:
        await again.register_provider("openai", OpenAIAdapter(sim.base_url))
        assert await key_ids(again) == before
        assert (await again.route(ask())).content
        assert await again.get_decision(first.request_id) == first.decision
    data_key.unlink()
    with pytest.raises(SealError, match="APIKEYROUTER_ENCRYPTION_KEY"):
        await ApiKeyRouter(SQLiteStateStore(path), environ={}).start()
    assert not data_key.exists(), "a new data key could not open what is stored"


async def test_the_same_material_is_one_key(sim: Sim) -> None:
    async with router_on(sim, ["sk-key-1"]) as router:
        again = await router.register_key("sk-key-1", "openai", metadata={"weight": 2})
        assert [again.id] == await key_ids(router)
        assert again.metadata == {"weight": 2}


async def test_bad_registrations_say_what_is_wrong_and_keep_the_secret(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        for material, metadata in [
            ("", None),
            ("two words", None),
            ("sk-good-1", {"weight": -1}),
            *[("sk-good-1", {"rpm": wrong}) for wrong in ("many", 1.5, True, 0, -1, "0")],
        ]:
            with pytest.raises(KeyRegistrationError) as refused:
                await router.register_key(material, "openai", metadata=metadata)
            assert "sk-good-1" not in str(refused.value)
        with pytest.raises(ProviderRegistrationError, match="overwrite=True"):
            await router.register_provider("openai", OpenAIAdapter())
        await router.register_provider("openai", OpenAIAdapter(sim.base_url), overwrite=True)
        with pytest.raises(ProviderRegistrationError, match="no provider adapter"):
            await router.register_provider("other", object())  # type: ignore[arg-type]
        with pytest.raises(SystemError, match="not registered"):
            await router.register_key("sk-key-9", "nobody")
        with pytest.raises(KeyNotFoundError):
            await router.quota_awareness_engine.get_quota_state("key_unknown")


async def test_quota_states_count_and_limit(sim: Sim) -> None:
    async with router_on(sim, 2, metadata=[{"rpm": 3}]) as router:
        limited, free = await key_ids(router)
        before = await router.quota_awareness_engine.get_quota_state(free)
        assert before.remaining_capacity.value is None
        replies = [await router.route(ask()) for _ in range(10)]
        assert sum(r.key_used == limited for r in replies) == 3
        state = await router.quota_awareness_engine.get_quota_state(limited)
        assert (state.remaining_capacity.value, state.used_requests) == (0, 3)
        assert state.capacity_state.value == "exhausted"
        assert state.used_tokens == sum(r.metadata.tokens_used.total_tokens for r in replies if r.key_used == limited)
        rejections = replies[-1].decision.rejections if replies[-1].decision else []
        assert {r.code for r in rejections} <= {"headroom"}
        more = await router.quota_awareness_engine.update_capacity(key_id=free, used_tokens=100)
        assert more.used_tokens >= 100


async def test_the_secondary_names_of_the_contract(sim: Sim) -> None:
    async with router_on(sim, 2) as router:
        budget = await router.cost_controller.create_budget(
            scope=BudgetScope.Global,
            limit=Decimal("100.00"),
            period=TimeWindow.Daily,
            enforcement_mode=EnforcementMode.Hard,
        )
        reply = await router.route(ask(), metadata={"feature": "x"})
        now = await router.cost_controller.get_budget(budget.id)
        assert now.current_spending == now.current_spend == reply.metadata.cost_actual == reply.cost.amount > 0
        assert now.limit == now.limit_amount == Decimal("100.00")
        assert reply.metadata.token_usage.total == reply.metadata.tokens_used.total_tokens
        assert reply.metadata.key_used == reply.key_used
        summary = await router.get_state_summary()
        assert (summary.keys.total, summary.keys.available) == (2, 2)
        assert summary.quotas.exhausted_keys == []
        assert summary.costs.total_spent == reply.cost.amount
        rotated = await router.rotate_key(key_id=reply.key_used, new_key_material="sk-new-material")
        assert (rotated.id, rotated.version) == (reply.key_used, 2)
        revoked = await router.revoke_key(reply.key_used, reason="test")
        assert revoked.state.value == "retired"
        assert (await router.state_store.health_check()).status.value == "healthy"


async def test_embeddings_are_routed_and_priced(sim: Sim) -> None:
    async with router_on(sim, 2) as router:
        reply = await router.embed("text-embedding-3-small", ["one", "two"], dimensions=8)
        assert [len(item["embedding"]) for item in reply.raw["data"]] == [8, 8]
        assert reply.cost.amount > 0
        assert reply.metadata.tokens_used.output_tokens == 0
        assert router.ledger.open_holds == 0


async def test_the_log_level_of_the_settings_holds(sim: Sim) -> None:
    ApiKeyRouter(config=RouterSettings(log_level="DEBUG"))
    assert logging.getLogger("apikeyrouter").level == logging.DEBUG
    logging.getLogger("apikeyrouter").setLevel(logging.NOTSET)


async def test_decisions_can_be_queried_in_the_store(sim: Sim, tmp_path: Path) -> None:
    async with router_on(sim, 1, state_store=SQLiteStateStore(tmp_path / "s.sqlite"), environ={}) as router:
        replies = [await router.route(ask()) for _ in range(3)]
        router.journal.flush()
        found = await router.state_store.query_state(StateQuery(entity_type="RoutingDecision"))
        assert [d.request_id for d in found] == [r.request_id for r in reversed(replies)]


def test_one_router_works_in_one_event_loop_after_another(sim: Sim) -> None:
    router = ApiKeyRouter()

    async def once() -> str:
        if not router.providers:
            await router.register_provider("openai", OpenAIAdapter(sim.base_url))
            await router.register_key("sk-key-1", "openai")
        try:
            return (await router.route(ask())).content
        finally:
            await router.aclose()

    assert asyncio.run(once())
    assert asyncio.run(once())


def test_importing_it_is_light() -> None:
    script = "import sys, apikeyrouter; print(sorted(m for m in sys.modules if m.startswith(('pydantic', 'msgspec'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
