"""How good estimates are on recorded exchanges: `python -m bench.estimates`.

Every exchange of the data folder (see its README) is estimated before its reply is looked at. Per dialect: whether the
bound of the input and the hard hold were above what was counted and charged (they must be, always), and the mean
absolute error of the expectation, of input tokens and of the cost with the output known. "as they come": each
estimate knows only the exchanges before it, most of them of other models; "calibrated": a second round through the same
exchanges. Requests whose input cannot be bounded (files by reference, the provider's own tools) are counted apart: a
hard budget refuses them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from apikeyrouter.domain.cost.estimate import (
    output_is_bounded,
    output_tokens_bound,
    prices_of_tier,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_replies import usage_of_reply
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from bench.recordings import Recording, data_folder, recordings

__all__ = ["Case", "Figures", "cases", "judge"]

_DIALECTS = (
    ("anthropic.com", "anthropic"),
    ("googleapis.com", "google"),
    ("bedrock", "aws"),
    ("openai.azure.com", "azure"),
    ("azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral"),
    ("deepseek.com", "deepseek"),
    ("cohere.com", "cohere"),
    ("cerebras.ai", "cerebras"),
    ("together", "together"),
    ("huggingface.co", "huggingface_together"),
)
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")


@dataclass(slots=True)
class Case:
    """A recording with what was known before its reply, and what it cost (None: nobody knows its price)."""

    recording: Recording
    dialect: str
    bound: InputBound
    price: ModelPrice | None
    usage: Usage | None
    hold_nano_usd: int | None

    @property
    def open_ended(self) -> bool:
        """Whether a hard budget would refuse it."""
        return bool(self.bound.unbounded)

    @property
    def cost_nano_usd(self) -> int | None:
        """What it cost by the product's own reading of the reply."""
        return None if self.price is None or self.usage is None else cost_nano_usd(self.price, self.usage)


@dataclass(slots=True)
class Figures:
    """Of one dialect. Errors are shares: 0.15 is 15 %."""

    exchanges: int = 0
    open_ended: int = 0
    inputs_above_bound: int = 0
    priced: int = 0
    holds_below_cost: int = 0
    looseness: list[float] = field(default_factory=list)
    input_errors: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    cost_errors: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))


def cases(found: Iterable[Recording]) -> list[Case]:
    """Sizes and prices each recording."""
    catalogue = GenaiPriceSource()
    made = []
    for one in found:
        dialect = next((name for mark, name in _DIALECTS if mark in one.host), "openai")
        if dialect == "openai" and "responses" in one.path:
            dialect = "openai responses"
        price = catalogue.price(dialect.partition(" ")[0], one.model)
        bound = tight_input_bound(one.body, one.model)
        hold = None if price is None else _hold(one, bound, price)
        made.append(Case(one, dialect, bound, price, usage_of_reply(one.host, one.reply), hold))
    return made


def _hold(one: Recording, bound: InputBound, price: ModelPrice) -> int | None:
    """What a hard budget holds; None where no fact bounds the output."""
    asked = one.request
    places: list[dict[str, Any]] = [asked, asked.get("generationConfig") or {}, asked.get("inferenceConfig") or {}]
    limit = next((place[name] for place in places for name in _LIMITS if isinstance(place.get(name), int)), None)
    choices = max(1, asked.get("n") or 1, asked.get("best_of") or 1)
    prompt = asked.get("prompt")
    choices *= len(prompt) if isinstance(prompt, list) else 1
    if "mbed" in one.path:
        limit = 0
    if not output_is_bounded(limit, one.model, price.context_window):
        return None
    tokens_out = output_tokens_bound(limit, choices, one.model, price.context_window)
    tier = asked.get("service_tier") or ""
    return max(upper_bound_nano_usd(p, bound.tokens, tokens_out) for p in prices_of_tier(price, tier))


def judge(made: list[Case]) -> dict[str, Figures]:
    """The figures per dialect, and of all as "all"."""
    figures: dict[str, Figures] = {}
    ratios = InputRatios()
    for turn in (0, 1):
        for case in made:
            for name in (case.dialect, "all"):
                into = figures.setdefault(name, Figures())
                if turn == 0:
                    _judge_bounds(case, into)
                if not case.open_ended:
                    _judge_expectation(case, ratios, into, turn)
            one, bound = case.recording, case.bound
            if not case.open_ended and not bound.media_tokens:
                ratios.record(one.host, one.model, bound.content_bytes, one.input_tokens)
    return figures


def _judge_bounds(case: Case, into: Figures) -> None:
    into.exchanges += 1
    if case.open_ended:
        into.open_ended += 1
        return
    read = case.recording.input_tokens
    into.inputs_above_bound += read > case.bound.tokens
    into.looseness.append(case.bound.tokens / read)
    cost = case.cost_nano_usd
    if cost is not None and case.hold_nano_usd is not None:
        into.priced += 1
        into.holds_below_cost += cost > case.hold_nano_usd


def _judge_expectation(case: Case, ratios: InputRatios, into: Figures, turn: int) -> None:
    one, bound, price = case.recording, case.bound, case.price
    likely = ratios.expected(one.host, one.model, bound.content_bytes) + bound.media_tokens
    likely = min(likely, bound.tokens)
    into.input_errors[turn].append(abs(likely - one.input_tokens) / one.input_tokens)
    if price is None:
        return
    actual = cost_nano_usd(price, Usage(one.input_tokens, one.output_tokens))
    if actual:
        expected = cost_nano_usd(price, Usage(likely, one.output_tokens))
        into.cost_errors[turn].append(abs(expected - actual) / actual)


def main() -> int:
    folder = data_folder()
    if not (folder / "exchanges").is_dir():
        print("data not found, skipped")
        return 0
    figures = judge(cases(recordings(folder)))
    print(
        "                            input above        hold below  bound/  input error      cost error (output known)"
    )
    print("dialect            n  open     bound    priced     cost    input   first  calibr.   first  calibr.")
    for name in sorted(figures, key=lambda name: (name == "all", name)):
        print(_row(name, figures[name]))
    total = figures["all"]
    return 1 if total.inputs_above_bound or total.holds_below_cost else 0


def _row(name: str, one: Figures) -> str:
    def error(errors: list[float]) -> str:
        return f"{fmean(errors):8.1%}" if errors else f"{'-':>8}"

    loose = f"{median(one.looseness):8.1f}" if one.looseness else f"{'-':>8}"
    counts = f"{one.exchanges:6}{one.open_ended:6}{one.inputs_above_bound:10}{one.priced:10}{one.holds_below_cost:9}"
    errors = "".join(map(error, (*one.input_errors, *one.cost_errors)))
    return f"{name:16}{counts}{loose} {errors}"


if __name__ == "__main__":
    sys.exit(main())
