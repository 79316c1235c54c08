"""The official SDKs of OpenAI and Anthropic over this router, without a proxy and without a socket.

Main entries: `openai_client(router)` and `anthropic_client(router)`: ordinary `AsyncOpenAI` and `AsyncAnthropic`
objects, whose HTTP transport hands requests to the router's pipeline. Both SDKs are the caller's to install.
Laws: a request through here passes the same steps as any other; errors have the statuses and bodies that the proxy
would send, so that the SDKs raise what they always raise; closing a stream early stops the provider.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.domain.errors import ConfigurationError, RouterError, StateStoreError, SystemError
from apikeyrouter.domain.models.call import CONVERSATIONS, Operation, peek
from apikeyrouter.sending import Reply
from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.translate import client_codec

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from apikeyrouter.router import ApiKeyRouter

__all__ = ["anthropic_client", "openai_client"]

_HERE = "http://apikeyrouter.internal"
"""A base URL that is never connected to."""

_NO_KEY = "not-needed"
_TRAVELS = (b"openai-beta", b"anthropic-version", b"anthropic-beta", b"x-stainless-")
_OPERATIONS = {
    **{f"/v1/{one.value}": one for one in (*CONVERSATIONS, Operation.Completions, Operation.Embeddings)},
    **{f"/v1/{one.value}": one for one in (Operation.CountTokens, Operation.Moderations, Operation.Images)},
}


def openai_client(router: ApiKeyRouter, **options: Any) -> AsyncOpenAI:
    """An `openai.AsyncOpenAI` whose requests this router serves. `options`: for its constructor (`max_retries`,
    `timeout` ...). Retries are off unless given: the router has tried other keys already. Raises ConfigurationError
    when the package `openai` is not installed."""
    try:
        import openai
    except ImportError:
        raise ConfigurationError(["openai_client needs the package openai: pip install openai"]) from None
    http = openai.DefaultAsyncHttpxClient(transport=_transport(openai.DefaultAsyncHttpxClient, router))
    return openai.AsyncOpenAI(
        **{"api_key": _NO_KEY, "base_url": f"{_HERE}/v1", "max_retries": 0, "http_client": http, **options}
    )


def anthropic_client(router: ApiKeyRouter, **options: Any) -> AsyncAnthropic:
    """An `anthropic.AsyncAnthropic` whose requests this router serves; otherwise as `openai_client`."""
    try:
        import anthropic
    except ImportError:
        raise ConfigurationError(["anthropic_client needs the package anthropic: pip install anthropic"]) from None
    http = anthropic.DefaultAsyncHttpxClient(transport=_transport(anthropic.DefaultAsyncHttpxClient, router))
    return anthropic.AsyncAnthropic(
        **{"api_key": _NO_KEY, "base_url": _HERE, "max_retries": 0, "http_client": http, **options}
    )


def _transport(client: type, router: ApiKeyRouter) -> Any:
    """A transport of the HTTP library that the SDK is built on (httpx or its successor), whichever that is."""
    base = next(one for one in client.__mro__ if one.__name__ == "AsyncClient")
    library = sys.modules[base.__module__.partition(".")[0]]

    class Body(library.AsyncByteStream):  # type: ignore[name-defined, misc]  # known at run time only
        def __init__(self, chunks: AsyncIterator[bytes], reply: Reply) -> None:
            self._chunks = chunks
            self._reply = reply

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._chunks:
                yield chunk

        async def aclose(self) -> None:
            if self._reply.stream is not None:
                self._reply.stream.close()

    class Routed(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            status, headers, body = await _served(router, request, await request.aread())
            if isinstance(body, Reply) and body.stream is not None:
                return library.Response(status, headers=headers, stream=Body(body.stream.chunks(), body))
            return library.Response(status, headers=headers, content=body)

    return Routed()


async def _served(router: ApiKeyRouter, request: Any, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], Any]:
    """(status, headers, body) of one request; the body is the `Reply` itself where it streams."""
    path = request.url.path
    operation = _OPERATIONS.get(path, Operation.Chat)
    request_id = None
    try:
        if path == "/v1/models" and request.method == "GET":
            listing = {"object": "list", "data": await router.list_models()}
            return 200, _JSON, msgspec.json.encode(listing)
        if path not in _OPERATIONS or request.method != "POST":
            return _error(operation, ErrorFact(404, f"{request.method} {path} is not served in process.", "not_found"))
        await router.start()
        headers = [(name.lower(), value) for name, value in request.headers.raw if name.lower().startswith(_TRAVELS)]
        call = router.new_call(operation, body, peek(body), headers=headers, query=request.url.query.decode("ascii"))
        request_id = call.request_id
        reply = await router.serve(call, router.objective(None))
    except msgspec.MsgspecError as fault:
        return _error(operation, ErrorFact(400, f"The request body cannot be used: {fault}.", "invalid_json"))
    except RouterError as error:
        return _failure(operation, error, request_id)
    told = [one for one in reply.headers if one[0] == b"content-type"]
    told += [(b"x-request-id", call.request_id.encode()), (b"request-id", call.request_id.encode())]
    return reply.status, told, reply if reply.stream is not None else reply.body


def _failure(
    operation: Operation, error: RouterError, request_id: str | None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    if isinstance(error, SystemError):
        if error.provider_body is not None:
            kind = (error.provider_content_type or "application/json").encode("latin-1")
            return error.status, [(b"content-type", kind)], error.provider_body
        param = error.details.get("param")
        fact = ErrorFact(error.status, error.message, error.provider_code or error.category.value, param)
    else:
        fact = ErrorFact(503 if isinstance(error, StateStoreError) else 500, error.message, "internal_error")
    fact.request_id = request_id
    retry_after = getattr(error, "retry_after", None)
    return _error(operation, fact, retry_after)


def _error(
    operation: Operation, fact: ErrorFact, retry_after_s: float | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = list(_JSON)
    if retry_after_s is not None:
        headers.append((b"retry-after-ms", b"%d" % max(1, round(retry_after_s * 1000))))
    return fact.status, headers, client_codec(operation).write_error(fact)


_JSON = [(b"content-type", b"application/json")]
