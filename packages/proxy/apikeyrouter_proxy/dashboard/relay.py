"""What happens in other workers, for the worker whose dashboard is open: datagrams in the workers' shared folder.

Main entries: `Relay.open` (a worker that has listeners: a socket of its own appears in the folder), `Relay.others` (who
else listens) and `Relay.send`. Laws: nobody waits for anybody: a worker that does not take a batch misses it; what an
ended worker left is removed by whoever finds that nobody is there; the folder is the operator's alone (mode 0700).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import msgspec

from apikeyrouter_proxy.dashboard.tally import Batch

__all__ = ["Relay"]

_log = logging.getLogger("apikeyrouter_proxy")
_SUFFIX = ".live"
_DATAGRAM_MAX = 1 << 20
_UNREAD_MAX = 256
"""Batches of others that wait for the next turn, which comes twice a second."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, Batch]).decode


class Relay:
    """`place`: this worker's name in the folder of all workers; no other process may use it."""

    def __init__(self, place: Path) -> None:
        self._own = place.with_name(place.name + _SUFFIX)
        self._socket: socket.socket | None = None
        self._received: list[tuple[str, Batch]] = []

    def open(self) -> None:
        """From now on others send here. Where the folder cannot hold a socket (its path is too long), only requests of
        this worker are told, and the log says so."""
        if self._socket is not None:
            return
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.setblocking(False)
        try:
            self._own.unlink(missing_ok=True)
            heard.bind(str(self._own))
        except OSError as fault:
            heard.close()
            _log.warning("The dashboard shows one worker's requests only: %s: %s", self._own, fault.strerror or fault)
            return
        asyncio.get_running_loop().add_reader(heard.fileno(), self._read, heard)
        self._socket = heard

    def close(self) -> None:
        """Nobody needs to send here any more. Idempotent."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._received.clear()
            self._own.unlink(missing_ok=True)

    def received(self) -> list[tuple[str, Batch]]:
        """What came since the last time, and from whom."""
        received, self._received = self._received, []
        return received

    def others(self) -> list[Path]:
        """Workers that listen now, besides this one."""
        return [path for path in self._own.parent.glob("*" + _SUFFIX) if path != self._own]

    def send(self, batch: Batch, others: list[Path]) -> None:
        """Tells them."""
        data = _encode((self._own.name, batch))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            for path in others:
                try:
                    out.sendto(data, str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)
                except OSError:
                    continue  # it has just ended, or does not keep up: the next batch is as good

    def _read(self, heard: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, msgspec.MsgspecError):
            data = heard.recv(_DATAGRAM_MAX)
            if len(self._received) < _UNREAD_MAX:
                self._received.append(_decode(data))
