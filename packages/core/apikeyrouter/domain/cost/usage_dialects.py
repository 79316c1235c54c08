"""Usage in every provider's words: one function per dialect, all returning `Usage`.

OpenAI's format has its own fast reader (`usage.py`). The others are tables: for each of our fields the places in the
provider's usage object whose numbers are added up; `a|b` is the first of two that is there, `list[type=AUDIO].count`
stands for the members of a list that say so. `usage_of` reads by dialect; `usage_replies` finds out the dialect.

Laws (those of `usage.py`): nothing raises on bad input; an explicit 0 is a value, absent usage is None; impossible
numbers are cut and marked `clamped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from apikeyrouter.domain.cost.usage import MAX_TOKENS, Usage, possible, tier_named, usage_of_openai_object

__all__ = [
    "Dialect",
    "usage_object",
    "usage_of",
    "usage_of_anthropic",
    "usage_of_bedrock",
    "usage_of_cohere",
    "usage_of_cohere_tokens",
    "usage_of_document_pages",
    "usage_of_embeddings",
    "usage_of_gemini",
    "usage_of_images",
    "usage_of_ollama",
    "usage_of_perplexity",
    "usage_of_realtime",
    "usage_of_seconds",
    "usage_of_xai",
]


class Dialect(StrEnum):
    """Ways to report usage. `OpenAI`: chat, completions and Responses, as most providers speak it."""

    OpenAI = "openai"
    Embeddings = "embeddings"
    Realtime = "realtime"
    Images = "images"
    Seconds = "seconds"
    Anthropic = "anthropic"
    Gemini = "gemini"
    Bedrock = "bedrock"
    BedrockText = "bedrock-text"
    Cohere = "cohere"
    CohereTokens = "cohere-tokens"
    Xai = "x-ai"
    Perplexity = "perplexity"
    DocumentPages = "document-pages"
    AnnotatedPages = "annotated-pages"
    Cursor = "cursor"
    Ollama = "ollama"


_Path = tuple[str | tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """`roots`: where the usage object may be, best first ("" is the body itself). `tokens`, `counts`: field to places.
    `tier`: places of the service tier in the usage object."""

    roots: tuple[_Path, ...]
    tokens: Mapping[str, tuple[tuple[_Path, ...], ...]]
    counts: Mapping[str, tuple[tuple[_Path, ...], ...]] = field(default_factory=dict)
    tiers: tuple[_Path, ...] = ()


_STEP = re.compile(r"([^.\[\]]+)(\[([^=\]]*)=?([^\]]*)\])?")


def _path(text: str) -> _Path:
    steps = [found.groups() for found in _STEP.finditer(text)]
    return tuple([(name, key, value) if bracket else name for name, bracket, key, value in steps])


def _table(roots: str, tokens: Mapping[str, str], counts: Mapping[str, str] | None = None, tiers: str = "") -> _Table:
    """From text: places are divided by spaces, alternatives by `|`; "." is the body itself."""

    def places(rows: Mapping[str, str]) -> dict[str, tuple[tuple[_Path, ...], ...]]:
        return {name: tuple([tuple(map(_path, one.split("|"))) for one in row.split()]) for name, row in rows.items()}

    return _Table(
        tuple(map(_path, roots.split())), places(tokens), places(counts or {}), tuple(map(_path, tiers.split()))
    )


_ANTHROPIC = _table(
    "usage message.usage",
    {
        "input_tokens": "input_tokens cache_creation_input_tokens cache_read_input_tokens",
        "output_tokens": "output_tokens",
        "cached_input_tokens": "cache_read_input_tokens",
        "cache_write_tokens": "cache_creation_input_tokens",
        "cache_write_1h_tokens": "cache_creation.ephemeral_1h_input_tokens",
        "reasoning_tokens": "output_tokens_details.thinking_tokens",
    },
    {"web_searches": "server_tool_use.web_search_requests"},
    "speed service_tier",
)

_GEMINI = _table(
    "usageMetadata response.usageMetadata",
    {
        "input_tokens": "promptTokenCount toolUsePromptTokenCount",
        "output_tokens": "candidatesTokenCount|responseTokenCount thoughtsTokenCount",
        "cached_input_tokens": "cachedContentTokenCount",
        "reasoning_tokens": "thoughtsTokenCount",
        "audio_input_tokens": "promptTokensDetails[modality=AUDIO].tokenCount "
        "toolUsePromptTokensDetails[modality=AUDIO].tokenCount",
        "image_input_tokens": "promptTokensDetails[modality=IMAGE].tokenCount "
        "promptTokensDetails[modality=DOCUMENT].tokenCount toolUsePromptTokensDetails[modality=IMAGE].tokenCount "
        "toolUsePromptTokensDetails[modality=DOCUMENT].tokenCount",
        "video_input_tokens": "promptTokensDetails[modality=VIDEO].tokenCount "
        "toolUsePromptTokensDetails[modality=VIDEO].tokenCount",
        "cached_audio_tokens": "cacheTokensDetails[modality=AUDIO].tokenCount",
        "cached_image_tokens": "cacheTokensDetails[modality=IMAGE].tokenCount "
        "cacheTokensDetails[modality=DOCUMENT].tokenCount",
        "audio_output_tokens": "candidatesTokensDetails[modality=AUDIO].tokenCount"
        "|responseTokensDetails[modality=AUDIO].tokenCount",
        "image_output_tokens": "candidatesTokensDetails[modality=IMAGE].tokenCount "
        "candidatesTokensDetails[modality=DOCUMENT].tokenCount",
        "video_output_tokens": "candidatesTokensDetails[modality=VIDEO].tokenCount",
    },
    tiers="serviceTier trafficType",
)
"""Thoughts are beside the candidates, and tool-use prompts beside the prompt (ai.google.dev, UsageMetadata). Pages of
documents are read, and billed, as images."""

_BEDROCK = _table(
    "usage metadata.usage",
    {
        "input_tokens": "inputTokens cacheReadInputTokens|cacheReadInputTokenCount "
        "cacheWriteInputTokens|cacheWriteInputTokenCount",
        "output_tokens": "outputTokens",
        "cached_input_tokens": "cacheReadInputTokens|cacheReadInputTokenCount",
        "cache_write_tokens": "cacheWriteInputTokens|cacheWriteInputTokenCount",
        "cache_write_1h_tokens": "cacheDetails[ttl=1h].inputTokens",
    },
)

_BEDROCK_TEXT = _table(
    "amazon-bedrock-invocationMetrics .",
    {
        "input_tokens": "inputTokenCount|inputTextTokenCount|prompt_token_count",
        "output_tokens": "outputTokenCount|results[].tokenCount|generation_token_count",
    },
)
"""Titan and Llama behind InvokeModel, and the metrics that every InvokeModel stream ends with."""

_COHERE = _table(
    "usage.billed_units meta.billed_units delta.usage.billed_units response.meta.billed_units",
    {
        "input_tokens": "input_tokens image_tokens",
        "output_tokens": "output_tokens",
        "image_input_tokens": "image_tokens",
    },
    {"rerank_searches": "search_units"},
)
"""What Cohere bills; the tokens that the model saw (its own preamble included) are in `tokens`."""

_COHERE_TOKENS = _table(
    "usage delta.usage meta response.meta",
    {
        "input_tokens": "tokens.input_tokens",
        "output_tokens": "tokens.output_tokens",
        "cached_input_tokens": "cached_tokens",
    },
)

_REALTIME = _table(
    "response.usage usage",
    {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cached_input_tokens": "input_token_details.cached_tokens",
        "audio_input_tokens": "input_token_details.audio_tokens",
        "image_input_tokens": "input_token_details.image_tokens",
        "cached_audio_tokens": "input_token_details.cached_tokens_details.audio_tokens",
        "cached_image_tokens": "input_token_details.cached_tokens_details.image_tokens",
        "audio_output_tokens": "output_token_details.audio_tokens",
    },
    {"audio_seconds": "billable_audio_seconds", "input_text_messages": "input_text_messages"},
)

_IMAGES = _table(
    "usage",
    {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "image_input_tokens": "input_tokens_details.image_tokens",
        "image_output_tokens": "output_tokens_details.image_tokens",
    },
)

_CURSOR = _table(
    "tokenUsage",
    {
        "input_tokens": "inputTokens cacheWriteTokens cacheReadTokens",
        "output_tokens": "outputTokens",
        "cached_input_tokens": "cacheReadTokens",
        "cache_write_tokens": "cacheWriteTokens",
    },
)

_EMBEDDINGS = _table("usage", {"input_tokens": "prompt_tokens|input_tokens"})
_OLLAMA = _table(".", {"input_tokens": "prompt_eval_count", "output_tokens": "eval_count"})
_SECONDS = _table("usage .", {}, {"audio_seconds": "seconds|duration"})
_PAGES = _table("usage_info", {}, {"input_document_pages": "pages_processed"})
_ANNOTATED = _table(
    "usage_info", {}, {"input_document_pages": "pages_processed", "input_annotated_document_pages": "pages_processed"}
)


def _reader(table: _Table, name: str, about: str) -> Callable[[Mapping[str, Any]], Usage | None]:
    def read(body: Mapping[str, Any]) -> Usage | None:
        return _read(table, body)

    read.__name__ = read.__qualname__ = name
    read.__doc__ = f"{about} None when the body (or event) holds none."
    return read


usage_of_anthropic = _reader(_ANTHROPIC, "usage_of_anthropic", "Usage of Anthropic's Messages, wherever it is hosted.")
usage_of_gemini = _reader(_GEMINI, "usage_of_gemini", "Usage of Gemini, at Google AI and Vertex.")
usage_of_bedrock = _reader(_BEDROCK, "usage_of_bedrock", "Usage of Amazon Bedrock's Converse.")
usage_of_bedrock_text = _reader(_BEDROCK_TEXT, "usage_of_bedrock_text", "Usage of Titan and Llama behind InvokeModel.")
usage_of_cohere = _reader(_COHERE, "usage_of_cohere", "What Cohere bills for chat, embeddings and rerank.")
usage_of_cohere_tokens = _reader(_COHERE_TOKENS, "usage_of_cohere_tokens", "The tokens that Cohere's model saw.")
usage_of_realtime = _reader(_REALTIME, "usage_of_realtime", "Usage of a `response.done` event of a realtime session.")
usage_of_images = _reader(_IMAGES, "usage_of_images", "Usage of OpenAI's image generation.")
usage_of_embeddings = _reader(_EMBEDDINGS, "usage_of_embeddings", "Usage of embeddings: input only.")
usage_of_seconds = _reader(_SECONDS, "usage_of_seconds", "Seconds of audio that a transcription is billed by.")
usage_of_document_pages = _reader(_PAGES, "usage_of_document_pages", "Pages that Mistral's OCR has read.")
usage_of_ollama = _reader(_OLLAMA, "usage_of_ollama", "Usage of Ollama's own API.")


def usage_of_xai(body: Mapping[str, Any]) -> Usage | None:
    """Usage of xAI's chat: reasoning is beside the completion, unless the total says otherwise."""
    wire = usage_object(Dialect.OpenAI, body)
    prompt = _whole(wire.get("prompt_tokens")) if wire is not None else None
    if wire is None or prompt is None:
        return usage_of_openai_object(body)
    told = dict(wire)
    told.setdefault("cached_tokens", wire.get("cached_prompt_text_tokens"))
    completion = _whole(wire.get("completion_tokens")) or 0
    total = _whole(told.pop("total_tokens", None))
    if total != prompt + completion:
        told["completion_tokens"] = completion + _said_reasoning(wire)
    return usage_of_openai_object({"usage": told, "service_tier": body.get("service_tier")})


def usage_of_perplexity(body: Mapping[str, Any]) -> Usage | None:
    """Usage of Perplexity: reasoning and citations are beside the completion; each search has its fee."""
    wire = usage_object(Dialect.OpenAI, body)
    if wire is None:
        return None
    if "prompt_tokens" in wire:  # the number of searches makes the reader count the rest as well
        return usage_of_openai_object({"usage": {"num_search_queries": 0, **wire}})
    usage = usage_of_openai_object(body)
    if usage is None:
        return None
    details = wire.get("input_tokens_details")
    if isinstance(details, Mapping) and not usage.cached_input_tokens:
        usage.cached_input_tokens = _whole(details.get("cache_read_input_tokens")) or 0
    searches = _amount_at(wire, ((_path("tool_calls_details.search_web.invocation"),),))
    if searches:
        usage.counts = {"web_searches": searches}
    return possible(usage)


def _said_reasoning(wire: Mapping[str, Any]) -> int:
    details = wire.get("completion_tokens_details")
    said = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
    return max(0, _whole(said if said is not None else wire.get("reasoning_tokens")) or 0)


_TABLES = {
    Dialect.Anthropic: _ANTHROPIC,
    Dialect.Gemini: _GEMINI,
    Dialect.Bedrock: _BEDROCK,
    Dialect.BedrockText: _BEDROCK_TEXT,
    Dialect.Cohere: _COHERE,
    Dialect.CohereTokens: _COHERE_TOKENS,
    Dialect.Realtime: _REALTIME,
    Dialect.Images: _IMAGES,
    Dialect.Embeddings: _EMBEDDINGS,
    Dialect.Seconds: _SECONDS,
    Dialect.DocumentPages: _PAGES,
    Dialect.AnnotatedPages: _ANNOTATED,
    Dialect.Cursor: _CURSOR,
    Dialect.Ollama: _OLLAMA,
}

_OPENAI_ROOTS = tuple(map(_path, ("usage", "response.usage", "x_groq.usage")))


def usage_of(dialect: Dialect, body: Mapping[str, Any]) -> Usage | None:
    """The usage in a decoded reply, or in one event of a stream, read as `dialect`; None when it holds none."""
    table = _TABLES.get(dialect)
    if table is not None:
        return _read(table, body)
    if dialect is Dialect.Xai:
        return usage_of_xai(body)
    return usage_of_perplexity(body) if dialect is Dialect.Perplexity else usage_of_openai_object(body)


def usage_object(dialect: Dialect, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The provider's own usage object within a reply or event, None when there is none."""
    table = _TABLES.get(dialect)
    for root in table.roots if table is not None else _OPENAI_ROOTS:
        found = _at(body, root)
        if isinstance(found, Mapping):
            return found
    return None


def _read(table: _Table, body: Mapping[str, Any]) -> Usage | None:
    for root in table.roots:
        wire = _at(body, root)
        if not isinstance(wire, Mapping):
            continue
        tokens = {name: _sum_at(wire, places) for name, places in table.tokens.items()}
        counts = {name: count for name, places in table.counts.items() if (count := _amount_at(wire, places))}
        zero = any(_amount_at(wire, places) is not None for places in table.counts.values())
        if tokens.get("input_tokens") is None and tokens.get("output_tokens") is None and not zero:
            continue
        known: dict[str, Any] = {name: count for name, count in tokens.items() if count is not None}
        usage = Usage(**known, counts=counts or None)
        said = next((tier for path in table.tiers if (tier := tier_named(_at(wire, path)))), "")
        usage.service_tier = said.removeprefix("on_demand_")
        return possible(usage)
    return None


def _at(found: Any, path: _Path) -> Any:
    """What is at `path`; of lists the chosen members' values, as a list."""
    for index, step in enumerate(path):
        if not isinstance(found, Mapping):
            return None
        if isinstance(step, str):
            found = found.get(step)
            continue
        name, key, value = step
        members = found.get(name)
        if not isinstance(members, list):
            return None
        chosen = [one for one in members if isinstance(one, Mapping) and (not key or one.get(key) == value)]
        return [_at(one, path[index + 1 :]) for one in chosen]
    return found


def _sum_at(wire: Mapping[str, Any], places: tuple[tuple[_Path, ...], ...]) -> int | None:
    """The places' whole numbers added up; None when none of them holds one."""
    total: int | None = None
    for alternatives in places:
        for path in alternatives:
            found = _at(wire, path)
            numbers = [_whole(one) for one in (found if isinstance(found, list) else [found])]
            known = [number for number in numbers if number is not None]
            if known:
                total = (total or 0) + sum(known)
                break
    return total


def _amount_at(wire: Mapping[str, Any], places: tuple[tuple[_Path, ...], ...]) -> int | Decimal | None:
    """The same for what need not be whole, such as seconds; never negative."""
    for alternatives in places:
        for path in alternatives:
            found = _at(wire, path)
            if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= MAX_TOKENS:
                return found if isinstance(found, int) else Decimal(repr(found))
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None
