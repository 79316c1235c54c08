"""Log probabilities of tokens as clients of OpenAI's formats get them.

Main entry: `tokens_told`. Law: nothing deeper than the format has it is passed on, whatever a provider wrote; members
that are absent stay so.
"""

from __future__ import annotations

from typing import Any

__all__ = ["tokens_told"]


def tokens_told(found: object) -> list[dict[str, Any]]:
    """The entries of a list, each with its plain members, its `bytes` and its `top_logprobs`; others are left out."""
    if not isinstance(found, list):
        return []
    return [_entry(one, tops=True) for one in found if isinstance(one, dict)]


def _entry(told: dict[str, Any], *, tops: bool) -> dict[str, Any]:
    entry = {name: value for name, value in told.items() if not isinstance(value, list | dict)}
    spelt = told.get("bytes")
    if isinstance(spelt, list):
        entry["bytes"] = [one for one in spelt if isinstance(one, int)]
    others = told.get("top_logprobs")
    if tops and isinstance(others, list):
        entry["top_logprobs"] = [_entry(one, tops=False) for one in others if isinstance(one, dict)]
    return entry
