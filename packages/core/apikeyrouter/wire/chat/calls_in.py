"""Tool calls in a stream, put in order.

`CallStream` belongs to one choice. Servers send calls one after another, in pieces or whole, some mixed; with an index
or without, with the id once, always, or never. What comes out is one call after another, each started, continued and
ended, with the pieces of calls behind the running one held back until its arguments are complete JSON.
Law: the arguments of each call are the concatenation of its pieces, whatever was mixed in between.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.chat.identities import made_up_id
from apikeyrouter.wire.chat.members import json_text
from apikeyrouter.wire.facts import Event, PartDelta, PartEnded, PartStarted, ToolCall

__all__ = ["CallStream"]

_MAX_CALLS = 1_000


class _Running:
    __slots__ = ("given_id", "index", "name", "part", "pending", "signature", "text")

    def __init__(self, index: object) -> None:
        self.index = index
        self.given_id = ""
        self.name = ""
        self.signature: str | None = None
        self.part = -1
        self.pending: list[str] = []
        self.text: list[str] = []

    def complete(self) -> bool:
        """Whether its arguments are whole."""
        last = self.pending[-1] if self.pending else self.text[-1] if self.text else ""
        if not last.endswith("}"):
            return False
        text = "".join(self.text) + "".join(self.pending)
        try:
            msgspec.json.decode(text, type=dict)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False
        return True


class CallStream:
    """`any`: whether there was a call. `number`: of the choice; `reply_id`: for ids that have to be made up."""

    __slots__ = ("_calls", "_head", "any", "number", "reply_id")

    def __init__(self, number: int, reply_id: str) -> None:
        self.number = number
        self.reply_id = reply_id
        self.any = False
        self._calls: list[_Running] = []
        self._head = 0

    @property
    def running(self) -> bool:
        """Whether a call is not ended yet."""
        return self._head < len(self._calls)

    @property
    def complete(self) -> bool:
        """Whether all that is known of the calls is whole: then something else may begin."""
        return all(call.complete() for call in self._calls[self._head :])

    def take(self, delta: object, next_part: int, events: list[Event]) -> int:
        """One entry of `tool_calls`; returns the index of the next part."""
        if not isinstance(delta, dict):
            return next_part
        function = delta.get("function")
        if not isinstance(function, dict):
            function = {}
        call = self._of(delta, function)
        if call is None:
            return next_part
        self.any = True
        name, identity = function.get("name"), delta.get("id")
        if not call.name and isinstance(name, str):
            call.name = name
        if not call.given_id and isinstance(identity, str):
            call.given_id = identity
        call.signature = call.signature or _signature(delta)
        arguments = function.get("arguments")
        if arguments is not None:
            call.pending.append(json_text(arguments))
        return self._pump(next_part, events)

    def end(self, next_part: int, events: list[Event]) -> int:
        """Ends whatever runs, and tells what was held back."""
        while self._head < len(self._calls):
            call = self._calls[self._head]
            next_part = self._tell(call, next_part, events)
            events.append(PartEnded(call.part, self.number))
            self._head += 1
        return next_part

    def _of(self, delta: dict[str, Any], function: dict[str, Any]) -> _Running | None:
        """The call that a piece belongs to: by index, but a new id with a new name is a new call whatever the index;
        without an index by id, without both the last one."""
        index, identity = delta.get("index"), delta.get("id")
        found: _Running | None = None
        if index is not None:
            found = next((call for call in reversed(self._calls) if call.index == index), None)
            if found is not None and identity and found.given_id not in ("", identity) and function.get("name"):
                found = None
        elif identity:
            found = next((call for call in reversed(self._calls) if call.given_id == identity), None)
        elif self._calls and not (function.get("name") and self._calls[-1].complete()):
            found = self._calls[-1]
        if found is None:
            if len(self._calls) >= _MAX_CALLS:
                return None
            found = _Running(index)
            self._calls.append(found)
        return found if self._calls.index(found) >= self._head else None

    def _pump(self, next_part: int, events: list[Event]) -> int:
        while True:
            call = self._calls[self._head]
            if not call.name:
                return next_part
            next_part = self._tell(call, next_part, events)
            if self._head + 1 == len(self._calls) or not call.complete():
                return next_part
            events.append(PartEnded(call.part, self.number))
            self._head += 1

    def _tell(self, call: _Running, next_part: int, events: list[Event]) -> int:
        if call.part < 0:
            call.part = next_part
            next_part += 1
            place = self._calls.index(call)
            identity = call.given_id or made_up_id(self.reply_id, self.number * 100 + place)
            events.append(PartStarted(call.part, ToolCall(identity, call.name, ""), self.number))
        if call.pending:
            text = "".join(call.pending)
            call.pending.clear()
            if text:
                call.text.append(text)
                events.append(PartDelta(call.part, text, self.number))
        if call.signature is not None:
            events.append(PartDelta(call.part, "", self.number, signature=call.signature))
            call.signature = None
        return next_part


def _signature(delta: dict[str, Any]) -> str | None:
    extra = delta.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None
