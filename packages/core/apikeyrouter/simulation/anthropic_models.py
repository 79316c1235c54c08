"""The models that the simulated provider lists in Anthropic's format, a page at a time, and what they can do.

Main entries: `model_page`, `claude_facts`. Any model is served, listed or not, unless its name begins with `no-such`.
Source: https://platform.claude.com/docs/en/about-claude/models/overview and /en/api/models-list (read 2026-11-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import Headers, invalid
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply

if TYPE_CHECKING:
    from apikeyrouter.simulation.formats import Handler

__all__ = ["ClaudeFacts", "claude_facts", "model_page"]


@dataclass(frozen=True, slots=True)
class ClaudeFacts:
    """`context_tokens`: prompt and output together; `output_tokens`: the most it writes. `budgets`, `adaptive`: how it
    may be asked to think; `takes_effort`: how hard; `samples`: takes temperature, top_p and top_k, of which
    with `one_sampler` not the first two together; `system_turns`: system messages after user turns."""

    name: str = ""
    context_tokens: int = 200_000
    output_tokens: int = 64_000
    budgets: bool = True
    adaptive: bool = False
    takes_effort: bool = False
    samples: bool = True
    one_sampler: bool = True
    system_turns: bool = False


def _newest(name: str) -> ClaudeFacts:
    return ClaudeFacts(
        name, 1_000_000, 128_000, budgets=False, adaptive=True, takes_effort=True, samples=False, system_turns=True
    )


_LISTED: dict[str, ClaudeFacts] = {
    "claude-opus-5": _newest("Claude Opus 5"),
    "claude-sonnet-5": _newest("Claude Sonnet 5"),
    "claude-opus-4-6": ClaudeFacts("Claude Opus 4.6", output_tokens=128_000, adaptive=True, takes_effort=True),
    "claude-opus-4-5-20251101": ClaudeFacts("Claude Opus 4.5", takes_effort=True),
    "claude-haiku-4-5-20251001": ClaudeFacts("Claude Haiku 4.5"),
    "claude-sonnet-4-5-20250929": ClaudeFacts("Claude Sonnet 4.5"),
    "claude-opus-4-1-20250805": ClaudeFacts("Claude Opus 4.1", output_tokens=32_000),
    "claude-sonnet-4-20250514": ClaudeFacts("Claude Sonnet 4", one_sampler=False),
    "claude-3-haiku-20240307": ClaudeFacts("Claude Haiku 3", output_tokens=4_096, one_sampler=False),
}
_UNLISTED = ClaudeFacts(output_tokens=128_000, adaptive=True, takes_effort=True, one_sampler=False, system_turns=True)
_PAGE_MODELS = 20
_PAGE_MODELS_MOST = 1000


def claude_facts(model: str) -> ClaudeFacts:
    """Facts of a model, also without its date; an unknown one gets generous limits."""
    found = _LISTED.get(model)
    if found is not None:
        return found
    return next((facts for name, facts in _LISTED.items() if name.rpartition("-")[0] == model), _UNLISTED)


def model_page(scope: Scope) -> Handler:
    """Answers `/v1/models`: `limit`, `after_id` and `before_id` of the query choose the page."""
    query = {name: values[-1] for name, values in parse_qs(scope.get("query_string", b"").decode("latin-1")).items()}

    def handler(_account: Account, _body: bytes, headers: Headers) -> Reply:
        return Reply(headers, msgspec.json.encode(_page(query)))

    return handler


def _page(query: dict[str, str]) -> dict[str, Any]:
    limit = int(query["limit"]) if query.get("limit", "").isdigit() else _PAGE_MODELS
    if not 1 <= limit <= _PAGE_MODELS_MOST:
        raise invalid(f"limit: must be between 1 and {_PAGE_MODELS_MOST}")
    names = list(_LISTED)
    first, last = 0, len(names)
    if query.get("after_id") in names:
        first = names.index(query["after_id"]) + 1
    elif query.get("before_id") in names:
        last = names.index(query["before_id"])
        first = max(0, last - limit)
    shown = names[first:last][:limit]
    return {
        "data": [
            {
                "type": "model",
                "id": name,
                "display_name": _LISTED[name].name,
                "created_at": "2025-02-19T00:00:00Z",
                "lifecycle": "active",
                "max_input_tokens": _LISTED[name].context_tokens,
                "max_tokens": _LISTED[name].output_tokens,
            }
            for name in shown
        ],
        "has_more": first + len(shown) < len(names) if "before_id" not in query else first > 0,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }
