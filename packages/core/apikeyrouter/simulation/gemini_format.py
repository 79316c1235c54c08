"""Google's API as the simulated provider speaks it; see `formats.Format`.

Main entry: `GeminiFormat`: `models/X:generateContent`, `:streamGenerateContent` (with and without `alt=sse`),
`:countTokens`, `:embedContent`, `:batchEmbedContents`, `:predict`, and the list of models, below any version or Vertex
project. Sources: https://ai.google.dev/api, https://google.aip.dev/193 and recorded refusals (read 2026-11-21).
Laws: a wrong key is a 400 there, as at Google; limits count input tokens and are told in `QuotaFailure` and
`RetryInfo`, never in headers.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import ApiError, Headers, error_body, invalid
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.embeddings import vector
from apikeyrouter.simulation.gemini_reply import answer_content, chunk_event
from apikeyrouter.simulation.gemini_request import digest, read_content, read_members
from apikeyrouter.simulation.openai_format import bearer
from apikeyrouter.simulation.text import estimate_tokens

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["GeminiFormat"]

_CALL = re.compile(r"(?:/[^:]*)?/(?:models|tunedModels)/([^/:]+):([A-Za-z]+)")
_LIST = re.compile(r"/v1beta1?(?:/publishers/google)?/models")
_RPC = "type.googleapis.com/google.rpc."
_NAMES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_"
_QUOTAS = {
    "requests per day": ("requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    "requests per minute": ("requests", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
}
_TOKENS = ("input_token_count", "GenerateContentInputTokensPerModelPerMinute-FreeTier")
_WORDS = {
    500: "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide",
    503: "The model is overloaded. Please try again later.",
}
_MODELS = (
    ("gemini-2.5-flash", 1_048_576, 65_536), ("gemini-2.5-pro", 1_048_576, 65_536),
    ("gemini-3-pro-preview", 1_048_576, 65_536), ("gemini-embedding-001", 2_048, 1),
)  # fmt: skip
_VECTOR_SIZE = 3072


class GeminiFormat:
    """See `formats.Format`."""

    def serves(self, scope: Scope) -> bool:
        """Paths with a verb behind the model, and the list of models below v1beta."""
        path: str = scope["path"]
        return _CALL.fullmatch(path) is not None or _LIST.fullmatch(path) is not None

    def credential(self, scope: Scope) -> str:
        """The key, which stands in `x-goog-api-key`, or a bearer. Not `?key=`: no router of ours may send that."""
        for name, value in scope["headers"]:
            if name == b"x-goog-api-key":
                return str(value.decode("latin-1").strip())
        return bearer(scope["headers"])

    def headers(self, request_id: str) -> Headers:  # noqa: ARG002 - Google tells no ids in headers
        """What every reply carries."""
        return [(b"x-content-type-options", b"nosniff"), (b"server", b"scaffolding on HTTPServer2")]

    def account_headers(self, account: Account) -> Headers:  # noqa: ARG002 - nor whose reply it is
        """Nothing."""
        return []

    def handler(self, provider: SimulatedProvider, scope: Scope) -> Handler:
        """Who answers this path."""
        hit = _CALL.fullmatch(scope["path"])
        if hit is None:
            if scope["method"] != "GET":
                raise invalid("Method not found.", status=404)
            return _models
        desk = _Desk(provider, unquote(hit.group(1)), _wants_events(scope))
        wanted = {
            "generateContent": desk.generate,
            "streamGenerateContent": desk.stream,
            "countTokens": desk.count,
            "embedContent": desk.embed,
            "batchEmbedContents": desk.embed_batch,
            "predict": desk.predict,
        }.get(hit.group(2))
        if wanted is None or scope["method"] != "POST":
            raise invalid("Method not found.", status=404)
        return wanted

    def error(self, error: ApiError, request_id: str, account: Account | None) -> tuple[int, Headers, bytes]:  # noqa: ARG002
        """In Google's envelope, without headers."""
        told = _error_object(error)
        return told["code"], [], msgspec.json.format(msgspec.json.encode({"error": told}), indent=2)

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        return chunk_event({"error": _error_object(error)})

    def is_end(self, event: bytes) -> bool:
        """Whether it tells why the reply ended: there is no other mark."""
        return b'"finishReason":' in event or b'"promptFeedback":' in event

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """A reply that is far too large."""
        head = b'{"candidates":[],"padding":"'
        return (b"data: " + head, b'"}\r\n\r\n') if streams else (head, b'"}')


class _Desk:
    """Answers the POSTs of one provider about one model."""

    __slots__ = ("_events", "_model", "_provider")

    def __init__(self, provider: SimulatedProvider, model: str, events: bool) -> None:
        if model.startswith("no-such"):
            message = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
            raise invalid(message, status=404)
        self._provider = provider
        self._model = model
        self._events = events

    def generate(self, account: Account, body: bytes, headers: Headers) -> Reply:
        return self._answer(account, body, headers, streams=False)

    def stream(self, account: Account, body: bytes, headers: Headers) -> Reply:
        return self._answer(account, body, headers, streams=True)

    def count(self, account: Account, body: bytes, headers: Headers) -> Reply:
        self._admit(account, 0)
        decoded = _decoded(body)
        inner = decoded.get("generateContentRequest", decoded)
        tokens = read_members(inner, self._model, self._provider.config.seed).tokens
        details = [{"modality": "TEXT", "tokenCount": tokens}]
        return Reply(headers, msgspec.json.encode({"totalTokens": tokens, "promptTokensDetails": details}))

    def embed(self, account: Account, body: bytes, headers: Headers) -> Reply:
        (values,), tokens = self._vectors(account, [_decoded(body)])
        usage = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        reply = {"embedding": {"values": values}, "usageMetadata": usage}
        return Reply(headers, msgspec.json.encode(reply), usage=_usage(tokens, 0))

    def embed_batch(self, account: Account, body: bytes, headers: Headers) -> Reply:
        asked = _decoded(body).get("requests")
        if not isinstance(asked, list) or not asked:
            raise invalid("* BatchEmbedContentsRequest.requests: requests is not specified")
        for one in asked:
            if not isinstance(one, dict) or one.get("model") != f"models/{self._model}":
                raise invalid(f"* BatchEmbedContentsRequest.requests: model must be models/{self._model}")
        vectors, tokens = self._vectors(account, asked)
        usage = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        reply = {"embeddings": [{"values": values} for values in vectors], "usageMetadata": usage}
        return Reply(headers, msgspec.json.encode(reply), usage=_usage(tokens, 0))

    def predict(self, account: Account, body: bytes, headers: Headers) -> Reply:
        told = _decoded(body)
        size = told.get("parameters", {}).get("outputDimensionality")
        asked = [
            {"content": {"parts": [{"text": one["content"]}]}, **({"outputDimensionality": size} if size else {})}
            for one in told.get("instances") or []
            if "content" in one
        ]
        if not asked:
            raise invalid("Empty instances.")
        vectors, tokens = self._vectors(account, asked)
        predictions = [
            {"embeddings": {"values": values, "statistics": {"truncated": False, "token_count": tokens / len(vectors)}}}
            for values in vectors
        ]
        return Reply(headers, msgspec.json.encode({"predictions": predictions}), usage=_usage(tokens, 0))

    def _vectors(self, account: Account, asked: list[dict[str, Any]]) -> tuple[list[list[float]], int]:
        try:
            texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in asked]
        except (KeyError, TypeError):
            raise invalid("* EmbedContentRequest.content: contents is not specified") from None
        tokens = sum(estimate_tokens(len(text)) for text in texts)
        self._admit(account, tokens)
        seed = self._provider.config.seed
        sizes = [one.get("outputDimensionality") or _VECTOR_SIZE for one in asked]
        return [vector(seed, self._model, t, n).tolist() for t, n in zip(texts, sizes, strict=True)], tokens

    def _answer(self, account: Account, body: bytes, headers: Headers, *, streams: bool) -> Reply:
        provider = self._provider
        request = read_content(body, self._model, provider.config.seed)
        context = provider.config.context_tokens or 1_048_576
        if request.tokens > context:
            raise invalid(
                f"The input token count ({request.tokens}) exceeds the maximum number of tokens allowed ({context})."
            )
        self._admit(account, request.tokens)
        cached = account.cached_tokens(digest(request, provider.config.seed), request.tokens)
        reply = answer_content(request, provider.config, provider.new_id("gemini")[:22], cached)
        usage = _usage(request.tokens, reply.tokens)
        if not streams:
            return Reply(headers, reply.whole(), usage=usage)
        if not self._events:
            return Reply(headers, b"[" + b",\r\n".join(map(msgspec.json.encode, reply.chunks())) + b"]", usage=usage)
        return Reply(headers, events=map(chunk_event, reply.chunks()), usage=usage)

    def _admit(self, account: Account, input_tokens: int) -> None:
        provider = self._provider
        now_s = provider.clock.monotonic_s()
        refused = account.admit_metered(input_tokens, now_s, count_refused=provider.config.failed_requests_count)
        if refused is not None:
            raise _exhausted(self._model, refused.what, refused.capacity, refused.wait_s)


def _exhausted(model: str, what: str, capacity: int, wait_s: float | None) -> ApiError:
    """A limit is reached, as recorded at Google."""
    name, quota_id = _QUOTAS.get(what, _TOKENS)
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
        f"* Quota exceeded for metric: {_METRIC}{name}, limit: {capacity}, model: {model}"
    )
    violation = {
        "quotaMetric": _METRIC + name,
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(capacity),
    }
    details: list[dict[str, Any]] = [{"@type": _RPC + "QuotaFailure", "violations": [violation]}]
    if wait_s is not None:
        message += f"\nPlease retry in {wait_s:.9f}s."
        details.append({"@type": _RPC + "RetryInfo", "retryDelay": f"{math.ceil(wait_s)}s"})
    body = error_body(message, "requests", code="rate_limit_exceeded")
    body["error"]["details"] = details
    return ApiError(429, body)


def _error_object(error: ApiError) -> dict[str, Any]:
    """An error of the simulator, which speaks OpenAI's words, in Google's."""
    told = error.body["error"]
    status, code, message = error.status, told.get("code"), str(told.get("message") or "")
    details: list[dict[str, Any]] = list(told.get("details") or [])
    if code == "invalid_api_key":
        status, message = 400, "API key not valid. Please pass a valid API key."
        details = [{"@type": _RPC + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    elif code == "insufficient_quota":
        message = "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."
    elif status == 401 and not code:
        status = 403
        message = "Method doesn't allow unregistered callers (callers without established identity)."
    elif status in _WORDS and told.get("type") == "server_error":
        message = _WORDS[status]
    elif status == 429 and not details:
        wait_s = _hint_s(error.headers)
        if wait_s is not None:
            details = [{"@type": _RPC + "RetryInfo", "retryDelay": f"{wait_s:g}s"}]
    out = {"code": status, "message": message, "status": _NAMES.get(status, "UNKNOWN")}
    return {**out, "details": details} if details else out


def _hint_s(headers: Headers) -> float | None:
    """Seconds in the headers that OpenAI would send."""
    for name, value in headers:
        if name == b"retry-after-ms":
            return int(value) / 1000
        if name == b"retry-after" and value.replace(b".", b"").isdigit():
            return float(value)
    return None


def _wants_events(scope: Scope) -> bool:
    return ("alt", "sse") in parse_qsl(scope.get("query_string", b"").decode("latin-1"))


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise invalid("Invalid JSON payload received. Unexpected token.")
    return told


def _models(_account: Account, _body: bytes, headers: Headers) -> Reply:
    models = [
        {
            "name": f"models/{name}",
            "displayName": name,
            "inputTokenLimit": most_in,
            "outputTokenLimit": most_out,
            "supportedGenerationMethods": ["embedContent"] if "embedding" in name else ["generateContent"],
        }
        for name, most_in, most_out in _MODELS
    ]
    return Reply(headers, msgspec.json.encode({"models": models}))


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
