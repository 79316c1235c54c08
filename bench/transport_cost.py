"""What one request costs the transport, in microseconds of CPU.

A small mock (asyncio.Protocol and httptools) answers in a process of its own; this process sends `--requests` requests
over `--connections` at once and counts its own CPU time (user and system), kernel work included. Run it on a quiet
machine, twice, and compare ratios rather than figures: python bench/transport_cost.py --loop both

    json      POST of 1 KB, reply of 1 KB with eleven headers
    stream    POST of 1 KB, reply of 100 chunks written one by one, taken with chunks(); per chunk
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from typing import cast

import httptools
import uvloop

from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.infrastructure.transport import HttpTransport

BODY = b'{"model":"mock","messages":[{"role":"user","content":"' + b"x" * 950 + b'"}]}'
CHUNKS = 100
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"y" * 170 + b'"}}]}\n\n'


def json_reply() -> bytes:
    body = b'{"id":"1","choices":[{"message":{"content":"' + b"z" * 900 + b'"}}],"usage":{"total_tokens":42}}'
    names = [b"x-ratelimit-%d: %d\r\n" % (number, number * 1000) for number in range(8)]
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s" % (
        len(body),
        b"".join(names),
        body,
    )


JSON_REPLY = json_reply()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_EVENT = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)


class Mock(asyncio.Protocol):
    """Answers each request as soon as its last byte is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        if self.url == b"/json":
            self.transport.write(JSON_REPLY)
        else:
            self.transport.write(STREAM_HEAD)
            self.send_events(CHUNKS)

    def send_events(self, left: int) -> None:
        if left == 0:
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(STREAM_EVENT)
        asyncio.get_running_loop().call_soon(self.send_events, left - 1)


def serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def measure(port: int, kind: str, requests: int, connections: int) -> tuple[float, float]:
    """CPU microseconds per request (or chunk), and requests per second of wall time."""
    headers = [(b"authorization", b"Bearer " + b"k" * 40), (b"content-type", b"application/json")]
    url = f"http://127.0.0.1:{port}/{kind}"
    pieces = 0

    async with HttpTransport() as transport:

        async def worker(count: int) -> None:
            nonlocal pieces
            for _ in range(count):
                now_s = time.monotonic()
                reply = await transport.send(HttpRequest("POST", url, headers, BODY, deadline_s=now_s + 60.0))
                if kind == "json":
                    await reply.read()
                    pieces += 1
                else:
                    async for _chunk in reply.chunks():
                        pieces += 1

        await asyncio.gather(*(worker(20) for _ in range(connections)))
        gc.collect()
        gc.freeze()
        pieces = 0
        started_s, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(requests // connections) for _ in range(connections)))
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - started_s
        gc.unfreeze()
    return cpu_s / pieces * 1e6, requests / wall_s


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--connections", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--loop", choices=("uvloop", "asyncio", "both"), default="uvloop")
    options = arguments.parse_args()
    ours, theirs = multiprocessing.Pipe()
    mock = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    mock.start()
    port = ours.recv()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1 and mock.pid is not None:
        os.sched_setaffinity(0, cores[:1])
        os.sched_setaffinity(mock.pid, cores[1:])
    try:
        for loop in ("uvloop", "asyncio") if options.loop == "both" else (options.loop,):
            run = uvloop.run if loop == "uvloop" else asyncio.run
            for kind, unit in (("json", "request"), ("stream", "chunk")):
                requests = options.requests if kind == "json" else options.requests // 20
                rounds = [run(measure(port, kind, requests, options.connections)) for _ in range(options.rounds)]
                cost_us = [cost for cost, _ in rounds]
                rate = statistics.median(rate for _, rate in rounds)
                print(
                    f"{loop:8} {kind:7} {statistics.median(cost_us):6.1f} us CPU per {unit}"
                    f"  (best {min(cost_us):.1f}, worst {max(cost_us):.1f})  {rate:8.0f} requests/s"
                )
    finally:
        mock.terminate()
        mock.join()


if __name__ == "__main__":
    main()
