"""Request bodies: decoded loosely, then checked as OpenAI checks them, with its words, `param` and `code`.

Main entries: `decode`, then `check_ranges`; both raise `ApiError`. Parameters that we do not know
are accepted: a router must pass them through, and so the recording of a request shows whether it did.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from apikeyrouter.simulation.api_errors import invalid, model_not_found, too_long, wrong_type

__all__ = ["ChatRequest", "CompletionRequest", "EmbeddingRequest", "check_ranges", "decode"]


class ChatRequest(msgspec.Struct):
    """The parameters of `/v1/chat/completions` that change the reply."""

    model: Any = None
    messages: Any = None
    stream: Any = None
    stream_options: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    stop: Any = None
    temperature: Any = None
    top_p: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    response_format: Any = None
    reasoning_effort: Any = None


class CompletionRequest(msgspec.Struct):
    """The parameters of the legacy `/v1/completions` that change the reply."""

    model: Any = None
    prompt: Any = "<|endoftext|>"
    stream: Any = None
    stream_options: Any = None
    max_tokens: Any = None
    n: Any = None
    best_of: Any = None
    echo: Any = None
    logprobs: Any = None
    stop: Any = None
    temperature: Any = None
    top_p: Any = None


class EmbeddingRequest(msgspec.Struct):
    """The parameters of `/v1/embeddings`."""

    model: Any = None
    input: Any = None
    encoding_format: Any = None
    dimensions: Any = None


_Request = TypeVar("_Request", ChatRequest, CompletionRequest, EmbeddingRequest)
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (ChatRequest, CompletionRequest, EmbeddingRequest)
}
# name -> least, most, whole numbers only. Source: the provider's API reference; the legacy endpoint takes max_tokens 0
# (recorded: "Expected a value >= 0").
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "n": (1, 128, True),
    "max_tokens": (1, float("inf"), True),
    "max_completion_tokens": (1, float("inf"), True),
    "top_logprobs": (0, 20, True),
    "dimensions": (1, float("inf"), True),
    "best_of": (1, 20, True),
}
_RANGES_OF: dict[type, tuple[tuple[str, tuple[float, float, bool]], ...]] = {
    kind: tuple(
        (name, (0, most, whole) if kind is CompletionRequest and name == "max_tokens" else (least, most, whole))
        for name, (least, most, whole) in _RANGES.items()
        if name in kind.__struct_fields__
    )
    for kind in (ChatRequest, CompletionRequest, EmbeddingRequest)
}
_STOPS_MAX = 4


def decode(body: bytes, kind: type[_Request]) -> _Request:
    """The body as a request whose model is named and known. Raises ApiError."""
    try:
        request: _Request = _DECODERS[kind].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
        ) from None
    model = request.model
    if model is None or model == "":
        raise invalid("you must provide a model parameter")
    if not isinstance(model, str):
        raise wrong_type("model", "a string", model)
    if model.startswith("no-such"):
        raise model_not_found(model)
    return request


def check_ranges(request: ChatRequest | CompletionRequest | EmbeddingRequest) -> None:
    """Refuses numbers out of range and values of the wrong type."""
    for name, (least, most, whole) in _RANGES_OF[type(request)]:
        value = getattr(request, name)
        if value is not None:
            _check_number(name, value, least, most, whole=whole)
    if not isinstance(request, EmbeddingRequest):
        _check_stream_and_stop(request)


def _check_number(name: str, value: object, least: float, most: float, *, whole: bool) -> None:
    kind = "integer" if whole else "decimal"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise wrong_type(name, f"an {kind}" if whole else f"a {kind}", value)
    if value < least:
        message = f"Invalid '{name}': {kind} below minimum value. Expected a value >= {least}, but got {value} instead."
        raise invalid(message, name, f"{kind}_below_min_value")
    if value > most:
        message = f"Invalid '{name}': {kind} above maximum value. Expected a value <= {most}, but got {value} instead."
        raise invalid(message, name, f"{kind}_above_max_value")


def _check_stream_and_stop(request: ChatRequest | CompletionRequest) -> None:
    if request.stream is not None and not isinstance(request.stream, bool):
        raise wrong_type("stream", "a boolean", request.stream)
    if request.stream_options is not None:
        if not request.stream:
            text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise invalid(text, "stream_options")
        if not isinstance(request.stream_options, dict):
            raise wrong_type("stream_options", "an object", request.stream_options)
    stop = request.stop
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise wrong_type("stop", "a string or an array of strings", stop)
    if len(stop) > _STOPS_MAX:
        raise too_long("stop", _STOPS_MAX, len(stop))
