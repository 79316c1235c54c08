"""Content blocks of requests, read into parts.

Main entry: `BlockReader.parts`. Order is kept; base64 data, ids and signatures are kept as they are.
Law: whatever the value, it is read, told to `losses`, or raises MalformedError with its place.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Media, MediaKind, Part, Reasoning, Text, ToolCall, ToolResult
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.messages.answer import ORIGIN

__all__ = ["BlockReader", "cache_of", "expect"]

_Kind = TypeVar("_Kind")
_SERVER_BLOCK = "is what a tool that only Anthropic has left behind"


def expect(value: Any, kind: type[_Kind], where: str | None, wanted: str) -> _Kind:
    """The value, if it is of a kind. Raises MalformedError."""
    if not isinstance(value, kind):
        raise MalformedError(f"{where or 'the body'}: expected {wanted}", param=where)
    return value


def cache_of(block: dict[str, Any]) -> dict[str, Any] | None:
    """The cache mark of a block."""
    mark = block.get("cache_control")
    return mark if isinstance(mark, dict) else None


class BlockReader:
    """Reads blocks; what has no counterpart goes to `losses`."""

    __slots__ = ("_losses",)

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def parts(self, content: Any, where: str) -> list[Part]:
        """The parts of a message's content."""
        if isinstance(content, str):
            return [Text(content)]
        parts: list[Part] = []
        for at, one in enumerate(expect(content, list, where, "a string or an array of content blocks")):
            place = f"{where}[{at}]"
            part = self._part(expect(one, dict, place, "a content block"), place)
            if part is not None:
                parts.append(part)
        return parts

    def text_only(self, value: Any, where: str) -> list[Part]:
        """The text of a block of a system prompt; other kinds are lost."""
        block = expect(value, dict, where, "a text block")
        if block.get("type") != "text":
            self._losses.content(
                where, f"{shown(block.get('type'))} in a system turn is something that only Anthropic has"
            )
            return []
        return [self._text(block, where)]

    def _part(self, block: dict[str, Any], where: str) -> Part | None:
        kind = block.get("type")
        match kind:
            case "text":
                return self._text(block, where)
            case "image" | "document":
                return self._media(block, where)
            case "tool_use":
                return self._call(block, where)
            case "tool_result":
                return self._result(block, where)
            case "thinking":
                text = expect(block.get("thinking"), str, f"{where}.thinking", "a string")
                signature = block.get("signature")
                return Reasoning(text, signature if isinstance(signature, str) and signature else None, origin=ORIGIN)
            case "redacted_thinking":
                data = expect(block.get("data"), str, f"{where}.data", "a string")
                return Reasoning(encrypted=data, origin=ORIGIN)
            case str():
                self._losses.content(where, f"{kind} {_SERVER_BLOCK}")
                return None
            case _:
                raise MalformedError(f"{where}.type: expected the name of a content block", param=f"{where}.type")

    def _text(self, block: dict[str, Any], where: str) -> Text:
        if block.get("citations"):
            self._losses.harmless("citations")
        return Text(expect(block.get("text"), str, f"{where}.text", "a string"), cache_of(block))

    def _media(self, block: dict[str, Any], where: str) -> Media | None:
        kind = MediaKind.Image if block["type"] == "image" else MediaKind.Document
        source = expect(block.get("source"), dict, f"{where}.source", "an object")
        title = block.get("title")
        media = Media(kind, name=title if isinstance(title, str) else None, cache=cache_of(block))
        mime = source.get("media_type")
        media.mime = mime if isinstance(mime, str) else ""

        def member(name: str) -> str:
            return expect(source.get(name), str, f"{where}.source.{name}", "a string")

        match source.get("type"):
            case "base64":
                media.data = member("data")
            case "url":
                media.url = member("url")
                if kind is MediaKind.Document:
                    media.mime = media.mime or "application/pdf"
            case "file":
                media.file_id = member("file_id")
            case "text":
                media.text, media.mime = member("data"), media.mime or "text/plain"
            case "content":
                media.text = self._joined(source.get("content"), f"{where}.source.content")
                media.mime = "text/plain"
            case other:
                self._losses.content(where, f"a source of type {shown(other)} is something that only Anthropic has")
                return None
        if block.get("context"):
            self._losses.parameter(f"{where}.context", "only Anthropic has room for it")
        cited = block.get("citations")
        if isinstance(cited, dict) and cited.get("enabled"):
            self._losses.parameter(f"{where}.citations", "only Anthropic cites from documents")
        return media

    def _joined(self, content: Any, where: str) -> str:
        if isinstance(content, str):
            return content
        texts = []
        for at, one in enumerate(expect(content, list, where, "a string or an array of blocks")):
            block = expect(one, dict, f"{where}[{at}]", "a block")
            if block.get("type") == "text":
                texts.append(expect(block.get("text"), str, f"{where}[{at}].text", "a string"))
            else:
                self._losses.content(f"{where}[{at}]", "a picture inside a document has no place elsewhere")
        return "\n".join(texts)

    def _call(self, block: dict[str, Any], where: str) -> ToolCall:
        given = block.get("input")
        if given is None:
            given = {}
        arguments = msgspec.json.encode(expect(given, dict, f"{where}.input", "an object")).decode()
        call_id = expect(block.get("id"), str, f"{where}.id", "a string")
        return ToolCall(
            call_id, expect(block.get("name"), str, f"{where}.name", "a string"), arguments, cache_of(block)
        )

    def _result(self, block: dict[str, Any], where: str) -> ToolResult:
        call_id = expect(block.get("tool_use_id"), str, f"{where}.tool_use_id", "a string")
        content = block.get("content")
        parts: list[Text | Media] = []
        for part in [] if content is None else self.parts(content, f"{where}.content"):
            if isinstance(part, Text | Media):
                parts.append(part)
            else:
                self._losses.content(where, "a tool's result holds texts, pictures and documents only")
        return ToolResult(call_id, parts, is_error=block.get("is_error") is True, cache=cache_of(block))
