"""A request on its way through the pipeline: the caller's bytes and the few facts that routing needs from them.

The body is peeked, not parsed: `peek` reads model, stream, output limits and sizes with one partial decode and leaves
the rest alone, so unknown fields survive and a long prompt costs little. Both doors build a `Call`: the library from a
`RequestIntent`, the proxy from the bytes that came over the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec

__all__ = ["Admission", "Call", "Operation", "Peek", "Tenant", "peek"]


class Operation(StrEnum):
    """What is asked of a provider. The value is the path below the provider's base URL."""

    Chat = "chat/completions"
    Completions = "completions"
    Embeddings = "embeddings"


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class Peek(msgspec.Struct, gc=False):
    """What routing reads of a request body. Fields have the wire's names; absent ones are None, or empty where raw.

    Raised by decoding: msgspec.ValidationError (a field of the wrong type), msgspec.DecodeError (no JSON).
    """

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    messages: list[msgspec.Raw] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    best_of: int | None = None
    prompt: msgspec.Raw = msgspec.Raw()
    prediction: msgspec.Raw = msgspec.Raw()
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    response_format: msgspec.Raw = msgspec.Raw()

    @property
    def output_limit_tokens(self) -> int | None:
        """The caller's cap on output tokens per choice, or None."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether the caller of a stream asked for the usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


peek = msgspec.json.Decoder(Peek).decode


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who calls, and how much it may: usually a virtual key.

    `rpm`, `tpm`: requests and tokens (input and output) in any 60 seconds; `parallel`: requests under way; None: no
    limit. `weight`: its share of capacity while requests wait in line, > 0.
    """

    tenant_id: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    weight: float = 1.0

    @property
    def limited(self) -> bool:
        """Whether it has any limit of its own."""
        return self.rpm is not None or self.tpm is not None or self.parallel is not None


class Admission(Protocol):
    """What a tenant's limits hold for one request, until it is over."""

    def close(self, tokens: int | None, *, sent: bool) -> None:
        """The request is over, exactly once: `tokens` it used; None: unknown, the estimate stays charged when it was
        `sent`. A request that was never sent counts for nothing."""
        ...


@dataclass(slots=True)
class Call:
    """One request in the pipeline.

    `model`: without provider prefix. `provider_id`: serve from this provider only. `body`: JSON in OpenAI's shape of
    the operation, as the caller sent it. `started_s` and `deadline_s`: monotonic seconds. `headers`: the caller's
    headers that may travel upstream, lower case. `tags`: free labels for policies and metrics. `session`:
    the caller's name for a conversation, whose prompt is best cached where it was before. `tenant`: whose limits
    and place in line it has; `admission`: what those limits hold for it.
    """

    request_id: str
    operation: Operation
    model: str
    body: bytes
    peek: Peek
    started_s: float
    deadline_s: float
    provider_id: str | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    tags: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    tenant: Tenant | None = None
    admission: Admission | None = None

    @property
    def streams(self) -> bool:
        """Whether the caller wants server-sent events."""
        return bool(self.peek.stream)
