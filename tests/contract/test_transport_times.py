"""How long the transport waits, for what, and what it says when the time is up."""

from __future__ import annotations

import asyncio
import time

import pytest

from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, Timeouts, TransportError
from apikeyrouter.infrastructure.transport import HttpTransport
from tests.support.hostile_server import Peer, Served, answer, hostile, swallowing_address

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT_S = 0.05


async def failure(transport: HttpTransport, request: HttpRequest) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await (await transport.send(request)).read()
    return caught.value


def request(served: Served, *, deadline_s: float | None = None, **timeouts: float | None) -> HttpRequest:
    return HttpRequest("POST", served.url(), [], b"{}", deadline_s, Timeouts(**timeouts))


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def starts_then_stops(peer: Peer) -> None:
    await peer.request()
    await peer.send(STREAM + b"2\r\nhi\r\n")
    await peer.gone()


async def starts_a_head_then_stops(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    await peer.gone()


async def test_silence_after_the_request_ends_with_first_byte_s() -> None:
    async with hostile(silent) as served, HttpTransport() as transport:
        error = await failure(transport, request(served, first_byte_s=SHORT_S))
        assert (error.kind, error.phase) == ("first_byte_timeout", SendPhase.Unanswered)
        assert error.message == f"127.0.0.1:{served.port} did not answer within 0.05 s."
        assert transport.stats()[served.url("")].idle == 0


async def test_half_a_head_does_not_prolong_the_wait_for_the_rest() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"X: y\r\n")
            await asyncio.sleep(0.01)

    async with hostile(script) as served, HttpTransport() as transport:
        error = await failure(transport, request(served, first_byte_s=SHORT_S))
        assert (error.kind, error.phase) == ("first_byte_timeout", SendPhase.MidReply)


async def test_a_reply_that_stops_ends_with_idle_s_after_what_came() -> None:
    async with hostile(starts_then_stops) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, idle_s=SHORT_S))
        chunks = reply.chunks()
        assert await anext(chunks) == b"hi"
        with pytest.raises(TransportError) as caught:
            await anext(chunks)
        assert (caught.value.kind, caught.value.phase) == ("idle_timeout", SendPhase.MidReply)


async def test_a_reply_may_take_longer_than_idle_s_if_it_keeps_coming() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        for _ in range(12):
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, first_byte_s=0.1, idle_s=0.1))
        assert await reply.read() == b"x" * 12


async def test_a_slow_reader_is_not_the_senders_silence() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000)
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, idle_s=SHORT_S))
        chunks = reply.chunks()
        got_bytes = len(await anext(chunks))
        await asyncio.sleep(SHORT_S * 3)
        async for chunk in chunks:
            got_bytes += len(chunk)
        assert got_bytes == 4_000_000


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        (silent, SendPhase.Unanswered),
        (starts_a_head_then_stops, SendPhase.MidReply),
        (starts_then_stops, SendPhase.MidReply),
    ],
)
async def test_the_deadline_ends_every_phase_of_an_exchange(script: object, phase: SendPhase) -> None:
    async with hostile(script) as served, HttpTransport() as transport:  # type: ignore[arg-type]
        started_s = time.monotonic()
        error = await failure(transport, request(served, deadline_s=started_s + SHORT_S))
        assert (error.kind, error.phase) == ("deadline", phase)
        assert time.monotonic() >= started_s + SHORT_S


async def test_the_deadline_ends_a_reply_that_nobody_reads() -> None:
    async with hostile(answer(STREAM + b"ffffff\r\n" + b"x" * 4_000_000)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, deadline_s=time.monotonic() + 0.2))
        await asyncio.sleep(0.3)
        with pytest.raises(TransportError) as caught:
            await reply.read()
        assert caught.value.kind == "deadline"
        assert transport.stats()[served.url("")].active == 0


async def test_a_deadline_in_the_past_sends_nothing_on_a_new_connection_or_a_kept_one() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        for already_sent in (0, 1):
            error = await failure(transport, request(served, deadline_s=time.monotonic() - 1.0))
            assert (error.kind, error.phase) == ("deadline", SendPhase.NotSent)
            assert len(served.seen) == already_sent
            await (await transport.send(request(served))).read()


async def test_the_deadline_ends_waiting_for_a_connection() -> None:
    with swallowing_address("127.0.0.1") as port:
        async with HttpTransport() as transport:
            late_s = time.monotonic() + SHORT_S
            error = await failure(transport, HttpRequest("GET", f"http://127.0.0.1:{port}/", [], deadline_s=late_s))
            assert (error.kind, error.phase) == ("deadline", SendPhase.NotSent)


async def test_connecting_ends_with_connect_s() -> None:
    with swallowing_address("127.0.0.1") as port:
        async with HttpTransport() as transport:
            url = f"http://127.0.0.1:{port}/"
            error = await failure(transport, HttpRequest("GET", url, [], timeouts=Timeouts(connect_s=SHORT_S)))
            assert (error.kind, error.phase) == ("connect_timeout", SendPhase.NotSent)
            assert f"127.0.0.1:{port}" in error.message
            assert transport.stats()[f"http://127.0.0.1:{port}"].active == 0


async def test_a_server_that_never_answers_the_tls_greeting_ends_with_connect_s() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        url = f"https://127.0.0.1:{served.port}/"
        error = await failure(transport, HttpRequest("GET", url, [], timeouts=Timeouts(connect_s=SHORT_S)))
        assert (error.kind, error.phase) == ("connect_timeout", SendPhase.NotSent)


async def test_short_times_of_one_request_do_not_touch_the_next_on_the_same_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.request()
        await asyncio.sleep(SHORT_S * 3)
        await peer.send(HELLO)
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        first = request(served, first_byte_s=SHORT_S, deadline_s=time.monotonic() + SHORT_S)
        assert await (await transport.send(first)).read() == b"hello"
        assert await (await transport.send(request(served))).read() == b"hello"
        assert len(served.peers) == 1


async def test_a_long_time_of_one_request_does_not_hide_a_short_one_of_the_next() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await silent(peer)

    async with hostile(script) as served, HttpTransport() as transport:
        assert await (await transport.send(request(served, first_byte_s=60.0))).read() == b"hello"
        error = await failure(transport, request(served, first_byte_s=SHORT_S))
        assert (error.kind, error.phase, error.reused) == ("first_byte_timeout", SendPhase.Unanswered, True)


async def test_none_means_no_limit() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served, connect_s=None, first_byte_s=None, idle_s=None))
        assert await reply.read() == b"hello"
