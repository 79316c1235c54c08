"""The outermost layer: nothing gets in unless a rule here says so.

Main entry: `Guard`. It decides by the raw path, the very text that routing matches: the pages without secrets are open,
`/v1` needs a client, `/metrics` a scraper, and every other path, known or not, an administrator: a new route is closed
until somebody opens it here. It also bounds bodies, gives every answer a request id, and answers browsers' preflights.
The token path (`wire.endpoints`) never comes here: it authenticates by itself, in the data plane.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.models.call import Wire
from apikeyrouter_proxy.wire.body import check_length
from apikeyrouter_proxy.wire.endpoints import wire_of
from apikeyrouter_proxy.wire.errors import WireError, of_router_error

if TYPE_CHECKING:
    from fastapi import FastAPI

    from apikeyrouter_proxy.bootstrap import Proxy
    from apikeyrouter_proxy.principal import Principal

__all__ = ["OPEN_PATHS", "Guard", "principal_of", "with_headers"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

OPEN_PATHS = frozenset(
    {
        "/", "/healthz", "/livez", "/readyz", "/health", "/health/liveliness", "/health/liveness", "/health/readiness",
        "/docs", "/swagger/swagger-ui-bundle.js", "/swagger/swagger-ui.css",
        "/swagger/favicon-32x32.png", "/api/v1/openapi.json", "/favicon.ico",
    }
)  # fmt: skip
"""Paths that tell nothing worth hiding."""

_CLIENT_PREFIXES = ("/v1/", "/v1beta/", "/openai/v1/")
_MANAGEMENT_PREFIX = "/api/v1/"
_SESSION = "/api/v1/session"
_DASHBOARD = "/dashboard"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_PRINCIPAL = "apikeyrouter.principal"
_HARDENING = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def principal_of(scope: Scope) -> Principal:
    """Who makes this request, as the guard found out."""
    found: Principal = scope[_PRINCIPAL]
    return found


class Guard:
    """Admits requests. `api`: the application whose `state.proxy` holds the running proxy."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], api: FastAPI) -> None:
        self._app = app
        self._state = api.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        proxy: Proxy = self._state.proxy
        access = proxy.access
        headers = dict(scope["headers"])
        added = [*_HARDENING, (b"x-request-id", _request_id(headers)), *access.browsers.cors(headers)]
        answer = with_headers(send, added)
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                allowed = access.browsers.preflight(headers)
                await _send(send, 204, b"", [*_HARDENING, *allowed])
                return
            scope[_PRINCIPAL] = await _admit(proxy, scope, headers)
            limit = proxy.settings.body_limit_bytes
            check_length(headers, limit)
            if scope["path"].startswith(_MANAGEMENT_PREFIX):
                await _catch_up(proxy, scope["method"])
        except WireError as error:
            path = scope["path"]
            wire = wire_of(path, headers) if path.startswith(_CLIENT_PREFIXES) else Wire.Chat
            body, content_type = error.written(wire)
            await _send(answer, error.status, body, [(b"content-type", content_type), *error.headers])
            return
        await self._app(scope, _bounded(receive, limit), answer)


async def _catch_up(proxy: Proxy, method: str) -> None:
    """Management answers know what was changed before they were asked for, by whichever process. While the store does
    not answer they show what was known; writes cannot be done. Raises WireError 503."""
    try:
        await proxy.catch_up()
    except StateStoreError as error:
        if method not in ("GET", "HEAD"):
            raise of_router_error(error) from None


async def _admit(proxy: Proxy, scope: Scope, headers: Headers) -> Principal | None:
    """The caller; None on open paths. Raises WireError."""
    path: str = scope["path"]
    method: str = scope["method"]
    access = proxy.access
    reads = method in ("GET", "HEAD")
    if reads and (path in OPEN_PATHS or path == _DASHBOARD or path.startswith(_DASHBOARD + "/")):
        return None
    if path == _SESSION and (reads or method == "POST"):
        return None  # whoever signs in has no session yet
    if path.startswith(_CLIENT_PREFIXES):
        return await access.admit(scope, headers)
    if path == "/metrics":
        return access.authenticate_metrics(scope, headers)
    return await access.admit(scope, proxy.sessions.admit(headers, method), management=True)


def _request_id(headers: Headers) -> bytes:
    given = headers.get(b"x-request-id") or headers.get(b"x-client-request-id") or b""
    return given if _REQUEST_ID.fullmatch(given) else b"req_" + secrets.token_hex(12).encode()


def _bounded(receive: Receive, limit: int) -> Receive:
    """Counts what a body without a length really holds."""
    received = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, f"The request body is larger than the {limit} bytes that are accepted.")
        return message

    return counted


def with_headers(send: Send, added: list[tuple[bytes, bytes]]) -> Send:
    """Adds headers to the answer, except those that it sets itself."""
    if not added:
        return send

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = message["headers"] = list(message["headers"])
            names = {name.lower() for name, _ in own}
            own += [header for header in added if header[0] not in names]
        await send(message)

    return sending


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
