"""`HeuristicRouter`: chooses among the models of the providers that it is given, as ModelMuxer's documents describe.

    provider, model, reason = HeuristicRouter().select_model(messages=messages, providers={"litellm": provider})

Main entries: `select_model` (synchronous, asks nobody) and `route_request`, which also sends. The choice is that of
`strategies.choose`, as for `auto`. Laws: only the given providers count; capability, context, rate limits and
`max_cost` are filters before any score; `max_cost` bounds what the request may cost, and nothing is sent where no
model fits.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from apikeyrouter.domain.cost.input_bound import tight_input_bound
from apikeyrouter.domain.errors import ConfigurationError, SystemError, UnknownPriceError
from apikeyrouter.domain.models.request_intent import Message
from apikeyrouter.infrastructure.catalogue.models import longest_reply
from apikeyrouter.muxer.difficulty import DifficultyPredictor, predictor, threshold_for
from apikeyrouter.muxer.groups import Member, Strategy
from apikeyrouter.muxer.litellm_provider import ChatCompletion, as_bytes
from apikeyrouter.muxer.prompts import text_of
from apikeyrouter.muxer.refusing import nobody, too_dear
from apikeyrouter.muxer.signs import plainly_wrong
from apikeyrouter.muxer.strategies import Option, Pick, Signals, choose, qualities
from apikeyrouter.muxer.tasks import Task, read_prompt

__all__ = ["HeuristicRouter", "ModelProvider", "Verifier"]

Verifier = Callable[[str, str], Awaitable[bool]]
"""(prompt, answer) -> whether the answer is good enough."""

_LIKELY_OUTPUT_TOKENS = 300
_LONGEST_OUTPUT_TOKENS = 4_096
"""Stands for the longest reply of a model of which it is not known; it is asked for no more than that."""

_TASKS = {"general": None, "math": Task.Maths, "coding": Task.Code, "conversation": Task.Chat}


class ModelProvider(Protocol):
    """What a provider must offer: `LiteLLMProvider` does."""

    def get_supported_models(self) -> list[str]:
        """Names of its models."""
        ...

    def get_model_info(self, model: str) -> dict[str, Any]:
        """`metadata` with `context_window`, `task_types`, `supports_tools`, `supports_images`, `max_output_tokens`."""
        ...

    def calculate_cost(self, prompt_tokens: int, completion_tokens: int, model: str) -> float:
        """US dollars. Raises UnknownPriceError."""
        ...

    def wait_s(self, model: str) -> float:
        """Seconds until it may be asked."""
        ...

    async def chat_completion(
        self, messages: Sequence[Message], model: str, max_tokens: int | None = None, **parameters: Any
    ) -> ChatCompletion:
        """Asks it."""
        ...


@dataclass(frozen=True, slots=True)
class _Found:
    """A model of a provider that could answer. `longest`: tokens that its reply is limited to."""

    provider: str
    model: str
    option: Option
    longest: int
    prompt_tokens: int


class HeuristicRouter:
    """`strategy`: default `DEFAULT_ROUTING_STRATEGY` from the environment, else heuristic. `verifier`: what accepts a
    cheap answer when the strategy is cascade; None: the plain signs alone (see `signs`). `predictor`: what foresees
    the gain of a strong model. Raises ConfigurationError for an unknown strategy."""

    def __init__(
        self,
        strategy: str | None = None,
        *,
        verifier: Verifier | None = None,
        predictor: DifficultyPredictor | None = None,
    ) -> None:
        self._strategy = _strategy(strategy or os.environ.get("DEFAULT_ROUTING_STRATEGY", "").strip() or "heuristic")
        self._verifier = verifier
        self._predictor = predictor

    def select_model(
        self,
        messages: Sequence[Message],
        providers: Mapping[str, ModelProvider],
        strategy: str | None = None,
        max_cost: float | None = None,
        **parameters: Any,
    ) -> tuple[str, str, str]:
        """(provider, model, reason). Raises BudgetExceededError when every model may cost more than `max_cost`, and
        SystemError when none can answer; both say why."""
        found, pick = self._pick(messages, providers, strategy, max_cost, parameters)
        best = found[0]
        cost = f"expected cost ${pick.option.cost:.6f}"
        return best.provider, best.model, f"Selected {best.provider}/{best.model} because {pick.why}; {cost}."

    async def route_request(
        self,
        messages: Sequence[Message],
        providers: Mapping[str, ModelProvider],
        strategy: str | None = None,
        max_cost: float | None = None,
        **parameters: Any,
    ) -> ChatCompletion:
        """The reply of the model that was chosen; of the next one when it fails in a way that another may not.
        `max_cost`: US dollars that all of this may cost together. Raises what `select_model` and the provider raise."""
        found, pick = self._pick(messages, providers, strategy, max_cost, parameters)
        wanted = dict(parameters)
        asked_tokens = wanted.pop("max_tokens", None)
        left_usd = max_cost
        failure: SystemError | None = None
        kept: ChatCompletion | None = None
        for place, one in enumerate(found):
            if left_usd is not None and (one.option.most_usd is None or one.option.most_usd > left_usd):
                continue
            limit = one.longest if max_cost is not None and asked_tokens is None else asked_tokens
            provider = providers[one.provider]
            try:
                reply = await provider.chat_completion(list(messages), one.model, limit, **wanted)
            except SystemError as error:
                if not error.retryable and error.status < 500:
                    raise
                failure = error
                left_usd = None if left_usd is None else left_usd - (one.option.most_usd or 0.0)
                continue
            if not self._cascades(strategy) or place == len(found) - 1 or await self._accepts(messages, reply):
                return reply
            kept = reply
            left_usd = None if left_usd is None else left_usd - float(reply.cost_usd or one.option.most_usd or 0.0)
        if kept is not None:
            return kept
        if failure is not None:
            raise failure
        raise nobody(pick.option.name, {})

    def _cascades(self, strategy: str | None) -> bool:
        chosen = self._strategy if strategy is None else _strategy(strategy)
        return chosen is Strategy.Cascade and os.environ.get("CASCADE_ROUTING_ENABLED", "true").lower() != "false"

    async def _accepts(self, messages: Sequence[Message], reply: ChatCompletion) -> bool:
        first = reply.choices[0] if reply.choices else None
        answer = first.message.content if first is not None and isinstance(first.message.content, str) else ""
        if plainly_wrong(answer, None if first is None else first.finish_reason):
            return False
        return self._verifier is None or await self._verifier(_prompt(messages), answer)

    def _pick(
        self,
        messages: Sequence[Message],
        providers: Mapping[str, ModelProvider],
        strategy: str | None,
        max_cost: float | None,
        parameters: Mapping[str, Any],
    ) -> tuple[list[_Found], Pick]:
        chosen = self._strategy if strategy is None else _strategy(strategy)
        text = _prompt(messages)
        reading = read_prompt(text)
        found, reasons = _candidates(messages, providers, parameters)
        if not found:
            raise nobody("the given providers", reasons)
        if max_cost is not None:
            fits = [one for one in found if one.option.most_usd is not None and one.option.most_usd <= max_cost]
            if not fits:
                raise _too_dear(found, providers, max_cost)
            found = fits
        foresees = self._predictor or predictor()
        signals = Signals(foresees.strong_gain(text), reading.complexity, reading.task)
        pick = choose(chosen, [one.option for one in found], signals, _tolerance(chosen))
        by_name = {one.option.name: one for one in found}
        return [by_name[option.name] for option in pick.order], pick


def _strategy(name: str) -> Strategy:
    try:
        return Strategy.named(name)
    except ValueError as fault:
        raise ConfigurationError([f"strategy: {fault}"]) from None


def _tolerance(strategy: Strategy) -> float:
    return threshold_for(0.2 if strategy is Strategy.Cost else 0.5)


def _prompt(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        text = text_of({"content": message.content}) if message.role == "user" else ""
        if text:
            return text
    return ""


def _candidates(
    messages: Sequence[Message], providers: Mapping[str, ModelProvider], parameters: Mapping[str, Any]
) -> tuple[list[_Found], dict[str, str]]:
    """Who could answer, and why others cannot."""
    body = as_bytes(messages)
    bound = tight_input_bound(b'{"messages":' + body + b"}")
    likely = max(1, bound.content_bytes // 4)
    images = b'"image_url"' in body
    rows: list[tuple[str, str, dict[str, Any], float]] = []
    reasons: dict[str, str] = {}
    for name, provider in providers.items():
        for model in provider.get_supported_models():
            info = provider.get_model_info(model).get("metadata", {})
            why = _unfit(info, likely, parameters, images=images) or _resting(provider.wait_s(model))
            try:
                unit = provider.calculate_cost(1000, 1000, model)
            except UnknownPriceError:
                why = why or "its price is not known"
            if why:
                reasons[f"{name}/{model}"] = why
            else:
                rows.append((name, model, info, unit))
    marks = qualities([Member(model) for _, model, _, _ in rows], [unit for *_, unit in rows])
    return [
        _found(providers[name], name, model, info, mark, likely, bound.tokens, parameters)
        for (name, model, info, _), mark in zip(rows, marks, strict=True)
    ], reasons


def _found(
    provider: ModelProvider,
    name: str,
    model: str,
    info: Mapping[str, Any],
    quality: float,
    likely: int,
    most: int,
    parameters: Mapping[str, Any],
) -> _Found:
    asked = parameters.get("max_tokens")
    longest = int(asked or info.get("max_output_tokens") or longest_reply(model) or _LONGEST_OUTPUT_TOKENS)
    choices = int(parameters.get("n") or 1)
    tasks = frozenset(_TASKS.get(one, one) or "" for one in info.get("task_types") or ())
    option = Option(
        f"{name}/{model}",
        provider.calculate_cost(likely, choices * min(longest, _LIKELY_OUTPUT_TOKENS), model),
        provider.calculate_cost(most, choices * longest, model),
        quality=quality,
        tasks=None if not tasks or "" in tasks else tasks,
    )
    return _Found(name, model, option, longest, most)


def _unfit(info: Mapping[str, Any], tokens: int, parameters: Mapping[str, Any], *, images: bool) -> str:
    window = info.get("context_window")
    needs = tokens + int(parameters.get("max_tokens") or 0)
    if isinstance(window, int) and needs > window:
        return f"about {needs:,} tokens do not fit into its context of {window:,}"
    if parameters.get("tools") and info.get("supports_tools") is False:
        return "it calls no tools"
    if images and info.get("supports_images") is False:
        return "it reads no images"
    return ""


def _resting(wait_s: float) -> str:
    return f"its rate limit is reached for {wait_s:.1f} s" if wait_s > 0.0 else ""


def _too_dear(found: Sequence[_Found], providers: Mapping[str, ModelProvider], max_cost: float) -> SystemError:
    cheapest = min(found, key=lambda one: one.option.most_usd or float("inf"))
    provider = providers[cheapest.provider]
    each = provider.calculate_cost(0, 1_000_000, cheapest.model) / 1e6
    left = max_cost - provider.calculate_cost(cheapest.prompt_tokens, 0, cheapest.model)
    fits = int(left / each) if each > 0.0 and left > 0.0 else 0
    return too_dear(max_cost, cheapest.option.name, cheapest.option.most_usd or 0.0, fits_tokens=fits or None)
