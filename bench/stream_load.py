"""Streaming load: time to the first event on one connection, and events relayed per second on many.

Entry: `python -m bench.stream_load` with a JSON job on standard input, a JSON result on standard output.
Laws: a stream counts only with status 200, every event and its `[DONE]`; the first event is timed, not the first
header byte, since a gateway may answer early with an empty head.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

import uvloop

from bench.client import Reply, StreamConnection, connect, percentile, request_bytes


class Streams:
    """Keeps `connections` streams going, one after the other on each, until `duration_s` is over."""

    def __init__(self, port: int, request: bytes, expected_events: int) -> None:
        self._port = port
        self._request = request
        self._expected_events = expected_events
        self._sent_s: dict[StreamConnection, float] = {}
        self._until_s = 0.0
        self._began_s = 0.0
        self._busy = 0
        self._finished = asyncio.Event()
        self._reopening: set[asyncio.Task[None]] = set()
        self.first_event_s: list[float] = []
        self.whole_s: list[float] = []
        self.events = 0
        self.bad: dict[str, int] = {}
        self.elapsed_s = 0.0

    async def run(self, connections: int, duration_s: float) -> None:
        opened = [
            await connect(self._port, lambda: StreamConnection(self._on_done, self._expected_events))
            for _ in range(connections)
        ]
        self._began_s = time.perf_counter()
        self._until_s = self._began_s + duration_s
        self._busy = len(opened)
        for connection in opened:
            self._again(connection)
        try:
            async with asyncio.timeout(duration_s + 15.0):
                await self._finished.wait()
        except TimeoutError:
            self.bad["unanswered"] = self._busy

    def _again(self, connection: StreamConnection) -> None:
        self._sent_s[connection] = time.perf_counter()
        connection.send(self._request)

    def _on_done(self, connection: StreamConnection, reply: Reply) -> None:
        sent_s = self._sent_s.pop(connection)
        if reply.complete and reply.status == 200 and reply.terminated and reply.events == self._expected_events:
            self.first_event_s.append(reply.first_event_s - sent_s)
            self.whole_s.append(reply.ended_s - sent_s)
            self.events += reply.events
        else:
            name = str(reply.status) if reply.status != 200 else f"{reply.events} events" if reply.complete else "cut"
            self.bad[name] = self.bad.get(name, 0) + 1
        self.elapsed_s = reply.ended_s - self._began_s
        if reply.ended_s >= self._until_s:
            self._busy -= 1
            if not self._busy:
                self._finished.set()
        elif connection.usable:
            self._again(connection)
        else:
            task = asyncio.get_running_loop().create_task(self._reopen())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        self._again(await connect(self._port, lambda: StreamConnection(self._on_done, self._expected_events)))


async def measure(job: dict[str, object]) -> dict[str, object]:
    """Job: port, headers, body, connections, duration_s, events (a stream, `[DONE]` included)."""
    port = int(str(job["port"]))
    headers = {str(k): str(v) for k, v in dict(job["headers"]).items()}  # type: ignore[call-overload]  # JSON from our own harness
    request = request_bytes(port, "/v1/chat/completions", str(job["body"]).encode(), headers)
    streams = Streams(port, request, int(str(job["events"])))
    await streams.run(int(str(job["connections"])), float(str(job["duration_s"])))
    return {
        "streams": len(streams.whole_s),
        "events_per_s": streams.events / streams.elapsed_s if streams.elapsed_s else 0.0,
        "first_p50_ms": percentile(streams.first_event_s, 0.50) * 1e3,
        "first_p99_ms": percentile(streams.first_event_s, 0.99) * 1e3,
        "whole_p50_ms": percentile(streams.whole_s, 0.50) * 1e3,
        "bad": streams.bad,
    }


def main() -> None:
    job = json.load(sys.stdin)
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(job))))


if __name__ == "__main__":
    main()
