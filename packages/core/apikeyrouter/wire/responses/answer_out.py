"""An `Answer`, written as a whole response; also the pieces that streams share.

Main entries: `write_answer`, `response_object`, `ending_of`, `item_of_call`, `item_of_thoughts`, `usage_object`.
Thoughts are written as a summary, which is what clients of this format show; proofs of other providers travel in
`encrypted_content` (`proofs.py`). What a caller asked for (temperature, tools ...) is not told again: its defaults
stand there, since the format wants values.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.citations import flat_citation, tier_told
from apikeyrouter.wire.facts import Answer, Media, Part, Reasoning, Refusal, Stop, Text, ToolCall
from apikeyrouter.wire.responses.names import SEARCH, custom_input, split
from apikeyrouter.wire.responses.proofs import Proof, pack

__all__ = [
    "cipher_of", "ending_of", "item_of_call", "item_of_media", "item_of_signature", "item_of_thoughts", "plain_id",
    "response_id", "response_object", "text_part", "usage_object", "write_answer",
]  # fmt: skip

_PREFIX = "resp_"


def write_answer(answer: Answer, ask_model: str) -> bytes:
    """See `Codec.write_answer`. The format has one reply: of several the first is told."""
    choice = answer.choices[0] if answer.choices else None
    parts = choice.parts if choice is not None else []
    stop = choice.stop if choice is not None else None
    reply_id = response_id(answer.id)
    items = _items(parts, plain_id(reply_id), stop, choice.logprobs if choice is not None else None)
    status, details = ending_of(stop or Stop.End, parts)
    members = response_object(reply_id, answer.model or ask_model, answer.created_s, status, items)
    members["incomplete_details"] = details
    members["usage"] = usage_object(answer.usage)
    members["service_tier"] = tier_told(answer.service_tier) or "default"
    return msgspec.json.encode(members)


def response_id(told: str) -> str:
    """A provider's id with this format's prefix."""
    return told if told.startswith(_PREFIX) else _PREFIX + (told or "0")


def plain_id(reply_id: str) -> str:
    """What the ids of a response's items are made of."""
    return reply_id.removeprefix(_PREFIX)


def response_object(
    reply_id: str, model: str, created_s: int, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    """The response with every member that the format demands."""
    return {
        "id": reply_id,
        "object": "response",
        "created_at": created_s,
        "status": status,
        "background": False,
        "completed_at": created_s if status == "completed" else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def ending_of(stop: Stop, parts: list[Part]) -> tuple[str, dict[str, Any] | None]:
    """Status and `incomplete_details` of a finished reply. A refusal in words of its own is complete; one without them
    counts as filtered, so that nobody takes it for an answer."""
    match stop:
        case Stop.Length | Stop.Context | Stop.Pause:
            return "incomplete", {"reason": "max_output_tokens"}
        case Stop.Filter:
            return "incomplete", {"reason": "content_filter"}
        case Stop.Refusal if not any(isinstance(part, Refusal) for part in parts):
            return "incomplete", {"reason": "content_filter"}
        case _:
            return "completed", None


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """`usage` as this format tells it."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _items(parts: list[Part], base: str, stop: Stop | None, logprobs: dict[str, Any] | None) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    content: list[dict[str, Any]] | None = None
    told = list((logprobs or {}).get("content") or ())
    status = "incomplete" if stop in (Stop.Length, Stop.Context) else "completed"
    for part in parts:
        if isinstance(part, (Text, Refusal)):
            if content is None:
                content = []
                items.append(_message(f"msg_{base}_{len(items)}", content))
            content.append(text_part(part, told))
            told = [] if isinstance(part, Text) else told
            continue
        content = None
        match part:
            case ToolCall():
                items.append(item_of_call(part, f"fc_{base}_{len(items)}"))
                if part.signature is not None:
                    items.append(item_of_signature(part, f"rs_{base}_{len(items)}"))
            case Reasoning():
                items.append(item_of_thoughts(part, f"rs_{base}_{len(items)}"))
            case Media() if part.data is not None:
                items.append(item_of_media(part, f"ig_{base}_{len(items)}"))
            case _:
                pass
    if items and "status" in items[-1]:
        items[-1]["status"] = status
    return items


def _message(item_id: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": content}


def text_part(part: Text | Refusal, logprobs: list[Any]) -> dict[str, Any]:
    """The content part of words."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {
        "type": "output_text",
        "annotations": [told for one in part.annotations or () if (told := flat_citation(one))],
        "logprobs": logprobs,
        "text": part.text,
    }


def item_of_call(part: ToolCall, item_id: str) -> dict[str, Any]:
    """A `function_call`, or a `custom_tool_call` where the caller's tool takes free text."""
    namespace, name, custom = split(part.name)
    arguments = part.arguments or "{}"
    item: dict[str, Any]
    if part.name == SEARCH:
        item = {"id": item_id, "type": "tool_search_call", "execution": "client", "status": "completed"}
        return {**item, "call_id": part.id or item_id, "arguments": _object(arguments)}
    if custom:
        item = {"id": item_id, "type": "custom_tool_call", "call_id": part.id or item_id, "name": name}
        item["input"] = custom_input(arguments)
    else:
        item = {"id": item_id, "type": "function_call", "status": "completed", "arguments": arguments}
        item["call_id"] = part.id or item_id
        item["name"] = name
    if namespace is not None:
        item["namespace"] = namespace
    return item


def _object(arguments: str) -> dict[str, Any]:
    """Arguments as the object that some items want; {} when the model wrote none."""
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def item_of_thoughts(part: Reasoning, item_id: str) -> dict[str, Any]:
    """A `reasoning` item."""
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item: dict[str, Any] = {"id": part.id or item_id, "type": "reasoning", "summary": summary}
    cipher = cipher_of(part)
    if cipher is not None:
        item["encrypted_content"] = cipher
    return item


def cipher_of(part: Reasoning) -> str | None:
    """`encrypted_content`: OpenAI's own as it is, another provider's proof packed."""
    if part.origin == Wire.Responses.value:
        return part.encrypted
    if part.signature is None and part.encrypted is None:
        return None
    return pack(Proof(part.origin, part.signature, part.encrypted))


def item_of_signature(part: ToolCall, item_id: str) -> dict[str, Any]:
    """What brings a tool call's signature back to its provider."""
    proof = pack(Proof(signature=part.signature, call_id=part.id or item_id))
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": proof}


def item_of_media(part: Media, item_id: str) -> dict[str, Any]:
    """A picture that the model made."""
    return {"id": item_id, "type": "image_generation_call", "status": "completed", "result": part.data}
