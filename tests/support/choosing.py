"""Candidates and decisions without HTTP: whatever a scoring test wants to vary, on the real classes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.cost.lengths import OutputLengths
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.models.routing_decision import RoutingDecision, RoutingObjective
from apikeyrouter.domain.quota.dialects import limit_dialect
from apikeyrouter.domain.quota.pools import Pools
from apikeyrouter.domain.resilience.breaker import Breaker
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.choose import Taken
from apikeyrouter.domain.routing.demand import Demand, demand_of
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.domain.routing.stats import KeyStats
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.keys import record

MODEL = "gpt-4o-mini"
_PROVIDER = Provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
_POOLS = Pools(ManualClock(), limit_dialect)
_lengths = OutputLengths()


def call_of(text: str = "Hello!", *, max_tokens: int = 100, **fields: Any) -> Call:
    """A chat call of one message, or of the `messages` given."""
    messages = fields.pop("messages", [{"role": "user", "content": text}])
    body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": max_tokens}).encode()
    peeked = peek(body)
    return Call("r", Operation.Chat, MODEL, body, peeked, started_s=0.0, deadline_s=600.0, **fields)


def demand(text: str = "Hello!", *, tenant: str = "", session: str = "", **fields: Any) -> Demand:
    """What such a call will probably use."""
    return demand_of(replace(call_of(text, **fields), session=session), _lengths, tenant=tenant)


def candidate(
    index: int,
    *,
    usd_per_million: float = 1.0,
    failures: int = 0,
    successes: int = 0,
    ttft_s: float = 1.0,
    in_flight: int = 0,
    turn: float = 0.0,
    pressure: float = 0.0,
    cached_usd_per_million: float | None = None,
) -> Candidate:
    """One key with a pool of its own."""
    key = record(key_id=f"key_{index}", label=f"key-{index}", pool_id=f"pool-{index}", provider_id="openai")
    key.in_flight = in_flight
    stats = KeyStats()
    for _ in range(failures):
        stats.record(ok=False, now_s=0.0)
    for _ in range(successes):
        stats.record(ok=True, now_s=0.0)
    stats.record_ttft(ttft_s, 0.0)
    cached = None if cached_usd_per_million is None else int(cached_usd_per_million * 1e9)
    price = ModelPrice(int(usd_per_million * 1e9), int(usd_per_million * 4e9), cached_input=cached)
    made = Candidate(
        index,
        _PROVIDER,
        key,
        MODEL,
        stats=stats,
        price=price,
        breaker=Breaker(),
        quota=_POOLS.view(key, "openai", MODEL),
    )
    made.quota.pressure = pressure
    made.turn = turn
    return made


class Chooses:
    """A router that only decides, on keys with the metadata given."""

    def __init__(self, router: ApiKeyRouter, loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
        self.router = router
        self.loop = loop
        self.clock = clock
        self.ids: list[str] = []
        self.last: DecisionRecord | None = None

    def choose(
        self, objective: RoutingObjective | str | None = None, *, text: str = "Hello!", **fields: Any
    ) -> Taken | None:
        """Decides and holds; nothing is sent."""
        return self.choose_as(self.router.objective(objective), text=text, **fields)

    def choose_as(self, compiled: Objective, *, text: str = "Hello!", **fields: Any) -> Taken | None:
        """The same under a compiled objective, which requests share."""
        tags = fields.pop("tags", {})
        tenant = fields.pop("tenant", "")
        made = DecisionRecord("dec_test", "r", MODEL, compiled, at_utc_s=0.0, stream=False)
        made.outcome = fields.pop("outcome", "pending")
        self.last = made
        return self.router.chooser.choose(
            self.router.directory.group_for(None, MODEL),
            demand(text, tenant=tenant, **fields),
            compiled,
            made,
            tried=set(),
            now_s=self.clock.monotonic_s(),
            tags=tags,
        )

    def decision(self) -> RoutingDecision:
        """The last one, rendered."""
        assert self.last is not None
        return self.router.journal.render(self.last)

    def place(self, taken: Taken | None) -> int:
        """Which of the keys was taken, by order of registration."""
        assert taken is not None
        return self.ids.index(taken.scored.key_id)

    def spend(self, taken: Taken) -> None:
        """The hold becomes a charge, as after a good reply."""
        taken.hold.dispatch()
        taken.hold.settle([need for _, need in taken.hold.lines])


@contextmanager
def choosing(keys: Sequence[Mapping[str, Any]], **config: Any) -> Iterator[Chooses]:
    """Keys at one provider, in this order."""
    loop = asyncio.new_event_loop()
    clock = ManualClock()
    router = ApiKeyRouter(config=config, clock=clock)
    made = Chooses(router, loop, clock)

    async def fill() -> None:
        await router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
        for number, metadata in enumerate(keys):
            key = await router.register_key(f"sk-choosing-{number}", "openai", metadata=metadata, label=f"key-{number}")
            made.ids.append(key.id)

    loop.run_until_complete(fill())
    try:
        yield made
    finally:
        loop.run_until_complete(router.aclose())
        loop.close()
