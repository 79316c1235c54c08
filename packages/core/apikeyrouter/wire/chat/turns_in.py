"""Messages of chat completions, read into turns.

Main entry: `read_messages`. Each message is one turn; consecutive tool messages are one each, too. The legacy
`function_call` of an assistant and the message of role `function` that answers it get an id of ours, the same for both.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.chat.members import json_text, object_of, take_list, take_object, take_text
from apikeyrouter.wire.chat.parts_in import media_of_url, read_content
from apikeyrouter.wire.chat.thoughts import read_thoughts
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Media, MediaKind, Part, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses, shown

__all__ = ["read_calls", "read_messages"]

_ROLES = {role.value: role for role in (Role.System, Role.Developer, Role.User, Role.Assistant)}
_ECHOED = ("annotations", "images", "audio", "function_call", "refusal")


def read_messages(messages: list[Any], losses: Losses) -> list[Turn]:
    """The turns of a conversation. Raises MalformedError."""
    turns: list[Turn] = []
    legacy: dict[str, str] = {}
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        members = object_of(message, path)
        role = members.pop("role", None)
        if role == "assistant":
            turn = _read_assistant(members, path, losses, legacy)
            _report(members, path, losses, echoed=True)
        elif role in ("tool", "function"):
            turn = _read_result(members, path, losses, legacy if role == "function" else None)
            _report(members, path, losses, echoed=False)
        elif isinstance(role, str) and role in _ROLES:
            name = take_text(members, "name", path + ".")
            turn = Turn(_ROLES[role], _marked(members, path, losses), name)
            _report(members, path, losses, echoed=False)
        else:
            raise MalformedError(f"{path}.role: {shown(role)} is no role.", param=path + ".role")
        turns.append(turn)
    return turns


def _marked(members: dict[str, Any], path: str, losses: Losses) -> list[Part]:
    """The content; a cache mark on the whole message is one on its last part."""
    parts = read_content(members.pop("content", None), path + ".content", losses)
    cache = take_object(members, "cache_control", path + ".")
    if cache is not None and parts and isinstance(parts[-1], Text | Media) and parts[-1].cache is None:
        parts[-1].cache = cache
    return parts


def _read_assistant(members: dict[str, Any], path: str, losses: Losses, legacy: dict[str, str]) -> Turn:
    parts: list[Part] = list(read_thoughts(members))
    content = _marked(members, path, losses)
    refusal = take_text(members, "refusal", path + ".")
    calls = take_list(members, "tool_calls", path + ".") or []
    if not (len(content) == 1 and isinstance(content[0], Text) and not content[0].text and (calls or parts or refusal)):
        parts += content
    if refusal:
        parts.append(Refusal(refusal))
    parts += _read_images(members, path)
    parts += read_calls(calls, path + ".tool_calls")
    old = take_object(members, "function_call", path + ".")
    if old and old.get("name"):
        name = str(old["name"])
        legacy[name] = f"call_{path[9:-1]}_{name}"[:40]
        parts.append(ToolCall(legacy[name], name, json_text(old.get("arguments"))))
    audio = take_object(members, "audio", path + ".")
    if audio and audio.get("id"):
        losses.content(f"{path}.audio", "sound of earlier replies is stored at OpenAI")
    return Turn(Role.Assistant, parts, take_text(members, "name", path + "."))


def _read_images(members: dict[str, Any], path: str) -> list[Part]:
    found: list[Part] = []
    for number, one in enumerate(take_list(members, "images", path + ".") or []):
        url = one.get("image_url") if isinstance(one, dict) else None
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            found.append(media_of_url(url, MediaKind.Image, f"{path}.images[{number}]"))
    return found


def read_calls(calls: list[Any], path: str) -> list[ToolCall]:
    """Tool calls of a message. Raises MalformedError."""
    found = []
    for number, one in enumerate(calls):
        here = f"{path}[{number}]"
        members = object_of(one, here)
        kind = members.get("type") or "function"
        if kind != "function":
            raise MalformedError(f"{here}.type: calls of type {shown(kind)} have no words here.", param=here + ".type")
        function = object_of(members.get("function"), here + ".function")
        name = take_text(function, "name", here + ".function.")
        if name is None:
            raise MalformedError(f"{here}.function.name: missing.", param=here + ".function.name")
        identity = take_text(members, "id", here + ".") or ""
        found.append(
            ToolCall(
                identity,
                name,
                json_text(function.get("arguments")),
                take_object(members, "cache_control", here + "."),
                _signature(members) or _signature(function),
            )
        )
    return found


def _signature(members: dict[str, Any]) -> str | None:
    """Where Google keeps it in this format (https://ai.google.dev/gemini-api/docs/thought-signatures, 2026-11)."""
    extra = members.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None


def _read_result(members: dict[str, Any], path: str, losses: Losses, legacy: dict[str, str] | None) -> Turn:
    name = take_text(members, "name", path + ".")
    call_id = take_text(members, "tool_call_id", path + ".")
    if call_id is None:
        if legacy is None:
            raise MalformedError(f"{path}.tool_call_id: missing.", param=path + ".tool_call_id")
        call_id = legacy.get(name or "", f"call_{name}"[:40])
    result = ToolResult(call_id, [], name)
    for part in _marked(members, path, losses):
        if isinstance(part, Text | Media):
            result.parts.append(part)
        else:
            raise MalformedError(f"{path}.content: a tool returns text, nothing else.", param=path + ".content")
    return Turn(Role.Tool, [result])


def _report(members: dict[str, Any], path: str, losses: Losses, *, echoed: bool) -> None:
    """Tells what is left over. Messages of the assistant are echoes of replies, whose extras are no wishes."""
    for name, value in members.items():
        if value is None or value in ([], {}, "", False):
            continue
        if name == "tool_calls" and not echoed:
            raise MalformedError(f"{path}.tool_calls: only assistants call tools.", param=f"{path}.tool_calls")
        if echoed or name in _ECHOED:
            losses.harmless(f"{path}.{name}")
        else:
            losses.parameter(f"{path}.{name}", "no other format has this member")
