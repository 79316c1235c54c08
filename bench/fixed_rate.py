"""Open-loop load: requests leave on a timetable, whatever the target does, and latency counts from the scheduled time.

Entry: `python -m bench.fixed_rate` with a JSON job on standard input, a JSON result on standard output. A closed loop
would wait for a slow reply before sending the next and so hide the slowness ("coordinated omission").
Laws: every scheduled request is counted, answered or not; the generator's own error is inside the direct measurement,
which is subtracted. Timers of the loop have steps of 1 ms, so the timetable is a kernel timer (timerfd, about 0.05
ms).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import time
from collections import deque

import uvloop

from bench.client import Connection, Reply, connect, percentile, request_bytes

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_DRAIN_S = 5.0
_MAX_CONNECTIONS = 512


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


def _timer(period_s: float) -> int:
    """A file descriptor that becomes readable every `period_s` seconds (Linux timerfd)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC))
    step = _TimeSpec(int(period_s), int(period_s % 1 * 1e9))
    spec = _TimerSpec(step, step)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(spec), None) != 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


class Timetable:
    """Sends request i at start + (i + 1) / rate on the last idle connection; opens more when all are busy."""

    def __init__(self, port: int, request: bytes, rate_per_s: float, count: int) -> None:
        self._port = port
        self._request = request
        self._period_s = 1.0 / rate_per_s
        self._count = count
        self._idle: list[Connection] = []
        self._due: dict[Connection, float] = {}
        self._waiting: deque[float] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._open = 0
        self._sent = 0
        self._began_s = 0.0
        self._timer = -1
        self.latencies_s: list[float] = []
        self.bad: dict[str, int] = {}
        self.finished = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(8):
            await self._open_one()
        self._timer = _timer(self._period_s)
        self._began_s = time.perf_counter()
        loop.add_reader(self._timer, self._tick)
        try:
            async with asyncio.timeout(self._count * self._period_s + _DRAIN_S):
                await self.finished.wait()
        except TimeoutError:
            lost = self._count - len(self.latencies_s) - sum(self.bad.values())
            self.bad["unanswered"] = self.bad.get("unanswered", 0) + lost
        finally:
            loop.remove_reader(self._timer)
            os.close(self._timer)

    def _tick(self) -> None:
        try:
            expired = int.from_bytes(os.read(self._timer, 8), "little")
        except BlockingIOError:
            return
        for _ in range(expired):
            if self._sent == self._count:
                return
            self._sent += 1
            self._depart(self._began_s + self._sent * self._period_s)

    def _depart(self, due_s: float) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._due[connection] = due_s
                connection.send(self._request)
                return
            self._open -= 1
        self._waiting.append(due_s)
        if self._open + len(self._opening) < _MAX_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_one(self) -> None:
        connection = await connect(self._port, lambda: Connection(self._on_done))
        self._open += 1
        self._free(connection)

    def _free(self, connection: Connection) -> None:
        if not connection.usable:
            self._open -= 1
            return
        if self._waiting:
            self._due[connection] = self._waiting.popleft()
            connection.send(self._request)
            return
        self._idle.append(connection)

    def _on_done(self, connection: Connection, reply: Reply) -> None:
        due_s = self._due.pop(connection)
        if reply.complete and reply.status == 200:
            self.latencies_s.append(reply.ended_s - due_s)
        else:
            name = str(reply.status) if reply.complete else "broken"
            self.bad[name] = self.bad.get(name, 0) + 1
        self._free(connection)
        if len(self.latencies_s) + sum(self.bad.values()) == self._count:
            self.finished.set()


async def measure(job: dict[str, object]) -> dict[str, object]:
    """Job: port, headers, body, rate_per_s, duration_s. Result: latencies in ms, counts of what was not a 200."""
    port = int(str(job["port"]))
    rate_per_s = float(str(job["rate_per_s"]))
    headers = {str(k): str(v) for k, v in dict(job["headers"]).items()}  # type: ignore[call-overload]  # JSON from our own harness
    request = request_bytes(port, "/v1/chat/completions", str(job["body"]).encode(), headers)
    table = Timetable(port, request, rate_per_s, int(rate_per_s * float(str(job["duration_s"]))))
    await table.run()
    ms = [value * 1e3 for value in table.latencies_s]
    return {
        "sent": len(ms) + sum(table.bad.values()),
        "p50_ms": percentile(ms, 0.50),
        "p99_ms": percentile(ms, 0.99),
        "bad": table.bad,
    }


def main() -> None:
    job = json.load(sys.stdin)
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(job))))


if __name__ == "__main__":
    main()
