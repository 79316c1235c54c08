"""Events written as a stream of messages.

Main entry: `MessagesEncoder`. Messages says one block after the other: pieces of a part that comes while another is
open wait until that one has ended. What stops a reply and what it used come in one event, so both wait for the end.
Law: blocks are numbered without gaps in the order in which they begin, as SDKs append them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.facts import (
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
    Stop,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.messages.answer import ORIGIN, call_id, message_id
from apikeyrouter.wire.messages.errors import error_event
from apikeyrouter.wire.messages.words import STOP_NAMES, citations_of, usage_members

__all__ = ["MessagesEncoder"]

_encode = msgspec.json.encode
_STOP_EVENT = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)
_KINDS = {
    Text: (b"text_delta", b"text"),
    Refusal: (b"text_delta", b"text"),
    ToolCall: (b"input_json_delta", b"partial_json"),
    Reasoning: (b"thinking_delta", b"thinking"),
}


class _Block:
    """One part on its way. `number`: its index among the blocks; -1 as long as it has not begun. `waiting`: events that
    came while another block was open."""

    __slots__ = ("kind", "number", "part", "waiting")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.kind = _KINDS[type(part)]
        self.number = -1
        self.waiting: list[PartDelta | PartEnded] = []


class MessagesEncoder:
    """See `StreamEncoder`."""

    __slots__ = ("_ask_model", "_blocks", "_current", "_failed", "_id", "_next", "_refused", "_stop", "_usage")

    def __init__(self, ask_model: str) -> None:
        self._ask_model = ask_model
        self._id: str | None = None
        self._blocks: dict[int, _Block] = {}
        self._current: int | None = None
        self._next = 0
        self._stop: Finished | None = None
        self._usage: Usage | None = None
        self._refused = self._failed = False

    def encode(self, event: Event) -> bytes:
        """The event as this format says it; b"" for what must wait, and for choices beside the first."""
        if isinstance(event, PartDelta):
            return self._piece(event) if event.choice == 0 else b""
        if self._failed:
            return b""
        match event:
            case PartStarted() if event.choice == 0 and type(event.part) in _KINDS:
                self._blocks[event.index] = _Block(event.part)
                self._refused = self._refused or isinstance(event.part, Refusal)
                return self._started(event) if self._current is None else b""
            case PartEnded() if event.choice == 0:
                return self._ended(event)
            case Started():
                return self._begin(event)
            case Finished() if event.choice == 0:
                self._stop = self._stop or event
            case UsageTold():
                self._usage = event.usage
            case Failed():
                self._failed = True
                return error_event(event.error)
            case _:
                pass
        return b""

    def finish(self) -> bytes:
        """Why it stopped, what it used, and the end."""
        if self._failed:
            return b""
        out = b"" if self._id is not None else self._begin(Started("", self._ask_model))
        for index in list(self._blocks):
            out += self._ended(PartEnded(index))
        stop = self._stop or Finished(Stop.End)
        reason = "refusal" if self._refused and stop.stop is Stop.End else STOP_NAMES[stop.stop]
        delta = {"stop_reason": reason, "stop_sequence": stop.stop_sequence}
        told = {"type": "message_delta", "delta": delta, "usage": usage_members(self._usage)}
        return out + b"event: message_delta\ndata: " + _encode(told) + b"\n\n" + _STOP_EVENT

    def _begin(self, event: Started) -> bytes:
        if self._id is not None:
            return b""
        self._id = event.id
        self._usage = event.usage or self._usage
        message: dict[str, Any] = {
            "id": message_id(event.id),
            "type": "message",
            "role": "assistant",
            "model": event.model or self._ask_model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_members(self._usage),
        }
        return b"event: message_start\ndata: " + _encode({"type": "message_start", "message": message}) + b"\n\n"

    def _started(self, event: PartStarted) -> bytes:
        self._current = event.index
        out = b"" if self._id is not None else self._begin(Started("", self._ask_model))
        block = self._blocks[event.index]
        return out if isinstance(block.part, Reasoning) else out + self._opened(block)

    def _opened(self, block: _Block, encrypted: str | None = None) -> bytes:
        """The event that begins a block. One of reasoning begins with its first piece, which tells its kind."""
        part = block.part
        members: dict[str, Any]
        match part:
            case ToolCall():
                told = part.id or call_id(self._id or "", self._next)
                members = {"type": "tool_use", "id": told, "name": part.name, "input": {}}
            case Reasoning() if encrypted is not None:
                members = {"type": "redacted_thinking", "data": encrypted}
            case Reasoning():
                members = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                members = {"type": "text", "text": ""}
        block.number = self._next
        self._next += 1
        event = {"type": "content_block_start", "index": block.number, "content_block": members}
        return b"event: content_block_start\ndata: " + _encode(event) + b"\n\n"

    def _piece(self, event: PartDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is None or self._failed:
            return b""
        if event.index != self._current:
            block.waiting.append(event)
            return b""
        out = b""
        if isinstance(block.part, Reasoning):
            out = self._thought(block, event)
            if block.number < 0:
                return out
        if event.text:
            kind, member = block.kind
            out += _DELTA % (block.number, kind, member, _encode(event.text))
        for citation in citations_of(event.annotations) if event.annotations else ():
            out += _DELTA % (block.number, b"citations_delta", b"citation", _encode(citation))
        return out

    def _thought(self, block: _Block, event: PartDelta) -> bytes:
        """What of reasoning goes before its text: its beginning; proofs of other formats mean nothing here."""
        part = block.part
        own = isinstance(part, Reasoning) and part.origin == ORIGIN
        encrypted = event.encrypted if own else None
        if block.number < 0 and (event.text or encrypted is not None or (own and event.signature)):
            opened = self._opened(block, encrypted)
        else:
            opened = b""
        if own and event.signature and block.number >= 0:
            opened += _DELTA % (block.number, b"signature_delta", b"signature", _encode(event.signature))
        return opened

    def _ended(self, event: PartEnded) -> bytes:
        block = self._blocks.get(event.index)
        if block is None:
            return b""
        if event.index != self._current:
            block.waiting.append(event)
            return b""
        del self._blocks[event.index]
        self._current = None
        out = _BLOCK_STOP % block.number if block.number >= 0 else b""
        return out + self._caught_up()

    def _caught_up(self) -> bytes:
        """The next part that waits, with all that was said of it."""
        for index, block in self._blocks.items():
            waiting, block.waiting = block.waiting, []
            out = self._started(PartStarted(index, block.part))
            for event in waiting:
                out += self._piece(event) if isinstance(event, PartDelta) else self._ended(event)
            return out
        return b""
