"""One connection: bytes in, one reply at a time.

`start` writes a request and returns its `Reply`; llhttp (through httptools) parses what comes back and fills it.
Laws: a connection goes back to its pool only after a reply that ended where its framing said, with nothing after it,
and a request that was written in full; anything else closes it. Nothing that a peer sends is ever kept for the next
request. The clock is read once per piece of data.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

import httptools

from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest, SendPhase, Timeouts, TransportError
from apikeyrouter.infrastructure.transport.limits import TransportLimits
from apikeyrouter.infrastructure.transport.reply import Reply
from apikeyrouter.infrastructure.transport.watch import NEVER_S, Watch

if TYPE_CHECKING:
    from apikeyrouter.infrastructure.transport.pool import OriginPool

__all__ = ["Connection"]

# The kernel's own probes find a peer that vanished while a model thinks for minutes (NATs forget after 60 s and more).
PROBE_AFTER_S = 45


class Connection(asyncio.Protocol):
    """An open connection. `closed`: it can carry nothing more. `served`: replies that it has delivered in full.
    `paused`: its socket is not read, because the reader is slow. `opened_s`: monotonic seconds."""

    __slots__ = (
        "_fault",
        "_head_done",
        "_headers",
        "_keep_alive",
        "_limits",
        "_loop",
        "_message_done",
        "_now_s",
        "_parser",
        "_pool",
        "_quiet_bytes",
        "_reply",
        "_tainted",
        "_timeouts",
        "_transport",
        "_until_eof",
        "_watch",
        "_without_body",
        "closed",
        "opened_s",
        "paused",
        "pooled",
        "served",
    )

    def __init__(self, pool: OriginPool, loop: asyncio.AbstractEventLoop, now_s: Callable[[], float]) -> None:
        self._pool = pool
        self._loop = loop
        self._now_s = now_s
        self._limits: TransportLimits = pool.limits
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport = _NO_TRANSPORT
        self._reply: Reply | None = None
        self._headers: Headers = []
        self._fault: tuple[str, str] | None = None
        self._quiet_bytes = 0
        self._head_done = self._message_done = self._keep_alive = False
        self._tainted = self._until_eof = self._without_body = False
        self._timeouts = Timeouts()
        self._watch = Watch(loop, now_s, self._late)
        self.opened_s = now_s()
        self.closed = False
        self.paused = False
        self.pooled = False
        self.served = 0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._reply is None else "busy"
        return f"<Connection to {self._pool.origin.address}, {state}, {self.served} served>"

    # The request

    def start(self, request: HttpRequest, payload: bytes, *, without_body: bool, now_s: float) -> Reply:
        """Writes `payload`. `without_body`: the reply to it has none (HEAD). The reply's `waiter` is set when the
        head came or the request failed."""
        reply = self._reply = Reply(self._loop, self, self._pool.origin.address, self._limits)
        reply.waiter = self._loop.create_future()
        self._head_done = self._message_done = self._until_eof = False
        self._quiet_bytes = 0
        self._without_body = without_body
        timeouts = self._timeouts = request.timeouts
        first_byte_s = timeouts.first_byte_s
        watch = self._watch
        watch.due_s = NEVER_S if first_byte_s is None else now_s + first_byte_s
        watch.deadline_s = NEVER_S if request.deadline_s is None else request.deadline_s
        watch.arm(now_s)
        self._transport.write(payload)
        return reply

    def resume(self, reply: Reply) -> None:
        """The reader of `reply` has room again."""
        if self.paused and self._reply is reply and not self.closed:
            self.paused = False
            self._transport.resume_reading()
            self._await_more(self._now_s())

    def abandon(self, reply: Reply) -> None:
        """Nobody wants the rest of `reply`: the connection closes at once, which tells the peer to stop."""
        if self._reply is reply:
            self._reply = None
            self.drop()

    def drop(self) -> None:
        """Closes without waiting for anybody. Idempotent."""
        if not self.closed:
            self.closed = True
            self._pool.idle.pop(self, None)
            self._transport.abort()

    def shut(self) -> None:
        """The transport is being closed: a running reply breaks off."""
        if self._reply is not None:
            self._fail("closed", "The transport was closed while {} was answering.")
        self.drop()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        _tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # bytes that nobody asked for: a later request must not take them for its answer
            self.drop()
            return
        now_s = self._now_s()
        had_head = self._head_done
        self._quiet_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._message_done:
                self._reject(error)
                return
            self._tainted = True
        if self._message_done:
            self._finish(reply, now_s)
            return
        if self._quiet_bytes > self._limits.head_bytes:
            self._fail("too_large", f"{{}} sent more than {self._limits.head_bytes} bytes of headers or framing.")
            return
        if not self._head_done:
            return
        if not had_head:
            self._await_more(now_s)
        elif not self.paused:
            idle_s = self._timeouts.idle_s
            if idle_s is not None:
                self._watch.due_s = now_s + idle_s
        if reply.buffered_bytes > reply.cap_bytes:
            self._over_cap(reply)
        if not reply.whole:
            reply.wake()

    def eof_received(self) -> bool:
        # The loop closes the connection and calls connection_lost next; until then nobody may pick it.
        self.closed = True
        self._pool.idle.pop(self, None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._watch.stop()
        reply = self._reply
        if reply is not None:
            if exc is None and self._head_done and self._until_eof:
                self._complete(reply)
            elif self._head_done or self._quiet_bytes:
                self._fail("reset", "{} closed the connection in the middle of its reply.")
            else:
                self._fail(
                    "reset",
                    "{} closed the connection without an answer; whether it processed the request is unknown.",
                )
        self._pool.lost(self)

    # Parser callbacks

    def on_message_begin(self) -> None:
        if self._message_done:
            self._tainted = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        headers = self._headers
        self._headers = []
        reply = self._reply
        if self._message_done or reply is None:
            self._tainted = True
            return
        status = self._parser.get_status_code()
        limits = self._limits
        if len(headers) > limits.header_count:
            self._refuse("too_large", f"{{}} sent more than {limits.header_count} headers.")
        if self._quiet_bytes > limits.head_bytes and _size_bytes(headers) > limits.head_bytes:
            self._refuse("too_large", f"{{}} sent more than {limits.head_bytes} bytes of headers.")
        if status < 200:
            if status < 100 or status == 101:
                self._refuse("protocol", f"{{}} answered with status {status}, which nothing asked for.")
            return
        reply.headers = headers
        self._head_done = True
        self._keep_alive = True
        coding = None
        framed = False
        for name, value in headers:
            if name == b"content-length":
                reply.length = int(value)
                framed = True
            elif name == b"transfer-encoding":
                self._check_transfer_encoding(value, repeated=framed)
                framed = True
            elif name == b"content-encoding":
                coding = value if coding is None else b"several"
        if self._without_body or status in (204, 304):
            reply.length = None
        else:
            self._until_eof = not framed
            if coding is not None:
                reply.decode(coding)
        reply.status = status
        if self._without_body:
            self._message_done = True
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        reply = self._reply
        if self._message_done or reply is None:
            self._tainted = True
            return
        self._quiet_bytes = 0
        reply.parts.append(data)
        reply.buffered_bytes += len(data)

    def on_message_complete(self) -> None:
        self._headers = []  # trailers go, and so does what an interim reply said
        if self._head_done and not self._message_done:
            self._message_done = True
            self._keep_alive = self._keep_alive and self._parser.should_keep_alive()

    # Inside

    def _check_transfer_encoding(self, value: bytes, *, repeated: bool) -> None:
        """Only "chunked", once: any other value leaves room for two readings of where the body ends."""
        if repeated or value.lower() != b"chunked":
            self._refuse("protocol", "{} framed its reply in a way that is not allowed (Transfer-Encoding).")
        if self._parser.get_http_version() == "1.0":
            self._keep_alive = False  # RFC 9112 section 6.1

    def _refuse(self, kind: str, message: str) -> NoReturn:
        self._fault = (kind, message)
        raise _Refused

    def _reject(self, error: Exception) -> None:
        kind, message = self._fault or ("protocol", f"{{}} did not answer in valid HTTP/1.1: {error}.")
        self._fail(kind, message)

    def _over_cap(self, reply: Reply) -> None:
        if reply.whole:
            self._fail("too_large", f"{{}} sent a reply longer than the {reply.cap_bytes} bytes that are allowed.")
        elif not self.paused:
            self.paused = True
            self._watch.due_s = NEVER_S  # a slow reader is not the peer's silence
            self._transport.pause_reading()

    def _finish(self, reply: Reply, now_s: float) -> None:
        reusable = (
            self._keep_alive
            and not self._tainted
            and not self.closed
            and self._transport.get_write_buffer_size() == 0
            and now_s - self.opened_s < self._limits.connection_age_s
        )
        self._complete(reply)
        if not reusable:
            self.drop()
            return
        self.served += 1
        if self._without_body:  # the parser cannot be told that no body follows, so it waits for one
            self._parser = httptools.HttpResponseParser(self)
        self._pool.release(self, now_s)

    def _complete(self, reply: Reply) -> None:
        self._reply = None
        reply.connection = None
        reply.complete = True
        reply.wake()

    def _fail(self, kind: str, message: str) -> None:
        """Ends the running reply; `{}` in `message` stands for host:port."""
        reply = self._reply
        if reply is not None:
            self._reply = None
            phase = SendPhase.MidReply if self._head_done or self._quiet_bytes else SendPhase.Unanswered
            text = message.replace("{}", self._pool.origin.address)
            reply.fail(TransportError(kind, phase, text, reused=self.served > 0))
        self.drop()

    def _await_more(self, now_s: float) -> None:
        idle_s = self._timeouts.idle_s
        self._watch.due_s = NEVER_S if idle_s is None else now_s + idle_s
        self._watch.arm(now_s)

    def _late(self, by_deadline: bool) -> None:
        if self._reply is None:
            return
        if by_deadline:
            self._fail("deadline", "The deadline of the request passed before {} had answered in full.")
        elif self._head_done:
            self._fail("idle_timeout", f"{{}} sent nothing more of its reply for {self._timeouts.idle_s:g} s.")
        else:
            self._fail("first_byte_timeout", f"{{}} did not answer within {self._timeouts.first_byte_s:g} s.")


class _Refused(Exception):
    """Stops the parser; the reason is in `_fault`."""


def _tune(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may be gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)


def _size_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


_NO_TRANSPORT = asyncio.Transport()
