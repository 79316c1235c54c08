"""A reply whose body is still on its way.

The connection fills it (`parts`, `complete`, `error`) and wakes its one reader; the reader takes what has come and asks
the connection to go on. Nothing is copied or re-framed on the way, and there is no queue: a list and one future.
Laws: bytes that came before a failure are handed out before the failure is raised by `chunks`; a body that is not read
to its end takes its connection with it; a connection is free again as soon as the last byte came, read or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from apikeyrouter.domain.interfaces.transport import Headers, SendPhase, TransportError
from apikeyrouter.infrastructure.transport.decode import BodyDecoder, decoder_for
from apikeyrouter.infrastructure.transport.limits import TransportLimits

if TYPE_CHECKING:
    from apikeyrouter.infrastructure.transport.connection import Connection

__all__ = ["Reply"]


class Reply:
    """Implements `HttpReply`. Of its attributes, callers use `status` (0 until the head came) and `headers`; the rest
    belongs to the connection.

    `cap_bytes`: unread bytes beyond which the connection acts (stops reading, or gives up when `whole`).
    `whole`: the reader waits for the entire body. `length`: the announced Content-Length, if any.
    """

    __slots__ = (
        "buffered_bytes",
        "cap_bytes",
        "claimed",
        "complete",
        "connection",
        "decoder",
        "error",
        "headers",
        "length",
        "limits",
        "loop",
        "parts",
        "source",
        "status",
        "waiter",
        "whole",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, source: str, limits: TransportLimits
    ) -> None:
        self.loop = loop
        self.connection: Connection | None = connection
        self.source = source
        self.limits = limits
        self.status = 0
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.buffered_bytes = 0
        self.cap_bytes = limits.buffer_bytes
        self.length: int | None = None
        self.decoder: BodyDecoder | None = None
        self.complete = False
        self.claimed = False
        self.whole = False
        self.error: TransportError | None = None
        self.waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "failed" if self.error is not None else "complete" if self.complete else "open"
        return f"<Reply {self.status} from {self.source}, {state}, {self.buffered_bytes} bytes unread>"

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header (name in lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self) -> bytes:
        """The whole body. Raises TransportError; a body beyond `body_bytes` is "too_large"."""
        self._claim()
        limit_bytes = self.limits.body_bytes
        if not self.complete:
            if self.length is not None and self.length > limit_bytes:
                self._give_up(self._too_large())
            if self.error is None:
                self.whole = True
                self.cap_bytes = limit_bytes
                if self.connection is not None:
                    self.connection.resume(self)
                while not self.complete and self.error is None:
                    await self._more()
            if self.error is not None:
                self.parts.clear()
                raise self.error
        if self.buffered_bytes > limit_bytes:
            self._give_up(self._too_large())
            raise self._too_large()
        parts = self.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.buffered_bytes = 0
        if self.decoder is not None:
            body = b"".join(self.decoder.feed(body)) if body else body
            self.decoder.finish()
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never empty chunks. Raises TransportError when it breaks off."""
        self._claim()
        parts = self.parts
        decoder = self.decoder
        try:
            while True:
                if parts:
                    data = parts[0] if len(parts) == 1 else b"".join(parts)
                    parts.clear()
                    self.buffered_bytes = 0
                    connection = self.connection
                    if connection is not None and connection.paused:
                        connection.resume(self)
                    if decoder is None:
                        yield data
                    else:
                        for piece in decoder.feed(data):
                            yield piece
                elif self.complete:
                    break
                elif self.error is not None:
                    raise self.error
                else:
                    await self._more()
            if decoder is not None:
                decoder.finish()
        finally:
            if not self.complete:
                self.aclose()

    def aclose(self) -> None:
        """Ends interest in this reply. Idempotent; never blocks."""
        if self.error is None:
            self._give_up(
                TransportError("closed", SendPhase.MidReply, f"The reply of {self.source} was closed on this side.")
            )

    def wake(self) -> None:
        """Lets the reader look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: TransportError) -> None:
        """The connection is done with this reply and it did not end well."""
        self.connection = None
        self.error = error
        self.wake()

    def decode(self, coding: bytes) -> None:
        """Undoes a content coding that we know; the two headers that described the packed body go with it."""
        self.decoder = decoder_for(coding, self.limits.decoded_bytes, self.source)
        if self.decoder is not None:
            gone = (b"content-encoding", b"content-length")
            self.headers = [header for header in self.headers if header[0] not in gone]

    def _claim(self) -> None:
        if self.claimed:
            raise RuntimeError("The body of this reply has been taken already: use read() or chunks(), once.")
        self.claimed = True
        if self.error is not None and not self.parts:
            raise self.error

    async def _more(self) -> None:
        waiter = self.waiter = self.loop.create_future()
        try:
            await waiter
        except BaseException:
            self.aclose()
            raise

    def _give_up(self, error: TransportError) -> None:
        self.parts.clear()
        self.buffered_bytes = 0
        connection = self.connection
        self.fail(error)
        if connection is not None:
            connection.abandon(self)

    def _too_large(self) -> TransportError:
        return TransportError(
            "too_large",
            SendPhase.MidReply,
            f"The reply of {self.source} is longer than the {self.limits.body_bytes} bytes that are allowed.",
        )
