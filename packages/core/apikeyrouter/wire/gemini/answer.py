"""Whole replies: a provider's `GenerateContentResponse` read, a client's written.

Main entries: `read_answer`, `write_answer`; `parts_of` and `call_id` are shared with streams. A prompt that was blocked
has no candidates: it becomes one reply that was withheld.
Law: a call without an id gets one from the reply's own id and its place in the reply: the same in a stream and out of
it, and no two in a conversation.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Answer, Choice, Media, Part, Reasoning, Refusal, Stop, Text, ToolCall
from apikeyrouter.wire.gemini.errors import error_of
from apikeyrouter.wire.gemini.grounding import annotations_of, grounding_metadata, logprobs_of, logprobs_result
from apikeyrouter.wire.gemini.media import blob_part, media_part
from apikeyrouter.wire.gemini.signatures import ORIGIN, signature_of
from apikeyrouter.wire.gemini.usage import usage_metadata
from apikeyrouter.wire.gemini.words import finish_reason, stop_of
from apikeyrouter.wire.losses import Losses

__all__ = ["blocked_words", "call_id", "call_of", "part_of_answer", "read_answer", "said", "write_answer"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def read_answer(body: bytes) -> Answer:
    """See `Codec.read_answer`."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(f"the reply is not JSON: {fault}") from None
    if isinstance(reply, list):  # a stream that nobody asked to be one
        raise ValueError("the reply is a list")  # noqa: TRY004 - wrong value, not type
    if not isinstance(reply, dict):
        raise ValueError("the reply is not an object")  # noqa: TRY004 - wrong value, not type
    if reply.get("error"):
        raise ValueError(f"the reply has status 200 and an error inside: {error_of(reply['error']).message}")
    return answer_of(reply)


def answer_of(reply: dict[str, Any]) -> Answer:
    """The reply as neutral values. Raises ValueError when it is none."""
    reply_id = said(reply.get("responseId"))
    candidates = reply.get("candidates") or []
    feedback = reply.get("promptFeedback")
    if not isinstance(candidates, list) or not (candidates or isinstance(feedback, dict) or "usageMetadata" in reply):
        raise ValueError("the reply has no list of candidates")
    choices = [_choice(one, reply_id, number) for number, one in enumerate(candidates)]
    if not choices:
        words = blocked_words(feedback)
        choices = [Choice([Refusal(words)], Stop.Filter) if words else Choice([], Stop.End)]
    return Answer(reply_id, said(reply.get("modelVersion")), choices, usage_of_gemini(reply))


def blocked_words(feedback: object) -> str | None:
    """Why a prompt was blocked; None when it was not."""
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if not reason or not isinstance(feedback, dict):
        return None
    message = feedback.get("blockReasonMessage")
    return message if isinstance(message, str) and message else f"The prompt was blocked ({reason})."


def _choice(candidate: object, reply_id: str, number: int) -> Choice:
    if not isinstance(candidate, dict):
        raise ValueError(f"candidates[{number}] is not an object")  # noqa: TRY004 - wrong value, not type
    content = candidate.get("content")
    wire = content.get("parts") if isinstance(content, dict) else None
    parts: list[Part] = []
    calls = 0
    for one in wire if isinstance(wire, list) else []:
        if not isinstance(one, dict):
            raise ValueError(f"a part of candidates[{number}] is not an object")  # noqa: TRY004
        if "functionCall" in one:
            parts.append(call_of(one, reply_id, number, calls))
            calls += 1
        else:
            _add(parts, one)
    metadata = candidate.get("groundingMetadata")
    if metadata:
        _annotate(parts, metadata)
    stop = stop_of(candidate.get("finishReason"), calls=calls > 0)
    return Choice(parts, stop or Stop.End, logprobs=logprobs_of(candidate.get("logprobsResult")))


def _add(parts: list[Part], one: dict[str, Any]) -> None:
    """Adds text, thoughts and media. What Google's own tools did is left out: their outcome is in the text."""
    signature = one.get("thoughtSignature")
    signature = signature if isinstance(signature, str) else None
    words = said(one.get("text"))
    if one.get("thought") is True and "text" in one:
        parts.append(Reasoning(words, signature, origin=ORIGIN))
        return
    if words:
        parts.append(Text(words))
    elif "inlineData" in one:
        parts.append(media_of(one["inlineData"]))
    if signature is not None and ("text" in one or "inlineData" in one):
        parts.append(Reasoning("", signature, origin=ORIGIN))


def media_of(blob: object) -> Media:
    """A picture or sound that the model made. Raises ValueError."""
    try:
        return blob_part(blob, "inlineData")
    except MalformedError as fault:
        raise ValueError(str(fault)) from None


def call_of(part: dict[str, Any], reply_id: str, choice: int, number: int) -> ToolCall:
    """The call in a part, the `number`th of its candidate. Raises ValueError."""
    told = part["functionCall"]
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise ValueError("a functionCall has no name")  # noqa: TRY004 - wrong value, not type
    args, signature = told.get("args"), part.get("thoughtSignature")
    return ToolCall(
        said(told.get("id")) or call_id(reply_id, choice, number),
        told["name"],
        msgspec.json.encode(args).decode() if isinstance(args, dict) else "{}",
        signature=signature if isinstance(signature, str) else None,
    )


def call_id(reply_id: str, choice: int, number: int) -> str:
    """An id for a call that has none: letters, digits, "-" and "_", at most 40 characters, as every format takes it."""
    place = f"{choice}_{number}" if choice else str(number)
    return f"call_{_UNSAFE.sub('', reply_id)[:28]}_{place}"[:40]


def _annotate(parts: list[Part], metadata: object) -> None:
    """Hangs the citations on the text that they are about: segments count over the whole text of a candidate."""
    texts = [part for part in parts if isinstance(part, Text)]
    if len(texts) == 1:
        texts[0].annotations = annotations_of(metadata, texts[0].text) or None
        return
    begin = 0
    found = annotations_of(metadata, "".join(part.text for part in texts))
    for part in texts:
        end = begin + len(part.text)
        mine = []
        for one in found:
            told = one["url_citation"]
            if begin <= told["start_index"] < end:
                last = min(told["end_index"], end) - begin
                inner = {**told, "start_index": told["start_index"] - begin, "end_index": last}
                mine.append({"type": "url_citation", "url_citation": inner})
        part.annotations = mine or None
        begin = end


def write_answer(answer: Answer, ask_model: str) -> bytes:
    """See `Codec.write_answer`."""
    reply: dict[str, Any] = {
        "candidates": [_candidate(choice, number) for number, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        reply["usageMetadata"] = usage_metadata(answer.usage)
    reply["modelVersion"] = answer.model or ask_model
    reply["responseId"] = answer.id
    return msgspec.json.encode(reply)


def _candidate(choice: Choice, number: int) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    words = ""
    annotations: list[dict[str, Any]] = []
    for part in choice.parts:
        if isinstance(part, Reasoning) and not part.text and part.origin == ORIGIN and parts and "text" in parts[-1]:
            parts[-1].setdefault("thoughtSignature", part.signature)
            continue
        told = part_of_answer(part)
        if told is not None:
            parts.append(told)
        if isinstance(part, Text):
            annotations += [_moved(one, len(words)) for one in part.annotations or ()]
            words += part.text
    candidate: dict[str, Any] = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": finish_reason(choice.stop),
        "index": number,
    }
    grounding = grounding_metadata(annotations, words) if annotations else None
    if grounding is not None:
        candidate["groundingMetadata"] = grounding
    result = logprobs_result(choice.logprobs) if choice.logprobs is not None else None
    if result is not None:
        candidate["logprobsResult"] = result
    return candidate


def part_of_answer(part: Part) -> dict[str, Any] | None:
    """A part of a reply for a client; None for one that says nothing."""
    match part:
        case Text() | Refusal():
            return {"text": part.text}
        case Reasoning():
            told: dict[str, Any] = {"text": part.text, "thought": True}
            signature = signature_of(part)
            if signature is not None:
                told["thoughtSignature"] = signature
            return told if part.text or signature is not None else None
        case ToolCall():
            call = {"name": part.name, "args": _args(part.arguments)}
            out: dict[str, Any] = {"functionCall": {**call, "id": part.id} if part.id else call}
            if part.signature is not None:
                out["thoughtSignature"] = part.signature
            return out
        case Media():
            return media_part(part, Losses(ORIGIN, may_drop=True))
        case _:
            return None


def _args(arguments: str) -> object:
    """The arguments as an object; text that is none (the model was cut off) stays visible under one name."""
    if not arguments.strip():
        return {}
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": arguments}
    if not isinstance(found, dict):
        return {"arguments": arguments}
    # Line breaks between members are legal JSON, and would break an event of a stream in two.
    return msgspec.Raw(arguments.replace("\n", " ").replace("\r", " ").encode())


def _moved(annotation: dict[str, Any], by: int) -> dict[str, Any]:
    told = annotation.get("url_citation", annotation)
    if not by or not isinstance(told, dict):
        return annotation
    places = {name: told[name] + by for name in ("start_index", "end_index") if type(told.get(name)) is int}
    return {"type": "url_citation", "url_citation": {**told, **places}}


def said(value: object) -> str:
    """A string, or "" for anything else."""
    return value if isinstance(value, str) else ""
