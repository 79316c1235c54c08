"""Event streams of chat completions, read from providers.

`ChatDecoder` is the codec's `StreamDecoder`. It takes what servers really send: CRLF, comments, an empty first chunk
(Azure), usage on a chunk of its own or on the last one, thoughts under three names, whole tool calls in one chunk,
errors inside the stream, a missing [DONE].
Laws: at most one part of a choice runs at a time; what comes after a choice's end is ignored; nothing raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import usage_of_openai
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.chat.calls_in import CallStream
from apikeyrouter.wire.chat.errors import error_fact
from apikeyrouter.wire.chat.parts_in import media_of_url
from apikeyrouter.wire.chat.sse import EventSplitter
from apikeyrouter.wire.chat.thoughts import read_detail, text_of_thoughts
from apikeyrouter.wire.chat.words import read_logprobs, read_stop
from apikeyrouter.wire.codec import MalformedError
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
    UsageTold,
)  # fmt: skip

__all__ = ["ChatDecoder"]

_decode = msgspec.json.Decoder().decode
_MAX_CHOICES = 128


class _ChoiceStream:
    """One choice: the running part, the calls, and what waits behind a call that is not whole yet."""

    __slots__ = (
        "calls", "finished", "held", "number", "open", "open_kind", "parts", "plain_thoughts", "refused", "sound",
        "thought_index",
    )  # fmt: skip

    def __init__(self, number: int, reply_id: str) -> None:
        self.number = number
        self.calls = CallStream(number, reply_id)
        self.parts = 0
        self.open = -1
        self.open_kind: type | None = None
        self.finished = False
        self.refused = False
        self.plain_thoughts = False
        self.thought_index: object = None
        self.held: list[dict[str, Any]] = []
        self.sound: list[str] = []

    def take(self, delta: dict[str, Any], logprobs: object, events: list[Event]) -> None:
        """The delta of one chunk."""
        content = delta.get("content")
        if type(content) is str and len(delta) <= 2 and not self.calls.running and logprobs is None:  # the usual chunk
            if content and ("role" in delta or len(delta) == 1):
                events.append(PartDelta(self._running(Text, events), content, self.number))
                return
            if len(delta) == 1:
                return
        if self.calls.running and _says_more(delta):
            if self.held or not self.calls.complete:
                self.held.append({name: delta.pop(name) for name in _SAYING if name in delta})
            else:
                self.parts = self.calls.end(self.parts, events)
        self._take_thoughts(delta, events)
        self._take_words(delta, logprobs, events)
        self._take_media(delta, events)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            for one in calls:
                self.close(events, running_calls=False)
                self.parts = self.calls.take(one, self.parts, events)
        old = delta.get("function_call")
        if isinstance(old, dict) and (old.get("name") or old.get("arguments")):
            self.close(events, running_calls=False)
            self.parts = self.calls.take({"index": 0, "function": old}, self.parts, events)

    def _running(
        self, kind: type[Text | Refusal | Reasoning], events: list[Event], thought: Reasoning | None = None
    ) -> int:
        """The index of the running part of a kind, which is started if need be (a thought as `thought`)."""
        if self.open_kind is kind:
            return self.open
        self.close(events, running_calls=True)
        self.open, self.open_kind = self.parts, kind
        self.parts += 1
        self.thought_index = None
        self.plain_thoughts = False
        events.append(PartStarted(self.open, kind("") if thought is None else thought, self.number))
        return self.open

    def close(self, events: list[Event], *, running_calls: bool) -> None:
        """Ends the running part."""
        if self.open_kind is not None:
            events.append(PartEnded(self.open, self.number))
            self.open_kind = None
        if running_calls:
            self.parts = self.calls.end(self.parts, events)

    def finish(self, said: object, matched: object, events: list[Event]) -> None:
        """The choice is complete."""
        if self.finished:
            return
        self.close(events, running_calls=True)
        held, self.held = self.held, []
        for delta in held:
            self.take(delta, None, events)
        if self.sound:
            self.close(events, running_calls=True)
            events.append(PartStarted(self.parts, Media(MediaKind.Audio, data="".join(self.sound)), self.number))
            events.append(PartEnded(self.parts, self.number))
            self.parts += 1
        self.close(events, running_calls=True)
        self.finished = True
        stop = read_stop(said, calls=self.calls.any, refused=self.refused)
        if stop is None:
            stop = Stop.Tools if self.calls.any else Stop.End
        if stop is Stop.End and isinstance(matched, str) and matched:
            events.append(Finished(Stop.Sequence, matched, self.number))
        else:
            events.append(Finished(stop, None, self.number))

    def _take_thoughts(self, delta: dict[str, Any], events: list[Event]) -> None:
        plain = text_of_thoughts(delta.get("reasoning_content")) or text_of_thoughts(delta.get("reasoning"))
        details = delta.get("reasoning_details")
        if isinstance(details, list):
            for one in details:
                if isinstance(one, dict):
                    self._take_detail(one, plain, events)
                    plain = ""
        if plain:
            at = self._running(Reasoning, events, Reasoning(origin=Wire.Chat.value))
            self.plain_thoughts = True
            events.append(PartDelta(at, plain, self.number))

    def _take_detail(self, one: dict[str, Any], plain: str, events: list[Event]) -> None:
        """Thoughts with a format and an index. Their text is often told as plain text too: then that counts."""
        thought = read_detail(one)
        if self.open_kind is Reasoning and one.get("index") != self.thought_index is not None:
            self.close(events, running_calls=False)
        text = thought.text
        if plain or (self.plain_thoughts and self.open_kind is Reasoning):
            text = plain
            self.plain_thoughts = True
        at = self._running(Reasoning, events, Reasoning(id=thought.id, origin=thought.origin))
        self.thought_index = one.get("index")
        if text or thought.signature or thought.encrypted:
            events.append(PartDelta(at, text, self.number, signature=thought.signature, encrypted=thought.encrypted))
        if thought.encrypted or thought.signature:
            self.close(events, running_calls=False)

    def _take_words(self, delta: dict[str, Any], logprobs: object, events: list[Event]) -> None:
        content = delta.get("content")
        if isinstance(content, list):
            content = self._take_list(content, events)
        told = read_logprobs(logprobs)
        notes = delta.get("annotations")
        annotations = [one for one in notes if isinstance(one, dict)] if isinstance(notes, list) else []
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self.refused = True
            events.append(PartDelta(self._running(Refusal, events), refusal, self.number, logprobs=told))
            told = None
        text = content if isinstance(content, str) else ""
        if text or annotations or (told and self.open_kind is Text):
            at = self._running(Text, events)
            events.append(PartDelta(at, text, self.number, annotations=annotations or None, logprobs=told))

    def _take_list(self, content: list[Any], events: list[Event]) -> str:
        """Content as a list of parts (Mistral): thoughts and text."""
        texts = []
        for one in content:
            if isinstance(one, dict) and one.get("type") == "thinking":
                thought = text_of_thoughts(one.get("thinking"))
                if thought:
                    at = self._running(Reasoning, events, Reasoning(origin=Wire.Chat.value))
                    events.append(PartDelta(at, thought, self.number))
            else:
                texts.append(text_of_thoughts(one))
        return "".join(texts)

    def _take_media(self, delta: dict[str, Any], events: list[Event]) -> None:
        images = delta.get("images")
        for one in images if isinstance(images, list) else ():
            url = one.get("image_url") if isinstance(one, dict) else None
            url = url.get("url") if isinstance(url, dict) else url
            try:
                picture = media_of_url(url, MediaKind.Image, "images") if isinstance(url, str) else None
            except MalformedError:
                picture = None
            if picture is not None:
                self.close(events, running_calls=True)
                events.append(PartStarted(self.parts, picture, self.number))
                events.append(PartEnded(self.parts, self.number))
                self.parts += 1
        audio = delta.get("audio")
        if isinstance(audio, dict):
            if isinstance(audio.get("data"), str):
                self.sound.append(audio["data"])
            if isinstance(audio.get("transcript"), str) and audio["transcript"]:
                events.append(PartDelta(self._running(Text, events), audio["transcript"], self.number))


_SAYING = ("content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "images", "annotations")


def _says_more(delta: dict[str, Any]) -> bool:
    return any(delta.get(name) for name in _SAYING)


class ChatDecoder:
    """See `StreamDecoder`."""

    __slots__ = ("_choices", "_failed", "_splitter", "_started", "_tier", "done")

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self._choices: dict[int, _ChoiceStream] = {}
        self._started: Started | None = None
        self._failed = False
        self._tier: str | None = None
        self.done = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """See `StreamDecoder.feed`."""
        events: list[Event] = []
        for payload in self._splitter.feed(chunk):
            self._take(payload, events)
        return events

    def finish(self) -> Sequence[Event]:
        """See `StreamDecoder.finish`."""
        events: list[Event] = []
        for payload in self._splitter.finish():
            self._take(payload, events)
        if not self.done and self._choices and all(choice.finished for choice in self._choices.values()):
            self.done = not self._failed
        return events

    def _take(self, payload: bytes, events: list[Event]) -> None:
        if self.done or self._failed:
            return
        if payload[:6] == b"[DONE]":
            for choice in self._choices.values():
                choice.finish(None, None, events)
            self.done = True
            return
        try:
            chunk = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if not isinstance(chunk, dict):
            return
        if chunk.get("error") or (self._splitter.errors and "choices" not in chunk):
            self._failed = True
            events.append(Failed(error_fact(chunk)))
            return
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self._start(chunk, events)
            for choice in choices:
                if isinstance(choice, dict) and not self._failed:
                    self._take_choice(choice, events)
        if isinstance(chunk.get("service_tier"), str):
            self._tier = chunk["service_tier"]
        if chunk.get("usage") or chunk.get("x_groq"):
            self._tell_usage(payload, chunk, events)

    def _start(self, chunk: dict[str, Any], events: list[Event]) -> None:
        if self._started is None:
            created = chunk.get("created")
            reply_id, model = chunk.get("id"), chunk.get("model")
            self._started = Started(
                reply_id if isinstance(reply_id, str) else "",
                model if isinstance(model, str) else "",
                created_s=int(created) if isinstance(created, int | float) and 0 <= created < 2**53 else 0,
            )
            events.append(self._started)

    def _take_choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        number = choice.get("index")
        if type(number) is not int or not 0 <= number < _MAX_CHOICES:
            number = 0
        stream = self._choices.get(number)
        if stream is None:
            reply_id = self._started.id if self._started is not None else ""
            stream = self._choices[number] = _ChoiceStream(number, reply_id)
        if stream.finished:
            return
        said = choice.get("finish_reason")
        if said == "error":
            self._failed = True
            events.append(Failed(error_fact(choice)))
            return
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice.get("message")  # whole replies sent as a stream of one
        if isinstance(delta, dict):
            stream.take(delta, choice.get("logprobs"), events)
        elif isinstance(choice.get("text"), str):
            stream.take({"content": choice["text"]}, None, events)
        if said:
            stream.finish(said, choice.get("stop_reason"), events)

    def _tell_usage(self, payload: bytes, chunk: dict[str, Any], events: list[Event]) -> None:
        usage = usage_of_openai(payload)
        if usage is not None:
            self._start(chunk, events)
            events.append(UsageTold(usage, self._tier))
