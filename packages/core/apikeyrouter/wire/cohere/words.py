"""Small things that replies and streams need: names of stops, usage, citations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_cohere, usage_of_cohere_tokens
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import Stop

__all__ = ["BROKEN", "ORIGIN", "STOPS", "annotations_of", "usage_read"]

ORIGIN = Wire.Cohere.value

STOPS: Mapping[str, Stop] = {
    "COMPLETE": Stop.End,
    "STOP_SEQUENCE": Stop.Sequence,
    "MAX_TOKENS": Stop.Length,
    "TOOL_CALL": Stop.Tools,
    "ERROR_TOXIC": Stop.Filter,
    "ERROR_LIMIT": Stop.Context,
}
"""Reasons of version 2, and the two of version 1 that say more."""

BROKEN: Mapping[str, int] = {"ERROR": 500, "TIMEOUT": 504}
"""Reasons that are failures, with the status that each would have had."""


def usage_read(wire: Mapping[str, Any] | None) -> Usage | None:
    """The usage in Cohere's object: what is billed, else the tokens that the model saw; None when it holds none. Cached
    tokens are told of the latter only, so that they are no part of what is billed."""
    if not wire:
        return None
    return usage_of_cohere({"usage": wire}) or usage_of_cohere_tokens({"usage": wire})


def annotations_of(citations: object) -> list[dict[str, Any]]:
    """Citations of documents with an address, in OpenAI's shape. Those of a tool's result or of a text without one have
    no counterpart."""
    found: list[dict[str, Any]] = []
    for one in citations if isinstance(citations, list) else [citations]:
        if not isinstance(one, dict):
            continue
        sources = one.get("sources")
        for source in sources if isinstance(sources, list) else ():
            document = source.get("document") if isinstance(source, dict) else None
            told = document.get("data") if isinstance(document, dict) and "data" in document else document
            url = told.get("url") if isinstance(told, dict) else None
            if isinstance(url, str) and isinstance(told, dict):
                title = told.get("title")
                start, end = one.get("start"), one.get("end")
                cited = {
                    "url": url,
                    "title": title if isinstance(title, str) else "",
                    "start_index": start if isinstance(start, int) else 0,
                    "end_index": end if isinstance(end, int) else 0,
                }
                found.append({"type": "url_citation", "url_citation": cited})
    return found
