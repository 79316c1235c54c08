"""What a chat request says: its messages and tools, checked, measured and digested in one pass.

Main entry: `read_prompt`. Raises `ApiError` in OpenAI's words. Token counts: 3 per conversation, 4 per message, a
quarter of the characters, 85 per image (the provider's figure for low detail), tools by the size of their JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.api_errors import ApiError, invalid, wrong_type
from apikeyrouter.simulation.requests import ChatRequest
from apikeyrouter.simulation.script import goes_on
from apikeyrouter.simulation.text import Digest, digest_of, estimate_tokens

__all__ = ["Prompt", "check_tools", "read_prompt", "rough_tokens", "tool_name"]

_ROLES = frozenset({"system", "assistant", "user", "function", "tool", "developer"})
_PARTS = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file", "refusal": "refusal"}
_IMAGE_TOKENS = 85
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(slots=True)
class Prompt:
    """A checked conversation. `last_user`: text of the last user message; `last_role`: who spoke last;
    `tool_results`: texts of the tool messages after the last user message; `prefix`: digest of everything but the last
    message, by which prompt caching knows it."""

    tokens: int
    digest: Digest
    prefix: Digest
    last_user: str = ""
    last_role: str = "user"
    tool_results: list[str] = field(default_factory=list)
    mentions_json: bool = False


def rough_tokens(request: ChatRequest, body_bytes: int) -> int:
    """Tokens that admission charges before the body is checked: max(max_tokens, estimate), for every choice."""
    asked = request.max_completion_tokens or request.max_tokens or 0
    n = request.n if isinstance(request.n, int) else 1
    wanted = asked * n if isinstance(asked, int) else 0
    return max(wanted, estimate_tokens(body_bytes), 1)


def read_prompt(request: ChatRequest, seed: int) -> Prompt:
    """Checks the messages and reads what the reply depends on."""
    messages = request.messages
    if messages is None:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    chars, images = 0, 0
    texts: list[str] = []
    prompt = Prompt(0, b"", b"")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        role = _role(message, index)
        _check_turn(message, role, index, open_calls)
        text, image_count = _content(message, role, index)
        chars += len(text)
        images += image_count
        texts += (role, text)
        if role == "user" and not goes_on(prompt.last_user, text):
            prompt.last_user, prompt.tool_results = text, []
        elif role == "tool":
            prompt.tool_results.append(text)
    if open_calls:
        raise _unanswered(open_calls, len(messages))
    prompt.last_role = texts[-2]
    tools_chars = len(msgspec.json.encode(request.tools)) if request.tools else 0
    prompt.tokens = 3 + 4 * len(messages) + estimate_tokens(chars + tools_chars) + images * _IMAGE_TOKENS
    prompt.digest = digest_of(seed, *texts)
    prompt.prefix = digest_of(seed, *texts[:-2]) if len(texts) > 2 else prompt.digest
    prompt.mentions_json = any("json" in text.lower() for text in texts) if request.response_format else False
    return prompt


def _role(message: object, index: int) -> str:
    if not isinstance(message, dict):
        raise wrong_type(f"messages[{index}]", "an object", message)
    role = message.get("role")
    where = f"messages[{index}].role"
    if role is None:
        raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if not isinstance(role, str) or role not in _ROLES:
        supported = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'"
        raise invalid(f"Invalid value: '{role}'. Supported values are: {supported}.", where, "invalid_value")
    return role


def _check_turn(message: dict[str, Any], role: str, index: int, open_calls: set[str]) -> None:
    """Tool calls and their answers must alternate."""
    if role == "tool":
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str):
            text = "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'."
            raise invalid(text, f"messages.[{index}].tool_call_id")
        if call_id not in open_calls:
            text = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                "'tool_calls'."
            )
            raise invalid(text, f"messages.[{index}].role")
        open_calls.discard(call_id)
        return
    if open_calls:
        raise _unanswered(open_calls, index)
    calls = message.get("tool_calls")
    if role == "assistant" and isinstance(calls, list):
        open_calls.update(str(call.get("id")) for call in calls if isinstance(call, dict))


def _unanswered(open_calls: set[str], index: int) -> ApiError:
    return invalid(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(sorted(open_calls))}",
        f"messages.[{index}].role",
    )


def _content(message: dict[str, Any], role: str, index: int) -> tuple[str, int]:
    """The text of a message and how many images it has."""
    content = message.get("content")
    if isinstance(content, str):
        return content, 0
    where = f"messages.[{index}].content"
    if content is None:
        if role == "assistant" and (
            message.get("tool_calls") or message.get("function_call") or message.get("refusal")
        ):
            return msgspec.json.encode(message.get("tool_calls")).decode(), 0
        raise invalid("Invalid value for 'content': expected a string, got null.", where)
    if not isinstance(content, list):
        raise wrong_type(f"messages[{index}].content", "one of a string or array of objects", content)
    texts, images = [], 0
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _PARTS or _PARTS[kind] not in part:
            supported = "'text', 'image_url', 'input_audio', 'refusal', 'audio', and 'file'"
            text = f"Invalid value: '{kind}'. Supported values are: {supported}."
            raise invalid(text, f"messages[{index}].content[{at}].type", "invalid_value")
        images += kind == "image_url"
        if kind in ("text", "refusal"):
            texts.append(str(part[kind]))
    return "\n".join(texts), images


def check_tools(request: ChatRequest) -> None:
    """Refuses malformed tools and a `tool_choice` without tools."""
    tools = request.tools
    if not tools:
        if request.tool_choice not in (None, "none"):
            raise invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
        return
    if not isinstance(tools, list):
        raise wrong_type("tools", "an array of objects", tools)
    names = set()
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom"):
            text = f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'."
            raise invalid(text, f"tools[{index}].type", "invalid_value")
        definition = tool.get(kind)
        name = definition.get("name") if isinstance(definition, dict) else None
        where = f"tools[{index}].{kind}.name"
        if name is None:
            raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            text = (
                f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
                "'^[a-zA-Z0-9_-]+$'."
            )
            raise invalid(text, where, "invalid_value")
        names.add(name)
    choice = request.tool_choice
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        wanted = tool_name(choice)
        if wanted not in names:
            text = f"Invalid value for 'tool_choice': no function named '{wanted}' was specified in 'tools'."
            raise invalid(text, "tool_choice")
    elif not isinstance(choice, dict) and choice not in (None, "none", "auto", "required"):
        text = f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'."
        raise invalid(text, "tool_choice", "invalid_value")


def tool_name(tool: object) -> str | None:
    """The name in a tool, or in a choice that points at one; None when there is none."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    definition = tool.get(kind) if isinstance(tool, dict) and isinstance(kind, str) else None
    name = definition.get("name") if isinstance(definition, dict) else None
    return name if isinstance(name, str) else None
