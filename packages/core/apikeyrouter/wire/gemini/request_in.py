"""A Gemini client's request: its conversation. What is asked for besides (`config_in`) is read there.

Main entry: `read_request`. Calls without ids get some by their position in the conversation, and results without ids
belong to the first open call of their name: so ids stay the same while a conversation grows. Thoughts and text that a
client kept in the pieces of a stream are put together again.
Law: `contents` are turns in their order; results of tools are `Tool` turns wherever they stood.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Ask, Media, Part, Reasoning, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.gemini.config_in import read_config
from apikeyrouter.wire.gemini.media import blob_part, file_part
from apikeyrouter.wire.gemini.members import decoded, fields, listed, text
from apikeyrouter.wire.gemini.signatures import ORIGIN, signed
from apikeyrouter.wire.losses import Losses

__all__ = ["read_request"]

_ROLES = {"user": Role.User, "model": Role.Assistant, "function": Role.Tool, "tool": Role.Tool}
_BY_GOOGLE = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
_HINTS = ("partMetadata", "mediaProcessing", "videoMetadata", "mediaResolution")


def read_request(body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
    """See `Codec.read_request`."""
    request = decoded(body)
    ask = Ask(model, [], stream=stream)
    if "systemInstruction" in request:
        ask.turns.append(_instruction(request.pop("systemInstruction")))
    contents = request.pop("contents", None)
    if contents is None:
        raise MalformedError("'contents' is missing: the list of turns of the conversation", param="contents")
    reader = _ContentsReader(losses)
    for number, content in enumerate(listed(contents, "contents")):
        ask.turns += reader.read(content, f"contents[{number}]")
    read_config(request, ask, losses)
    return ask


def _instruction(value: object) -> Turn:
    where = "systemInstruction"
    if isinstance(value, str):
        return Turn(Role.System, [Text(value)])
    parts = listed(fields(value, where).get("parts", []), f"{where}.parts")
    told: list[Part] = []
    for number, one in enumerate(parts):
        part = fields(one, f"{where}.parts[{number}]")
        told.append(Text(text(part.get("text"), f"{where}.parts[{number}].text")))
    return Turn(Role.System, told)


class _ContentsReader:
    """Reads turn after turn; remembers which calls are still without a result."""

    __slots__ = ("_calls", "_losses", "_open")

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._open: list[tuple[str, str]] = []
        self._calls = 0

    def read(self, value: object, where: str) -> list[Turn]:
        content = fields(value, where)
        said = content.get("role") or "user"
        role = _ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            raise MalformedError(f"'{where}.role' must be 'user' or 'model'", param=f"{where}.role")
        if role is not Role.Assistant:
            role = Role.User
        turns: list[Turn] = []
        for number, one in enumerate(listed(content.get("parts", []), f"{where}.parts")):
            at = f"{where}.parts[{number}]"
            part = fields(one, at)
            if "functionResponse" in part:
                _add(turns, Role.Tool, self._result(part["functionResponse"], f"{at}.functionResponse"))
            else:
                for told in self._parts(part, at, role):
                    _add(turns, role, told, joins=part.get("thought") is True)
        for turn in turns:
            if turn.role is Role.Assistant and len(turn.parts) > 1:  # the last chunk of a stream has an empty text
                turn.parts = [told for told in turn.parts if not isinstance(told, Text) or told.text]
        return turns

    def _parts(self, part: dict[str, Any], at: str, role: Role) -> list[Part]:
        signature = part.get("thoughtSignature")
        if signature is not None:
            text(signature, f"{at}.thoughtSignature")
        for name in _HINTS:
            if name in part:
                self._losses.parameter(f"{at}.{name}", "no other format has it")
        if "text" in part:
            return _said(text(part["text"], f"{at}.text"), signature, role, thought=part.get("thought") is True)
        if "inlineData" in part:
            return _with_signature(blob_part(part["inlineData"], f"{at}.inlineData"), signature)
        if "fileData" in part:
            return [file_part(part["fileData"], f"{at}.fileData")]
        if "functionCall" in part:
            return [self._call(part["functionCall"], f"{at}.functionCall", signature)]
        for name in _BY_GOOGLE:
            if name in part:
                self._losses.content(f"{at}.{name}", "is the work of a tool that Google runs itself")
                return []
        if signature is not None:
            return [signed("", signature)]
        known = "text, inlineData, fileData, functionCall, functionResponse"
        raise MalformedError(f"'{at}' must have one of {known}", param=at)

    def _call(self, value: object, at: str, signature: str | None) -> ToolCall:
        told = fields(value, at)
        name = text(told.get("name"), f"{at}.name")
        args = told.get("args", {})
        if not isinstance(args, dict):
            raise MalformedError(f"'{at}.args' must be an object", param=f"{at}.args")
        call_id = text(told.get("id", ""), f"{at}.id") or f"call_{self._calls}"
        self._calls += 1
        self._open.append((call_id, name))
        return ToolCall(call_id, name, msgspec.json.encode(args).decode(), signature=signature)

    def _result(self, value: object, at: str) -> ToolResult:
        told = fields(value, at)
        name = text(told.get("name", ""), f"{at}.name")
        call_id = self._answered(text(told.get("id", ""), f"{at}.id"), name)
        response = told.get("response", {})
        if not isinstance(response, dict):
            raise MalformedError(f"'{at}.response' must be an object", param=f"{at}.response")
        said, failed = _words_of(response)
        result = ToolResult(call_id, [Text(said)], name or None, failed)
        for number, one in enumerate(listed(told.get("parts", []), f"{at}.parts")):
            result.parts.append(_media_of(one, f"{at}.parts[{number}]"))
        if told.get("willContinue") is True or "scheduling" in told:
            self._losses.parameter(at, "only Google's live sessions have unfinished results")
        return result

    def _answered(self, call_id: str, name: str) -> str:
        """The id of the call that a result belongs to; closes the call."""
        for number, (open_id, open_name) in enumerate(self._open):
            if open_id == call_id if call_id else open_name == name:
                del self._open[number]
                return open_id
        return call_id or (self._open.pop(0)[0] if self._open else f"call_{self._calls}")


def _said(words: str, signature: str | None, role: Role, *, thought: bool) -> list[Part]:
    if thought:
        return [signed(words, signature)]
    if signature is None or role is not Role.Assistant:
        return [Text(words)]
    proof = signed("", signature)
    return [Text(words), proof] if words else [proof]


def _with_signature(part: Part, signature: str | None) -> list[Part]:
    return [part] if signature is None else [part, signed("", signature)]


def _words_of(response: dict[str, Any]) -> tuple[str, bool]:
    """A function's result as text, and whether it failed. `output` and `error` are Google's names for the two, `result`
    is what its SDKs write; anything else is the result itself
    (https://ai.google.dev/api/caching#FunctionResponse, read 2026-11-21)."""
    if len(response) == 1:
        name, value = next(iter(response.items()))
        if isinstance(value, str) and name in ("output", "result", "error"):
            return value, name == "error"
    return msgspec.json.encode(response).decode(), "error" in response and "output" not in response


def _media_of(value: object, at: str) -> Media:
    part = fields(value, at)
    if "inlineData" in part:
        return blob_part(part["inlineData"], f"{at}.inlineData")
    return file_part(part.get("fileData"), f"{at}.fileData")


def _add(turns: list[Turn], role: Role, part: Part, *, joins: bool = False) -> None:
    """Adds a part; pieces of one thought (`joins`), and of one text of the model, become one."""
    if not turns or turns[-1].role is not role:
        turns.append(Turn(role, [part]))
        return
    parts = turns[-1].parts
    last = parts[-1]
    if role is Role.Assistant and isinstance(part, Text) and isinstance(last, Text):
        parts[-1] = Text(last.text + part.text)
    elif joins and isinstance(part, Reasoning) and isinstance(last, Reasoning) and _is_open(last):
        part.text = last.text + part.text
        parts[-1] = part
    else:
        parts.append(part)


def _is_open(thought: Reasoning) -> bool:
    """Whether more of it may follow: the signature comes with the last piece."""
    return thought.signature is None and thought.encrypted is None and thought.origin == ORIGIN
