"""Items of a streamed response while they grow: a message, a tool call, a train of thought.

`Output` numbers events and items and keeps the finished ones; the items write themselves into it. Pieces of text take
the short way: bytes prepared when the part began, and two numbers.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from apikeyrouter.wire.citations import flat_citation
from apikeyrouter.wire.facts import PartDelta, Reasoning, Refusal, Text, ToolCall
from apikeyrouter.wire.responses.answer_out import (
    item_of_call,
    item_of_signature,
    item_of_thoughts,
    text_part,
)
from apikeyrouter.wire.responses.errors import event_bytes
from apikeyrouter.wire.responses.names import SEARCH, split

__all__ = ["CallItem", "Item", "MessageItem", "Output", "ThoughtItem"]

_encode = msgspec.json.encode


class Item(Protocol):
    """An item that grows."""

    def more(self, delta: PartDelta) -> None:
        """Takes a piece."""
        ...

    def end(self, index: int) -> None:
        """A part of it is complete."""
        ...


class Output:
    """What was written and not taken yet, and all items so far. `number`: of the next event. `message`: the one that
    further words belong to. `status`: of a message that ends now."""

    __slots__ = ("_out", "base", "items", "message", "number", "status")

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self.base = ""
        self.items: list[dict[str, Any]] = []
        self.message: MessageItem | None = None
        self.number = 0
        self.status = "completed"

    def take(self) -> bytes:
        """The bytes since the last time."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self._out.append(data)

    def tell(self, kind: str, members: dict[str, Any]) -> None:
        """One event."""
        self._out.append(event_bytes(kind, {**members, "sequence_number": self.number}))
        self.number += 1

    def piece(self, head: bytes, delta: str, tail: bytes) -> None:
        """A frequent event: `head` ends before the delta, `tail` before the number."""
        self._out.append(b"%b%b%b%d}\n\n" % (head, _encode(delta), tail, self.number))
        self.number += 1

    def place(self, prefix: str) -> tuple[int, str]:
        """Index and id of a new item; it keeps its place from now on."""
        at = len(self.items)
        self.items.append({})
        return at, f"{prefix}_{self.base}_{at}"

    def added(self, at: int, item: dict[str, Any]) -> None:
        """An item begins."""
        self.items[at] = item
        self.tell("response.output_item.added", {"output_index": at, "item": item})

    def done(self, at: int, item: dict[str, Any]) -> None:
        """An item is whole."""
        self.items[at] = item
        self.tell("response.output_item.done", {"output_index": at, "item": item})

    def seal(self) -> None:
        """Something other than words begins: later words are a new message."""
        message, self.message = self.message, None
        if message is not None:
            message.seal()


def _head(kind: str, members: dict[str, Any]) -> bytes:
    """An event up to its delta."""
    body = _encode({"type": kind, **members})
    return b"event: " + kind.encode() + b"\ndata: " + body[:-1] + b',"delta":'


class MessageItem:
    """A message. Its parts may overlap; it is done when no part runs and something else has begun."""

    __slots__ = ("_at", "_content", "_heads", "_id", "_out", "_parts", "_pieces", "_sealed")

    _TAIL = b',"logprobs":[],"sequence_number":'
    _REFUSAL_TAIL = b',"sequence_number":'

    def __init__(self, out: Output) -> None:
        self._out = out
        self._at, self._id = out.place("msg")
        self._content: list[dict[str, Any]] = []
        self._parts: dict[int, tuple[int, Text | Refusal, list[Any]]] = {}
        self._pieces: dict[int, list[str]] = {}
        self._heads: dict[int, tuple[bytes, bytes]] = {}
        self._sealed = False
        out.message = self
        out.added(self._at, self._item("in_progress", []))

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": content}

    def begin(self, index: int, part: Text | Refusal) -> None:
        """A part of it begins."""
        at = len(self._content)
        where = {"item_id": self._id, "output_index": self._at, "content_index": at}
        empty = text_part(Text("") if isinstance(part, Text) else Refusal(""), [])
        self._content.append(empty)
        self._parts[index] = (at, Text("") if isinstance(part, Text) else Refusal(""), [])
        self._pieces[index] = []
        if isinstance(part, Text):
            self._heads[index] = (_head("response.output_text.delta", where), self._TAIL)
        else:
            self._heads[index] = (_head("response.refusal.delta", where), self._REFUSAL_TAIL)
        self._out.tell("response.content_part.added", {**where, "part": empty})
        if part.text:
            self.more(PartDelta(index, part.text))

    def more(self, delta: PartDelta) -> None:
        """Takes a piece."""
        index = delta.index
        if delta.text:
            self._pieces[index].append(delta.text)
            head, tail = self._heads[index]
            if delta.logprobs is None:
                self._out.piece(head, delta.text, tail)
            else:
                told = list(delta.logprobs.get("content") or ())
                self._parts[index][2].extend(told)
                self._out.piece(head, delta.text, b',"logprobs":' + _encode(told) + self._REFUSAL_TAIL)
        if delta.annotations:
            self._annotate(index, delta.annotations)

    def _annotate(self, index: int, annotations: list[dict[str, Any]]) -> None:
        at, part, _ = self._parts[index]
        if not isinstance(part, Text):
            return
        kept = part.annotations = part.annotations or []
        for one in filter(None, map(flat_citation, annotations)):
            where = {"item_id": self._id, "output_index": self._at, "content_index": at}
            told = {**where, "annotation_index": len(kept), "annotation": one}
            self._out.tell("response.output_text.annotation.added", told)
            kept.append(one)

    def end(self, index: int) -> None:
        """A part of it is complete."""
        at, part, logprobs = self._parts.pop(index)
        part.text = "".join(self._pieces.pop(index))
        del self._heads[index]
        wire = self._content[at] = text_part(part, logprobs)
        where = {"item_id": self._id, "output_index": self._at, "content_index": at}
        if isinstance(part, Text):
            self._out.tell("response.output_text.done", {**where, "text": part.text, "logprobs": logprobs})
        else:
            self._out.tell("response.refusal.done", {**where, "refusal": part.text})
        self._out.tell("response.content_part.done", {**where, "part": wire})
        self._close_if_over()

    def seal(self) -> None:
        """No more parts will begin."""
        self._sealed = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._sealed and not self._parts:
            self._out.done(self._at, self._item(self._out.status, self._content))


class CallItem:
    """A tool call. What is no function (`_custom`: free text, a search for tools) is told when it is whole, since it
    comes wrapped in JSON."""

    __slots__ = ("_at", "_custom", "_head", "_id", "_out", "_part", "_pieces")

    def __init__(self, out: Output, part: ToolCall) -> None:
        self._out = out
        search = part.name == SEARCH
        self._custom = search or split(part.name)[2]
        self._at, self._id = out.place("tsc" if search else "ctc" if self._custom else "fc")
        self._part = ToolCall(part.id or self._id, part.name, "", signature=part.signature)
        self._pieces: list[str] = []
        begun = item_of_call(self._part, self._id)
        if not search:
            begun["input" if self._custom else "arguments"] = ""
        if "status" in begun:
            begun["status"] = "in_progress"
        where = {"item_id": self._id, "output_index": self._at}
        self._head = _head("response.function_call_arguments.delta", where)
        out.added(self._at, begun)
        if part.arguments:
            self.more(PartDelta(0, part.arguments))

    def more(self, delta: PartDelta) -> None:
        """Takes a piece."""
        if delta.signature is not None:
            self._part.signature = delta.signature
        if delta.text:
            self._pieces.append(delta.text)
            if not self._custom:
                self._out.piece(self._head, delta.text, b',"sequence_number":')

    def end(self, index: int) -> None:
        """It is complete."""
        out = self._out
        if not self._pieces:
            self.more(PartDelta(index, "{}"))
        self._part.arguments = "".join(self._pieces)
        item = item_of_call(self._part, self._id)
        where = {"item_id": self._id, "output_index": self._at}
        if "input" in item:
            out.tell("response.custom_tool_call_input.delta", {**where, "delta": item["input"]})
            out.tell("response.custom_tool_call_input.done", {**where, "input": item["input"]})
        elif not self._custom:
            told = {**where, "name": item["name"], "arguments": item["arguments"]}
            out.tell("response.function_call_arguments.done", told)
        out.done(self._at, item)
        if self._part.signature is not None:
            at, item_id = out.place("rs")
            proof = item_of_signature(self._part, item_id)
            out.added(at, proof)
            out.done(at, proof)


class ThoughtItem:
    """A train of thought, told as a summary of one paragraph."""

    __slots__ = ("_at", "_head", "_id", "_out", "_part", "_pieces")

    def __init__(self, out: Output, part: Reasoning) -> None:
        self._out = out
        self._at, self._id = out.place("rs")
        self._part = Reasoning("", part.signature, part.encrypted, part.id, part.origin)
        self._id = part.id or self._id
        self._pieces: list[str] = []
        where = {"item_id": self._id, "output_index": self._at, "summary_index": 0}
        self._head = _head("response.reasoning_summary_text.delta", where)
        out.added(self._at, {"id": self._id, "type": "reasoning", "summary": []})
        if part.text:
            self.more(PartDelta(0, part.text))

    def _where(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._at, "summary_index": 0}

    def more(self, delta: PartDelta) -> None:
        """Takes a piece."""
        if delta.signature is not None:
            self._part.signature = delta.signature
        if delta.encrypted is not None:
            self._part.encrypted = delta.encrypted
        if delta.text:
            if not self._pieces:
                empty = {"type": "summary_text", "text": ""}
                self._out.tell("response.reasoning_summary_part.added", {**self._where(), "part": empty})
            self._pieces.append(delta.text)
            self._out.piece(self._head, delta.text, b',"sequence_number":')

    def end(self, index: int) -> None:  # noqa: ARG002 - it has one part
        """It is complete."""
        out = self._out
        if self._pieces:
            text = self._part.text = "".join(self._pieces)
            out.tell("response.reasoning_summary_text.done", {**self._where(), "text": text})
            part = {"type": "summary_text", "text": text}
            out.tell("response.reasoning_summary_part.done", {**self._where(), "part": part})
        out.done(self._at, item_of_thoughts(self._part, self._id))
