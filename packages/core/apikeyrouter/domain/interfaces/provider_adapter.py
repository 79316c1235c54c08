"""What a provider is to the pipeline: how to ask it, and how to read what it says.

An adapter knows one provider's wire formats; it holds no keys, no state and does no I/O. The pipeline hands it a `Call`
in the caller's format and a secret, sends the request that it returns, and gives it the reply's bytes to read. Where
caller and provider speak the same format both bodies stay as they are; else the adapter translates
(`apikeyrouter.wire`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation

__all__ = ["ProviderAdapter", "ProviderCapabilities", "StreamReader", "passes_for"]


class ProviderCapabilities(BaseModel):
    """What the provider can do. `reading_is_free`: raw GET, HEAD and DELETE cost nothing. `operations`:
    paths as in `Operation`."""

    model_config = ConfigDict(frozen=True)

    supports_streaming: bool = True
    supports_tools: bool = True
    supports_images: bool = True
    supports_structured_output: bool = True
    reading_is_free: bool = True
    operations: tuple[Operation, ...] = (Operation.Chat, Operation.Completions, Operation.Embeddings)


class StreamReader(Protocol):
    """Watches one event stream go by and says what may be passed on.

    `feed` takes bytes as they came and returns those for the caller, in the caller's format; it may hold back an
    unfinished event. After each `feed` the fields are up to date. It never raises on bad input.
    """

    usage: Usage | None
    model: str | None
    finish_reason: str | None
    deltas: int
    """Chunks that carried output so far: the base of an estimate when no usage comes."""
    done: bool
    """Whether the terminal event came."""
    error: bytes | None
    """The payload of an in-band error event, or None."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns bytes for the caller."""
        ...

    def finish(self) -> bytes:
        """What is left to pass on when the provider's stream has ended cleanly."""
        ...


@runtime_checkable
class ProviderAdapter(Protocol):
    """A provider's wire format.

    Laws: pure; the secret appears only in the returned request's headers; `provider_id` and our own fields never travel
    upstream. `dialect` names the provider's way of reporting limits and errors (`domain.resilience.classify`).
    """

    dialect: str
    base_url: str

    def get_capabilities(self) -> ProviderCapabilities:
        """What this provider can do."""
        ...

    def claims(self, model: str) -> bool:
        """Whether a model of this name is this provider's own; used when a request names no provider."""
        ...

    def passes(self, operation: Operation) -> bool:
        """Whether this operation's requests, replies and errors pass as they are; False: they are translated."""
        ...

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """The HTTP request for this call. `base_url` overrides the adapter's (keys may carry their own). Raises
        UntranslatableError when the provider's format cannot say it, MalformedError when the caller's body is none."""
        ...

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """The HTTP request that lists models; also the cheapest way to try a key."""
        ...

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """Model objects with at least an `id`, from the reply to `build_models_request`. Raises ValueError."""
        ...

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """The body for the caller, in its own format, and the usage. Raises ValueError when it is no valid reply."""
        ...

    def open_stream(self, call: Call) -> StreamReader:
        """A reader for one event stream."""
        ...


def passes_for(adapter: ProviderAdapter, operation: Operation, model: str) -> bool:
    """`ProviderAdapter.passes`, for one model. Providers that speak several formats, each for models of its own, say
    more than `passes` can by a method `passes_for(operation, model)`; others need none."""
    ask: Callable[[Operation, str], bool] | None = getattr(adapter, "passes_for", None)
    return adapter.passes(operation) if ask is None else ask(operation, model)
