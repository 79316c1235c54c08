"""The live stream over HTTP: from two workers as from one, told of edits, and no obstacle to stopping."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
WITHIN_S = 15.0


class Watcher:
    """Reads `/api/v1/live` in a thread, as a browser does."""

    def __init__(self, port: int) -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        self._news = threading.Condition()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request("GET", "/api/v1/live")
        self._reply = self._connection.getresponse()
        assert self._reply.status == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kind = ""
        try:
            while line := self._reply.readline().decode():
                if line.startswith("event: "):
                    kind = line[7:].strip()
                if line.startswith("data: "):
                    with self._news:
                        self.events.append((kind, json.loads(line[6:])))
                        self._news.notify_all()
        except (OSError, ValueError, AttributeError):
            return
        finally:
            self.ended.set()

    def of(self, kind: str) -> list[Any]:
        return [data for name, data in self.events if name == kind]

    def until(self, true: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(true, WITHIN_S), self.events

    def ids(self) -> set[str]:
        return {row["request_id"] for told in self.of("decisions") for row in told["items"]}

    def close(self) -> None:
        self._reply.close()
        self._connection.close()


TRIES, NOTICED_TICKS = 20, 4


@contextmanager
def watching(proxy: ProxyProcess) -> Iterator[Watcher]:
    watcher = Watcher(proxy.port)
    try:
        watcher.until(lambda: bool(watcher.of("hello")))
        yield watcher
    finally:
        watcher.close()


def chat(proxy: ProxyProcess, key: str = "") -> str:
    given = {"authorization": f"Bearer {key}"} if key else {}
    status, told, headers = proxy.ask("POST", "/v1/chat/completions", CHAT, given)
    assert status == 200, told
    return headers["x-request-id"]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_stream_tells_of_every_workers_requests_and_edits(sim: Sim, tmp_path: Path, workers: int) -> None:
    with proxy_process(sim, tmp_path, env={"PROXY_WORKERS": str(workers)}) as proxy, watching(proxy) as watcher:
        sent: set[str] = set()
        for _ in range(TRIES):  # until the other worker has noticed that somebody listens
            newest = {chat(proxy) for _ in range(4 * workers)}
            sent |= newest
            ticks = len(watcher.of("tick"))
            watcher.until(lambda: newest <= watcher.ids() or len(watcher.of("tick")) > ticks + 2)  # noqa: B023
            if workers == 1 or (newest <= watcher.ids() and ticks >= NOTICED_TICKS):
                break
        assert newest <= watcher.ids()
        for number in range(3 * workers):
            assert proxy.post("/api/v1/virtual-keys", {"name": f"app {number}"})[0] == 201
        watcher.until(lambda: any("virtual_key" in told["what"] for told in watcher.of("changed")))
        client = proxy.post("/api/v1/virtual-keys", {"name": "Web shop"})[1]
        named = {chat(proxy, client["key"]) for _ in range(2 * workers)}
        watcher.until(lambda: named <= watcher.ids())
        rows = [row for told in watcher.of("decisions") for row in told["items"] if row["request_id"] in named]
        assert {(row["caller"], row["caller_name"]) for row in rows} == {(client["id"], "Web shop")}
        sent |= named
        assert sum(tick["requests"] for tick in watcher.of("tick")) <= len(sent)


@pytest.mark.parametrize(
    ("workers", "uvicorn_arguments"),
    [(1, None), (2, None), (1, ["apikeyrouter_proxy.main:app"])],
    ids=["alone", "two workers", "bare uvicorn"],
)
def test_an_open_dashboard_does_not_keep_a_server_from_stopping(
    sim: Sim, tmp_path: Path, workers: int, uvicorn_arguments: list[str] | None
) -> None:
    env = {"PROXY_WORKERS": str(workers)}
    with (
        proxy_process(sim, tmp_path, env=env, uvicorn_arguments=uvicorn_arguments) as proxy,
        watching(proxy) as watcher,
    ):
        chat(proxy)
        began_s = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began_s < 20.0, "it waited for the dashboard until the time to drain was over"
        assert watcher.ended.wait(WITHIN_S)
