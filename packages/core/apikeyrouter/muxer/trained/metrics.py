"""What routing by a score buys: accuracy at each share of strong calls, and the figures that RouteLLM reports of it.

Main entries: `cost_quality` (the curve), `apgr`, `calls_for`, `spread` (confidence by resampling whole groups).
Definitions of Ong et al., "RouteLLM" (https://arxiv.org/abs/2406.18665, 2024-06-26): the performance gap recovered is
(accuracy - weak's) / (strong's - weak's); APGR its mean over all shares of strong calls, random choice 0.5, more is
better; CPT(x) the least share of strong calls that recovers x of the gap, less is better.
Laws: equal scores count as chosen at random; APGR is the exact area, not a mean over a few thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["Outcomes", "Point", "apgr", "calls_for", "cost_quality", "ranked", "spread"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Prompts in the order in which the strong model is given them: highest score first. `gains`: strong's result minus
    weak's (-1..1), averaged among equal scores. `weights`: how often each counts. `weak`: mean result of the weak."""

    gains: list[float]
    weights: list[float]
    weak: float

    @property
    def total(self) -> float:
        """Rows, by weight."""
        return sum(self.weights)

    @property
    def gap(self) -> float:
        """Strong's mean result minus weak's."""
        return sum(gain * weight for gain, weight in zip(self.gains, self.weights, strict=True)) / self.total


@dataclass(frozen=True, slots=True)
class Point:
    """`share`: of prompts that went to the strong model, 0..1. `accuracy`: mean result then, 0..1."""

    share: float
    accuracy: float


def ranked(
    scores: Sequence[float],
    weak: Sequence[float],
    strong: Sequence[float],
    weights: Sequence[float] | None = None,
) -> Outcomes:
    """The outcomes by falling score. Raises ValueError where there are none."""
    given = [1.0] * len(scores) if weights is None else list(weights)
    order = sorted((i for i in range(len(scores)) if given[i] > 0), key=lambda i: -scores[i])
    if not order:
        raise ValueError("there are no outcomes to judge by")
    gains: list[float] = []
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        same = order[start:end]
        mass = sum(given[i] for i in same)
        gains.extend([sum((strong[i] - weak[i]) * given[i] for i in same) / mass] * len(same))
        start = end
    total = sum(given[i] for i in order)
    return Outcomes(gains, [given[i] for i in order], sum(weak[i] * given[i] for i in order) / total)


def cost_quality(outcomes: Outcomes, points: int = 20) -> list[Point]:
    """Accuracy at `points` + 1 even shares of strong calls, from none to all."""
    total = outcomes.total
    found, done, won, place = [], 0.0, 0.0, 0
    for number in range(points + 1):
        wanted = total * number / points
        while place < len(outcomes.gains) and done + outcomes.weights[place] <= wanted:
            done += outcomes.weights[place]
            won += outcomes.weights[place] * outcomes.gains[place]
            place += 1
        part = (wanted - done) * outcomes.gains[place] if place < len(outcomes.gains) else 0.0
        found.append(Point(number / points, outcomes.weak + (won + part) / total))
    return found


def apgr(outcomes: Outcomes) -> float | None:
    """Average performance gap recovered: 0.5 is random choice, more is better. None where the strong model is
    no better."""
    won, area, total = 0.0, 0.0, outcomes.total
    for gain, weight in zip(outcomes.gains, outcomes.weights, strict=True):
        area += (won + gain * weight / 2) * weight
        won += gain * weight
    return area / total / won if won > 1e-9 * total else None


def calls_for(outcomes: Outcomes, part: float) -> float | None:
    """The least share of strong calls (0..1) that recovers `part` of the gap between the models; None where there is
    no gap to recover (the strong model is no better)."""
    gap = outcomes.gap
    if gap <= 0:
        return None
    wanted, won, done = part * gap * outcomes.total, 0.0, 0.0
    for gain, weight in zip(outcomes.gains, outcomes.weights, strict=True):
        if won + gain * weight >= wanted - 1e-12:
            step = (wanted - won) / gain if gain > 0 else 0.0
            return (done + step) / outcomes.total
        won += gain * weight
        done += weight
    return 1.0


def spread(
    scores: Sequence[float],
    weak: Sequence[float],
    strong: Sequence[float],
    groups: Mapping[str, Sequence[int]],
    figures: Sequence[Callable[[Outcomes], float | None]],
    rng: Random,
    *,
    rounds: int = 200,
) -> list[tuple[float, float] | None]:
    """The middle 95 % of each figure when groups are drawn anew (with replacement) `rounds` times: how far it would
    move with other subjects. Rows of one group stay together; where there is one group only, rows are drawn."""
    units = list(groups.values()) if len(groups) > 1 else [[place] for places in groups.values() for place in places]
    found: list[list[float]] = [[] for _ in figures]
    for _ in range(rounds):
        weights = [0.0] * len(scores)
        for places in rng.choices(units, k=len(units)):
            for place in places:
                weights[place] += 1.0
        outcomes = ranked(scores, weak, strong, weights)
        for values, figure in zip(found, figures, strict=True):
            value = figure(outcomes)
            if value is not None:
                values.append(value)
    return [_middle(sorted(values)) for values in found]


def _middle(values: Sequence[float]) -> tuple[float, float] | None:
    last = len(values) - 1
    return (values[int(0.025 * last)], values[round(0.975 * last)]) if values else None
