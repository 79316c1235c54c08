"""Clients of streams: some hang up at a given byte, the others read to the end and judge what they got.

Main entry: `read_stream`. Raw connections, so that a hang-up can be anywhere: in the head, in an event, between two.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

__all__ = ["Outcome", "read_stream"]

_WITHIN_S = 30.0


@dataclass(slots=True)
class Outcome:
    """What one client saw. `hung_up_s`: monotonic time at which it left by its own choice. `faults`: what a client must
    never see: an event that is broken off, a stream without an end, text after the end. `error`: of the in-band error
    event, or of the answer that came instead of a stream."""

    stream: int
    status: int = 0
    hung_up_s: float | None = None
    done: bool = False
    error: dict[str, Any] | None = None
    text: str = ""
    faults: list[str] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """Sends the request; hangs up after `hang_up_at` bytes (0: at once), by a reset or in order."""

    def __init__(self, request: bytes, hang_up_at: int | None, *, reset: bool) -> None:
        self._request = request
        self._hang_up_at = hang_up_at
        self._reset = reset
        self._transport: asyncio.Transport
        self.got = bytearray()
        self.hung_up_s: float | None = None
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)
        if self._hang_up_at == 0:
            asyncio.get_running_loop().call_later(0.002, self._hang_up)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self._hang_up_at is not None and len(self.got) >= self._hang_up_at:
            self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if not self.ended.done():
            self.ended.set_result(None)

    def _hang_up(self) -> None:
        if self.hung_up_s is None:
            self.hung_up_s = time.monotonic()
            (self._transport.abort if self._reset else self._transport.close)()


async def read_stream(
    port: int, stream: int, body: bytes, headers: Sequence[str] = (), *, hang_up_at: int | None, reset: bool
) -> Outcome:
    """One request on a connection of its own, up to its end or to where the client hangs up."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json",
        f"content-length: {len(body)}", "connection: close", *headers,
    ]  # fmt: skip
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    loop = asyncio.get_running_loop()
    outcome = Outcome(stream)
    transport, client = await loop.create_connection(
        lambda: _Client(request, hang_up_at, reset=reset), "127.0.0.1", port
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            await client.ended
    except TimeoutError:
        outcome.faults.append(f"no end within {_WITHIN_S:g} s")
        transport.abort()
    outcome.hung_up_s = client.hung_up_s
    if client.hung_up_s is None:
        _judge(outcome, bytes(client.got))
    return outcome


def _judge(outcome: Outcome, got: bytes) -> None:
    """Reads a whole reply."""
    head, _, rest = got.partition(b"\r\n\r\n")
    if not head:
        outcome.faults.append("no reply")
        return
    outcome.status = int(head.split(b" ", 2)[1])
    if outcome.status != 200:
        outcome.error = _decoded(rest).get("error") or {}
        return
    body, whole = _dechunked(rest)
    if not whole:
        outcome.faults.append("the HTTP message broke off")
    _judge_events(outcome, body.replace(b"\r\n", b"\n"))


def _judge_events(outcome: Outcome, body: bytes) -> None:
    *events, tail = body.split(b"\n\n")
    if tail:
        outcome.faults.append(f"half an event at the end: {tail[-60:]!r}")
    for event in events:
        if outcome.done:
            outcome.faults.append(f"an event after [DONE]: {event[:60]!r}")
        if event == b"data: [DONE]":
            outcome.done = True
            continue
        value = _decoded(event.removeprefix(b"data: "))
        if not value:
            outcome.faults.append(f"not an event: {event[:30]!r} .. {event[-60:]!r}")
        elif value.get("error"):
            outcome.error = value["error"]
        elif outcome.error is not None:
            outcome.faults.append("an event after the error")
        for choice in value.get("choices") or ():
            outcome.text += choice["delta"].get("content") or ""
    if not outcome.done:
        outcome.faults.append("no [DONE]")


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _dechunked(rest: bytes) -> tuple[bytes, bool]:
    """The body, and whether its last chunk came."""
    parts: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            return b"".join(parts), True
        try:
            length = int(size, 16)
        except ValueError:
            break
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts), False
