"""A server on loopback that does exactly what a test tells it, however wrong.

Entry: `hostile(script)`: for each connection, `script(peer)` runs and talks raw bytes. A script that raises fails the
test, unless the connection merely went away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Peer", "Served", "answer", "hostile", "swallowing_address"]


class Peer:
    """The server's side of one connection. `number`: 1 for the first connection that the server took."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, seen: list[bytes]
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self._seen = seen

    async def request(self) -> bytes:
        """The next request, head and body. Raises IncompleteReadError when the client closes instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        whole = head + (await self.reader.readexactly(length) if length else b"")
        self._seen.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        """One byte at a time, each with a turn of the loop for the client to read it."""
        for offset in range(len(data)):
            self.writer.write(data[offset : offset + 1])
            for _ in range(3):
                await asyncio.sleep(0)

    async def gone(self) -> bytes:
        """Waits until the client closes; returns what it still sent."""
        return await self.reader.read()

    def reset(self) -> None:
        """Closes with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Served:
    """`seen`: every request as raw bytes. `peers`: every connection."""

    port: int
    scheme: str
    seen: list[bytes] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def hostile(
    script: Callable[[Peer], Awaitable[None]], *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Served]:
    """Serves until the block ends; each connection is closed when its script returns."""
    served = Served(port=0, scheme="http" if tls is None else "https")
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        peer = Peer(reader, writer, len(served.peers) + 1, served.seen)
        served.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            pass
        except Exception as fault:  # noqa: BLE001  # reported when the block ends
            served.faults.append(fault)
        finally:
            running.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for _ in range(5):  # a connection that was just taken still becomes a task, and then ends like the others
            await asyncio.sleep(0)
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
    if served.faults:
        raise served.faults[0]


def answer(*replies: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A script that answers each request with the next of `replies`, the last one for ever, and does not close."""

    async def script(peer: Peer) -> None:
        turn = 0
        while True:
            await peer.request()
            await peer.send(replies[min(turn, len(replies) - 1)])
            turn += 1

    return script


@contextlib.contextmanager
def swallowing_address(host: str) -> Iterator[int]:
    """A port of `host` on which connecting hangs: its queue of unaccepted connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
