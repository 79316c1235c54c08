"""Four accounts over real HTTP: what fits is served, and what does not is refused here, before the provider has to.

The same story at full length, beside LiteLLM's proxy: `python -m bench quota-story`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
ACCOUNTS = 4
UPSTREAM_429_MAX = 2
RPM = 12
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was answered, and when (Unix time)."""

    status: int
    retry_after_s: float | None
    at_s: float


class Story:
    """A provider whose accounts take so many requests a minute, and a proxy in front of it."""

    def __init__(self, sim: Sim, proxy: ProxyProcess) -> None:
        self.sim = sim
        self.proxy = proxy

    def type_in_limits(self, rpm: int = RPM) -> None:
        """The operator knows them."""
        for key in self.proxy.get("/api/v1/keys")[1]["data"]:
            status, _ = self.proxy.ask("PATCH", f"/api/v1/keys/{key['id']}", {"metadata": {"rpm": rpm}})[:2]
            assert status == 200

    def offer(self, requests: int) -> list[Told]:
        """Sends them, `AT_ONCE` at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda _: self._ask(), range(requests)))

    def _ask(self) -> Told:
        status, _, headers = self.proxy.ask("POST", "/v1/chat/completions", CHAT)
        told = headers.get("retry-after-ms")
        return Told(status, None if told is None else int(told) / 1000, time.time())

    @property
    def upstream(self) -> Counter[str]:
        """The provider's answers by status."""
        seen: Counter[str] = Counter()
        for counts in self.sim.state()["keys"].values():
            seen.update(counts["by_status"])
        return seen

    @property
    def first_at_s(self) -> float:
        """When the first request reached the provider (Unix time)."""
        first: float = self.sim.requests()[0]["at_utc_s"]
        return first


@contextmanager
def told(folder: Path, limits: Mapping[str, Any], wait_s: float) -> Iterator[Story]:
    keys = [f"sim-story-{number}" for number in range(1, ACCOUNTS + 1)]
    accounts = [{"name": key, "keys": [key], "limits": {"rpm": RPM, "tpm": None, **limits}} for key in keys]
    env = {"APIKEYROUTER_STORE": "memory:", "APIKEYROUTER_QUOTA_WAIT_S": f"{wait_s:g}"}
    with sim_process({"accounts": accounts}) as sim, proxy_process(sim, folder, keys=keys, env=env) as proxy:
        yield Story(sim, proxy)


@pytest.mark.parametrize("typed_in", [True, False])
@pytest.mark.parametrize("refill", ["rolling", "continuous", "fixed"])
def test_what_fits_is_served_without_one_refusal_upstream(tmp_path: Path, refill: str, typed_in: bool) -> None:
    with told(tmp_path, {"refill": refill}, wait_s=0) as story:
        if typed_in:
            story.type_in_limits()
        answers = story.offer(ACCOUNTS * RPM)
        assert Counter(one.status for one in answers) == {200: ACCOUNTS * RPM}
        assert story.upstream == {"200": ACCOUNTS * RPM}


@pytest.mark.parametrize("typed_in", [True, False])
def test_what_does_not_fit_is_refused_here_and_told_when_to_come_back(tmp_path: Path, typed_in: bool) -> None:
    """With a bucket of three, an account takes another request 20 s after its first one."""
    with told(tmp_path, {"refill": "continuous", "rpm": 3}, wait_s=0) as story:
        if typed_in:
            story.type_in_limits(3)
        answers = story.offer(ACCOUNTS * 3 + 6)
        assert Counter(one.status for one in answers) == {200: ACCOUNTS * 3, 429: 6}
        assert story.upstream == {"200": ACCOUNTS * 3}
        back_at_s = story.first_at_s + 20.0
        for one in answers:
            if one.status == 429:
                assert one.retry_after_s == pytest.approx(back_at_s - one.at_s, rel=0.2)


@pytest.mark.parametrize("typed_in", [True, False])
def test_what_does_not_fit_a_rolling_minute_is_told_to_come_back_when_that_is_over(
    tmp_path: Path, typed_in: bool
) -> None:
    """The headers have OpenAI's names, the provider does not count as OpenAI does: its resets tell."""
    more = 12
    with told(tmp_path, {"refill": "rolling"}, wait_s=0) as story:
        if typed_in:
            story.type_in_limits()
        answers = story.offer(ACCOUNTS * RPM + more)
        assert Counter(one.status for one in answers) == {200: ACCOUNTS * RPM, 429: more}
        assert story.upstream == {"200": ACCOUNTS * RPM}
        back_at_s = story.first_at_s + 60.0
        for one in answers:
            if one.status == 429:
                assert one.retry_after_s == pytest.approx(back_at_s - one.at_s, rel=0.2)


def test_what_does_not_fit_waits_for_what_flows_in(tmp_path: Path) -> None:
    """Every 2 s an account takes another request: four more than fit at once are served a moment later."""
    rpm = 30
    with told(tmp_path, {"refill": "continuous", "rpm": rpm}, wait_s=10) as story:
        answers = story.offer(ACCOUNTS * rpm + ACCOUNTS)
        assert Counter(one.status for one in answers) == {200: ACCOUNTS * (rpm + 1)}
        assert story.upstream["200"] == ACCOUNTS * (rpm + 1)
        # the provider's bucket begins to fill when a request arrives, ours when it is sent: a busy machine delays that
        assert story.upstream.get("429", 0) <= UPSTREAM_429_MAX
