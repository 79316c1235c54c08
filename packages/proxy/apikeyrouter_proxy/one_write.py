"""A reply's head and its first bytes in one write: uvicorn's HTTP protocol, with one more way to answer.

ASGI hands a head and a body over one after the other, and uvicorn writes each at once: two system calls and two
packets, of which every client wakes twice. `OneWriteProtocol` (for `uvicorn.Config(http=...)`) offers itself in each
request's scope, as the ASGI extension `apikeyrouter.one_write`; `begin` uses it where it is there.
It also reads the body of a request that offers to upgrade the connection, as Java's client does with each first one
(`Upgrade: h2c`): the offer is declined by ignoring it (RFC 9110, section 7.8). uvicorn's parser takes such a request
for one without a body, and its body for the next request. And a client of HTTP/1.0 gets a stream as it comes, up to the
end of the connection: it knows no chunks (RFC 9112, section 7.1), which uvicorn sends it.
Laws: whatever is not the plain case (a client that is gone or slow, a pipelined request, HEAD, a connection that is to
close, a header that cannot be sent) is left to uvicorn and to ordinary ASGI messages; what a client reads is the same
either way.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

__all__ = ["OneWriteProtocol", "begin", "forgo"]

Headers = Iterable[tuple[bytes, bytes]]

_EXTENSION = "apikeyrouter.one_write"
_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus if one >= 200}
_BODILESS = (204, 304)
_OFFERS = (b"upgrade", b"http2-settings")
_CONNECTIONS = (b"close", b"keep-alive")
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
"""What no header may hold (RFC 9110, section 5.5), and, twice in each line, CR LF."""


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose requests can also be answered by `begin`."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._extensions: dict[str, dict[object, object]] = {_EXTENSION: {"begin": self.begin}}
        self._running: RequestResponseCycle | None = None
        self._declines = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nothing more is offered, and nothing holds this object in a circle. uvicorn tells it to
        the newest request only, which among pipelined ones is not the one that is worked on."""
        self._extensions.clear()
        self._tell_running()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What followed a request is no HTTP: the connection ends here, for the request before it too."""
        self._tell_running()
        super().send_400_response(msg)

    def _tell_running(self) -> None:
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app if cycle.scope["http_version"] != "1.0" else _unchunked(cycle, app))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        """A head was read. One that offers an upgrade is read again without the offer."""
        parser = self.parser
        self._declines = parser.should_upgrade() and parser.get_method() != b"CONNECT" and not self._should_upgrade()
        if not self._declines:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request was read."""
        if not self._declines:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                told = "Invalid HTTP request received."
                self.logger.warning(told)
                self.send_400_response(told)
            except httptools.HttpParserUpgrade as upgrade:
                if self._declines:
                    data = self._declined() + data[upgrade.args[0] :]
                    continue
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                else:  # CONNECT
                    self._unsupported_upgrade_warning()
            return

    def _declined(self) -> bytes:
        """The head of the request without its offer, for a new parser."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            kept = value
            if name == b"connection":
                kept = b", ".join([one for one in map(bytes.strip, value.split(b",")) if one.lower() in _CONNECTIONS])
            if kept and name not in _OFFERS:
                lines.append(b"%b: %b" % (name, kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return b"%b\r\n\r\n" % b"\r\n".join(lines)

    def begin(self, scope: object, status: int, headers: Headers, body: bytes, *, whole: bool) -> bool:
        """See the function `begin`."""
        cycle = self.cycle
        plain = (
            cycle is not None
            and cycle.scope is scope
            and not cycle.response_started
            and not cycle.disconnected
            and cycle.keep_alive
            and not cycle.access_log
            and not self.flow.write_paused
            and status in _STATUS_LINES
            and status not in _BODILESS
            and cycle.scope["method"] != "HEAD"
        )
        if not plain:
            return False
        lines = [_STATUS_LINES[status]]
        for name, value in cycle.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"content-length: %d\r\n\r\n" % len(body) if whole else b"transfer-encoding: chunked\r\n\r\n")
        head = b"".join(lines)
        # Each line ends once, the head once more; any other control character came inside a value.
        ends = 1 + (len(lines) - 2) // 4 + 2
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * ends:
            return False
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.chunked_encoding = not whole
        if not whole:
            self.transport.write(b"%b%x\r\n%b\r\n" % (head, len(body), body) if body else head)
            return True
        self.transport.write(head + body)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True


def _unchunked(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """The application for a client of HTTP/1.0: a reply without a length ends with the connection. uvicorn keeps none
    of them open (`RequestResponseCycle.keep_alive`). Nor is it asked for its body, whatever it expects (RFC 9110,
    section 10.1.1): it would take "100 Continue" for the reply."""
    cycle.waiting_for_100_continue = False

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        open_ended = False

        async def sending(message: Any) -> None:
            nonlocal open_ended
            if message["type"] == "http.response.start":
                open_ended = not any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if open_ended:
                    cycle.chunked_encoding = False
            elif open_ended:
                cycle.expected_content_length = len(message.get("body", b""))  # what uvicorn has yet to see
            await send(message)

        await app(scope, receive, sending)

    return serve


def begin(scope: MutableMapping[str, Any], status: int, headers: Headers, body: bytes, *, whole: bool) -> bool:
    """Sends the head and the first bytes of a reply in one write; `whole`: they are all, and the reply ends.

    `headers`: without content-length and transfer-encoding, which are added. False when nothing was sent and the reply
    has to go as ordinary messages. After True with `whole=False`, the rest goes as ordinary messages.
    """
    extensions = scope.get("extensions")
    offered = extensions.get(_EXTENSION) if extensions else None
    return offered is not None and offered["begin"](scope, status, headers, body, whole=whole)


def forgo(scope: MutableMapping[str, Any]) -> None:
    """Replies to this request go as ordinary messages: something between wants to see them."""
    extensions = scope.get("extensions")
    if extensions and _EXTENSION in extensions:
        scope["extensions"] = {name: one for name, one in extensions.items() if name != _EXTENSION}
