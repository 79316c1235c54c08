"""The benchmark's own load: what is not a complete, right reply must never count as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench import fixed_rate, report, stream_load
from bench.targets import ORDER, build

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"


@asynccontextmanager
async def serving(answer: Callable[[int], bytes], *, close_at: int | None = None) -> AsyncIterator[int]:
    """A server that gives `answer(n)` to its n-th request; it closes the connection after request `close_at`."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                number, count = count, count + 1
                writer.write(answer(number))
                await writer.drain()
                if number == close_at:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def offered(port: int, count: int) -> dict[str, object]:
    job = {"port": port, "headers": {}, "body": "{}", "rate_per_s": 200, "duration_s": count / 200}
    return await fixed_rate.measure(job)


async def streamed(port: int, events: int) -> dict[str, object]:
    job = {"port": port, "headers": {}, "body": "{}", "connections": 1, "duration_s": 0.05, "events": events}
    return await stream_load.measure(job)


async def test_every_scheduled_request_is_counted_and_errors_apart() -> None:
    async with serving(lambda number: BROKEN if number % 4 == 3 else OK) as port:
        result = await offered(port, 40)
    assert result["sent"] == 40
    assert result["bad"] == {"500": 10}


async def test_a_connection_lost_before_the_reply_counts_as_broken_and_the_load_goes_on() -> None:
    async with serving(lambda number: b"" if number == 5 else OK, close_at=5) as port:
        result = await offered(port, 40)
    assert result["sent"] == 40
    assert result["bad"] == {"broken": 1}


async def test_latency_counts_from_the_timetable_not_from_a_late_departure() -> None:
    async with serving(lambda _: OK) as port:
        table = fixed_rate.Timetable(port, fixed_rate.request_bytes(port, "/", b"{}", {}), 1000, 30)
        asyncio.get_running_loop().call_later(0.01, lambda: _block(0.05))
        await table.run()
    assert max(table.latencies_s) > 0.03


def _block(seconds: float) -> None:
    """Holds the loop, as a stolen slice of CPU would."""
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_a_stream_counts_its_events_even_when_a_chunk_boundary_cuts_one() -> None:
    body = chunks(b'data: {"a":1}\n\nda', b'ta: {"b":2}\n\n', b"data: [DONE]\n\n")
    async with serving(lambda _: STREAM_HEAD + body) as port:
        result = await streamed(port, 3)
    assert result["bad"] == {}
    assert int(str(result["streams"])) > 0


async def test_a_stream_without_all_its_events_is_not_counted() -> None:
    async with serving(lambda _: STREAM_HEAD + chunks(b'data: {"a":1}\n\n', b"data: [DONE]\n\n")) as port:
        result = await streamed(port, 3)
    assert result["streams"] == 0
    assert set(dict(result["bad"])) == {"2 events"}  # type: ignore[call-overload]


async def test_a_stream_cut_before_its_end_is_not_counted() -> None:
    cut = STREAM_HEAD + chunks(b'data: {"a":1}\n\n', b'data: {"b":2}\n\n')[:-5]
    async with serving(
        lambda number: cut if number == 0 else STREAM_HEAD + chunks(b"data: [DONE]\n\n"), close_at=0
    ) as port:
        result = await streamed(port, 1)
    assert dict(result["bad"]) == {"cut": 1}  # type: ignore[call-overload]


async def test_an_error_instead_of_a_stream_is_counted_by_its_status() -> None:
    async with serving(lambda _: BROKEN) as port:
        result = await streamed(port, 3)
    assert result["streams"] == 0
    assert set(dict(result["bad"])) == {"500"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("value", "at_most", "met"), [(0.6, True, True), (0.61, True, False), (None, True, None), (4.9, False, False)]
)
def test_a_goal_is_met_only_on_its_better_side(value: float | None, at_most: bool, met: bool | None) -> None:
    assert report.Goal("x", value, 0.6 if at_most else 5.0, at_most=at_most).met is met


def test_targets_come_in_the_fixed_order_and_only_litellm_is_offered_less(tmp_path: object) -> None:
    from pathlib import Path

    found = build(list(reversed(ORDER)), 9, Path(str(tmp_path)))
    assert [target.name for target in found] == list(ORDER)
    assert {target.name for target in found if target.rate_per_s != 200} == {"litellm"}
