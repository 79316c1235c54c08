"""Output tokens of a stream that broke off, from the chunks that came: learned from streams that told their usage.

A chunk carries one token at some providers and a sentence at others, and reasoning is billed without being shown, so
tokens per chunk are learned per provider and model (an exponentially weighted mean over about the last 20 streams).

Laws: at least one token a chunk until something else is known; at most 1,024 pairs are remembered.
"""

from __future__ import annotations

from math import ceil

__all__ = ["DeltaRatios"]

_PAIRS_MAX = 1024
_MEMORY = 20


class DeltaRatios:
    """Tokens per chunk."""

    __slots__ = ("_ratios",)

    def __init__(self) -> None:
        self._ratios: dict[tuple[str, str], tuple[float, int]] = {}

    def record(self, provider_id: str, model: str, deltas: int, output_tokens: int) -> None:
        """One whole stream had so many chunks with output, and the provider counted so many tokens."""
        if deltas <= 0:
            return
        ratio, count = self._ratios.get((provider_id, model), (0.0, 0))
        if count == 0 and len(self._ratios) >= _PAIRS_MAX:
            del self._ratios[next(iter(self._ratios))]
        count = min(count + 1, _MEMORY)
        self._ratios[provider_id, model] = (ratio + (output_tokens / deltas - ratio) / count, count)

    def tokens(self, provider_id: str, model: str, deltas: int) -> int:
        """The likely output tokens behind so many chunks."""
        ratio, _ = self._ratios.get((provider_id, model), (1.0, 0))
        return ceil(deltas * ratio)
