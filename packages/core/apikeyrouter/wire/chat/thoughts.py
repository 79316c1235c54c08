"""Thoughts in chat completions, which OpenAI's own format has no place for.

Servers tell them as `reasoning_content` (DeepSeek, vLLM, Moonshot, Z.ai) or `reasoning` (OpenRouter, Groq, Cerebras);
proofs and ciphers travel in `reasoning_details`, OpenRouter's list, which clients send back as it came
(https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks, read 2026-11). We write
`reasoning_content` for reading, and `reasoning_details` whenever something must come back unchanged.

Law: `read_thoughts(write_thoughts(x))` is x, but the origin of a single thought without proof, cipher or id, which
means nothing then.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import Reasoning

__all__ = ["FORMATS", "ORIGINS", "detail_of", "read_detail", "read_thoughts", "text_of_thoughts", "write_thoughts"]

FORMATS = {
    Wire.Messages.value: "anthropic-claude-v1",
    Wire.Gemini.value: "google-gemini-v1",
    Wire.Responses.value: "openai-responses-v1",
    Wire.Converse.value: "amazon-bedrock-v1",
}
"""Origin -> `format` of a detail: OpenRouter's names, and one of our own for Bedrock."""

ORIGINS = {name: origin for origin, name in FORMATS.items()} | {"google-vertex-v1": Wire.Gemini.value}


def read_thoughts(message: dict[str, Any]) -> list[Reasoning]:
    """The thoughts of a message or delta; its members that held them are taken out."""
    plain = message.pop("reasoning_content", None)
    other = message.pop("reasoning", None)
    text = text_of_thoughts(plain) or text_of_thoughts(other)
    details = message.pop("reasoning_details", None)
    found = _read_details(details) if isinstance(details, list) else []
    if not found:
        return [Reasoning(text, origin=Wire.Chat.value)] if text else []
    if text and not any(one.text for one in found):
        found[0].text = text
    return found


def text_of_thoughts(value: object) -> str:
    """Thoughts as a string, a list of texts (Mistral) or an object with the text inside."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_of_thoughts, value))
    if isinstance(value, dict):
        return text_of_thoughts(value.get("text") or value.get("content") or value.get("thinking"))
    return ""


def _read_details(details: list[Any]) -> list[Reasoning]:
    found: list[Reasoning] = []
    last_index: object = None
    for one in details:
        if not isinstance(one, dict):
            continue
        index = one.get("index")
        part = read_detail(one)
        if found and index is not None and index == last_index and _fits(found[-1], part):
            _merge(found[-1], part)
        else:
            found.append(part)
        last_index = index
    return found


def read_detail(one: dict[str, Any]) -> Reasoning:
    """One entry of `reasoning_details`."""
    origin = ORIGINS.get(str(one.get("format")), Wire.Chat.value)
    part = Reasoning(text_of_thoughts(one.get("text") or one.get("summary")), origin=origin)
    signature, data, name = one.get("signature"), one.get("data"), one.get("id")
    part.signature = signature if isinstance(signature, str) and signature else None
    part.encrypted = data if isinstance(data, str) and data else None
    part.id = name if isinstance(name, str) and name else None
    return part


def _fits(first: Reasoning, more: Reasoning) -> bool:
    """Whether two details of the same index are one thought: pieces of its text, then its proof or cipher."""
    if first.origin != more.origin or (first.encrypted and more.encrypted):
        return False
    if first.id and more.id and first.id != more.id:
        return False
    return not (first.signature and (more.text or more.signature))


def _merge(first: Reasoning, more: Reasoning) -> None:
    first.text += more.text
    first.signature = first.signature or more.signature
    first.encrypted = first.encrypted or more.encrypted
    first.id = first.id or more.id


def write_thoughts(parts: list[Reasoning]) -> dict[str, Any]:
    """The members of a message that tell these thoughts."""
    if not parts:
        return {}
    members: dict[str, Any] = {}
    text = "\n\n".join(part.text for part in parts if part.text)
    if text:
        members["reasoning_content"] = text
    if len(parts) > 1 or parts[0].signature or parts[0].encrypted or parts[0].id:
        members["reasoning_details"] = [one for number, part in enumerate(parts) for one in detail_of(part, number)]
    return members


def detail_of(part: Reasoning, index: int) -> list[dict[str, Any]]:
    """One thought as details: its text with the signature, and its cipher."""
    common: dict[str, Any] = {"format": FORMATS.get(part.origin, "unknown"), "index": index}
    if part.id is not None:
        common["id"] = part.id
    details: list[dict[str, Any]] = []
    if part.text or part.signature or not part.encrypted:
        if part.encrypted or (part.origin == Wire.Responses.value and not part.signature):
            details.append({"type": "reasoning.summary", "summary": part.text, **common})
        else:
            details.append({"type": "reasoning.text", "text": part.text, **common})
        if part.signature:
            details[0]["signature"] = part.signature
    if part.encrypted:
        details.append({"type": "reasoning.encrypted", "data": part.encrypted, **common})
    return details
