"""How much thinking a word means: budgets in tokens and efforts, one scale for every format.

Entries: `effort_of` (a budget becomes a word) and `BUDGETS` (a word becomes a budget). Google is the one provider that
equates the two: minimal and low are 1,024 tokens, medium 8,192 and high 24,576
(https://ai.google.dev/gemini-api/docs/openai, read 2026-11-21).
Laws: a budget is a cap, so it becomes the least effort whose budget covers it; a word that becomes a budget and comes
back is the same word, but for those that Google does not tell apart (minimal is low; xhigh and max are high).
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUDGETS", "effort_of"]

BUDGETS: Final = {
    "none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576,
}  # fmt: skip
"""Tokens of thought that an effort stands for."""


def effort_of(budget_tokens: int) -> str | None:
    """The effort that a budget of thoughts stands for; None when the model shall decide (less than 0)."""
    if budget_tokens < 0:
        return None
    if budget_tokens == 0:
        return "none"
    return "low" if budget_tokens <= BUDGETS["low"] else "medium" if budget_tokens <= BUDGETS["medium"] else "high"
