"""Usage: how many tokens of which class a reply consumed, as the provider counted them.

`usage_of_openai` peeks at the `usage` object of a body in OpenAI's format (chat completions, completions, embeddings,
Responses, and their last stream events) without parsing the rest. Cached and cache-write tokens are parts of the input,
reasoning and audio tokens parts of the output or input, as the provider reports them.

Laws: an explicit 0 is a value, absent or null usage is None. Nothing here raises on bad input: impossible numbers are
clamped to what is possible and the usage is marked `clamped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Usage", "usage_of_openai", "usage_of_openai_object"]

MAX_TOKENS = 2**53
"""Counts above this are nonsense, and would not survive a reader that keeps numbers as doubles."""


@dataclass(slots=True)
class Usage:
    """Tokens by class; all >= 0.

    `input_tokens`: all input, cached, cache-write and audio tokens included. `output_tokens`: all output, reasoning and
    audio included. `cache_write_1h_tokens`: the part of `cache_write_tokens` that lives one hour. `clamped`: the
    provider's numbers contradicted each other and were cut to what is possible.
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


class _UsageWire(msgspec.Struct, gc=False):
    """`prompt_*` and `completion_*` in chat, `input_*` and `output_*` in Responses; the last is DeepSeek's."""

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


class _Inner(msgspec.Struct, gc=False):
    usage: _UsageWire | None = None


class _Body(msgspec.Struct, gc=False):
    """`response` is where the last event of a Responses stream keeps it, `x_groq` where Groq's chat streams do."""

    usage: _UsageWire | None = None
    response: _Inner | None = None
    x_groq: _Inner | None = None


_decode = msgspec.json.Decoder(_Body).decode
_NO_DETAILS = _Details()


def usage_of_openai(body: bytes) -> Usage | None:
    """The usage in a reply body or in the payload of one stream event; None when it holds none, or is not JSON."""
    try:
        wire = _decode(body)
    except msgspec.ValidationError:
        return _usage_of_oddity(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    found = wire.usage or (wire.response and wire.response.usage) or (wire.x_groq and wire.x_groq.usage)
    return _from_wire(found) if found else None


def usage_of_openai_object(reply: Mapping[str, Any]) -> Usage | None:
    """The same from a decoded body. Fields of the wrong type count as absent."""
    for holder in (reply, reply.get("response"), reply.get("x_groq")):
        usage = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(usage, Mapping):
            return _from_wire(_wire_of(usage))
    return None


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
        if name.endswith("_details"):
            if isinstance(value, Mapping):
                fields[name] = _Details(**{part: _int_or_none(value.get(part)) for part in _Details.__struct_fields__})
        else:
            fields[name] = _int_or_none(value)
    return _UsageWire(**fields)


def _int_or_none(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _from_wire(wire: _UsageWire) -> Usage | None:
    given_in = wire.prompt_tokens if wire.prompt_tokens is not None else wire.input_tokens
    given_out = wire.completion_tokens if wire.completion_tokens is not None else wire.output_tokens
    if given_in is None:
        if given_out is None and wire.total_tokens is None:
            return None
        given_in = (wire.total_tokens or 0) - (given_out or 0) if wire.total_tokens is not None else 0
    parts_in = wire.prompt_tokens_details or wire.input_tokens_details or _NO_DETAILS
    parts_out = wire.completion_tokens_details or wire.output_tokens_details or _NO_DETAILS
    cached = parts_in.cached_tokens if parts_in.cached_tokens is not None else wire.prompt_cache_hit_tokens
    reasoning = parts_out.reasoning_tokens or 0
    output = given_out or 0
    if reasoning > 0 and wire.total_tokens == given_in + output + reasoning:
        output += reasoning  # some servers (xAI) count reasoning beside the completion; the total tells them apart
    usage = Usage(
        given_in,
        output,
        cached or 0,
        parts_in.cache_write_tokens or 0,
        reasoning,
        parts_in.audio_tokens or 0,
        parts_out.audio_tokens or 0,
    )
    return _possible(usage)


def _possible(usage: Usage) -> Usage:
    """Cuts what cannot be. Most replies pass the two comparisons at the top."""
    parts_in = usage.cached_input_tokens + usage.cache_write_tokens
    if (
        0 <= parts_in <= usage.input_tokens <= MAX_TOKENS
        and 0 <= usage.reasoning_tokens <= usage.output_tokens <= MAX_TOKENS
        and 0 <= usage.audio_input_tokens <= usage.input_tokens
        and 0 <= usage.audio_output_tokens <= usage.output_tokens
        and usage.cached_input_tokens >= 0
        and usage.cache_write_tokens >= 0
    ):
        return usage

    def within(value: int, most: int) -> int:
        return max(0, min(value, most))

    usage.clamped = True
    total_in = usage.input_tokens = within(usage.input_tokens, MAX_TOKENS)
    total_out = usage.output_tokens = within(usage.output_tokens, MAX_TOKENS)
    usage.cached_input_tokens = within(usage.cached_input_tokens, total_in)
    usage.cache_write_tokens = within(usage.cache_write_tokens, total_in - usage.cached_input_tokens)
    usage.reasoning_tokens = within(usage.reasoning_tokens, total_out)
    usage.audio_input_tokens = within(usage.audio_input_tokens, total_in)
    usage.audio_output_tokens = within(usage.audio_output_tokens, total_out)
    return usage
