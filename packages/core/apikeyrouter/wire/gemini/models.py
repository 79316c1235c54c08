"""What Gemini models can do, by their names, as far as requests must differ: how thinking is asked for, what fits.

Sources: https://ai.google.dev/gemini-api/docs/thinking (budgets, levels),
https://ai.google.dev/gemini-api/docs/openai (which effort is which level or budget),
https://ai.google.dev/gemini-api/docs/thought-signatures.
Law: a model of an unknown name counts as one of the newest generation.
"""

from __future__ import annotations

import re
from typing import Any

from apikeyrouter.wire.effort import BUDGETS
from apikeyrouter.wire.facts import ReasoningWish

__all__ = ["answers_with_media", "generation", "thinking_config", "unsigned_call_mark"]

_GENERATION = re.compile(r"(?:models/)?gemini-(\d+)(?:\.(\d+))?")

_LEVELS = {
    "none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high",
    "max": "high",
}  # fmt: skip
_LEVELS_PRO = {**_LEVELS, "none": "low", "minimal": "low"}
"""Pro models always think, and know no "minimal"."""

# Least (of more than none) and most tokens of a budget; whether thinking can be off.
_FLASH, _LITE, _PRO = (1, 24576, True), (512, 24576, True), (128, 32768, False)

_MARK = "skip_thought_signature_validator"


def generation(model: str) -> tuple[int, int]:
    """(2, 5) for gemini-2.5-flash; (99, 0) where the name tells none."""
    found = _GENERATION.match(model)
    return (int(found.group(1)), int(found.group(2) or 0)) if found else (99, 0)


def thinking_config(wish: ReasoningWish, model: str) -> dict[str, Any] | None:
    """`thinkingConfig` for a model; None when it cannot be told how to think. A budget is a cap, so it is only ever
    lowered to the model's own most, except to the least that a model takes."""
    told = generation(model)
    if told < (2, 5):
        return None
    out: dict[str, Any] = {}
    budget = wish.budget_tokens
    if told == (2, 5):
        if budget is None and wish.effort is not None:
            budget = BUDGETS.get(wish.effort)
        if budget is not None:
            out["thinkingBudget"] = _bounded(budget, model)
    elif wish.effort is not None:
        out["thinkingLevel"] = (_LEVELS_PRO if "pro" in model else _LEVELS).get(wish.effort, "high")
    elif budget == 0:
        out["thinkingLevel"] = (_LEVELS_PRO if "pro" in model else _LEVELS)["none"]
    elif budget is not None and budget > 0:
        out["thinkingBudget"] = min(budget, 32768)
    if wish.tell is not None:
        out["includeThoughts"] = wish.tell
    return out


def _bounded(budget: int, model: str) -> int:
    least, most, can_be_off = _PRO if "pro" in model else _LITE if "lite" in model else _FLASH
    if budget < 0 or (budget == 0 and can_be_off):
        return budget
    return min(max(budget, least), most)


def answers_with_media(model: str) -> bool:
    """Whether results of functions may hold media themselves (from Gemini 3 on)."""
    return generation(model) >= (3, 0)


def unsigned_call_mark(model: str) -> str | None:
    """What stands for the signature of a call that has none: models from 3 on refuse calls of the running turn without
    one, and Google names this word for history that comes from elsewhere."""
    return _MARK if generation(model) >= (3, 0) else None
