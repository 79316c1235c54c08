"""The independent reading of recorded replies: tokens and reasons to end, by plain look-ups in JSON.

Main entry: `reading`. It shares no code with the product, so that it can judge it; each dialect of replies has a few
lines of its own. Tokens are the provider's: all input (cached too), all output (thoughts too).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Reading", "Tokens", "reading"]


class Tokens(NamedTuple):
    """Counts; `cached` and `written` (to a cache) are part of the input, `thoughts` of the output."""

    input: int
    output: int
    cached: int = 0
    written: int = 0
    thoughts: int = 0


class Reading(NamedTuple):
    """`reasons`: one a choice, in neutral words ("end", "length", "tools", "filter", "refusal", "sequence", "pause",
    "context"), None where the provider told none. `failed`: the body is an error, or nothing of this dialect, or
    the stream ends in an error. `unfinished`: a reply that is made in the background, of which there is nothing yet."""

    tokens: Tokens | None
    reasons: list[str | None]
    failed: bool = False
    unfinished: bool = False


def reading(dialect: str, body: bytes, *, stream: bool) -> Reading:
    """What a reply says. `dialect`: "chat", "responses", "messages", "gemini", "converse", "cohere" or "other"."""
    parts = list(_events(body)) if stream else [json.loads(body)]
    parts = [one for part in parts for one in (part if isinstance(part, list) else [part]) if isinstance(one, dict)]
    found = _READERS[dialect](parts)
    told = found.reasons if dialect in ("chat", "gemini") else any(found.reasons)
    empty = dialect != "other" and found.tokens is None and not told
    failed = empty or any(one.get("error") or one.get("type") == "error" for one in parts)
    waiting = any(one.get("status") in ("queued", "in_progress") for one in parts)
    return found._replace(failed=failed, unfinished=waiting and not stream)


def _events(body: bytes) -> Iterator[Any]:
    """The JSON of each event; lines of one event belong together."""
    data: list[str] = []
    for line in [*body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and data:
            text, data = "\n".join(data), []
            try:
                yield json.loads(text)
            except ValueError:
                continue


def _n(holder: Any, *names: str) -> int:
    for name in names:
        value = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return 0


def _openai_tokens(usage: Mapping[str, Any]) -> Tokens:
    read = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    wrote = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    cached = _n(read, "cached_tokens") or _n(usage, "prompt_cache_hit_tokens", "cached_tokens")
    return Tokens(
        _n(usage, "prompt_tokens", "input_tokens"),
        _n(usage, "completion_tokens", "output_tokens"),
        cached,
        _n(read, "cache_write_tokens", "cache_creation_tokens"),
        _n(wrote, "reasoning_tokens"),
    )


_CHAT = {
    "stop": "end", "length": "length", "tool_calls": "tools", "function_call": "tools", "content_filter": "filter",
    "refusal": "refusal", "model_length": "context", "max_tokens": "length", "tool_use": "tools",
}  # fmt: skip


def _chat(parts: list[dict[str, Any]]) -> Reading:
    tokens: Tokens | None = None
    reasons: dict[int, str | None] = {}
    calls: set[int] = set()
    refused: set[int] = set()
    for part in parts:
        usage = part.get("usage") or (part.get("x_groq") or {}).get("usage")
        if usage:
            tokens = _openai_tokens(usage)
        for choice in part.get("choices") or []:
            number = choice.get("index") or 0
            said = choice.get("message") or choice.get("delta") or {}
            if said.get("tool_calls") or (said.get("function_call") or {}).get("name"):
                calls.add(number)
            if said.get("refusal"):
                refused.add(number)
            reason = choice.get("finish_reason")
            if reason or number not in reasons:
                reasons[number] = _CHAT.get(reason, "end") if reason else None
    for number, reason in reasons.items():
        if reason == "end":
            reasons[number] = "tools" if number in calls else "refusal" if number in refused else "end"
    return Reading(tokens, [reasons[number] for number in sorted(reasons)])


def _responses(parts: list[dict[str, Any]]) -> Reading:
    last = next((part["response"] for part in reversed(parts) if isinstance(part.get("response"), dict)), parts[-1])
    items = [part["item"] for part in parts if part.get("type") == "response.output_item.done"] or last.get("output")
    kinds = {item.get("type") for item in items or ()}
    words = {one.get("type") for item in items or () if item.get("type") == "message" for one in item["content"]}
    why = (last.get("incomplete_details") or {}).get("reason")
    reason = {"max_output_tokens": "length", "content_filter": "filter"}.get(why or "", "length") if why else "end"
    searches = any(item.get("type") == "tool_search_call" and item.get("execution") == "client" for item in items or ())
    if reason == "end" and (searches or kinds & {"function_call", "custom_tool_call"}):
        reason = "tools"
    elif reason == "end" and "refusal" in words:
        reason = "refusal"
    return Reading(_openai_tokens(last["usage"]) if last.get("usage") else None, [reason])


_MESSAGES = {
    "end_turn": "end", "max_tokens": "length", "stop_sequence": "sequence", "tool_use": "tools", "pause_turn": "pause",
    "refusal": "refusal", "model_context_window_exceeded": "context",
}  # fmt: skip


def _messages(parts: list[dict[str, Any]]) -> Reading:
    usage: dict[str, Any] = {}
    reason = None
    for part in parts:
        inner = part.get("message") if part.get("type") == "message_start" else part
        for holder in (part, inner):
            told = (holder or {}).get("usage")
            usage |= {name: value for name, value in (told or {}).items() if value is not None}
        reason = (part.get("delta") or {}).get("stop_reason") or part.get("stop_reason") or reason
    cached, written = _n(usage, "cache_read_input_tokens"), _n(usage, "cache_creation_input_tokens")
    thoughts = _n(usage.get("output_tokens_details"), "thinking_tokens")
    tokens = Tokens(_n(usage, "input_tokens") + cached + written, _n(usage, "output_tokens"), cached, written, thoughts)
    return Reading(tokens if usage else None, [_MESSAGES.get(reason, "end") if reason else None])


_GEMINI = {"STOP": "end", "MAX_TOKENS": "length", "SAFETY": "filter", "RECITATION": "filter", "BLOCKLIST": "filter",
           "PROHIBITED_CONTENT": "filter", "SPII": "filter", "LANGUAGE": "filter"}  # fmt: skip
_GEMINI_NUMBERS = ("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")


def _gemini(parts: list[dict[str, Any]]) -> Reading:
    tokens = None
    reasons: dict[int, str | None] = {}
    calls: set[int] = set()
    for part in parts:
        usage = part.get("usageMetadata")
        if usage and any(isinstance(count, int) for count in usage.values()):
            thoughts = _n(usage, "thoughtsTokenCount")
            tokens = Tokens(
                _n(usage, "promptTokenCount") + _n(usage, "toolUsePromptTokenCount"),
                _n(usage, "candidatesTokenCount") + thoughts,
                _n(usage, "cachedContentTokenCount"),
                0,
                thoughts,
            )
        if (part.get("promptFeedback") or {}).get("blockReason"):
            reasons[0] = "filter"
        for at, candidate in enumerate(part.get("candidates") or []):
            number = candidate.get("index", at)
            if any("functionCall" in one for one in (candidate.get("content") or {}).get("parts") or ()):
                calls.add(number)
            reason = candidate.get("finishReason")
            if reason or number not in reasons:
                reason = _GEMINI_NUMBERS[reason] if isinstance(reason, int) else reason
                reasons[number] = _GEMINI.get(reason, "filter" if "IMAGE_" in reason else "end") if reason else None
    told = {number: "tools" if reason == "end" and number in calls else reason for number, reason in reasons.items()}
    return Reading(tokens, [told[number] for number in sorted(told)])


_CONVERSE = {**_MESSAGES, "guardrail_intervened": "filter", "content_filtered": "filter"}


def _converse(parts: list[dict[str, Any]]) -> Reading:
    usage, reason = None, None
    for part in parts:
        usage = part.get("usage") or usage
        reason = part.get("stopReason") or reason
    if usage is None:
        return Reading(None, [_CONVERSE.get(reason, "end") if reason else None])
    cached, written = _n(usage, "cacheReadInputTokens"), _n(usage, "cacheWriteInputTokens")
    tokens = Tokens(_n(usage, "inputTokens") + cached + written, _n(usage, "outputTokens"), cached, written)
    return Reading(tokens, [_CONVERSE.get(reason, "end") if reason else None])


_COHERE = {"COMPLETE": "end", "MAX_TOKENS": "length", "TOOL_CALL": "tools", "STOP_SEQUENCE": "sequence"}


def _cohere(parts: list[dict[str, Any]]) -> Reading:
    usage, reason = None, None
    for part in parts:
        delta = part.get("delta") or {}
        usage = part.get("usage") or delta.get("usage") or usage
        reason = part.get("finish_reason") or delta.get("finish_reason") or reason
    tokens = None
    if usage:
        told = usage.get("billed_units") or usage.get("tokens") or {}  # what is paid for, without Cohere's own prompt
        tokens = Tokens(_n(told, "input_tokens"), _n(told, "output_tokens"))
    return Reading(tokens, [_COHERE.get(reason, "end") if reason else None])


def _other(parts: list[dict[str, Any]]) -> Reading:  # noqa: ARG001 - nothing that is compared
    return Reading(None, [])


_READERS = {
    "chat": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini, "converse": _converse,
    "cohere": _cohere, "other": _other,
}  # fmt: skip
