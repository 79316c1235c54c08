"""Turns, written as items of `input`.

Main entry: `ItemsWriter.write`. Thoughts go along only where they came from this format: other providers' mean nothing
here. Calls without an id (Gemini's) get one, the same for the call and its result.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.citations import flat_citation
from apikeyrouter.wire.facts import Media, MediaKind, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.responses.answer_out import item_of_call
from apikeyrouter.wire.responses.names import found_names

__all__ = ["ItemsWriter"]

_SOUNDS = {"audio/mp3": "mp3", "audio/mpeg": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


class ItemsWriter:
    """Writes one conversation."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._items: list[dict[str, Any]] = []
        self._nameless: list[tuple[str, str]] = []
        self._kinds: dict[str, str] = {}
        self._made = 0

    def write(self, turns: list[Turn]) -> list[dict[str, Any]]:
        """The items, in order."""
        for at, turn in enumerate(turns):
            if turn.name is not None:
                self._losses.harmless("name")
            if turn.role is Role.Assistant:
                self._assistant(turn, f"messages[{at}]")
            else:
                self._other(turn, f"messages[{at}]")
        return self._items

    def _other(self, turn: Turn, path: str) -> None:
        content: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, ToolResult):
                self._result(part, path)
                continue
            wire = self._input_part(part, path)
            if wire is not None:
                content.append(wire)
        if content:
            role = Role.User if turn.role is Role.Tool else turn.role
            self._items.append({"type": "message", "role": role.value, "content": content})

    def _assistant(self, turn: Turn, path: str) -> None:
        content: list[dict[str, Any]] = []
        for part in turn.parts:
            match part:
                case Text():
                    notes = [told for one in part.annotations or () if (told := flat_citation(one))]
                    words = {"type": "output_text", "text": part.text, "annotations": notes}
                    content = self._say(content, words)
                case Refusal():
                    content = self._say(content, {"type": "refusal", "refusal": part.text})
                case ToolCall():
                    content = []
                    self._call(part)
                case Reasoning():
                    content = []
                    self._thoughts(part)
                case _:
                    self._losses.content(path, "the assistant's own turns can hold no pictures, sounds or documents")

    def _say(self, content: list[dict[str, Any]], words: dict[str, Any]) -> list[dict[str, Any]]:
        if not content:
            self._items.append({"type": "message", "role": "assistant", "content": content})
        content.append(words)
        return content

    def _call(self, part: ToolCall) -> None:
        call_id = part.id
        if not call_id:
            self._made += 1
            call_id = f"call_{self._made}"
            self._nameless.append((part.name, call_id))
        if part.signature is not None:
            self._losses.harmless("signature")
        item = item_of_call(part, call_id)
        del item["id"]
        item.pop("status", None)
        item["call_id"] = call_id
        self._kinds[call_id] = item["type"]
        self._items.append(item)

    def _result(self, part: ToolResult, path: str) -> None:
        call_id = part.call_id or self._id_for(part.name)
        if part.is_error:
            self._losses.harmless("is_error")
        if len(part.parts) == 1 and isinstance(part.parts[0], Text):
            output: Any = part.parts[0].text
        else:
            output = [wire for one in part.parts if (wire := self._input_part(one, path)) is not None] or ""
        kind = self._kinds.get(call_id, "function_call")
        names = found_names(output) if kind == "tool_search_call" and isinstance(output, str) else None
        if names is not None:  # the definitions stand among the tools
            found = [{"type": "function", "name": name} for name in names]
            told = {"type": "tool_search_output", "execution": "client", "status": "completed", "tools": found}
            self._items.append({**told, "call_id": call_id})
            return
        kind = "function_call" if kind == "tool_search_call" else kind
        self._items.append({"type": f"{kind}_output", "call_id": call_id, "output": output})

    def _id_for(self, name: str | None) -> str:
        """The id that we made up for the oldest call of this name that has no result yet."""
        for at, (known, call_id) in enumerate(self._nameless):
            if name is None or known == name:
                del self._nameless[at]
                return call_id
        return "call_0"

    def _thoughts(self, part: Reasoning) -> None:
        if part.origin != Wire.Responses.value or (part.encrypted is None and part.id is None):
            self._losses.harmless("reasoning")
            return
        item: dict[str, Any] = {"type": "reasoning"}
        if part.id is not None:
            item["id"] = part.id
        item["summary"] = [{"type": "summary_text", "text": part.text}] if part.text else []
        if part.encrypted is not None:
            item["encrypted_content"] = part.encrypted
        self._items.append(item)

    def _input_part(self, part: Part, path: str) -> dict[str, Any] | None:
        match part:
            case Text():
                return {"type": "input_text", "text": part.text}
            case Media():
                return self._media(part, path)
            case Refusal():
                return {"type": "input_text", "text": part.text}
            case Reasoning():
                self._losses.harmless("reasoning")
                return None
            case _:
                self._losses.content(path, "tool calls can stand in the assistant's turns only")
                return None

    def _media(self, part: Media, path: str) -> dict[str, Any] | None:
        if part.url is not None and not part.url.startswith(("http://", "https://")):
            self._losses.content(path, f"OpenAI cannot fetch {part.url.partition(':')[0]} URLs")
            return None
        match part.kind:
            case MediaKind.Image:
                return _image(part)
            case MediaKind.Document:
                return _document(part)
            case MediaKind.Audio if part.data is not None and part.mime in _SOUNDS:
                return {"type": "input_audio", "input_audio": {"data": part.data, "format": _SOUNDS[part.mime]}}
            case _:
                self._losses.content(path, f"the Responses API takes no {part.kind.value} of this kind")
                return None


def _image(part: Media) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "input_image", "detail": part.detail or "auto"}
    if part.file_id is not None:
        out["file_id"] = part.file_id
    else:
        out["image_url"] = part.url or f"data:{part.mime or 'image/png'};base64,{part.data or ''}"
    return out


def _document(part: Media) -> dict[str, Any]:
    if part.text is not None:
        return {"type": "input_text", "text": f"{part.name}\n\n{part.text}" if part.name else part.text}
    out: dict[str, Any] = {"type": "input_file"}
    if part.file_id is not None:
        out["file_id"] = part.file_id
    elif part.url is not None:
        out["file_url"] = part.url
    else:
        mime = part.mime or "application/pdf"
        out["filename"] = part.name or f"document.{mime.rpartition('/')[2]}"
        out["file_data"] = f"data:{mime};base64,{part.data or ''}"
    return out
