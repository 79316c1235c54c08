"""A provider's stream as events. Every chunk is a `GenerateContentResponse`; calls come whole.

Main entry: `GeminiDecoder`. Google has no end mark: the reply is over when each candidate told its `finishReason` and
the stream ends, so `Finished` and the usage are told by `finish` (older models say STOP with every chunk).
Laws: those of events (`facts`); never raises; parts of one kind that follow each other are one part.
"""

from __future__ import annotations

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
    Refusal,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.gemini.answer import blocked_words, call_of, media_of, said
from apikeyrouter.wire.gemini.errors import error_of
from apikeyrouter.wire.gemini.frames import Frames
from apikeyrouter.wire.gemini.grounding import annotations_of, logprobs_of
from apikeyrouter.wire.gemini.signatures import ORIGIN
from apikeyrouter.wire.gemini.usage import UsageWatch
from apikeyrouter.wire.gemini.words import stop_of

__all__ = ["GeminiDecoder"]

_decode = msgspec.json.Decoder().decode


class _Candidate:
    """What is known of one candidate. `kind`: of the part that is open. `words`: all its text, for its sources."""

    __slots__ = ("calls", "kind", "next_index", "number", "reply_id", "stop", "words")

    def __init__(self, number: int, reply_id: str) -> None:
        self.number = number
        self.reply_id = reply_id
        self.next_index = 0
        self.kind: type[Text] | type[Reasoning] | None = None
        self.calls = 0
        self.stop: Stop | None = None
        self.words: list[str] = []

    def close(self, events: list[Event]) -> None:
        """Ends the open part."""
        if self.kind is not None:
            self.kind = None
            events.append(PartEnded(self.next_index - 1, self.number))

    def add_text(self, kind: type[Text] | type[Reasoning], text: str, events: list[Event]) -> None:
        """More text, of the open part if it is of this kind."""
        if self.kind is not kind:
            self.close(events)
            part = Text("") if kind is Text else Reasoning(origin=ORIGIN)
            events.append(PartStarted(self.next_index, part, self.number))
            self.kind = kind
            self.next_index += 1
        if kind is Text:
            self.words.append(text)
        if text:
            events.append(PartDelta(self.next_index - 1, text, self.number))

    def sign(self, signature: str, events: list[Event]) -> None:
        """The proof of what came before: of an open thought, else a part of its own."""
        if self.kind is not Reasoning:
            self.add_text(Reasoning, "", events)
        events.append(PartDelta(self.next_index - 1, choice=self.number, signature=signature))
        self.close(events)

    def add_call(self, part: dict[str, Any], events: list[Event]) -> None:
        """A whole call. Raises ValueError when it is none."""
        call = call_of(part, self.reply_id, self.number, self.calls)
        self.close(events)
        self.calls += 1
        index = self.next_index
        self.next_index += 1
        events.append(PartStarted(index, ToolCall(call.id, call.name, ""), self.number))
        events.append(PartDelta(index, call.arguments, self.number, signature=call.signature))
        events.append(PartEnded(index, self.number))

    def add_whole(self, part: Any, events: list[Event], text: str = "") -> None:
        """A part that comes at once."""
        self.close(events)
        events.append(PartStarted(self.next_index, part, self.number))
        if text:
            events.append(PartDelta(self.next_index, text, self.number))
        events.append(PartEnded(self.next_index, self.number))
        self.next_index += 1


class GeminiDecoder:
    """See `StreamDecoder`."""

    __slots__ = ("_candidates", "_failed", "_frames", "_id", "_model", "_sent", "_started", "_usage", "done")

    def __init__(self) -> None:
        self._frames = Frames()
        self._candidates: dict[int, _Candidate] = {}
        self._usage = UsageWatch()
        self._id = self._model = ""
        self._started = False
        self._failed = False
        self._sent = False
        self.done = False

    def feed(self, chunk: bytes) -> list[Event]:
        """See `StreamDecoder.feed`."""
        events: list[Event] = []
        for frame in self._frames.feed(chunk):
            self._read(frame, events)
        if self._frames.overflowed:
            self._fail(ErrorFact(502, "The provider sent an event larger than 64 MiB."), events)
        return events

    def finish(self) -> list[Event]:
        """See `StreamDecoder.finish`."""
        events: list[Event] = []
        for frame in self._frames.finish():
            self._read(frame, events)
        finished = [one for one in self._candidates.values() if one.stop is not None]
        if self._failed or self.done or not finished or len(finished) < len(self._candidates):
            return events
        for one in finished:
            one.close(events)
        events += [Finished(one.stop, choice=one.number) for one in finished if one.stop is not None]
        if self._usage.usage is not None:
            events.append(UsageTold(self._usage.usage, self._usage.usage.service_tier or None))
        self.done = True
        return events

    def _read(self, frame: bytes, events: list[Event]) -> None:
        if self._failed or frame == b"[DONE]":
            return
        try:
            chunk = _decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            self._fail(ErrorFact(502, "The provider sent an event that is not a JSON object."), events)
            return
        if chunk.get("error"):
            self._fail(error_of(chunk["error"]), events)
            return
        if isinstance(chunk.get("response"), dict) and "candidates" not in chunk:
            chunk = chunk["response"]  # Google's code assistants wrap their replies
        self._start(chunk, events)
        candidates = chunk.get("candidates")
        try:
            for one in candidates if isinstance(candidates, list) else []:
                self._read_candidate(one, events)
        except ValueError as fault:
            self._fail(ErrorFact(502, f"The provider sent a reply that makes no sense: {fault}."), events)
            return
        if not self._candidates:
            self._read_feedback(chunk.get("promptFeedback"), events)
        metadata = chunk.get("usageMetadata")
        if isinstance(metadata, dict) and self._usage.read(metadata) and self._usage.usage is not None:
            events.append(UsageTold(self._usage.usage))

    def _start(self, chunk: dict[str, Any], events: list[Event]) -> None:
        if not self._started:
            self._started = True
            self._id, self._model = said(chunk.get("responseId")), said(chunk.get("modelVersion"))
            events.append(Started(self._id, self._model))

    def _read_candidate(self, told: object, events: list[Event]) -> None:
        if not isinstance(told, dict):
            raise ValueError("a candidate is not an object")  # noqa: TRY004 - wrong value, not type
        index = told.get("index", 0)
        number = index if type(index) is int and 0 <= index < 64 else 0
        candidate = self._candidates.get(number)
        if candidate is None:
            candidate = self._candidates[number] = _Candidate(number, self._id)
        content = told.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict):
                raise ValueError("a part is not an object")  # noqa: TRY004 - wrong value, not type
            _read_part(part, candidate, events)
        logprobs = logprobs_of(told.get("logprobsResult")) if "logprobsResult" in told else None
        grounding = told.get("groundingMetadata")
        annotations = annotations_of(grounding, "".join(candidate.words)) if grounding else None
        if (logprobs or annotations) and candidate.kind is Text:
            at = candidate.next_index - 1
            events.append(PartDelta(at, choice=number, annotations=annotations or None, logprobs=logprobs))
        stop = stop_of(told.get("finishReason"), calls=candidate.calls > 0)
        if stop is not None:
            candidate.stop = stop

    def _read_feedback(self, feedback: object, events: list[Event]) -> None:
        words = blocked_words(feedback)
        if words is not None:
            candidate = self._candidates[0] = _Candidate(0, self._id)
            candidate.add_whole(Refusal(""), events, words)
            candidate.stop = Stop.Filter

    def _fail(self, error: ErrorFact, events: list[Event]) -> None:
        if not self._failed and not self.done:
            self._failed = True
            events.append(Failed(error))


def _read_part(part: dict[str, Any], candidate: _Candidate, events: list[Event]) -> None:
    signature = part.get("thoughtSignature")
    if "functionCall" in part:
        candidate.add_call(part, events)
        return
    if "inlineData" in part:
        candidate.add_whole(media_of(part["inlineData"]), events)
    elif "text" not in part:
        return  # what Google's own tools did: its outcome is in the text
    else:
        text = said(part["text"])
        if part.get("thought") is True:
            candidate.add_text(Reasoning, text, events)
        elif text:
            candidate.add_text(Text, text, events)
    if isinstance(signature, str):
        candidate.sign(signature, events)
