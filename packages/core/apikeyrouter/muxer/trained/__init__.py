"""A predictor of what a strong model wins, trained on public outcomes; and how to train one on your own.

    from apikeyrouter.muxer.trained import load
    load().strong_gain("Which of these follows from the premises? ...")     # 0..1

Main entries: `load` (the shipped model, or that of a file) and `threshold_for`. Parts:
`features` measure a prompt, `fitting` and `training` learn, `calibration` makes probabilities, `metrics` judge, `model`
is the file.
Laws: read once, when first asked; no dependency beyond the core's; a model file that cannot be used is an error.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from apikeyrouter.muxer.trained.model import Model, read_model

__all__ = ["MODEL_VARIABLE", "SHIPPED", "load", "threshold_for"]

MODEL_VARIABLE = "APIKEYROUTER_MUXER_MODEL"
"""Names the file of a model of your own, as `apikeyrouter muxer train` writes it; settings read it (`muxer_model`)."""

SHIPPED = Path(__file__).with_name("model.json")
"""The model that comes with the package; `python -m bench model_routing --train` makes it, byte for byte."""


def load(path: str | Path | None = None) -> Model:
    """The model of a file; default: the shipped one. Read once for each path. Raises ConfigurationError where the file
    cannot be used."""
    return _read(Path(path or SHIPPED))


def threshold_for(share_of_strong: float, path: str | Path | None = None) -> float:
    """The gain from which on a prompt goes to the strong model, so that about this share (0..1) does; before own
    traffic has been seen. Raises ValueError for a share outside 0..1."""
    return load(path).threshold_for(share_of_strong)


@lru_cache(4)
def _read(path: Path) -> Model:
    return read_model(path.expanduser())
