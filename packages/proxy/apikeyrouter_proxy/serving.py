"""Runs the proxy as a server: one process, uvicorn with uvloop and httptools, from binding the port to draining.

Main entry: `serve`, behind `apikeyrouter serve` and `python -m apikeyrouter_proxy.run`; for several processes see
`supervisor`, whose workers are made of the same parts (`Startup`, `ProxyServer`, `uvicorn_config`).
Laws: the port is bound before anything is opened, so a busy port costs nothing and its message says who listens there;
a start that fails is one RouterError and no traceback; SIGINT and SIGTERM drain, and the process then ends with
status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from apikeyrouter.domain.errors import RouterError
from apikeyrouter_proxy.one_write import OneWriteProtocol
from apikeyrouter_proxy.settings import ProxySettings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = [
    "Listening",
    "PortError",
    "ProxyServer",
    "Startup",
    "Told",
    "bind",
    "forbid_core_dumps",
    "port_advice",
    "print_banner",
    "serve",
    "uvicorn_config",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger("apikeyrouter_proxy")
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""Longer than clients and load balancers keep idle connections (60 s is their usual default): they close first, so no
request is lost on a connection that this side closes at the same moment."""


class PortError(RouterError):
    """The address cannot be listened on. `busy`: because somebody else does."""

    def __init__(self, message: str, *, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


@dataclass(frozen=True, slots=True)
class Listening:
    """A proxy that answers, for whoever tells people. `port`: the one that is really listened on. `open_mode`,
    `open_management`: see `Access`. `workers`: their process ids; none when this process serves itself."""

    settings: ProxySettings
    notes: Sequence[str]
    port: int
    open_mode: bool
    open_management: bool
    workers: Sequence[int] = ()


Told = Callable[[Listening], None]


def serve(settings: ProxySettings | None = None, *, on_listening: Told | None = None) -> None:
    """Serves until SIGINT or SIGTERM. `on_listening`: called once, when requests are answered; default: prints the
    banner.

    Raises ConfigurationError, PortError, StateStoreError or SealError when it cannot start. Main thread only.
    """
    if settings is None:
        settings = ProxySettings.from_environ(os.environ, Path(".env"))
    forbid_core_dumps()
    listener = bind(settings.host, settings.port)
    with contextlib.closing(listener):
        from apikeyrouter_proxy.app import create_app

        app = create_app(settings)
        startup = Startup(app)
        port: int = listener.getsockname()[1]

        def tell() -> None:
            proxy = app.state.proxy
            access = proxy.access
            told = Listening(proxy.settings, proxy.notes, port, access.open_mode, access.open_management)
            (on_listening or print_banner)(told)

        def hang_up() -> None:
            app.state.proxy.config.hang_up()

        def end_streams() -> None:
            app.state.proxy.live.end()

        server = ProxyServer(uvicorn_config(startup, settings), tell, hang_up)
        server.ends = end_streams
        startup.run(server, listener)


def forbid_core_dumps() -> None:
    """A core dump of this process would hold every provider secret in the clear."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def uvicorn_config(app: Startup, settings: ProxySettings) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        loop="auto",
        http=OneWriteProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # A reverse proxy on this machine says who calls (X-Forwarded-For): its callers do not pass for local ones.
        proxy_headers=True,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        # Draining is the application's: it knows which requests run. This bound is only the last resort.
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_s) + 1,
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at this address. Raises PortError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise PortError(
            f"The address {host!r} is not known on this machine. Use 127.0.0.1 (this machine only) or 0.0.0.0 (every "
            "network), with --host or PROXY_HOST."
        ) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as fault:
        listener.close()
        raise _port_error(host, port, fault) from None
    return listener


def port_advice(port: int) -> str:
    """How to choose another port, in words."""
    other = port + 1 if port < 65_535 else port - 1
    return f"Choose another one with `apikeyrouter serve --port {other}` or PROXY_PORT={other} (0 takes a free one)."


def _port_error(host: str, port: int, fault: OSError) -> PortError:
    if fault.errno == errno.EADDRINUSE:
        return PortError(
            f"Port {port} on {host} is taken: another program listens there. {port_advice(port)}", busy=True
        )
    if fault.errno in (errno.EACCES, errno.EPERM):
        return PortError(f"You may not listen on port {port}: ports below 1024 belong to root. {port_advice(port)}")
    return PortError(
        f"Cannot listen on {host} port {port}: {fault.strerror or fault}. Use 127.0.0.1 (this machine only) or 0.0.0.0 "
        "(every network), with --host or PROXY_HOST."
    )


def print_banner(told: Listening) -> None:
    """Tells people on standard output."""
    from apikeyrouter_proxy.banner import banner

    text = banner(
        told.settings,
        told.notes,
        port=told.port,
        open_mode=told.open_mode,
        open_management=told.open_management,
    )
    print(text, flush=True)


class Startup:
    """The application as uvicorn starts it: what fails while it opens is kept in `failure`, for whoever called `serve`,
    instead of being logged with its traceback."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.failure: RouterError | None = None

    def run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        """Runs the server to its end. Raises what kept the application from opening."""
        try:
            server.run([listener])
        except SystemExit:
            if self.failure is not None:
                raise self.failure from None
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        await receive()
        try:
            context = self._app.router.lifespan_context(self._app)
            await context.__aenter__()
        except RouterError as failure:
            self.failure = failure
            logging.getLogger("uvicorn.error").disabled = True  # it would only add that the start failed
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await context.__aexit__(None, None, None)
        except RouterError as failure:
            _log.error("Not everything could be written before the end. %s", failure.message)
        await send({"type": "lifespan.shutdown.complete"})


class ProxyServer(uvicorn.Server):
    """uvicorn's server that says when it listens, and for which a signal to stop is no failure. `hang_up`: what SIGHUP
    does while it serves. `ends`: called when it shall stop, on its event loop."""

    def __init__(
        self, config: uvicorn.Config, listening: Callable[[], None], hang_up: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self.listening = listening
        self._hang_up = hang_up
        self.ends: Callable[[], None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asks to stop; `ends` is called, so that streams which never end by themselves do."""
        super().handle_exit(sig, frame)
        if self.started and self.ends is not None:
            self.ends()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to serve."""
        await super().startup(sockets)
        if self.started:
            self.catch_hang_ups()
            self.listening()

    def catch_hang_ups(self) -> None:
        """From now on SIGHUP ends nothing."""
        if self._hang_up is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to stop; a second SIGINT stops at once. The loop handles them, so that a waiting loop
        wakes up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
