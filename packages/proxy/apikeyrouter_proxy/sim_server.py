"""Serves the simulated provider over real HTTP, in a process of its own or inside a running event loop.

Main entries: `SimServer` (async context manager, embedded), `serve_sim` (blocks until SIGINT or SIGTERM) and
`python -m apikeyrouter_proxy.sim_server --port 0 --print-port`, which prints one line of JSON once it listens.
uvicorn serves; a small protocol class hands the socket to the application, so that resets, closes and cut streams are
real. Law: it binds to loopback unless told otherwise, and leaves nothing running behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from apikeyrouter.simulation.asgi import SimulatedProvider
from apikeyrouter.simulation.config import AccountConfig, Limits, Pace, SimConfig, load_config
from apikeyrouter.simulation.connection import SOCKET_EXTENSION
from apikeyrouter.simulation.control import Control
from apikeyrouter.simulation.faults import Fault
from apikeyrouter.simulation.limits import Refill

__all__ = ["DEFAULT_PORT", "SimServer", "loop_factory", "main", "serve_sim"]

DEFAULT_PORT = 8010
_BACKLOG = 2048
_KEEP_ALIVE_S = 75  # longer than pools keep idle connections, so that closing is the client's choice
_STOP_GRACE_S = 2
_LINGER_ZERO = struct.pack("ii", 1, 0)


class _Wire:
    """A connection below HTTP, see `apikeyrouter.simulation.connection.Socket`."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def reset(self) -> None:
        """Ends it with an RST: closing a socket that lingers for zero seconds sends one."""
        if self._transport.is_closing():
            return
        handle = self._transport.get_extra_info("socket")
        # A second descriptor of the same socket: event loops hand out wrappers that cannot set options.
        with socket.socket(fileno=os.dup(handle.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def close(self) -> None:
        """Sends what was written, then a FIN."""
        self._transport.close()


class _WiredProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the socket in the scope of each request and without an access log (uvicorn's own switch
    would silence the log of a host that serves with uvicorn in the same process)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def on_message_begin(self) -> None:
        """A request begins: its scope was just made."""
        super().on_message_begin()
        self.scope["extensions"] = {SOCKET_EXTENSION: _Wire(self.transport)}  # type: ignore[dict-item]  # our own entry


class _QuietServer(uvicorn.Server):
    """uvicorn's server as a guest: it leaves signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs the event loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to serve the given sockets."""
        await super().startup(sockets)
        self.listening.set()


class SimServer:
    """A simulated provider on a port of its own, inside the running event loop.

    `port` 0 takes a free one. Use it as an async context manager, or call `start` and `stop`. Raises OSError when the
    port is taken.
    """

    def __init__(
        self,
        config: SimConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        provider: SimulatedProvider | None = None,
    ) -> None:
        self.provider = provider or SimulatedProvider(config)
        self.host = host
        self.port = port
        self._control = Control(self.provider)
        self._server: _QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SimServer:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """What clients take as base URL; it ends in `/v1`."""
        return f"{self._origin}/v1"

    @property
    def control_url(self) -> str:
        """Where the control endpoint is."""
        return f"{self._origin}/_sim"

    @property
    def keys(self) -> list[str]:
        """The keys of the configured accounts."""
        return [key for account in self.provider.config.accounts for key in account.keys]

    def describe(self) -> dict[str, Any]:
        """What a client needs to know, for JSON."""
        return {"base_url": self.base_url, "keys": self.keys, "control_url": self.control_url, "pid": os.getpid()}

    async def start(self) -> None:
        """Binds and listens; returns when requests are served. Raises OSError."""
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.provider,
            http=_WiredProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_GRACE_S,
        )
        self._server = _QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="simulated provider")
        listening = asyncio.create_task(self._server.listening.wait())
        try:
            await asyncio.wait({listening, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if self._serving.done():
            self._serving.result()  # raises what went wrong
            raise RuntimeError("the simulated provider ended before it listened")

    async def stop(self) -> None:
        """Breaks off what still runs and stops listening. Idempotent."""
        if self._server is None or self._serving is None:
            return
        self.provider.hang_up()
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None

    async def fault(self, key: str | None, kind: str, **details: Any) -> int:
        """Puts a fault in force for a key, or for all keys (None); returns its id. Raises ValueError for details that
        `apikeyrouter.simulation.faults.Fault` does not have."""
        fault = msgspec.convert({"key": key, "kind": kind, **details}, Fault)
        return self._control.add_faults([fault])[0]

    async def clear_faults(self, key: str | None = None) -> int:
        """Ends all faults, or those of one key; returns how many."""
        return self.provider.faults.clear(key)

    async def add_account(self, name: str, *keys: str, **details: Any) -> None:
        """Adds an account, or replaces the one of this name; see `AccountConfig`."""
        self._control.add_accounts([msgspec.convert({"name": name, "keys": keys, **details}, AccountConfig)])

    async def state(self, key: str | None = None) -> dict[str, Any]:
        """Counts per key (of one, or of all), accounts and faults."""
        return self._control.state(key)

    async def requests(self, key: str | None = None, last: int | None = None) -> list[dict[str, Any]]:
        """The last requests, oldest first, without credentials."""
        return self._control.requests(key, last)

    async def reset(self, seed: int | None = None) -> None:
        """Back to the beginning: full limits, configured faults only, empty records."""
        self.provider.reset(seed)

    @property
    def _origin(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host  # noqa: S104  (compared, not bound)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def serve_sim(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    config: SimConfig | None = None,
    *,
    on_ready: Callable[[SimServer], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, on uvloop where it is installed. `on_ready` is called once it listens.

    Raises OSError when the port is taken.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve_until_signal(SimServer(config, host=host, port=port), on_ready))


async def _serve_until_signal(server: SimServer, on_ready: Callable[[SimServer], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        if on_ready is not None:
            on_ready(server)
        await stop.wait()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes uvloop's event loops where it is installed; None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="sim_server", description="A simulated provider in OpenAI's wire format.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free port (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="replays replies, ids and chances")
    parser.add_argument("--config", type=Path, help="JSON file, see apikeyrouter.simulation.config.SimConfig")
    parser.add_argument("--rpm", type=int, help="requests a minute of each account")
    parser.add_argument("--tpm", type=int, help="tokens a minute of each account")
    parser.add_argument("--refill", choices=list(Refill), help="how limits come back (default: continuous)")
    parser.add_argument("--burst-s", type=float, help="limits of a minute are enforced over so many seconds")
    parser.add_argument("--no-limits", action="store_true", help="no rate limits at all")
    parser.add_argument("--first-token-s", type=float, help="seconds to the first token")
    parser.add_argument("--token-s", type=float, help="seconds for each further token")
    parser.add_argument("--record-last", type=int, help="requests kept for inspection, 0 for none")
    parser.add_argument("--print-port", action="store_true", help="print one line of JSON when listening")
    options = parser.parse_args(argv)
    try:
        config = _configured(options)
        serve_sim(options.host, options.port, config, on_ready=_announce_json if options.print_port else _announce)
    except (OSError, ValueError) as fault:
        print(f"sim_server: {fault}", file=sys.stderr)
        return 1
    return 0


def _configured(options: argparse.Namespace) -> SimConfig:
    config = load_config(options.config) if options.config else SimConfig()
    changes: dict[str, Any] = {}
    for name in ("seed", "record_last"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.no_limits:
        changes["limits"] = "none"
    else:
        wanted = {name: getattr(options, name) for name in ("rpm", "tpm", "refill", "burst_s")}
        given = {name: value for name, value in wanted.items() if value is not None}
        if given:
            known = config.limits if isinstance(config.limits, Limits) else Limits()
            changes["limits"] = msgspec.convert({**msgspec.to_builtins(known), **given}, Limits)
    if options.first_token_s is not None or options.token_s is not None:
        pace = config.pace
        changes["pace"] = Pace(
            first_token_s=pace.first_token_s if options.first_token_s is None else options.first_token_s,
            token_s=pace.token_s if options.token_s is None else options.token_s,
        )
    return msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(config, **changes)), SimConfig)


def _announce_json(server: SimServer) -> None:
    print(json.dumps(server.describe()), flush=True)


def _announce(server: SimServer) -> None:
    print(
        f"Simulated provider at {server.base_url}\nKeys: {', '.join(server.keys)}\nControl: {server.control_url}/state",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
