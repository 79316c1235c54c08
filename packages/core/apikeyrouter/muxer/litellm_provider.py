"""`LiteLLMProvider`: a LiteLLM proxy as ModelMuxer's documents know it, over a router of ours.

Main entry: `LiteLLMProvider`. Requests go through an `ApiKeyRouter` with one key, so they are retried, counted and
explained like all others. Prices: `custom_models` first (per 1,000 tokens), then the price list.
Laws: a price that nobody knows is an error, never 0; rate limits of `custom_models` hold in any 60 seconds;
`health_check` never raises.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.errors import ErrorCategory, RouterError, SystemError, UnknownPriceError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.transport import HttpRequest, TransportError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.request_intent import Message, RequestIntent
from apikeyrouter.infrastructure.adapters.litellm_adapter import LiteLLMAdapter
from apikeyrouter.infrastructure.catalogue import KEYLESS
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from apikeyrouter.router import ApiKeyRouter

__all__ = ["ChatCompletion", "ChatMessage", "LiteLLMProvider"]

_WINDOW_S = 60.0
_PROBE_S = 5.0
_USUAL = (
    "gpt-4o", "gpt-4o-mini", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "claude-3-5-sonnet-20241022", "claude-3-opus",
    "claude-3-sonnet", "claude-3-haiku", "gemini-1.5-pro", "gemini-1.5-flash", "mistral-large-latest",
)  # fmt: skip
"""Models that most LiteLLM proxies are configured with, by the names that documents use; those without a list price are
left out."""


class ChatMessage(Message):
    """One turn of a conversation: `ChatMessage(role="user", content="Hello!")`."""


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class ChatUsage(_Open):
    """Tokens as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatChoice(_Open):
    """One reply. `message`: its turn."""

    index: int = 0
    message: Message
    finish_reason: str | None = None


class ChatCompletion(_Open):
    """A finished reply in OpenAI's shape; members that are not named here are kept. `cost_usd`: what it cost."""

    id: str = ""
    model: str = ""
    choices: list[ChatChoice] = Field(default_factory=list)
    usage: ChatUsage = ChatUsage()
    cost_usd: Decimal | None = None


class _Limits:
    """Requests and tokens of one model in the last 60 seconds."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.rpm = given.get("requests_per_minute")
        self.tpm = given.get("tokens_per_minute")
        self._used: deque[tuple[float, int]] = deque()

    def wait_s(self, now_s: float) -> float:
        """Seconds until one more request may go out; 0 for now."""
        used = self._used
        while used and used[0][0] <= now_s - _WINDOW_S:
            used.popleft()
        full = self.rpm is not None and len(used) >= self.rpm
        if full or (self.tpm is not None and sum(tokens for _, tokens in used) >= self.tpm):
            return used[0][0] + _WINDOW_S - now_s if used else _WINDOW_S
        return 0.0

    def add(self, now_s: float, tokens: int) -> None:
        """One request."""
        self._used.append((now_s, tokens))

    def learn(self, tokens: int) -> None:
        """What the newest one used beside."""
        if self._used:
            at_s, before = self._used[-1]
            self._used[-1] = (at_s, before + tokens)


class LiteLLMProvider:
    """A LiteLLM proxy.

    `base_url`: default `LITELLM_BASE_URL`, else http://localhost:4000. `api_key`: its master key; default
    `LITELLM_API_KEY`; None where it wants none. `custom_models`: by name, each with `pricing` ({"input", "output"}: US
    dollars for 1,000 tokens), `rate_limits` ({"requests_per_minute", "tokens_per_minute"}) and `metadata`
    (`context_window`, `task_types`, `provider` ...). In `async with` connections are kept between calls; without, each
    call closes its own, so that nothing is left behind in a loop that ends.
    """

    name = "litellm"

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        custom_models: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._adapter = LiteLLMAdapter(base_url)
        self._key = (api_key or os.environ.get("LITELLM_API_KEY", "")).strip() or KEYLESS
        self._clock = clock or SystemClock()
        self._prices = GenaiPriceSource(self._clock)
        self._models: dict[str, dict[str, Any]] = {}
        self._limits: dict[str, _Limits] = {}
        self._router: ApiKeyRouter | None = None
        self._available: tuple[str, ...] = ()
        self._kept = False
        self._calls = 0
        self.base_url = self._adapter.root
        for model, given in (custom_models or {}).items():
            self.add_custom_model(model, given.get("pricing"), given.get("rate_limits"), given.get("metadata"))

    async def __aenter__(self) -> LiteLLMProvider:
        self._kept = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes its connections; it may be used again."""
        self._kept = False
        if self._router is not None:
            await self._router.aclose()

    # -- models -----------------------------------------------------------------------------------------------------

    def add_custom_model(
        self,
        model_name: str,
        pricing: Mapping[str, float] | None = None,
        rate_limits: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a model or replaces what is known of it. Raises ValueError for a price that is no number from 0 on."""
        if not model_name.strip():
            raise ValueError("model_name is empty")
        prices = {}
        for part in ("input", "output") if pricing else ():
            try:
                prices[part] = float((pricing or {})[part])
            except (KeyError, TypeError, ValueError):
                raise ValueError(f"pricing of {model_name!r} needs {part!r}: US dollars for 1,000 tokens") from None
            if not 0.0 <= prices[part] < float("inf"):
                raise ValueError(f"pricing of {model_name!r}: {part!r} must be 0 or more, not {prices[part]}")
        self._models[model_name] = {
            "pricing": prices,
            "rate_limits": dict(rate_limits or {}),
            "metadata": dict(metadata or {}),
        }
        self._limits[model_name] = _Limits(rate_limits or {})

    def get_supported_models(self) -> list[str]:
        """Custom models, and those that the proxy listed when it was last asked (`get_available_models`), before that
        the usual ones of a LiteLLM proxy: all whose price is known. Never empty."""
        names = dict.fromkeys([*self._models, *(self._available or _USUAL)])
        known = [name for name in names if self._models.get(name, {}).get("pricing") or self._listed(name)]
        return known or list(_USUAL)

    def get_model_info(self, model: str) -> dict[str, Any]:
        """What is known: `name`, `pricing` (per 1,000 tokens), `rate_limits`, `metadata`; empty objects where nothing
        is."""
        given = self._models.get(model, {"pricing": {}, "rate_limits": {}, "metadata": {}})
        metadata = dict(given["metadata"])
        listed = self._prices.price(self.name, model)
        if listed is not None and listed.context_window is not None:
            metadata.setdefault("context_window", listed.context_window)
        pricing = dict(given["pricing"] or self._listed(model) or {})
        return {"name": model, "pricing": pricing, "rate_limits": dict(given["rate_limits"]), "metadata": metadata}

    def calculate_cost(self, prompt_tokens: int, completion_tokens: int, model: str) -> float:
        """US dollars for so many tokens. Raises UnknownPriceError for a model without a price."""
        prices = self._models.get(model, {}).get("pricing") or self._listed(model)
        if not prices:
            raise UnknownPriceError(
                f"No price is known for the model {model!r}. Give one with add_custom_model, in US dollars for 1,000 "
                "tokens.",
                model=model,
                provider_id=self.name,
            )
        return (prompt_tokens * prices["input"] + completion_tokens * prices["output"]) / 1000.0

    def wait_s(self, model: str) -> float:
        """Seconds until the model's configured rate limits have room; 0 for now."""
        limits = self._limits.get(model)
        return 0.0 if limits is None else limits.wait_s(self._clock.monotonic_s())

    def _listed(self, model: str) -> dict[str, float] | None:
        price = self._prices.price(self.name, model)
        if price is None or not price.by_tokens:
            return None
        return {"input": price.input / 1e12, "output": price.output / 1e12}

    # -- requests ---------------------------------------------------------------------------------------------------

    async def chat_completion(
        self, messages: Sequence[Message], model: str, max_tokens: int | None = None, **parameters: Any
    ) -> ChatCompletion:
        """Asks the proxy. Raises SystemError with its category; a rate limit of `custom_models` counts as one."""
        self._count(model)
        async with self._started() as router:
            response = await router.route(self._intent(messages, model, max_tokens, parameters))
        self._learn(model, response.metadata.tokens_used.total_tokens)
        reply = ChatCompletion.model_validate(response.raw)
        usage = reply.usage
        try:
            cost = self.calculate_cost(usage.prompt_tokens, usage.completion_tokens, model)
        except UnknownPriceError:
            return reply
        reply.cost_usd = Decimal(cost).quantize(Decimal("1e-9"))
        return reply

    async def stream_chat_completion(
        self, messages: Sequence[Message], model: str, max_tokens: int | None = None, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The same as a stream of chunks, each a JSON object. Raises what `chat_completion` raises."""
        self._count(model)
        intent = self._intent(messages, model, max_tokens, parameters)
        async with self._started() as router, router.route_stream(intent) as stream:
            async for chunk in stream:
                yield chunk.raw
        if stream.response is not None:
            self._learn(model, stream.response.metadata.tokens_used.total_tokens)

    async def health_check(self) -> bool:
        """Whether the proxy is alive; asks none of the providers behind it. Never raises."""
        try:
            status, _ = await self._ask(self._adapter.build_health_request())
        except RouterError:
            return False
        return status == 200

    async def get_available_models(self) -> list[dict[str, Any]]:
        """The models that the proxy lists, each with an `id`. Raises SystemError when it does not answer."""
        status, body = await self._ask(self._adapter.build_models_request(Secret(self._key)))
        if status != 200:
            category = ErrorCategory.AuthenticationError if status in (401, 403) else ErrorCategory.ProviderError
            hint = " Check LITELLM_API_KEY against its master key." if status in (401, 403) else ""
            raise SystemError(category, f"{self.base_url} answered {status} when asked for its models.{hint}")
        try:
            found = list(self._adapter.read_models(body))
        except ValueError as fault:
            raise SystemError(ErrorCategory.ProviderError, f"{self.base_url} gave no list of models: {fault}") from None
        self._available = tuple(model["id"] for model in found)
        return found

    async def _ask(self, request: HttpRequest) -> tuple[int, bytes]:
        async with self._started() as router:
            request.timeouts = router.timeouts
            request.deadline_s = router.now_s() + _PROBE_S
            try:
                reply = await router.transport.send(request)
                return reply.status, await reply.read()
            except TransportError as fault:
                raise SystemError(
                    ErrorCategory.NetworkError,
                    f"{self.base_url} does not answer: {fault.message}. Is the LiteLLM proxy running there "
                    "(litellm --config config.yaml --port 4000)?",
                ) from None

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[ApiKeyRouter]:
        if self._router is None:
            self._router = ApiKeyRouter(clock=self._clock)
            await self._router.register_provider(self.name, self._adapter)
            await self._router.register_key(self._key, self.name)
        router = self._router
        await router.start()
        self._calls += 1
        try:
            yield router
        finally:
            self._calls -= 1
            if not self._kept and not self._calls:
                await router.aclose()

    def _intent(
        self, messages: Sequence[Message], model: str, max_tokens: int | None, parameters: Mapping[str, Any]
    ) -> RequestIntent:
        wanted = {name: value for name, value in parameters.items() if value is not None}
        if max_tokens is not None:
            wanted["max_tokens"] = max_tokens
        return RequestIntent(model=model, messages=list(messages), parameters=wanted, provider_id=self.name)

    def _count(self, model: str) -> None:
        """Raises SystemError when the model's configured limits have no room."""
        limits = self._limits.get(model)
        if limits is None:
            return
        now_s = self._clock.monotonic_s()
        wait_s = limits.wait_s(now_s)
        if wait_s > 0.0:
            raise SystemError(
                ErrorCategory.RateLimitError,
                f"The rate limit given for {model!r} is reached; try again in {wait_s:.1f} s.",
                retryable=True,
                retry_after=wait_s,
                status=429,
                provider_code="rate_limit_exceeded",
            )
        limits.add(now_s, 0)

    def _learn(self, model: str, tokens: int) -> None:
        limits = self._limits.get(model)
        if limits is not None:
            limits.learn(tokens)


def as_bytes(messages: Sequence[Message]) -> bytes:
    """The messages as JSON: what a bound on their tokens goes by."""
    return msgspec.json.encode([message.to_wire() for message in messages])
