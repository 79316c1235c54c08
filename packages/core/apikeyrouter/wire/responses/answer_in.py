"""A provider's whole reply, read into an `Answer`; also the words for how one ended and failed.

Main entries: `read_answer`, `parts_of_items`, `stop_of`, `failure_of`. Items that only record what a tool of the
provider did (web searches, code that it ran) are left out: what came of them is in the message. Items that wait for
the client to act (a shell command, a patch) mean something to clients of this format only: ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import usage_of_openai_object
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Media,
    MediaKind,
    Part,
    Reasoning,
    Refusal,
    Stop,
    Text,
    ToolCall,
)
from apikeyrouter.wire.logprobs import tokens_told
from apikeyrouter.wire.losses import shown
from apikeyrouter.wire.responses.fields import objects
from apikeyrouter.wire.responses.items_in import read_call, read_thoughts

__all__ = ["chat_logprobs", "failure_of", "parts_of_item", "read_answer", "stop_of"]

_FOR_THE_CLIENT = (
    "local_shell_call", "shell_call", "apply_patch_call", "computer_call", "mcp_approval_request",
)  # fmt: skip
_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "server_error": 500, "server_is_overloaded": 503,
    "vector_store_timeout": 504,
}  # fmt: skip
_CALLERS_CODES = ("invalid_", "image_", "unsupported_", "empty_", "context_length", "model_not_found", "bio_policy")


def read_answer(body: bytes) -> Answer:
    """See `Codec.read_answer`."""
    reply = _decoded(body)
    status = reply.get("status")
    if reply.get("error"):
        raise ValueError(f"the reply has status 200 and an error inside: {failure_of(reply).message}")
    if status in ("queued", "in_progress"):
        raise ValueError(f"the reply is not finished: its status is {status}")
    items = reply.get("output")
    if not isinstance(items, list):
        raise ValueError("the reply has no list 'output'")  # noqa: TRY004 - a wrong value, not a wrong type
    parts: list[Part] = []
    logprobs: list[Any] = []
    for at, item in enumerate(items):
        if isinstance(item, dict):
            parts += parts_of_item(item, f"output[{at}]", logprobs)
    usage = usage_of_openai_object(reply)
    tier = reply.get("service_tier")
    created = reply.get("created_at")
    return Answer(
        id=_word(reply, "id"),
        model=_word(reply, "model"),
        choices=[Choice(parts, stop_of(reply, parts), logprobs=chat_logprobs(logprobs))],
        usage=usage,
        created_s=int(created) if isinstance(created, (int, float)) else 0,
        service_tier=tier if isinstance(tier, str) else None,
    )


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the reply is not valid JSON: {error}") from None
    if not isinstance(reply, dict):
        raise ValueError("the reply is not a JSON object")  # noqa: TRY004 - a wrong value, not a wrong type
    return reply


def _word(holder: Mapping[str, Any], name: str) -> str:
    found = holder.get(name)
    return found if isinstance(found, str) else ""


def parts_of_item(item: dict[str, Any], path: str, logprobs: list[Any] | None = None) -> list[Part]:
    """What an output item says. Adds the log probabilities of its texts to `logprobs`. Raises ValueError."""
    kind = item.get("type")
    try:
        match kind:
            case "message":
                return _message(item, path, logprobs)
            case "reasoning":
                found = read_thoughts(item, path)
                return [found] if found.text or found.encrypted or found.signature else []
            case "tool_search_call" if item.get("execution") == "client":
                return [read_call(item, path)]
            case "function_call" | "custom_tool_call":
                return [read_call(item, path)]
            case "image_generation_call" if isinstance(item.get("result"), str):
                mime = f"image/{item.get('output_format') or 'png'}"
                return [Media(MediaKind.Image, mime=mime, data=item["result"])]
    except MalformedError as error:
        raise ValueError(str(error)) from None
    if kind in _FOR_THE_CLIENT:
        raise ValueError(f"{path}: only clients of the Responses API can act on a {kind}")
    return []


def _message(item: dict[str, Any], path: str, logprobs: list[Any] | None) -> list[Part]:
    content = item.get("content")
    if isinstance(content, str):  # some servers shorten it
        return [Text(content)]
    parts: list[Part] = []
    for one in content if isinstance(content, list) else ():
        if not isinstance(one, dict):
            continue
        if one.get("type") == "refusal":
            parts.append(Refusal(_word(one, "refusal")))
        elif isinstance(one.get("text"), str):
            parts.append(Text(one["text"], annotations=objects(one.get("annotations"))))
            if logprobs is not None and isinstance(one.get("logprobs"), list):
                logprobs += one["logprobs"]
        else:
            raise ValueError(f"{path}: a part of type {shown(one.get('type'))} is none that we know")
    return parts


def chat_logprobs(found: list[Any]) -> dict[str, Any] | None:
    """Log probabilities in the shape of chat completions; None without any."""
    told = tokens_told(found)
    return {"content": told, "refusal": None} if told else None


def stop_of(reply: Mapping[str, Any], parts: Sequence[Part]) -> Stop:
    """Why it ended, by its status and what is in it."""
    if reply.get("status") == "incomplete":
        details = reply.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        if reason == "content_filter":
            return Stop.Filter
        return Stop.Pause if reason in ("max_messages", "steered") else Stop.Length
    if any(isinstance(part, ToolCall) for part in parts):
        return Stop.Tools
    spoken = [part for part in parts if not isinstance(part, Reasoning)]
    return Stop.Refusal if spoken and all(isinstance(part, Refusal) for part in spoken) else Stop.End


def failure_of(holder: Mapping[str, Any]) -> ErrorFact:
    """The error in a failed response, an `error` event, or an error body. Never raises."""
    error = holder.get("error")
    members = error if isinstance(error, Mapping) else holder
    code = members.get("code") or members.get("type")
    word = code if isinstance(code, str) and code != "error" else None
    message = members.get("message")
    param = members.get("param")
    told = message if isinstance(message, str) and message else "The provider failed to finish the response."
    return ErrorFact(_status_of(word), told, word, param if isinstance(param, str) else None)


def _status_of(code: str | None) -> int:
    if code is None:
        return 500
    found = _STATUS_OF_CODE.get(code)
    if found is not None:
        return found
    return 400 if code.startswith(_CALLERS_CODES) else 500
