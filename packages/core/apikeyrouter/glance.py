"""Whether a request in line would only be told the same again: a look that costs a fifth of a try.

Most wake-ups are in vain: an event frees something, and each of those who wait must see whether it is enough for it.
Main entries: `Glance.may_try` and `until`, which wait and look: they ask the pools alone, as `sift` would, and make no
reasons but for a request whose patience ended after such looks. Law: where it cannot be sure that a try would fail, the
request tries: what a try would change or learn (budgets, shares of workers, breakers, probes, limits that are only
guessed) is left to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from apikeyrouter.domain.errors import ProviderNotRegisteredError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.breaker import Phase, Verdict
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.domain.routing.preflight import needs_of
from apikeyrouter.domain.routing.sift import HEADROOM, Sieve
from apikeyrouter.flow import Flow
from apikeyrouter.kept_back import Who
from apikeyrouter.patience import WAITED_FOR, WAITED_FOR_BY_OTHERS, Look, Patience

__all__ = ["Glance"]

_AVAILABLE = KeyState.Available
_CLOSED = Phase.Closed
_ADMIT = Verdict.Admit


class _Spot(Struct, eq=False, gc=False):
    """A candidate for one request, what it needs of its pool (`KINDS`), and when that has room: -inf: only a try can
    tell; inf: when other requests end. True while nothing was taken of the pool or told of it (`moves`)."""

    candidate: Candidate
    needs: tuple[int, ...]
    at_s: float = -math.inf
    moves: int = -1

    def room_at_s(self, now_s: float) -> float:
        """When `needs` fit."""
        view = self.candidate.quota
        windows = view.windows
        moves = view.pool.moves + windows[-1].account.taken  # `PoolView.moves`, written out: asked at every look
        if moves == self.moves and self.at_s > now_s:
            return self.at_s
        self.moves = moves
        needs, latest_s = self.needs, now_s
        for window in windows:
            account, need = window.account, needs[window.kind]
            if now_s >= account.rolls_at_s:
                account.roll(now_s)
            limit = account.limit
            if limit is None or not need or need <= limit - account.used - account.held:
                continue
            if need > limit:
                latest_s = -math.inf
                break
            at_s = account.free_at_s(need, now_s)
            if at_s is None:
                latest_s = math.inf
            elif at_s > latest_s:
                latest_s = at_s
        self.at_s = latest_s
        return latest_s


class Glance:
    """One per router."""

    def __init__(self, directory: Directory, patience: Patience, clock: Clock) -> None:
        self._directory = directory
        self._patience = patience
        self._clock = clock

    async def may_try(self, flow: Flow) -> bool:
        """As `Patience.may_try`, before each look for a key."""
        waiting = flow.waiting
        if not self._patience.must_wait(waiting):
            return True
        if await self._patience.may_try(waiting, self._first_look(flow)):
            return True
        if waiting.looked:
            self._explain(flow)
        return False

    async def until(self, flow: Flow, at_s: float, wants: Who) -> bool:
        """As `Patience.until` for a request that was refused just now; what it was refused for is true when it ends."""
        mendable = all(one.code in WAITED_FOR for one in flow.record.rejections)
        look = self._look_of(flow) if mendable and not flow.record.fallbacks else None
        if await self._patience.until(flow.waiting, at_s, wants, look=look):
            return True
        if flow.waiting.looked:
            self._explain(flow)
        return False

    def _first_look(self, flow: Flow) -> Look | None:
        """For a request that did not try yet, where nothing but room can refuse it."""
        call, group, objective = flow.call, flow.group, flow.objective
        if flow.sends or flow.record.rejections or group.serving is None or objective.selective or objective.measured:
            return None
        if call.chosen is not None and call.chosen.stand_ins:
            return None
        asks = needs_of(flow.money.demand.of(group.serving))
        if self._directory.fallbacks_for(call.provider_id, call.model):
            return None
        for one in group.candidates:
            if asks.abilities & ~one.abilities or asks.tokens > one.context_max:  # what `preflight` refuses
                return None
        return self._look_of(flow)

    def _look_of(self, flow: Flow) -> Look | None:
        chosen, group, demand = flow.call.chosen, flow.group, flow.money.demand
        if not group.small or (chosen and chosen.reserve is not None):
            return None
        spots = [_Spot(one, _needs(one, demand)) for one in group.candidates]
        return partial(self.still_full, flow, group, spots)

    def _explain(self, flow: Flow) -> None:
        """Why it was not served, as of now."""
        record, group, demand = flow.record, flow.group, flow.money.demand
        if group.serving is not None:
            demand = demand.of(group.serving)
        sieve = Sieve(group, demand, flow.objective, tried=flow.tried, now_s=self._clock.monotonic_s())
        sieve.sift(group.candidates, len(group.candidates))
        record.rejections = sieve.rejections
        for candidate in sieve.kept:
            key = candidate.record
            who = key.key_id, key.label, key.provider_id
            record.rejections.append(Rejection(*who, HEADROOM, WAITED_FOR_BY_OTHERS, None, candidate.model))
        record.candidates, record.considered = len(group.candidates), len(record.rejections)
        record.kept, record.chosen = (), None  # what an earlier try took is not what it was left with

    def still_full(self, flow: Flow, group: Group, spots: Sequence[_Spot], now_s: float) -> tuple[float, Who] | None:
        """When the first of its candidates will have room, if nothing more is taken, and which; None: one has it now,
        or only a try can tell."""
        call = flow.call
        try:
            if self._directory.group_for(call.provider_id, call.model) is not group:
                return None
        except ProviderNotRegisteredError:
            return None
        first: Candidate | None = None
        first_s, calm = math.inf, None
        tried = flow.tried
        others = self._patience.leaves_to_others(flow.waiting, tried, len(spots))
        for spot in spots:
            candidate = spot.candidate
            if tried and candidate.who in tried:
                continue
            if others and candidate.who in others:
                at_s = others[candidate.who]
                if at_s < first_s:
                    first, first_s = candidate, at_s
                continue
            breaker = candidate.breaker
            if breaker is not calm:
                if breaker.phase is not _CLOSED or breaker.verdict(now_s) is not _ADMIT:
                    return None
                calm = breaker
            record = candidate.record
            plain = record.state is _AVAILABLE and record.models is None
            block = None if plain else blocked(record, candidate.model, now_s)
            if block is None:
                at_s = spot.room_at_s(now_s)
            elif block.until_s is not None and block.code in WAITED_FOR:
                at_s = block.until_s
            else:
                return None
            if at_s <= now_s:
                return None
            if at_s < first_s:
                first, first_s = candidate, at_s
        return None if first is None else (first_s, first.who)


def _needs(candidate: Candidate, demand: Demand) -> tuple[int, ...]:
    return demand.of(candidate.model).needs(candidate.quota.dialect.charges)
