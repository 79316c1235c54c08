"""What leaves: the exact bytes of a request, and what is refused before a byte of it."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, TransportError
from apikeyrouter.infrastructure.transport import HttpTransport
from apikeyrouter.infrastructure.transport.wire import RequestWriter
from tests.support.hostile_server import answer, hostile

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_the_bytes_of_a_request_are_exactly_these() -> None:
    async with hostile(answer(EMPTY)) as served, HttpTransport() as transport:
        headers = [(b"Authorization", b"Bearer x"), (b"content-type", b"application/json")]
        await transport.send(HttpRequest("POST", served.url("/v1/chat?a=b#c"), headers, b'{"a":1}'))
        await transport.send(HttpRequest("POST", served.url("/v1/chat?a=b#c"), [], b""))
        await transport.send(HttpRequest("GET", served.url(""), [(b"Accept-Encoding", b"gzip")]))
        host = b"127.0.0.1:%d" % served.port
        assert served.seen == [
            b"POST /v1/chat?a=b HTTP/1.1\r\nHost: " + host + b"\r\nAuthorization: Bearer x\r\n"
            b"content-type: application/json\r\ncontent-length: 7\r\naccept-encoding: identity\r\n\r\n"
            b'{"a":1}',
            b"POST /v1/chat?a=b HTTP/1.1\r\nHost: " + host + b"\r\n"
            b"content-length: 0\r\naccept-encoding: identity\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nAccept-Encoding: gzip\r\n\r\n",
        ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/", b"example.com"),
        ("http://example.com:80/", b"example.com"),
        ("https://example.com:443/", b"example.com"),
        ("http://example.com:443/", b"example.com:443"),
        ("http://[::1]:8080/", b"[::1]:8080"),
        ("HTTP://EXAMPLE.com/", b"example.com"),
    ],
)
def test_host_names_the_port_only_when_it_is_not_the_usual_one(url: str, host: bytes) -> None:
    assert b"\r\nHost: " + host + b"\r\n" in RequestWriter().route("GET", url).prefix


SECRET = "s3cr3t"  # what no message may hold
BAD_URLS = [
    f"ftp://example.com/{SECRET}",
    f"/only/a/path/{SECRET}",
    f"http:///{SECRET}",
    f"http://user:{SECRET}@example.com/",
    f"http://user@example.com/{SECRET}",
    f"http://example.com/{SECRET} x",
    f"http://example.com/{SECRET}\r\nX: y",
    f"http://example.com/\t{SECRET}",
    f"http://example.com/\0{SECRET}",
    f"http://exämple.com/{SECRET}",
    f"http://example.com/ä{SECRET}",
    f"http://example.com:0/{SECRET}",
    f"http://example.com:99999/{SECRET}",
    f"http://example.com:port/{SECRET}",
    f"http://exa;mple.com/{SECRET}",
    f"http://[::1/{SECRET}",
    f"http://[zz]/{SECRET}",
]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_a_url_that_is_not_plain_is_refused_and_not_quoted(url: str) -> None:
    async with HttpTransport() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(HttpRequest("GET", url, []))
        assert (caught.value.kind, caught.value.phase) == ("request", SendPhase.NotSent)
        assert SECRET not in str(caught.value)
        assert transport.stats() == {}


@pytest.mark.parametrize("method", ["", "GET /", "GE\r\nT", "GÄT", "CONNECT", "TRACE"])
async def test_a_method_that_is_not_one_is_refused(method: str) -> None:
    async with HttpTransport() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(HttpRequest(method, "http://127.0.0.1/", []))
        assert (caught.value.kind, caught.value.phase) == ("request", SendPhase.NotSent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"s3cr3t\r\nX-Injected: 1"),
        (b"x", b"s3cr3t\n"),
        (b"x", b"s3cr3t\r"),
        (b"x", b"s3cr3t\0"),
        (b"x s3cr3t", b"y"),
        (b"x:s3cr3t", b"y"),
        (b"x\r\ns3cr3t", b"y"),
        (b"", b"s3cr3t"),
        (b"Host", b"s3cr3t"),
        (b"content-length", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"Expect", b"100-continue"),
        (b"Proxy-Authorization", b"s3cr3t"),
    ],
)
async def test_a_header_that_could_change_the_request_is_refused_and_its_value_not_quoted(
    name: bytes, value: bytes
) -> None:
    async with hostile(answer(EMPTY)) as served, HttpTransport() as transport:
        for _ in range(2):  # a refusal is not remembered as good
            with pytest.raises(TransportError) as caught:
                await transport.send(HttpRequest("POST", served.url(), [(b"a", b"b"), (name, value)]))
            assert (caught.value.kind, caught.value.phase) == ("request", SendPhase.NotSent)
            assert SECRET not in str(caught.value)
        assert served.peers == []


async def test_many_urls_and_header_names_do_not_fill_the_memory() -> None:
    async with hostile(answer(EMPTY)) as served, HttpTransport() as transport:
        for number in range(1100):
            headers = [(b"x-%d" % number, b"y")]
            await transport.send(HttpRequest("GET", served.url(f"/{number}"), headers))
        assert len(transport._routes) <= 1024
        assert len(transport._writer._names) <= 1024
        assert len(served.peers) == 1


def test_nothing_that_shows_itself_shows_a_credential() -> None:
    transport = HttpTransport(proxy=f"http://user:{SECRET}@127.0.0.1:3128")
    assert repr(transport) == "<HttpTransport through 127.0.0.1:3128; unused>"
    assert SECRET not in repr(transport._proxy)
    with pytest.raises(ValueError, match="proxy URL") as caught:
        HttpTransport(proxy=f"socks5://user:{SECRET}@127.0.0.1:1080")
    assert SECRET not in str(caught.value)
