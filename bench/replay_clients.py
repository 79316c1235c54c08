"""The official SDKs as judges: a reply in a client's format is handed to the SDK, which must accept it.

Main entries: `asked` (a small request in a format), `understood` (what the SDK makes of status, headers and bytes).
OpenAI's and Anthropic's SDKs run over a transport that hands them the bytes, and every object and event that they build
is validated against its own model; Google's does the same where `google-genai` is installed, else its published members
are checked (`_Gemini`).
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal

import anthropic
import openai
import pydantic

from apikeyrouter.domain.models.call import Operation, Wire
from bench.replay_reading import Reading, Tokens

__all__ = ["OPERATIONS", "SdkError", "asked", "google_sdk", "understood"]

OPERATIONS = {
    Wire.Chat: Operation.Chat, Wire.Responses: Operation.Responses, Wire.Messages: Operation.Messages,
    Wire.Gemini: Operation.Gemini,
}  # fmt: skip
_WORDS = "Hello, is anybody there?"
_HERE = "http://replay.invalid"


class SdkError(Exception):
    """The SDK raised what it raises for an error reply. `status`: as it saw it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def asked(wire: Wire, model: str, *, stream: bool) -> bytes:
    """A request that every provider can be asked."""
    turn = {"role": "user", "content": _WORDS}
    body: dict[str, Any] = {"model": model, "stream": stream}
    match wire:
        case Wire.Chat:
            body |= {"messages": [turn]} | ({"stream_options": {"include_usage": True}} if stream else {})
        case Wire.Responses:
            body |= {"input": _WORDS}
        case Wire.Messages:
            body |= {"messages": [turn], "max_tokens": 1_000}
        case _:
            body = {"contents": [{"role": "user", "parts": [{"text": _WORDS}]}]}
    return json.dumps(body).encode()


def understood(
    operation: Operation, status: int, content_type: str, body: bytes, *, stream: bool, strict: bool = True
) -> Reading:
    """What the SDK of the operation's format understands. `strict`: what it builds must also pass its own models; where
    a provider's own bytes pass, they may be what they are. Raises SdkError for an error reply that it understands as
    one, and whatever the SDK raises for what it cannot accept."""
    _STRICT[0] = strict
    match operation:
        case Operation.Messages:
            return _messages(_transported(anthropic, status, content_type, body), stream=stream)
        case Operation.Gemini:
            return _gemini(status, body, stream=stream)
        case Operation.Responses:
            return _responses(_transported(openai, status, content_type, body), stream=stream)
        case Operation.Chat:
            return _chat(_transported(openai, status, content_type, body), stream=stream)
        case Operation.Completions:
            return _completions(_transported(openai, status, content_type, body), stream=stream)
        case Operation.Embeddings:
            client = _transported(openai, status, content_type, body)
            _validated(_asked(client.embeddings.create, model="m", input="x"))
            return Reading(None, [])
        case _:
            return Reading(None, [])


def _transported(library: Any, status: int, content_type: str, body: bytes) -> Any:
    """The SDK's client, whose every request is answered so."""
    http, client, answer = _client(library)
    answer[:] = [http.Response(status, headers={"content-type": content_type}, content=body)]
    return client


@cache
def _client(library: Any) -> tuple[Any, Any, list[Any]]:
    base = next(one for one in library.DefaultHttpxClient.__mro__ if one.__name__ == "Client")
    http = sys.modules[base.__module__.partition(".")[0]]
    answer: list[Any] = []
    transport = http.MockTransport(lambda _: answer[0])
    kind = library.OpenAI if library is openai else library.Anthropic
    return (
        http,
        kind(
            api_key="not-needed", base_url=f"{_HERE}/v1" if library is openai else _HERE, max_retries=0,
            http_client=library.DefaultHttpxClient(transport=transport),
        ),
        answer,
    )  # fmt: skip


def _validated(made: Any) -> Any:
    """The object, checked against its own model: the SDKs build theirs without a check. Warnings of serialization are
    about unions that were built so."""
    if _STRICT[0]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = made.to_json(exclude_unset=True)
        type(made).model_validate_json(written)
    return made


_STRICT = [True]


def _asked(call: Any, **arguments: Any) -> Any:
    try:
        return call(**arguments)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        if not error.message:
            raise
        raise SdkError(error.status_code, error.message) from None


def _events(events: Iterator[Any]) -> Iterator[Any]:
    """Each event, validated. What the SDK raises for an error in the stream becomes SdkError."""
    try:
        for event in events:
            yield _validated(event)
    except (openai.APIError, anthropic.APIError) as error:
        if isinstance(error, openai.APIResponseValidationError | anthropic.APIResponseValidationError):
            raise
        raise SdkError(200, str(error)) from None


def _openai_usage(usage: Any) -> Tokens | None:
    if usage is None:
        return None
    read = getattr(usage, "prompt_tokens_details", None) or getattr(usage, "input_tokens_details", None)
    wrote = getattr(usage, "completion_tokens_details", None) or getattr(usage, "output_tokens_details", None)
    return Tokens(
        getattr(usage, "prompt_tokens", None) or getattr(usage, "input_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or getattr(usage, "output_tokens", None) or 0,
        getattr(read, "cached_tokens", None) or 0,
        getattr(read, "cache_write_tokens", None) or 0,
        getattr(wrote, "reasoning_tokens", None) or 0,
    )


def _chat(client: Any, *, stream: bool) -> Reading:
    messages = [{"role": "user", "content": _WORDS}]
    made = _asked(client.chat.completions.create, model="m", messages=messages, stream=stream)
    if not stream:
        _validated(made)
        return Reading(_openai_usage(made.usage), [choice.finish_reason for choice in made.choices])
    usage = None
    reasons: dict[int, str | None] = {}
    for chunk in _events(iter(made)):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return Reading(_openai_usage(usage), [reasons[number] for number in sorted(reasons)])


def _completions(client: Any, *, stream: bool) -> Reading:
    made = _asked(client.completions.create, model="m", prompt=_WORDS, stream=stream)
    chunks = list(_events(iter(made))) if stream else [_validated(made)]
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
    return Reading(_openai_usage(usage), [])


def _responses(client: Any, *, stream: bool) -> Reading:
    made = _asked(client.responses.create, model="m", input=_WORDS, stream=stream)
    last = made if not stream else None
    if stream:
        for event in _events(iter(made)):
            if event.type == "error" or event.type == "response.failed":
                raise SdkError(200, str(event))
            if event.type in ("response.completed", "response.incomplete"):
                last = event.response
        if last is None:
            raise ValueError("the stream has no final response")
    else:
        _validated(made)
    assert last is not None
    reason = last.incomplete_details.reason if last.incomplete_details else last.status
    return Reading(_openai_usage(last.usage), [reason])


def _messages(client: Any, *, stream: bool) -> Reading:
    turn = {"role": "user", "content": _WORDS}
    arguments: dict[str, Any] = {"model": "m", "max_tokens": 1_000, "messages": [turn]}
    if stream:
        try:
            with client.messages.stream(**arguments) as running:
                for event in running:
                    if event.type in ("message_delta", "content_block_start", "message_start"):
                        _validated(event)
                made = running.get_final_message()
        except anthropic.APIStatusError as error:
            raise SdkError(error.status_code, error.message) from None
    else:
        made = _validated(_asked(client.messages.create, **arguments))
    usage = made.usage
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = getattr(usage, "output_tokens_details", None)
    tokens = Tokens(
        usage.input_tokens + cached + written, usage.output_tokens, cached, written,
        getattr(details, "thinking_tokens", None) or 0,
    )  # fmt: skip
    return Reading(tokens, [made.stop_reason])


# -- Gemini ---------------------------------------------------------------------------------------------------------


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)


class _FunctionCall(_Strict):
    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class _Part(_Strict):
    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None  # noqa: N815 - Google's names
    functionCall: _FunctionCall | None = None  # noqa: N815


class _Content(_Strict):
    role: Literal["model", "user"] | None = None
    parts: list[_Part] | None = None


class _Candidate(_Strict):
    index: int | None = None
    content: _Content | None = None
    finishReason: str | int | None = None  # noqa: N815


class _UsageMetadata(_Strict):
    promptTokenCount: int = 0  # noqa: N815
    candidatesTokenCount: int = 0  # noqa: N815
    thoughtsTokenCount: int = 0  # noqa: N815
    cachedContentTokenCount: int = 0  # noqa: N815
    toolUsePromptTokenCount: int = 0  # noqa: N815
    totalTokenCount: int = 0  # noqa: N815


class _Gemini(_Strict):
    """https://ai.google.dev/api/generate-content#GenerateContentResponse (read 2026-11-21)."""

    candidates: list[_Candidate] = []
    usageMetadata: _UsageMetadata | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    responseId: str | None = None  # noqa: N815


def google_sdk() -> Any:
    """`google.genai.types`, or None."""
    try:
        from google.genai import types  # type: ignore[import-not-found,unused-ignore]  # installed by who wants it
    except ImportError:
        return None
    return types


def _gemini(status: int, body: bytes, *, stream: bool) -> Reading:
    if status != 200:
        error = json.loads(body)
        told = (error[0] if isinstance(error, list) else error)["error"]
        if not (isinstance(told["message"], str) and isinstance(told["status"], str) and told["code"] == status):
            raise ValueError(f"no error of Google's: {body[:200]!r}")
        raise SdkError(status, told["message"])
    parts: Sequence[bytes] = [body]
    if stream:
        lines = body.replace(b"\r\n", b"\n").split(b"\n")
        parts = [line[5:] for line in lines if line.startswith(b"data:")]
    usage: _UsageMetadata | None = None
    reasons: dict[int, str | None] = {}
    sdk = google_sdk()
    for part in parts:
        raw = json.loads(part)
        if "error" in raw:
            raise SdkError(200, str(raw["error"]["message"]))
        if sdk is not None and _STRICT[0]:
            sdk.GenerateContentResponse.model_validate(raw)
        chunk = _Gemini.model_validate(raw)
        usage = chunk.usageMetadata or usage
        for at, candidate in enumerate(chunk.candidates):
            number = candidate.index if candidate.index is not None else at
            reasons[number] = str(candidate.finishReason) if candidate.finishReason else reasons.get(number)
    tokens = None if usage is None else Tokens(
        usage.promptTokenCount + usage.toolUsePromptTokenCount, usage.candidatesTokenCount + usage.thoughtsTokenCount,
        usage.cachedContentTokenCount, 0, usage.thoughtsTokenCount,
    )  # fmt: skip
    return Reading(tokens, [reasons[number] for number in sorted(reasons)])
