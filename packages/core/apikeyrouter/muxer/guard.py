"""Keeps the quality of a group's answers within a target: thresholds from its own traffic, odds from feedback, alerts.

    book = RouteBook("default", strong_share=0.3); book.saw(gain); book.tolerance(fallback)

Main entry: `RouteBook`, one per group. A threshold follows the last `WINDOW` prompts: the share of strong calls that
was wished, or the most that may be left to weak models while the mean feared loss stays within 1 - target quality.
Feedback moves the predictor's odds, tenth by tenth, towards what happened, weighted against `PRIOR` imagined cases.
Laws: without traffic and feedback everything is as the predictor says; more gain never counts for less after
calibration; pure but for its own counters, no clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

__all__ = ["BASELINE", "DRIFT_ALERT", "DRIFT_OVER", "LEAST_MARKS", "PRIOR", "WINDOW", "RouteAlert", "RouteBook"]

WINDOW = 1_000
"""Prompts that thresholds and drift look back on."""

PRIOR = 20.0
"""Imagined cases for each tenth of the odds that agree with the predictor: so many real ones weigh as much as it."""

DRIFT_ALERT, DRIFT_OVER = 0.25, 0.10
"""Population stability index of the gains: above the first the traffic is another one, below the second it is the same
again (N. Siddiqi, Credit Risk Scorecards, 2006, chapter 9: custom of credit scoring)."""

_BINS = 10
_LEAST = 100
BASELINE = 500
"""Prompts before drift is told, and so many are compared."""

_RENEW_EVERY = 50
_MARKS = 200
LEAST_MARKS = 30
"""Marks before lost quality is told."""

_SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class RouteAlert:
    """Something that a person should look at. `kind`: "drift" or "quality". `over`: it has ended. `value`: the index of
    drift, or the mean score; `bound`: what it was held against."""

    group: str
    kind: str
    message: str
    over: bool = False
    value: float = 0.0
    bound: float = 0.0


class RouteBook:
    """What is known of one group. `strong_share`, `target_quality`: at most one of them, 0..1."""

    def __init__(self, group: str, *, strong_share: float | None = None, target_quality: float | None = None) -> None:
        self.group = group
        self.strong_share = strong_share
        self.target_quality = target_quality
        self.weak = [[0.0, 0.0] for _ in range(_BINS)]
        """(cases, bad ones) of weak answers by tenth of the predictor's odds."""
        self.strong = [0.0, 0.0]
        self.routed = self.strong_calls = 0
        self.chosen_usd = self.reference_usd = 0.0
        """Expected, of requests whose price and reference are known."""
        self.discarded_usd = 0.0
        """Charged for answers of cascades that no caller got; it is part of `chosen_usd`."""
        self.shadowed = self.shadow_strong = 0
        self.shadow_chosen_usd = self.shadow_reference_usd = 0.0
        """The same of requests that were looked at in shadow mode: what would have been."""
        self._gains: deque[float] = deque(maxlen=WINDOW)
        self._baseline: list[int] | None = None
        self._marks: deque[float] = deque(maxlen=_MARKS)
        self._tolerance: float | None = None
        self._since = 0
        self._curve: list[float] = [(place + 0.5) / _BINS for place in range(_BINS)]
        self._alerting: set[str] = set()

    # -- odds -------------------------------------------------------------------------------------------------------

    def calibrated(self, gain: float) -> float:
        """The predictor's odds corrected by feedback, 0..1."""
        curve = self._curve
        place = gain * _BINS - 0.5
        if place <= 0.0:
            return max(0.0, curve[0] + place / _BINS)
        if place >= _BINS - 1:
            return min(1.0, curve[-1] + (place - (_BINS - 1)) / _BINS)
        low = int(place)
        return curve[low] + (place - low) * (curve[low + 1] - curve[low])

    def take(self, gain: float, quality: float, score: float, weight: float = 1.0) -> None:
        """Feedback on one answer. `gain`: the predictor's own odds for it. `quality`: of the model that answered, 0..1.
        `score`: 1 good, 0 bad. `weight`: -1 takes an earlier one back."""
        place = min(_BINS - 1, int(gain * _BINS))
        weak, bad = weight * (1.0 - quality), 1.0 - score
        row = self.weak[place]
        row[0], row[1] = max(0.0, row[0] + weak), max(0.0, row[1] + weak * bad)
        self.strong[0] = max(0.0, self.strong[0] + weight * quality)
        self.strong[1] = max(0.0, self.strong[1] + weight * quality * bad)
        self._calibrate()

    def marked(self, score: float) -> None:
        """A mark came, for the alert of lost quality."""
        self._marks.append(score)

    @property
    def marks(self) -> float:
        """How many marks were taken in."""
        return sum(cases for cases, _ in self.weak) + self.strong[0]

    def _calibrate(self) -> None:
        """Means of real and imagined cases, made to rise with the odds (pool adjacent violators)."""
        seen, bad = self.strong
        unavoidable = bad / (seen + PRIOR)
        pooled: list[list[float]] = []
        for place, (cases, failed) in enumerate(self.weak):
            odds = (place + 0.5) / _BINS
            won = max(0.0, failed - cases * unavoidable)
            pooled.append([PRIOR * odds + won, PRIOR + cases, 1.0])
            while len(pooled) > 1 and pooled[-2][0] / pooled[-2][1] > pooled[-1][0] / pooled[-1][1]:
                last = pooled.pop()
                pooled[-1] = [one + other for one, other in zip(pooled[-1], last, strict=True)]
        self._curve = [total / cases for total, cases, many in pooled for _ in range(int(many))]
        self._tolerance = None

    # -- threshold --------------------------------------------------------------------------------------------------

    @property
    def expected_saved_usd(self) -> float:
        """Against the reference model; below zero where more was spent."""
        return self.reference_usd - self.chosen_usd

    def saw(
        self,
        gain: float | None,
        *,
        strong: bool,
        chosen_usd: float | None = None,
        reference_usd: float | None = None,
        shadow: bool = False,
    ) -> None:
        """One prompt was routed. `gain`: calibrated, None where a strategy did not ask for it. `chosen_usd`,
        `reference_usd`: expected, None where a price is not known. `shadow`: it was only looked at."""
        priced = chosen_usd is not None and reference_usd is not None
        chosen, compared = (chosen_usd or 0.0, reference_usd or 0.0) if priced else (0.0, 0.0)
        if shadow:
            self.shadowed += 1
            self.shadow_strong += strong
            self.shadow_chosen_usd += chosen
            self.shadow_reference_usd += compared
        else:
            self.routed += 1
            self.strong_calls += strong
            self.chosen_usd += chosen
            self.reference_usd += compared
        if gain is None:
            return
        self._gains.append(gain)
        self._since += 1
        if self._since >= _RENEW_EVERY:
            self._since, self._tolerance = 0, None

    def escalated(self, strong_usd: float | None) -> None:
        """A prompt that was counted as a cheap one went on to the strong model, for about `strong_usd` more."""
        self.strong_calls += 1
        self.chosen_usd += strong_usd or 0.0

    def passed_over(self, usd: float, unforeseen_usd: float) -> None:
        """Answers of a cascade that no caller got were charged. `unforeseen_usd`: of that, what nothing expected yet:
        answers that were asked for only to be compared."""
        self.discarded_usd += usd
        self.chosen_usd += unforeseen_usd

    def tolerance(self, fallback: float) -> float:
        """The loss that is put up with now. `fallback`: without a target, or before there is traffic for it."""
        if self.strong_share is None and self.target_quality is None:
            return fallback
        found = self._tolerance
        if found is None:
            found = self._tolerance = self._worked_out(fallback)
        return found

    def _worked_out(self, fallback: float) -> float:
        share, quality = self.strong_share, self.target_quality
        gains = sorted(self._gains)
        if quality is not None:
            most = 1.0 - quality
            if len(gains) < _LEAST:
                return most  # each weak answer's loss is within the target, so their mean is
            place = bisect_right(list(accumulate(gains)), most * len(gains))
            if not place:
                return -1.0
            tied = place < len(gains) and gains[place] == gains[place - 1]
            return math.nextafter(gains[place - 1], -1.0) if tied else gains[place - 1]
        if len(gains) < _LEAST:
            return fallback
        place = math.ceil(len(gains) * (1.0 - (share or 0.0))) - 1
        return gains[place] if place >= 0 else -1.0

    # -- alerts -----------------------------------------------------------------------------------------------------

    @property
    def drift(self) -> float:
        """Population stability index of the last prompts against the first ones, 0 the same; 0 until both are known."""
        if len(self._gains) < BASELINE:
            return 0.0
        recent = _histogram(list(self._gains)[-BASELINE:])
        if self._baseline is None:
            self._baseline = recent
        return sum(
            (new - old) / BASELINE * math.log(new / old) for new, old in zip(recent, self._baseline, strict=True)
        )

    @property
    def prompts(self) -> int:
        """How many of the last prompts drift and thresholds look at, `WINDOW` at most."""
        return len(self._gains)

    @property
    def alerting(self) -> list[str]:
        """Kinds of alerts that began and are not over."""
        return sorted(self._alerting)

    @property
    def mean_mark(self) -> float | None:
        """The mean of all marks, those of other processes too, 0..1; None before any."""
        marks = self.marks
        bad = sum(failed for _, failed in self.weak) + self.strong[1]
        return max(0.0, 1.0 - bad / marks) if marks > 0.0 else None

    @property
    def mean_score(self) -> float | None:
        """The mean of the last feedback scores, None while there are too few."""
        return sum(self._marks) / len(self._marks) if len(self._marks) >= LEAST_MARKS else None

    def alerts(self) -> list[RouteAlert]:
        """What changed since the last look: drift and quality, each once when it begins and once when it is over."""
        found = []
        drift = self.drift
        if drift > DRIFT_ALERT and "drift" not in self._alerting:
            found.append(
                self._alert(
                    "drift",
                    f"prompts for {self.group} are not what they were (index {drift:.2f}); check its threshold, or "
                    "train its predictor again",
                    drift,
                    DRIFT_ALERT,
                )
            )
        elif drift < DRIFT_OVER and "drift" in self._alerting:
            found.append(
                self._alert(
                    "drift",
                    f"prompts for {self.group} are again what they were (index {drift:.2f})",
                    drift,
                    DRIFT_OVER,
                    over=True,
                )
            )
        mean = self.mean_score
        if mean is not None and self.target_quality is not None:
            noise = _SIGMAS * math.sqrt(0.25 / len(self._marks))
            if mean < self.target_quality - noise and "quality" not in self._alerting:
                found.append(
                    self._alert(
                        "quality",
                        f"answers of {self.group} score {mean:.2f}, below its target of {self.target_quality:.2f}",
                        mean,
                        self.target_quality,
                    )
                )
            elif mean >= self.target_quality and "quality" in self._alerting:
                said = f"answers of {self.group} score {mean:.2f} again"
                found.append(self._alert("quality", said, mean, self.target_quality, over=True))
        return found

    def _alert(self, kind: str, message: str, value: float, bound: float, *, over: bool = False) -> RouteAlert:
        (self._alerting.discard if over else self._alerting.add)(kind)
        return RouteAlert(self.group, kind, message, over, value, bound)

    # -- what is kept -----------------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """Feedback so far, JSON-able."""
        return {"weak": [list(row) for row in self.weak], "strong": list(self.strong)}

    def load(self, document: Mapping[str, Any]) -> None:
        """Takes what `document` gave, whole."""
        self.weak = [[float(cases), float(bad)] for cases, bad in document["weak"]]
        seen, bad = document["strong"]
        self.strong = [float(seen), float(bad)]
        self._calibrate()


def _histogram(gains: Sequence[float]) -> list[int]:
    """Counts by tenth, each one at least, so that logarithms exist."""
    counts = [1] * _BINS
    for gain in gains:
        counts[min(_BINS - 1, max(0, int(gain * _BINS)))] += 1
    return counts
