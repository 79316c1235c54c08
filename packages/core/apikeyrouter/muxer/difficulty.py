"""What a strong model would win: the port between strategies and whatever foresees it.

Main entry: `DifficultyPredictor`, a protocol with one method; `predictor()` gives the best one at hand: the trained one
(`apikeyrouter.muxer.trained`) where it is installed, else `Complexity`, which reads the text alone.
Laws: deterministic; a predictor never raises for any text; without evidence a prediction is called what it is.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from apikeyrouter.muxer.tasks import read_prompt

__all__ = ["Complexity", "DifficultyPredictor", "predictor", "threshold_for"]

_TRAINED = "apikeyrouter.muxer.trained"


class DifficultyPredictor(Protocol):
    """Foresees for which prompts a strong model is worth its price. `name`: for explanations."""

    @property
    def name(self) -> str:
        """Which predictor this is, for people."""
        ...

    def strong_gain(self, text: str) -> float:
        """Probability (0..1, calibrated) that a strong model answers this well and a weak one does not: what is won by
        paying for the strong one. Deterministic, <= 300 us for 1 KB."""
        ...


class Complexity:
    """The text's own complexity in place of a probability: it orders prompts, and is calibrated by feedback only."""

    name = "complexity"

    def strong_gain(self, text: str) -> float:
        """The complexity of the text, 0..1: see `tasks.read_prompt`."""
        return read_prompt(text).complexity


@lru_cache(4)
def predictor(path: Path | None = None) -> DifficultyPredictor:
    """The trained predictor where it is installed, else the text's complexity. `path`: of a model of one's own."""
    trained = _trained()
    if trained is None:
        return Complexity()
    found: DifficultyPredictor = trained.load(path)
    return found


@lru_cache(64)
def threshold_for(share_of_strong: float, path: Path | None = None) -> float:
    """The gain from which on a prompt goes to the strong model, so that about this share (0..1) of prompts does; before
    own traffic has been seen. `path`: see `predictor`. Raises ValueError for a share outside 0..1."""
    if not 0.0 <= share_of_strong <= 1.0:
        raise ValueError(f"share_of_strong must be from 0 to 1, not {share_of_strong}")
    trained = _trained()
    if trained is None:
        return 1.0 - share_of_strong
    found: float = trained.threshold_for(share_of_strong, path)
    return found


@lru_cache(1)
def _trained() -> Any:
    """The module of the trained predictor, None where it is left out of an installation."""
    if find_spec(_TRAINED) is None:
        return None
    module = import_module(_TRAINED)
    return module if hasattr(module, "load") and hasattr(module, "threshold_for") else None
