"""`apikeyrouter serve --workers N`: the parent of N processes that serve together.

Main entry: `serve_workers`. The parent binds the socket, does what is done once per start (migrations, keys of the
environment, the simulated provider), starts workers, and from then on watches: a worker that ends is replaced, after a
wait that doubles while it keeps failing; SIGTERM and SIGINT drain all of them.
Laws: workers are started afresh and never forked, so no thread, lock or connection of the parent is in them; a start
that fails is one message, whichever worker it came from; while one worker serves, the service goes on; when none does
and none can be started, the parent ends with that message, so that whoever runs it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from apikeyrouter.domain.errors import ConfigurationError, RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter_proxy.balance import Seats
from apikeyrouter_proxy.bootstrap import open_proxy
from apikeyrouter_proxy.metrics_board import fold_ended
from apikeyrouter_proxy.serving import Listening, Told, bind, forbid_core_dumps, print_banner
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.sim_server import SimServer, loop_factory
from apikeyrouter_proxy.simulation import clear_away
from apikeyrouter_proxy.worker import Orders, Word, board_name, seats_file

__all__ = ["WorkerError", "serve_workers"]

_log = logging.getLogger("apikeyrouter_proxy.workers")

_WAIT_S, _WAIT_MAX_S = 0.1, 30.0
_SETTLED_S = 60.0
"""A worker that served for so long is replaced at once when it ends."""

_STARTS_MAX = 5
"""Failed starts in a row, with nobody serving, after which the parent gives up."""

_READY_WITHIN_S = 120.0
_KILL_AFTER_S = 5.0
"""What a worker gets beyond its time to drain before it is killed."""


class WorkerError(RouterError):
    """A worker could not be started."""


def serve_workers(settings: ProxySettings, environ: Mapping[str, str], *, on_listening: Told | None = None) -> None:
    """Serves with `settings.workers` processes until SIGINT or SIGTERM. `environ`: what `settings` were made of, files
    included (`frozen_environ`). `on_listening`: called once, when all of them answer; default: prints the banner.

    Raises ConfigurationError, PortError, StateStoreError, SealError or WorkerError. Main thread only.
    """
    if not open_store(settings.store_url).persistent:
        raise ConfigurationError(
            [
                (
                    f"{settings.workers} workers cannot share the store {settings.store_url}: it lives in one process. "
                    "Use sqlite:///..., postgresql://... or redis://... (--store or APIKEYROUTER_STORE), or one worker "
                    "(--workers 1; WEB_CONCURRENCY counts too)."
                )
            ]
        )
    forbid_core_dumps()
    listener = bind(settings.host, settings.port)
    with contextlib.closing(listener), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_Supervisor(settings, environ, listener, on_listening or print_banner).run())


@dataclass(slots=True, eq=False)
class _Worker:
    """A running worker. `ready`: done when it serves, or failed when it will not. `over`: its exit status, once it has
    ended. `failure`: why it could not start, as it said."""

    number: int
    process: subprocess.Popen[bytes]
    started_s: float
    ready: asyncio.Future[None]
    over: asyncio.Task[int] | None = None
    failure: str = ""

    @property
    def serves(self) -> bool:
        """Whether it has come so far."""
        return self.ready.done() and self.ready.exception() is None

    def tell(self, signal_number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)


class _Supervisor:
    """See the module's text. `_workers`: those that run, by number."""

    def __init__(
        self, settings: ProxySettings, environ: Mapping[str, str], listener: socket.socket, told: Told
    ) -> None:
        self._settings = settings
        self._environ = dict(environ)
        self._listener = listener
        self._told = told
        self._clock: Clock = SystemClock()
        self._workers: dict[int, _Worker] = {}
        self._simulator: SimServer | None = None
        self._stopping = asyncio.Event()
        self._begun = False
        self._failed_starts = 0

    async def run(self) -> None:
        """Until a signal comes, or no worker can be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        listening = await self._prepare()
        try:
            with TemporaryDirectory(prefix="apikeyrouter-") as folder:
                await self._serve(Path(folder), listening)
        finally:
            if self._simulator is not None:
                await self._forget_simulation()

    async def _prepare(self) -> Callable[[], Listening]:
        """What is done once per start. What is to be told waits until the workers serve."""
        settings = self._settings
        proxy = await open_proxy(replace(settings, webhook=None))
        self._simulator = proxy.simulation.hand_over()
        port = self._listener.getsockname()[1]
        open_mode, open_management = proxy.access.open_mode, proxy.access.open_management
        notes = [*proxy.notes, f"{settings.workers} processes serve together."]
        await proxy.aclose()

        def listening() -> Listening:
            ids = [worker.process.pid for _, worker in sorted(self._workers.items())]
            return Listening(settings, notes, port, open_mode, open_management, ids)

        return listening

    async def _serve(self, folder: Path, listening: Callable[[], Listening]) -> None:
        seats = Seats.create(seats_file(folder), self._settings.workers)
        keepers: list[asyncio.Task[None]] = []
        try:
            for number in range(1, self._settings.workers + 1):
                worker = await self._start(number, folder)
                keepers.append(asyncio.create_task(self._keep(worker, folder, seats), name=f"worker {number}"))
                if number == 1:
                    await self._ready(worker)  # what keeps one from starting keeps all: one tells
                    self._begun = True
            others = [self._ready(worker) for worker in list(self._workers.values())]
            await asyncio.gather(*others, return_exceptions=True)  # one that failed is started again
            if not self._stopping.is_set():
                self._told(listening())
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION)
            for keeper in done:
                keeper.result()
        finally:
            self._drain()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _start(self, number: int, folder: Path) -> _Worker:
        """Starts a process and gives it its orders."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [self._listener.fileno(), theirs.fileno()]
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own module; starting one takes milliseconds
                [sys.executable, "-m", "apikeyrouter_proxy.worker", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent, which tells them
            )
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        worker = self._workers[number] = _Worker(number, process, self._clock.monotonic_s(), ready)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(msgspec.json.encode(Orders(number, str(folder), self._environ)) + b"\n")
        worker.over = asyncio.create_task(self._listen(worker, reader, writer), name=f"words of worker {number}")
        if self._stopping.is_set():
            worker.tell(signal.SIGTERM)
        return worker

    async def _listen(self, worker: _Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Hears what a worker says until it has ended; its exit status."""
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            while line := await reader.readline():
                word = msgspec.json.decode(line, type=Word)
                worker.failure = word.failure or worker.failure
                if word.ready and not worker.ready.done():
                    worker.ready.set_result(None)
                if word.simulation_over and self._simulator is not None:
                    simulator, self._simulator = self._simulator, None
                    await simulator.stop()
        writer.close()
        status = await asyncio.to_thread(worker.process.wait)
        if not worker.ready.done():
            why = worker.failure or f"Worker {worker.number} ended {_in_words(status)} before it served."
            worker.ready.set_exception(WorkerError(why))
            worker.ready.exception()  # nobody may be waiting for it
        return status

    async def _ready(self, worker: _Worker) -> None:
        """Returns when it serves, or when all is to stop. Raises WorkerError."""
        stopping = asyncio.create_task(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {worker.ready, stopping}
        try:
            await asyncio.wait(either, timeout=_READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self._stopping.is_set():
            return
        if not worker.ready.done():
            raise WorkerError(f"Worker {worker.number} did not serve within {_READY_WITHIN_S:.0f} seconds.")
        worker.ready.result()

    async def _keep(self, worker: _Worker, folder: Path, seats: Seats) -> None:
        """Replaces the worker whenever it ends, until all is to stop. Raises WorkerError to give up."""
        crashes = 0
        while worker.over is not None:
            status = await worker.over
            del self._workers[worker.number]
            seats.leave(worker.number)
            fold_ended(folder, board_name(worker.number, worker.process.pid))
            if self._stopping.is_set() or (not self._begun and not worker.serves):
                return
            crashes = 0 if self._clock.monotonic_s() - worker.started_s > _SETTLED_S else crashes
            wait_s = min(_WAIT_MAX_S, _WAIT_S * 2.0**crashes)
            crashes += 1
            self._tell_end(worker, status, wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
                return
            worker = await self._start(worker.number, folder)

    def _tell_end(self, worker: _Worker, status: int, wait_s: float) -> None:
        """Raises WorkerError when nobody serves and nobody can be started."""
        self._failed_starts = 0 if worker.serves else self._failed_starts + 1
        if self._failed_starts >= _STARTS_MAX and not any(other.serves for other in self._workers.values()):
            raise WorkerError(worker.failure or f"Worker {worker.number} ends {_in_words(status)} whenever it starts.")
        why = f" {worker.failure}" if worker.failure else ""
        _log.error(
            "Worker %d (process %d) ended %s; another one starts in %.1f s.%s",
            worker.number,
            worker.process.pid,
            _in_words(status),
            wait_s,
            why,
        )

    def _stop(self, signal_number: int) -> None:
        """A signal came: workers drain. A second SIGINT: they end at once."""
        if self._stopping.is_set() and signal_number == signal.SIGINT:
            for worker in self._workers.values():
                worker.tell(signal.SIGINT)
        self._drain()

    def _hang_up(self) -> None:
        """SIGHUP: one worker reads the configuration again, and the others hear of it over the store."""
        serving = next((worker for _, worker in sorted(self._workers.items()) if worker.serves), None)
        if serving is not None and not self._stopping.is_set():
            serving.tell(signal.SIGHUP)

    def _drain(self) -> None:
        """Asks every worker to end; kills those that take too long."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for worker in self._workers.values():
            worker.tell(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._settings.shutdown_timeout_s + _KILL_AFTER_S, self._kill)

    def _kill(self) -> None:
        for worker in self._workers.values():
            _log.error("Worker %d (process %d) did not end in time and is killed.", worker.number, worker.process.pid)
            worker.tell(signal.SIGKILL)

    async def _forget_simulation(self) -> None:
        """Its keys do not outlive it."""
        simulator, self._simulator = self._simulator, None
        store = open_store(self._settings.store_url)
        try:
            await clear_away(store)
        except StateStoreError as error:
            _log.warning("The simulated keys could not be removed; the next start does it. %s", error.message)
        finally:
            await store.close()
            if simulator is not None:
                await simulator.stop()


def _in_words(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"
