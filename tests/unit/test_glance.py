"""Looks before tries, with the whole router in random worlds: what a look says, a try would have said too."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, NoEligibleKeysError, OpenAIAdapter, SystemError
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.flow import Flow
from apikeyrouter.glance import Glance
from apikeyrouter.kept_back import Who
from apikeyrouter.patience import waitable
from apikeyrouter.pipeline import Pipeline
from apikeyrouter.simulation.world import ours
from apikeyrouter.simulation.world.chaos import random_world
from apikeyrouter.simulation.world.loop import run_world
from apikeyrouter.simulation.world.provider import Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.testing import VirtualClock, run_virtual
from tests.support.routers import ask
from tests.support.talking_world import Saying, TalkingWorld, talking_router


class Checked(Glance):
    """A `Glance` that asks the filters too, whenever it says that a try would be in vain."""

    def __init__(self, pipeline: Pipeline) -> None:
        plain = pipeline._glance
        super().__init__(plain._directory, plain._patience, plain._clock)
        self._pipeline = pipeline
        self.full = self.open = self.ended = 0
        self.wrong: list[str] = []

    def still_full(self, flow: Flow, *known: Any) -> tuple[float, Who] | None:
        said = super().still_full(flow, *known)
        if said is None:
            self.open += 1
            return None
        self.full += 1
        now_s = self._clock.monotonic_s()
        others = self._patience.leaves_to_others(flow.waiting, flow.tried, len(flow.group.candidates))
        tried = flow.tried.union(others)
        record = DecisionRecord(
            "d", "r", flow.call.model, flow.objective, at_utc_s=0.0, stream=False, outcome="dry_run"
        )
        taken = self._pipeline._chooser.choose(
            flow.group, flow.money.demand, flow.objective, record, tried=tried, now_s=now_s, tags=flow.call.tags
        )
        if taken is not None:
            taken.hold.release()
        found = waitable(record.rejections)
        times_s = [until_s for who, until_s in others.items() if who not in flow.tried]
        times_s += [found[0]] if found is not None else []
        if said[0] - now_s <= 2e-6:
            return said  # times at which there is room are a microsecond late, so that it is there for sure
        if taken is not None or abs(min(times_s) - said[0]) > 1e-3:
            self.wrong.append(f"{now_s:.3f} s: {said} and not {min(times_s, default=None)}, {record.rejections}")
        return said

    def _explain(self, flow: Flow) -> None:
        super()._explain(flow)
        self.ended += 1
        now_s = self._clock.monotonic_s()
        told = {one.who: one for one in flow.record.rejections}
        if any(one.code == "headroom" and one.until_s is not None and one.until_s < now_s for one in told.values()):
            self.wrong.append(f"{now_s:.3f} s: it was told what was so before: {told}")
        if missing := [one.who for one in flow.group.candidates if one.who not in flow.tried | set(told)]:
            self.wrong.append(f"{now_s:.3f} s: it was not told of {missing}")


class Drive(ours._Drive):
    """A run in a random world whose router is checked."""

    checked: Checked

    async def _register(self, router: ApiKeyRouter) -> None:
        await super()._register(router)
        pipeline = router._pipeline
        assert isinstance(pipeline, Pipeline)
        self.checked = pipeline._glance = Checked(pipeline)


def story(seed: int, requests: int = 400) -> tuple[Checked, Run]:
    """One random world: pools, limits, what counts, what is told, faults, tenants and arrivals vary."""
    world, traffic, set_up = random_world(seed, requests)
    run = Run("ours", traffic, seed)
    drive = Drive(world, run, Provider(world, seed, traffic.sizes), 10.0, set_up)
    run_world(drive.go())
    return drive.checked, run


def test_a_look_says_what_a_try_would() -> None:
    looks = [story(seed) for seed in range(1, 41)]
    assert not [said for checked, run in looks for said in [*run.violations, *checked.wrong]]
    assert sum(checked.full for checked, _ in looks) > 300
    assert sum(checked.open for checked, _ in looks) > 100
    assert sum(checked.ended for checked, _ in looks) > 20


class Limited(TalkingWorld):
    """A slow refusal that lasts two minutes, and a quick one that lasts six seconds."""

    def __init__(self) -> None:
        plan = {0: Saying(status=429, after_s=3.0), 1: Saying(status=429)}
        super().__init__(lambda _model, number, _body: plan.get(number, Saying()))

    async def send(self, request: HttpRequest) -> HttpReply:
        again_s = b"6" if self.asked else b"120"
        reply = await super().send(request)
        if reply.status == 429:
            reply.headers = [*reply.headers, (b"retry-after", again_s)]
        return reply


def test_hundreds_that_can_no_longer_be_served_in_time_are_all_told_so_and_when_to_come_back() -> None:
    async def go() -> list[SystemError | str]:
        router = ApiKeyRouter(config={}, transport=Limited(), clock=VirtualClock(), rng=random.Random(7), environ={})
        await router.register_provider("p", OpenAIAdapter("http://127.0.0.1:9/v1"))
        await router.register_key("sk-virtual-0", "p", label="k0")

        async def one() -> SystemError | str:
            try:
                return str(await router.route(ask()))
            except SystemError as error:
                return error

        first = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(1)
        told = await asyncio.gather(*(one() for _ in range(500)))
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.01)
        await asyncio.gather(*first)
        await router.aclose()
        return told

    for error in run_virtual(go()):
        assert isinstance(error, NoEligibleKeysError)
        assert (error.status, error.retry_after) == (429, pytest.approx(120.0, abs=2.0))
        assert "rate limit reached" in next(iter(error.reasons.values()))


class FullModel(TalkingWorld):
    """The better model's headers say that nothing is left for a minute."""

    async def send(self, request: HttpRequest) -> HttpReply:
        reply = await super().send(request)
        if b'"gpt-4.1"' in request.body:
            left = ((b"limit", b"10"), (b"remaining", b"0"), (b"reset", b"60s"))
            reply.headers = [*reply.headers, *((b"x-ratelimit-%s-requests" % name, value) for name, value in left)]
        return reply


def test_a_chosen_model_that_others_wait_for_is_stood_in_for_at_once() -> None:
    async def go() -> float:
        world = FullModel(lambda *_: Saying())
        groups = [{"name": "default", "models": ["gpt-4o-mini", "gpt-4.1"]}]
        router = await talking_router(world, model_groups=groups)
        loop = asyncio.get_running_loop()
        await router.route(ask(model="gpt-4.1"))
        waiting = asyncio.create_task(router.route(ask(model="gpt-4.1")))
        await asyncio.sleep(0.5)
        assert router.waiting_room.waiting == 1
        began_s = loop.time()
        await router.route(ask(model="auto:quality"))
        took_s = loop.time() - began_s
        assert world.asked[-1][0] == "gpt-4o-mini"
        await waiting
        await router.aclose()
        return took_s

    assert run_virtual(go()) == pytest.approx(0.1, abs=0.05)
