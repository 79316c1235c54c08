"""HTTP towards providers, as the domain sees it.

A transport sends exactly one request and hands back exactly one reply; it never retries, never follows redirects and
never decodes JSON. What may be tried again is the pipeline's decision, so a failure must say whether bytes left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["HttpReply", "HttpRequest", "SendPhase", "Timeouts", "Transport", "TransportError"]

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds per phase; None means no limit for that phase.

    `connect_s`: DNS, TCP and TLS together. `first_byte_s`: from request sent to status line. `idle_s`: between two
    reads of the body. The deadline of the whole call comes with each request.
    """

    connect_s: float | None = 5.0
    first_byte_s: float | None = 300.0
    idle_s: float | None = 120.0


_USUAL = Timeouts()


@dataclass(slots=True)
class HttpRequest:
    """One request. `url` is absolute, http or https. `headers` exclude Host, Content-Length and hop-by-hop fields: the
    transport adds those. `deadline_s`: monotonic time after which the call is pointless; None: no deadline.
    `dropped`: what the caller asked for and the provider's format cannot say, by name.
    It holds a credential, so it has no repr."""

    method: str
    url: str
    headers: Headers
    body: bytes = b""
    deadline_s: float | None = None
    timeouts: Timeouts = _USUAL
    dropped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {len(self.body)} bytes>"


class SendPhase(StrEnum):
    """How far a failed request got: decides what it may have cost.

    NotSent: no byte of it left (DNS, refused, TLS, pool full): free to try elsewhere. Unanswered: sent, or partly sent,
    and no byte came back: outcome unknown, it may be billed. MidReply: the reply broke off: billed.
    """

    NotSent = "not_sent"
    Unanswered = "unanswered"
    MidReply = "mid_reply"


class TransportError(Exception):
    """A request or its reply failed below HTTP.

    `kind`: "dns", "refused", "connect", "tls", "connect_timeout", "first_byte_timeout", "idle_timeout", "deadline",
    "reset", "protocol", "too_large"; "pool": no connection became free in time; "request": the request cannot be
    written as HTTP (a malformed URL, a line break in a header); "closed": this side ended it (`aclose`). Messages
    never hold header values.
    `reused`: the connection had served earlier requests. With phase Unanswered and kind "reset", the peer most likely
    closed it as idle before it saw this request.
    """

    def __init__(self, kind: str, phase: SendPhase, message: str, *, reused: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.phase = phase
        self.message = message
        self.reused = reused


class HttpReply(Protocol):
    """A status line with headers, and a body still on its way.

    Laws: exactly one of `read` and `chunks` is used, once. `aclose` may be called at any time, any number of times;
    when the body was not read to its end it drops the connection, which tells the provider to stop. Header names are
    lower case. Bodies with a content-encoding of gzip or deflate are decoded, within limits.
    """

    status: int
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header (name in lower case), or None."""
        ...

    async def read(self) -> bytes:
        """The whole body. Raises TransportError."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never empty chunks. Raises TransportError when it breaks off."""
        ...

    def aclose(self) -> None:
        """Ends interest in this reply. Idempotent; never blocks."""
        ...


class Transport(Protocol):
    """A pool of connections.

    Laws: thread of one event loop only. Connections are kept alive and reused, newest first; one that turns out closed
    before any byte of the reply came, on a reused connection, is replaced by a fresh one at most once and only when the
    request cannot have been processed (closed before we wrote). Cancelling `send` leaves no connection half used.
    """

    async def send(self, request: HttpRequest) -> HttpReply:
        """Sends and waits for the status line and headers. Raises TransportError."""
        ...

    async def aclose(self) -> None:
        """Closes all connections; running replies break off."""
        ...
