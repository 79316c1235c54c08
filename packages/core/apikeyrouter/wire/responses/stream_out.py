"""A stream of `Event`s, written for a client of this format.

Main entry: `ResponsesEncoder`. Words (text, refusals) that follow each other are parts of one message item; each tool
call and each train of thought is an item of its own. `sequence_number` counts all events from 0; the frequent ones are
put together from prepared bytes.
Laws: what is added is done, in pairs, before the terminal event, which holds every item whole; no `[DONE]`.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.citations import tier_told
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
    Refusal,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.responses.answer_out import (
    ending_of,
    item_of_media,
    plain_id,
    response_id,
    response_object,
    usage_object,
)
from apikeyrouter.wire.responses.errors import error_events
from apikeyrouter.wire.responses.running import CallItem, Item, MessageItem, Output, ThoughtItem

__all__ = ["ResponsesEncoder"]


class ResponsesEncoder:
    """See `StreamEncoder`. `ask_model`: told where the provider names no model."""

    def __init__(self, ask_model: str) -> None:
        self._model = ask_model
        self._output = Output()
        self._items: dict[int, Item] = {}
        self._parts: list[Part] = []
        self._reply_id = ""
        self._created_s = 0
        self._stop = Stop.End
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._failed = False

    def encode(self, event: Event) -> bytes:
        """The event as this format says it."""
        out = self._output
        match event:
            case PartDelta():
                item = self._items.get(event.index)
                if item is not None and event.choice == 0:
                    item.more(event)
            case PartStarted() if event.choice == 0:
                self._begin(event.index, event.part)
            case PartEnded() if event.choice == 0:
                item = self._items.pop(event.index, None)
                if item is not None:
                    item.end(event.index)
            case Started():
                self._start(event)
            case Finished() if event.choice == 0:
                self._stop = event.stop
            case UsageTold():
                self._usage, self._tier = event.usage, tier_told(event.service_tier) or self._tier
            case Failed():
                self._fail(event)
            case _:
                pass
        return out.take()

    def finish(self) -> bytes:
        """Closes what runs and tells the whole response."""
        if self._failed:
            return b""
        out = self._output
        if not self._reply_id:
            self._start(Started("", self._model))
        for index, item in list(self._items.items()):
            item.end(index)
        status, details = ending_of(self._stop, self._parts)
        out.status = status
        out.seal()
        response = self._response(status)
        response["incomplete_details"] = details
        response["usage"] = usage_object(self._usage)
        out.tell(f"response.{status}", {"response": response})
        return out.take()

    def _start(self, event: Started) -> None:
        self._reply_id = response_id(event.id)
        self._model = event.model or self._model
        self._created_s = event.created_s
        self._usage = event.usage
        self._output.base = plain_id(self._reply_id)
        told = self._response("in_progress")
        self._output.tell("response.created", {"response": told})
        self._output.tell("response.in_progress", {"response": told})

    def _response(self, status: str) -> dict[str, Any]:
        response = response_object(self._reply_id, self._model, self._created_s, status, self._output.items)
        if self._tier is not None:
            response["service_tier"] = self._tier
        return response

    def _begin(self, index: int, part: Part) -> None:
        if not self._reply_id:
            self._start(Started("", self._model))
        out = self._output
        self._parts.append(part)
        match part:
            case Text() | Refusal():
                message = out.message or MessageItem(out)
                message.begin(index, part)
                self._items[index] = message
            case ToolCall():
                out.seal()
                self._items[index] = CallItem(out, part)
            case Reasoning():
                out.seal()
                self._items[index] = ThoughtItem(out, part)
            case Media() if part.data is not None:
                out.seal()
                at, item_id = out.place("ig")
                item = item_of_media(part, item_id)
                out.added(at, {**item, "status": "in_progress", "result": None})
                out.done(at, item)
            case _:
                pass

    def _fail(self, event: Failed) -> None:
        self._failed = True
        if not self._reply_id:
            self._reply_id = response_id(event.error.request_id or "")
        out = self._output
        out.raw(error_events(event.error, out.number, self._response("failed")))
