"""The long tail of providers through a library that is installed anyway: any-llm-sdk or litellm.

    transport = LibraryTransport(HttpTransport(clock=SystemClock()), SystemClock())
    router = ApiKeyRouter(transport=transport)
    await router.register_provider("watsonx", LibraryAdapter("litellm", prefix="watsonx/"))

Main entries: `LibraryAdapter`, which writes requests to a host that does not exist, and `LibraryTransport`, which
answers those by calling the library and hands everything else to the transport that it wraps. So keys, holds, breakers
and explanations work as over HTTP. Chat only, whole and streamed; other conversations are translated into it.
Laws: of a caller's request only OpenAI's own parameters become arguments, since the libraries have others, such as
`api_base`, that would send a key wherever a caller likes; neither library is imported before its first request; neither
retries (we do); an exception of theirs becomes the reply that the provider sent, as far as they tell it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.interfaces.transport import (
    Headers,
    HttpReply,
    HttpRequest,
    SendPhase,
    Transport,
    TransportError,
)
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.wire.losses import Losses

__all__ = ["LibraryAdapter", "LibraryTransport"]

Library = Literal["any-llm", "litellm"]
_Ask = Callable[[dict[str, Any], str], Awaitable[Any]]

_MODULES: Mapping[str, str] = {"any-llm": "any_llm", "litellm": "litellm"}
_HOSTS: Mapping[str, str] = {name: f"http://{name}.library.invalid" for name in _MODULES}
_PREFIX = b"Bearer "
_OPTIONS = b"x-library-options"
_PARAMETERS = frozenset({
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n",
    "stop", "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs",
    "frequency_penalty", "presence_penalty", "logit_bias", "reasoning_effort", "user",
})  # fmt: skip
"""What callers may say (https://platform.openai.com/docs/api-reference/chat/create, read 2026-11-21)."""


class LibraryAdapter(OpenAIAdapter):
    """Speaks to providers through a library. `prefix`: put in front of models' names where they lack it: litellm wants
    "watsonx/", any-llm "watsonx:". `options`: more arguments of each call, such as `api_base`. Raises
    ConfigurationError when the library is not installed."""

    def __init__(self, library: Library, *, prefix: str = "", options: Mapping[str, Any] | None = None) -> None:
        if library not in _MODULES:
            raise ConfigurationError([f"library {library!r}: expected one of {', '.join(_MODULES)}"])
        if find_spec(_MODULES[library]) is None:
            name = "any-llm-sdk" if library == "any-llm" else library
            raise ConfigurationError([f"the library {name!r} is not installed; install it, or use another adapter"])
        super().__init__(
            _HOSTS[library],
            dialect="generic",
            claims_all=not prefix,
            operations=(Operation.Chat,),
            capabilities=ProviderCapabilities(operations=tuple(CONVERSATIONS)),
        )
        self._prefix = prefix
        self._options = dict(options or {})

    def claims(self, model: str) -> bool:
        """Models that begin with the prefix; any, when there is none."""
        return self._claims_all or model.startswith(self._prefix)

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        """With prefix and options, and nothing of the caller's but OpenAI's parameters. Raises UntranslatableError for
        others that it asked for."""
        members = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
        losses = Losses("library", may_drop=call.drop_params)
        for name in members.keys() - _PARAMETERS:
            losses.parameter(name, "a library is given OpenAI's own parameters only")
            del members[name]
        losses.check()
        if self._prefix and not call.model.startswith(self._prefix):
            members["model"] = msgspec.Raw(msgspec.json.encode(self._prefix + call.model))
        request.body = msgspec.json.encode(members)
        request.headers = [
            *(one for one in request.headers if one[0] in (b"authorization", b"content-type")),
            (_OPTIONS, msgspec.json.encode(self._options)),
        ]
        request.dropped = (*request.dropped, *losses.dropped)
        return request


class LibraryTransport:
    """See `Transport`. `inner`: sends what is for no library. `clock`: the router's, for deadlines."""

    def __init__(self, inner: Transport, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    async def send(self, request: HttpRequest) -> HttpReply:
        """See `Transport.send`."""
        library = next((name for name, host in _HOSTS.items() if request.url.startswith(host + "/")), None)
        if library is None:
            return await self._inner.send(request)
        if not request.url.endswith("/chat/completions"):
            return _whole(404, {"error": {"message": f"{library} is asked for chat only", "code": "not_found"}})
        headers = dict(request.headers)
        asked = msgspec.json.decode(request.body)
        asked |= msgspec.json.decode(headers.get(_OPTIONS, b"{}"))
        secret = headers.get(b"authorization", b"").removeprefix(_PREFIX).decode()
        left_s = None if request.deadline_s is None else request.deadline_s - self._clock.monotonic_s()
        try:
            async with asyncio.timeout(left_s):
                answer = await _asker(library)(asked, secret)
        except TimeoutError:
            raise TransportError("deadline", SendPhase.Unanswered, f"{library} did not answer in time") from None
        except Exception as fault:  # noqa: BLE001 - the libraries' exceptions have no common base
            return _failed(library, fault, secret)
        if asked.get("stream"):
            return _LibraryReply(200, b"text/event-stream", events=_events(answer))
        return _whole(200, answer.model_dump(mode="json", exclude_none=True))

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()


class _LibraryReply:
    """See `HttpReply`."""

    def __init__(self, status: int, kind: bytes, body: bytes = b"", events: AsyncIterator[bytes] | None = None) -> None:
        self.status = status
        self.headers: Headers = [(b"content-type", kind)]
        self._body = body
        self._events = events

    def header(self, name: bytes) -> bytes | None:
        """See `HttpReply.header`."""
        return dict(self.headers).get(name)

    async def read(self) -> bytes:
        """See `HttpReply.read`."""
        if self._events is not None:
            return b"".join([event async for event in self._events])
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        if self._events is None:
            yield self._body
            return
        try:
            async for event in self._events:
                yield event
        except Exception as fault:  # noqa: BLE001 - as above
            raise TransportError(
                "reset", SendPhase.MidReply, f"the stream broke off ({type(fault).__name__})"
            ) from None

    def aclose(self) -> None:
        """Whoever iterates stops; the library ends its request when the generator is collected."""
        self._events = None if self._events is None else _nothing()


def _asker(library: str) -> _Ask:
    if library == "litellm":
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it fetches a file
    module = import_module(_MODULES[library])

    async def ask(asked: dict[str, Any], secret: str) -> Any:
        if library == "litellm":
            return await module.acompletion(**asked, api_key=secret, num_retries=0, max_retries=0)
        return await module.acompletion(**asked, api_key=secret, client_args={"max_retries": 0})

    return ask


async def _events(chunks: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield b"data: " + msgspec.json.encode(chunk.model_dump(mode="json", exclude_none=True)) + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for event in none:
        yield event


def _whole(status: int, members: Mapping[str, Any]) -> _LibraryReply:
    return _LibraryReply(status, b"application/json", msgspec.json.encode(members))


def _failed(library: str, fault: Exception, secret: str) -> _LibraryReply:
    """The provider's reply, as far as an exception tells it. Raises TransportError where there was none."""
    cause: BaseException | None = fault
    status = None
    while cause is not None and status is None:
        status = getattr(cause, "status_code", None)
        cause = getattr(cause, "original_exception", None) or cause.__cause__
    if "Connection" in type(fault).__name__ or not isinstance(status, int) or not 400 <= status < 600:
        raise TransportError("connect", SendPhase.Unanswered, f"{library} failed ({type(fault).__name__})") from None
    message = str(getattr(fault, "message", "") or fault).replace(secret or "\0", "***")
    code = getattr(fault, "code", None)
    reply = _whole(status, {"error": {"message": message[:2000], "code": None if code is None else str(code)}})
    response = getattr(fault, "response", None)
    after = getattr(response, "headers", {}).get("retry-after") if response is not None else None
    if isinstance(after, str):
        reply.headers.append((b"retry-after", after.encode("latin-1", "replace")))
    return reply
