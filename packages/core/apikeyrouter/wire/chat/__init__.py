"""OpenAI's chat completions (https://platform.openai.com/docs/api-reference/chat): the format of most clients and most
providers. `codec.ChatCodec` speaks it; `reader.ChatStreamReader` watches a stream that passes as it is."""

from __future__ import annotations

from apikeyrouter.wire.chat.codec import ChatCodec

__all__ = ["ChatCodec"]
