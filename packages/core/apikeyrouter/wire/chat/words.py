"""Why replies end, and what they used, in the words of chat completions.

`read_stop` takes the words of all servers that speak the format. Laws: a reply with tool calls that ended well ended
for its tools, though OpenAI says "stop" when the tool was forced and others always; a refusal that ended well ended
in a refusal. A word that nobody knows is an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.facts import Stop
from apikeyrouter.wire.logprobs import tokens_told

__all__ = ["read_logprobs", "read_stop", "write_stop", "write_usage"]

_READ = {
    "stop": Stop.End,
    "length": Stop.Length,
    "tool_calls": Stop.Tools,
    "function_call": Stop.Tools,
    "content_filter": Stop.Filter,
    "sensitive": Stop.Filter,
    "safety": Stop.Filter,
    "prohibited_content": Stop.Filter,
    "recitation": Stop.Filter,
    "blocklist": Stop.Filter,
    "refusal": Stop.Refusal,
    "max_tokens": Stop.Length,
    "model_length": Stop.Context,
    "model_context_window_exceeded": Stop.Context,
    "stop_sequence": Stop.Sequence,
    "tool_use": Stop.Tools,
    "tool_call": Stop.Tools,
    "pause_turn": Stop.Pause,
    "insufficient_system_resource": Stop.Pause,
    "network_error": Stop.Pause,
    "abort": Stop.Pause,
}
"""OpenAI's five, then Z.ai's, Google's, Anthropic's, Mistral's, DeepSeek's and vLLM's."""

_WRITTEN = {
    Stop.End: "stop",
    Stop.Length: "length",
    Stop.Sequence: "stop",
    Stop.Tools: "tool_calls",
    Stop.Filter: "content_filter",
    Stop.Refusal: "content_filter",
    Stop.Pause: "stop",
    Stop.Context: "length",
}


def read_stop(said: object, *, calls: bool, refused: bool) -> Stop | None:
    """The reason for a `finish_reason`; None when none is told."""
    if not isinstance(said, str) or not said:
        return None
    stop = _READ.get(said.lower(), Stop.End)
    if stop is Stop.End:
        return Stop.Tools if calls else Stop.Refusal if refused else stop
    return stop


def read_logprobs(told: object) -> dict[str, Any] | None:
    """The `logprobs` of a choice; None where it has none, or none that can be read."""
    if not isinstance(told, dict):
        return None
    found = {name: tokens_told(told[name]) or None for name in ("content", "refusal") if name in told}
    return found if any(found.values()) else None


def write_stop(stop: Stop | None, *, calls: bool, refused: bool) -> str:
    """The `finish_reason`. A refusal in words of its own ends with "stop", as at OpenAI."""
    if stop is None:
        return "tool_calls" if calls else "stop"
    if stop is Stop.Refusal and refused:
        return "stop"
    return _WRITTEN[stop]


def write_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object, with all classes of tokens that the format and its dialects know."""
    read: dict[str, int] = {"cached_tokens": usage.cached_input_tokens, "audio_tokens": usage.audio_input_tokens}
    if usage.cache_write_tokens:
        read["cache_write_tokens"] = usage.cache_write_tokens
    if usage.image_input_tokens:
        read["image_tokens"] = usage.image_input_tokens
    written: dict[str, int] = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.audio_output_tokens}
    if usage.image_output_tokens:
        written["image_tokens"] = usage.image_output_tokens
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": read,
        "completion_tokens_details": written,
    }
    searches = _searches(usage.counts)
    if searches:
        told["num_search_queries"] = searches
    if usage.billed_nano_usd is not None:
        told["cost"] = float(Decimal(usage.billed_nano_usd).scaleb(-9))
    return told


def _searches(counts: Mapping[str, int | Decimal] | None) -> int:
    return int(counts.get("web_searches", 0)) if counts else 0
