"""A provider's event stream, read into `Event`s.

Main entry: `ResponsesDecoder`. The events name their item by `output_index` and their part by `content_index`; here
each becomes one running part. What a server forgot to send piece by piece (some send whole items only) is taken from
the `done` events and from the final response, so nothing is lost and nothing is told twice.
Law: never raises; one `Started` first; every part ends before `Finished`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apikeyrouter.domain.cost.usage import usage_of_openai_object
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    ErrorFact,
    Event,
    Failed,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.responses.answer_in import chat_logprobs, failure_of, parts_of_item, stop_of
from apikeyrouter.wire.responses.items_in import read_call
from apikeyrouter.wire.responses.sse import Frames

__all__ = ["ResponsesDecoder"]

_ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}


class _Running:
    """One part. `told`: characters of it that went out. `cited`: whether its annotations did."""

    __slots__ = ("cited", "ended", "index", "part", "told")

    def __init__(self, index: int, part: Part) -> None:
        self.index = index
        self.part = part
        self.told = 0
        self.cited = False
        self.ended = False


class ResponsesDecoder:
    """See `StreamDecoder`."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._parts: dict[tuple[int, int], _Running] = {}
        self._said: list[Part] = []
        self._whole: set[int] = set()
        self._thinks_in: dict[int, str] = {}
        self._out: list[Event] = []
        self._started = False
        self._failed = False
        self.done = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events in these bytes."""
        return self._read(self._frames.feed(chunk))

    def finish(self) -> Sequence[Event]:
        """What was unfinished. Without a terminal event nothing is made up: the stream broke off."""
        return self._read(self._frames.finish())

    def _read(self, events: list[dict[str, Any]]) -> Sequence[Event]:
        self._out = []
        for event in events:
            if self.done:
                break
            try:
                self._event(event)
            except (ValueError, MalformedError) as error:
                self._fail(ErrorFact(502, f"The provider's stream could not be translated: {error}", "bad_reply"))
        if self._frames.overrun and not self.done:
            self._fail(ErrorFact(502, "The provider sent an event larger than 16 MiB.", "event_too_large"))
        return self._out

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "response.output_text.delta":
            self._delta(event, Text(""), event.get("logprobs"))
            return
        if not isinstance(kind, str):
            if event.get("error"):
                self._fail(failure_of(event))
            return
        if not self._started and kind != "error":
            self._start(event.get("response"))
        if kind in _ENDS:
            self._end(kind, event.get("response"))
            return
        if kind == "error":
            self._fail(failure_of(event))
            return
        self._inner(kind, event)

    def _inner(self, kind: str, event: dict[str, Any]) -> None:
        match kind:
            case "response.refusal.delta":
                self._delta(event, Refusal(""))
            case "response.function_call_arguments.delta":
                running = self._parts.get((_index(event, "output_index"), 0))
                if running is not None:
                    self._more(running, _text(event, "delta"))
            case "response.output_text.annotation.added":
                annotation = event.get("annotation")
                if isinstance(annotation, dict):
                    running = self._running(event, Text(""))
                    running.cited = True
                    self._out.append(PartDelta(running.index, annotations=[annotation]))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._thought(event, kind)
            case "response.output_item.added":
                self._item_added(event)
            case "response.output_item.done":
                self._item_done(_index(event, "output_index"), event.get("item"))
            case _:
                pass

    # -- parts ------------------------------------------------------------------------------------------------------

    def _start(self, response: object) -> None:
        self._started = True
        told: dict[str, Any] = response if isinstance(response, dict) else {}
        created = told.get("created_at")
        self._out.append(
            Started(
                _text(told, "id"),
                _text(told, "model"),
                created_s=int(created) if isinstance(created, (int, float)) else 0,
            )
        )

    def _open(self, key: tuple[int, int], part: Part) -> _Running:
        if not self._started:
            self._start(None)
        running = self._parts[key] = _Running(len(self._parts), part)
        self._said.append(part)
        self._out.append(PartStarted(running.index, part))
        return running

    def _running(self, event: dict[str, Any], fresh: Part) -> _Running:
        key = (_index(event, "output_index"), _index(event, "content_index"))
        return self._parts.get(key) or self._open(key, fresh)

    def _more(self, running: _Running, text: str, logprobs: dict[str, Any] | None = None) -> None:
        if text and not running.ended:
            running.told += len(text)
            self._out.append(PartDelta(running.index, text, logprobs=logprobs))

    def _delta(self, event: dict[str, Any], fresh: Part, logprobs: object = None) -> None:
        found = chat_logprobs(logprobs) if isinstance(logprobs, list) and logprobs else None
        self._more(self._running(event, fresh), _text(event, "delta"), found)

    def _thought(self, event: dict[str, Any], kind: str) -> None:
        """Thoughts and their summary tell the same twice: the first of the two that comes is told. Paragraphs of a
        summary are joined by a blank line."""
        at = _index(event, "output_index")
        if self._thinks_in.setdefault(at, kind) != kind:
            return
        running = self._parts.get((at, 0))
        paragraph = _index(event, "summary_index" if "summary" in kind else "content_index")
        if running is None:
            item_id = _text(event, "item_id") or None
            running = self._open((at, 0), Reasoning(id=item_id, origin=Wire.Responses.value))
        elif self._thinks_in.get(-1 - at) not in (None, str(paragraph)) and running.told:
            self._more(running, "\n\n")
        self._thinks_in[-1 - at] = str(paragraph)
        self._more(running, _text(event, "delta"))

    def _item_added(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if not isinstance(item, dict) or item.get("type") not in ("function_call", "custom_tool_call"):
            return  # others are told when they are whole
        at = _index(event, "output_index")
        if (at, 0) not in self._parts:
            call = read_call({**item, "arguments": "", "input": ""}, f"output[{at}]")
            self._open((at, 0), ToolCall(call.id, call.name, ""))

    def _item_done(self, at: int, item: object) -> None:
        """Tells what of the item was not told yet, and ends its parts."""
        if not isinstance(item, dict) or at in self._whole:
            return
        self._whole.add(at)
        for number, part in enumerate(parts_of_item(item, f"output[{at}]")):
            running = self._parts.get((at, number))
            if running is None:
                running = self._open((at, number), _empty(part))
            self._complete(running, part)
        for key, running in self._parts.items():
            if key[0] == at:
                self._close(running)

    def _complete(self, running: _Running, part: Part) -> None:
        match part:
            case Text() | Refusal():
                self._more(running, part.text[running.told :])
            case ToolCall():
                self._more(running, part.arguments[running.told :])
            case Reasoning():
                if not running.told:
                    self._more(running, part.text)
                if part.encrypted is not None or part.signature is not None:
                    self._out.append(PartDelta(running.index, signature=part.signature, encrypted=part.encrypted))
            case _:
                pass
        if isinstance(part, Text) and part.annotations and not running.cited:
            self._out.append(PartDelta(running.index, annotations=part.annotations))

    def _close(self, running: _Running) -> None:
        if not running.ended:
            running.ended = True
            self._out.append(PartEnded(running.index))

    # -- ends -------------------------------------------------------------------------------------------------------

    def _end(self, kind: str, response: object) -> None:
        told: dict[str, Any] = response if isinstance(response, dict) else {}
        if kind in ("response.failed", "response.cancelled"):
            self._fail(failure_of(told))
            return
        items = told.get("output")
        for at, item in enumerate(items if isinstance(items, list) else ()):
            self._item_done(at, item)
        for running in self._parts.values():
            self._close(running)
        usage = usage_of_openai_object(told)
        self.done = True
        self._out.append(Finished(stop_of({"status": kind.removeprefix("response."), **told}, self._said)))
        if usage is not None:
            tier = told.get("service_tier")
            self._out.append(UsageTold(usage, tier if isinstance(tier, str) else None))

    def _fail(self, error: ErrorFact) -> None:
        if not self._failed:
            self._failed = self.done = True
            self._out.append(Failed(error))


def _empty(part: Part) -> Part:
    """The part as it begins; pictures come whole."""
    match part:
        case Text():
            return Text("")
        case Refusal():
            return Refusal("")
        case ToolCall():
            return ToolCall(part.id, part.name, "")
        case Reasoning():
            return Reasoning(id=part.id, origin=part.origin)
        case _:
            return part


def _index(event: dict[str, Any], name: str) -> int:
    found = event.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _text(holder: dict[str, Any], name: str) -> str:
    found = holder.get(name)
    return found if isinstance(found, str) else ""
