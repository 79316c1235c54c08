"""Usage of a reply of which only the host is known, or nothing: the dialect is told by the host and by the shape.

Main entries: `usage_of_reply` for whole bodies, `UsageReader` for streams (events or raw bytes).
The shape decides first, since it cannot lie about field names; the host settles what looks alike and means different
things (xAI's reasoning is beside the completion, OpenAI's is in it).

Laws (those of `usage.py`): nothing raises on bad input; absent usage is None. In a stream later counts replace earlier
ones, field by field: providers report running totals, never differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import Dialect, usage_object, usage_of

__all__ = ["UsageReader", "dialect_of", "usage_of_reply"]

_HOSTS = (
    ("api.x.ai", Dialect.Xai),
    ("api.perplexity.ai", Dialect.Perplexity),
)
_NAMES = {"x-ai": Dialect.Xai, "xai": Dialect.Xai, "grok": Dialect.Xai, "perplexity": Dialect.Perplexity}
_BUFFER_MAX_BYTES = 16 * 1024 * 1024


def usage_of_reply(dialect_or_host: Dialect | str, body: bytes | str | Mapping[str, Any]) -> Usage | None:
    """The usage of a whole reply; None when it holds none.

    `dialect_or_host`: a `Dialect`, which is then believed; or a host ("api.x.ai"), a provider id ("x-ai"), or "" when
    neither is known. `body`: bytes or text of JSON, or the decoded object; the text of an event stream is read too.
    """
    if isinstance(body, Mapping):
        return _usage(dialect_or_host, body)
    raw = body.encode() if isinstance(body, str) else body
    decoded = _decoded(raw)
    if decoded is not None:
        return _usage(dialect_or_host, decoded)
    reader = UsageReader(dialect_or_host)
    reader.feed(raw)
    reader.feed(b"\n\n")
    return reader.usage


def _usage(dialect_or_host: Dialect | str, body: Mapping[str, Any]) -> Usage | None:
    if isinstance(dialect_or_host, Dialect):
        return usage_of(dialect_or_host, body)
    dialect = dialect_of(body, dialect_or_host)
    return usage_of(dialect, body) if dialect is not None else None


def dialect_of(body: Mapping[str, Any], host: str = "") -> Dialect | None:
    """The dialect of a reply or stream event by its shape and host; None when it holds no usage that we know."""
    if _mapping(body, "usageMetadata") or _mapping(_mapping(body, "response"), "usageMetadata"):
        return Dialect.Gemini
    if _mapping(body, "usage_info"):
        return Dialect.DocumentPages
    if _mapping(body, "tokenUsage"):
        return Dialect.Cursor
    if "prompt_eval_count" in body or "eval_count" in body:
        return Dialect.Ollama
    if _is_bedrock_text(body):
        return Dialect.BedrockText
    if any(_mapping(holder, "billed_units") for holder in _cohere_holders(body)):
        return Dialect.Cohere
    if any(_mapping(holder, "tokens") for holder in _cohere_holders(body)):
        return Dialect.CohereTokens
    return _by_usage(body, host)


def _by_usage(body: Mapping[str, Any], host: str) -> Dialect | None:
    for holder in (body, _mapping(body, "message"), _mapping(body, "metadata"), _mapping(body, "response")):
        usage = _mapping(holder, "usage")
        if not usage:
            continue
        if "inputTokens" in usage or "outputTokens" in usage:
            return Dialect.Bedrock
        if "prompt_tokens" in usage or "completion_tokens" in usage:
            return _chat(host)
        if "seconds" in usage:
            return Dialect.Seconds
        if "input_token_details" in usage or "output_token_details" in usage:
            return Dialect.Realtime
        if "input_tokens" in usage or "output_tokens" in usage:
            return _by_input_tokens(body, usage, host)
        return _chat(host) if "total_tokens" in usage else None
    return _chat(host) if _mapping(_mapping(body, "x_groq"), "usage") else None


def _by_input_tokens(body: Mapping[str, Any], usage: Mapping[str, Any], host: str) -> Dialect:
    """Anthropic's, or OpenAI's Responses or images: they share these two names."""
    parts = _mapping(usage, "input_tokens_details")
    if parts and "image_tokens" in parts and "cached_tokens" not in parts:
        return Dialect.Images
    if parts or "total_tokens" in usage or body.get("object") == "response":
        return _chat(host)
    return Dialect.Anthropic


def _chat(host: str) -> Dialect:
    name = host.lower().partition(":")[0]
    return _NAMES.get(name) or next((one for end, one in _HOSTS if name.endswith(end)), Dialect.OpenAI)


def _is_bedrock_text(body: Mapping[str, Any]) -> bool:
    if _mapping(body, "amazon-bedrock-invocationMetrics"):
        return not (_mapping(body, "usage") or _mapping(body, "message"))
    return "prompt_token_count" in body or "generation_token_count" in body or "inputTextTokenCount" in body


def _cohere_holders(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Where Cohere's `billed_units` or `tokens` may be."""
    return (
        _mapping(body, "usage"),
        _mapping(body, "meta"),
        _mapping(_mapping(body, "delta"), "usage"),
        _mapping(_mapping(body, "response"), "meta"),
    )


def _mapping(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    return found if isinstance(found, Mapping) else {}


def _decoded(raw: bytes) -> Mapping[str, Any] | None:
    """The JSON object in `raw`; of a JSON list (Gemini streams them) the merged last words of its members."""
    try:
        decoded = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if isinstance(decoded, list):
        return next((one for one in reversed(decoded) if isinstance(one, dict) and dialect_of(one) is not None), {})
    return decoded if isinstance(decoded, dict) else None


class UsageReader:
    """Watches a stream for usage. `usage`: the latest state, None as long as nothing was reported.

    `feed` takes raw bytes: server-sent events or one JSON object a line, cut anywhere. `read` takes decoded events.
    """

    __slots__ = ("_carry", "_dialect", "_host", "_merged", "_skipping", "usage")

    def __init__(self, dialect_or_host: Dialect | str = "") -> None:
        self._host = dialect_or_host
        self._dialect = dialect_or_host if isinstance(dialect_or_host, Dialect) else None
        self._merged: dict[str, Any] = {}
        self._carry = b""
        self._skipping = False
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream. A line longer than 16 MiB is skipped."""
        lines = (self._carry + data).replace(b"\r", b"\n").split(b"\n")
        self._carry = lines.pop()
        for line in lines:
            if not self._skipping:
                self._line(line)
            self._skipping = False
        if len(self._carry) > _BUFFER_MAX_BYTES:
            self._carry, self._skipping = b"", True

    def read(self, event: Mapping[str, Any]) -> None:
        """The next event."""
        dialect = self._dialect or dialect_of(event, str(self._host))
        if dialect is None:
            return
        wire = usage_object(dialect, event)
        if wire is None:
            return
        self._dialect = dialect
        self._merged.update({name: value for name, value in wire.items() if value is not None})
        tier = event.get("service_tier") or _mapping(event, "response").get("service_tier")
        whole = {"usage": self._merged} if dialect in _PLAIN_ROOT else _as_root(dialect, self._merged)
        self.usage = usage_of(dialect, {**whole, "service_tier": tier}) or self.usage

    def _line(self, line: bytes) -> None:
        text = line[5:].strip() if line.startswith(b"data:") else line.strip()
        if not text.startswith(b"{"):
            return
        try:
            event = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if isinstance(event, dict):
            self.read(event)


_PLAIN_ROOT = frozenset(
    (Dialect.OpenAI, Dialect.Xai, Dialect.Perplexity, Dialect.Anthropic, Dialect.Bedrock, Dialect.Embeddings,
     Dialect.Realtime, Dialect.Images, Dialect.Seconds, Dialect.CohereTokens)
)  # fmt: skip


def _as_root(dialect: Dialect, usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """A body that holds `usage` where its dialect looks for it."""
    if dialect is Dialect.Gemini:
        return {"usageMetadata": usage}
    if dialect is Dialect.Cohere:
        return {"usage": {"billed_units": usage}}
    if dialect is Dialect.Cursor:
        return {"tokenUsage": usage}
    if dialect in (Dialect.DocumentPages, Dialect.AnnotatedPages):
        return {"usage_info": usage}
    return usage
