"""Turns written as `messages` of Cohere's chat.

Main entry: `TurnWriter.write`. Turns stay where they stood. Text beside calls of tools becomes their plan; results are
messages of their own, each by its call's id, and pictures of theirs go into the user's message that follows, since
results hold text alone. Text documents go into the request's `documents`, where they can be cited; Cohere's models read
no other files. Thoughts go to models that reason, as text: Cohere's have no proof.
Source: https://docs.cohere.com/reference/chat; that a reasoning model takes thoughts of others was recorded.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.facts import Media, MediaKind, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses

__all__ = ["TurnWriter"]

_Message = dict[str, Any]
_SYSTEM = (Role.System, Role.Developer)


class TurnWriter:
    """Writes the turns of one request. `documents`: what goes there."""

    __slots__ = ("_calls", "_losses", "_out", "_pictures", "_reasons", "_unanswered", "documents")

    def __init__(self, losses: Losses, *, reasons: bool) -> None:
        self._losses = losses
        self._reasons = reasons
        self._out: list[_Message] = []
        self._pictures: list[dict[str, Any]] = []
        self._calls = 0
        self._unanswered: list[tuple[str, str]] = []
        self.documents: list[dict[str, Any]] = []

    def write(self, turns: list[Turn]) -> list[_Message]:
        """The messages."""
        for at, turn in enumerate(turns):
            if turn.name is not None:
                self._losses.harmless(f"messages[{at}].name")
            if turn.role is Role.Assistant:
                self._flush()
                self._assistant(turn, f"messages[{at}]")
            elif turn.role in _SYSTEM:
                self._flush()
                self._say("system", turn, f"messages[{at}]")
            else:
                self._results(turn, f"messages[{at}]")
                self._say("user", turn, f"messages[{at}]")
        self._flush()
        return self._out

    def _flush(self) -> None:
        if self._pictures:
            self._out.append({"role": "user", "content": self._pictures})
            self._pictures = []

    def _say(self, role: str, turn: Turn, where: str) -> None:
        blocks: list[dict[str, Any]] = []
        for number, part in enumerate(turn.parts):
            match part:
                case Text() | Refusal() if part.text:
                    blocks.append({"type": "text", "text": part.text})
                case Media():
                    block = self._media(part, f"{where}.content[{number}]")
                    if block is not None:
                        blocks.append(block)
                case _:
                    pass
        if not blocks:
            return
        if role == "user" and self._pictures:
            blocks, self._pictures = self._pictures + blocks, []
        self._out.append({"role": role, "content": _short(blocks)})

    def _media(self, media: Media, where: str) -> dict[str, Any] | None:
        if media.kind is MediaKind.Image and (media.data is not None or media.url is not None):
            url = media.url or f"data:{media.mime or 'image/png'};base64,{media.data}"
            detail = {"detail": media.detail} if media.detail in ("low", "high", "auto") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        if media.text is not None:
            named = {"title": media.name} if media.name else {}
            self.documents.append({"id": f"doc:{len(self.documents)}", "data": {**named, "text": media.text}})
            return None
        what = "files that are stored elsewhere" if media.file_id is not None else f"a {media.kind.value} of this kind"
        self._losses.content(where, f"Cohere's models do not read {what}: send text or pictures")
        return None

    def _assistant(self, turn: Turn, where: str) -> None:
        blocks: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        for part in turn.parts:
            match part:
                case Text() | Refusal() if part.text:
                    blocks.append({"type": "text", "text": part.text})
                case ToolCall():
                    calls.append(self._call(part))
                case Reasoning():
                    if part.text and self._reasons:
                        blocks.append({"type": "thinking", "thinking": part.text})
                    if part.signature or part.encrypted or (part.text and not self._reasons):
                        self._losses.harmless("reasoning")
                case Media():
                    self._losses.content(where, "Cohere takes no media from the assistant")
                case _:
                    pass
        if not blocks and not calls:
            return
        message: _Message = {"role": "assistant"}
        if calls:
            plan = "".join(one["text"] for one in blocks if one["type"] == "text")
            blocks = [one for one in blocks if one["type"] != "text"]
            if plan:
                message["tool_plan"] = plan
            message["tool_calls"] = calls
        if blocks:
            message["content"] = _short(blocks)
        self._out.append(message)

    def _call(self, part: ToolCall) -> dict[str, Any]:
        self._calls += 1
        told = part.id or f"call_{self._calls}"
        self._unanswered.append((told, part.name))
        return {"id": told, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}

    def _results(self, turn: Turn, where: str) -> None:
        for number, part in enumerate(turn.parts):
            if not isinstance(part, ToolResult):
                continue
            if part.is_error:
                self._losses.harmless(f"{where}.is_error")
            texts: list[dict[str, Any]] = []
            for one in part.parts:
                if isinstance(one, Text) or one.text is not None:
                    texts.append({"type": "text", "text": one.text})
                elif (block := self._media(one, f"{where}.content[{number}]")) is not None:
                    self._pictures.append(block)
            content = _short(texts) if texts else "(see the next message)" if self._pictures else ""
            self._out.append({"role": "tool", "tool_call_id": self._answered(part), "content": content})

    def _answered(self, part: ToolResult) -> str:
        """The id of the call that this answers. Without ids the oldest open call of that name, else of any."""
        waiting = self._unanswered
        found = next((one for one in waiting if one[0] == part.call_id), None)
        if found is None and not part.call_id:
            found = next((one for one in waiting if one[1] == part.name), waiting[0] if waiting else None)
        if found is not None:
            waiting.remove(found)
            return found[0]
        return part.call_id or f"call_{self._calls}"


def _short(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text alone as a string, as Cohere's own SDK sends it."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks
