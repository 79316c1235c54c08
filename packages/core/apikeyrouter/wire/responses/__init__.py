"""OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses): the format of Codex and of the
newer SDKs. `codec.ResponsesCodec` speaks it; `detect` tells its bodies at another endpoint; `proofs` carries other
providers' signatures through its clients."""

from __future__ import annotations

from apikeyrouter.wire.responses.codec import ResponsesCodec
from apikeyrouter.wire.responses.detect import as_chat, looks_like_responses
from apikeyrouter.wire.responses.proofs import without_foreign_reasoning

__all__ = ["ResponsesCodec", "as_chat", "looks_like_responses", "without_foreign_reasoning"]
