"""Streams of messages, watched as they pass.

Main entry: `MessagesReader`: a few byte patterns are looked for, and only the events that carry usage, the end or an
error are decoded. Laws: bytes are unchanged; only whole events are passed on; a stream that told why it ended but not
that it ended gets its `message_stop`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.messages.sse import LARGEST_EVENT_BYTES, TOO_LARGE, payload_of, whole_events
from apikeyrouter.wire.messages.words import usage_read

__all__ = ["MessagesReader"]

_STOP_EVENT = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
# Quotes inside a JSON string are escaped, so none of these can match text that a model wrote.
_WATCHED = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')


class _Inner(msgspec.Struct, gc=False):
    model: str | None = None
    usage: dict[str, Any] | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    message: _Inner | None = None
    delta: _Inner | None = None
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Event).decode


class MessagesReader:
    """See `StreamReader`."""

    __slots__ = ("_carry", "_merged", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self) -> None:
        self._carry = b""
        self._merged: dict[str, Any] = {}
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns the same, up to the last whole event."""
        data = self._carry + chunk if self._carry else chunk
        end = whole_events(data)
        if end == len(data):
            self._carry = b""
            whole = data
        else:
            self._carry, whole = data[end:], data[:end]
            if len(self._carry) > LARGEST_EVENT_BYTES:
                self._carry = b""
                self.error = b'{"type":"error","error":{"type":"api_error","message":"%b"}}' % TOO_LARGE.encode()
        if whole:
            self._watch(whole)
        return whole

    def finish(self) -> bytes:
        """What is left when the provider has ended: an event without its blank line, and a forgotten end mark."""
        rest = b""
        if self._carry:
            tail = self._carry.rstrip(b"\r\n") + b"\n\n"
            self._carry = b""
            if _is_whole(payload_of(tail)):
                self._watch(tail)
                rest = tail
        if not self.done and self.finish_reason is not None and self.error is None:
            self.done = True
            rest += _STOP_EVENT
        return rest

    def _watch(self, whole: bytes) -> None:
        self.deltas += whole.count(b'"content_block_delta"')
        for pattern in _WATCHED:
            at = whole.find(pattern)
            while at >= 0:
                start = whole_events(whole[:at])
                stop = min([i for mark in (b"\n\n", b"\n\r\n") if (i := whole.find(mark, at)) >= 0], default=len(whole))
                self._read(payload_of(whole[start:stop]))
                at = whole.find(pattern, stop)

    def _read(self, payload: bytes) -> None:
        try:
            event = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if event.type == "message_start" and event.message is not None:
            self.model = event.message.model or self.model
            self._merge(event.message.usage)
        elif event.type == "message_delta":
            if event.delta is not None and event.delta.stop_reason is not None:
                self.finish_reason = self.finish_reason or event.delta.stop_reason
            self._merge(event.usage)
        elif event.type == "message_stop":
            self.done = True
        elif event.type == "error" and self.error is None:
            self.error = payload

    def _merge(self, told: dict[str, Any] | None) -> None:
        if told:
            self._merged.update({name: value for name, value in told.items() if value is not None})
            self.usage = usage_read(self._merged) or self.usage


def _is_whole(payload: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(payload))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
