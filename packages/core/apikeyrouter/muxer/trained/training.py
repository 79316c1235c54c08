"""Trains the predictor on a log of outcomes, in plain Python, and says honestly how good it is.

Main entries: `train` and `recalibrate`. Every figure and every calibration comes from prompts whose whole group was
held out: each group is predicted by a fit that has not seen it. What is chosen by these predictions (whether words
help, how much of the strong model's line to take) is a choice among ten.
Laws: no randomness, the same log gives the same bytes; 8,700 rows take three seconds of a slow core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum
from zlib import crc32

import msgspec

from apikeyrouter.muxer.trained.calibration import calibration_error, fit_curve
from apikeyrouter.muxer.trained.features import FEATURES, measure, word_places
from apikeyrouter.muxer.trained.fitting import Line, Sums, add, fit, gather, subtract
from apikeyrouter.muxer.trained.log import Example
from apikeyrouter.muxer.trained.metrics import apgr, calls_for, ranked
from apikeyrouter.muxer.trained.model import Head, Model

__all__ = ["MIXES", "ROWS_MIN", "HeldOut", "Study", "assemble", "hold_out", "recalibrate", "study", "train"]

ROWS_MIN = 100
"""Fewer outcomes than this cannot tell a useful predictor from a useless one."""

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of the strong model's line the ranking may take. 1 is the difference that is wanted; but the strong model's
failures are harder to foresee than the weak one's, and often less ranks better."""

FOLDS = 10
_GROUPS_MAX = 40
_SHRINK = 30.0
"""A word seen this often counts half."""

_WORD_SHARE = 0.5
_WORD_ROWS_MIN = 2
_CLEARLY_BETTER = 0.01
"""What words must add to the area to be taken: they cost time and size, and fit noise where they add nothing."""


@dataclass
class Study:
    """A log, measured: numbers and words of each prompt, both outcomes, and which rows are held out together."""

    rows: list[list[float]]
    places: list[list[int]]
    weak: list[float]
    strong: list[float]
    groups: dict[str, list[int]]
    sums: dict[str, Sums] = field(default_factory=dict)

    @cached_property
    def gains(self) -> list[float]:
        """Where the strong model did well and the weak one did not, 0..1."""
        return [max(strong - weak, 0.0) for weak, strong in zip(self.weak, self.strong, strict=True)]


@dataclass(slots=True)
class HeldOut:
    """What fits that had not seen a row's group said about it: the sums of both heads, without and with words."""

    weak: list[float]
    strong: list[float]
    weak_words: list[float]
    strong_words: list[float]

    def scores(self, mix: float, words: bool) -> list[float]:
        """The ranking scores: `mix` * strong - weak."""
        heads = zip(self.weak, self.strong, self.weak_words, self.strong_words, strict=True)
        share = _WORD_SHARE if words else 0.0
        return [mix * (s + share * sw) - (w + share * ww) for w, s, ww, sw in heads]


def study(examples: Sequence[Example], tick: Callable[[str], None] = lambda _: None) -> Study:
    """Measures the prompts of a log. `tick`: told once for each row. Raises ValueError where there are too few rows, or
    where both models always did the same."""
    if len(examples) < ROWS_MIN:
        raise ValueError(f"{len(examples)} outcomes are too few to learn from; it takes {ROWS_MIN}, better thousands")
    weak = [example.weak or 0.0 for example in examples]
    strong = [example.strong or 0.0 for example in examples]
    if len(set(weak)) == 1:
        raise ValueError("the weak model's outcome is the same on every line: there is nothing to tell apart")
    rows, places = [], []
    for example in examples:
        rows.append(measure(example.prompt))
        places.append(word_places(example.prompt))
        tick("row")
    return Study(rows, places, weak, strong, grouped(examples))


def grouped(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Which rows are held out together: by group; or, where there are too few or too many groups, by a checksum of the
    group or of the prompt, so that equal ones stay together."""
    names = {example.group for example in examples}
    found: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        if 3 <= len(names) <= _GROUPS_MAX:
            key = example.group
        else:
            text = example.group if len(names) > _GROUPS_MAX else example.prompt
            key = f"{crc32(text.encode('utf-8', 'surrogatepass')) % FOLDS:02}"
        found.setdefault(key, []).append(place)
    return dict(sorted(found.items()))


def hold_out(data: Study, tick: Callable[[str], None] = lambda _: None) -> HeldOut:
    """Predicts every group by a fit on all others. Words learn what the held-out predictions left over."""
    data.sums = data.sums or gather(data.rows, (data.weak, data.strong), data.groups, tick)
    whole = add(data.sums.values())
    held = HeldOut(*([0.0] * len(data.rows) for _ in range(4)))
    for name, places in data.groups.items():
        weak, strong = fit(subtract(whole, data.sums[name]))
        for place in places:
            held.weak[place] = weak.at(data.rows[place])
            held.strong[place] = strong.at(data.rows[place])
        tick(name)
    for wanted, said, words in ((data.weak, held.weak, held.weak_words), (data.strong, held.strong, held.strong_words)):
        left = [real - guess for real, guess in zip(wanted, said, strict=True)]
        totals, counts = _left_over(data.places, left, range(len(left)))
        for places in data.groups.values():
            mine, seen = _left_over(data.places, left, places)
            for place in places:
                words[place] = fsum((totals[p] - mine[p]) / (counts[p] - seen[p] + _SHRINK) for p in data.places[place])
    return held


def _left_over(
    places: Sequence[Sequence[int]], left: Sequence[float], rows: Sequence[int]
) -> tuple[dict[int, float], dict[int, int]]:
    """For each word what predictions left over in the rows that have it, and how many have it."""
    totals: dict[int, float] = {}
    counts: dict[int, int] = {}
    for row in rows:
        for place in places[row]:
            totals[place] = totals.get(place, 0.0) + left[row]
            counts[place] = counts.get(place, 0) + 1
    return totals, counts


def assemble(data: Study, held: HeldOut, *, name: str = "trained", log_sha256: str = "") -> Model:
    """The model: fitted on every row, with what was chosen and calibrated on the held-out predictions."""
    best_plain, mix_plain = _best_mix(data, held, words=False)
    best_words, mix_words = _best_mix(data, held, words=True)
    words = best_words > best_plain + _CLEARLY_BETTER
    mix = mix_words if words else mix_plain
    scores = held.scores(mix, words)
    lines = fit(add(data.sums.values()))
    weak = _head(data, lines[0], data.weak, held.weak, held.weak_words if words else None)
    strong = _head(data, lines[1], data.strong, held.strong, held.strong_words if words else None)
    columns = list(zip(*data.rows, strict=True))
    model = Model(
        name=name,
        rows=len(data.rows),
        groups=len(data.groups),
        log_sha256=log_sha256,
        features=list(FEATURES),
        lowest=[min(column) for column in columns],
        highest=[max(column) for column in columns],
        weak=weak,
        strong=strong,
        strong_mix=mix,
        gain_curve=fit_curve(scores, data.gains),
        gains=[],
    )
    return _with_figures(model, scores, data.weak, data.strong, data.groups)


def _with_figures(
    model: Model,
    scores: Sequence[float],
    weak: Sequence[float],
    strong: Sequence[float],
    groups: Mapping[str, Sequence[int]],
) -> Model:
    """The model with its thresholds, and with how it did on the given scores; the error of its probabilities is that of
    curves which had not seen a row's group."""
    gains = [model.gain_at(score) for score in scores]
    outcomes = ranked(scores, weak, strong)
    seen = [max(s - w, 0.0) for w, s in zip(weak, strong, strict=True)]
    figures = {
        "apgr": apgr(outcomes),
        "calls_for_50": calls_for(outcomes, 0.5),
        "calls_for_80": calls_for(outcomes, 0.8),
        "calibration_error": calibration_error(_crossed(scores, seen, groups), seen),
        "weak_accuracy": fsum(weak) / len(weak),
        "strong_accuracy": fsum(strong) / len(strong),
    }
    return msgspec.structs.replace(model, gains=_quantiles(gains), figures=figures)


def _crossed(scores: Sequence[float], seen: Sequence[float], groups: Mapping[str, Sequence[int]]) -> list[float]:
    """What each row's score means by a curve through the rows of all other groups."""
    found = [0.0] * len(scores)
    for places in groups.values():
        mine = set(places)
        others = [place for place in range(len(scores)) if place not in mine] or list(places)
        curve = fit_curve([scores[place] for place in others], [seen[place] for place in others])
        for place in places:
            found[place] = curve.at(scores[place])
    return found


def _best_mix(data: Study, held: HeldOut, *, words: bool) -> tuple[float, float]:
    """The largest area and the mix that gives it; the smaller mix where two do."""
    areas = [(apgr(ranked(held.scores(mix, words), data.weak, data.strong)) or 0.0, -mix) for mix in MIXES]
    area, mix = max(areas)
    return area, -mix


def _head(
    data: Study, line: Line, wanted: Sequence[float], said: Sequence[float], more: Sequence[float] | None
) -> Head:
    """One half of the model. `said`: held-out sums of the line. `more`: of the words, None where they are not taken."""
    if more is None:
        return Head(line.weights, line.bias, fit_curve(said, wanted))
    left = [real - guess for real, guess in zip(wanted, said, strict=True)]
    totals, counts = _left_over(data.places, left, range(len(left)))
    words = {
        str(place): _WORD_SHARE * totals[place] / (counts[place] + _SHRINK)
        for place in sorted(totals)
        if counts[place] >= _WORD_ROWS_MIN
    }
    sums = [guess + _WORD_SHARE * word for guess, word in zip(said, more, strict=True)]
    return Head(line.weights, line.bias, fit_curve(sums, wanted), words)


def _quantiles(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(number * (len(ordered) - 1) / 100)] for number in range(101)]


def train(
    examples: Sequence[Example],
    *,
    name: str = "trained",
    log_sha256: str = "",
    tick: Callable[[str], None] = lambda _: None,
) -> Model:
    """A model from a log. `tick`: told of each row measured ("row") and of each group summed and held out (its name).
    Raises ValueError where the log cannot teach anything."""
    data = study(examples, tick)
    return assemble(data, hold_out(data, tick), name=name, log_sha256=log_sha256)


def recalibrate(model: Model, examples: Sequence[Example], tick: Callable[[str], None] = lambda _: None) -> Model:
    """The same predictor with probabilities and thresholds of another log. Rows without outcomes count for thresholds
    only; where no row has any, the probabilities stay. Raises ValueError where there are too few rows."""
    if len(examples) < ROWS_MIN:
        raise ValueError(f"{len(examples)} prompts are too few to calibrate with; it takes {ROWS_MIN}")
    sums = []
    for example in examples:
        sums.append(model.raw(example.prompt))
        tick("row")
    scores = [model.strong_mix * strong - weak for weak, strong in sums]
    known = [place for place, example in enumerate(examples) if example.weak is not None and example.strong is not None]
    if known and len(known) < ROWS_MIN:
        raise ValueError(f"{len(known)} outcomes are too few to calibrate with; it takes {ROWS_MIN}, or none at all")
    if not known:
        return msgspec.structs.replace(model, gains=_quantiles([model.gain_at(score) for score in scores]))
    weak = [examples[place].weak or 0.0 for place in known]
    strong = [examples[place].strong or 0.0 for place in known]
    known_scores = [scores[place] for place in known]
    heads = [
        msgspec.structs.replace(head, curve=fit_curve([sums[place][index] for place in known], wanted))
        for index, (head, wanted) in enumerate(((model.weak, weak), (model.strong, strong)))
    ]
    gains = [max(s - w, 0.0) for w, s in zip(weak, strong, strict=True)]
    curve = fit_curve(known_scores, gains)
    fitted = msgspec.structs.replace(model, weak=heads[0], strong=heads[1], gain_curve=curve)
    judged = _with_figures(fitted, known_scores, weak, strong, grouped([examples[place] for place in known]))
    return msgspec.structs.replace(judged, gains=_quantiles([fitted.gain_at(score) for score in scores]))
