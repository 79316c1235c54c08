"""A relay between a client and a server that can cut the way back: requests arrive, their answers do not.

Main entry: `relay`. Law: bytes are passed on unchanged and in order until it is told otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Relay", "relay"]


class Relay:
    """Listens on `port`. `deaf`: from now on answers are swallowed, and after the next request that the server has
    answered the connection is cut. `swallowed`: how many answers were."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.deaf = False
        self.swallowed = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            there = asyncio.ensure_future(self._pass_on(reader, to_server, swallows=False))
            back = asyncio.ensure_future(self._pass_on(from_server, writer, swallows=True))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (there, back):
                    one.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
                to_server.close()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, swallows: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if swallows and self.deaf:
                    self.swallowed += 1
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def relay(target_port: int) -> AsyncIterator[Relay]:
    """A running relay to a port of this machine."""
    running = Relay(target_port)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
