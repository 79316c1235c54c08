"""A request to Google: the conversation. What is asked for besides is written by `config_out`.

Main entry: `write_request`. Instructions go into `systemInstruction`, wherever they stood; results of several calls go
into one content, since Google wants as many results as the turn before had calls; thoughts of other origin are left
out. Names of functions, which Google wants beside results, are looked up by the calls' ids.
Law: text, calls, results, media and signatures keep their order, and each signature the part that it came with.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.facts import Ask, Media, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.gemini.config_out import write_config
from apikeyrouter.wire.gemini.media import media_part
from apikeyrouter.wire.gemini.models import answers_with_media, unsigned_call_mark
from apikeyrouter.wire.gemini.signatures import ORIGIN
from apikeyrouter.wire.losses import Losses

__all__ = ["request_members", "write_request"]

_INSTRUCTIONS = (Role.System, Role.Developer)


def write_request(ask: Ask, losses: Losses) -> bytes:
    """See `Codec.write_request`."""
    return msgspec.json.encode(request_members(ask, losses))


def request_members(ask: Ask, losses: Losses) -> dict[str, Any]:
    """The body before it is encoded."""
    instructions = [turn for turn in ask.turns if turn.role in _INSTRUCTIONS]
    turns = [turn for turn in ask.turns if turn.role not in _INSTRUCTIONS]
    body: dict[str, Any] = {"contents": _ContentsWriter(ask, losses).write(turns)}
    parts = [{"text": part.text} for turn in instructions for part in turn.parts if isinstance(part, Text)]
    if any(not isinstance(part, Text) for turn in instructions for part in turn.parts):
        losses.content("system", "instructions are text here, without media")
    if parts and body["contents"]:
        body["systemInstruction"] = {"parts": parts}
        first = next((i for i, turn in enumerate(ask.turns) if turn.role not in _INSTRUCTIONS), len(ask.turns))
        if any(turn.role in _INSTRUCTIONS for turn in ask.turns[first:]):
            losses.harmless("system message position")
    elif parts:  # Google wants a question: instructions alone are one
        body["contents"] = [{"role": "user", "parts": parts}]
        losses.harmless("system role")
    write_config(ask, body, losses)
    return body


class _ContentsWriter:
    """Writes turn after turn; knows the names of the calls so far."""

    __slots__ = ("_losses", "_mark", "_names", "_nested")

    def __init__(self, ask: Ask, losses: Losses) -> None:
        self._losses = losses
        self._nested = answers_with_media(ask.model)
        self._mark = unsigned_call_mark(ask.model)
        self._names: dict[str, str] = {}

    def write(self, turns: list[Turn]) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        previous: Role | None = None
        for turn in turns:
            if turn.name is not None:
                self._losses.harmless("name")
            parts = self._model_parts(turn.parts) if turn.role is Role.Assistant else self._user_parts(turn.parts)
            if not parts:
                continue
            if turn.role is Role.Tool and previous is Role.Tool:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": "model" if turn.role is Role.Assistant else "user", "parts": parts})
            previous = turn.role
        return contents

    def _user_parts(self, parts: list[Part]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case Text():
                    if part.text or len(parts) == 1:
                        out.append({"text": part.text})
                case Media():
                    told = media_part(part, self._losses)
                    if told is not None:
                        out.append(told)
                case ToolResult():
                    out += self._result(part)
                case Refusal():
                    out.append({"text": part.text})
                case _:
                    self._losses.content("messages", "calls and thoughts of a model cannot stand in a user's turn")
        return out

    def _model_parts(self, parts: list[Part]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        called = False
        for part in parts:
            match part:
                case Text() | Refusal():
                    if part.text:
                        out.append({"text": part.text})
                case Reasoning():
                    self._think(part, out)
                case ToolCall():
                    out.append(self._call(part, first=not called))
                    called = True
                case Media():
                    told = media_part(part, self._losses)
                    if told is not None:
                        out.append(told)
                case _:
                    self._losses.content("messages", "results of tools cannot stand in a model's turn")
        return out or [{"text": ""} for part in parts[:1] if isinstance(part, Text)]

    def _think(self, part: Reasoning, out: list[dict[str, Any]]) -> None:
        if part.origin not in ("", ORIGIN):
            self._losses.harmless("reasoning")
            return
        if part.text:
            thought: dict[str, Any] = {"text": part.text, "thought": True}
            if part.signature is not None:
                thought["thoughtSignature"] = part.signature
            out.append(thought)
        elif part.signature is not None:
            before = out[-1] if out else {}
            if not ("functionCall" in before or "thought" in before or "thoughtSignature" in before) and before:
                before["thoughtSignature"] = part.signature
            else:
                out.append({"text": "", "thoughtSignature": part.signature})

    def _call(self, call: ToolCall, *, first: bool) -> dict[str, Any]:
        self._names[call.id] = call.name
        told: dict[str, Any] = {"name": call.name, "args": self._args(call)}
        if call.id:
            told["id"] = call.id
        part: dict[str, Any] = {"functionCall": told}
        signature = call.signature or (self._mark if first else None)
        if signature is not None:
            part["thoughtSignature"] = signature
        return part

    def _args(self, call: ToolCall) -> object:
        if not call.arguments.strip():
            return {}
        found = _object(call.arguments)
        if found is None:
            self._losses.content("tool_calls.arguments", f"those of {call.name} are not the JSON of an object")
            return {}
        return found

    def _result(self, result: ToolResult) -> list[dict[str, Any]]:
        name = self._names.get(result.call_id) or result.name
        if name is None:
            self._losses.content("tool_call_id", f"no call before it has the id {result.call_id!r}")
            return []
        words = [part.text for part in result.parts if isinstance(part, Text)]
        media = [part for part in result.parts if isinstance(part, Media)]
        told: dict[str, Any] = {"name": name, "response": _response("\n".join(words), failed=result.is_error)}
        if result.call_id:
            told["id"] = result.call_id
        beside = [one for one in (media_part(part, self._losses) for part in media) if one is not None]
        if beside and self._nested:
            told["parts"] = beside
            beside = []
        return [{"functionResponse": told}, *beside]


def _response(words: str, *, failed: bool) -> object:
    """A result as the object that Google wants: itself when it is one, else under Google's name for it."""
    if failed:
        found = _object(words)
        return found if found is not None and b'"error"' in bytes(found) else {"error": words}
    found = _object(words)
    return {"output": words} if found is None else found


def _object(text: str) -> msgspec.Raw | None:
    """JSON text of an object, to be written as it is; None when it is none."""
    if text.lstrip(" \t\r\n")[:1] != "{":
        return None
    try:
        raw = text.encode()
        return msgspec.Raw(raw) if isinstance(msgspec.json.decode(raw), dict) else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
