"""Usage: how many tokens of which class a reply consumed, as the provider counted them.

`usage_of_openai` peeks at the `usage` object of a body in OpenAI's format (chat completions, completions, embeddings,
Responses, and their last stream events) without parsing the rest. Cached and cache-write tokens are parts of the input,
reasoning and audio tokens parts of the output or input, as the provider reports them.

Laws: an explicit 0 is a value, absent or null usage is None. Nothing here raises on bad input: impossible numbers are
clamped to what is possible and the usage is marked `clamped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

__all__ = [
    "Usage",
    "UsageBody",
    "billed_nano_usd",
    "possible",
    "tier_named",
    "usage_in",
    "usage_of_openai",
    "usage_of_openai_object",
]

MAX_TOKENS = 2**53
"""Counts above this are nonsense, and would not survive a reader that keeps numbers as doubles."""


class Usage(msgspec.Struct):
    """Tokens by class; all >= 0. A struct, since every reply makes one: a dataclass of so many fields takes five times
    as long to make.

    `input_tokens`: all input, cached, cache-write, audio, image and video tokens included. `output_tokens`: all output,
    reasoning, citations, audio, images and video included. `cache_write_1h_tokens`: the part of `cache_write_tokens`
    that lives one hour. `cached_audio_tokens`, `cached_image_tokens`: the parts of `cached_input_tokens`. `clamped`:
    the provider's numbers contradicted each other and were cut to what is possible.
    `counts`: what is not sold by tokens, by name ("web_searches", "audio_seconds", "input_document_pages" ...; those of
    `Fee.what`); None when there is nothing. `service_tier`: "" for standard, else "batch", "flex", "priority", "fast".
    `billed_nano_usd`: what the provider itself says that it charged (OpenRouter, xAI, Perplexity), rounded up; None
    when it does not.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cache_write_1h_tokens: int = 0
    clamped: bool = False
    cached_audio_tokens: int = 0
    image_input_tokens: int = 0
    cached_image_tokens: int = 0
    image_output_tokens: int = 0
    video_input_tokens: int = 0
    video_output_tokens: int = 0
    citation_tokens: int = 0
    counts: Mapping[str, int | Decimal] | None = None
    service_tier: str = ""
    billed_nano_usd: int | None = None

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


class _Details(msgspec.Struct, gc=False):
    """Both kinds of details: the input's and the output's."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None
    image_tokens: int | None = None


class _Bill(msgspec.Struct, gc=False):
    """Perplexity's `usage.cost` and OpenRouter's `usage.cost_details`, in US dollars."""

    total_cost: float | None = None
    upstream_inference_cost: float | None = None


class _UsageWire(msgspec.Struct, gc=False):
    """`prompt_*` and `completion_*` in chat, `input_*` and `output_*` in Responses. Then what single servers say:
    DeepSeek's name for cached tokens, Moonshot's, Databricks', Writer's details, Perplexity's searches and citations,
    bills: OpenRouter's `cost` in dollars, plus, with the user's own key at a provider (`is_byok`), that provider's
    (openrouter.ai/docs/use-cases/usage-accounting), Perplexity's `cost.total_cost` in dollars, and xAI's ticks
    (docs.x.ai/developers/cost-tracking; all read 2026-11-21). Mistral's `num_cached_tokens` is not read: it tells what
    a server had in memory, while
    the discount goes by `prompt_tokens_details`, as everywhere."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    prompt_token_details: _Details | None = None
    completion_token_details: _Details | None = None
    num_search_queries: int | None = None
    citation_tokens: int | None = None
    cost: float | _Bill | None = None
    cost_details: _Bill | None = None
    is_byok: bool | None = None
    cost_in_usd_ticks: int | None = None


_TICKS_PER_NANO_USD = 10
"""xAI: 10,000,000,000 ticks are a dollar (docs.x.ai/developers/cost-tracking, 2026-11-21)."""


class _Inner(msgspec.Struct, gc=False):
    usage: _UsageWire | None = None
    service_tier: str | None = None


class UsageBody(msgspec.Struct, gc=False):
    """What `usage_in` reads of a reply; a reader that wants more of the body adds fields, and decodes it once.

    `response` is where the last event of a Responses stream keeps it, `x_groq` where Groq's chat streams do."""

    usage: _UsageWire | None = None
    response: _Inner | None = None
    x_groq: _Inner | None = None
    service_tier: str | None = None


_decode = msgspec.json.Decoder(UsageBody).decode
_NO_DETAILS = _Details()

_STANDARD = frozenset(("", "standard", "default", "auto", "on_demand", "scale", "standard_only"))
"""Names of the ordinary service tier at OpenAI, Anthropic, Gemini and Groq."""


def usage_of_openai(body: bytes) -> Usage | None:
    """The usage in a reply body or in the payload of one stream event; None when it holds none, or is not JSON."""
    try:
        wire = _decode(body)
    except msgspec.ValidationError:
        return _usage_of_oddity(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return usage_in(wire)


def usage_in(wire: UsageBody) -> Usage | None:
    """The same of a body that is decoded."""
    found = wire.usage or (wire.response and wire.response.usage) or (wire.x_groq and wire.x_groq.usage)
    if not found:
        return None
    return _from_wire(found, wire.service_tier or (wire.response.service_tier if wire.response else None))


def usage_of_openai_object(reply: Mapping[str, Any]) -> Usage | None:
    """The same from a decoded body. Fields of the wrong type count as absent."""
    inner = reply.get("response")
    for holder in (reply, inner, reply.get("x_groq")):
        usage = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(usage, Mapping):
            tier = reply.get("service_tier") or (inner.get("service_tier") if isinstance(inner, Mapping) else None)
            return _from_wire(_wire_of(usage), tier)
    return None


def tier_named(said: object) -> str:
    """A provider's word for the service tier as `Usage.service_tier` has it: "" for the ordinary one."""
    name = said.strip().lower() if isinstance(said, str) else ""
    return "" if name in _STANDARD else name


def billed_nano_usd(dollars: object) -> int | None:
    """A provider's own bill in dollars as nano-dollars, rounded up; None when it makes no sense."""
    if isinstance(dollars, bool) or not isinstance(dollars, int | float):
        return None
    amount = Decimal(repr(dollars))
    if not amount.is_finite() or not 0 <= amount <= MAX_TOKENS:
        return None
    return int(amount.scaleb(9).to_integral_value(ROUND_CEILING))


def _bill_of(wire: _UsageWire) -> int | None:
    """What the provider says that it charged; None when it says nothing, or nonsense."""
    ticks = wire.cost_in_usd_ticks
    if ticks is not None:
        return -(-ticks // _TICKS_PER_NANO_USD) if 0 <= ticks <= MAX_TOKENS else None
    cost = wire.cost
    billed = billed_nano_usd(cost.total_cost if isinstance(cost, _Bill) else cost)
    if billed is not None and wire.is_byok and wire.cost_details is not None:
        billed += billed_nano_usd(wire.cost_details.upstream_inference_cost) or 0
    return billed


def _usage_of_oddity(body: bytes) -> Usage | None:
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return usage_of_openai_object(reply) if isinstance(reply, dict) else None


def _wire_of(usage: Mapping[str, Any]) -> _UsageWire:
    fields: dict[str, Any] = {}
    for name in _UsageWire.__struct_fields__:
        value = usage.get(name)
        if name in _BILLS:
            fields[name] = _bill(value)
        elif name == "is_byok":
            fields[name] = value is True
        elif name.endswith("_details"):
            if isinstance(value, Mapping):
                fields[name] = _Details(**{part: _int_or_none(value.get(part)) for part in _Details.__struct_fields__})
        else:
            fields[name] = _int_or_none(value)
    return _UsageWire(**fields)


_BILLS = ("cost", "cost_details")


def _bill(value: object) -> float | _Bill | None:
    if isinstance(value, Mapping):
        return _Bill(_dollars(value.get("total_cost")), _dollars(value.get("upstream_inference_cost")))
    return _dollars(value)


def _dollars(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _int_or_none(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _from_wire(wire: _UsageWire, service_tier: object = None) -> Usage | None:
    given_in = wire.prompt_tokens if wire.prompt_tokens is not None else wire.input_tokens
    given_out = wire.completion_tokens if wire.completion_tokens is not None else wire.output_tokens
    if given_in is None:
        if given_out is None and wire.total_tokens is None:
            return None
        given_in = (wire.total_tokens or 0) - (given_out or 0) if wire.total_tokens is not None else 0
    parts_in = wire.prompt_tokens_details or wire.input_tokens_details or wire.prompt_token_details or _NO_DETAILS
    parts_out = (
        wire.completion_tokens_details or wire.output_tokens_details or wire.completion_token_details or _NO_DETAILS
    )
    cached = parts_in.cached_tokens
    if cached is None:
        cached = _cached_elsewhere(wire)
    reasoning = parts_out.reasoning_tokens
    if reasoning is None:
        reasoning = wire.reasoning_tokens or 0
    output = given_out or 0
    if reasoning > 0 and wire.total_tokens == given_in + output + reasoning:
        output += reasoning  # some servers (xAI) count reasoning beside the completion; the total tells them apart
    usage = Usage(
        given_in,
        output,
        cached,
        parts_in.cache_write_tokens or 0,
        reasoning,
        parts_in.audio_tokens or 0,
        parts_out.audio_tokens or 0,
    )
    if parts_in.image_tokens or parts_out.image_tokens:
        usage.image_input_tokens = parts_in.image_tokens or 0
        usage.image_output_tokens = parts_out.image_tokens or 0
    if service_tier is not None:
        usage.service_tier = tier_named(service_tier)
    if wire.cost is not None or wire.cost_in_usd_ticks is not None:
        usage.billed_nano_usd = _bill_of(wire)
    if wire.num_search_queries is not None or wire.citation_tokens is not None:
        _add_searches(usage, wire)
    elif parts_in is parts_out and not (cached or reasoning):  # no part was told, so none can be more than the whole
        return usage if 0 <= given_in <= MAX_TOKENS and 0 <= output <= MAX_TOKENS else possible(usage)
    return possible(usage)


def _cached_elsewhere(wire: _UsageWire) -> int:
    """Cached tokens of servers that have no details, or others. Beside `input_tokens` they would not be part of it."""
    if wire.prompt_cache_hit_tokens is not None:
        return wire.prompt_cache_hit_tokens
    return (wire.cached_tokens or wire.cache_read_input_tokens or 0) if wire.prompt_tokens is not None else 0


def _add_searches(usage: Usage, wire: _UsageWire) -> None:
    """Perplexity's: searches have a fee each; citations and reasoning are output that the completion does not count."""
    if wire.num_search_queries is not None and wire.num_search_queries > 0:
        usage.counts = {"web_searches": min(wire.num_search_queries, MAX_TOKENS)}
    usage.citation_tokens = max(0, wire.citation_tokens or 0)
    beside = usage.citation_tokens + max(0, wire.reasoning_tokens or 0)
    if usage.output_tokens == wire.completion_tokens:
        usage.output_tokens += beside


def possible(usage: Usage) -> Usage:
    """The same, with what cannot be cut to what can. Most replies pass the comparisons at the top."""
    parts_in = usage.cached_input_tokens + usage.cache_write_tokens
    if (
        0 <= parts_in <= usage.input_tokens <= MAX_TOKENS
        and 0 <= usage.reasoning_tokens <= usage.output_tokens <= MAX_TOKENS
        and 0 <= usage.audio_input_tokens <= usage.input_tokens
        and 0 <= usage.audio_output_tokens <= usage.output_tokens
        and 0 <= usage.image_input_tokens <= usage.input_tokens
        and 0 <= usage.image_output_tokens <= usage.output_tokens
        and 0 <= usage.video_input_tokens <= usage.input_tokens
        and 0 <= usage.video_output_tokens <= usage.output_tokens
        and 0 <= usage.citation_tokens <= usage.output_tokens
        and 0 <= usage.cached_audio_tokens + usage.cached_image_tokens <= usage.cached_input_tokens
        and 0 <= usage.cache_write_1h_tokens <= usage.cache_write_tokens
        and usage.cached_audio_tokens >= 0
        and usage.cached_image_tokens >= 0
    ):
        return usage

    def within(value: int, most: int) -> int:
        return max(0, min(value, most))

    usage.clamped = True
    total_in = usage.input_tokens = within(usage.input_tokens, MAX_TOKENS)
    total_out = usage.output_tokens = within(usage.output_tokens, MAX_TOKENS)
    usage.cached_input_tokens = within(usage.cached_input_tokens, total_in)
    usage.cache_write_tokens = within(usage.cache_write_tokens, total_in - usage.cached_input_tokens)
    usage.cache_write_1h_tokens = within(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    usage.cached_audio_tokens = within(usage.cached_audio_tokens, usage.cached_input_tokens)
    usage.cached_image_tokens = within(usage.cached_image_tokens, usage.cached_input_tokens - usage.cached_audio_tokens)
    for name in ("audio_input_tokens", "image_input_tokens", "video_input_tokens"):
        setattr(usage, name, within(getattr(usage, name), total_in))
    for name in _PARTS_OF_OUTPUT:
        setattr(usage, name, within(getattr(usage, name), total_out))
    return usage


_PARTS_OF_OUTPUT = (
    "reasoning_tokens", "audio_output_tokens", "image_output_tokens", "video_output_tokens", "citation_tokens"
)  # fmt: skip
