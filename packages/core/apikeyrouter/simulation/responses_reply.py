"""A finished reply as `/v1/responses` tells it: whole, or as events.

Main entries: `response_of`, `response_events`. Shapes and order follow recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.chat import Answer, ChatReply
from apikeyrouter.simulation.responses_request import ResponseRequest, cipher
from apikeyrouter.simulation.text import digest_of, tokens_of

__all__ = ["response_events", "response_of", "response_usage"]

_ECHOED: dict[str, Any] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "parallel_tool_calls": True,
    "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None, "service_tier": "default", "store": True, "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [],
    "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": None, "metadata": {}, "background": False,
}  # fmt: skip


def response_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Chat's usage in this format's words."""
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": usage["total_tokens"],
    }


def response_of(request: ResponseRequest, reply: ChatReply, account: Account) -> dict[str, Any]:
    """The whole response."""
    answer = reply.answers[0]
    cut = answer.finish_reason == "length"
    echoed = {name: request.members.get(name) for name in _ECHOED if request.members.get(name) is not None}
    return {
        "id": reply.reply_id,
        "object": "response",
        "created_at": reply.created,
        "completed_at": None if cut else reply.created,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": reply.model,
        "output": _output(request, reply, answer, account),
        "usage": response_usage(reply.usage),
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        **_ECHOED,
        **echoed,
    }


def _output(request: ResponseRequest, reply: ChatReply, answer: Answer, account: Account) -> list[dict[str, Any]]:
    base = digest_of(7, reply.reply_id).hex()
    items: list[dict[str, Any]] = []
    if answer.reasoning_tokens:
        thoughts: dict[str, Any] = {"id": f"rs_{base}", "type": "reasoning", "summary": []}
        if (request.members.get("reasoning") or {}).get("summary"):
            words = f"Thinking about it for {answer.reasoning_tokens} tokens."
            thoughts["summary"] = [{"type": "summary_text", "text": words}]
        if "reasoning.encrypted_content" in (request.members.get("include") or ()):
            thoughts["encrypted_content"] = cipher(account, reply.reply_id)
        items.append(thoughts)
    for at, call in enumerate(answer.tool_calls):
        if call.custom:
            item = {"id": f"ctc_{base}{at}", "type": "custom_tool_call", "status": "completed", "input": call.arguments}
        else:
            item = {"id": f"fc_{base}{at}", "type": "function_call", "status": "completed", "arguments": call.arguments}
        item |= {"call_id": call.call_id, "name": call.name}
        if call.name in request.namespaces:
            item["namespace"] = request.namespaces[call.name]
        items.append(item)
    if answer.text is not None:
        content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}]
        status = "incomplete" if answer.finish_reason == "length" else "completed"
        items.append(
            {"id": f"msg_{base}", "type": "message", "status": status, "role": "assistant", "content": content}
        )
    return items


class _Numbered:
    """Events with their numbers."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **members: Any) -> bytes:
        """One event."""
        body = {"type": kind, **members, "sequence_number": self._number}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(body) + b"\n\n"


def response_events(response: dict[str, Any]) -> Iterator[bytes]:
    """The events of a streamed response."""
    out = _Numbered()
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "completed_at": None}
    begun["incomplete_details"] = None
    yield out.event("response.created", response=begun)
    yield out.event("response.in_progress", response=begun)
    for at, item in enumerate(response["output"]):
        match item["type"]:
            case "message":
                yield from _message_events(out, at, item)
            case "reasoning":
                yield from _thought_events(out, at, item)
            case kind:
                yield from _call_events(out, at, item, "arguments" if kind == "function_call" else "input")
    yield out.event(f"response.{response['status']}", response=response)


def _message_events(out: _Numbered, at: int, item: dict[str, Any]) -> Iterator[bytes]:
    part = item["content"][0]
    where = {"item_id": item["id"], "output_index": at, "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    yield out.event("response.output_item.added", output_index=at, item=begun)
    yield out.event("response.content_part.added", **where, part={**part, "text": ""})
    for piece in tokens_of(part["text"]):
        yield out.event("response.output_text.delta", **where, delta=piece, logprobs=[])
    yield out.event("response.output_text.done", **where, text=part["text"], logprobs=[])
    yield out.event("response.content_part.done", **where, part=part)
    yield out.event("response.output_item.done", output_index=at, item=item)


def _thought_events(out: _Numbered, at: int, item: dict[str, Any]) -> Iterator[bytes]:
    yield out.event("response.output_item.added", output_index=at, item={**item, "summary": []})
    for number, part in enumerate(item["summary"]):
        where = {"item_id": item["id"], "output_index": at, "summary_index": number}
        yield out.event("response.reasoning_summary_part.added", **where, part={**part, "text": ""})
        for piece in tokens_of(part["text"]):
            yield out.event("response.reasoning_summary_text.delta", **where, delta=piece)
        yield out.event("response.reasoning_summary_text.done", **where, text=part["text"])
        yield out.event("response.reasoning_summary_part.done", **where, part=part)
    yield out.event("response.output_item.done", output_index=at, item=item)


def _call_events(out: _Numbered, at: int, item: dict[str, Any], argument: str) -> Iterator[bytes]:
    kind = "response.function_call_arguments" if argument == "arguments" else "response.custom_tool_call_input"
    where = {"item_id": item["id"], "output_index": at}
    begun = {**item, "status": "in_progress", argument: ""}
    yield out.event("response.output_item.added", output_index=at, item=begun)
    for piece in tokens_of(item[argument]):
        yield out.event(f"{kind}.delta", **where, delta=piece)
    yield out.event(f"{kind}.done", **where, **{argument: item[argument]})
    yield out.event("response.output_item.done", output_index=at, item=item)
