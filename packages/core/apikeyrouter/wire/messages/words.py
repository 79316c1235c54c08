"""Small things that both directions need: names of stops and errors, usage, citations, inputs of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_anthropic
from apikeyrouter.wire.facts import Stop

__all__ = [
    "ERROR_TYPES",
    "STOPS",
    "STOP_NAMES",
    "annotations_of",
    "citations_of",
    "status_of_type",
    "tool_input",
    "usage_members",
    "usage_read",
]

STOPS: Mapping[str, Stop] = {
    "end_turn": Stop.End,
    "max_tokens": Stop.Length,
    "stop_sequence": Stop.Sequence,
    "tool_use": Stop.Tools,
    "pause_turn": Stop.Pause,
    "refusal": Stop.Refusal,
    "model_context_window_exceeded": Stop.Context,
}
STOP_NAMES: Mapping[Stop, str] = {stop: name for name, stop in STOPS.items()} | {Stop.Filter: "refusal"}

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""https://platform.claude.com/docs/en/api/errors (read 2026-11-21)."""
_STATUS = {kind: status for status, kind in ERROR_TYPES.items()}
_TIERS = {"priority": "priority", "batch": "batch"}


def status_of_type(kind: str) -> int:
    """The HTTP status that an error of this type would have had; 500 for unknown ones."""
    return _STATUS.get(kind, 500)


def usage_read(wire: Mapping[str, Any] | None) -> Usage | None:
    """The usage in Anthropic's object; None when it holds none."""
    return usage_of_anthropic({"usage": wire}) if wire else None


def usage_members(usage: Usage | None) -> dict[str, Any]:
    """The usage as Anthropic tells it: input without what was read from or written to the cache."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    long = usage.cache_write_1h_tokens
    members: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.cache_write_tokens:
        members["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - long,
            "ephemeral_1h_input_tokens": long,
        }
    if usage.reasoning_tokens:
        members["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    searches = usage.counts.get("web_searches") if usage.counts else None
    if searches:
        members["server_tool_use"] = {"web_search_requests": int(searches), "web_fetch_requests": 0}
    members["service_tier"] = _TIERS.get(usage.service_tier, "standard")
    return members


def tool_input(arguments: str) -> msgspec.Raw | None:
    """The arguments of a call as they were written; None when they are no JSON object."""
    text = arguments.strip()
    if not text:
        return msgspec.Raw(b"{}")
    if text[0] != "{":
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    return msgspec.Raw(text.encode())


def annotations_of(citations: object) -> list[dict[str, Any]] | None:
    """Citations of pages in OpenAI's shape; those of documents as Anthropic writes them, which other formats skip."""
    if not isinstance(citations, list):
        return None
    out = []
    for one in citations:
        if not isinstance(one, dict):
            continue
        url = one.get("url")
        if isinstance(url, str):
            told = {"url": url, "title": one.get("title") or "", "start_index": 0, "end_index": 0}
            out.append({"type": "url_citation", "url_citation": told})
        else:
            out.append(one)
    return out or None


def citations_of(annotations: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """The same back; what is neither is left out."""
    out: list[dict[str, Any]] = []
    for one in annotations or ():
        if one.get("type") == "url_citation":
            inner = one.get("url_citation")
            told = inner if isinstance(inner, dict) else one
            out.append(
                {
                    "type": "web_search_result_location",
                    "url": told.get("url") or "",
                    "title": told.get("title"),
                    "cited_text": told.get("content") or "",
                    "encrypted_index": "",
                }
            )
        elif str(one.get("type", "")).endswith("_location"):
            out.append(one)
    return out
