"""Which headers travel: from the client to a provider, and from a provider to the client.

Both ways are allow-lists: credentials, cookies, forwarding and hop-by-hop fields can never pass by accident.
`openai-organization` and `openai-project` stay behind too, because they belong to the client's own key, not to ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["upstream_headers", "upstream_reply_headers"]

Headers = list[tuple[bytes, bytes]]

_TO_PROVIDER = frozenset(
    {
        b"accept", b"user-agent", b"traceparent", b"tracestate", b"x-client-request-id", b"idempotency-key",
        b"http-referer", b"x-title", b"session-id", b"thread-id", b"x-session-affinity", b"x-session-id",
        b"x-goog-api-client",
    }
)  # fmt: skip
_TO_PROVIDER_STARTS = (b"openai-", b"anthropic-", b"x-stainless-", b"x-codex-", b"x-claude-code-")
_OWN_TO_CLIENT = frozenset({b"openai-organization", b"openai-project"})
_TO_CLIENT_STARTS = (b"openai-", b"anthropic-")

_NAMES_MAX = 512
"""Names of which it is remembered whether they pass. Callers and providers choose names."""


def upstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The client's headers that a provider may see."""
    return [header for header in headers if _goes_up(header[0])]


def upstream_reply_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The provider's headers that a client may see; its request id comes under a name of ours."""
    passed: Headers = []
    for name, value in headers:
        told = _told_as(name)
        if told is not None:
            passed.append((told, value))
    return passed


@lru_cache(_NAMES_MAX)
def _goes_up(name: bytes) -> bool:
    return name in _TO_PROVIDER or (name.startswith(_TO_PROVIDER_STARTS) and name not in _OWN_TO_CLIENT)


@lru_cache(_NAMES_MAX)
def _told_as(name: bytes) -> bytes | None:
    """Under which name a provider's header is told to the client, if it is."""
    if name == b"x-request-id":
        return b"x-akr-upstream-request-id"
    told = name == b"content-type" or (
        name.startswith(_TO_CLIENT_STARTS)
        and name not in _OWN_TO_CLIENT
        and b"ratelimit" not in name
        and b"organization" not in name
    )
    return name if told else None
