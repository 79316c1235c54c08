"""Streams of Cohere's chat read into events.

Main entry: `CohereDecoder`. Blocks of content and calls of tools count their indices apart; the plan before calls has
no beginning and no end of its own. Usage comes with the end.
Laws: never raises; one part runs at a time, and ends before its choice finishes; nothing follows an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from apikeyrouter.wire.chat.sse import EventSplitter
from apikeyrouter.wire.cohere.words import BROKEN, ORIGIN, STOPS, annotations_of, usage_read
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

__all__ = ["CohereDecoder"]


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: str | None = ""


class _Call(msgspec.Struct, gc=False):
    id: str = ""
    function: _Function | None = None


class _Content(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None


_NOTHING = _Content()


class _Message(msgspec.Struct, gc=False):
    """Of a start these members are empty lists; of a delta, single objects."""

    content: _Content | list[Any] | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[Any] | None = None
    citations: Any = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    delta: _Delta | None = None
    message: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode
_DAMAGED = "The provider's stream has an event that cannot be read."
_ENDED = "The provider ended the stream with an error."


class CohereDecoder:
    """See `StreamDecoder`."""

    __slots__ = ("_events", "_failed", "_finished", "_kind", "_next", "_started", "done")

    def __init__(self) -> None:
        self.done = False
        self._events = EventSplitter()
        self._kind = ""  # of the part that runs: "text", "thinking", "plan" or "call"
        self._next = 0
        self._started = self._finished = self._failed = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events in these bytes."""
        out: list[Event] = []
        for data in self._events.feed(chunk):
            self._read(data, out)
        return out

    def finish(self) -> Sequence[Event]:
        """What an event without its blank line holds."""
        out: list[Event] = []
        for data in self._events.finish():
            self._read(data, out)
        return out

    def _read(self, data: bytes, out: list[Event]) -> None:
        if self._failed or self.done or data == b"[DONE]":
            return
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self._fail(ErrorFact(502, _DAMAGED), out)
            return
        delta = event.delta
        message = delta.message if delta is not None else None
        match event.type:
            case "content-delta" if message is not None:
                self._content(message, out)
            case "tool-call-delta" if message is not None:
                if self._kind == "call":
                    out.append(PartDelta(self._next - 1, _arguments(message)))
            case "tool-plan-delta" if message is not None:
                if message.tool_plan:
                    self._text("plan", message.tool_plan, out)
            case "content-end" | "tool-call-end":
                self._close(out)
            case "content-start" if message is not None:
                self._close(out)
                self._content(message, out)
            case "tool-call-start" if message is not None:
                self._call(message, out)
            case "citation-start" if message is not None:
                self._cite(message.citations, out)
            case "message-start":
                self._begin(event.id or "", out)
            case "message-end" if delta is not None:
                self._end(delta, out)
            case "" | "error" | "stream-error" if event.message or event.error:
                told = event.message if isinstance(event.message, str) else event.error
                self._fail(ErrorFact(500, told if isinstance(told, str) else _ENDED), out)
            case _:
                pass

    def _begin(self, name: str, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            out.append(Started(name, ""))

    def _part(self, kind: str, part: Text | Reasoning | ToolCall, out: list[Event]) -> None:
        self._begin("", out)
        self._close(out)
        self._kind = kind
        out.append(PartStarted(self._next, part))
        self._next += 1

    def _close(self, out: list[Event]) -> None:
        if self._kind:
            out.append(PartEnded(self._next - 1))
            self._kind = ""

    def _content(self, message: _Message, out: list[Event]) -> None:
        told = message.content if isinstance(message.content, _Content) else _NOTHING
        if told.thinking:
            self._text("thinking", told.thinking, out)
        if told.text:
            self._text("text", told.text, out)

    def _text(self, kind: str, text: str, out: list[Event]) -> None:
        if self._finished:
            return
        if self._kind != kind:
            self._part(kind, Reasoning(origin=ORIGIN) if kind == "thinking" else Text(""), out)
        out.append(PartDelta(self._next - 1, text))

    def _call(self, message: _Message, out: list[Event]) -> None:
        call = message.tool_calls
        if self._finished or not isinstance(call, _Call):
            return
        self._part("call", ToolCall(call.id, call.function.name if call.function is not None else "", ""), out)
        first = _arguments(message)
        if first:
            out.append(PartDelta(self._next - 1, first))

    def _cite(self, citations: object, out: list[Event]) -> None:
        found = annotations_of(citations)
        if found and self._kind == "text":
            out.append(PartDelta(self._next - 1, annotations=found))

    def _end(self, delta: _Delta, out: list[Event]) -> None:
        reason = delta.finish_reason or ""
        if reason in BROKEN or delta.error:
            why = delta.error if isinstance(delta.error, str) else f"The model failed ({reason or 'ERROR'})."
            self._fail(ErrorFact(BROKEN.get(reason, 500), why, reason or None), out)
            return
        self._begin("", out)
        self._close(out)
        self._finished = self.done = True
        out.append(Finished(STOPS.get(reason, Stop.End)))
        usage = usage_read(delta.usage)
        if usage is not None:
            out.append(UsageTold(usage))

    def _fail(self, error: ErrorFact, out: list[Event]) -> None:
        self._failed = True
        out.append(Failed(error))


def _arguments(message: _Message) -> str:
    call = message.tool_calls
    function = call.function if isinstance(call, _Call) else None
    return (function.arguments or "") if function is not None else ""
