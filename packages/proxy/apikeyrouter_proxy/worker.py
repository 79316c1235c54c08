"""One of several processes that serve together; `supervisor` starts it, as `python -m apikeyrouter_proxy.worker`.

It gets its orders as one line of JSON over the control socket, so that no secret stands in its arguments or its
environment, and answers with lines of JSON: that it serves, that the simulation is over, or why it could not start.
Laws: it accepts from a socket that the parent holds, so that its end loses only its own connections; when the parent
ends, however it does, the control socket closes and the worker drains and ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import uvicorn

from apikeyrouter.domain.errors import RouterError
from apikeyrouter_proxy.balance import FairListener, Seats
from apikeyrouter_proxy.serving import ProxyServer, Startup, forbid_core_dumps, uvicorn_config
from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["Orders", "Word", "board_name", "main", "seats_file"]

_FAILED = 1


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told. `number`: from 1. `folder`: of all workers. `environ`: what settings are made of."""

    number: int
    folder: str
    environ: dict[str, str]


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says. `ready`: it serves. `failure`: why it could not start. `simulation_over`: nobody needs the
    simulated provider any more."""

    ready: bool = False
    failure: str = ""
    simulation_over: bool = False


def seats_file(folder: Path) -> Path:
    """Where workers see each other's numbers of connections."""
    return folder / "seats"


def board_name(number: int, process_id: int) -> str:
    """The name under which a worker leaves its metrics."""
    return f"worker-{number}-{process_id}"


class _WorkerServer(ProxyServer):
    """uvicorn's server that accepts its share of connections from a socket of several processes."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: Callable[[], None],
        hang_up: Callable[[], None],
        control: socket.socket,
        seats: Seats,
        number: int,
    ) -> None:
        super().__init__(config, listening, hang_up)
        self._control = control
        self._seats = seats
        self._number = number
        self._listener: FairListener | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but for who accepts."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._parent_spoke)
        await self.lifespan.startup()
        if self.lifespan.should_exit or not sockets:
            sys.exit(_FAILED)
        config, state = self.config, self.server_state

        def protocol() -> asyncio.Protocol:
            make = cast("Any", config.http_protocol_class)
            return cast("asyncio.Protocol", make(config=config, server_state=state, app_state=self.lifespan.state))

        self._listener = FairListener(
            sockets[0],
            protocol,
            seats=self._seats,
            worker=self._number,
            connections=lambda: len(state.connections),
        )
        self.servers = [cast("asyncio.base_events.Server", self._listener)]
        self.started = True
        self.catch_hang_ups()
        self.listening()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._listener is not None and not self.should_exit:
            self._listener.tell()
        return await super().on_tick(counter)

    def _parent_spoke(self) -> None:
        """It never does: the socket is closed, so the parent has ended."""
        with contextlib.suppress(OSError):
            if self._control.recv(4096):
                return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self.handle_exit(signal.SIGTERM, None)


def main(arguments: list[str]) -> int:
    """`arguments`: the descriptors of listener and control socket. The exit status."""
    listener, control = (socket.socket(fileno=int(number)) for number in arguments)
    forbid_core_dumps()
    with control, listener:
        orders = _orders(control)

        def say(word: Word) -> None:
            with contextlib.suppress(OSError):  # the parent has ended; that is noticed elsewhere
                control.sendall(msgspec.json.encode(word) + b"\n")

        try:
            _serve(orders, listener, control, say)
        except RouterError as failure:
            say(Word(failure=failure.message))
            return _FAILED
    return 0


def _serve(orders: Orders, listener: socket.socket, control: socket.socket, say: Callable[[Word], None]) -> None:
    import os

    from apikeyrouter_proxy.app import create_app
    from apikeyrouter_proxy.bootstrap import Seat
    from apikeyrouter_proxy.metrics_board import MetricsBoard

    settings = ProxySettings.from_environ(orders.environ)
    folder = Path(orders.folder)
    board = MetricsBoard(folder, board_name(orders.number, os.getpid()))
    seat = Seat(orders.number, board, lambda: say(Word(simulation_over=True)))
    app = create_app(settings, seat=seat)
    startup = Startup(app)
    config = uvicorn_config(startup, settings)
    control.setblocking(True)
    ready = partial(say, Word(ready=True))

    def hang_up() -> None:
        app.state.proxy.config.hang_up()

    def end_streams() -> None:
        app.state.proxy.live.end()

    server = _WorkerServer(config, ready, hang_up, control, Seats(seats_file(folder)), orders.number)
    server.ends = end_streams
    startup.run(server, listener)


def _orders(control: socket.socket) -> Orders:
    line = b""
    while not line.endswith(b"\n"):
        piece = control.recv(65_536)
        if not piece:
            raise SystemExit(_FAILED)  # the parent ended before it had said anything
        line += piece
    return msgspec.json.decode(line, type=Orders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
