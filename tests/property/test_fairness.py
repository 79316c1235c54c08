"""Turn-taking: exact for equal keys, proportional for weights, level for keys that come back; small pools and large."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.models.call import Operation, peek
from apikeyrouter.domain.routing.demand import demand_of
from apikeyrouter.domain.routing.explain import DecisionRecord

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}]}'


class Picker:
    """A router that only decides: `pick()` names the key whose turn it is."""

    def __init__(self, weights: list[int], considered_max: int) -> None:
        self.router = ApiKeyRouter(config={"considered_max": considered_max})
        self.loop = asyncio.new_event_loop()
        self.ids = self.loop.run_until_complete(self._fill(weights))

    async def _fill(self, weights: list[int]) -> list[str]:
        await self.router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
        keys = [
            await self.router.register_key(f"sk-fair-{i}", "openai", metadata={"weight": weight})
            for i, weight in enumerate(weights)
        ]
        return [key.id for key in keys]

    def pick(self, objective: str = "fairness") -> str:
        router = self.router
        call = router.new_call(Operation.Chat, BODY, peek(BODY))
        compiled = router.objective(objective)
        record = DecisionRecord("d", call.request_id, call.model, compiled, at_utc_s=0.0, stream=False)
        taken = router.chooser.choose(
            router.directory.group_for(None, call.model),
            demand_of(call, router.cost_controller.lengths),
            compiled,
            record,
            tried=set(),
            now_s=router.now_s(),
        )
        assert taken is not None
        taken.hold.release()
        return taken.scored.key_id

    def disable(self, index: int) -> None:
        self.loop.run_until_complete(self.router.key_manager.disable(self.ids[index]))

    def enable(self, index: int) -> None:
        self.loop.run_until_complete(self.router.key_manager.enable(self.ids[index]))

    def close(self) -> None:
        self.loop.run_until_complete(self.router.aclose())
        self.loop.close()


@contextmanager
def picker(weights: list[int], considered_max: int = 24) -> Iterator[Picker]:
    made = Picker(weights, considered_max)
    try:
        yield made
    finally:
        made.close()


sizes = st.sampled_from([2, 24])
"""What a decision looks at: with 2 the pools below count as large ones."""


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 60), sizes, st.sampled_from(["fairness", "cost"]))
def test_equal_keys_never_differ_by_more_than_one(keys: int, picks: int, considered: int, objective: str) -> None:
    with picker([1] * keys, considered) as turn:
        counts = Counter(dict.fromkeys(turn.ids, 0))
        for _ in range(picks):
            counts[turn.pick(objective)] += 1
            assert max(counts.values()) - min(counts.values()) <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), sizes)
def test_weights_are_kept_over_every_round(weights: list[int], considered: int) -> None:
    with picker(weights, considered) as turn:
        rounds = 3
        counts = Counter(turn.pick() for _ in range(rounds * sum(weights)))
        for key, weight in zip(turn.ids, weights, strict=True):
            assert abs(counts[key] - rounds * weight) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(0, 40), sizes, st.data())
def test_a_key_that_comes_back_is_not_flooded(keys: int, meanwhile: int, considered: int, data: st.DataObject) -> None:
    with picker([1] * keys, considered) as turn:
        for _ in range(data.draw(st.integers(0, 10))):
            turn.pick()
        away = data.draw(st.integers(0, keys - 1))
        turn.disable(away)
        assert turn.ids[away] not in {turn.pick() for _ in range(meanwhile)}
        turn.enable(away)
        counts = Counter(turn.pick() for _ in range(2 * keys))
        assert 1 <= counts[turn.ids[away]] <= 3
