"""Input tokens from bytes: a line per provider and model, learned from what providers counted.

`InputRatios.record` takes each reply's usage, `expected` turns the bytes of the next request into likely tokens, and
`upper` into an amount that about one request in twenty exceeds. Bytes are `InputBound.content_bytes`: all parts of a
request as bytes of plain text. The line's offset is what a provider adds to every request; no tokenizer runs.

Laws: O(1) and a few floats per (provider, model); every reply counts twice, for the provider and for the model at
whatever provider, so that an estimate needs no provider; an unknown model counts as English.
"""

from __future__ import annotations

__all__ = ["DEFAULT_RATIO", "InputRatios"]

DEFAULT_RATIO = 0.23
"""Tokens per byte before the first reply, measured on recorded exchanges (OpenAI's help page: "1 token ~= 4
characters")."""

_DEFAULT_UPPER = 2.0
_FIRST_UPPER = 1.6
_FIRST_STEP = 0.5
_MODELS_MAX = 2048

_KEEP = 0.97
"""What an older reply weighs after a newer one: the line rests on about the last 30."""

_PRIOR_OFFSET = 0.5
_PRIOR_RATIO = 0.1
"""How many replies' weight the prior (offset 0, `DEFAULT_RATIO`) has: ridge regression. Chosen on recorded exchanges,
where anything from 0.1 to 1 does about as well."""

_RATIO_MIN = 0.02

_ABOVE = 0.95
_STEP = 0.05
"""How far the upper factor moves, in shares of the expectation, after a request above it; 1/19 of that after one below,
so that it rests where one in twenty lies above (stochastic approximation: Robbins and Monro 1951; as online conformal
prediction: Gibbs and Candes 2021)."""


class _Line:
    """Weighted least squares of tokens over bytes, minimising relative errors, with the newest replies foremost."""

    __slots__ = ("count", "offset", "ratio", "stale", "sum_w", "sum_wx", "sum_wxx", "sum_wxy", "sum_wy", "upper")

    def __init__(self) -> None:
        self.sum_w = self.sum_wx = self.sum_wxx = self.sum_wy = self.sum_wxy = 0.0
        self.count = 0.0  # of replies, faded like the sums
        self.offset, self.ratio, self.upper = 0.0, DEFAULT_RATIO, _DEFAULT_UPPER
        self.stale = False

    def add(self, size: int, tokens: int) -> None:
        if self.stale:
            self.solve()
        if self.count == 0.0:
            self.upper = _FIRST_UPPER
        else:
            step = _FIRST_STEP / (1.0 + self.count)
            if step < _STEP:
                step = _STEP
            upper = self.upper
            above = tokens > (self.offset + self.ratio * size) * upper
            upper += step * (_ABOVE if above else _ABOVE - 1.0)
            if upper < 1.0:
                upper = 1.0
            self.upper = upper
        weight = 1.0 / (tokens * tokens)
        moment = weight * size
        self.sum_w = self.sum_w * _KEEP + weight
        self.sum_wx = self.sum_wx * _KEEP + moment
        self.sum_wxx = self.sum_wxx * _KEEP + moment * size
        self.sum_wy = self.sum_wy * _KEEP + weight * tokens
        self.sum_wxy = self.sum_wxy * _KEEP + moment * tokens
        self.count = self.count * _KEEP + 1.0
        self.stale = True

    def solve(self) -> None:
        self.stale = False
        w, wx, wy = self.sum_w, self.sum_wx, self.sum_wy
        a11 = w * (1.0 + _PRIOR_OFFSET / self.count)
        prior = self.sum_wxx * _PRIOR_RATIO / self.count
        a22, b2 = self.sum_wxx + prior, self.sum_wxy + prior * DEFAULT_RATIO
        det = a11 * a22 - wx * wx  # > 0: the priors keep it from being singular
        offset, ratio = (wy * a22 - wx * b2) / det, (a11 * b2 - wx * wy) / det
        if offset < 0.0:
            offset, ratio = 0.0, b2 / a22
        elif ratio < _RATIO_MIN:
            ratio = _RATIO_MIN
            offset = max(0.0, (wy - ratio * wx) / a11)
        self.offset, self.ratio = offset, ratio


class InputRatios:
    """Learned lines. Remembers at most 2,048 pairs of provider and model, the newest."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}

    def record(self, provider_id: str, model: str, content_bytes: int, prompt_tokens: int) -> None:
        """A request of so many bytes was counted as so many tokens. Nonsense is left out."""
        if content_bytes <= 0 or prompt_tokens <= 0:
            return
        lines = self._lines
        for key in ((provider_id, model), ("", model)) if provider_id else (("", model),):
            line = lines.get(key)
            if line is None:
                if len(lines) >= _MODELS_MAX:
                    del lines[next(iter(lines))]
                line = lines[key] = _Line()
            line.add(content_bytes, prompt_tokens)

    def expected(self, provider_id: str, model: str, content_bytes: int) -> int:
        """The likely input tokens of so many bytes; at least 1. `provider_id` may be ""."""
        lines = self._lines
        line = lines.get((provider_id, model)) if provider_id else None
        return _likely(lines.get(("", model)) if line is None else line, content_bytes)

    def upper(self, provider_id: str, model: str, content_bytes: int) -> int:
        """Input tokens that about one request in twenty exceeds; never below `expected`."""
        lines = self._lines
        line = lines.get((provider_id, model)) if provider_id else None
        if line is None:
            line = lines.get(("", model))
        factor = _DEFAULT_UPPER if line is None else line.upper
        return int(_likely(line, content_bytes) * factor) + 1

    def tokens_per_byte(self, provider_id: str, model: str) -> float | None:
        """The learned ratio (without the offset), or None before the first reply."""
        line = self._lines.get((provider_id, model)) or self._lines.get(("", model))
        if line is None:
            return None
        if line.stale:
            line.solve()
        return line.ratio


def _likely(line: _Line | None, content_bytes: int) -> int:
    if line is None:
        tokens = int(content_bytes * DEFAULT_RATIO)
    else:
        if line.stale:
            line.solve()
        tokens = int(line.offset + content_bytes * line.ratio)
    if tokens < 1:
        return 1
    return tokens
