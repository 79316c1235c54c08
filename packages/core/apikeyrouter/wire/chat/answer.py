"""Replies of chat completions: read from providers, written for clients.

Main entries: `read_answer`, `write_answer`, `checked_reply`. Choices are read in the order of their parts that the
format implies: thoughts, then text, refusal, pictures and sound, then tool calls.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import usage_of_openai
from apikeyrouter.wire.chat.identities import made_up_id
from apikeyrouter.wire.chat.members import decoded_object, json_text
from apikeyrouter.wire.chat.parts_in import media_of_url, read_part
from apikeyrouter.wire.chat.thoughts import read_thoughts, write_thoughts
from apikeyrouter.wire.chat.turns_out import call_object
from apikeyrouter.wire.chat.words import read_logprobs, read_stop, write_stop, write_usage
from apikeyrouter.wire.citations import nested_citation, tier_told
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    Media,
    MediaKind,
    Part,
    Reasoning,
    Refusal,
    Stop,
    Text,
    ToolCall,
)  # fmt: skip
from apikeyrouter.wire.losses import Losses

__all__ = ["chat_id", "checked_reply", "read_answer", "read_message", "write_answer"]

_encode = msgspec.json.Encoder().encode


def checked_reply(body: bytes) -> dict[str, Any]:
    """The reply as an object. Raises ValueError when it is none, or an error with status 200."""
    reply = decoded_object(body)
    fault = reply.get("error")
    if fault and not reply.get("choices"):
        raise ValueError(f"the reply has status 200 and an error inside: {str(fault)[:200]}")
    return reply


def read_answer(body: bytes) -> Answer:
    """See `Codec.read_answer`."""
    reply = checked_reply(body)
    choices = reply.get("choices")
    if not isinstance(choices, list):
        raise ValueError("the reply has no list of choices")  # noqa: TRY004 - wrong value, not type
    answer = Answer(_text(reply.get("id")), _text(reply.get("model")), [])
    for place, choice in enumerate(choices):
        answer.choices.append(_read_choice(choice, answer.id, place))
    answer.usage = usage_of_openai(body)
    created = reply.get("created")
    answer.created_s = int(created) if isinstance(created, int | float) and 0 <= created < 2**53 else 0
    tier = reply.get("service_tier")
    answer.service_tier = tier if isinstance(tier, str) else None
    return answer


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_choice(choice: object, reply_id: str, place: int) -> Choice:
    if not isinstance(choice, dict):
        raise ValueError("a choice is no object")  # noqa: TRY004 - wrong value, not type
    if choice.get("error") or choice.get("finish_reason") == "error":
        raise ValueError(f"a choice ended in an error: {str(choice.get('error'))[:200]}")
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    parts = read_message(message, reply_id, place)
    calls = any(isinstance(part, ToolCall) for part in parts)
    refused = any(isinstance(part, Refusal) for part in parts)
    told = Choice(parts, read_stop(choice.get("finish_reason"), calls=calls, refused=refused))
    matched = choice.get("stop_reason")  # vLLM: the sequence that ended it
    if isinstance(matched, str) and matched and told.stop is Stop.End:
        told.stop, told.stop_sequence = Stop.Sequence, matched
    told.logprobs = read_logprobs(choice.get("logprobs"))
    return told


def read_message(message: dict[str, Any], reply_id: str, place: int) -> list[Part]:
    """The parts of a reply's message. Raises ValueError."""
    message = dict(message)
    parts: list[Part] = list(read_thoughts(message))
    said = _read_said(message.get("content"))
    annotations = message.get("annotations")
    if isinstance(annotations, list) and annotations:
        told = [one for one in annotations if isinstance(one, dict)]
        holder = next((part for part in said if isinstance(part, Text)), None)
        if holder is not None and told:
            holder.annotations = told
    parts += said
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append(Refusal(refusal))
    parts += _read_media(message, spoken=not said)
    calls = message.get("tool_calls")
    for number, one in enumerate(calls if isinstance(calls, list) else ()):
        parts.append(_read_call(one, reply_id, place * 100 + number))
    old = message.get("function_call")
    if isinstance(old, dict) and old.get("name"):
        parts.append(ToolCall(made_up_id(reply_id, place * 100), str(old["name"]), json_text(old.get("arguments"))))
    return parts


def _read_said(content: object) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    if not isinstance(content, list):
        return []
    unheard = Losses("", may_drop=True)
    found: list[Part] = []
    for number, one in enumerate(content):
        try:
            part = read_part(one, f"content[{number}]", unheard)
        except MalformedError:  # such as references: nothing that could be shown
            continue
        if not (isinstance(part, Text) and not part.text):
            found.append(part)
    return found


def _read_media(message: dict[str, Any], *, spoken: bool) -> list[Part]:
    found: list[Part] = []
    images = message.get("images")  # OpenRouter
    for one in images if isinstance(images, list) else ():
        url = one.get("image_url") if isinstance(one, dict) else None
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            found.append(media_of_url(url, MediaKind.Image, "images"))
    audio = message.get("audio")
    if isinstance(audio, dict):
        if spoken and _text(audio.get("transcript")):
            found.append(Text(audio["transcript"]))
        if _text(audio.get("data")):
            found.append(Media(MediaKind.Audio, data=audio["data"]))
    return found


def _read_call(one: object, reply_id: str, number: int) -> ToolCall:
    if not isinstance(one, dict):
        raise ValueError("a tool call is no object")  # noqa: TRY004 - wrong value, not type
    function = one.get("function")
    if not isinstance(function, dict):
        function = one.get("custom")  # custom tools of OpenAI: free text instead of arguments
        if not isinstance(function, dict):
            raise ValueError("a tool call without a function")  # noqa: TRY004 - wrong value, not type
        function = {"name": function.get("name"), "arguments": function.get("input")}
    extra = one.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return ToolCall(
        _text(one.get("id")) or made_up_id(reply_id, number),
        _text(function.get("name")),
        json_text(function.get("arguments")),
        signature=signature if isinstance(signature, str) and signature else None,
    )


# -- writing --------------------------------------------------------------------------------------------------------


def chat_id(reply_id: str) -> str:
    """The id with OpenAI's prefix."""
    return reply_id if reply_id.startswith("chatcmpl") else f"chatcmpl-{reply_id or 'unknown'}"


def write_answer(answer: Answer, ask_model: str) -> bytes:
    """See `Codec.write_answer`."""
    reply: dict[str, Any] = {
        "id": chat_id(answer.id),
        "object": "chat.completion",
        "created": answer.created_s,
        "model": answer.model or ask_model,
        "choices": [_choice(choice, index, answer.id) for index, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        reply["usage"] = write_usage(answer.usage)
    tier = tier_told(answer.service_tier or (answer.usage.service_tier if answer.usage is not None else ""))
    if tier:
        reply["service_tier"] = tier
    return _encode(reply)


def _choice(choice: Choice, index: int, reply_id: str) -> dict[str, Any]:
    texts: list[str] = []
    refusals: list[str] = []
    annotations: list[dict[str, Any]] = []
    thoughts: list[Reasoning] = []
    media: list[Media] = []
    calls: list[dict[str, Any]] = []
    for part in choice.parts:
        if isinstance(part, Text):
            if part.annotations:
                shift = sum(map(len, texts))
                annotations += [told for one in part.annotations if (told := nested_citation(one, shift))]
            texts.append(part.text)
        elif isinstance(part, ToolCall):
            calls.append(call_object(part, part.id or made_up_id(reply_id, index * 100 + len(calls))))
        elif isinstance(part, Reasoning):
            thoughts.append(part)
        elif isinstance(part, Refusal):
            refusals.append(part.text)
        elif isinstance(part, Media):
            media.append(part)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if annotations:
        message["annotations"] = annotations
    if thoughts:
        message.update(write_thoughts(thoughts))
    if media:
        _add_media(message, media)
    if calls:
        message["tool_calls"] = calls
    finish = write_stop(choice.stop, calls=bool(calls), refused=bool(refusals))
    told = {"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": finish}
    if choice.stop is Stop.Sequence and choice.stop_sequence is not None:
        told["stop_reason"] = choice.stop_sequence
    return told


def _add_media(message: dict[str, Any], media: list[Media]) -> None:
    """Pictures as OpenRouter tells them, sound as OpenAI does."""
    images = [one for one in media if one.kind is MediaKind.Image and (one.data or one.url)]
    if images:
        message["images"] = [
            {"type": "image_url", "image_url": {"url": one.url or f"data:{one.mime or 'image/png'};base64,{one.data}"}}
            for one in images
        ]
    sound = next((one for one in media if one.kind is MediaKind.Audio and one.data), None)
    if sound is not None:
        message["audio"] = {"id": "audio", "data": sound.data, "transcript": message["content"] or "", "expires_at": 0}
