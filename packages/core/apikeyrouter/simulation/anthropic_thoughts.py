"""Thinking as the simulated Claude does it: when it may be asked for, what it says, and the proof of it.

Main entries: `check_thinking`, `check_thought`, `thought_of`. A signature stands for the very text of a thought, so a
request that brings an altered thought is refused, as by the real one.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.simulation.anthropic_models import ClaudeFacts
from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.text import Digest, compose, digest_of

__all__ = ["check_thinking", "check_thought", "signature_of", "thinks", "thought_of"]

_LEAST_BUDGET_TOKENS = 1024


def thinks(members: dict[str, Any]) -> bool:
    """Whether a reply begins with thoughts."""
    thinking = members.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def check_thinking(members: dict[str, Any], facts: ClaudeFacts, model: str, max_tokens: int) -> None:
    """Refuses ways to think, and to sample, that the model does not have."""
    sampling = [name for name in ("temperature", "top_p", "top_k") if members.get(name) is not None]
    if sampling and not facts.samples and any(members[name] != 1 for name in sampling):
        raise invalid(f"`{sampling[0]}` is deprecated for this model.")
    if facts.one_sampler and members.get("temperature") is not None and members.get("top_p") is not None:
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    thinking = members.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive", "disabled"):
        raise invalid("thinking: Input tag does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'")
    if kind == "adaptive" and not facts.adaptive:
        raise invalid(f"adaptive thinking is not supported on this model: {model}")
    if kind == "enabled":
        _check_budget(members, facts, max_tokens)
    if kind != "disabled" and members.get("temperature") not in (None, 1):
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")


def _check_budget(members: dict[str, Any], facts: ClaudeFacts, max_tokens: int) -> None:
    if not facts.budgets:
        raise invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    budget = members["thinking"].get("budget_tokens")
    if not isinstance(budget, int) or budget < _LEAST_BUDGET_TOKENS:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    choice = members.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    last = next((m for m in reversed(members["messages"]) if m["role"] == "assistant"), None)
    blocks = last["content"] if last is not None and isinstance(last["content"], list) else []
    called = any(block.get("type") == "tool_use" for block in blocks)
    if called and blocks[0].get("type") not in ("thinking", "redacted_thinking"):
        raise invalid(
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block."
        )


def check_thought(block: dict[str, Any], where: str, seed: int) -> None:
    """Refuses a thought whose signature is not its own."""
    if block["type"] == "redacted_thinking":
        if not isinstance(block.get("data"), str):
            raise invalid(f"{where}.redacted_thinking.data: Field required")
        return
    text, signature = block.get("thinking"), block.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str):
        raise invalid(f"{where}.thinking.signature: Field required")
    if signature != signature_of(text, seed):
        raise invalid(f"{where}: Invalid `signature` in `thinking` block")


def signature_of(thought: str, seed: int) -> str:
    """The proof of a thought."""
    return digest_of(seed, "signature", thought).hex()


def thought_of(digest: Digest, subject: str) -> str:
    """What is thought before a reply."""
    return compose(digest_of(0, digest), subject, 8, 20).replace("Simulated answer to", "Thinking about")
