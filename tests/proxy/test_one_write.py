"""Replies whose head and body leave in one write, and those that go uvicorn's own way: clients read the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from apikeyrouter_proxy.one_write import OneWriteProtocol, begin, forgo

_GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
_HEADERS = [(b"content-type", b"text/plain"), (b"x-akr-key", b"caf\xe9\twith a tab")]


class Wire(asyncio.Transport):
    """Where a server writes to: keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        """Everything is here already."""

    def resume_reading(self) -> None:
        """As above."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 80) if name in ("peername", "sockname") else default

    @property
    def text(self) -> bytes:
        return b"".join(self.writes)


class App:
    """Answers with its chunks: whole where there is one, else as a stream. `taken`: what `begin` said each time."""

    def __init__(self, *chunks: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.chunks, self.status = chunks, status
        self.headers = _HEADERS if headers is None else headers
        self.taken: list[bool] = []
        self.before: Callable[[Any], None] = lambda _: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        whole = len(self.chunks) == 1
        self.before(scope)
        self.taken.append(begin(scope, self.status, self.headers, self.chunks[0], whole=whole))
        if not self.taken[-1]:
            length = [(b"content-length", b"%d" % len(self.chunks[0]))] if whole else []
            await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, *length]})
            await send({"type": "http.response.body", "body": self.chunks[0], "more_body": not whole})
        if not whole:
            for chunk in self.chunks[1:]:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def served(app: App, request: bytes, protocol: type[HttpToolsProtocol] = OneWriteProtocol) -> Wire:
    """What a client gets for these bytes."""
    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, lifespan="off")
    state = ServerState()
    state.default_headers = [(b"date", b"Sat, 21 Nov 2026 00:00:00 GMT")]
    connection, wire = protocol(config, state, {}), Wire()
    connection.connection_made(wire)
    connection.data_received(request)
    while state.tasks:
        await asyncio.gather(*state.tasks)
    connection.connection_lost(None)
    return wire


@pytest.mark.parametrize("status", [200, 404, 529], ids=str)
@pytest.mark.parametrize("chunks", [(b"hello",), (b"",), (b"one", b"two" * 9), (b"", b"late")], ids=str)
async def test_a_reply_reads_the_same_as_uvicorns_own_in_fewer_writes(chunks: tuple[bytes, ...], status: int) -> None:
    ours, theirs = App(*chunks, status=status), App(*chunks, status=status)
    mine, usual = await served(ours, _GET), await served(theirs, _GET, HttpToolsProtocol)
    assert mine.text == usual.text
    assert b"date: Sat, 21 Nov 2026 00:00:00 GMT\r\n" in mine.text
    assert (ours.taken, theirs.taken) == ([status != 529], [False])
    if status != 529 and len(chunks) == 1:
        assert len(mine.writes) == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HEAD / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
    ],
    ids=["HEAD", "HTTP/1.0", "close"],
)
async def test_whatever_is_not_the_plain_case_goes_uvicorns_way(request_bytes: bytes) -> None:
    app = App(b"hello")
    mine = await served(app, request_bytes)
    usual = await served(App(b"hello"), request_bytes, HttpToolsProtocol)
    assert app.taken == [False]
    assert (mine.text, mine.closing) == (usual.text, usual.closing)


async def test_pipelined_requests_are_answered_in_order_each_with_its_own_reply() -> None:
    app = App(b"hello")
    wire = await served(app, _GET + b"HEAD / HTTP/1.1\r\nhost: a.test\r\n\r\n" + _GET)
    usual = await served(App(b"hello"), _GET + b"HEAD / HTTP/1.1\r\nhost: a.test\r\n\r\n" + _GET, HttpToolsProtocol)
    assert wire.text == usual.text
    assert wire.text.count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"a\x7fb", b"a\x01b"], ids=repr)
async def test_no_header_with_a_control_character_gets_out(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    app = App(b"hello", headers=[(b"x-akr-key", value)])
    wire = await served(app, _GET)
    assert app.taken == [False]
    assert (wire.text, wire.closing) == (b"", True)
    assert "Invalid HTTP header value" in caplog.text


async def test_what_wants_to_see_messages_gets_them() -> None:
    app = App(b"hello")
    app.before = forgo
    assert (await served(app, _GET)).text.endswith(b"\r\n\r\nhello")
    assert app.taken == [False]


async def test_a_reply_to_a_client_that_is_gone_is_not_written() -> None:
    app = App(b"hello")
    gone: list[OneWriteProtocol] = []

    class Leaving(OneWriteProtocol):
        def on_message_begin(self) -> None:
            super().on_message_begin()
            gone.append(self)

    app.before = lambda _: gone[0].connection_lost(None)
    wire = await served(app, _GET, Leaving)
    assert app.taken == [False]
    assert wire.writes == []


@pytest.mark.parametrize("next_one", [_GET, b"no HTTP\r\n\r\n"], ids=["hangs up", "sends no HTTP"])
async def test_the_request_that_is_worked_on_hears_that_its_client_is_gone_though_another_one_waits(
    next_one: bytes,
) -> None:
    heard: list[str] = []
    begun = asyncio.Event()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        begun.set()
        heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, lifespan="off")
    state = ServerState()
    connection, wire = OneWriteProtocol(config, state, {}), Wire()
    connection.connection_made(wire)
    connection.data_received(_GET)
    await begun.wait()
    connection.data_received(next_one)
    connection.connection_lost(None)
    async with asyncio.timeout(5):
        await asyncio.gather(*state.tasks)
    assert heard == ["http.disconnect"]
    assert wire.text.count(b"HTTP/1.1 200") == 0


_BODY = b"GET /other HTTP/1.1\r\n\r\n"
"""What would be a request of its own, if it were not the body of another one."""


class Reader:
    """Reads requests and tells each with its body."""

    def __init__(self) -> None:
        self.read: list[tuple[str, str, bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        told = b"|".join(b"%b=%b" % one for one in scope["headers"] if one[0] in (b"connection", b"upgrade"))
        self.read.append((scope["method"], scope["path"], body, told))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})


@pytest.mark.parametrize("pieces", [1, 3, 1000], ids=["at once", "in pieces", "byte by byte"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_a_body_is_read_though_its_request_offers_an_upgrade(pieces: int, chunked: bool) -> None:
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(_BODY)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY) if chunked else _BODY
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk"
    sent = b"POST /a?b=c HTTP/1.1\r\nhost: a.test\r\n%b\r\n%b\r\n\r\n%b" % (offer, length, body) + _GET
    app = Reader()
    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, lifespan="off")
    state = ServerState()
    connection, wire = OneWriteProtocol(config, state, {}), Wire()
    connection.connection_made(wire)
    size = max(1, len(sent) // pieces)
    for at in range(0, len(sent), size):
        connection.data_received(sent[at : at + size])
    async with asyncio.timeout(5):
        while state.tasks:
            await asyncio.gather(*state.tasks)
    connection.connection_lost(None)
    assert app.read == [("POST", "/a", _BODY, b""), ("GET", "/", b"", b"")]
    assert wire.text.count(b"HTTP/1.1 200 OK\r\n") == 2
