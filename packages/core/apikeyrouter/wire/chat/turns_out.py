"""Turns, written as messages of chat completions.

Main entry: `write_messages`. Laws: order stays; a content that is one text is a string, as every server takes it;
base64 is copied as it is. Tools can only return text here: pictures of a result follow in a message of the user behind
the last result, and are reported.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Any

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.chat import families
from apikeyrouter.wire.chat.identities import CallIds
from apikeyrouter.wire.chat.thoughts import detail_of
from apikeyrouter.wire.facts import Media, MediaKind, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses

__all__ = ["call_object", "media_part", "write_messages"]

_SOUND_FORMATS = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mp4": "m4a",
}


def write_messages(turns: list[Turn], model: str, losses: Losses) -> list[dict[str, Any]]:
    """The messages for a model of this name."""
    writer = _Writer(model, losses)
    for number, turn in enumerate(turns):
        writer.write(turn, number)
    writer.flush()
    return writer.messages


class _Writer:
    """`messages`: those written so far. Pictures of tools wait until the last result of their round is written."""

    def __init__(self, model: str, losses: Losses) -> None:
        self.messages: list[dict[str, Any]] = []
        self._losses = losses
        self._model = model
        self._ids = CallIds()
        self._waiting: list[dict[str, Any]] = []
        self._marks = families.takes_cache_marks(model)
        self._text_only = families.text_only(model)

    def write(self, turn: Turn, number: int) -> None:
        """One turn."""
        path = f"messages[{number}]"
        if turn.role is Role.Tool:
            self._write_results(turn, path)
            return
        self.flush()
        if turn.role is Role.Assistant:
            message = self._assistant(turn, path)
        else:
            developer = turn.role is Role.Developer
            role = "system" if developer and not families.takes_developer(self._model) else turn.role.value
            between = "" if turn.role is Role.User else "\n\n"
            message = {"role": role, "content": self._content(turn.parts, path, between)}
        if turn.name:
            message["name"] = turn.name
        self.messages.append(message)

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            self.messages.append({"role": "user", "content": self._waiting})
            self._waiting = []

    def _write_results(self, turn: Turn, path: str) -> None:
        for part in turn.parts:
            if not isinstance(part, ToolResult):
                if isinstance(part, Text | Media):
                    self._add(self._waiting, part, path)
                continue
            call_id = self._ids.of_result(part)
            texts: list[Part] = [one for one in part.parts if isinstance(one, Text)]
            media = [one for one in part.parts if isinstance(one, Media)]
            if media:
                self._losses.harmless(f"{path}.content: media of tool results moved into a message of the user")
                self._waiting.append({"type": "text", "text": f"Returned by the tool call {call_id}:"})
                for one in media:
                    self._add(self._waiting, one, path)
            if part.is_error:
                self._losses.harmless(f"{path}.is_error")
            content = self._content(texts, path, "\n")
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _assistant(self, turn: Turn, path: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        said: list[Part] = []
        calls: list[dict[str, Any]] = []
        thoughts: list[Reasoning] = []
        for part in turn.parts:
            if isinstance(part, ToolCall):
                calls.append(call_object(part, self._ids.of_call(part), signed="gemini" in self._model))
            elif isinstance(part, Reasoning):
                thoughts.append(part)
            elif isinstance(part, Text | Refusal):
                said.append(part)
            else:
                self._losses.content(f"{path}.content", "assistants say only text in chat completions")
        if said:
            if len(said) == 1 and isinstance(said[0], Refusal):
                message["refusal"] = said[0].text
            else:
                message["content"] = self._content(said, path, "")
        elif not calls:
            message["content"] = ""
        if calls:
            message["tool_calls"] = calls
        if thoughts:
            message.update(self._thoughts(thoughts))
        return message

    def _thoughts(self, thoughts: list[Reasoning]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        details: list[dict[str, Any]] = []
        texts: list[str] = []
        for part in thoughts:
            if part.origin and families.takes_details(self._model, part.origin):
                details += detail_of(part, len(details))
                continue
            if part.text and families.keeps_thoughts(self._model):
                texts.append(part.text)
                lost = bool(part.signature or part.encrypted) and part.origin != Wire.Chat.value
            else:
                lost = True
            if lost:
                self._losses.harmless("reasoning")
        if texts:
            members["reasoning_content"] = "\n\n".join(texts)
        if details:
            members["reasoning_details"] = details
        return members

    def _content(self, parts: list[Part], path: str, between: str) -> str | list[dict[str, Any]]:
        marks = self._marks and any(isinstance(part, Text | Media) and part.cache for part in parts)
        if not marks:
            if len(parts) == 1 and isinstance(parts[0], Text):
                return parts[0].text
            if not parts:
                return ""
            if self._text_only and all(isinstance(part, Text) for part in parts):
                return between.join(part.text for part in parts if isinstance(part, Text))
        written: list[dict[str, Any]] = []
        for part in parts:
            self._add(written, part, path)
        return written

    def _add(self, written: list[dict[str, Any]], part: Part, path: str) -> None:
        if isinstance(part, Text):
            one: dict[str, Any] | None = {"type": "text", "text": part.text}
        elif isinstance(part, Refusal):
            one = {"type": "refusal", "refusal": part.text}
        elif isinstance(part, Media):
            one = media_part(part, path, self._losses, strict=families.is_openai(self._model))
        else:
            self._losses.content(f"{path}.content", "only assistants call tools and think")
            return
        if one is None:
            return
        if self._marks and isinstance(part, Text | Media) and part.cache:
            one["cache_control"] = part.cache
        written.append(one)


def call_object(call: ToolCall, call_id: str, *, signed: bool = True) -> dict[str, Any]:
    """A tool call in a message. `signed`: with the signature that Google wants back, where Google keeps it."""
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    one: dict[str, Any] = {"id": call_id, "type": "function", "function": function}
    if call.signature and signed:
        one["extra_content"] = {"google": {"thought_signature": call.signature}}
    return one


def media_part(media: Media, path: str, losses: Losses, *, strict: bool) -> dict[str, Any] | None:
    """A picture, sound, video or document as a content part; None when it cannot be said, which is reported.
    `strict`: for OpenAI's own server."""
    if media.text is not None:
        return {"type": "text", "text": f"{media.name}:\n{media.text}" if media.name else media.text}
    if media.kind is MediaKind.Image:
        if media.data is None and media.url is None:
            losses.content(f"{path}.content", "pictures by file id belong to the provider that stores them")
            return None
        image: dict[str, Any] = {"url": _url(media, "image/png")}
        if media.detail:
            image["detail"] = media.detail
        return {"type": "image_url", "image_url": image}
    if media.kind is MediaKind.Audio:
        if media.data is None:
            losses.content(f"{path}.content", "sound must be sent as data in chat completions")
            return None
        form = _SOUND_FORMATS.get(media.mime) or media.mime.rpartition("/")[2] or "wav"
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
    if media.kind is MediaKind.Video:
        if strict or (media.data is None and media.url is None):
            losses.content(f"{path}.content", "videos have no part in chat completions")
            return None
        return {"type": "video_url", "video_url": {"url": _url(media, "video/mp4")}}
    return _document(media, path, losses, strict=strict)


def _document(media: Media, path: str, losses: Losses, *, strict: bool) -> dict[str, Any] | None:
    if media.data is not None and media.mime.startswith("text/"):
        try:
            text = b64decode(media.data, validate=True).decode()
        except (NotBase64, ValueError):
            losses.content(f"{path}.content", "a text document that is no base64 of UTF-8")
            return None
        return {"type": "text", "text": f"{media.name}:\n{text}" if media.name else text}
    if media.file_id is not None:
        return {"type": "file", "file": {"file_id": media.file_id}}
    if media.data is None and strict:
        losses.content(f"{path}.content", "documents must be sent as data in chat completions")
        return None
    file = {"filename": media.name or "document.pdf", "file_data": _url(media, "application/pdf")}
    return {"type": "file", "file": file}


def _url(media: Media, mime: str) -> str:
    return media.url if media.url is not None else f"data:{media.mime or mime};base64,{media.data}"
