"""Whether a cheap model's reply is good enough to keep: what a cascade asks before it pays for the strong model.

    verifier_for(prompt).accept(prompt, reply)      # 0..1

Main entries: `Verifier`, `verifier_for`. `ArithmeticVerifier` does the sums of a reply again and weighs what else it
shows; its weights are learnt from replies to GSM8K (docs/reference/model-routing-evaluation.md: what it is worth).
`FormVerifier` serves all other prompts and sees faults of form only. Laws: deterministic, no text makes it raise, about
200 us per KB; neither knows the subject: a wrong reply that is well formed passes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import fsum
from operator import mul
from pathlib import Path
from typing import Protocol

import msgspec

from apikeyrouter.muxer.reply_signs import REPLY_CHARACTERS_MAX, SIGNS, hedges, is_ended, read_reply
from apikeyrouter.muxer.sums import numbers_in
from apikeyrouter.muxer.trained.calibration import Curve

__all__ = ["ArithmeticVerifier", "FormVerifier", "ReplyModel", "Verifier", "verifier_for"]

_FILE = Path(__file__).parent / "trained" / "replies.json"

# Without outcomes these order replies; they are no measured probabilities.
_WORTHLESS, _DOUBTFUL, _NOTHING_AGAINST = 0.02, 0.3, 0.75
_NUMBERS_MIN = 2
_CODE = re.compile(r"```|[{};]\s*$|\bdef \w+\(", re.MULTILINE)
_QUANTITY = re.compile(
    r"\?|how (?:many|much)|calculate|compute|what is|wie viel|combien|cu[áa]nt|quant[oaie]|сколько|多少|いくら|몇",
    re.IGNORECASE,
)
_WANTS_JSON = re.compile(r"\b(?:in|as|valid|only|return|output)\s+(?:a\s+|an\s+)?JSON\b", re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*\n(.*?)\n?```\s*$", re.DOTALL)
_REFUSAL = re.compile(
    r"^(?:i'?m sorry|i am sorry|sorry|as an ai|i can(?:no|')t|i am unable|i'?m unable|i do(?: not|n't) know)\b",
    re.IGNORECASE,
)
_LOOP_WORDS = 8
_LOOPS = 4


class Verifier(Protocol):
    """Judges a reply without asking anybody. `name`: for explanations."""

    @property
    def name(self) -> str:
        """Which verifier this is, for people."""
        ...

    def accept(self, prompt: str, reply: str) -> float:
        """Probability (0..1) that the reply is right: keep it where this is high enough, else ask the strong model."""
        ...


class ReplyModel(msgspec.Struct, frozen=True):
    """Weights of the signs of a reply. `lowest`, `highest`: their ranges in training; beyond them they count as at the
    end."""

    signs: list[str]
    lowest: list[float]
    highest: list[float]
    weights: list[float]
    bias: float
    curve: Curve

    def score(self, signs: list[float]) -> float:
        """The weighted sum, before calibration."""
        bounded = [min(max(s, low), high) for s, low, high in zip(signs, self.lowest, self.highest, strict=True)]
        return self.bias + fsum(map(mul, self.weights, bounded))


@lru_cache(1)
def reply_model() -> ReplyModel:
    """The weights that come with the package."""
    return msgspec.json.decode(_FILE.read_bytes(), type=ReplyModel)


class ArithmeticVerifier:
    """For questions that are answered by calculating."""

    name = "arithmetic"

    def __init__(self, model: ReplyModel | None = None) -> None:
        self._model = model or reply_model()
        if self._model.signs != list(SIGNS):
            raise ValueError("these weights are for other signs of a reply")

    def accept(self, prompt: str, reply: str) -> float:
        """See `Verifier`; for a reply of the weak model. Calibrated on GSM8K; an empty reply is never right."""
        return self._model.curve.at(self._model.score(read_reply(prompt, reply))) if reply.strip() else 0.0


class FormVerifier:
    """For everything else: empty, cut off, refused, running in circles, or not the JSON that was asked for."""

    name = "form"

    def accept(self, prompt: str, reply: str) -> float:
        """See `Verifier`; of three values only: worthless (0.02), doubtful (0.3), nothing against it (0.75)."""
        text = reply[:REPLY_CHARACTERS_MAX].strip()
        if not text or _runs_in_circles(text) or (_WANTS_JSON.search(prompt) and not _is_json(reply)):
            return _WORTHLESS
        if _REFUSAL.search(text):
            return _WORTHLESS
        # A short answer needs no full stop; a long one that breaks off does.
        broken_off = len(reply) <= REPLY_CHARACTERS_MAX and len(text) > 200 and not is_ended(text)
        return _DOUBTFUL if broken_off or hedges(text[:300]) else _NOTHING_AGAINST


@lru_cache(1)
def _both() -> tuple[ArithmeticVerifier, FormVerifier]:
    return ArithmeticVerifier(), FormVerifier()


def verifier_for(prompt: str) -> Verifier:
    """The verifier that fits a prompt: arithmetic where two numbers and a question about them stand in it."""
    arithmetic, form = _both()
    text = prompt[:REPLY_CHARACTERS_MAX]
    is_sum = len(numbers_in(text)) >= _NUMBERS_MIN and _QUANTITY.search(text) and not _CODE.search(text)
    return arithmetic if is_sum else form


def _runs_in_circles(text: str) -> bool:
    """Whether the reply ends in the same words again and again."""
    words = text.split()
    last = words[-_LOOP_WORDS:]
    if len(words) < _LOOP_WORDS * _LOOPS:
        return False
    return all(words[-_LOOP_WORDS * (n + 1) : len(words) - _LOOP_WORDS * n] == last for n in range(_LOOPS))


def _is_json(reply: str) -> bool:
    fenced = _FENCE.match(reply.strip())
    try:
        msgspec.json.decode((fenced.group(1) if fenced else reply).encode("utf-8", "surrogatepass"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
