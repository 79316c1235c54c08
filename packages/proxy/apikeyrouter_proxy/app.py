"""The application: FastAPI with the token path in front, and one life from opening the store to draining.

`create_app()` builds it without reading or starting anything. The whole onion is `create_app`'s last lines: guard
(hosts, origins), token path, then FastAPI's own routes (management, models, health).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi_swagger import patch_fastapi

from apikeyrouter.domain.models.call import Wire
from apikeyrouter_proxy.bootstrap import Proxy, Seat, open_proxy
from apikeyrouter_proxy.dashboard.playground import PLAYGROUND, play
from apikeyrouter_proxy.middleware.guard import OPEN_PATHS, Guard, with_headers
from apikeyrouter_proxy.one_write import forgo
from apikeyrouter_proxy.routes import include_routes
from apikeyrouter_proxy.routes.errors import DESCRIBED
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.wire.credentials import key_from_query
from apikeyrouter_proxy.wire.endpoints import PLAIN, Kind, find

__all__ = ["create_app"]

_log = logging.getLogger("apikeyrouter_proxy")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GC_THRESHOLDS = (50_000, 20, 100)


class ProxyApp(FastAPI):
    """FastAPI, with the token path in front of it.

    What clients of any format call goes straight to the data plane: FastAPI's layers would cost each request some 20 us
    of CPU (measured: 157 against 134 us per request) and have nothing to say about it. The data plane authenticates and
    answers every error by itself. Only where foreign web pages are allowed, headers are added for them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            path = scope["path"]
            if scope["query_string"] and not path.startswith("/api/"):
                key_from_query(scope)
            target = PLAIN.get(path)
            if target is None and path.startswith(PLAYGROUND):
                await play(self.state.proxy, scope, receive, send)
                return
            if target is None and path not in OPEN_PATHS:
                target = find(path, dict(scope["headers"]), self.state.proxy.router.providers)
            if target is not None and (scope["method"] != "OPTIONS" or not _asks_for_a_page(scope)):
                if target.kind is not Kind.Models or scope["method"] not in target.methods:
                    proxy: Proxy = self.state.proxy
                    if proxy.tracing is not None:
                        proxy.tracing.enter(scope)
                    browsers = proxy.access.browsers
                    if browsers.any_origin and (headers := browsers.cors(dict(scope["headers"]))):
                        forgo(scope)  # they are added to messages
                        send = with_headers(send, headers)
                    await proxy.data_plane(scope, receive, send, target)
                    return
                scope["path"] = f"/{'v1beta' if target.wire is Wire.Gemini else 'v1'}/{target.path}"
        await super().__call__(scope, receive, send)


def _asks_for_a_page(scope: Scope) -> bool:
    """Whether OPTIONS is a browser's question on behalf of a web page, which the guard answers."""
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def create_app(
    settings: ProxySettings | None = None, environ: Mapping[str, str] | None = None, *, seat: Seat | None = None
) -> FastAPI:
    """The application. `settings`: default from `environ` (default: the process environment and `.env`), read when the
    server starts, so that importing has no effect and needs no key. `seat`: a worker's place beside others."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or ProxySettings.from_environ(os.environ if environ is None else environ, Path(".env"))
        proxy: Proxy = await open_proxy(chosen, seat=seat)
        app.state.proxy = proxy
        if settings is None:  # started by a bare ASGI server: nobody prints the banner
            for note in proxy.notes:
                _log.warning(note)
            _end_streams_on_signals(proxy)
        # What lives now lives as long as the process: keeping it out of collections saves 7-12 % of the CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            yield
        finally:
            proxy.draining = True
            await _drained(proxy)
            await proxy.aclose()

    app = ProxyApp(
        title="ApiKeyRouter",
        summary="Which key of which provider serves each LLM request, and why.",
        lifespan=life,
        docs_url=None,  # served below, from files of our own installation
        swagger_ui_oauth2_redirect_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=DESCRIBED,
    )
    include_routes(app)
    patch_fastapi(app, docs_url="/docs", redirect_from_root_to_docs=False)
    app.add_middleware(Guard, api=app)
    return app


def _end_streams_on_signals(proxy: Proxy) -> None:
    """A bare server waits for open connections before it tells the application that it ends, and open dashboards never
    close theirs: so its handlers of signals are passed through here."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        theirs = signal.getsignal(number)
        if callable(theirs):
            signal.signal(number, partial(_end_streams, loop, proxy, theirs))


def _end_streams(
    loop: asyncio.AbstractEventLoop,
    proxy: Proxy,
    theirs: Callable[[int, FrameType | None], object],
    number: int,
    frame: FrameType | None,
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(proxy.live.end)
    theirs(number, frame)


async def _drained(proxy: Proxy) -> None:
    """Waits for running requests, up to the shutdown time-out. uvicorn has stopped accepting by now."""
    clock = proxy.clock
    until_s = clock.monotonic_s() + proxy.settings.shutdown_timeout_s
    while proxy.data_plane.in_flight and clock.monotonic_s() < until_s:
        await clock.sleep(0.05)
