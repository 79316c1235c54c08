"""`serve --workers 2` before accounts whose limits only the operator knows: together they send what fits, no more."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.test_workers import CHAT, Line, lines_to, soon
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

RPM = 20
PERIOD_S = 60.0
SILENT = {"rpm": RPM, "tpm": None, "refill": "rolling", "period_s": PERIOD_S, "headers": "none"}


class Pair:
    """Two workers, and a provider that counts."""

    def __init__(self, sim: Sim, proxy: ProxyProcess) -> None:
        self.sim = sim
        self.proxy = proxy

    def ask(self, count: int) -> list[tuple[int, dict[str, str], float]]:
        """So many requests at once, each on a connection of its own: (status, headers, Unix time)."""
        answers: list[tuple[int, dict[str, str], float]] = []

        def one() -> None:
            status, _, headers = self.proxy.ask("POST", "/v1/chat/completions", CHAT)
            answers.append((status, headers, time.time()))

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    @property
    def upstream(self) -> Counter[str]:
        """The provider's answers by status."""
        seen: Counter[str] = Counter()
        for counts in self.sim.state()["keys"].values():
            seen.update(counts["by_status"])
        return seen


@contextmanager
def pair(folder: Path, accounts: int, **metadata: int) -> Iterator[Pair]:
    keys = [f"sim-shared-{number}" for number in range(1, accounts + 1)]
    provider = {"accounts": [{"name": key, "keys": [key], "limits": SILENT} for key in keys]}
    env = {"PROXY_WORKERS": "2", "APIKEYROUTER_QUOTA_WAIT_S": "0"}
    with sim_process(provider) as sim, proxy_process(sim, folder, keys=keys, env=env) as proxy:
        for key in proxy.get("/api/v1/keys")[1]["data"]:
            assert proxy.ask("PATCH", f"/api/v1/keys/{key['id']}", {"metadata": metadata})[0] == 200
        with lines_to(proxy) as both:
            for line in both:  # changes reach both workers
                soon(lambda line=line: all(_knows(key, metadata) for key in _keys(line)), 2.0)  # type: ignore[misc]
        yield Pair(sim, proxy)


def _keys(line: Line) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = line.ask("GET", "/api/v1/keys")[1]["data"]
    return found


def _knows(key: dict[str, Any], metadata: dict[str, int]) -> bool:
    known: dict[str, Any] = key["metadata"]
    return known.items() >= metadata.items()


@pytest.mark.parametrize("accounts", [1, 2])
def test_two_workers_send_exactly_what_the_accounts_allow(tmp_path: Path, accounts: int) -> None:
    fits = accounts * RPM
    with pair(tmp_path, accounts, rpm=RPM) as both:
        answers = both.ask(60)
        assert Counter(status for status, _, _ in answers) == {200: fits, 429: 60 - fits}
        assert both.upstream == {"200": fits}
        first_at_s = both.sim.requests()[0]["at_utc_s"]
        for status, headers, at_s in answers:
            if status == 429:
                back_s = first_at_s + PERIOD_S - at_s
                assert int(headers["retry-after-ms"]) / 1000 == pytest.approx(back_s, abs=3.0)


def test_one_worker_uses_what_the_other_leaves(tmp_path: Path) -> None:
    with pair(tmp_path, 1, rpm=RPM) as both, lines_to(both.proxy) as (busy, idle):
        assert idle.chat()[0] == 200
        assert [busy.chat()[0] for _ in range(RPM)] == [200] * (RPM - 1) + [429]
        assert idle.chat()[0] == 429
        assert both.upstream == {"200": RPM}


def test_no_more_are_under_way_than_both_workers_may_have_together(tmp_path: Path) -> None:
    with pair(tmp_path, 1, concurrency=3) as both:
        both.sim.fault(None, "latency_s", delay_s=1.5)
        statuses = Counter(status for status, _, _ in both.ask(12))
        assert statuses == {200: 3, 429: 9}
        assert both.upstream == {"200": 3}
        with lines_to(both.proxy) as (first, second):
            both.sim.clear_faults()
            assert [line.chat()[0] for line in (first, second, first, second)] == [200] * 4
