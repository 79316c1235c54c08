"""What the dashboard costs: the page in a real browser at 1,000 keys and 100,000 decisions, and the proxy under load.

Entry: `main(argv)` (`python -m bench dashboard [--quick]`). Three figures, one after the other: time until a page is
interactive, main-thread time of an update while requests come, throughput and CPU per request with one open dashboard
against none, in turns.
Laws: pages are loaded by a browser that was never there (nothing cached); the load's core serves no browser while
throughput is measured: the stream and the questions of the overview are asked by a thin client instead.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import secrets
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.infrastructure.state_store import open_store
from bench import http_load, local_http, processes, report
from bench.http_bench import upstream
from bench.targets import CACHE, ROOT, Ours

KEYS, DECISIONS = 1_000, 100_000
_WRITE_AT_ONCE = 5_000
_SPREAD_S = 1.0
"""Stored decisions are so far apart: 100,000 of them are a day."""

PAGES = {"overview": "", "keys": "/keys", "decisions": "/decisions"}
_SEEN = {"overview": "main .stat", "keys": "main tbody tr", "decisions": "main tbody tr"}
_UPDATES_PER_S = 2
_LOAD_PER_S = 100
_WATCH = """(seen) => {
  window.akrLong = [];
  new PerformanceObserver((list) => akrLong.push(...list.getEntries().map((one) => [one.startTime, one.duration])))
    .observe({ type: "longtask", buffered: true });
  const look = () => document.querySelector(seen)
    ? requestAnimationFrame(() => setTimeout(() => (window.akrReady = performance.now())))
    : requestAnimationFrame(look);
  requestAnimationFrame(look);
}"""
_NOTICES = """new Promise((done) => setTimeout(() => {
  const [before, end] = [akrLong.length, performance.now() + 80];
  while (performance.now() < end);
  setTimeout(() => done(akrLong.length > before), 200);
}))"""
"""Whether a long task is noticed at all: one is made."""


class Large(Ours):
    """Ours with 1,000 keys, whose store is kept from start to start."""

    material = ""

    def command(self) -> tuple[list[str], dict[str, str]]:
        self.material = self.material or secrets.token_hex(20)
        self.admin_key = self.admin_key or "admin-" + secrets.token_hex(20)
        env = {f"OPENAI_API_KEY_{number}": f"sk-{self.material}{number:06}" for number in range(1, KEYS + 1)}
        env |= {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.upstream_port}/v1",
            "APIKEYROUTER_STORE": f"sqlite:///{self.store_path}",
            "APIKEYROUTER_ENCRYPTION_KEY": self.material,
            "APIKEYROUTER_ADMIN_KEY": self.admin_key,
        }
        return [str(self._binary()), "serve", "--port", str(self.port)], env


def fill(target: Large, decisions: int) -> None:
    """A day's requests in the store, each as the proxy itself would have written it."""
    target.start()
    for _ in range(20):
        http_load.check(target)
    target.stop()

    async def write() -> None:
        store = open_store(f"sqlite:///{target.store_path}")
        await store.open()
        models = await store.query_decisions(StateQuery("RoutingDecision", limit=20))
        now_s = time.time()
        for begin in range(0, decisions, _WRITE_AT_ONCE):
            rows = []
            for number in range(begin, min(begin + _WRITE_AT_ONCE, decisions)):
                like = models[number % len(models)]
                at_s = now_s - number * _SPREAD_S
                names = {"id": f"dec_{number:024}", "rid": f"req_{number:024}", "at": at_s}
                payload = json.dumps({**json.loads(like.payload), **names}).encode()
                rows.append(replace(like, decision_id=names["id"], request_id=names["rid"], at_s=at_s, payload=payload))
            await store.apply(StoreBatch(decisions=rows))
        await store.close()

    asyncio.run(write())


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser on the load's core."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("Chromium is missing: run scripts/install dev as root, or set CHROMIUM=/path/to/it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, target: Ours, name: str) -> tuple[BrowserContext, Page]:
    """A page in a browser that was never here, interactive."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{target.port}", viewport={"width": 1280, "height": 800})
    key = json.dumps({"key": target.admin_key})
    context.request.post("/api/v1/session", data=key, headers={"content-type": "application/json"})
    page = context.new_page()
    page.add_init_script(f"({_WATCH})({json.dumps(_SEEN[name])})")
    page.goto(f"/dashboard{PAGES[name]}", wait_until="commit")
    page.locator(_SEEN[name]).first.wait_for(timeout=60_000)
    page.wait_for_timeout(500)
    return context, page


def opening(browser: Browser, target: Ours, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds from the click until the page answers, and the longest task until then."""
    found: dict[str, dict[str, float]] = {}
    for name in PAGES:
        times, longest = [], []
        for _ in range(rounds):
            context, page = visit(browser, target, name)
            times.append(page.evaluate("akrReady"))
            longest.append(max([0.0, *(duration for _, duration in page.evaluate("akrLong"))]))
            context.close()
        found[name] = {
            "interactive_ms": statistics.median(times),
            "worst_ms": max(times),
            "longest_task_ms": statistics.median(longest),
        }
    return found


def updating(browser: Browser, target: Ours, duration_s: float) -> dict[str, dict[str, float]]:
    """Main-thread milliseconds of an update (everything that the page did, over the batches that came), under load."""
    found: dict[str, dict[str, float]] = {}
    pool = ThreadPoolExecutor(1)
    for name in PAGES:
        context, page = visit(browser, target, name)
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        load = pool.submit(http_load.offer, target, _LOAD_PER_S, duration_s + 2)
        page.wait_for_timeout(1000)
        page.evaluate("akrLong.length = 0")
        before = _metrics(session)
        page.wait_for_timeout(duration_s * 1000)
        after = _metrics(session)
        tasks = [duration for _, duration in page.evaluate("akrLong")]
        if load.result().bad or not page.evaluate(_NOTICES):
            raise RuntimeError(f"the measurement of {name} is worth nothing: {load.result().bad}")
        busy_ms = (after["TaskDuration"] - before["TaskDuration"]) * 1000
        found[name] = {
            "update_ms": busy_ms / (duration_s * _UPDATES_PER_S),
            "tasks_over_50_ms": len(tasks),
            "longest_task_ms": max([0.0, *tasks]),
            "heap_mib": after["JSHeapUsedSize"] / 2**20,
        }
        context.close()
    return found


def _metrics(session: Any) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


class ThinDashboard:
    """Asks what the open overview asks: the live stream, and the state every five seconds."""

    def __init__(self, target: Ours) -> None:
        self._target = target
        self._over = threading.Event()
        self.bytes = 0

    def __enter__(self) -> ThinDashboard:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._stream, self._ask)]
        for thread in self._threads:
            thread.start()
        time.sleep(0.6)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _stream(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._target.port, timeout=10)
        connection.request("GET", "/api/v1/live", headers={"X-API-Key": self._target.admin_key})
        reply = connection.getresponse()
        while not self._over.is_set():
            self.bytes += len(reply.readline())
        connection.close()

    def _ask(self) -> None:
        while not self._over.wait(5):
            local_http.call(self._target.port, "GET", "/api/v1/state", headers={"X-API-Key": self._target.admin_key})


def throughput(target: Ours, rounds: int, duration_s: float, folder: Path) -> dict[str, float]:
    """Requests a second and CPU a request with an open dashboard over those without, in turns."""
    http_load.saturate(target, 16, duration_s, folder)
    found: dict[str, list[float]] = {name: [] for name in ("rps", "open_rps", "cpu_us", "open_cpu_us")}
    for number in range(rounds):
        for is_open in (False, True) if number % 2 else (True, False):
            if is_open:
                with ThinDashboard(target):
                    sample = http_load.saturate(target, 16, duration_s, folder)
            else:
                sample = http_load.saturate(target, 16, duration_s, folder)
            prefix = "open_" if is_open else ""
            found[prefix + "rps"].append(sample.values["rps"])
            found[prefix + "cpu_us"].append(sample.cpu_s / sample.values["requests"] * 1e6)
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        **medians,
        "rps_ratio": medians["open_rps"] / medians["rps"],
        "cpu_ratio": medians["open_cpu_us"] / medians["cpu_us"],
    }


def main(argv: list[str]) -> int:
    """Command line: `--quick`. Exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench dashboard", description="What the dashboard costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, about 2 minutes")
    quick = parser.parse_args(argv).quick
    rounds, duration_s = (3, 6.0) if quick else (7, 15.0)
    raised = processes.raise_priority()
    folder = CACHE / f"dashboard-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    with upstream(folder) as port:
        target = Large("ours", processes.free_port(), port, folder / "ours")
        try:
            fill(target, DECISIONS)
            target.start()
            if processes.LOAD_CORE in processes.available_cores():
                os.sched_setaffinity(0, {processes.LOAD_CORE})  # browser and thin client leave the gateway its core
            print(f"{KEYS:,} keys, {DECISIONS:,} decisions: started in {target.ready_s:.1f} s", flush=True)
            with chromium() as browser:
                opened = opening(browser, target, rounds)
                updated = updating(browser, target, duration_s)
            cost = throughput(target, rounds * 4, 2.0, folder)
        finally:
            target.stop()
    shutil.rmtree(folder)
    path = report.save("dashboard", {"priority_raised": raised, "opened": opened, "updated": updated, "cost": cost})
    print(_table(opened, updated, cost) + f"\n\nfigures: {path.relative_to(ROOT)}")
    met = (
        all(one["interactive_ms"] <= 1000 for one in opened.values())
        and all(one["update_ms"] <= 50 for one in updated.values())
        and cost["rps_ratio"] >= 0.98
    )
    return 0 if met else 1


def _table(opened: dict[str, dict[str, float]], updated: dict[str, dict[str, float]], cost: dict[str, float]) -> str:
    lines = [
        "| page | interactive | worst | update | tasks over 50 ms | longest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in PAGES:
        one, two = opened[name], updated[name]
        lines.append(
            f"| {name} | {one['interactive_ms']:.0f} ms | {one['worst_ms']:.0f} ms | {two['update_ms']:.1f} ms "
            f"| {two['tasks_over_50_ms']:.0f} | {two['longest_task_ms']:.0f} ms |"
        )
    lines.append(
        f"\nOne open dashboard: {cost['open_rps']:.0f} requests/s against {cost['rps']:.0f} "
        f"(ratio {cost['rps_ratio']:.3f}), CPU {cost['open_cpu_us']:.0f} us against {cost['cpu_us']:.0f} us "
        f"(ratio {cost['cpu_ratio']:.3f})"
    )
    return "\n".join(lines)
