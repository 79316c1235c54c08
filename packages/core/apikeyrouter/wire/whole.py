"""A whole reply where a stream was asked for: some servers ignore the wish, and their clients wait for events.

Main entries: `WholeReader`, a `StreamReader` that gathers the reply and then tells it as the events that a stream would
have had; `EitherReader`, which looks at the first byte where the content type does not say; `events_of`, the events of
an answer. Law: what the client's format says in a whole reply, its events say.
"""

from __future__ import annotations

from collections.abc import Callable

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.provider_adapter import StreamReader
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.wire.facts import (
    Answer,
    Event,
    Finished,
    Media,
    Part,
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
from apikeyrouter.wire.translate import client_codec

__all__ = ["EitherReader", "WholeReader", "events_of"]

_BODY_MAX_BYTES = 64 * 1024 * 1024
"""More is no reply; the transport bounds what it reads whole in the same way."""


class WholeReader:
    """See `StreamReader`. `read`: makes the provider's body the caller's, and says its usage (an adapter's
    `read_reply`). A body that is no reply becomes `error`, as it came."""

    __slots__ = ("_body", "_call", "_read", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self, call: Call, read: Callable[[bytes], tuple[bytes, Usage | None]]) -> None:
        self._call = call
        self._read = read
        self._body = bytearray()
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Gathers."""
        self._body += chunk
        if len(self._body) > _BODY_MAX_BYTES:
            self.error = b"{}"
        return b""

    def finish(self) -> bytes:
        """Every event at once."""
        if self.done or self.error is not None:
            return b""
        codec = client_codec(self._call.operation)
        body = bytes(self._body)
        try:
            told, self.usage = self._read(body)
            answer = codec.read_answer(told)
        except ValueError:
            self.error = body or b"{}"
            return b""
        want_usage = self._call.operation is not Operation.Chat or self._call.peek.wants_usage
        encoder = codec.encoder(self._call.model, want_usage=want_usage)
        events = events_of(answer)
        out = b"".join([encoder.encode(event) for event in events]) + encoder.finish()
        self.deltas = sum(isinstance(event, PartDelta) for event in events)
        self.model = answer.model or None
        self.finish_reason = next((c.stop.value for c in answer.choices if c.stop is not None), None)
        self.done = True
        return out


class EitherReader:
    """See `StreamReader`: `whole` where the reply begins as JSON does, else `events`."""

    __slots__ = ("_chosen", "_events", "_whole", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self, events: StreamReader, whole: WholeReader) -> None:
        self._events = events
        self._whole = whole
        self._chosen: StreamReader | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The first byte that is no white space decides."""
        if self._chosen is None:
            begun = chunk.lstrip()
            if not begun:
                return b""
            self._chosen = self._whole if begun[:1] in b"{[" else self._events
        return self._told(self._chosen, self._chosen.feed(chunk))

    def finish(self) -> bytes:
        """See `StreamReader.finish`."""
        return b"" if self._chosen is None else self._told(self._chosen, self._chosen.finish())

    def _told(self, chosen: StreamReader, out: bytes) -> bytes:
        self.usage, self.model, self.finish_reason = chosen.usage, chosen.model, chosen.finish_reason
        self.deltas, self.done, self.error = chosen.deltas, chosen.done, chosen.error
        return out


def events_of(answer: Answer) -> list[Event]:
    """What a stream of this answer would have told, one delta for each part."""
    events: list[Event] = [Started(answer.id, answer.model, answer.usage, answer.created_s)]
    for number, choice in enumerate(answer.choices):
        for index, part in enumerate(choice.parts):
            begun, delta = _begun(index, part, number)
            events.append(PartStarted(index, begun, number))
            if delta is not None:
                if isinstance(part, Text) and choice.logprobs is not None and index == 0:
                    delta.logprobs = choice.logprobs
                events.append(delta)
            events.append(PartEnded(index, number))
        events.append(Finished(choice.stop or Stop.End, choice.stop_sequence, number))
    if answer.usage is not None:
        events.append(UsageTold(answer.usage, answer.service_tier))
    return events


def _begun(index: int, part: Part, choice: int) -> tuple[Part, PartDelta | None]:
    """The part as it begins, and what is said of it then."""
    match part:
        case Text():
            return Text(""), PartDelta(index, part.text, choice, annotations=part.annotations)
        case Refusal():
            return Refusal(""), PartDelta(index, part.text, choice)
        case ToolCall():
            begun = ToolCall(part.id, part.name, "")
            return begun, PartDelta(index, part.arguments, choice, signature=part.signature)
        case Reasoning():
            thought = Reasoning(id=part.id, origin=part.origin)
            return thought, PartDelta(index, part.text, choice, signature=part.signature, encrypted=part.encrypted)
        case Media():
            return part, None
        case _:
            return Text(""), None
