"""The legacy `/v1/completions`: a prompt in text or token ids goes on for `max_tokens`.

Main entry: `answer_completion`, whole replies; `events` of the result makes the stream. Several prompts give several
choices, `n` for each, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.catalog import model_facts
from apikeyrouter.simulation.chat import cut_at_stop
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.requests import CompletionRequest, check_ranges
from apikeyrouter.simulation.text import compose, digest_of, estimate_tokens, tokens_of

__all__ = ["CompletionReply", "answer_completion", "prompt_list"]

_DEFAULT_TOKENS = 16


@dataclass(slots=True)
class CompletionReply:
    """A finished reply. `choices`: tokens and finish reason of each."""

    base: dict[str, Any]
    choices: list[tuple[list[str], str]]
    usage: dict[str, Any]
    logprobs: bool

    def whole(self) -> dict[str, Any]:
        """The body of the reply that is not streamed."""
        choices = [self._choice(at, pieces, reason) for at, (pieces, reason) in enumerate(self.choices)]
        return {**self.base, "choices": choices, "usage": self.usage}

    def events(self, *, include_usage: bool) -> Iterator[bytes]:
        """The stream's events, `[DONE]` included."""
        extra: dict[str, Any] = {"usage": None} if include_usage else {}
        for at, (pieces, reason) in enumerate(self.choices):
            for number, piece in enumerate(pieces or [""], 1):
                ended = reason if number >= len(pieces) else None
                yield _event({**self.base, "choices": [self._choice(at, [piece], ended)], **extra})
        if include_usage:
            yield _event({**self.base, "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _choice(self, index: int, pieces: list[str], reason: str | None) -> dict[str, Any]:
        logprobs = None
        if self.logprobs:
            values = [-(len(piece) % 7 + 1) / 100 for piece in pieces]
            tops = [{piece: value} for piece, value in zip(pieces, values, strict=True)]
            logprobs = {
                "tokens": pieces,
                "token_logprobs": values,
                "top_logprobs": tops,
                "text_offset": _offsets(pieces),
            }
        return {"text": "".join(pieces), "index": index, "logprobs": logprobs, "finish_reason": reason}


def answer_completion(request: CompletionRequest, config: SimConfig, reply_id: str, created: int) -> CompletionReply:
    """Checks the request and answers it. Raises ApiError."""
    check_ranges(request)
    prompts = prompt_list(request.prompt, "prompt")
    most = _DEFAULT_TOKENS if request.max_tokens is None else request.max_tokens
    prompt_tokens = sum(tokens for _, tokens in prompts)
    context = config.context_tokens or model_facts(request.model).context_tokens
    if prompt_tokens + most > context:
        raise invalid(
            f"This model's maximum context length is {context} tokens, however you requested "
            f"{prompt_tokens + most} tokens ({prompt_tokens} in your prompt; {most} for the completion). "
            "Please reduce your prompt or completion length.",
            None,
            "context_length_exceeded",
        )
    choices = [
        _continue(request, config, text, number, most) for text, _ in prompts for number in range(request.n or 1)
    ]
    completion = sum(len(pieces) for pieces, _ in choices)
    if request.echo:
        told = [text for text, _ in prompts for _ in range(request.n or 1)]
        choices = [([text, *pieces], reason) for text, (pieces, reason) in zip(told, choices, strict=True)]
    return CompletionReply(
        base={"id": reply_id, "object": "text_completion", "created": created, "model": request.model},
        choices=choices,
        usage={
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": prompt_tokens + completion,
        },
        logprobs=request.logprobs is not None,
    )


def prompt_list(value: Any, param: str) -> list[tuple[str, int]]:
    """Texts with their token counts, from a text, token ids, or a list of either. Raises ApiError for anything else."""
    items = value if isinstance(value, list) and value and isinstance(value[0], (str, list)) else [value]
    out = []
    for item in items:
        if isinstance(item, str):
            out.append((item, max(1, estimate_tokens(len(item)))))
        elif isinstance(item, list) and item and all(isinstance(t, int) and not isinstance(t, bool) for t in item):
            out.append((" ".join(map(str, item)), len(item)))
        else:
            raise invalid(
                f"'$.{param}' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
            )
    return out


def _continue(
    request: CompletionRequest, config: SimConfig, text: str, number: int, most: int
) -> tuple[list[str], str]:
    digest = digest_of(config.seed + number, text)
    pieces = tokens_of(" " + cut_at_stop(compose(digest, text, *config.reply_tokens), request.stop))
    return (pieces[:most], "length") if len(pieces) > most else (pieces, "stop")


def _offsets(pieces: list[str]) -> list[int]:
    out, at = [], 0
    for piece in pieces:
        out.append(at)
        at += len(piece)
    return out


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
