"""The formats that the simulated provider speaks: how each is recognised, refuses, and ends its streams.

Main entries: `Format`, what one has to say for itself, and `format_of`, which finds the one of a request. OpenAI's is
the one for whatever no other claims. Each lives in modules of its own; a row in `_OTHERS` is all that it needs here.
Laws: accounts, keys, limits, faults and records are the same for all formats; a format turns `ApiError`, which speaks
OpenAI's words, into its own, and keeps the status true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.anthropic_format import AnthropicFormat
from apikeyrouter.simulation.api_errors import ApiError, Headers
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.gemini_format import GeminiFormat
from apikeyrouter.simulation.openai_format import OpenAIFormat
from apikeyrouter.simulation.responses_format import ResponsesFormat

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider

__all__ = ["Format", "Handler", "format_of"]

Handler = Callable[[Account, bytes, Headers], Reply]
"""Answers one admitted request: account, body and the reply headers so far, to which it adds. Raises ApiError."""


class Format(Protocol):
    """One API as it looks from outside."""

    def serves(self, scope: Scope) -> bool:
        """Whether a request is of this format, by its path and headers."""
        ...

    def credential(self, scope: Scope) -> str:
        """The key that came with a request; "" for none."""
        ...

    def headers(self, request_id: str) -> Headers:
        """What every reply carries."""
        ...

    def account_headers(self, account: Account) -> Headers:
        """What replies to a known account carry besides."""
        ...

    def handler(self, provider: SimulatedProvider, scope: Scope) -> Handler:
        """Who answers this path. Raises ApiError for an unknown path or a wrong method."""
        ...

    def error(self, error: ApiError, request_id: str, account: Account | None) -> tuple[int, Headers, bytes]:
        """A refusal in the format's words: status, headers beside those above, body. `account`: None as long as the
        key is not known."""
        ...

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        ...

    def is_end(self, event: bytes) -> bool:
        """Whether an event of a stream is the one that ends it: faults act before it at the latest."""
        ...

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """What stands before and after the padding of a reply that is far too large."""
        ...


_OPENAI = OpenAIFormat()
_OTHERS: tuple[Format, ...] = (AnthropicFormat(), GeminiFormat(), ResponsesFormat())


def format_of(scope: Scope) -> Format:
    """The format of a request."""
    for one in _OTHERS:
        if one.serves(scope):
            return one
    return _OPENAI
