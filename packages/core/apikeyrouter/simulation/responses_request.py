"""`/v1/responses` requests as the simulated provider reads them: into a chat request, which it knows how to answer.

Main entry: `read_response_request`. Written apart from the translation that the router itself does, so that one can be
checked against the other. Encrypted thoughts are those of one account: another one's are refused, as by the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import ApiError, invalid, model_not_found, wrong_type
from apikeyrouter.simulation.requests import ChatRequest
from apikeyrouter.simulation.text import digest_of

__all__ = ["ResponseRequest", "cipher", "decoded", "read_response_request"]

_RECORDS = ("web_search_call", "item_reference", "additional_tools", "mcp_list_tools")
_CIPHER = "gSIM"


@dataclass(slots=True)
class ResponseRequest:
    """A checked request. `members`: as they came; `messages`: of this turn alone, `chat.messages`: of all; `items`: its
    input, as items; `namespaces`: of tools that have one."""

    members: dict[str, Any]
    chat: ChatRequest
    messages: list[dict[str, Any]]
    items: list[dict[str, Any]]
    namespaces: dict[str, str] = field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Whether the response is stored."""
        return self.members.get("store") is not False


def cipher(account: Account, words: str) -> str:
    """Encrypted thoughts of an account."""
    return f"{_CIPHER}{digest_of(0, account.name).hex()}{digest_of(1, words).hex()}"


def read_response_request(body: bytes, account: Account, before: list[dict[str, Any]]) -> ResponseRequest:
    """The request, after the messages `before` of earlier responses. Raises ApiError."""
    members = decoded(body)
    model = members.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    if model.startswith("no-such"):
        raise model_not_found(model)
    given = members.get("input")
    if given is None:
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    items = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list):
        raise wrong_type("input", "one of a string or array of objects", given)
    messages: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        _read_item(item, f"input[{at}]", account, messages)
    namespaces: dict[str, str] = {}
    tools = _tools(members.get("tools"), namespaces)
    for item in items:  # Codex hands its tools over in the conversation for models that it knows
        if item.get("type") == "additional_tools":
            tools += _tools(item.get("tools"), namespaces)
    head = [{"role": "system", "content": members["instructions"]}] if members.get("instructions") else []
    chat = ChatRequest(
        model=model,
        messages=head + before + messages,
        stream=members.get("stream"),
        max_completion_tokens=members.get("max_output_tokens"),
        temperature=members.get("temperature"),
        top_p=members.get("top_p"),
        tools=tools or None,
        tool_choice=_choice(members.get("tool_choice")) if tools else None,
        parallel_tool_calls=members.get("parallel_tool_calls"),
        response_format=_shape(members.get("text")),
        reasoning_effort=(members.get("reasoning") or {}).get("effort"),
    )
    return ResponseRequest(members, chat, messages, items, namespaces)


def decoded(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises ApiError 400."""
    try:
        members = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise invalid("We could not parse the JSON body of your request.")
    return members


def _read_item(item: Any, path: str, account: Account, messages: list[dict[str, Any]]) -> None:
    if not isinstance(item, dict):
        raise wrong_type(path, "an object", item)
    kind = item.get("type", "message")
    match kind:
        case "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), path)})
        case "reasoning":
            _check_cipher(item.get("encrypted_content"), account)
        case "function_call" | "custom_tool_call":
            argument = "arguments" if kind == "function_call" else "input"
            for name in ("call_id", "name", argument):
                if not isinstance(item.get(name), str):
                    where = f"{path}.{name}"
                    raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
            call = {"id": item["call_id"], "type": "function"}
            call["function"] = {"name": item["name"], "arguments": item[argument]}
            last = messages[-1] if messages else {}
            if "tool_calls" in last:
                last["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        case "function_call_output" | "custom_tool_call_output":
            if not isinstance(item.get("call_id"), str):
                raise invalid("Missing required parameter: 'call_id'.", path, "missing_required_parameter")
            words = _content(item.get("output"), path)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": words})
        case _ if kind in _RECORDS:
            pass
        case _:
            raise invalid(f"Invalid value: '{kind}'.", f"{path}.type", "invalid_value")


def _check_cipher(encrypted: object, account: Account) -> None:
    if isinstance(encrypted, str) and not encrypted.startswith(cipher(account, "")[: len(_CIPHER) + 32]):
        raise invalid(
            "The encrypted content could not be verified. Reason: Encrypted content organization_id did not match the "
            "target organization.",
            code="invalid_encrypted_content",
        )


def _content(content: Any, path: str) -> Any:
    """A message's content as chat has it."""
    if not isinstance(content, list):
        return content
    parts: list[dict[str, Any]] = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        match kind:
            case "input_text" | "output_text":
                parts.append({"type": "text", "text": part.get("text")})
            case "refusal":
                parts.append({"type": "refusal", "refusal": part.get("refusal")})
            case "input_image":
                parts.append({"type": "image_url", "image_url": {"url": part.get("image_url")}})
            case "input_file":
                parts.append({"type": "file", "file": part})
            case "input_audio":
                parts.append(part)
            case _:
                supported = "'input_text', 'input_image', 'output_text', 'refusal', 'input_file', and 'input_audio'"
                text = f"Invalid value: '{kind}'. Supported values are: {supported}."
                raise invalid(text, f"{path}.content[{at}]", "invalid_value")
    return parts


def _tools(tools: Any, namespaces: dict[str, str], namespace: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for at, tool in enumerate(tools or ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "namespace":
            found += _tools(tool.get("tools"), namespaces, str(tool.get("name")))
        elif kind in ("function", "custom"):
            where = f"tools[{at}].name"
            if not isinstance(tool.get("name"), str):
                raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
            found.append({"type": kind, kind: {name: one for name, one in tool.items() if name != "type"}})
            if namespace:
                namespaces[tool["name"]] = namespace
        elif not isinstance(kind, str):
            raise _unknown_tool(at)
    return found


def _unknown_tool(at: int) -> ApiError:
    return invalid(
        f"Missing required parameter: 'tools[{at}].type'.", f"tools[{at}].type", "missing_required_parameter"
    )


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type")
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": choice.get("name")}}
    return "auto"


def _shape(text: Any) -> Any:
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {name: one for name, one in wanted.items() if name != "type"}}
    return wanted
