"""Which models of a group could answer a request, with the numbers that strategies weigh.

Main entry: `Survey.look`. Filters come before any score, each with its reason: what the caller may use, whether anybody
serves it, what it can do, how much it reads, whether its keys rest, and what the request may cost at the most.
Laws: every member is an option or has a reason; nothing is held and nothing is changed; about 10 us a member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from apikeyrouter.domain.cost.fit import largest_output_tokens
from apikeyrouter.domain.errors import ProviderNotRegisteredError, SystemError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.model_choice import ModelWish
from apikeyrouter.domain.resilience.breaker import Verdict
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand, demand_of
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.preflight import needs_of, preflight
from apikeyrouter.domain.routing.sift import selection_block
from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue, ModelFacts
from apikeyrouter.muxer.groups import Member, ModelGroup
from apikeyrouter.muxer.prompts import Prompt
from apikeyrouter.muxer.refusing import nobody, too_dear
from apikeyrouter.muxer.strategies import Option, qualities

__all__ = ["Able", "Seen", "Standing", "Survey"]

Every = tuple[tuple[Member, ModelPrice | None], ...]
"""The members that somebody serves, with their list prices."""


@dataclass(frozen=True, slots=True)
class Able:
    """A model that could answer. `candidate`: one of its keys, the cheapest of those looked at. `demand`: the request
    as this model would serve it."""

    member: Member
    option: Option
    candidate: Candidate
    demand: Demand
    provider_id: str | None
    model: str

    @property
    def price(self) -> ModelPrice | None:
        """What it costs there."""
        return self.candidate.price


@dataclass(frozen=True, slots=True)
class Seen:
    """`able`: those that could answer. `reference`: the model and price that savings are told against, able or not.
    `reasons`: why others cannot, by model."""

    able: tuple[Able, ...]
    reference: tuple[str, ModelPrice] | None
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """A model as it stands in its group. `price`: its list price, None when unknown. `quality`: 0..1, None while no
    registered provider serves it. `reference`: savings are told against it."""

    member: Member
    price: ModelPrice | None
    quality: float | None
    reference: bool


class Survey:
    """Looks at models. `lengths`, `ratios`: what similar requests used. `now_s`: the monotonic clock."""

    def __init__(self, directory: Directory, lengths: Any, ratios: Any, now_s: Callable[[], float]) -> None:
        self._directory = directory
        self._lengths = lengths
        self._ratios = ratios
        self._now_s = now_s
        self._catalogue = ModelCatalogue()
        self._facts: dict[str, ModelFacts | None] = {}
        self._ranked: dict[str, _Ranked] = {}
        self._marked: dict[str, tuple[ModelGroup, Every, _Marked]] = {}

    def look(
        self,
        group: ModelGroup,
        call: Call,
        objective: Objective,
        prompt: Prompt,
        *,
        wish: ModelWish,
        max_cost_usd: float | None,
        bounded: bool,
    ) -> Seen:
        """Who could answer. `bounded`: whether provably most costs are asked for, as they are for `max_cost_usd`.

        Raises SystemError when nobody can, BudgetExceededError when all may cost too much.
        """
        tenant = str(call.tags.get("virtual_key") or "") if call.tags else ""
        base = demand_of(call, self._lengths, self._ratios, tenant=tenant)
        needs = needs_of(base)
        now_s = self._now_s()
        reasons: dict[str, str] = {}
        found: list[tuple[Member, Candidate, Demand, str | None, str]] = []
        every: list[tuple[Member, ModelPrice | None]] = []
        for member in group.members:
            provider_id, bare = self._directory.split_model(member.model)
            try:
                keys = self._keys_of(member.model, self._directory.group_for(provider_id, bare))
            except ProviderNotRegisteredError:
                reasons[member.model] = "no registered provider serves it"
                continue
            every.append((member, keys.price))
            why = _not_allowed(member.model, bare, wish) or self._unfit(member, bare, needs, prompt)
            if not why:
                best, why = _best(keys, objective, needs, now_s)
                if best is not None:
                    found.append((member, best, base.of(best.model), provider_id, bare))
            if why:
                reasons[member.model] = why
        marked = self._marks_of(group, tuple(every))
        limited = bounded or max_cost_usd is not None
        able = [_able(*row, marked.qualities[row[0].model], bounded=limited) for row in found]
        if not able:
            raise nobody(call.model, reasons)
        kept = _affordable(able, max_cost_usd, reasons)
        return Seen(tuple(kept), marked.reference, reasons)

    def standings(self, group: ModelGroup) -> list[Standing]:
        """Every member as it stands, whatever is asked."""
        prices: dict[str, ModelPrice | None] = {}
        for member in group.members:
            try:
                keys = self._keys_of(
                    member.model, self._directory.group_for(*self._directory.split_model(member.model))
                )
            except ProviderNotRegisteredError:
                continue
            prices[member.model] = keys.price
        every = tuple((one, prices[one.model]) for one in group.members if one.model in prices)
        marked = self._marks_of(group, every)
        reference = None if marked.reference is None else marked.reference[0]
        return [
            Standing(one, prices.get(one.model), marked.qualities.get(one.model), one.model == reference)
            for one in group.members
        ]

    def _keys_of(self, name: str, group: Group) -> _Ranked:
        """A model's keys, cheapest first; sorted once for each generation of its group."""
        known = self._ranked.get(name)
        if known is None or known.group is not group:
            keys = sorted(group.candidates, key=lambda one: one.unit_price_usd)
            price = next((one.price for one in group.candidates if one.price is not None), None)
            known = self._ranked[name] = _Ranked(group, keys, price)
        return known

    def _marks_of(self, group: ModelGroup, every: Every) -> _Marked:
        """Qualities and the reference; worked out once for the same members and prices."""
        known = self._marked.get(group.name)
        if known is not None and known[0] is group and known[1] == every:
            return known[2]
        units = [None if price is None else (price.input + price.output) or None for _, price in every]
        marks = dict(zip([one.model for one, _ in every], qualities([one for one, _ in every], units), strict=True))
        made = _Marked(marks, _reference(group, every, marks))
        self._marked[group.name] = (group, every, made)
        return made

    def _unfit(self, member: Member, bare: str, needs: Any, prompt: Prompt) -> str:
        """What the model lacks for the request, by configuration and catalogue; what is not known is no reason."""
        lacks = member.without
        facts = self._known(bare)
        if prompt.tools and ("tools" in lacks or (facts is not None and facts.tools is False)):
            return "it calls no tools"
        if prompt.images and ("images" in lacks or (facts is not None and facts.vision is False)):
            return "it reads no images"
        if prompt.schema and "structured_output" in lacks:
            return "it has no structured output"
        window = member.context_window or (facts.context_tokens if facts is not None else None)
        if window is not None and needs.tokens > window:
            return f"about {needs.tokens:,} tokens do not fit into its context of {window:,}"
        return ""

    def _known(self, model: str) -> ModelFacts | None:
        try:
            return self._facts[model]
        except KeyError:
            found = self._facts[model] = self._catalogue.find(model)
            return found


def _not_allowed(name: str, bare: str, wish: ModelWish) -> str:
    patterns = wish.models
    if patterns is None or any(fnmatchcase(name, one) or fnmatchcase(bare, one) for one in patterns):
        return ""
    return "the caller's key may not use it"


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A model's keys, cheapest first. `price`: its list price, the first that is known."""

    group: Group
    keys: Sequence[Candidate]
    price: ModelPrice | None


@dataclass(frozen=True, slots=True)
class _Marked:
    """`qualities`: by model, 0..1. `reference`: see `Seen`."""

    qualities: Mapping[str, float]
    reference: tuple[str, ModelPrice] | None


def _best(ranked: _Ranked, objective: Objective, needs: Any, now_s: float) -> tuple[Candidate | None, str]:
    """The cheapest key that could serve now, or why none can."""
    group = ranked.group
    why = "no key is registered for it" if not group.candidates else "all of its keys rest"
    for candidate in ranked.keys if group.small else group.front(now_s, by_price=True):
        block = (
            preflight(candidate, needs)
            or selection_block(candidate, objective)
            or blocked(candidate.record, candidate.model, now_s)
        )
        if block is not None:
            why = block.reason
        elif candidate.breaker.verdict(now_s, candidate.record.key_id) is Verdict.Reject:
            why = f"{candidate.provider.provider_id} {candidate.breaker.why(now_s)[0]}"
        else:
            return candidate, ""
    return None, why


def _able(
    member: Member,
    candidate: Candidate,
    demand: Demand,
    provider_id: str | None,
    model: str,
    quality: float,
    *,
    bounded: bool,
) -> Able:
    price = candidate.price
    expected = most = None
    if price is not None:
        expected = demand.expected_nano_usd(price) / 1e9
        most = demand.most_nano_usd(price) / 1e9 if bounded and not demand.open_ends(price) else None
    option = Option(member.model, expected, most, candidate.stats.ttft_s, quality, member.tasks)
    return Able(member, option, candidate, demand, provider_id, model)


def _affordable(able: Sequence[Able], max_cost_usd: float | None, reasons: dict[str, str]) -> Sequence[Able]:
    """Those that cannot cost more than `max_cost_usd`. Raises BudgetExceededError when there is none."""
    if max_cost_usd is None:
        return able
    kept = []
    for one in able:
        most = one.option.most_usd
        if most is None:
            why = "its price is not known" if one.price is None else "what it may cost has no bound"
            reasons[one.member.model] = f"{why}, and max_cost is set"
        elif most > max_cost_usd:
            reasons[one.member.model] = f"it may cost ${most:.6f} > ${max_cost_usd:g}"
        else:
            kept.append(one)
    if kept:
        return kept
    priced = [one for one in able if one.option.most_usd is not None]
    if not priced:
        raise nobody("max_cost", reasons)
    raise _refusal(min(priced, key=lambda one: one.option.most_usd or 0.0), max_cost_usd)


def _refusal(cheapest: Able, max_cost_usd: float) -> SystemError:
    price, demand = cheapest.price, cheapest.demand
    fits = 0
    if price is not None:
        free = int(max_cost_usd * 1e9)
        fits = largest_output_tokens(price, demand.input_bound, max(1, demand.choices), free)
    return too_dear(max_cost_usd, cheapest.member.model, cheapest.option.most_usd or 0.0, fits_tokens=fits or None)


def _reference(group: ModelGroup, every: Every, marks: Mapping[str, float]) -> tuple[str, ModelPrice] | None:
    """The configured reference, else the strongest with a price; the dearest of equals."""
    priced = [(member.model, price) for member, price in every if price is not None]
    if group.reference is not None:
        return next((one for one in priced if one[0] == group.reference), None)
    return max(priced, key=lambda one: (marks[one[0]], one[1].output, one[0]), default=None)
