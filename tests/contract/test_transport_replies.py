"""What a provider may answer, in every framing and however cut, and what it may not."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib

import pytest

from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, TransportError
from apikeyrouter.infrastructure.transport import HttpTransport, TransportLimits
from tests.support.hostile_server import Peer, Served, answer, hostile

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"X-One: 1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nX-Trailer: t\r\n\r\n"


def request(served: Served, method: str = "GET", path: str = "/") -> HttpRequest:
    return HttpRequest(method, served.url(path), [])


async def read_once(reply_bytes: bytes, *, method: str = "GET", limits: TransportLimits | None = None) -> bytes:
    """The body that the transport makes of a server's bytes; the server closes after them."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply_bytes)

    async with hostile(script) as served, HttpTransport(limits=limits) as transport:
        reply = await transport.send(request(served, method))
        return await reply.read()


async def take(served: Served, transport: HttpTransport, method: str, into: list[bytes], *, streamed: bool) -> None:
    """Asks, and adds to `into` what comes, so that it can be looked at although an error follows."""
    reply = await transport.send(request(served, method))
    if streamed:
        async for chunk in reply.chunks():
            into.append(chunk)  # noqa: PERF401  # a list built at the end would be lost with the error
    else:
        into.append(await reply.read())


async def failure_of(reply_bytes: bytes, **options: object) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await read_once(reply_bytes, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("whole", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_a_reply_reads_the_same_wherever_the_network_cuts_it(whole: bytes) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.drip(whole)

    async with hostile(script) as served, HttpTransport() as transport:
        for _ in range(2):
            reply = await transport.send(request(served))
            assert await reply.read() == b"hello"
            assert reply.status == 200
        reply = await transport.send(request(served))
        assert b"".join([chunk async for chunk in reply.chunks()]) == b"hello"
        assert len(served.peers) == 1


@pytest.mark.parametrize("whole", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_a_reply_that_is_cut_at_any_byte_is_an_error_and_never_a_short_body(whole: bytes) -> None:
    cuts = itertools.count()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole[: next(cuts)])

    async with hostile(script) as served, HttpTransport() as transport:
        for cut in range(len(whole)):
            with pytest.raises(TransportError) as caught:
                await take(served, transport, "POST", [], streamed=False)
            assert caught.value.kind == "reset"
            assert caught.value.phase is (SendPhase.MidReply if cut else SendPhase.Unanswered)
        reply = await transport.send(request(served, "POST"))
        assert await reply.read() == b"hello"


@pytest.mark.parametrize("cut", [CHUNKED.index(b"2;ext"), len(CHUNKED) - 1])
async def test_chunks_hands_out_what_came_before_it_reports_the_break(cut: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED[:cut])

    async with hostile(script) as served, HttpTransport() as transport:
        got: list[bytes] = []
        with pytest.raises(TransportError) as caught:
            await take(served, transport, "GET", got, streamed=True)
        assert b"".join(got).startswith(b"hel")
        assert (caught.value.kind, caught.value.phase) == ("reset", SendPhase.MidReply)


async def test_a_body_without_framing_ends_when_the_server_closes() -> None:
    assert await read_once(OK + b"\r\nuntil the end") == b"until the end"
    assert await read_once(b"HTTP/1.0 200 OK\r\n\r\nold") == b"old"


async def test_a_body_without_framing_that_ends_by_reset_is_an_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\npart")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        chunks = reply.chunks()
        assert await anext(chunks) == b"part"
        served.peers[0].reset()
        with pytest.raises(TransportError) as caught:
            await anext(chunks)
        assert (caught.value.kind, caught.value.phase) == ("reset", SendPhase.MidReply)


async def test_http_1_0_keeps_a_connection_only_when_the_server_says_so() -> None:
    kept = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    dropped = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    chunked = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    for reply_bytes, idle in ((kept, 1), (dropped, 0), (chunked, 0)):
        async with hostile(answer(reply_bytes)) as served, HttpTransport() as transport:
            reply = await transport.send(request(served))
            assert await reply.read() == b"hi"
            assert transport.stats()[served.url("")].idle == idle


async def test_interim_replies_are_skipped_with_their_headers() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with hostile(answer(interim + LENGTH)) as served, HttpTransport() as transport:
        for _ in range(2):
            reply = await transport.send(request(served, "POST"))
            assert (reply.status, await reply.read()) == (200, b"hello")
            assert reply.headers == [(b"x-one", b"1"), (b"content-length", b"5")]
        assert len(served.peers) == 1


async def test_trailers_do_not_become_headers_of_this_reply_or_the_next() -> None:
    async with hostile(answer(CHUNKED)) as served, HttpTransport() as transport:
        for _ in range(2):
            reply = await transport.send(request(served))
            assert await reply.read() == b"hello"
            assert reply.headers == [(b"transfer-encoding", b"chunked")]
        assert len(served.peers) == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_body_ends_at_its_headers(status: int) -> None:
    bare = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
    async with hostile(answer(bare, LENGTH)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        assert (reply.status, await reply.read()) == (status, b"")
        reply = await transport.send(request(served))
        assert (reply.status, await reply.read()) == (200, b"hello")
        assert len(served.peers) == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_head_has_no_body_whatever_its_headers_say(framing: bytes) -> None:
    async with hostile(answer(OK + framing + b"\r\n", LENGTH)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, "HEAD"))
        assert (reply.status, await reply.read()) == (200, b"")
        reply = await transport.send(request(served))
        assert await reply.read() == b"hello"
        assert len(served.peers) == 1


async def test_body_bytes_after_a_head_reply_do_not_reach_the_next_request() -> None:
    async with hostile(answer(LENGTH)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, "HEAD"))
        assert await reply.read() == b""
        reply = await transport.send(request(served))
        assert await reply.read() == b"hello"
        assert len(served.peers) == 2


async def test_header_names_come_lower_case_and_values_without_padding() -> None:
    reply_bytes = OK + b"X-MiXed: \t a b \t\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    async with hostile(answer(reply_bytes)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        assert reply.headers == [(b"x-mixed", b"a b"), (b"empty", b""), (b"content-length", b"0")]
        assert (reply.header(b"x-mixed"), reply.header(b"absent")) == (b"a b", None)


BAD_FRAMING = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length list": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "huge length": OK + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "hexadecimal prefix": OK + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "huge chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n",
    "longer chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "no chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "NUL": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control character": OK + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "bare CR": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded line": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space in name": OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "status 099": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "status 20": b"HTTP/1.1 20 X\r\nContent-Length: 0\r\n\r\n",
    "version 9": b"HTTP/9.9 200 X\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "noise": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("name", BAD_FRAMING)
async def test_a_reply_that_can_be_read_in_two_ways_is_refused(name: str) -> None:
    error = await failure_of(BAD_FRAMING[name])
    assert (error.kind, error.phase) == ("protocol", SendPhase.MidReply)
    assert "127.0.0.1:" in error.message


async def test_a_switch_of_protocols_that_nothing_asked_for_is_named() -> None:
    error = await failure_of(BAD_FRAMING["switching protocols"])
    assert error.message.endswith("answered with status 101, which nothing asked for.")


async def test_an_offer_to_upgrade_is_ignored() -> None:
    offer = OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
    assert await read_once(offer) == b"hi"


async def endless(peer: Peer, head: bytes, piece: bytes) -> None:
    await peer.request()
    await peer.send(head)
    while True:
        await peer.send(piece * 100)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (OK, b"X: y\r\n"),
        (OK + b"X: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b"),
    ],
    ids=["headers", "one header", "interim replies", "trailers", "one trailer", "chunk extension"],
)
async def test_a_head_or_trailer_without_end_is_cut_off(head: bytes, piece: bytes) -> None:
    async def script(peer: Peer) -> None:
        await endless(peer, head, piece)

    async with hostile(script) as served, HttpTransport() as transport:
        with pytest.raises(TransportError) as caught:
            await (await transport.send(request(served))).read()
        assert (caught.value.kind, caught.value.phase) == ("too_large", SendPhase.MidReply)


async def test_a_stream_of_tiny_chunks_may_be_longer_than_the_head_limit() -> None:
    tiny = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"
    assert await read_once(tiny, limits=TransportLimits(head_bytes=1000)) == b"x" * 5000


async def test_too_many_headers_are_refused_and_as_many_as_allowed_are_not() -> None:
    for count, passes in ((4, True), (5, False)):
        headers = b"".join(b"X-%d: y\r\n" % number for number in range(count - 1))
        reply_bytes = OK + headers + b"Content-Length: 0\r\n\r\n"
        limits = TransportLimits(header_count=4)
        if passes:
            assert await read_once(reply_bytes, limits=limits) == b""
        else:
            error = await failure_of(reply_bytes, limits=limits)
            assert (error.kind, error.phase) == ("too_large", SendPhase.MidReply)


async def test_a_head_over_the_limit_is_refused_although_it_came_at_once_with_its_body() -> None:
    reply_bytes = OK + b"X: " + b"y" * 1200 + b"\r\nContent-Length: 2\r\n\r\nhi"
    error = await failure_of(reply_bytes, limits=TransportLimits(head_bytes=1000))
    assert error.kind == "too_large"


@pytest.mark.parametrize(
    "reply_bytes",
    [
        OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
        OK + b"\r\n" + b"x" * 1001,
    ],
    ids=["length", "chunked", "close"],
)
async def test_read_refuses_a_body_over_the_limit(reply_bytes: bytes) -> None:
    error = await failure_of(reply_bytes, limits=TransportLimits(body_bytes=1000))
    assert (error.kind, error.phase) == ("too_large", SendPhase.MidReply)
    same = TransportLimits(body_bytes=1001)
    assert await read_once(reply_bytes, limits=same) == b"x" * 1001


async def test_read_does_not_wait_for_a_body_that_is_announced_as_too_long() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Length: 1001\r\n\r\n")
        await peer.gone()

    async with hostile(script) as served, HttpTransport(limits=TransportLimits(body_bytes=1000)) as transport:
        reply = await transport.send(request(served))
        with pytest.raises(TransportError) as caught:
            await reply.read()
        assert caught.value.kind == "too_large"
        assert transport.stats()[served.url("")].idle == 0


async def test_read_stops_at_the_limit_and_does_not_wait_for_the_end() -> None:
    async def script(peer: Peer) -> None:
        await endless(peer, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\n")

    async with hostile(script) as served, HttpTransport(limits=TransportLimits(body_bytes=100_000)) as transport:
        reply = await transport.send(request(served))
        with pytest.raises(TransportError) as caught:
            await reply.read()
        assert caught.value.kind == "too_large"


PLAIN = b"the quick brown fox " * 5000
PACKERS = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN),
    "GZIP": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "deflate raw": (packer := zlib.compressobj(wbits=-15)).compress(PLAIN) + packer.flush(),
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_compressed_bodies_are_unpacked_and_their_headers_go(name: str, streamed: bool) -> None:
    packed = PACKERS[name]
    coding = name.partition(" ")[0].encode()
    head = OK + b"Content-Encoding: %s\r\nX: y\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        await peer.drip(packed[:30])
        await peer.send(packed[30:])

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        assert reply.headers == [(b"x", b"y")]
        if streamed:
            chunks = [chunk async for chunk in reply.chunks()]
            assert all(chunks)
            assert b"".join(chunks) == PLAIN
        else:
            assert await reply.read() == PLAIN


@pytest.mark.parametrize("beyond", [0, 1, 100, 257, 258, 259])
async def test_output_that_waits_inside_the_decoder_is_not_lost(beyond: int) -> None:
    plain = bytes(256 * 1024 + beyond)  # one piece, and a rest for which no input is left
    engine = zlib.compressobj(wbits=-15)
    packed = engine.compress(plain) + engine.flush()
    head = OK + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert await read_once(head + packed) == plain


async def test_bytes_that_follow_compressed_data_later_are_an_error_too() -> None:
    packed = gzip.compress(PLAIN)
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (len(packed) + 4) + packed)
        await more.wait()
        await peer.send(b"more")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        chunks = (await transport.send(request(served))).chunks()
        assert await anext(chunks) == PLAIN
        more.set()
        with pytest.raises(TransportError) as caught:
            await anext(chunks)
        assert caught.value.kind == "protocol"


async def test_a_coding_that_is_not_known_is_passed_as_it_is() -> None:
    for coding in (b"br", b"gzip, gzip", b"identity"):
        head = OK + b"Content-Encoding: %s\r\nContent-Length: 3\r\n\r\n" % coding
        async with hostile(answer(head + b"abc")) as served, HttpTransport() as transport:
            reply = await transport.send(request(served))
            assert reply.header(b"content-encoding") == coding
            assert await reply.read() == b"abc"


async def test_an_empty_body_may_claim_to_be_compressed() -> None:
    assert await read_once(OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n") == b""


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_compression_bomb_is_stopped_at_the_limit(streamed: bool) -> None:
    bomb = gzip.compress(bytes(20 * 1024 * 1024))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    limits = TransportLimits(decoded_bytes=1_000_000)
    async with hostile(answer(head + bomb)) as served, HttpTransport(limits=limits) as transport:
        got: list[bytes] = []
        with pytest.raises(TransportError) as caught:
            await take(served, transport, "GET", got, streamed=streamed)
        assert (caught.value.kind, caught.value.phase) == ("too_large", SendPhase.MidReply)
        assert len(got) == (3 if streamed else 0)  # pieces of 256 KiB
        assert sum(map(len, got)) <= limits.decoded_bytes


BAD_PACKING = {
    "not gzip": (b"gzip", b"plain text"),
    "not deflate": (b"deflate", b"\xff\xff\xff\xff"),
    "cut short": (b"gzip", gzip.compress(PLAIN)[:-9]),
    "one byte of deflate": (b"deflate", b"\x78"),
    "more after the end": (b"gzip", gzip.compress(PLAIN) + b"more"),
    "damaged": (b"gzip", gzip.compress(PLAIN)[:-8] + b"\0" * 8),
}


@pytest.mark.parametrize("name", BAD_PACKING)
@pytest.mark.parametrize("streamed", [False, True])
async def test_compressed_data_that_is_not_whole_and_sound_is_an_error(name: str, streamed: bool) -> None:
    coding, packed = BAD_PACKING[name]
    head = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))
    async with hostile(answer(head + packed)) as served, HttpTransport() as transport:
        with pytest.raises(TransportError) as caught:
            await take(served, transport, "GET", [], streamed=streamed)
        assert (caught.value.kind, caught.value.phase) == ("protocol", SendPhase.MidReply)


async def test_a_body_is_taken_once() -> None:
    async with hostile(answer(LENGTH)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        await reply.read()
        with pytest.raises(RuntimeError, match="taken already"):
            await reply.read()
