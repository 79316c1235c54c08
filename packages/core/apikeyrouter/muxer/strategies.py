"""How a model is chosen among those that could answer: one function, no I/O, the same for `auto` and the documents.

    choose(Strategy.Hybrid, options, Signals(gain=0.7, complexity=0.4, task=Task.Maths), tolerance=0.35)

Of an option with quality q (1 the group's strongest) the loss that is feared for a prompt is `gain * (1 - q)`: what a
strong model would win, times what this one lacks. The strategies weigh that loss against dollars and seconds; all but
`quality` and `balanced` take the cheapest (or fastest) option whose loss stays within a tolerance.
Laws: deterministic; more dollars never make an option preferred, all else equal; the choice is one of the options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apikeyrouter.muxer.groups import Member, Role, Strategy
from apikeyrouter.muxer.tasks import Task

__all__ = [
    "ANSWER_USD", "HEURISTIC_TOLERANCE", "LATENCY_USD_PER_S", "Option", "Pick", "Signals", "choose", "qualities",
    "ranked",
]  # fmt: skip

ANSWER_USD = 0.02
"""What a good answer in place of a bad one is worth to `balanced`, in US dollars: a judgement, as `Values` are."""

LATENCY_USD_PER_S = 0.001
"""What one second less to the first token is worth to `balanced`; `RouterSettings.value_latency_usd_per_s` by default.
"""

HEURISTIC_TOLERANCE = 0.28
"""The complexity above which `heuristic` takes the strong of two models: between a plain question and a task of code,
maths or reasoning (`tasks`)."""

_FULL = 1.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a prompt. `gain`: probability that a strong model answers well and a weak one does not, 0..1.
    `complexity`: of the text, 0..1."""

    gain: float
    complexity: float
    task: Task = Task.Chat


@dataclass(frozen=True, slots=True)
class Option:
    """A model that could answer. `name`: as a request would name it. `expected_usd`, `most_usd`: likely and provably
    most dollars of this request, None where no price is known. `ttft_s`: expected seconds to the first token.
    `quality`: 0..1."""

    name: str
    expected_usd: float | None
    most_usd: float | None
    ttft_s: float = 0.0
    quality: float = 0.5
    tasks: frozenset[str] | None = None

    @property
    def cost(self) -> float:
        """What it costs for comparisons: unknown prices come last."""
        return math.inf if self.expected_usd is None else self.expected_usd

    def loss(self, gain: float) -> float:
        """The feared probability that it answers badly where the strongest would not."""
        return gain * (_FULL - self.quality)


@dataclass(frozen=True, slots=True)
class Pick:
    """The choice. `order`: every option, the chosen one first, then those that may stand in. `why`: in words."""

    option: Option
    order: tuple[Option, ...]
    why: str


def choose(strategy: Strategy, options: Sequence[Option], signals: Signals, tolerance: float) -> Pick:
    """The option that the strategy takes. `tolerance`: the loss that is put up with, 0..1. Raises ValueError without
    options."""
    if not options:
        raise ValueError("there is no option to choose from")
    gain = signals.complexity if strategy is Strategy.Heuristic else signals.gain
    if strategy is Strategy.Heuristic:
        tolerance = HEURISTIC_TOLERANCE
    meant = [one for one in options if one.tasks is None or signals.task.value in one.tasks] or list(options)
    order = ranked(strategy, meant, gain, tolerance)
    rest = [one for one in options if one not in order]
    chosen = order[0]
    return Pick(
        chosen,
        (*order, *ranked(strategy, rest, gain, tolerance)),
        _why(strategy, chosen, signals, gain, tolerance, len(options)),
    )


def ranked(strategy: Strategy, options: Sequence[Option], gain: float, tolerance: float) -> list[Option]:
    """Options, best first."""
    if strategy is Strategy.Quality:
        return sorted(options, key=lambda one: (-one.quality, one.cost, one.name))
    if strategy is Strategy.Balanced:
        return sorted(
            options,
            key=lambda one: (one.cost + ANSWER_USD * one.loss(gain) + LATENCY_USD_PER_S * one.ttft_s, one.name),
        )
    fits = [one for one in options if one.loss(gain) <= tolerance]
    others = sorted(
        (one for one in options if one.loss(gain) > tolerance), key=lambda one: (-one.quality, one.cost, one.name)
    )
    if strategy is Strategy.Latency:
        return sorted(fits, key=lambda one: (one.ttft_s, one.cost, one.name)) + others
    if strategy is Strategy.Cascade:
        return sorted(options, key=lambda one: (one.cost, one.quality, one.name))
    return sorted(fits, key=lambda one: (one.cost, -one.quality, one.name)) + others


def qualities(members: Sequence[Member], prices: Sequence[float | None]) -> list[float]:
    """The quality of each member: as configured, by role, else by the place of its price between the cheapest and the
    dearest on a logarithmic scale, since a price is the only thing that a model tells of itself."""
    known = [math.log(price) for price in prices if price]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    found = []
    for member, price in zip(members, prices, strict=True):
        if member.quality is not None:
            found.append(member.quality)
        elif member.role is not None:
            found.append(1.0 if member.role is Role.Strong else 0.0)
        elif not price or high <= low:
            found.append(1.0 if len(members) == 1 else 0.5)
        else:
            found.append((math.log(price) - low) / (high - low))
    return found


def _why(strategy: Strategy, chosen: Option, signals: Signals, gain: float, tolerance: float, count: int) -> str:
    if count == 1:
        return "it is the only model that can serve the request"
    about = f"a {signals.task.value} prompt of complexity {signals.complexity:.2f}"
    win = f"a strong model is expected to win {gain:.0%} on {about}"
    loss = chosen.loss(gain)
    if strategy is Strategy.Heuristic:
        if loss <= tolerance:
            return f"it is the cheapest that suits {about}"
        return f"none of the cheaper ones suits {about}"
    if strategy is Strategy.Quality:
        return "it is the strongest"
    if strategy is Strategy.Balanced:
        return f"cost, feared loss ({loss:.0%}) and waiting together are least; {win}"
    if strategy is Strategy.Cascade:
        return f"the cheapest is asked first; {win}"
    what = "fastest" if strategy is Strategy.Latency else "cheapest"
    if loss <= tolerance:
        return f"it is the {what} whose feared loss ({loss:.0%}) is within {tolerance:.0%}; {win}"
    return f"no model's feared loss is within {tolerance:.0%}, and it is the strongest; {win}"
