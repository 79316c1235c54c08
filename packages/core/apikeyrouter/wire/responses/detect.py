"""Clients that post the body of one format to the endpoint of another.

Cursor posts `input` items to `/chat/completions` and reads chat completions in return (LiteLLM's docs,
https://docs.litellm.ai/docs/proxy/cursor, and https://forum.cursor.com/t/159298, read 2026-11-21). Main entries:
`looks_like_responses` tells such a body, `as_chat` makes it what the endpoint's name promises; everything after goes
its usual way.
"""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.models.call import Peek, Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.responses.request_in import read_request

__all__ = ["as_chat", "looks_like_responses"]


class _Shape(msgspec.Struct, gc=False):
    input: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Shape).decode


def looks_like_responses(peek: Peek, body: bytes) -> bool:
    """Whether a body sent to `/chat/completions` is a Responses request: `input` and no `messages`. Looks into the
    body only when there are no messages."""
    if peek.messages is not None or b'"input"' not in body:
        return False
    try:
        return bytes(_decode(body).input)[:1] in (b"[", b'"')
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def as_chat(body: bytes, *, model: str, stream: bool) -> tuple[bytes, tuple[str, ...]]:
    """Such a body as a chat completion request, and the names of what was left out. Wishes that chat completions do
    not know are left out without asking: the client chose this endpoint. A stream tells its usage. Raises
    MalformedError, and UntranslatableError for content that chat completions cannot hold."""
    losses = Losses(Wire.Chat.value, may_drop=True)
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    tools = members.get("tools")
    if tools is not None and b'"function":' in bytes(tools):
        members["tools"] = _flat(tools)
    ask = read_request(msgspec.json.encode(members), losses, model=model, stream=stream)
    written = codec_of(Wire.Chat).write_request(ask, losses)
    losses.check()
    return written, tuple(losses.dropped)


def _flat(tools: msgspec.Raw) -> msgspec.Raw:
    """Tools whose functions are nested as in chat completions, as this format has them."""
    decoded = msgspec.json.decode(tools)
    for at, tool in enumerate(decoded if isinstance(decoded, list) else ()):
        inner = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(inner, dict):
            decoded[at] = {"type": "function", **inner}
    return msgspec.Raw(msgspec.json.encode(decoded))
