"""Keys that fail, over real HTTP: what the caller sees, and how often a bad key is asked."""

from __future__ import annotations

import asyncio

import pytest

from apikeyrouter import ErrorCategory, KeyState, NoEligibleKeysError, SystemError
from tests.support.routers import ask, key_ids, router_on
from tests.support.sim import Sim

BAD = "sk-test-key-1"


async def thirty(router: object) -> list[object]:
    return [await router.route(ask()) for _ in range(30)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["seconds", "http_date", "ms", "message"])
async def test_a_rate_limited_key_is_asked_once_and_nobody_notices(sim: Sim, form: str) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, "rate_limited", retry_after_s=20, retry_after_form=form)
        await thirty(router)
        assert sim.seen(BAD) == 1
        key = (await router.state_store.list_keys(provider_id="openai"))[0]
        assert key.state is KeyState.Throttled
        assert key.cooldown_until is not None
        left_s = (key.cooldown_until - router.journal.utc_now()).total_seconds()
        assert 17 < left_s < 23
        assert len(await router.key_manager.get_eligible_keys("openai")) == 2


async def test_a_rate_limit_on_one_model_leaves_the_others(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        sim.fault(BAD, "rate_limited", retry_after_s=20, count=1)
        with pytest.raises(NoEligibleKeysError):
            await router.route(ask(model="gpt-4o-mini"))
        assert (await router.route(ask(model="gpt-4o"))).content


async def test_a_revoked_key_costs_no_user_a_failure_and_is_quarantined(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, "revoked")
        await thirty(router)
        assert sim.seen(BAD) <= 2


async def test_many_revoked_keys_cost_no_user_a_failure(sim: Sim) -> None:
    async with router_on(sim, 8) as router:
        for i in range(1, 7):
            sim.fault(f"sk-test-key-{i}", "revoked" if i % 2 else "billing")
        await thirty(router)
        assert sim.seen() == 36, "each bad key is asked once"


async def test_faults_of_the_provider_are_bounded_per_request(sim: Sim) -> None:
    async with router_on(sim, 8) as router:
        sim.fault(None, "server_error")
        with pytest.raises(SystemError):
            await router.route(ask())
        assert sim.seen() == router.settings.attempts_max == 3


async def test_billing_trouble_rests_the_key(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, "billing")
        await thirty(router)
        assert sim.seen(BAD) == 1
        assert (await router.key_manager.list_keys())[0].state is KeyState.Exhausted


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_key_that_always_fails_is_ejected_for_longer_and_longer(sim: Sim, status: int) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, "server_error", status=status)
        await thirty(router)
        assert sim.seen(BAD) <= 4


@pytest.mark.parametrize("kind", ["reset", "close", "bad_json", "stream_error"])
async def test_a_connection_or_reply_that_breaks_fails_over(sim: Sim, kind: str) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, kind, count=1)
        replies = await thirty(router)
        assert len(replies) == 30


async def test_a_refused_connection_fails_over_to_another_provider_address(sim: Sim) -> None:
    async with router_on(sim, 2, metadata=[{"base_url": "http://127.0.0.1:9/v1"}]) as router:
        reply = await router.route(ask())
        assert reply.metadata.attempts == 2
        assert reply.decision is not None
        assert reply.decision.attempts[0].outcome == "not_sent"


async def test_a_client_error_reaches_exactly_one_key_and_keeps_its_status(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        with pytest.raises(SystemError) as failed:
            await router.route(ask(temperature=99))
        assert failed.value.category is ErrorCategory.ValidationError
        assert failed.value.status == 400
        assert failed.value.provider_body is not None
        assert sim.seen() == 1
        with pytest.raises(SystemError) as unknown:
            await router.route(ask(model="no-such-model"))
        assert unknown.value.status == 404
        assert all(key.state is KeyState.Available for key in await router.key_manager.list_keys())


async def test_all_keys_cooling_tells_the_earliest_time_and_asks_nobody_again(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        for i, wait_s in ((1, 40), (2, 25), (3, 60)):
            sim.fault(f"sk-test-key-{i}", "rate_limited", retry_after_s=wait_s)
        for attempt in range(3):
            with pytest.raises(NoEligibleKeysError) as refused:
                await router.route(ask())
            assert refused.value.category is ErrorCategory.RateLimitError
            assert refused.value.status == 429
            assert refused.value.retry_after is not None
            assert 22 < refused.value.retry_after < 29, attempt
            assert set(refused.value.reasons) == set(await key_ids(router))
        assert sim.seen() == 3


async def test_every_key_revoked_is_our_trouble_not_the_clients(sim: Sim) -> None:
    async with router_on(sim, 2) as router:
        sim.fault(None, "revoked")
        with pytest.raises(SystemError) as failed:
            await router.route(ask())
        assert failed.value.status == 502
        assert failed.value.category is ErrorCategory.AuthenticationError


async def test_a_single_key_is_not_locked_out_by_one_server_error(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        sim.fault(BAD, "server_error", count=1)
        with pytest.raises(SystemError):
            await router.route(ask())
        assert (await router.route(ask())).content


async def test_a_cut_stream_raises_is_charged_and_is_not_replayed(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(None, "cut_stream", after_chunks=3)
        text: list[str] = []

        async def read_to_the_end() -> None:
            async for chunk in router.route_stream(ask("Tell me a long story")):
                text.append(chunk)  # noqa: PERF401 - what came before the break must be kept

        with pytest.raises(SystemError, match="broke off"):
            await read_to_the_end()
        assert text
        assert sim.seen() == 1
        assert router.ledger.open_holds == 0
        decision = router.journal.newest(1)[0]
        assert decision.outcome == "mid_reply"
        assert decision.output_tokens


async def test_an_error_as_first_event_fails_over(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        sim.fault(BAD, "stream_error", after_chunks=0, count=1)
        for _ in range(3):
            stream = router.route_stream(ask())
            assert "".join([chunk async for chunk in stream])
        assert sim.seen() == 4


async def test_a_deadline_is_kept(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        sim.fault(BAD, "hang")
        intent = ask()
        intent.timeout_s = 0.3
        with pytest.raises(SystemError) as failed:
            await asyncio.wait_for(router.route(intent), 5)
        assert failed.value.category is ErrorCategory.TimeoutError
        assert failed.value.status == 504


@pytest.mark.parametrize("retry", [True, False])
async def test_a_key_that_never_answers_is_given_up_in_time(sim: Sim, retry: bool) -> None:
    config = {"first_byte_timeout_s": 0.2, "retry_unanswered": retry}
    async with router_on(sim, 2, config=config) as router:
        sim.fault(BAD, "hang", count=1)
        if retry:
            reply = await asyncio.wait_for(router.route(ask()), 5)
            assert reply.metadata.attempts == 2
        else:
            with pytest.raises(SystemError) as failed:
                await asyncio.wait_for(router.route(ask()), 5)
            assert failed.value.status == 504
            assert sim.seen() == 1
        assert router.ledger.open_holds == 0


async def test_rotation_keeps_serving_and_a_wrong_secret_falls_back(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        (key_id,) = await key_ids(router)
        await router.rotate_key(key_id, "sk-test-key-new")
        await router.route(ask())
        assert sim.seen("sk-test-key-new") == 1
        sim.fault("sk-wrong-new", "revoked")
        await router.rotate_key(key_id, "sk-wrong-new")
        with pytest.raises(SystemError):
            await router.route(ask())
        assert (await router.route(ask())).content
        assert sim.seen("sk-test-key-new") == 2


async def test_revoked_and_disabled_keys_never_serve(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        first, second, third = await key_ids(router)
        await router.revoke_key(first, reason="left the team")
        await router.key_manager.disable(second)
        assert {(await router.route(ask())).key_used for _ in range(4)} == {third}
        await router.key_manager.enable(second)
        assert {(await router.route(ask())).key_used for _ in range(4)} == {second, third}
        trail = [t.trigger for t in await router.key_manager.history(second)]
        assert len(trail) == 2
