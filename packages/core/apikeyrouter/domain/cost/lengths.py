"""How long replies are: mean and quantiles of output tokens, learned per model, prompt template, tenant and cap.

Replies of one template (system prompt and tools, see `template_of`) resemble each other far more than replies of one
model, so `OutputLengths` keeps a sketch for each (model, cap band, template, tenant) and for its parents, and answers
from the narrowest one that has seen enough. A sketch is a histogram of log-spaced bins whose counts are halved every
512 replies, so old habits fade.

Laws: memory is bounded; an answer is never above the caller's cap; a quantile needs p / (1 - p) replies, and 30 at
least, or the parent is asked (split conformal prediction: no finite bound exists below that).
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from math import ceil
from zlib import crc32

import msgspec

__all__ = ["EXPECTED_OUTPUT_TOKENS", "UNKNOWN_Q95_OUTPUT_TOKENS", "OutputLengths", "template_of"]

EXPECTED_OUTPUT_TOKENS = 256
"""Before the first reply of a model. The mean of the Azure LLM inference trace 2023 (conversations) is 211."""

UNKNOWN_Q95_OUTPUT_TOKENS = 1024
"""Stands for every quantile before a model has replied often enough; twice the trace's q95 of 451. A guess."""

SAMPLES_MIN = 30
"""Replies before a sketch answers for itself rather than its parent."""

_MODELS_MAX = 1024
_CELLS_MAX = 3072
_HALVE_AT = 512
_EXACT = 32  # lengths below this have a bin each; above, 16 bins per doubling (6 % wide)
_BINS = _EXACT + 16 * 16
_MEMORY = 20
_ASKED = 0.95
_ALPHA = 1.0 - _ASKED
_TAIL_STEP = 0.1
"""Adaptive conformal inference (Gibbs and Candes 2021): alpha moves by 0.005 x (0.05 - miss); here in shares of it."""

Key = tuple[str, ...]


class _Sketch:
    """A decaying histogram of lengths, with the mean of about the last 20."""

    __slots__ = ("above", "answer", "bins", "count", "mean", "place", "seen", "tail", "touched")

    def __init__(self) -> None:
        self.bins = array("H", bytes(2 * _BINS))
        self.count = 0  # in the bins
        self.seen = 0  # for the mean: up to _MEMORY
        self.mean = 0.0
        self.place = self.above = 0  # the bin of the last quantile, and how many replies lie in bins above it
        self.answer = 0  # the last q95
        self.tail = 1.0  # how much of the share 1 - p may really lie above: corrects for habits that change
        self.touched = False  # since the last look for something to forget

    def add(self, tokens: int) -> None:
        if self.answer:
            tail = self.tail + _TAIL_STEP * (_ALPHA - (tokens > self.answer))
            if tail < 0.2:
                tail = 0.2
            elif tail > 2.0:
                tail = 2.0
            self.tail = tail
            self.answer = 0
        seen = self.seen
        if seen < _MEMORY:
            self.seen = seen = seen + 1
        self.mean += (tokens - self.mean) / seen
        if tokens < _EXACT:
            index = tokens
            if index < 0:
                index = 0
        else:
            shift = tokens.bit_length() - 5
            index = (shift << 4) + (tokens >> shift)
            if index >= _BINS:
                index = _BINS - 1
        self.bins[index] += 1
        if index > self.place:
            self.above += 1
        self.count += 1
        self.touched = True
        if self.count >= _HALVE_AT:
            self.bins = array("H", [n >> 1 for n in self.bins])
            self.count = sum(self.bins)
            self.above = sum(self.bins[self.place + 1 :])

    def quantile(self, p: float) -> int:
        """The length at rank ceil((count + 1) x p), interpolated within its bin. Needs `count` >= p / (1 - p)."""
        level = 1.0 - (1.0 - p) * self.tail
        above = self.count - ceil((self.count + 1) * level)  # how many replies may lie above the answer
        if above < 0:
            above = 0
        # the highest bin that has, with those above it, more than that: mostly that of the last time, or the next
        bins, index, passed = self.bins, self.place, self.above
        while passed > above:
            index += 1
            passed -= bins[index]
        while index > 0 and passed + bins[index] <= above:
            passed += bins[index]
            index -= 1
        self.place, self.above = index, passed
        if index >= _EXACT:
            shift = (index >> 4) - 1
            low = (16 + (index & 15)) << shift
            index = low + ((1 << shift) * (passed + bins[index] - above)) // (bins[index] or 1)
        if p == _ASKED:
            self.answer = index
        return index


class OutputLengths:
    """What replies usually hold. Remembers at most 1,024 models and 3,072 narrower groups."""

    __slots__ = ("_cells", "_models")

    def __init__(self) -> None:
        self._models: dict[str, _Sketch] = {}
        self._cells: dict[Key, _Sketch] = {}

    def record(
        self, model: str, output_tokens: int, max_tokens: int | None = None, *, tenant: str = "", template: str = ""
    ) -> None:
        """One reply (one choice) of `model` had this many output tokens. `max_tokens`: the cap it was asked with."""
        sketch = self._models.get(model)
        if sketch is None:
            if len(self._models) >= _MODELS_MAX:
                _forget_one(self._models)
            sketch = self._models[model] = _Sketch()
        sketch.add(output_tokens)
        cells = self._cells
        for key in _groups(model, None if max_tokens is None else max_tokens.bit_length(), tenant, template):
            cell = cells.get(key)
            if cell is None:
                if len(cells) >= _CELLS_MAX:
                    _forget_one(cells)
                cell = cells[key] = _Sketch()
            cell.add(output_tokens)

    def knows(self, model: str, p: float = 0.5) -> bool:
        """Whether enough replies of the model were seen to answer for the quantile `p`."""
        root = self._models.get(model)
        return root is not None and root.count >= max(SAMPLES_MIN, ceil(p / (1.0 - p)))

    def expected(self, model: str, max_tokens: int | None = None, *, tenant: str = "", template: str = "") -> int:
        """The likely output tokens of one reply, never above `max_tokens`."""
        sketch = self._narrowest(model, max_tokens, tenant, template, SAMPLES_MIN)
        mean = EXPECTED_OUTPUT_TOKENS if sketch is None else round(sketch.mean)
        if max_tokens is None or 0 <= mean <= max_tokens:
            return mean
        return max(0, min(mean, max_tokens))

    def quantile(
        self, p: float, model: str, max_tokens: int | None = None, *, tenant: str = "", template: str = ""
    ) -> int:
        """Output tokens that a share of 1 - `p` of the replies exceeds (0 < p < 1), never above `max_tokens`.

        Before enough replies are known: `max_tokens`, at most `UNKNOWN_Q95_OUTPUT_TOKENS`.
        """
        needed = SAMPLES_MIN if p == _ASKED else max(SAMPLES_MIN, ceil(p / (1.0 - p)))
        sketch = self._narrowest(model, max_tokens, tenant, template, needed)
        known = sketch is not None and sketch.count >= needed
        length = sketch.quantile(p) if known and sketch is not None else UNKNOWN_Q95_OUTPUT_TOKENS
        if max_tokens is None or 0 <= length <= max_tokens:
            return length
        return max(0, min(length, max_tokens))

    def _narrowest(self, model: str, max_tokens: int | None, tenant: str, template: str, needed: int) -> _Sketch | None:
        """The group with enough replies that is most like this request, else the whole model, however few."""
        root = self._models.get(model)
        if root is None or root.count < needed:
            return root
        cells = self._cells
        for key in _groups(model, None if max_tokens is None else max_tokens.bit_length(), tenant, template):
            cell = cells.get(key)
            if cell is not None and cell.count >= needed:
                return cell
        return root


@lru_cache(maxsize=2048)
def _groups(model: str, bits: int | None, tenant: str, template: str) -> tuple[Key, ...]:
    """The groups that a reply belongs to, the narrowest first. `bits`: the length of its cap as a binary number, so
    that caps within one doubling share a band."""
    band = "" if bits is None else str(bits)
    if template:
        if tenant:
            return (model, band, template, tenant), (model, band, template), (model, band)
        return (model, band, template), (model, band)
    if tenant:
        return (model, band, "", tenant), (model, band)
    return ((model, band),)


def _forget_one(sketches: dict[str, _Sketch] | dict[Key, _Sketch]) -> None:
    """Drops the oldest that was not used since it was last looked at (second chance), looking at 8 at the most."""
    store: dict[str | Key, _Sketch] = sketches  # type: ignore[assignment]  # either kind of key: they are only moved
    for _ in range(8):
        key = next(iter(store))
        sketch = store.pop(key)
        if not (sketch.touched and sketch.count >= SAMPLES_MIN):
            return
        sketch.touched = False
        store[key] = sketch
    del store[next(iter(store))]


_PREFIX = 512


def template_of(messages: list[msgspec.Raw] | None, tools: msgspec.Raw | None = None) -> str:
    """A short name for requests that look alike: from the first bytes of the system prompt and of the tool
    definitions; "" when there are neither. Takes the peeked raw values; costs the same however long they are."""
    mark = 0
    if messages:
        first = memoryview(messages[0])
        head = bytes(first[:_PREFIX])
        if _instructs(head) or (len(first) > _PREFIX and _instructs(bytes(first[-64:]))):
            mark = crc32(head)
    if tools:
        view = memoryview(tools)
        if len(view) > 4:  # not null and not []
            mark = crc32(bytes(view[:_PREFIX]), mark ^ len(view))
    return f"{mark:08x}" if mark else ""


def _instructs(part: bytes) -> bool:
    return b'"system"' in part or b'"developer"' in part
