"""The trained model: what its file holds, how it is read and written, and what it says about a prompt.

    model = read_model(Path("mine.json"))
    model.strong_gain("Prove that ...")     # 0..1

Main entries: `Model`, `read_model`, `model_bytes`. A file is JSON of a few kilobytes that people can read.
Laws: the same bytes for the same model; a file that does not fit this version is refused with what is wrong with it and
never half used; predictions are deterministic and rise with the score they are read from.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from math import fsum, isfinite
from operator import mul
from pathlib import Path

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.muxer.trained.calibration import Curve
from apikeyrouter.muxer.trained.features import FEATURES, WORD_PLACES, measure, word_places
from apikeyrouter.muxer.trained.fitting import Line

__all__ = ["FILE_BYTES_MAX", "VERSION", "Head", "Model", "Outlook", "file_bytes", "model_bytes", "read_model"]

VERSION = 1
FILE_BYTES_MAX = 2 * 1024 * 1024
"""A model file larger than this is not ours."""

_DIGITS = 9
_ORDER = 1e-6
"""How much of a gain keeps the order of scores beyond the ends of the calibration curve."""


class Head(msgspec.Struct, frozen=True):
    """How well one of the two models will do: a line through the form of the prompt, and words beside it.

    `words`: place in the table of words (as text, as JSON has it) -> what the word adds; empty where words did not
    help. `curve`: from the sum to a probability."""

    weights: list[float]
    bias: float
    curve: Curve
    words: dict[str, float] = {}


class Outlook(msgspec.Struct, frozen=True):
    """What is expected of a prompt, each 0..1: that the weak model does well, that the strong one does, and that the
    strong one does where the weak one does not."""

    weak: float
    strong: float
    gain: float


class Model(msgspec.Struct, frozen=True, dict=True):
    """A trained predictor. A `DifficultyPredictor`.

    `rows`, `groups`: what it was trained on. `log_sha256`: of the log's bytes, to notice when it is judged by what it
    was trained on. `lowest`, `highest`: range of each feature in training; beyond it a feature counts as at its end.
    `strong_mix`: how much of the strong model's line the ranking score takes, see `gain_at`. `gains`: 101 quantiles of
    the gain over prompts that were held out, for thresholds. `figures`: what cross-validation showed."""

    name: str
    rows: int
    groups: int
    log_sha256: str
    features: list[str]
    lowest: list[float]
    highest: list[float]
    weak: Head
    strong: Head
    strong_mix: float
    gain_curve: Curve
    gains: list[float]
    figures: dict[str, float | None] = {}
    version: int = VERSION

    def strong_gain(self, text: str) -> float:
        """Probability that a strong model answers this well and a weak one does not, 0..1."""
        numbers = self._bounded(measure(text))
        score = self._ranking.bias + fsum(map(mul, self._ranking.weights, numbers))
        words = self._ranking_words
        if words:
            score += fsum([words.get(place, 0.0) for place in word_places(text)])
        return self.gain_at(score)

    def outlook(self, text: str) -> Outlook:
        """Everything that is foreseen of a prompt."""
        weak, strong = self.raw(text)
        return Outlook(
            self.weak.curve.at(weak), self.strong.curve.at(strong), self.gain_at(self.strong_mix * strong - weak)
        )

    def raw(self, text: str) -> tuple[float, float]:
        """The sums of both heads, weak and strong, before calibration."""
        numbers = self._bounded(measure(text))
        places = word_places(text) if self.weak.words or self.strong.words else []
        sums = [
            Line(head.weights, head.bias).at(numbers) + fsum(head.words.get(str(place), 0.0) for place in places)
            for head in (self.weak, self.strong)
        ]
        return sums[0], sums[1]

    def gain_at(self, score: float) -> float:
        """The gain at a ranking score: `strong_mix` * strong's sum - weak's sum. Strictly rising."""
        # Beyond the curve's ends the order of prompts must not be lost, or no threshold could cut there.
        gain = self.gain_curve.at(score) + _ORDER * score / (1.0 + abs(score))
        return min(max(gain, 0.0), 1.0)

    def threshold_for(self, share_of_strong: float) -> float:
        """The gain from which on a prompt goes to the strong model, so that about this share (0..1) of the prompts that
        the model was calibrated on does. Raises ValueError for a share outside 0..1."""
        if not 0.0 <= share_of_strong <= 1.0:
            raise ValueError(f"share_of_strong must be from 0 to 1, not {share_of_strong}")
        if share_of_strong == 0.0:
            return 1.0
        if share_of_strong == 1.0:
            return 0.0
        place = (1.0 - share_of_strong) * (len(self.gains) - 1)
        low = int(place)
        high = min(low + 1, len(self.gains) - 1)
        return self.gains[low] + (place - low) * (self.gains[high] - self.gains[low])

    @cached_property
    def _ranking(self) -> Line:
        mixed = [self.strong_mix * s - w for w, s in zip(self.weak.weights, self.strong.weights, strict=True)]
        return Line(mixed, self.strong_mix * self.strong.bias - self.weak.bias)

    @cached_property
    def _ranking_words(self) -> dict[int, float]:
        mix = self.strong_mix
        places = sorted({*self.weak.words, *self.strong.words}, key=int)
        return {int(p): mix * self.strong.words.get(p, 0.0) - self.weak.words.get(p, 0.0) for p in places}

    def _bounded(self, numbers: list[float]) -> list[float]:
        return [
            low if number < low else min(number, high)
            for number, low, high in zip(numbers, self.lowest, self.highest, strict=True)
        ]


def model_bytes(model: Model) -> bytes:
    """The file of a model, see `file_bytes`."""
    return file_bytes(model)


def file_bytes(learnt: msgspec.Struct) -> bytes:
    """What was learnt as JSON for people: the same bytes for the same numbers, which keep 9 significant digits."""
    plain = _rounded(msgspec.to_builtins(learnt))
    return msgspec.json.format(msgspec.json.encode(plain, order="deterministic"), indent=1) + b"\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value


def read_model(path: Path) -> Model:
    """The model in a file. Raises ConfigurationError that says what is wrong with it and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as fault:
        raise _unusable(path, f"cannot be read ({fault.strerror})", "Check APIKEYROUTER_MUXER_MODEL.") from None
    again = "Make a new one with `apikeyrouter muxer train LOG`."
    if len(content) > FILE_BYTES_MAX:
        raise _unusable(path, f"is larger than {FILE_BYTES_MAX // 1024**2} MB, so it is no model file", again)
    try:
        model = msgspec.json.decode(content, type=Model)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise _unusable(path, f"is no model file ({fault})", again) from None
    fault_found = _fault_of(model)
    if fault_found:
        raise _unusable(path, fault_found, again)
    return model


def _unusable(path: Path, what: str, advice: str) -> ConfigurationError:
    return ConfigurationError([f"the trained model {path} {what}. {advice}"])


def _fault_of(model: Model) -> str | None:
    """What makes the model unusable, or None."""
    if model.version != VERSION or model.features != list(FEATURES):
        return "was made by another version of ApiKeyRouter"
    size = len(FEATURES)
    rows = (model.lowest, model.highest, model.weak.weights, model.strong.weights)
    if any(len(row) != size for row in rows):
        return f"is damaged: it needs {size} numbers of each kind"
    curves = (model.weak.curve, model.strong.curve, model.gain_curve)
    if any(not _is_rising(curve) for curve in curves) or len(model.gains) < 2 or model.gains != sorted(model.gains):
        return "is damaged: its calibration does not rise"
    numbers = [*(value for row in rows for value in row), *model.gains, model.weak.bias, model.strong.bias]
    numbers += [model.strong_mix, *model.weak.words.values(), *model.strong.words.values()]
    if not all(map(isfinite, numbers)):
        return "is damaged: it holds numbers that are none"
    places = [*model.weak.words, *model.strong.words]
    if any(not place.isdecimal() or int(place) >= WORD_PLACES for place in places):
        return "is damaged: it names places that the table of words does not have"
    return None


def _is_rising(curve: Curve) -> bool:
    scores, chances = curve.scores, curve.probabilities
    return (
        len(scores) == len(chances) > 0
        and all(map(isfinite, scores))
        and all(0.0 <= chance <= 1.0 for chance in chances)
        and all(one < next_one for one, next_one in pairwise(scores))
        and chances == sorted(chances)
    )
