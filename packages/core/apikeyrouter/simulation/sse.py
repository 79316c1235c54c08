"""A chat reply as server-sent events, in the order and shape of recorded streams.

Main entry: `chat_events`: first a chunk with the role, then one chunk per token (or per piece of a tool call's
arguments), a chunk with the finish reason, the usage chunk with empty `choices` when it was asked for, and `[DONE]`.
Choices take turns when there are several. Each event is one `bytes`, ready to be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from apikeyrouter.simulation.chat import Answer, ChatReply, token_logprob
from apikeyrouter.simulation.text import tokens_of
from apikeyrouter.simulation.tool_calls import ToolCall

__all__ = ["DONE", "chat_events", "error_event"]

DONE = b"data: [DONE]\n\n"
_PADDING = "aZ3kQ9xT7mB1vN5c"  # the real field hides token lengths; its content means nothing
_encode = msgspec.json.encode


def chat_events(reply: ChatReply, *, include_usage: bool, obfuscate: bool) -> Iterator[bytes]:
    """The events of a streamed reply."""
    frame = _Frame(reply, include_usage=include_usage, obfuscate=obfuscate)
    turns = [_choice_events(frame, index, answer) for index, answer in enumerate(reply.answers)]
    while turns:
        for turn in list(turns):
            event = next(turn, None)
            if event is None:
                turns.remove(turn)
            else:
                yield event
    if include_usage:
        yield frame.usage_event()
    yield DONE


def error_event(body: dict[str, Any]) -> bytes:
    """An error inside a stream."""
    return b"data: " + _encode(body) + b"\n\n"


class _Frame:
    """The part of every chunk that does not change."""

    def __init__(self, reply: ChatReply, *, include_usage: bool, obfuscate: bool) -> None:
        self.reply = reply
        self._obfuscate = obfuscate
        head = {
            "id": reply.reply_id,
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "service_tier": "default",
            "system_fingerprint": reply.fingerprint,
        }
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null' if include_usage else b"]"

    def event(self, index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._finished(_encode(choice), 1)

    def text_event(self, index: int, piece: str) -> bytes:
        """The common chunk, put together without a dict."""
        raw = b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (index, _encode(piece))
        return self._finished(raw, len(piece))

    def usage_event(self) -> bytes:
        padding = b',"obfuscation":""' if self._obfuscate else b""
        return self._head + b'],"usage":' + _encode(self.reply.usage) + padding + b"}\n\n"

    def _finished(self, choice: bytes, length: int) -> bytes:
        padding = b""
        if self._obfuscate:
            padding = b',"obfuscation":"%b"' % _PADDING[: 16 - length % 16].encode()
        return self._head + choice + self._tail + padding + b"}\n\n"


def _choice_events(frame: _Frame, index: int, answer: Answer) -> Iterator[bytes]:
    content = None if answer.tool_calls else ""
    yield frame.event(index, {"role": "assistant", "content": content, "refusal": None})
    if answer.tool_calls:
        for at, call in enumerate(answer.tool_calls):
            yield from _call_events(frame, index, at, call)
    elif frame.reply.top_logprobs is not None:
        for piece in answer.pieces:
            logprobs = {"content": [token_logprob(piece, frame.reply.top_logprobs)], "refusal": None}
            yield frame.event(index, {"content": piece}, logprobs=logprobs)
    else:
        for piece in answer.pieces:
            yield frame.text_event(index, piece)
    yield frame.event(index, {}, answer.finish_reason)


def _call_events(frame: _Frame, index: int, at: int, call: ToolCall) -> Iterator[bytes]:
    kind, argument = ("custom", "input") if call.custom else ("function", "arguments")
    opening = {"index": at, "id": call.call_id, "type": kind, kind: {"name": call.name, argument: ""}}
    yield frame.event(index, {"tool_calls": [opening]})
    for piece in tokens_of(call.arguments):
        yield frame.event(index, {"tool_calls": [{"index": at, kind: {argument: piece}}]})
