"""How much to think, in Anthropic's words: a budget for models up to 4.5, an effort for those from 4.6 on.

Main entry: `write_thinking`.
Effort -> budget: a share of `max_tokens` (minimal 0.1, low 0.2, medium 0.5, high 0.8, xhigh and max 0.95), at least
1,024 and at most 32,000 tokens: the shares of https://openrouter.ai/docs/use-cases/reasoning-tokens and the bound
above which Anthropic advises batches (platform.claude.com/docs/en/build-with-claude/extended-thinking).
Budget -> effort: `effort.py`, as everywhere.
An effort that a model lacks becomes the next lower one; "minimal" is "low" (all read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.effort import effort_of
from apikeyrouter.wire.facts import Ask, ReasoningWish
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.models import Claude

__all__ = ["write_thinking"]

_LEAST_BUDGET_TOKENS = 1_024
_MOST_BUDGET_TOKENS = 32_000
_SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
_LADDER = ("low", "medium", "high", "xhigh", "max")


def write_thinking(ask: Ask, model: Claude, max_tokens: int, out: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Sets `thinking`, and returns `output_config` with the effort, or empty."""
    wish = ask.reasoning
    if wish is None:
        return {}
    if wish.effort == "none" or wish.budget_tokens == 0:
        _unthinking(model, out, losses)
        return {}
    if model.adaptive:
        return _adaptive(wish, model, out)
    return _budgeted(ask, wish, model, max_tokens, out, losses)


def _unthinking(model: Claude, out: dict[str, Any], losses: Losses) -> None:
    if not model.thinks_anyway:
        return
    if model.may_not_think:
        out["thinking"] = {"type": "disabled"}
    else:
        losses.parameter("reasoning_effort", "this model always thinks")


def _adaptive(wish: ReasoningWish, model: Claude, out: dict[str, Any]) -> dict[str, Any]:
    budget = wish.budget_tokens
    effort = wish.effort
    if effort is None and budget is not None:
        effort = effort_of(budget)
    thinking: dict[str, Any] = {"type": "adaptive"}
    if wish.tell is not None:
        thinking["display"] = "summarized" if wish.tell else "omitted"
    out["thinking"] = thinking
    return {"effort": _known(effort, model)} if effort is not None else {}


def _budgeted(
    ask: Ask, wish: ReasoningWish, model: Claude, max_tokens: int, out: dict[str, Any], losses: Losses
) -> dict[str, Any]:
    config = {"effort": _known(wish.effort, model)} if wish.effort and model.efforts else {}
    budget = wish.budget_tokens
    if budget is None or budget < 0:
        share = int(max_tokens * _SHARES.get(wish.effort or "medium", 0.5))
        budget = max(_LEAST_BUDGET_TOKENS, min(share, _MOST_BUDGET_TOKENS))
    name = "reasoning_effort"
    forced = ask.tool_choice is not None and ask.tools and ask.tool_choice.mode in ("required", "named")
    if model.version < (3, 7):
        losses.parameter(name, f"{ask.model} cannot think")
    elif forced:
        losses.parameter(name, f"{ask.model} cannot think where the use of a tool is forced")
    elif max_tokens <= _LEAST_BUDGET_TOKENS:
        losses.parameter(name, f"max_tokens of {max_tokens} leaves no room: thinking takes at least 1024 tokens")
    elif _mid_call(out["messages"]):
        losses.harmless(name)
    else:
        out["thinking"] = {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET_TOKENS, min(budget, max_tokens - 1))}
    return config


def _mid_call(messages: list[dict[str, Any]]) -> bool:
    """Whether the last turn of the assistant called tools and its thoughts are not here: models that think by budget
    then refuse to think on, and the reply is wanted more than the thoughts."""
    last = next((one["content"] for one in reversed(messages) if one["role"] == "assistant"), "")
    if isinstance(last, str) or not any(block["type"] == "tool_use" for block in last):
        return False
    return last[0]["type"] not in ("thinking", "redacted_thinking")


def _known(effort: str | None, model: Claude) -> str:
    """The level itself if the model knows it, else the next lower one that it knows."""
    wanted = _LADDER.index(effort) if effort in _LADDER else 0
    return next((one for one in reversed(_LADDER[: wanted + 1]) if one in model.efforts), "low")
