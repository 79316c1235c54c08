"""Candidates of a model, kept in order so that a decision over 1,000 keys costs little more than one over 10.

A `Group` holds every key that may serve one model, in two sorted lists: by turn (who has served least, weighted) and by
price. A decision looks at a bounded number from the front of each. A key that rests is parked when a large group meets
it and comes back when its time or an event says so, so resting keys cost nothing while they rest.

Turn-taking is stride scheduling (Waldspurger and Weihl, 1995): each candidate has a `turn`; taking adds 1/weight; the
least turn is next. A candidate that returns starts level with the least, so that it is not flooded to catch up.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from apikeyrouter.domain.cost.estimate import ceiling_of
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.keys.eligibility import Block
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.resilience.breaker import Breaker
from apikeyrouter.domain.routing.deployments import Target
from apikeyrouter.domain.routing.preflight import ANY_LENGTH, abilities_of
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.domain.routing.stats import KeyStats

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.objectives import Objective

__all__ = ["Candidate", "Group"]

_UNKNOWN_USD = 0.0
_PEERS = 64


class Candidate:
    """One key of one provider for one model. `model`: its name at that provider. `asked`: that of its group: what the
    caller asked for, or one of its fallbacks. `who`: key id and model, since a key may serve several models of a group.

    `input_usd` and `output_usd`: dollars per token, 0.0 when the price is unknown (`price` is None). `turn`: what it
    has served so far, in units of 1/weight. `quota`: what its quota pool has for the model. `index`: its place in
    registration order: the last word in any tie. `abilities`, `context_max`: see `preflight`. `region`, `tags`: of its
    deployment's target and of its key, for policies; `rulings`: what policies say about it, by ruling; `passed`: the
    last objective whose constraints let it pass.
    """

    __slots__ = (
        "abilities", "asked", "breaker", "context_max", "fixed_usd", "index", "input_usd", "model", "output_usd",
        "parked", "passed", "price", "provider", "quota", "record", "region", "rulings", "stats", "stride", "tags",
        "turn", "who",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        provider: Provider,
        record: KeyRecord,
        model: str,
        *,
        stats: KeyStats,
        price: ModelPrice | None,
        breaker: Breaker,
        quota: PoolView,
        asked: str | None = None,
        target: Target | None = None,
        has_substitutes: bool = False,
    ) -> None:
        self.asked = model if asked is None else asked
        self.index = index
        self.provider = provider
        self.breaker = breaker
        self.quota = quota
        self.model = model
        self.record = record
        self.who = (record.key_id, model)
        self.stats = stats
        self.price = price
        self.input_usd = price.input / 1e15 if price else _UNKNOWN_USD
        self.output_usd = price.output / 1e15 if price else _UNKNOWN_USD
        self.fixed_usd = price.per_request / 1e9 if price else _UNKNOWN_USD
        self.stride = 1.0 / (record.weight if target is None else record.weight * target.weight)
        self.turn = 0.0
        self.parked = False
        self.abilities = abilities_of(provider.capabilities, () if target is None else target.without)
        self.context_max = _window(price, target) if has_substitutes else ANY_LENGTH
        self.region = (target.region if target else None) or _text(record.metadata.get("region"))
        self.tags = _names(record.metadata.get("tags")) | (target.tags if target else frozenset())
        self.rulings: dict[object, object] = {}
        self.passed: Objective | None = None

    @property
    def unit_price_usd(self) -> float:
        """Dollars for one input and one output token: the order of the price list."""
        return self.input_usd + self.output_usd


def _window(price: ModelPrice | None, target: Target | None) -> int:
    told = target.context_window if target is not None else None
    return told or (price.context_window if price is not None else None) or ANY_LENGTH


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _names(given: object) -> frozenset[str]:
    """Metadata is the operator's own: a list of names, or text with commas; anything else names nothing."""
    listed = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else ()
    return frozenset(one.strip() for one in listed if isinstance(one, str) and one.strip())


class Group:
    """Every candidate for one model (over one or several providers), in turn order and in price order."""

    __slots__ = (
        "_by_price", "_by_turn", "_ceiling", "_considered_max", "_wakes", "candidates", "generation", "model", "served",
        "serving", "small",
    )  # fmt: skip

    def __init__(self, model: str, candidates: Sequence[Candidate], *, considered_max: int, generation: int) -> None:
        self.model = model
        self.candidates = list(candidates)
        models = {candidate.model for candidate in self.candidates}
        self.serving = next(iter(models)) if len(models) == 1 else None
        """The model behind it, None where there are several."""
        self.generation = generation
        self.small = len(self.candidates) <= considered_max
        """Whether every candidate is looked at in every decision."""
        self.served = 0
        self._considered_max = considered_max
        self._by_turn = sorted((c.turn, c.index) for c in self.candidates)
        self._by_price: list[tuple[float, float, int]] | None = None  # kept from when it is first asked for
        self._wakes: list[tuple[float, int]] = []
        self._ceiling: tuple[ModelPrice | None] | None = None

    @property
    def ceiling(self) -> ModelPrice | None:
        """A price that bounds those of all candidates (`ceiling_of`); None: there is none, or one has no price."""
        if self._ceiling is None:
            prices = {id(one.price): one.price for one in self.candidates}
            known = [price for price in prices.values() if price is not None]
            self._ceiling = (ceiling_of(known) if len(known) == len(prices) else None,)
        return self._ceiling[0]

    def front(self, now_s: float, *, by_price: bool) -> Iterator[Candidate]:
        """Candidates worth looking at, best first by the order asked for; all of them when the group is small."""
        if self.small:
            return iter(self.candidates)
        while self._wakes and self._wakes[0][0] <= now_s:
            self.unpark(self.candidates[heapq.heappop(self._wakes)[1]])
        # Parking while somebody iterates changes the lists, so they iterate over a snapshot of the front.
        ahead = 2 * self._considered_max
        if by_price:
            if self._by_price is None:
                self._by_price = sorted((c.unit_price_usd, c.turn, c.index) for c in self.candidates if not c.parked)
            return iter([self.candidates[i] for _, _, i in self._by_price[:ahead]])
        return iter([self.candidates[i] for _, i in self._by_turn[:ahead]])

    def peers_of(self, candidate: Candidate) -> list[KeyRecord]:
        """At most 64 keys around this one, itself among them: what its failures are compared with."""
        low = max(0, min(candidate.index - _PEERS // 2, len(self.candidates) - _PEERS))
        return [one.record for one in self.candidates[low : low + _PEERS]]

    def took(self, candidate: Candidate) -> None:
        """`candidate` was chosen: it moves behind by one turn."""
        self.served += 1
        if self.small:
            candidate.turn += candidate.stride
            return
        self._remove(candidate)
        candidate.turn += candidate.stride
        self._insert(candidate)

    def gave_back(self, candidate: Candidate) -> None:
        """What was taken was not used (refused at the hold): the turn is returned."""
        if self.small or candidate.parked:
            candidate.turn -= candidate.stride
            return
        self._remove(candidate)
        candidate.turn -= candidate.stride
        self._insert(candidate)

    def park(self, candidate: Candidate, block: Block) -> None:
        """Takes a resting candidate out of a large group's lists until its time comes or `unpark` is called."""
        if self.small or candidate.parked:
            return
        self._remove(candidate)
        candidate.parked = True
        if block.until_s is not None:
            heapq.heappush(self._wakes, (block.until_s, candidate.index))

    def unpark(self, candidate: Candidate) -> None:
        """Puts a candidate back, level with whoever has served least. Harmless when it is not parked."""
        if not candidate.parked:
            return
        candidate.parked = False
        candidate.turn = max(candidate.turn, self._by_turn[0][0] if self._by_turn else 0.0)
        self._insert(candidate)

    def _remove(self, candidate: Candidate) -> None:
        if candidate.parked:
            return
        turn = (candidate.turn, candidate.index)
        del self._by_turn[bisect_left(self._by_turn, turn)]
        if self._by_price is not None:
            price = (candidate.unit_price_usd, candidate.turn, candidate.index)
            del self._by_price[bisect_left(self._by_price, price)]

    def _insert(self, candidate: Candidate) -> None:
        if candidate.parked:
            return
        insort(self._by_turn, (candidate.turn, candidate.index))
        if self._by_price is not None:
            insort(self._by_price, (candidate.unit_price_usd, candidate.turn, candidate.index))
