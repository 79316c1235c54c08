"""Replies of the simulated Gemini: a `GenerateContentResponse`, or the same in chunks.

Main entry: `answer_content`. A reply thinks unless told not to, calls functions as the simulator's other formats do
(`tool_calls.choose_calls`), else says something; a prompt with `BLOCK_WORD` in it is blocked.
Laws: it depends on the request and the seed alone; usage counts exactly what is there; thoughts count beside the
candidates, as Google counts them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.chat import cut_at_stop
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.gemini_request import ContentRequest, digest, proof_of
from apikeyrouter.simulation.messages import Prompt
from apikeyrouter.simulation.requests import ChatRequest
from apikeyrouter.simulation.schema import fill
from apikeyrouter.simulation.text import Digest, compose, digest_of, tokens_of
from apikeyrouter.simulation.tool_calls import choose_calls

__all__ = ["BLOCK_WORD", "Content", "answer_content", "chunk_event"]

BLOCK_WORD = "simulate-a-safety-block"

_CALL_OVERHEAD_TOKENS = 5
_TOKENS_A_CHUNK = 4
_SAFETY = [
    {"category": f"HARM_CATEGORY_{name}", "probability": "NEGLIGIBLE"}
    for name in ("HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT")
]
_MODES = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}


@dataclass(slots=True)
class Candidate:
    """One reply: parts, why it ended, and how many tokens it has."""

    parts: list[dict[str, Any]]
    reason: str
    tokens: int


@dataclass(slots=True)
class Content:
    """A finished reply. `thought_tokens`: beside those of the candidates. `blocked`: the prompt was."""

    reply_id: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    candidates: list[Candidate]
    thought: str
    thought_tokens: int
    blocked: bool = False

    @property
    def tokens(self) -> int:
        """All output."""
        return self.thought_tokens + sum(one.tokens for one in self.candidates)

    def whole(self) -> bytes:
        """The body of the reply that is not streamed, indented as Google's."""
        if self.blocked:
            return msgspec.json.format(msgspec.json.encode(self._blocked()), indent=2)
        candidates = [
            {
                "content": {"parts": [*self._thoughts(), *one.parts], "role": "model"},
                "finishReason": one.reason,
                "index": at,
                "safetyRatings": _SAFETY,
            }
            for at, one in enumerate(self.candidates)
        ]
        reply = self._around({"candidates": candidates}, sum(one.tokens for one in self.candidates))
        return msgspec.json.format(msgspec.json.encode(reply), indent=2)

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The chunks of the streamed reply. Calls come whole, the finish reason with the last text."""
        if self.blocked:
            yield self._blocked()
            return
        for part in self._thoughts():
            yield self._chunk([part], 0, 0)
        written = 0
        for at, one in enumerate(self.candidates):
            pieces = list(_pieces(one.parts))
            for number, (part, tokens) in enumerate(pieces):
                written += tokens
                last = number == len(pieces) - 1
                yield self._chunk([part], at, written, one.reason if last else None)

    def _thoughts(self) -> list[dict[str, Any]]:
        return [{"text": self.thought, "thought": True}] if self.thought else []

    def _chunk(self, parts: list[dict[str, Any]], at: int, written: int, reason: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
        if reason is not None:
            candidate["finishReason"] = reason
        return self._around({"candidates": [{**candidate, "index": at}]}, written)

    def _blocked(self) -> dict[str, Any]:
        return self._around({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": _SAFETY}}, 0)

    def _around(self, reply: dict[str, Any], written: int) -> dict[str, Any]:
        usage: dict[str, Any] = {"promptTokenCount": self.prompt_tokens}
        if written:
            usage["candidatesTokenCount"] = written
        usage["totalTokenCount"] = self.prompt_tokens + written + self.thought_tokens
        if self.cached_tokens:
            usage["cachedContentTokenCount"] = self.cached_tokens
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt_tokens}]
        if self.thought_tokens:
            usage["thoughtsTokenCount"] = self.thought_tokens
        return {**reply, "usageMetadata": usage, "modelVersion": self.model, "responseId": self.reply_id}


def chunk_event(chunk: dict[str, Any]) -> bytes:
    """A chunk as a server-sent event."""
    return b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n"


def answer_content(request: ContentRequest, config: SimConfig, reply_id: str, cached_tokens: int) -> Content:
    """Answers a checked request. Raises ApiError."""
    seed_digest = digest(request, config.seed)
    content = Content(reply_id, request.model, request.tokens, cached_tokens, [], "", 0)
    if BLOCK_WORD in request.last_user:
        content.blocked = True
        return content
    wanted = request.config.get("thinkingConfig", {})
    most: int | None = request.config.get("maxOutputTokens")
    if _thinks(request.model, wanted):
        thought = compose(digest_of(config.seed, "thought", seed_digest), request.last_user, 12, 32)
        content.thought_tokens = len(tokens_of(thought))
        content.thought = thought if wanted.get("includeThoughts", wanted.get("include_thoughts")) else ""
        most = None if most is None else most - content.thought_tokens
    for at in range(request.config.get("candidateCount", 1)):
        mine = digest_of(config.seed, str(at), seed_digest) if at else seed_digest
        content.candidates.append(_candidate(request, config, mine, most))
    return content


def _thinks(model: str, wanted: dict[str, Any]) -> bool:
    thinking = model.startswith(("gemini-2.5", "gemini-3"))
    return thinking and wanted.get("thinkingBudget", wanted.get("thinking_budget")) != 0  # Google's SDK says the latter


def _candidate(request: ContentRequest, config: SimConfig, mine: Digest, most: int | None) -> Candidate:
    if most is not None and most <= 0:
        return Candidate([], "MAX_TOKENS", 0)
    calls = _calls(request, config.seed, mine)
    if calls:
        written = sum(len(tokens_of(str(one["functionCall"]["args"]))) + _CALL_OVERHEAD_TOKENS for one in calls)
        return Candidate(calls, "STOP", written)
    pieces = tokens_of(cut_at_stop(_words(request, config, mine), request.config.get("stopSequences")))
    reason = "STOP"
    if most is not None and len(pieces) > most:
        pieces, reason = pieces[:most], "MAX_TOKENS"
    return Candidate([{"text": "".join(pieces)}], reason, len(pieces))


def _calls(request: ContentRequest, seed: int, mine: Digest) -> list[dict[str, Any]]:
    functions = [one for one in request.functions if not request.allowed or one["name"] in request.allowed]
    if not functions:
        return []
    asked = ChatRequest(
        tools=[{"type": "function", "function": one} for one in functions],
        tool_choice=_MODES.get(request.mode, "auto"),
    )
    role = "tool" if request.results else "user"
    prompt = Prompt(request.tokens, mine, mine, request.last_user, role, request.results)
    try:
        calls = choose_calls(asked, prompt, mine)
    except ValueError as fault:
        raise invalid(f"Invalid function declaration: {fault}") from None
    parts: list[dict[str, Any]] = []
    for call in calls:
        args = msgspec.json.decode(call.arguments)
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": args}}
        if request.model.startswith("gemini-3") and not parts:  # the first of several bears the proof for all
            told = msgspec.json.encode(args, order="sorted").decode()
            part["thoughtSignature"] = proof_of(call.name, told, seed)
        parts.append(part)
    return parts


def _words(request: ContentRequest, config: SimConfig, mine: Digest) -> str:
    schema = request.config.get("responseJsonSchema") or request.config.get("responseSchema")
    if schema:
        try:
            return msgspec.json.encode(fill(schema, random.Random(int.from_bytes(mine, "big")))).decode()
        except ValueError as fault:
            raise invalid(f"Invalid response schema: {fault}") from None
    subject = request.results[-1] if request.results else request.last_user
    text = compose(mine, subject, *config.reply_tokens)
    if request.config.get("responseMimeType") == "application/json":
        return msgspec.json.encode({"answer": text}).decode()
    return text


def _pieces(parts: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """Parts of chunks with their tokens."""
    if not parts:
        yield {"text": ""}, 0
    for part in parts:
        if "functionCall" in part:
            yield part, len(tokens_of(str(part["functionCall"]["args"]))) + _CALL_OVERHEAD_TOKENS
            continue
        tokens = tokens_of(part["text"])
        for at in range(0, max(1, len(tokens)), _TOKENS_A_CHUNK):
            some = tokens[at : at + _TOKENS_A_CHUNK]
            yield {"text": "".join(some)}, len(some)
