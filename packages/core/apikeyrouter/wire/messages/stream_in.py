"""Streams of messages read into events.

Main entry: `MessagesDecoder`. Blocks of tools that Anthropic runs itself are skipped, so neutral indices count only the
parts that are told. Usage comes in two halves (input at the start, output at the end), later numbers replace earlier.
Laws: never raises; every part that started ends before its choice finishes; nothing follows an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from apikeyrouter.wire.facts import (
    ErrorFact,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.messages.answer import ORIGIN
from apikeyrouter.wire.messages.errors import error_read
from apikeyrouter.wire.messages.sse import TOO_LARGE, Lines
from apikeyrouter.wire.messages.words import STOPS, annotations_of, usage_read

__all__ = ["MessagesDecoder"]


class _Inner(msgspec.Struct, gc=False):
    """A message, a block or a delta: they share no member with different meanings."""

    type: str = ""
    id: str = ""
    model: str = ""
    usage: dict[str, Any] | None = None
    name: str = ""
    text: str = ""
    input: msgspec.Raw = msgspec.Raw()
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    citation: dict[str, Any] | None = None
    citations: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Inner | None = None
    content_block: _Inner | None = None
    delta: _Inner | None = None
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Event).decode


class MessagesDecoder:
    """See `StreamDecoder`."""

    __slots__ = ("_failed", "_finished", "_lines", "_merged", "_next", "_open", "_started", "done")

    def __init__(self) -> None:
        self.done = False
        self._lines = Lines()
        self._merged: dict[str, Any] = {}
        self._open: dict[int, int] = {}
        self._next = 0
        self._started = self._finished = self._failed = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events in these bytes."""
        out: list[Event] = []
        for payload in self._lines.feed(chunk):
            self._read(payload, out)
        if self._lines.overflowed and not self._failed:
            self._fail(ErrorFact(502, TOO_LARGE, "api_error"), out)
        return out

    def finish(self) -> Sequence[Event]:
        """What an unfinished event holds; open parts end if the reply was complete."""
        out: list[Event] = []
        for payload in self._lines.rest():
            self._read(payload, out)
        if self._finished and not self._failed:
            self._close(out)
        return out

    def _read(self, payload: bytes, out: list[Event]) -> None:
        if self._failed or self.done:
            return
        try:
            event = _decode(payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            if b'"error"' in payload:
                self._fail(error_read(payload), out)
            return
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._delta(event.index, event.delta, out)
            case "content_block_start" if event.content_block is not None:
                self._start(event.index, event.content_block, out)
            case "content_block_stop":
                index = self._open.pop(event.index, None)
                if index is not None:
                    out.append(PartEnded(index))
            case "message_start" if event.message is not None:
                self._begin(event.message, out)
            case "message_delta":
                self._end(event, out)
            case "message_stop":
                if not self._finished:
                    self._close(out)
                    self._finished = True
                    out.append(Finished(Stop.End))
                self.done = True
            case "error":
                self._fail(error_read(payload), out)
            case _:
                pass

    def _begin(self, message: _Inner, out: list[Event]) -> None:
        self._merge(message.usage)
        if not self._started:
            self._started = True
            out.append(Started(message.id, message.model, usage_read(self._merged)))

    def _start(self, at: int, block: _Inner, out: list[Event]) -> None:
        match block.type:
            case "text":
                part: Text | ToolCall | Reasoning = Text("")
            case "tool_use":
                part = ToolCall(block.id, block.name, "")
            case "thinking" | "redacted_thinking":
                part = Reasoning(origin=ORIGIN)
            case _:
                return
        if not self._started:
            self._begin(_Inner(), out)
        index = self._open[at] = self._next
        self._next += 1
        out.append(PartStarted(index, part))
        if block.type == "redacted_thinking":
            out.append(PartDelta(index, encrypted=block.data))
        elif isinstance(part, ToolCall):
            given = bytes(block.input).strip()
            if given not in (b"", b"{}", b"null"):
                out.append(PartDelta(index, given.decode("utf-8", "replace")))
        elif block.text or block.thinking or block.signature or block.citations:
            out.append(
                PartDelta(
                    index,
                    block.text or block.thinking,
                    signature=block.signature or None,
                    annotations=annotations_of(block.citations),
                )
            )

    def _delta(self, at: int, delta: _Inner, out: list[Event]) -> None:
        index = self._open.get(at)
        if index is None:
            return
        match delta.type:
            case "text_delta":
                out.append(PartDelta(index, delta.text))
            case "input_json_delta":
                if delta.partial_json:
                    out.append(PartDelta(index, delta.partial_json))
            case "thinking_delta":
                out.append(PartDelta(index, delta.thinking))
            case "signature_delta":
                out.append(PartDelta(index, signature=delta.signature))
            case "citations_delta" if delta.citation is not None:
                out.append(PartDelta(index, annotations=annotations_of([delta.citation])))
            case _:
                pass

    def _end(self, event: _Event, out: list[Event]) -> None:
        told = event.delta
        if told is not None and told.stop_reason is not None and not self._finished:
            if not self._started:
                self._begin(_Inner(), out)
            self._close(out)
            self._finished = True
            out.append(Finished(STOPS.get(told.stop_reason, Stop.End), told.stop_sequence))
        if event.usage:
            self._merge(event.usage)
            usage = usage_read(self._merged)
            if usage is not None:
                out.append(UsageTold(usage, usage.service_tier or None))

    def _close(self, out: list[Event]) -> None:
        out.extend([PartEnded(index) for index in self._open.values()])
        self._open.clear()

    def _merge(self, told: dict[str, Any] | None) -> None:
        if told:
            self._merged.update({name: value for name, value in told.items() if value is not None})

    def _fail(self, error: ErrorFact, out: list[Event]) -> None:
        self._failed = True
        out.append(Failed(error))
