"""`/v1/chat/completions`: from a request to the whole reply, of which `sse` also makes a stream.

Main entry: `answer_chat`. Laws: the reply depends on the messages, the parameters and the seed alone (ids and dates
come from the caller); usage counts exactly the tokens that are there; reasoning tokens count against
`max_completion_tokens`, as with the real thing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.catalog import ModelFacts, model_facts
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.messages import Prompt, check_tools, read_prompt
from apikeyrouter.simulation.requests import ChatRequest, check_ranges
from apikeyrouter.simulation.schema import fill
from apikeyrouter.simulation.text import Digest, compose, digest_of, tokens_of
from apikeyrouter.simulation.tool_calls import ToolCall, choose_calls

__all__ = ["Answer", "ChatReply", "answer_chat", "cut_at_stop"]

_CALL_OVERHEAD_TOKENS = 5
_REASONING_TOKENS = (16, 64)  # least and span; multiples of this step as the real counts are multiples of 64
_NO_THINKING = ("none", "minimal")


@dataclass(slots=True)
class Answer:
    """One choice: tokens of text, or tool calls. `reasoning_tokens` were thought and are not shown."""

    pieces: list[str]
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = "stop"
    reasoning_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Completion tokens of this choice, thinking included."""
        calls = sum(len(tokens_of(call.arguments)) + _CALL_OVERHEAD_TOKENS for call in self.tool_calls)
        return len(self.pieces) + calls + self.reasoning_tokens

    @property
    def text(self) -> str | None:
        """The content; None beside tool calls."""
        return None if self.tool_calls else "".join(self.pieces)


@dataclass(slots=True)
class ChatReply:
    """A finished reply before it takes its form on the wire."""

    reply_id: str
    created: int
    model: str
    answers: list[Answer]
    usage: dict[str, Any]
    fingerprint: str
    top_logprobs: int | None
    prefix: Digest

    def whole(self) -> dict[str, Any]:
        """The body of the reply that is not streamed."""
        return {
            "id": self.reply_id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(index, answer) for index, answer in enumerate(self.answers)],
            "usage": self.usage,
            "service_tier": "default",
            "system_fingerprint": self.fingerprint,
        }

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
        if answer.tool_calls:
            message["tool_calls"] = [call.wire() for call in answer.tool_calls]
        logprobs = None
        if self.top_logprobs is not None and not answer.tool_calls:
            logprobs = {
                "content": [token_logprob(piece, self.top_logprobs) for piece in answer.pieces],
                "refusal": None,
            }
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish_reason}


def answer_chat(request: ChatRequest, config: SimConfig, reply_id: str, created: int) -> ChatReply:
    """Checks the request and answers it. Raises ApiError."""
    check_ranges(request)
    prompt = read_prompt(request, config.seed)
    check_tools(request)
    _check_combinations(request, prompt)
    facts = model_facts(request.model)
    most = _check_lengths(request, prompt, facts, config)
    answers = [_answer(request, prompt, config, index, facts, most) for index in range(request.n or 1)]
    completion = sum(answer.tokens for answer in answers)
    reasoning = sum(answer.reasoning_tokens for answer in answers)
    return ChatReply(
        reply_id=reply_id,
        created=created,
        model=request.model,
        answers=answers,
        usage=usage_of(prompt.tokens, completion, reasoning),
        fingerprint=f"fp_{digest_of(config.seed, request.model).hex()[:10]}",
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        prefix=prompt.prefix,
    )


def usage_of(prompt: int, completion: int, reasoning: int = 0) -> dict[str, Any]:
    """The usage object; cached tokens are filled in by the account that knows them."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def token_logprob(piece: str, top: int) -> dict[str, Any]:
    """A log probability that depends on the token alone, with `top` alternatives, the token first."""
    value = -(len(piece) % 7 + 1) / 100
    others = [{"token": f" {n}", "logprob": value - 1 - n, "bytes": list(f" {n}".encode())} for n in range(top - 1)]
    own = {"token": piece, "logprob": value, "bytes": list(piece.encode())}
    return {**own, "top_logprobs": [own, *others] if top else []}


def cut_at_stop(text: str, stop: str | list[str] | None) -> str:
    """The text up to the first stop sequence."""
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        at = text.find(sequence) if sequence else -1
        if at >= 0:
            text = text[:at]
    return text


def _check_combinations(request: ChatRequest, prompt: Prompt) -> None:
    if request.top_logprobs is not None and not request.logprobs:
        raise invalid("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    wanted = request.response_format
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        text = f"Invalid value: '{kind}'. Supported values are: 'text', 'json_object', and 'json_schema'."
        raise invalid(text, "response_format.type", "invalid_value")
    if kind == "json_object" and not prompt.mentions_json:
        raise invalid(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )
    if kind == "json_schema":
        _check_schema(wanted.get("json_schema"))


def _check_schema(wrapped: Any) -> None:
    for name in ("json_schema", "name", "schema"):
        value = wrapped if name == "json_schema" else wrapped.get(name)
        if not isinstance(value, str if name == "name" else dict):
            where = "response_format.json_schema" + ("" if name == "json_schema" else f".{name}")
            raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    schema = wrapped["schema"]
    if wrapped.get("strict") and schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise invalid(
            f"Invalid schema for response_format '{wrapped['name']}': In context=(), 'additionalProperties' is "
            "required to be supplied and to be false.",
            "response_format",
        )


def _check_lengths(request: ChatRequest, prompt: Prompt, facts: ModelFacts, config: SimConfig) -> int | None:
    """The most tokens that an answer may have, None for no bound."""
    if request.max_tokens is not None:
        if facts.reasons:
            raise invalid(
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
                "max_tokens",
                "unsupported_parameter",
            )
        if request.max_completion_tokens is not None:
            text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise invalid(text, "max_tokens", "invalid_parameter_combination")
    name = "max_tokens" if request.max_tokens is not None else "max_completion_tokens"
    most: int | None = getattr(request, name)
    context = config.context_tokens or facts.context_tokens
    if prompt.tokens + (most or 0) > context:
        part = f" and {most} in the completion" if most else ""
        raise invalid(
            f"This model's maximum context length is {context} tokens. However, your messages resulted in "
            f"{prompt.tokens} tokens{part}. Please reduce the length of the messages.",
            "messages",
            "context_length_exceeded",
        )
    if most is not None and most > facts.output_tokens:
        raise invalid(
            f"{name} is too large: {most}. This model supports at most {facts.output_tokens} completion tokens, "
            f"whereas you provided {most}.",
            name,
            "invalid_value",
        )
    return most


def _answer(
    request: ChatRequest, prompt: Prompt, config: SimConfig, index: int, facts: ModelFacts, most: int | None
) -> Answer:
    digest = digest_of(index, prompt.digest) if index else prompt.digest
    thought = 0
    if facts.reasons and request.reasoning_effort not in _NO_THINKING:
        thought = _REASONING_TOKENS[0] * (1 + digest[5] % (_REASONING_TOKENS[1] // _REASONING_TOKENS[0]))
    if most is not None and thought >= most:
        return Answer([], finish_reason="length", reasoning_tokens=most)
    left = None if most is None else most - thought
    try:
        calls = choose_calls(request, prompt, digest)
    except ValueError as fault:
        raise invalid(f"Invalid schema for function: {fault}", "tools", "invalid_function_parameters") from None
    if calls:
        return _limited_calls(Answer([], calls, "tool_calls", thought), left)
    text = cut_at_stop(_words(request, prompt, config, digest), request.stop)
    pieces = tokens_of(text)
    if left is not None and len(pieces) > left:
        return Answer(pieces[:left], finish_reason="length", reasoning_tokens=thought)
    return Answer(pieces, reasoning_tokens=thought)


def _limited_calls(answer: Answer, left: int | None) -> Answer:
    if left is None or answer.tokens - answer.reasoning_tokens <= left:
        return answer
    first = answer.tool_calls[0]
    first.arguments = "".join(tokens_of(first.arguments)[: max(0, left - _CALL_OVERHEAD_TOKENS)])
    answer.tool_calls = [first]
    answer.finish_reason = "length"
    return answer


def _words(request: ChatRequest, prompt: Prompt, config: SimConfig, digest: Digest) -> str:
    wanted = request.response_format
    kind = wanted["type"] if wanted else "text"
    if kind == "json_schema":
        rng = random.Random(int.from_bytes(digest, "big"))
        try:
            return msgspec.json.encode(fill(wanted["json_schema"]["schema"], rng)).decode()
        except ValueError as fault:
            raise invalid(f"Invalid schema for response_format: {fault}", "response_format") from None
    subject = prompt.tool_results[-1] if prompt.tool_results else prompt.last_user
    text = compose(digest, subject, *config.reply_tokens)
    return msgspec.json.encode({"answer": text}).decode() if kind == "json_object" else text
