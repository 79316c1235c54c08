"""Client connections as cheap as the mock, for the open-loop and the streaming load: raw `asyncio.Protocol`, callbacks,
no futures.

Entry: `Connection` (one plain reply at a time), `StreamConnection` (one stream at a time), `request_bytes()`,
`connect()`.
Laws: a reply counts as good only with status 200 and its whole body; the clock is read when bytes arrive, not when a
task wakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import httptools

C = TypeVar("C", bound=asyncio.Protocol)


@dataclass(slots=True)
class Reply:
    """What came back, times as `time.perf_counter()` seconds; `first_event_s`: the first SSE event's bytes arrived."""

    status: int = 0
    ended_s: float = 0.0
    first_event_s: float = 0.0
    events: int = 0
    complete: bool = False
    terminated: bool = False


def request_bytes(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The whole POST as it goes on the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: 127.0.0.1:{port}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One keep-alive connection; `on_done` is called with every finished (or lost) reply."""

    __slots__ = ("_on_done", "_parser", "_transport", "reply", "usable")

    def __init__(self, on_done: Callable[[Connection, Reply], None]) -> None:
        self._on_done = on_done
        self._transport: asyncio.Transport
        self.reply: Reply | None = None
        self.usable = False
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.usable = False
        self._finish(complete=False)

    def close(self) -> None:
        self.reply = None
        self._transport.close()

    def send(self, request: bytes) -> None:
        """Sends one request; the connection must be idle and usable."""
        self.reply = Reply()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.usable = False
        self._finish(complete=True)

    def _finish(self, *, complete: bool) -> None:
        reply, self.reply = self.reply, None
        if reply is None:
            return
        reply.ended_s = time.perf_counter()
        reply.complete = complete
        reply.status = self._parser.get_status_code() if complete else 0
        self._on_done(self, reply)


class StreamConnection(asyncio.Protocol):
    """One keep-alive connection that counts SSE events in the raw bytes, far cheaper than parsing each HTTP chunk.

    A gateway may cut an event with a chunk boundary of its own, so a count that differs from `expected_events` is taken
    again by parsing. The stream ends with its `[DONE]` and the chunk of length 0, or (`usable` is then False) with the
    connection.
    """

    __slots__ = ("_expected_events", "_on_done", "_pieces", "_tail", "_transport", "reply", "usable")

    def __init__(self, on_done: Callable[[StreamConnection, Reply], None], expected_events: int) -> None:
        self._on_done = on_done
        self._expected_events = expected_events
        self._pieces: list[bytes] = []
        self._tail = b""
        self._transport: asyncio.Transport
        self.reply: Reply | None = None
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.usable = False
        self._finish()

    def send(self, request: bytes) -> None:
        """Sends one request; the connection must be idle and usable."""
        self.reply = Reply()
        self._tail = b""
        self._pieces = []
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        reply = self.reply
        if reply is None:
            return
        # An event may be cut anywhere, so the last bytes are looked at again with the next ones (6 = len("data: ")).
        seen = self._tail + data
        self._pieces.append(data)
        if not reply.status and len(seen) >= 12:
            reply.status = int(seen[9:12])
        found = seen.count(b"data: ")
        if found:
            if not reply.events:
                reply.first_event_s = time.perf_counter()
            reply.events += found
        self._tail = seen[-5:] if reply.status else seen
        if not reply.terminated:
            reply.terminated = b"[DONE]" in seen
        if seen.endswith(b"0\r\n\r\n") and (reply.terminated or reply.status != 200):
            self._finish()
        elif reply.status and reply.status != 200:
            # An error reply has a length, not chunks; the connection is given up instead of parsing it.
            self.usable = False
            self._transport.close()

    def _finish(self) -> None:
        reply, self.reply = self.reply, None
        if reply is None:
            return
        reply.ended_s = time.perf_counter()
        reply.complete = reply.terminated
        if reply.complete and reply.events != self._expected_events:
            reply.events = _parsed_body(b"".join(self._pieces)).count(b"data: ")
        self._on_done(self, reply)


class _Body:
    """Collects a reply's body from its chunks."""

    def __init__(self) -> None:
        self.content = b""

    def on_body(self, body: bytes) -> None:
        self.content += body


def _parsed_body(raw: bytes) -> bytes:
    body = _Body()
    httptools.HttpResponseParser(body).feed_data(raw)
    return body.content


async def connect(port: int, protocol: Callable[[], C]) -> C:
    """Opens one connection to loopback; uvloop sets TCP_NODELAY by itself."""
    _, connection = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", port)
    return connection


def percentile(values: list[float], fraction: float) -> float:
    """The nearest-rank percentile (`fraction` in 0..1); nan for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]
