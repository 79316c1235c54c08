"""A request on its way through the pipeline: the caller's bytes and the few facts that routing needs from them.

The body is peeked, not parsed: `peek` reads model, stream, output limits and sizes with one partial decode and leaves
the rest alone, so unknown fields survive and a long prompt costs little. Both doors build a `Call`: the library from a
`RequestIntent`, the proxy from the bytes that came over the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from apikeyrouter.domain.models.model_choice import Chosen, ModelWish

__all__ = ["CONVERSATIONS", "WITHOUT_MODEL_MEMBER", "Admission", "Call", "Operation", "Peek", "Tenant", "Wire", "peek"]


class Wire(StrEnum):
    """The formats in which conversations are asked for and answered. Clients and providers speak one each; where they
    differ, `apikeyrouter.wire` translates."""

    Chat = "openai_chat"
    Responses = "openai_responses"
    Messages = "anthropic_messages"
    Gemini = "gemini"
    Converse = "bedrock_converse"
    Cohere = "cohere_chat"


class Operation(StrEnum):
    """What the caller asks for, in which format. The value is the path below an API's root; Gemini's is the verb that
    stands behind the model in its path. `Raw`: any other path of one provider, passed through (see `Call.path`)."""

    Chat = "chat/completions"
    Completions = "completions"
    Embeddings = "embeddings"
    Responses = "responses"
    Messages = "messages"
    CountTokens = "messages/count_tokens"
    Gemini = "generateContent"
    GeminiCountTokens = "countTokens"
    GeminiEmbed = "embedContent"
    Moderations = "moderations"
    Images = "images/generations"
    ImageEdits = "images/edits"
    Speech = "audio/speech"
    Transcriptions = "audio/transcriptions"
    Translations = "audio/translations"
    Rerank = "rerank"
    Raw = "raw"


CONVERSATIONS: Mapping[Operation, Wire] = {
    Operation.Chat: Wire.Chat,
    Operation.Responses: Wire.Responses,
    Operation.Messages: Wire.Messages,
    Operation.Gemini: Wire.Gemini,
}
"""Operations that can be translated from one format into another, with the caller's format."""

WITHOUT_MODEL_MEMBER = frozenset({
    Operation.Gemini, Operation.GeminiCountTokens, Operation.GeminiEmbed, Operation.Raw,
    Operation.ImageEdits, Operation.Transcriptions, Operation.Translations,
})  # fmt: skip
"""Operations whose bodies have no JSON member `model`: it stands in the path, or in a multipart form."""


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _GenerationConfig(msgspec.Struct, gc=False):
    """Google takes each name in either spelling, here and around it; where both are given the usual one counts."""

    usual: int | None = msgspec.field(default=None, name="maxOutputTokens")
    other: int | None = msgspec.field(default=None, name="max_output_tokens")

    @property
    def max_output_tokens(self) -> int | None:
        return self.usual if self.usual is not None else self.other


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
    max_output_tokens: int | None = None
    instructions: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    previous_response_id: str | None = None
    generation_config: _GenerationConfig | None = msgspec.field(default=None, name="generationConfig")
    other_generation_config: _GenerationConfig | None = msgspec.field(default=None, name="generation_config")

    @property
    def output_limit_tokens(self) -> int | None:
        """The caller's cap on output tokens per choice, or None."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        if self.max_tokens is not None:
            return self.max_tokens
        config = self.generation_config or self.other_generation_config
        if config is not None:
            return config.max_output_tokens
        return self.max_output_tokens

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

    `model`: without provider prefix. `provider_id`: serve from this provider only. `body`: in the shape of the
    operation, as the caller sent it; JSON unless `content_type` says otherwise. `method`, `path`: of a `Raw` operation,
    and `path` also of what belongs to a result (`responses/resp_1/input_items`): below the API's root, without a
    leading slash; "" means the operation's own. `query`: of the caller's URL, without "?". `dropped`: what has been
    left out by then. `drop_params`: leave out what the provider cannot do instead of refusing it. `free`: nobody bills
    for it (reading, deleting and counting): it counts as a request, with no tokens and no money. `started_s` and
    `deadline_s`: monotonic seconds. `headers`: the caller's headers that may travel upstream, lower case. `tags`: free
    labels for policies and metrics. `session`: the caller's name for a conversation, whose prompt is best cached where
    it was before. `tenant`: whose limits and place in line it has; `admission`: what those limits hold for it. `wish`:
    how a model is to be chosen where the request asks for `auto`; `chosen`: how one was. `at_utc_s`: Unix seconds when
    it is sent, for replies that say when they were made; 0.0 before. `sized`: a body, a model, the bound of that
    input for it (`InputBound`) and the body's template (`template_of`), where somebody worked them out: true for a copy
    with another body or model, too.
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
    method: str = "POST"
    path: str = ""
    query: str = ""
    content_type: bytes = b"application/json"
    drop_params: bool = False
    dropped: tuple[str, ...] = ()
    free: bool = False
    wish: ModelWish | None = None
    chosen: Chosen | None = None
    at_utc_s: float = 0.0
    sized: tuple[bytes, str, Any, str] | None = None

    @property
    def streams(self) -> bool:
        """Whether the caller wants server-sent events."""
        return bool(self.peek.stream)
