"""Small things that replies and streams need: names of stops and errors, usage, thoughts, ids."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_bedrock
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import Reasoning, Stop

__all__ = ["CLAUDES", "ORIGIN", "STATUSES", "STOPS", "annotation_of", "cipher_of", "thought", "usage_read"]

ORIGIN = Wire.Converse.value
CLAUDES = Wire.Messages.value
"""Origin of thoughts with a proof: only Claude gives them, and they hold at Anthropic, Bedrock and Google alike
(https://platform.claude.com/docs/en/build-with-claude/extended-thinking, "signature")."""

STOPS: Mapping[str, Stop] = {
    "end_turn": Stop.End,
    "max_tokens": Stop.Length,
    "stop_sequence": Stop.Sequence,
    "tool_use": Stop.Tools,
    "guardrail_intervened": Stop.Filter,
    "content_filtered": Stop.Filter,
    "model_context_window_exceeded": Stop.Context,
    "malformed_model_output": Stop.Filter,
    "malformed_tool_use": Stop.Filter,
    "refusal": Stop.Refusal,
    "pause_turn": Stop.Pause,
}
"""What the model wrote and Bedrock could not read is withheld, as Gemini's malformed calls are."""

STATUSES: Mapping[str, int] = {
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}
"""By the name of an exception, in lower case. Source: the service model's errors (see the package)."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")


def usage_read(wire: Mapping[str, Any] | None) -> Usage | None:
    """The usage in Converse's object; None when it holds none."""
    return usage_of_bedrock({"usage": wire}) if wire else None


def thought(text: str, signature: str | None) -> Reasoning:
    """Thoughts, with their proof if there is one."""
    return Reasoning(text, signature=signature or None, origin=CLAUDES if signature else ORIGIN)


def cipher_of(redacted: str) -> tuple[str, str]:
    """Redacted thoughts as their maker told them, and their origin: Bedrock puts Claude's, which are base64 already,
    into base64 once more."""
    try:
        inner = b64decode(redacted, validate=True)
    except (binascii.Error, ValueError):
        return redacted, ORIGIN
    return (inner.decode(), CLAUDES) if _BASE64.fullmatch(inner) else (redacted, ORIGIN)


def annotation_of(citation: object) -> dict[str, Any] | None:
    """A citation of a page in OpenAI's shape; None for one of a document, which no other format can tell."""
    location = citation.get("location") if isinstance(citation, dict) else None
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else None
    if not isinstance(url, str) or not isinstance(citation, dict):
        return None
    title = citation.get("title")
    told = {"url": url, "title": title if isinstance(title, str) else "", "start_index": 0, "end_index": 0}
    return {"type": "url_citation", "url_citation": told}
