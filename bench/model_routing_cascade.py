"""The cascade on GSM8K: the weak model's reply is kept where a verifier believes it, else the strong model is asked.

Main entry: `cascade(rows)`. Both models' replies are in the data, so every cascade can be played back exactly.
Laws: the verifier never judges a reply to a prompt that it was fitted on (ten folds, by checksum of the prompt); the
weak model's reply is paid for whether it is kept or not; prices are list prices, tokens are characters / 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any
from zlib import crc32

from apikeyrouter.muxer.reply_signs import SIGNS, read_reply
from apikeyrouter.muxer.sums import numbers_in, steps_of
from apikeyrouter.muxer.trained.calibration import fit_curve
from apikeyrouter.muxer.trained.fitting import add, fit, gather, subtract
from apikeyrouter.muxer.trained.metrics import apgr, calls_for, ranked
from apikeyrouter.muxer.trained.model import file_bytes
from apikeyrouter.muxer.verifiers import ReplyModel

__all__ = [
    "Replies",
    "Step",
    "cascade_curve",
    "cheapest_at",
    "figures",
    "held_out",
    "read_replies",
    "regraded",
    "reply_model_bytes",
    "signals",
]

FOLDS = 10
PENALTY = 0.2
"""Less than for prompts: within one kind of question, what was learnt holds."""

WEAK_USD_PER_MTOK = (0.9, 0.9)
STRONG_USD_PER_MTOK = (10.0, 30.0)
"""Input and output: Mixtral-8x7B-Instruct at Together AI and gpt-4-1106-preview at OpenAI, list prices as genai-prices
has them (github.com/pydantic/genai-prices, prices/providers, read 2026-11-21)."""


@dataclass(slots=True)
class Replies:
    """GSM8K, measured: signs of weak replies, whether each reply was right, what it cost in dollars, and the folds."""

    prompts: list[str]
    weak_replies: list[str]
    weak_signs: list[list[float]]
    weak: list[float]
    strong: list[float]
    weak_usd: list[float]
    strong_usd: list[float]
    folds: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """A cascade at one strictness: share of prompts that went on to the strong model, accuracy, and cost as a share of
    always asking the strong model."""

    share: float
    accuracy: float
    cost: float


def read_replies(rows: Sequence[Mapping[str, Any]]) -> Replies:
    """What the data has of GSM8K."""
    rows = [row for row in rows if row["benchmark"] == "gsm8k"]
    folds: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        folds.setdefault(f"{crc32(row['prompt'].encode()) % FOLDS}", []).append(place)
    return Replies(
        prompts=[row["prompt"] for row in rows],
        weak_replies=[row["weak_response"] for row in rows],
        weak_signs=[read_reply(row["prompt"], row["weak_response"]) for row in rows],
        weak=[float(row["weak_correct"]) for row in rows],
        strong=[float(row["strong_correct"]) for row in rows],
        weak_usd=[_usd(row["prompt"], row["weak_response"], WEAK_USD_PER_MTOK) for row in rows],
        strong_usd=[_usd(row["prompt"], row["strong_response"], STRONG_USD_PER_MTOK) for row in rows],
        folds=dict(sorted(folds.items())),
    )


def _usd(prompt: str, reply: str, prices: tuple[float, float]) -> float:
    return (len(prompt) * prices[0] + len(reply) * prices[1]) / 4 / 1e6


def regraded(rows: Sequence[Mapping[str, Any]]) -> tuple[Replies, int]:
    """The same with the strong model's results put right where the data itself proves them wrong, and how many those
    are: its reply ends with the very number of a weak reply that was graded right, but in a sentence that has another
    number behind it, and the grader took the last one."""
    made, changed = [], 0
    for row in rows:
        is_missed = row["benchmark"] == "gsm8k" and row["weak_correct"] and not row["strong_correct"]
        if is_missed and numbers_in(row["weak_response"])[-1] in numbers_in(_last_line(row["strong_response"])):
            row, changed = {**row, "strong_correct": True}, changed + 1  # noqa: PLW2901
        made.append(row)
    return read_replies(made), changed


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def held_out(data: Replies) -> list[float]:
    """What the verifier says of each weak reply when it has not seen that prompt."""
    return _held_out(data, data.weak_signs, data.weak)


def _held_out(data: Replies, signs: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    sums = gather(signs, (right,), data.folds)
    whole = add(sums.values())
    said = [0.0] * len(right)
    for name, places in data.folds.items():
        (line,) = fit(subtract(whole, sums[name]), PENALTY)
        for place in places:
            said[place] = line.at(signs[place])
    return said


def reply_model_bytes(data: Replies) -> bytes:
    """The file of the shipped verifier: fitted on every reply, calibrated on held-out judgements."""
    return file_bytes(_reply_model(data, data.weak_signs, data.weak))


def _reply_model(data: Replies, signs: Sequence[Sequence[float]], right: Sequence[float]) -> ReplyModel:
    (line,) = fit(add(gather(signs, (right,), data.folds).values()), PENALTY)
    columns = list(zip(*signs, strict=True))
    return ReplyModel(
        signs=list(SIGNS),
        lowest=[min(column) for column in columns],
        highest=[max(column) for column in columns],
        weights=line.weights,
        bias=line.bias,
        curve=fit_curve(_held_out(data, signs, right), right),
    )


def signals(data: Replies, foreseen: Sequence[float]) -> dict[str, list[float]]:
    """Reasons to ask the strong model, each as a score (higher: ask), worst first. `foreseen`: by the prompt."""
    weak = held_out(data)
    return {
        "prompt alone": list(foreseen),
        "length of the weak reply": [float(len(reply)) for reply in data.weak_replies],
        "a shown sum is wrong": [float(any(not s.right for s in steps_of(reply))) for reply in data.weak_replies],
        "arithmetic verifier": [-score for score in weak],
    }


def cascade_curve(data: Replies, scores: Sequence[float], *, points: int = 40) -> list[Step]:
    """The cascade from "keep all" to "ask the strong model always"."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    always = fsum(data.strong_usd)
    found = []
    for number in range(points + 1):
        cut = round(number / points * len(order))
        asked, kept = order[:cut], order[cut:]
        right = fsum(data.weak[p] for p in kept) + fsum(data.strong[p] for p in asked)
        cost = fsum(data.weak_usd) + fsum(data.strong_usd[p] for p in asked)
        found.append(Step(cut / len(order), right / len(order), cost / always))
    return found


def cheapest_at(curve: Sequence[Step], accuracy: float) -> Step | None:
    """The cheapest step that reaches the accuracy, None where none does."""
    return min((step for step in curve if step.accuracy >= accuracy - 1e-9), key=lambda s: s.cost, default=None)


def figures(data: Replies, scores: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """APGR, and the calls for 50 % and 80 % of the gap."""
    outcomes = ranked(scores, data.weak, data.strong)
    return apgr(outcomes), calls_for(outcomes, 0.5), calls_for(outcomes, 0.8)
