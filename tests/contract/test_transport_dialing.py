"""How connections come about: names, addresses, TLS, proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, TransportError
from apikeyrouter.infrastructure.transport import HttpTransport
from apikeyrouter.infrastructure.transport.dial import _connected, _discard
from tests.support.certificates import Authority, make_authority
from tests.support.hostile_server import Peer, answer, hostile, swallowing_address

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BIG = b"x" * 3_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


async def fetch(transport: HttpTransport, url: str, body: bytes = b"") -> bytes:
    return await (await transport.send(HttpRequest("POST", url, [], body))).read()


async def failure(transport: HttpTransport, url: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await fetch(transport, url)
    assert caught.value.phase is SendPhase.NotSent
    for numbers in transport.stats().values():
        assert numbers.active == 0
    return caught.value


# TLS


async def test_https_works_with_a_certificate_of_a_trusted_authority(authority: Authority) -> None:
    async with hostile(answer(HELLO), tls=authority.server) as served:
        async with HttpTransport(ca_file=authority.ca_file) as transport:
            for host in ("127.0.0.1", "localhost"):
                for _ in range(2):
                    assert await fetch(transport, served.url("/x", host), BIG) == b"hello"
        assert len(served.peers) == 2


async def test_a_long_reply_over_tls_is_whole_whether_read_or_streamed(authority: Authority) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG
    async with (
        hostile(answer(long), tls=authority.server) as served,
        HttpTransport(ca_file=authority.ca_file) as transport,
    ):
        assert await fetch(transport, served.url()) == BIG
        reply = await transport.send(HttpRequest("GET", served.url(), []))
        assert b"".join([chunk async for chunk in reply.chunks()]) == BIG
        assert len(served.peers) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority) -> None:
    async with hostile(answer(HELLO), tls=authority.server) as served, HttpTransport() as transport:
        error = await failure(transport, served.url())
        assert error.kind == "tls"
        assert f"127.0.0.1:{served.port}" in error.message
        assert "ca_file" in error.message
        assert served.seen == []


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with (
        hostile(answer(HELLO), tls=authority.server) as served,
        HttpTransport(ca_file=authority.ca_file, resolver=resolver) as transport,
    ):
        error = await failure(transport, served.url(host="api.example.com"))
        assert error.kind == "tls"
        assert "api.example.com" in error.message
        assert await fetch(transport, served.url(host="localhost")) == b"hello"


async def test_https_to_a_server_that_does_not_speak_it_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with hostile(script) as served, HttpTransport() as transport:
        error = await failure(transport, f"https://127.0.0.1:{served.port}/")
        assert error.kind == "tls"
        assert "https" in error.message


async def test_a_server_that_hangs_up_during_the_tls_greeting_is_a_tls_failure() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.reset()

    async with hostile(script) as served, HttpTransport() as transport:
        assert (await failure(transport, f"https://127.0.0.1:{served.port}/")).kind == "tls"


def test_verification_cannot_be_switched_off_through_a_context() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="does not verify"):
        HttpTransport(ssl_context=context)
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="does not verify"):
        HttpTransport(ssl_context=context)


async def test_a_context_of_the_callers_own_is_used(authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.ca_file)
    async with hostile(answer(HELLO), tls=authority.server) as served, HttpTransport(ssl_context=context) as transport:
        assert await fetch(transport, served.url()) == b"hello"


async def test_cancelling_a_stream_over_tls_closes_the_connection_at_once(authority: Authority) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await peer.gone()
        gone.set()

    async with hostile(script, tls=authority.server) as served, HttpTransport(ca_file=authority.ca_file) as transport:
        reply = await transport.send(HttpRequest("GET", served.url(), []))
        reply.aclose()
        await asyncio.wait_for(gone.wait(), 2.0)


# Names and addresses


async def test_a_name_without_address_is_a_dns_failure_that_names_it() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async with HttpTransport(resolver=resolver) as transport:
        error = await failure(transport, "http://nowhere.example/")
        assert error.kind == "dns"
        assert error.message.startswith("The name 'nowhere.example' has no usable address (no such name).")


@pytest.mark.parametrize("found", [[], ["not an address"]])
async def test_a_resolver_that_finds_nothing_usable_is_a_dns_failure(found: list[str]) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return found

    async with HttpTransport(resolver=resolver) as transport:
        assert (await failure(transport, "http://nowhere.example/")).kind == "dns"


async def test_the_systems_resolver_is_used_when_no_other_is_given() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        assert await fetch(transport, served.url(host="localhost")) == b"hello"
        assert (await failure(transport, "http://does-not-exist.invalid/")).kind == "dns"
        assert (await failure(transport, f"http://{'a' * 64}.invalid/")).kind == "dns"


async def test_a_resolver_may_refuse_an_address_that_stands_in_the_url() -> None:
    asked = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        raise PermissionError("private addresses are not allowed")

    async with HttpTransport(resolver=resolver) as transport:
        error = await failure(transport, "http://169.254.169.254/latest")
        assert "private addresses are not allowed" in error.message
        assert asked == [("169.254.169.254", 80)]


async def test_a_refused_address_is_followed_by_the_next_at_once() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.77", "127.0.0.78", "127.0.0.1"]

    async with hostile(answer(HELLO)) as served, HttpTransport(resolver=resolver) as transport:
        assert await fetch(transport, served.url(host="name.example")) == b"hello"
    async with HttpTransport(resolver=resolver) as transport:
        assert (await failure(transport, f"http://name.example:{served.port}/")).kind == "refused"


async def test_an_address_that_does_not_answer_is_overtaken_by_the_next() -> None:
    with swallowing_address("127.0.0.77") as port:

        async def resolver(host: str, port: int) -> list[str]:
            return ["127.0.0.77", "127.0.0.1"]

        async with hostile(answer(HELLO), port=port) as served, HttpTransport(resolver=resolver) as transport:
            assert await fetch(transport, served.url(host="name.example")) == b"hello"


async def test_an_address_that_answered_too_late_to_be_used_is_closed() -> None:
    async with hostile(answer(HELLO)) as served:
        loop = asyncio.get_running_loop()
        late = loop.create_task(_connected(loop, (socket.AF_INET, ("127.0.0.1", served.port))))
        sock = await late
        await _discard([late])
        assert sock.fileno() == -1


# Proxies


async def relaying_proxy(peer: Peer) -> None:
    """An HTTP proxy for CONNECT."""
    head = await peer.request()
    host, _, port = head.split(b" ")[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await peer.send(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_https_goes_through_a_proxy_by_connect(authority: Authority) -> None:
    async with hostile(answer(HELLO), tls=authority.server) as served, hostile(relaying_proxy) as proxy:
        url = f"http://us%40er:pa:ss@127.0.0.1:{proxy.port}"
        async with HttpTransport(proxy=url, ca_file=authority.ca_file) as transport:
            for _ in range(2):
                assert await fetch(transport, served.url("/v1"), b"{}") == b"hello"
        target = b"127.0.0.1:%d" % served.port
        credentials = base64.b64encode(b"us@er:pa:ss")
        assert proxy.seen == [
            b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n"
            b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n"
        ]
        assert served.seen[0].startswith(b"POST /v1 HTTP/1.1\r\nHost: " + target)
        assert b"Proxy-Authorization" not in served.seen[0]


async def test_http_goes_to_a_proxy_in_absolute_form() -> None:
    async with hostile(answer(HELLO)) as proxy:
        async with HttpTransport(proxy=f"http://user:word@127.0.0.1:{proxy.port}") as transport:
            assert await fetch(transport, "http://api.example.com/v1?x=y") == b"hello"
        credentials = base64.b64encode(b"user:word")
        assert proxy.seen == [
            b"POST http://api.example.com/v1?x=y HTTP/1.1\r\nHost: api.example.com\r\n"
            b"Proxy-Authorization: Basic " + credentials + b"\r\n"
            b"content-length: 0\r\naccept-encoding: identity\r\n\r\n"
        ]


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "asks for credentials"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "would not connect"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is it an HTTP proxy?"),
        (b"HTTP/1.1 2", "is it an HTTP proxy?"),
    ],
)
async def test_a_proxy_that_does_not_connect_is_named_as_the_culprit(reply: bytes, hint: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)

    async with hostile(script) as proxy, HttpTransport(proxy=f"http://user:s3cr3t@127.0.0.1:{proxy.port}") as transport:
        error = await failure(transport, "https://api.example.com/")
        assert error.kind == "connect"
        assert f"The proxy 127.0.0.1:{proxy.port}" in error.message
        assert hint in error.message
        assert "s3cr3t" not in error.message


async def test_a_proxy_whose_answer_has_no_end_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"X: y\r\n" * 100)

    async with hostile(script) as proxy, HttpTransport(proxy=f"http://127.0.0.1:{proxy.port}") as transport:
        error = await failure(transport, "https://api.example.com/")
        assert (error.kind, "is it an HTTP proxy?" in error.message) == ("connect", True)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "http://h:port", "http://h/path", "http://h?q"]
)
def test_a_proxy_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="proxy URL"):
        HttpTransport(proxy=url)


def test_a_ca_file_is_read_only_when_https_is_first_used(tmp_path: Path) -> None:
    transport = HttpTransport(ca_file=tmp_path / "absent.pem")
    assert repr(transport) == "<HttpTransport unused>"
