"""Several processes accept from one listening socket, and each takes its share.

Main entries: `Seats`, the numbers of connections that all workers have, in shared memory, and `FairListener`, which
accepts one connection at a time, and lets others go first while they have fewer.
Why: left to themselves, the worker that wakes first takes what is there: of 64 connections opened at once, two workers
on two cores took 11 and 53 (uvloop), or 0 and 64 (asyncio); with a socket each (SO_REUSEPORT) the kernel's hash gave 25
and 39, and connections that wait for a worker that crashed are lost. This way it is 30 and 34 at worst. Measured
2026-11-21, 3 x 64 connections over loopback.
Laws: a worker that lets others go first comes back after `_AFTER_YOU_S` and then takes one whatever they have, so no
connection waits for a worker that hangs; a seat without a worker counts for nothing.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["FairListener", "Seats"]

_AFTER_YOU_S = 0.001
_NOBODY = -1
_SEAT = struct.Struct("q")


class Seats:
    """Connections per worker, in a file that all of them map. Workers are numbered from 1."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, path: Path, workers: int) -> Seats:
        """A new file, with nobody in it."""
        path.write_bytes(_SEAT.pack(_NOBODY) * workers)
        return cls(path)

    def put(self, worker: int, connections: int) -> None:
        """`worker` has so many connections."""
        _SEAT.pack_into(self._map, (worker - 1) * _SEAT.size, connections)

    def leave(self, worker: int) -> None:
        """There is no such worker now."""
        self.put(worker, _NOBODY)

    def least_of_others(self, worker: int) -> int | None:
        """The fewest connections that another worker has; None when there is no other one."""
        counts = [count for (count,) in _SEAT.iter_unpack(self._map)]
        del counts[worker - 1]
        return min((count for count in counts if count != _NOBODY), default=None)


class FairListener:
    """Accepts from `listener` for one worker. It has what uvicorn wants of a server: `close` and `wait_closed`.

    `protocol`: makes the protocol of a connection. `connections`: how many this worker has, those being made aside.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        *,
        seats: Seats,
        worker: int,
        connections: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._seats = seats
        self._worker = worker
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.sockets = [listener]
        listener.setblocking(False)
        self.tell()
        self._watch()

    def tell(self) -> int:
        """Says how many connections this worker has."""
        count = self._connections() + len(self._beginning)
        self._seats.put(self._worker, count)
        return count

    def close(self) -> None:
        """Accepts no more."""
        self._closed = True
        self._loop.remove_reader(self._listener.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._seats.leave(self._worker)

    async def wait_closed(self) -> None:
        """Returns when connections that were being made are made."""
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _watch(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._somebody_comes)

    def _somebody_comes(self) -> None:
        least = self._seats.least_of_others(self._worker)
        if least is None or self.tell() <= least + least // 8:
            self._take_one()
            return
        self._loop.remove_reader(self._listener.fileno())
        self._timer = self._loop.call_later(_AFTER_YOU_S, self._back)

    def _back(self) -> None:
        self._timer = None
        if not self._closed:
            self._take_one()
            self._watch()

    def _take_one(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # out of descriptors or memory: this worker looks again when it has some
            self._loop.remove_reader(self._listener.fileno())
            self._timer = self._loop.call_later(1.0, self._back)
            return
        connection.setblocking(False)
        making = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._beginning.add(making)
        making.add_done_callback(self._made)
        self.tell()

    def _made(self, making: asyncio.Task[object]) -> None:
        self._beginning.discard(making)
        if not making.cancelled() and making.exception() is not None:
            self.tell()
