"""Tokens per byte of a request, learned from what providers counted: the fast estimator of input tokens.

`InputRatios.record` takes each reply's usage, `expected` turns the bytes of the next request into likely tokens, and
`upper` into an amount that about one request in twenty exceeds. Nothing is parsed and no tokenizer runs.

Laws: O(1) and a few floats per (provider, model); every update is kept twice, for the provider and for the model at
whatever provider, so that an estimate needs no provider; an unknown model counts as English in JSON (1/4).
"""

from __future__ import annotations

__all__ = ["DEFAULT_RATIO", "InputRatios"]

DEFAULT_RATIO = 0.25
"""Tokens per byte before the first reply (OpenAI's help page: "1 token ~= 4 characters")."""

DEFAULT_UPPER_RATIO = 0.5
"""Its upper quantile: twice the tokens, as of short requests whose envelope weighs little and of dense JSON."""

_MODELS_MAX = 2048
_MEMORY = 50
"""Replies that the mean remembers: an exponential weight of 1/50, and a plain mean up to then."""

_ABOVE = 0.95
_STEP = 0.05
"""How far the upper quantile moves, as a share of the ratio, after a request above it; 1/19 of that after one below, so
that it rests where one in twenty lies above (stochastic approximation: Robbins and Monro 1951; as online conformal
prediction: Gibbs and Candes 2021)."""


class InputRatios:
    """Learned ratios of tokens to bytes. Remembers at most 2,048 pairs of provider and model, the newest."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[float]] = {}  # [mean ratio, upper ratio, replies up to _MEMORY]

    def record(self, provider_id: str, model: str, body_bytes: int, prompt_tokens: int) -> None:
        """A request of so many bytes (media left out) was counted as so many tokens. Nonsense is left out."""
        if body_bytes <= 0 or prompt_tokens <= 0:
            return
        ratio = prompt_tokens / body_bytes
        known = self._known
        for key in ((provider_id, model), ("", model)) if provider_id else (("", model),):
            entry = known.get(key)
            if entry is None:
                if len(known) >= _MODELS_MAX:
                    del known[next(iter(known))]
                known[key] = [ratio, ratio * 1.25, 1.0]
                continue
            mean, upper, count = entry
            if count < _MEMORY:
                count += 1.0
                entry[2] = count
            entry[0] = mean + (ratio - mean) / count
            step = max(_STEP, 1.0 / count) * mean
            entry[1] = upper + (step * _ABOVE if ratio > upper else -step * (1.0 - _ABOVE))

    def expected(self, provider_id: str, model: str, body_bytes: int) -> int:
        """The likely input tokens of so many bytes; at least 1. `provider_id` may be ""."""
        entry = self._known.get((provider_id, model)) or self._known.get(("", model))
        return max(1, int(body_bytes * (DEFAULT_RATIO if entry is None else entry[0])))

    def upper(self, provider_id: str, model: str, body_bytes: int) -> int:
        """Input tokens that about one request in twenty exceeds; never below `expected`."""
        entry = self._known.get((provider_id, model)) or self._known.get(("", model))
        ratio = DEFAULT_UPPER_RATIO if entry is None else max(entry[0], entry[1])
        return max(1, int(body_bytes * ratio) + 1)

    def tokens_per_byte(self, provider_id: str, model: str) -> float | None:
        """The learned ratio, or None before the first reply."""
        entry = self._known.get((provider_id, model)) or self._known.get(("", model))
        return None if entry is None else entry[0]
