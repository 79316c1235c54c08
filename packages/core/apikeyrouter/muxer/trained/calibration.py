"""From a score to a probability: a rising curve through what happened at each score.

Main entries: `fit_curve` (isotonic regression, then lines between the middles of its steps) and `Curve.at`.
Laws: a higher score never gets a lower probability; scores that differ keep their order except beyond the ends of what
was seen; the curve says nothing from fewer than `STEP_ROWS_MIN` outcomes a step.
Sources: pool adjacent violators, Ayer et al. 1955; lines between the middles instead of flat steps, so that a threshold
can cut anywhere: Oron and Flournoy, "Centered Isotonic Regression", Stat. Biopharm. Res. 9(3), 2017.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import fsum

import msgspec

__all__ = ["STEP_ROWS_MIN", "Curve", "calibration_error", "fit_curve", "reliability"]

STEP_ROWS_MIN = 50
"""Outcomes a step must rest on: the standard error of its probability is then at most 7 points."""

_STEPS_MAX = 20


class Curve(msgspec.Struct, frozen=True, gc=False):
    """`scores` rising strictly, `probabilities` never falling, of the same length, at least one."""

    scores: list[float]
    probabilities: list[float]

    def at(self, score: float) -> float:
        """The probability (0..1) at a score; beyond the ends that of the end."""
        scores, probabilities = self.scores, self.probabilities
        place = bisect_right(scores, score)
        if place == 0:
            return probabilities[0]
        if place == len(scores):
            return probabilities[-1]
        low, high = scores[place - 1], scores[place]
        share = (score - low) / (high - low)
        return probabilities[place - 1] + share * (probabilities[place] - probabilities[place - 1])


def fit_curve(scores: Sequence[float], outcomes: Sequence[float]) -> Curve:
    """The curve for outcomes (0..1) seen at scores. Raises ValueError where there are none."""
    if not scores:
        raise ValueError("there are no outcomes to calibrate with")
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    size = min(len(scores), max(STEP_ROWS_MIN, len(scores) // _STEPS_MAX))
    steps: list[tuple[float, float, int]] = []
    for start in range(0, len(order) - size + 1, size):
        # The last step takes the rest.
        end = start + size if start + 2 * size <= len(order) else len(order)
        chosen = order[start:end]
        mean_score = fsum(scores[index] for index in chosen) / len(chosen)
        mean_outcome = fsum(outcomes[index] for index in chosen) / len(chosen)
        steps.append((mean_score, mean_outcome, len(chosen)))
        while len(steps) > 1 and (steps[-2][1] >= steps[-1][1] or steps[-2][0] >= steps[-1][0]):
            steps[-2:] = [_merged(steps[-2], steps[-1])]
    return Curve([step[0] for step in steps], [min(max(step[1], 0.0), 1.0) for step in steps])


def _merged(one: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[float, float, int]:
    rows = one[2] + other[2]
    return (one[0] * one[2] + other[0] * other[2]) / rows, (one[1] * one[2] + other[1] * other[2]) / rows, rows


def reliability(
    predicted: Sequence[float], outcomes: Sequence[float], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Predictions in bins of about equal size: mean prediction, mean outcome, rows. Equal when calibrated."""
    order = sorted(range(len(predicted)), key=lambda index: predicted[index])
    found = []
    for number in range(bins):
        chosen = order[number * len(order) // bins : (number + 1) * len(order) // bins]
        if chosen:
            mean = fsum(predicted[index] for index in chosen) / len(chosen)
            found.append((mean, fsum(outcomes[index] for index in chosen) / len(chosen), len(chosen)))
    return found


def calibration_error(predicted: Sequence[float], outcomes: Sequence[float], bins: int = 10) -> float:
    """Mean distance between prediction and outcome over `reliability`'s bins, 0..1; less is better (ECE)."""
    rows = reliability(predicted, outcomes, bins)
    total = sum(count for _, _, count in rows)
    return fsum(abs(mean - seen) * count for mean, seen, count in rows) / total if total else 0.0
