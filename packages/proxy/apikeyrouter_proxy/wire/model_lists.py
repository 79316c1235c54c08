"""A list of models as each SDK reads it: main entries `listing` and `one_model`.

Sources: OpenAI "List models", Anthropic "List Models" (`limit`, `after_id`), Gemini "models.list" (`pageSize`,
`pageToken`), all read 2026-11-21. Law: ids stay as they are, also with slashes and colons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["listing", "one_model"]

_PAGE_MAX = 1000
_METHODS = ["generateContent", "streamGenerateContent", "countTokens"]

Model = Mapping[str, Any]


def listing(wire: Wire, models: Sequence[Model], query: Mapping[str, str]) -> bytes:
    """The list, or the page of it that was asked for. Raises WireError 400 for a page that makes no sense."""
    if wire is Wire.Messages:
        page, more = _page(models, query.get("limit"), query.get("after_id"))
        told = [_anthropic(one) for one in page]
        ends = {"first_id": told[0]["id"] if told else None, "last_id": told[-1]["id"] if told else None}
        return msgspec.json.encode({"data": told, "has_more": more, **ends})
    if wire is Wire.Gemini:
        page, more = _page(models, query.get("pageSize"), query.get("pageToken"))
        answer: dict[str, Any] = {"models": [_gemini(one) for one in page]}
        if more:
            answer["nextPageToken"] = page[-1]["id"]
        return msgspec.json.encode(answer)
    return msgspec.json.encode({"object": "list", "data": [_openai(one) for one in models]})


def one_model(wire: Wire, model: Model) -> bytes:
    """A single model."""
    shapes = {Wire.Messages: _anthropic, Wire.Gemini: _gemini}
    return msgspec.json.encode(shapes.get(wire, _openai)(model))


def _page(models: Sequence[Model], size: str | None, after: str | None) -> tuple[Sequence[Model], bool]:
    """Models behind the id `after`, at most `size`; and whether there are more. Lists are sorted by id."""
    if size is not None and not (size.isascii() and size.isdecimal() and 0 < int(size[:9]) <= _PAGE_MAX):
        raise WireError(400, f"The size of a page must be a number from 1 to {_PAGE_MAX}.", code="invalid_request")
    rest = [one for one in models if after is None or one["id"] > after]
    most = int(size) if size is not None else _PAGE_MAX
    return rest[:most], len(rest) > most


def _openai(given: Model) -> dict[str, Any]:
    """With the members that SDKs require."""
    return {"object": "model", "created": 0, "owned_by": "provider", **given}


def _anthropic(given: Model) -> dict[str, Any]:
    created = given.get("created_at")
    if not isinstance(created, str):
        seconds = given.get("created")
        since = datetime.fromtimestamp(seconds if isinstance(seconds, int) else 0, UTC)
        created = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    name = given.get("display_name") or given["id"]
    return {"type": "model", "id": given["id"], "display_name": name, "created_at": created}


def _gemini(given: Model) -> dict[str, Any]:
    name = given["id"]
    full = name if name.startswith(("models/", "tunedModels/")) else f"models/{name}"
    known = {key: given[key] for key in ("inputTokenLimit", "outputTokenLimit", "description") if key in given}
    methods = given.get("supportedGenerationMethods", _METHODS)
    shown = given.get("displayName") or given.get("display_name") or name
    return {"name": full, "displayName": shown, "supportedGenerationMethods": methods, **known}
