"""Looks before tries, with the whole router in random worlds: what a look says, a try would have said too."""

from __future__ import annotations

from typing import Any

from apikeyrouter import ApiKeyRouter
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


class Checked(Glance):
    """A `Glance` that asks the filters too, whenever it says that a try would be in vain."""

    def __init__(self, pipeline: Pipeline) -> None:
        plain = pipeline._glance
        super().__init__(plain._directory, plain._patience, plain._clock)
        self._pipeline = pipeline
        self.full = self.open = self.ended = 0
        self.wrong: list[str] = []

    def _still_full(self, flow: Flow, *known: Any) -> tuple[float, Who] | None:
        said = super()._still_full(flow, *known)
        if said is None:
            self.open += 1
            return None
        self.full += 1
        now_s = self._clock.monotonic_s()
        tried, spared = self._patience.passed_over(flow.waiting, flow.tried, len(flow.group.candidates))
        record = DecisionRecord(
            "d", "r", flow.call.model, flow.objective, at_utc_s=0.0, stream=False, outcome="dry_run"
        )
        taken = self._pipeline._chooser.choose(
            flow.group, flow.money.demand, flow.objective, record, tried=tried, now_s=now_s, tags=flow.call.tags
        )
        if taken is not None:
            taken.hold.release()
        found = waitable(record.rejections)
        times_s = [one.until_s for who, one in spared.items() if who in tried and who not in flow.tried]
        times_s += [found[0]] if found is not None else []
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
