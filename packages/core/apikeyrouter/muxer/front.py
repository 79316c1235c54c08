"""Requests for `auto`: what they become, and how they are served.

    auto            the default group by its strategy          auto:cost        by another strategy
    auto/support    another group                              auto/support:quality

Main entry: `ModelRouting`, one per router, made when the first request asks for it. `plan` chooses a model; `serve`
also sends. Laws: a request that names a model never comes here; nothing is sent where nothing fits; the decision says
which model, why, and what it saved against the reference model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation
from apikeyrouter.domain.models.model_choice import Chosen
from apikeyrouter.domain.models.routing_decision import RoutingDecision
from apikeyrouter.domain.routing.fallbacks import with_model
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.muxer.difficulty import DifficultyPredictor, predictor, threshold_for
from apikeyrouter.muxer.groups import DEFAULT, LADDERS, Member, ModelGroup, Role, Strategy
from apikeyrouter.muxer.guard import RouteBook
from apikeyrouter.muxer.money import Purse
from apikeyrouter.muxer.options import Able, Seen, Standing, Survey
from apikeyrouter.muxer.prompts import Prompt, prompt_of
from apikeyrouter.muxer.remembering import PromptMemory
from apikeyrouter.muxer.strategies import HEURISTIC_TOLERANCE, Pick, Signals, choose
from apikeyrouter.muxer.wishes import MEMBER, no_lesson, note_of, refused, wish_of
from apikeyrouter.telling import tell_all

if TYPE_CHECKING:
    from apikeyrouter.domain.components.policy_engine import Given
    from apikeyrouter.router import ApiKeyRouter
    from apikeyrouter.sending import Reply

__all__ = ["MEMBER", "Mark", "ModelRouting", "Plan", "Taken"]

_log = logging.getLogger("apikeyrouter")
_WATCH_EVERY = 100

_SERVED = frozenset({*CONVERSATIONS, Operation.Completions})
_SHARES = {Strategy.Cost: 0.2}
"""Share of prompts that goes to the strong model without a target of the group's: a fifth for `cost_optimized`, half
for the others."""
_HALF = 0.5
_LEANS = 0.3
"""How much the text's complexity moves the predictor's odds in `hybrid`, per unit above or below the complexity at
which `heuristic` is indifferent: it sees languages and tasks that the predictor was not trained on. A judgement, which
feedback corrects."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Feedback that was taken in. `replaced`: an earlier mark of the same request."""

    group: str
    model: str
    replaced: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark with what was decided then. `quality`: of the model that answered, 0..1. `gain`: the predictor's odds."""

    request_id: str
    decision_id: str
    at: datetime
    group: str
    model: str
    quality: float
    gain: float | None
    score: float


@dataclass(slots=True)
class Plan:
    """What a request becomes. `call`: for the chosen model. `able`: those that may answer, in order of preference."""

    call: Call
    objective: Objective
    group: ModelGroup
    strategy: Strategy
    prompt: Prompt
    able: tuple[Able, ...]
    note: dict[str, Any]
    max_cost_usd: float | None
    asked: Call


class ModelRouting:
    """Model routing of one router. `verifier`: see `cascade.Verifier`; `predictor`: what foresees the gain of a strong
    model, default `difficulty.predictor()`."""

    def __init__(self, router: ApiKeyRouter, clock: Clock) -> None:
        from apikeyrouter.muxer.cascade import Cascade, Verifier
        from apikeyrouter.muxer.feedback import FeedbackKeeper

        self._router = router
        costs = router.cost_controller
        self._survey = Survey(router.directory, costs.lengths, costs.ratios, router.now_s)
        self._groups: dict[str, ModelGroup] = {}
        self._ladder: tuple[tuple[str, ...], ModelGroup] | None = None
        self.purse = Purse(router, clock)
        self.books: dict[str, RouteBook] = {}
        self.feedback = FeedbackKeeper(router.state_store, self.books)
        self._predictor_file = router.settings.muxer_model
        self.predictor: DifficultyPredictor = predictor(self._predictor_file)
        self.verifier: Verifier | None = None
        self._memory = PromptMemory()
        self._cascade = Cascade(router, self)
        self.configure(router.settings.model_groups)

    def configure(self, groups: Iterable[ModelGroup]) -> None:
        """The groups are these now, and the predictor is that of the settings if they name another one."""
        if self._router.settings.muxer_model != self._predictor_file:
            self._predictor_file = self._router.settings.muxer_model
            self.predictor = predictor(self._predictor_file)
        self._groups = {one.name: one for one in groups}
        for name, group in self._groups.items():
            book = self.books.get(name)
            if book is not None:
                book.strong_share, book.target_quality = group.strong_share, group.target_quality

    def book(self, group: ModelGroup) -> RouteBook:
        """What is known of a group's traffic."""
        found = self.books.get(group.name)
        if found is None:
            found = self.books[group.name] = RouteBook(
                group.name, strong_share=group.strong_share, target_quality=group.target_quality
            )
            self.feedback.fill(found)
        return found

    @property
    def groups(self) -> Mapping[str, ModelGroup]:
        """Configured groups by name."""
        return self._groups

    # -- serving ----------------------------------------------------------------------------------------------------

    async def serve(self, call: Call, objective: Objective, policy: Given | None) -> Reply:
        """Chooses and serves. Raises what a request for the chosen model raises, and what `plan` raises."""
        await self.feedback.opened()
        plan = self.plan(call, objective)
        if plan.strategy is Strategy.Cascade and len(plan.able) > 1:
            return await self._cascade.serve(plan, policy)
        return await self._router.serve(plan.call, plan.objective, policy)

    def plan(self, call: Call, objective: Objective, *, counted: bool = True) -> Plan:
        """Chooses a model. `counted`: whether it is real traffic, that thresholds follow.

        Raises SystemError for an unknown group or strategy, and when no model can answer; BudgetExceededError when
        every one may cost too much.
        """
        if call.operation not in _SERVED:
            raise refused("auto chooses models for conversations only; name a model for this endpoint.", "model")
        group, named = self._asked(call.model)
        wish = wish_of(call)
        strategy = self._strategy(wish.strategy or named, group)
        prompt = prompt_of(call.body)
        limits = [one for one in (wish.max_cost_usd, group.max_cost_usd, objective.max_cost_usd) if one is not None]
        most = min(limits) if limits else None
        bounded = strategy is Strategy.Cascade
        seen = self._survey.look(group, call, objective, prompt, wish=wish, max_cost_usd=most, bounded=bounded)
        if most is not None:
            objective = replace(objective, max_cost_usd=most)
        book = self.book(group)
        signals, raw = self._signals(strategy, prompt, book)
        tolerance = book.tolerance(self._usual(strategy))
        pick = choose(strategy, [one.option for one in seen.able], signals, tolerance)
        ordered = _in_order(seen, pick)
        told = ""
        if strategy is not Strategy.Cascade and len(ordered) > 1:
            ordered, told = self._within_budgets(call, ordered)
        note = note_of(call, group, strategy, pick, ordered, seen, signals, raw, tolerance)
        note |= {"predictor": self.predictor.name, "max_cost_usd": most, "note": told}
        if counted:
            self._count(book, ordered[0], note, signals)
        return self._planned(call, objective, group, strategy, prompt, ordered, note, most)

    def again(self, plan: Plan, strategy: Strategy, told: str) -> Plan:
        """The plan by another strategy, among the same models. `told`: why."""
        book = self.book(plan.group)
        signals, raw = self._signals(strategy, plan.prompt, book)
        tolerance = book.tolerance(self._usual(strategy))
        pick = choose(strategy, [one.option for one in plan.able], signals, tolerance)
        by_name = {one.option.name: one for one in plan.able}
        ordered = tuple(by_name[one.name] for one in pick.order)
        note = {**plan.note, "strategy": strategy.value, "model": pick.option.name, "why": pick.why, "note": told}
        note |= {"order": [one.option.name for one in ordered], "quality": pick.option.quality, "raw_gain": raw}
        note |= {"expected_usd": pick.option.expected_usd, "gain": signals.gain, "tolerance": tolerance}
        return self._planned(
            plan.asked, plan.objective, plan.group, strategy, plan.prompt, ordered, note, plan.max_cost_usd
        )

    def _planned(
        self,
        call: Call,
        objective: Objective,
        group: ModelGroup,
        strategy: Strategy,
        prompt: Prompt,
        ordered: tuple[Able, ...],
        note: dict[str, Any],
        most: float | None,
    ) -> Plan:
        stand_ins = tuple(one.option.name for one in ordered[1:])
        chosen = self.call_of(call, ordered[0], Chosen(note, stand_ins))
        return Plan(chosen, objective, group, strategy, prompt, ordered, note, most, call)

    def call_of(self, call: Call, able: Able, chosen: Chosen) -> Call:
        """The call for one model, without what is ours."""
        made = with_model(call, able.model, without=MEMBER)
        if made.peek.model != able.model:
            made.peek = msgspec.structs.replace(call.peek, model=able.model)
        made.provider_id, made.chosen, made.wish = able.provider_id, chosen, None
        return made

    def shadow(self, call: Call, name: str, objective: Objective) -> dict[str, Any]:
        """What `auto` would have made of a request that names its model, as its decision keeps it."""
        plan = self.plan(replace(call, model=name, provider_id=None, chosen=None), objective, counted=False)
        rates = None if plan.able[0].price is None else (plan.able[0].price.input, plan.able[0].price.output)
        note = {**plan.note, "asked": call.model, "mode": "shadow", "model": call.model, "would": plan.note["model"]}
        return {**note, "rates": rates, "reference": call.model}

    def shadowed(self, group: ModelGroup, note: Mapping[str, Any]) -> None:
        """A request was looked at in shadow mode."""
        self.book(group).saw(
            note["gain"],
            strong=note["quality"] > _HALF,
            chosen_usd=note.get("expected_usd"),
            reference_usd=note.get("reference_expected_usd"),
            shadow=True,
        )

    def standings(self, group: ModelGroup) -> list[Standing]:
        """A group's models with their prices and qualities, as they stand whatever is asked."""
        return self._survey.standings(group)

    def tolerance(self, group: ModelGroup) -> float:
        """The loss that a group puts up with now, by its own strategy, 0..1."""
        strategy = group.strategy or self._router.settings.default_routing_strategy
        return self.book(group).tolerance(self._usual(strategy))

    def _usual(self, strategy: Strategy) -> float:
        """The loss that a strategy puts up with where its group says nothing, 0..1."""
        return threshold_for(_SHARES.get(strategy, _HALF), self._predictor_file)

    async def take_feedback(self, request_id: str, score: float) -> Taken:
        """Takes a mark (0 bad .. 1 good) for a request that left its model to us; a second one replaces the first.

        Raises SystemError for an unknown request, one that named its model, or a score outside 0..1; StateStoreError.
        """
        if not 0.0 <= score <= 1.0:
            raise refused("score must be from 0 to 1.", "score")
        decision = await self._answered(request_id)
        choice = None if decision is None else decision.model_choice
        if decision is None or choice is None or choice.mode != "auto":
            raise no_lesson(request_id, known=decision is not None)
        await self.feedback.opened()
        quality = next((one.quality for one in choice.options if one.model == choice.model), 1.0)
        gain = choice.raw_gain if choice.raw_gain is not None else choice.gain or 0.0
        replaced = await self.feedback.add(decision.request_id, choice.group, gain, quality, score)
        self.watch(self.books.get(choice.group))
        return Taken(choice.group, choice.model, replaced)

    async def _answered(self, request_id: str) -> RoutingDecision | None:
        """The decision whose answer the caller got."""
        decision = await self._router.get_decision(request_id)
        choice = None if decision is None else decision.model_choice
        if choice is None or choice.instead is None:
            return decision
        return await self._router.get_decision(choice.instead)

    async def marks(self, limit: int) -> list[Mark]:
        """The last marks whose decisions are still known, newest first. Raises StateStoreError."""
        found: list[Mark] = []
        for request_id, score in reversed((await self.feedback.marks()).items()):
            decision = await self._answered(request_id)
            choice = None if decision is None else decision.model_choice
            if decision is None or choice is None:
                continue
            quality = next((one.quality for one in choice.options if one.model == choice.model), 1.0)
            at, gain = decision.decision_timestamp, choice.raw_gain
            found.append(Mark(request_id, decision.id, at, choice.group, choice.model, quality, gain, score))
            if len(found) == limit:
                break
        return found

    def watch(self, book: RouteBook | None) -> None:
        """Tells observers (`model_routing_alert`) and the log of drift and of lost quality."""
        for alert in book.alerts() if book is not None else ():
            _log.warning("Model routing: %s.", alert.message)
            tell_all(self._router.journal.observers, "model_routing_alert", alert)

    # -- choosing ---------------------------------------------------------------------------------------------------

    def _asked(self, name: str) -> tuple[ModelGroup, str | None]:
        """The group, and the strategy that the model's name asks for."""
        rest, _, strategy = name[4:].partition(":")
        wanted = rest.removeprefix("/") or DEFAULT
        group = self._groups.get(wanted)
        if group is None and wanted == DEFAULT:
            group = self.served()
        if group is None:
            known = ", ".join(f"auto/{one}" for one in sorted(self._groups)) or "none is configured"
            raise refused(f"There is no group of models {wanted!r}; known are: {known}.", "model")
        return group, strategy or None

    def served(self) -> ModelGroup:
        """A group of nobody's making: the weak and the strong model of every provider with keys."""
        keys, providers = self._router.key_manager, self._router.providers
        rows: dict[str, Role | None] = {}
        for provider_id in providers:
            records = keys.records(provider_id)
            ladder = LADDERS.get(provider_id)
            if records and ladder is not None:
                rows[f"{provider_id}/{ladder[0]}"], rows[f"{provider_id}/{ladder[1]}"] = None, None
            for record in records if ladder is None else ():
                for model in record.models or ():
                    if "*" not in model and "?" not in model:
                        rows[f"{provider_id}/{model}"] = None
        names = tuple(rows)
        if self._ladder is None or self._ladder[0] != names:
            self._ladder = (names, ModelGroup(DEFAULT, tuple(Member(name) for name in names)))
        return self._ladder[1]

    def _strategy(self, name: str | None, group: ModelGroup) -> Strategy:
        settings = self._router.settings
        try:
            strategy = Strategy.named(name) if name else group.strategy or settings.default_routing_strategy
        except ValueError as fault:
            raise refused(f"{fault}.".capitalize(), "strategy") from None
        if strategy is Strategy.Cascade and not settings.cascade_routing_enabled:
            raise refused("Cascades are turned off here (CASCADE_ROUTING_ENABLED=false).", "strategy")
        return strategy

    def _signals(self, strategy: Strategy, prompt: Prompt, book: RouteBook) -> tuple[Signals, float | None]:
        """What the strategy looks at, and the odds before feedback corrected them."""
        foresees = self.predictor if strategy not in (Strategy.Heuristic, Strategy.Quality) else None
        reading, won = self._memory.read(prompt.text, foresees)
        if won is None:
            return Signals(reading.complexity, reading.complexity, reading.task), None
        raw = min(1.0, max(0.0, won))
        if strategy in (Strategy.Hybrid, Strategy.Cascade):
            raw = min(1.0, max(0.0, raw + _LEANS * (reading.complexity - HEURISTIC_TOLERANCE)))
        return Signals(book.calibrated(raw), reading.complexity, reading.task), raw

    def _within_budgets(self, call: Call, ordered: tuple[Able, ...]) -> tuple[tuple[Able, ...], str]:
        """Models that a budget has no room for come last; what that changed, in words."""
        if not self.purse.any:
            return ordered, ""
        short: list[Able] = []
        for place, one in enumerate(ordered):
            if self.purse.affords(call, one):
                if not place:
                    return ordered, ""
                told = f"budgets have no room for {', '.join(one.option.name for one in short)}"
                return (one, *ordered[place + 1 :], *short), told
            short.append(one)
        return ordered, ""

    def _count(self, book: RouteBook, able: Able, note: Mapping[str, Any], signals: Signals) -> None:
        gain = None if note["raw_gain"] is None else signals.gain
        chosen_usd, reference_usd = able.option.expected_usd, note.get("reference_expected_usd")
        book.saw(gain, strong=able.option.quality > _HALF, chosen_usd=chosen_usd, reference_usd=reference_usd)
        if book.routed % _WATCH_EVERY == 0:
            self.watch(book)


def _in_order(seen: Seen, pick: Pick) -> tuple[Able, ...]:
    by_name = {one.option.name: one for one in seen.able}
    return tuple(by_name[option.name] for option in pick.order)
