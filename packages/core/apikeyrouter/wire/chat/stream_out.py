"""Event streams of chat completions, written for clients.

`ChatEncoder` is the codec's `StreamEncoder`: a chunk with the role first, then deltas, a chunk with the reason to end
for each choice, the usage on a chunk without choices if it was asked for, [DONE].
Thoughts are `reasoning_content`. Those of a format with proofs begin with an empty entry of `reasoning_details`
(`thoughts.py`), and a proof or cipher follows as a whole one of the same index: clients may append or merge them.
Chunks are put together from bytes made once per stream.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.chat.answer import chat_id
from apikeyrouter.wire.chat.errors import DONE_EVENT, error_event
from apikeyrouter.wire.chat.identities import made_up_id
from apikeyrouter.wire.chat.thoughts import FORMATS, detail_of
from apikeyrouter.wire.chat.words import write_stop, write_usage
from apikeyrouter.wire.citations import nested_citation, tier_told
from apikeyrouter.wire.facts import (
    Event,
    Failed,
    Finished,
    Media,
    MediaKind,
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
)  # fmt: skip

__all__ = ["ChatEncoder"]

_encode = msgspec.json.Encoder().encode


class _ChoiceOut:
    """One choice: its running parts, by index, and how many calls and thoughts there were."""

    __slots__ = ("calls", "parts", "refused", "thoughts", "typed")

    def __init__(self) -> None:
        self.parts: dict[int, _PartOut] = {}
        self.calls = 0
        self.thoughts = 0
        self.typed = 0
        self.refused = False


class _PartOut:
    __slots__ = ("began", "encrypted", "number", "part", "signature", "texts")

    def __init__(self, part: Text | Refusal | Reasoning | ToolCall | Media, number: int, began: int) -> None:
        self.part = part
        self.number = number
        self.began = began
        self.texts: list[str] = []
        self.signature: str | None = None
        self.encrypted: str | None = None


class ChatEncoder:
    """See `StreamEncoder`."""

    __slots__ = ("_ask_model", "_choices", "_head", "_id", "_service_tier", "_tail", "_usage", "_want_usage")

    def __init__(self, ask_model: str, *, want_usage: bool) -> None:
        self._ask_model = ask_model
        self._want_usage = want_usage
        self._choices: dict[int, _ChoiceOut] = {}
        self._head = b""
        self._tail = b',"usage":null}\n\n' if want_usage else b"}\n\n"
        self._id = ""
        self._usage: Usage | None = None
        self._service_tier: str | None = None

    def encode(self, event: Event) -> bytes:
        """See `StreamEncoder.encode`."""
        kind = type(event)
        if kind is PartDelta:
            return self._delta(event)  # type: ignore[arg-type]  # the exact type was just looked at, which is fastest
        if isinstance(event, PartStarted):
            return self._started_part(event)
        if isinstance(event, Started):
            return self._started(event)
        if isinstance(event, PartEnded):
            return self._ended_part(event)
        if isinstance(event, Finished):
            return self._finished(event)
        if isinstance(event, UsageTold):
            self._usage = event.usage
            self._service_tier = event.service_tier or self._service_tier
            return b""
        return error_event(event.error) if isinstance(event, Failed) else b""

    def finish(self) -> bytes:
        """See `StreamEncoder.finish`."""
        if not self._want_usage or self._usage is None:
            return DONE_EVENT
        last = b'[],"usage":' + _encode(write_usage(self._usage))
        tier = tier_told(self._service_tier or self._usage.service_tier)
        if tier:
            last += b',"service_tier":' + _encode(tier)
        return self._head + last + b"}\n\n" + DONE_EVENT

    def _started(self, event: Started) -> bytes:
        self._id = event.id
        self._usage = event.usage or self._usage
        common = _encode({
            "id": chat_id(event.id),
            "object": "chat.completion.chunk",
            "created": event.created_s,
            "model": event.model or self._ask_model,
        })  # fmt: skip
        self._head = b"data: " + common[:-1] + b',"choices":'
        return self._choice(0)[1]

    def _choice(self, number: int) -> tuple[_ChoiceOut, bytes]:
        """The choice, and its first chunk if it is new."""
        found = self._choices.get(number)
        if found is not None:
            return found, b""
        found = self._choices[number] = _ChoiceOut()
        return found, self._chunk(number, b'{"role":"assistant","content":""}')

    def _chunk(self, number: int, delta: bytes, finish: bytes = b"null", more: bytes = b"") -> bytes:
        return b'%s[{"index":%d,"delta":%s,%s"finish_reason":%s}]%s' % (
            self._head, number, delta, more or b'"logprobs":null,', finish, self._tail,
        )  # fmt: skip

    def _started_part(self, event: PartStarted) -> bytes:
        choice, out = self._choice(event.choice)
        part = event.part
        if isinstance(part, ToolCall):
            number = choice.calls
            choice.calls += 1
            identity = part.id or made_up_id(self._id, event.choice * 100 + number)
            function = {"name": part.name, "arguments": part.arguments}
            call: dict[str, Any] = {"index": number, "id": identity, "type": "function", "function": function}
            if part.signature:
                call["extra_content"] = {"google": {"thought_signature": part.signature}}
            out += self._chunk(event.choice, _encode({"tool_calls": [call]}))
        elif isinstance(part, Reasoning):
            number = choice.thoughts
            choice.thoughts += 1
            if part.origin in FORMATS:  # the proof comes last, but whose it is must be known first
                empty = Reasoning(id=part.id, origin=part.origin)
                out += self._chunk(event.choice, _encode({"reasoning_details": detail_of(empty, number)}))
            if part.text:
                out += self._chunk(event.choice, _encode({"reasoning_content": part.text}))
        elif isinstance(part, Media):
            number = 0
            delta = _media_delta(part)
            if delta is not None:
                out += self._chunk(event.choice, _encode(delta))
        elif isinstance(part, Text | Refusal):
            number = 0
            choice.refused = choice.refused or isinstance(part, Refusal)
            if part.text:
                member = "refusal" if isinstance(part, Refusal) else "content"
                out += self._chunk(event.choice, _encode({member: part.text}))
        else:
            return out
        choice.parts[event.index] = _PartOut(part, number, choice.typed)
        return out

    def _delta(self, event: PartDelta) -> bytes:
        choice = self._choices.get(event.choice)
        running = choice.parts.get(event.index) if choice is not None else None
        if choice is None or running is None:
            return b""
        part = running.part
        if isinstance(part, Text):
            choice.typed += len(event.text)
            if event.annotations is None and event.logprobs is None:
                return self._chunk(event.choice, b'{"content":%s}' % _encode(event.text)) if event.text else b""
            delta: dict[str, Any] = {"content": event.text}
            if event.annotations:
                found = [nested_citation(one, running.began) for one in event.annotations]
                delta["annotations"] = [one for one in found if one is not None]
            return self._chunk(event.choice, _encode(delta), more=_logprobs(event))
        if isinstance(part, ToolCall):
            call: dict[str, Any] = {"index": running.number}
            if event.text:
                call["function"] = {"arguments": event.text}
                running.texts.append(event.text)
            if event.signature:
                call["extra_content"] = {"google": {"thought_signature": event.signature}}
            return self._chunk(event.choice, _encode({"tool_calls": [call]})) if len(call) > 1 else b""
        if isinstance(part, Refusal):
            delta = {"refusal": event.text}
            return self._chunk(event.choice, _encode(delta), more=_logprobs(event)) if event.text else b""
        if isinstance(part, Reasoning):
            running.signature = event.signature or running.signature
            running.encrypted = event.encrypted or running.encrypted
            if event.text:
                running.texts.append(event.text)
                return self._chunk(event.choice, b'{"reasoning_content":%s}' % _encode(event.text))
        return b""

    def _ended_part(self, event: PartEnded) -> bytes:
        choice = self._choices.get(event.choice)
        running = choice.parts.pop(event.index, None) if choice is not None else None
        if running is None:
            return b""
        part = running.part
        if isinstance(part, ToolCall) and not part.arguments and not running.texts:
            empty = {"tool_calls": [{"index": running.number, "function": {"arguments": "{}"}}]}
            return self._chunk(event.choice, _encode(empty))
        if isinstance(part, Reasoning):
            signature, encrypted = part.signature or running.signature, part.encrypted or running.encrypted
            if signature or encrypted or part.id:
                text = part.text + "".join(running.texts)
                whole = Reasoning(text, signature, encrypted, part.id, part.origin)
                return self._chunk(event.choice, _encode({"reasoning_details": detail_of(whole, running.number)}))
        return b""

    def _finished(self, event: Finished) -> bytes:
        choice, out = self._choice(event.choice)
        word = write_stop(event.stop, calls=choice.calls > 0, refused=choice.refused)
        finish = b'"%s"' % word.encode()
        if event.stop is Stop.Sequence and event.stop_sequence is not None:
            finish += b',"stop_reason":' + _encode(event.stop_sequence)
        return out + self._chunk(event.choice, b"{}", finish)


def _logprobs(event: PartDelta) -> bytes:
    return b'"logprobs":%s,' % _encode(event.logprobs)


def _media_delta(media: Media) -> dict[str, Any] | None:
    """Pictures as OpenRouter tells them, sound as OpenAI does."""
    if media.kind is MediaKind.Image and (media.data or media.url):
        url = media.url or f"data:{media.mime or 'image/png'};base64,{media.data}"
        return {"images": [{"type": "image_url", "image_url": {"url": url}}]}
    if media.kind is MediaKind.Audio and media.data:
        return {"audio": {"id": "audio", "data": media.data}}
    return None
