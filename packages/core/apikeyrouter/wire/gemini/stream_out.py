"""Events as a stream for a Gemini client (`alt=sse`): every chunk a whole `GenerateContentResponse`, CRLF as Google's.

Main entry: `GeminiEncoder`. Calls are held back until they are whole; finish reasons until the end, where they come
with the usage, as Google sends them.
Law: google-genai reads it (version 3.4 tried 2026-11-21).
"""

from __future__ import annotations

from copy import copy
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.facts import (
    Event,
    Failed,
    Finished,
    Media,
    Part,
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
from apikeyrouter.wire.gemini.answer import part_of_answer
from apikeyrouter.wire.gemini.errors import error_event
from apikeyrouter.wire.gemini.grounding import grounding_metadata, logprobs_result
from apikeyrouter.wire.gemini.signatures import ORIGIN, signature_of
from apikeyrouter.wire.gemini.usage import usage_metadata
from apikeyrouter.wire.gemini.words import finish_reason

__all__ = ["GeminiEncoder"]

_encode = msgspec.json.Encoder().encode


class _Open:
    """A part under way, in pieces."""

    __slots__ = ("annotations", "part", "pieces")

    def __init__(self, part: Part) -> None:
        self.part = copy(part)
        self.pieces: list[str] = []
        self.annotations: list[dict[str, Any]] = []


class GeminiEncoder:
    """See `StreamEncoder`. `ask_model`: what the client called the model, for replies that tell none."""

    __slots__ = ("_failed", "_id", "_last", "_model", "_open", "_stops", "_usage")

    def __init__(self, ask_model: str) -> None:
        self._id = ""
        self._model = ask_model
        self._usage: Usage | None = None
        self._open: dict[tuple[int, int], _Open] = {}
        self._stops: dict[int, Stop] = {}
        self._last: dict[int, dict[str, Any]] = {}
        self._failed = False

    def encode(self, event: Event) -> bytes:
        """See `StreamEncoder.encode`."""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._begin(event)
            case PartEnded():
                return self._end(event)
            case Started():
                self._id, self._model = event.id, event.model or self._model
                self._usage = event.usage
            case UsageTold():
                self._usage = event.usage
            case Finished():
                self._stops[event.choice] = event.stop
            case Failed():
                self._failed = True
                return error_event(event.error)
        return b""

    def finish(self) -> bytes:
        """See `StreamEncoder.finish`: the finish reasons, and the usage."""
        if self._failed:
            return b""
        candidates = []
        for number, stop in sorted(self._stops.items()):
            candidate: dict[str, Any] = {
                "content": {"parts": [{"text": ""}], "role": "model"},
                "finishReason": finish_reason(stop),
                "index": number,
            }
            candidates.append({**candidate, **self._last.get(number, {})})
        reply: dict[str, Any] = {"candidates": candidates}
        if self._usage is not None:
            reply["usageMetadata"] = usage_metadata(self._usage)
        return self._chunk(reply)

    def _begin(self, event: PartStarted) -> bytes:
        part = event.part
        if isinstance(part, Media):
            return self._told(event.choice, part_of_answer(part))
        self._open[event.choice, event.index] = _Open(part)
        if isinstance(part, Text) and part.text:
            return self._told(event.choice, {"text": part.text})
        return b""

    def _delta(self, event: PartDelta) -> bytes:
        running = self._open.get((event.choice, event.index))
        if running is None:
            return b""
        part = running.part
        if isinstance(part, ToolCall):
            running.pieces.append(event.text)
            part.signature = event.signature or part.signature
            return b""
        if isinstance(part, Reasoning):
            part.signature = event.signature or part.signature
            part.encrypted = event.encrypted or part.encrypted
            if not event.text:
                return b""
            running.pieces.append(event.text)
            return self._told(event.choice, {"text": event.text, "thought": True})
        running.pieces.append(event.text)
        if event.annotations:
            running.annotations += event.annotations
        return self._told(event.choice, {"text": event.text}, event.logprobs) if event.text else b""

    def _end(self, event: PartEnded) -> bytes:
        running = self._open.pop((event.choice, event.index), None)
        if running is None:
            return b""
        part = running.part
        if isinstance(part, ToolCall):
            part.arguments += "".join(running.pieces)
            return self._told(event.choice, part_of_answer(part))
        if isinstance(part, Reasoning):
            signature = signature_of(part)
            if signature is None:
                return b""
            told: dict[str, Any] = {"text": "", "thoughtSignature": signature}
            if part.origin != ORIGIN or running.pieces:
                told["thought"] = True
            return self._told(event.choice, told)
        if running.annotations:
            grounding = grounding_metadata(running.annotations, "".join(running.pieces))
            if grounding is not None:
                self._last[event.choice] = {"groundingMetadata": grounding}
        return b""

    def _told(self, choice: int, part: dict[str, Any] | None, logprobs: dict[str, Any] | None = None) -> bytes:
        if part is None:
            return b""
        candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": choice}
        result = logprobs_result(logprobs) if logprobs is not None else None
        if result is not None:
            candidate["logprobsResult"] = result
        return self._chunk({"candidates": [candidate]})

    def _chunk(self, reply: dict[str, Any]) -> bytes:
        reply["modelVersion"] = self._model
        reply["responseId"] = self._id
        return b"data: " + _encode(reply) + b"\r\n\r\n"
