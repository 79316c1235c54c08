"""How connections are kept, lent, replaced and dropped."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
from datetime import UTC, datetime

import pytest

from apikeyrouter.domain.interfaces.transport import HttpRequest, SendPhase, Timeouts, TransportError
from apikeyrouter.infrastructure.transport import HttpTransport, OriginStats, TransportLimits
from tests.support.hostile_server import Peer, Served, answer, hostile

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def request(served: Served, method: str = "GET", path: str = "/", **options: object) -> HttpRequest:
    return HttpRequest(method, served.url(path), [], **options)  # type: ignore[arg-type]


async def ask(transport: HttpTransport, served: Served, method: str = "GET") -> bytes:
    return await (await transport.send(request(served, method))).read()


def stats(transport: HttpTransport, served: Served) -> OriginStats:
    return transport.stats()[served.url("")]


async def settled(condition: object, turns: int = 1000) -> None:
    """Gives the loop turns until `condition()` holds."""
    assert callable(condition)
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to pass")


class SetClock:
    """A clock that stands where a test put it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


async def test_requests_in_turn_share_one_connection() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        for _ in range(3):
            assert await ask(transport, served, "POST") == b"hello"
        assert len(served.peers) == 1
        assert stats(transport, served) == OriginStats(idle=1, active=0, waiting=0, opened=1, reused=2)
        assert repr(transport) == f"<HttpTransport {served.url('')}: 1 idle, 0 active, 1 opened>"


async def test_a_connection_is_free_once_the_last_byte_came_although_nobody_read_it() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        first = await transport.send(request(served))
        second = await transport.send(request(served))
        assert (await second.read(), await first.read()) == (b"hello", b"hello")
        assert len(served.peers) == 1


async def test_the_newest_idle_connection_is_used_first() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % peer.number)

    async with hostile(script) as served, HttpTransport() as transport:
        bodies = await asyncio.gather(*(ask(transport, served) for _ in range(3)))
        assert sorted(bodies) == [b"1", b"2", b"3"]
        newest = await ask(transport, served)
        assert [await ask(transport, served) for _ in range(4)] == [newest] * 4


async def test_many_at_once_each_get_their_own_answer() -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.request()
            path = head.split(b" ")[1]
            await asyncio.sleep(0)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    async with hostile(script) as served, HttpTransport() as transport:

        async def one(number: int) -> bytes:
            reply = await transport.send(request(served, path=f"/{number}"))
            return await reply.read()

        bodies = await asyncio.gather(*(one(number) for number in range(80)))
        assert bodies == [f"/{number}".encode() for number in range(80)]
        assert stats(transport, served).active == 0
        assert stats(transport, served).idle == len(served.peers)


@pytest.mark.parametrize(
    "junk",
    [b"junk", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", b"HTTP/1.1 2", b"\x00"],
    ids=["junk", "a second reply", "part of one", "a byte"],
)
async def test_bytes_after_a_reply_never_answer_the_next_request(junk: bytes) -> None:
    async with hostile(answer(HELLO + junk)) as served, HttpTransport() as transport:
        for turn in range(1, 4):
            assert await ask(transport, served, "POST") == b"hello"
            assert len(served.peers) == turn


async def test_bytes_on_an_idle_connection_close_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.reader.read(0)
        await asyncio.sleep(0)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        assert await ask(transport, served) == b"hello"
        await settled(lambda: stats(transport, served).idle == 0)
        assert await ask(transport, served) == b"hello"
        assert len(served.peers) == 2


async def test_connection_close_is_obeyed() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    async with hostile(answer(closing)) as served, HttpTransport() as transport:
        assert await ask(transport, served) == b"hello"
        assert await ask(transport, served) == b"hello"
        assert len(served.peers) == 2


async def test_a_connection_that_the_peer_closed_while_idle_is_replaced_in_silence() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)

    async with hostile(script) as served, HttpTransport() as transport:
        for _ in range(3):
            assert await ask(transport, served, "POST") == b"hello"
            await settled(lambda: stats(transport, served).idle == 0)
        assert len(served.seen) == 3


async def close_on_second_request(peer: Peer) -> None:
    await peer.request()
    await peer.send(HELLO)
    if peer.number == 1:
        await peer.request()
        peer.reset()
    else:
        await peer.gone()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_get_and_head_are_sent_again_once_when_a_kept_connection_breaks_unanswered(method: str) -> None:
    async with hostile(close_on_second_request) as served, HttpTransport() as transport:
        await ask(transport, served)
        await transport.send(request(served, method))
        assert [head.split(b" ")[0].decode() for head in served.seen] == ["GET", method, method]


async def test_get_is_not_sent_a_third_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(HELLO)
            await peer.request()

    async with hostile(script) as served, HttpTransport() as transport:
        await ask(transport, served)
        with pytest.raises(TransportError) as caught:
            await ask(transport, served)
        assert (caught.value.kind, caught.value.phase, caught.value.reused) == ("reset", SendPhase.Unanswered, False)
        assert len(served.seen) == 3


async def test_post_is_not_sent_again_and_the_error_says_that_the_connection_was_a_kept_one() -> None:
    async with hostile(close_on_second_request) as served, HttpTransport() as transport:
        await ask(transport, served)
        with pytest.raises(TransportError) as caught:
            await ask(transport, served, "POST")
        assert (caught.value.kind, caught.value.phase, caught.value.reused) == ("reset", SendPhase.Unanswered, True)
        assert len(served.seen) == 2


async def test_a_fresh_connection_that_breaks_unanswered_is_not_called_reused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    for method in ("GET", "POST"):
        async with hostile(script) as served, HttpTransport() as transport:
            with pytest.raises(TransportError) as caught:
                await ask(transport, served, method)
            assert (caught.value.kind, caught.value.phase, caught.value.reused) == (
                "reset",
                SendPhase.Unanswered,
                False,
            )
            assert len(served.seen) == 1


@pytest.mark.parametrize("connections", [1, 2])
async def test_a_full_pool_serves_those_who_wait_in_order(connections: int) -> None:
    limits = TransportLimits(connections_per_origin=connections)
    async with hostile(answer(HELLO)) as served, HttpTransport(limits=limits) as transport:

        async def one(number: int) -> bytes:
            return await (await transport.send(request(served, path=f"/{number}"))).read()

        assert await asyncio.gather(*(one(number) for number in range(20))) == [b"hello"] * 20
        assert stats(transport, served) == OriginStats(
            idle=connections, active=0, waiting=0, opened=connections, reused=20 - connections
        )
        if connections == 1:
            assert [int(seen.split(b" ", 2)[1][1:]) for seen in served.seen] == list(range(20))


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def test_waiting_for_a_full_pool_ends_with_connect_s() -> None:
    limits = TransportLimits(connections_per_origin=1)
    async with hostile(hang) as served, HttpTransport(limits=limits) as transport:
        first = asyncio.create_task(transport.send(request(served)))
        await settled(lambda: served.seen)
        with pytest.raises(TransportError) as caught:
            await transport.send(request(served, timeouts=Timeouts(connect_s=0.02)))
        assert (caught.value.kind, caught.value.phase) == ("pool", SendPhase.NotSent)
        assert stats(transport, served).waiting == 0
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_slot_that_becomes_free_goes_to_who_waits() -> None:
    limits = TransportLimits(connections_per_origin=1)

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.gone()
        await peer.send(HELLO)
        await peer.gone()

    async with hostile(script) as served, HttpTransport(limits=limits) as transport:
        first = asyncio.create_task(ask(transport, served))
        await settled(lambda: served.seen)
        leaves = asyncio.create_task(ask(transport, served))
        second = asyncio.create_task(ask(transport, served))
        await settled(lambda: stats(transport, served).waiting == 2)
        leaves.cancel()
        first.cancel()
        assert await second == b"hello"
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)


async def test_who_is_cancelled_while_being_handed_a_connection_passes_it_on() -> None:
    limits = TransportLimits(connections_per_origin=1)
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(HELLO)
        while True:
            await peer.request()
            await peer.send(HELLO)

    async with hostile(script) as served, HttpTransport(limits=limits) as transport:
        waiting: list[asyncio.Task[bytes]] = []

        async def answered_first() -> None:
            await transport.send(request(served))
            waiting[0].cancel()  # the connection is handed to it, and it has not run yet

        first = asyncio.create_task(answered_first())
        await settled(lambda: served.seen)
        waiting += [asyncio.create_task(ask(transport, served)) for _ in range(2)]
        await settled(lambda: stats(transport, served).waiting == 2)
        release.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert await waiting[1] == b"hello"
        assert len(served.peers) == 1
        assert stats(transport, served).active == 0


async def test_who_is_cancelled_while_being_handed_a_slot_passes_it_on() -> None:
    limits = TransportLimits(connections_per_origin=1)
    loop = asyncio.get_running_loop()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO if peer.number > 1 else STREAM)
        await peer.gone()

    async with hostile(script) as served, HttpTransport(limits=limits) as transport:
        first = await transport.send(request(served))
        waiting = [asyncio.create_task(ask(transport, served)) for _ in range(2)]
        await settled(lambda: stats(transport, served).waiting == 2)

        def cancel_as_soon_as_it_left_the_queue() -> None:
            if stats(transport, served).waiting == 2:
                loop.call_soon(cancel_as_soon_as_it_left_the_queue)
            else:
                waiting[0].cancel()

        cancel_as_soon_as_it_left_the_queue()
        first.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert await asyncio.wait_for(waiting[1], 2.0) == b"hello"


async def test_a_connection_whose_end_was_announced_is_not_lent_any_more() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        assert await reply.read() == b"hello"
        (pool,) = transport._pools.values()
        (connection,) = pool.idle
        connection.eof_received()  # the loop reports the loss itself only one turn later
        assert stats(transport, served).idle == 0
        assert await ask(transport, served, "POST") == b"hello"
        assert len(served.peers) == 2
        connection._transport.abort()


async def test_a_failed_attempt_to_connect_gives_its_slot_back() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with HttpTransport(limits=TransportLimits(connections_per_origin=1)) as transport:
        for _ in range(3):
            with pytest.raises(TransportError) as caught:
                await transport.send(HttpRequest("GET", f"http://127.0.0.1:{port}/", []))
            assert caught.value.kind == "refused"
            assert (
                caught.value.message
                == f"Connection to 127.0.0.1:{port} was refused: is the server running, and the port right?"
            )
        assert transport.stats()[f"http://127.0.0.1:{port}"].active == 0


async def test_no_more_than_the_allowed_number_stays_idle() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await settled(lambda: len(served.seen) == 5)
        await peer.send(HELLO)
        await peer.gone()

    async with hostile(script) as served, HttpTransport(limits=TransportLimits(idle_per_origin=2)) as transport:
        await asyncio.gather(*(ask(transport, served) for _ in range(5)))
        await settled(lambda: stats(transport, served).active == 0)
        assert stats(transport, served).idle == 2


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport(limits=TransportLimits(idle_s=0.02)) as transport:
        await ask(transport, served)
        assert stats(transport, served).idle == 1
        await settled(lambda: stats(transport, served) == OriginStats(idle=0, active=0, waiting=0, opened=1, reused=0))


async def test_a_connection_that_was_idle_too_long_or_is_too_old_is_not_reused() -> None:
    clock = SetClock()
    limits = TransportLimits(idle_s=30.0, connection_age_s=100.0)
    async with hostile(answer(HELLO)) as served, HttpTransport(limits=limits, clock=clock) as transport:
        ages = []
        for step_s in (0.0, 29.0, 31.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0):
            clock.now_s += step_s
            await ask(transport, served)
            ages.append(len(served.peers))
        assert ages == [1, 1, 2, 2, 2, 2, 2, 2, 3]


async def test_a_slow_reader_stops_the_sender() -> None:
    sent_bytes = 0

    async def script(peer: Peer) -> None:
        nonlocal sent_bytes
        await peer.request()
        await peer.send(STREAM)
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(1000):
            await peer.send(block)
            sent_bytes += 65536
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        chunks = reply.chunks()
        got_bytes = len(await anext(chunks))
        before = -1
        while before != sent_bytes:  # until neither side moves any more
            before = sent_bytes
            await asyncio.sleep(0.05)
        assert sent_bytes < 32 * 1024 * 1024
        assert reply.buffered_bytes < 1024 * 1024
        async for chunk in chunks:
            got_bytes += len(chunk)
        assert got_bytes == 1000 * 65536
        assert stats(transport, served).idle == 1


async def test_a_stalled_sender_is_let_go_on_by_read_too() -> None:
    body = b"x" * 3_000_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with hostile(answer(head + body)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        await settled(lambda: reply.buffered_bytes > TransportLimits().buffer_bytes)
        assert await reply.read() == body
        assert await ask(transport, served) == body
        assert len(served.peers) == 1


async def test_chunks_come_as_soon_as_they_arrive_and_as_they_are() -> None:
    went_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM + b"6\r\ndata: \r\n")
        await went_on.wait()
        await peer.send(b"3\r\n1\n\n\r\n3\r\n\n\n\n\r\n0\r\n\r\n")
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        chunks = reply.chunks()
        assert await anext(chunks) == b"data: "
        went_on.set()
        assert await anext(chunks) == b"1\n\n\n\n\n"
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def never_ending(peer: Peer) -> None:
    await peer.request()
    await peer.send(STREAM + b"2\r\nhi\r\n")
    await peer.gone()
    gone.add(peer.number)


gone: set[int] = set()


@pytest.fixture(autouse=True)
def _forget_gone() -> None:
    gone.clear()


async def test_closing_a_reply_before_its_end_closes_the_connection() -> None:
    async with hostile(never_ending) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        reply.aclose()
        reply.aclose()
        await settled(lambda: gone)
        assert stats(transport, served) == OriginStats(idle=0, active=0, waiting=0, opened=1, reused=0)
        with pytest.raises(TransportError) as caught:
            await reply.read()
        assert caught.value.kind == "closed"


async def test_closing_a_reply_that_came_in_full_keeps_the_connection() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        reply.aclose()
        assert stats(transport, served).idle == 1
        with pytest.raises(TransportError):
            await reply.read()
        assert await ask(transport, served) == b"hello"


@pytest.mark.parametrize("how", ["chunks", "read"])
async def test_cancelling_a_reader_closes_the_connection(how: str) -> None:
    async with hostile(never_ending) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))

        async def read_all() -> None:
            if how == "read":
                await reply.read()
            else:
                async for _ in reply.chunks():
                    pass

        reader = asyncio.create_task(read_all())
        await settled(lambda: reply.waiter is not None)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await settled(lambda: gone)


async def test_leaving_a_stream_early_closes_the_connection() -> None:
    async with hostile(never_ending) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        async for chunk in reply.chunks():
            assert chunk == b"hi"
            break
        gc.collect()
        await settled(lambda: gone)


async def test_cancelling_send_closes_the_connection_and_disturbs_nobody() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.gone()
            gone.add(1)
        await peer.send(HELLO)
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        sending = asyncio.create_task(transport.send(request(served)))
        await settled(lambda: served.seen)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await settled(lambda: gone)
        assert await ask(transport, served) == b"hello"


async def test_cancelling_at_any_turn_of_the_loop_leaks_no_connection() -> None:
    async with hostile(answer(HELLO)) as served, HttpTransport() as transport:
        for turns in itertools.chain(range(12), range(12)):
            sending = asyncio.create_task(ask(transport, served))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await settled(lambda: stats(transport, served).active == 0)
        assert await ask(transport, served) == b"hello"


async def test_a_reply_before_the_request_was_written_in_full_is_delivered_but_the_connection_is_not_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")
        await asyncio.sleep(0.05)
        await peer.gone()

    async with hostile(script) as served, HttpTransport() as transport:
        reply = await transport.send(HttpRequest("POST", served.url(), [], b"x" * 50_000_000))
        assert (reply.status, await reply.read()) == (413, b"much")
        assert stats(transport, served).idle == 0


async def test_closing_the_transport_ends_what_runs_and_refuses_what_comes() -> None:
    limits = TransportLimits(connections_per_origin=3)
    async with hostile(never_ending) as served:
        transport = HttpTransport(limits=limits)
        streaming = await transport.send(request(served))
        second = await transport.send(request(served))
        third = (await transport.send(request(served))).chunks()
        assert await anext(third) == b"hi"
        reading = asyncio.create_task(second.read())
        waiting = asyncio.create_task(transport.send(request(served)))
        await settled(lambda: stats(transport, served).waiting == 1)
        await transport.aclose()
        await transport.aclose()
        for broken in (reading, waiting):
            with pytest.raises(TransportError) as caught:
                await broken
            assert caught.value.kind == "closed"
        with pytest.raises(TransportError) as caught:
            await anext(third)
        assert caught.value.kind == "closed"
        with pytest.raises(TransportError) as caught:
            [chunk async for chunk in streaming.chunks()]
        assert caught.value.kind == "closed"
        with pytest.raises(TransportError) as caught:
            await transport.send(request(served))
        assert (caught.value.kind, caught.value.phase) == ("closed", SendPhase.NotSent)
        assert stats(transport, served).active == stats(transport, served).idle == 0
        assert repr(transport) == "<HttpTransport closed>"


async def test_nagle_is_off() -> None:
    async with hostile(never_ending) as served, HttpTransport() as transport:
        reply = await transport.send(request(served))
        assert reply.connection is not None
        sock = reply.connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        reply.aclose()


def test_one_transport_serves_one_event_loop_after_another() -> None:
    transport = HttpTransport()

    async def once() -> int:
        async with hostile(answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")) as served:
            return (await transport.send(request(served))).status

    assert [asyncio.run(once()) for _ in range(2)] == [200, 200]
