"""`apikeyrouter quota`: the table at a running proxy and on a store, for people with and without colours."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.support.command import Ran, clean_environ, run_cli
from tests.support.processes import free_port
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
KEYS = ("sk-cli-quota-a", "sk-cli-quota-b")
WITHIN_S = 30.0


@pytest.fixture
def limited(sim: Sim) -> Sim:
    """Two accounts, of 60 requests a minute and of no limit at all."""
    for key, limits in zip(KEYS, ({"rpm": 60, "tpm": 100_000}, "none"), strict=True):
        sim.add_account(f"account of {key}", key, limits=limits)
    return sim


def quota(served: Served, folder: Path, *arguments: str, status: int = 0, env: dict[str, str] | None = None) -> Ran:
    given = {"APIKEYROUTER_URL": served.origin, **(env or {})}
    return run_cli("quota", *arguments, folder=folder, env=given, status=status)


def row(ran: Ran, *words: str) -> str:
    (found,) = [line for line in ran.out.splitlines() if all(word in line for word in words)]
    return found


def test_the_table_tells_limits_what_is_left_and_what_nobody_told(limited: Sim, tmp_path: Path) -> None:
    with run_proxy(limited.base_url, KEYS) as (served, _):
        before = quota(served, tmp_path)
        assert "no limit known" in row(before, "openai/openai-1")
        assert "No limit is known of openai/openai-1, openai/openai-2" in before.err
        assert "rpm, tpm, rpd, tpd, or tier" in before.err
        for _ in range(4):
            assert served.post("/v1/chat/completions", CHAT).status == 200
        after = quota(served, tmp_path)
        requests = row(after, "requests per minute, gpt-4o-mini")
        for text in ("openai/openai-1", "header, ", " ago", "abundant", "lasts"):
            assert text in requests
        left = re.search(r" ([\d.]+) % .* (58|59|60) of 60 ", requests)  # one comes back each second
        assert left is not None
        assert float(left[1]) == pytest.approx(int(left[2]) / 0.6, abs=0.05)
        assert "100,000 of 100,000" in row(after, "tokens per minute, gpt-4o-mini")
        assert "2 requests in the last minute" in row(after, "openai/openai-2")
        assert "No limit is known of openai/openai-2:" in after.err
        assert "\x1b" not in after.out
        plain = quota(served, tmp_path, env={"PYTHONIOENCODING": "ascii"})
        assert re.search(r" ########## +\d+\.\d %", row(plain, "requests per minute, gpt-4o-mini"))


def test_a_part_of_the_pools_can_be_asked_for(limited: Sim, tmp_path: Path) -> None:
    with run_proxy(limited.base_url, KEYS) as (served, _):
        for _ in range(2):
            served.post("/v1/chat/completions", CHAT)
        one = quota(served, tmp_path, "--key", "openai-1", "--provider", "openai", "--json").json
        assert [pool["key_labels"] for pool in one] == [["openai-1"]]
        assert "58 of 60" not in quota(served, tmp_path, "--key", "openai-1", "--model", "gpt-4o").out
        urgent = quota(served, tmp_path, "--most", "1")
        assert "1 more pools are less urgent" in urgent.err
        assert "openai-1" in urgent.out
        assert "No key has this label" in quota(served, tmp_path, "--key", "nobody", status=1).err
        assert "No provider is called 'nobody'" in quota(served, tmp_path, "--provider", "nobody", status=1).err
        assert "--watch or --json" in quota(served, tmp_path, "--watch", "--json", status=2).err


def test_limits_of_operators_pools_and_bursts_are_named(limited: Sim, tmp_path: Path) -> None:
    with run_proxy(limited.base_url, KEYS) as (served, proxy):
        for label in ("left", "right"):
            body = {"key_material": f"sk-cli-quota-{label}", "provider_id": "openai", "label": label}
            served.post("/api/v1/keys", {**body, "metadata": {"quota_pool": "acme", "rpm": 40, "concurrency": 5}})
        served.post("/v1/chat/completions", CHAT)
        told = quota(served, tmp_path)
        shared = row(told, "openai/acme")
        assert "left, right" in shared
        for text in ("40 of 40", "configured", "not in use", "abundant"):
            assert text in shared
        assert "5 of 5" in row(told, "requests under way")
        # what is learned over minutes of traffic, put in by hand
        pools = {pool.pool_id: pool for pool in proxy.router.pools.all()}
        first, second = (pool for pool in pools.values() if pool.pool_id != "openai/acme")
        first.suspected_same.add(second.pool_id)
        second.suspected_same.add(first.pool_id)
        (view,) = [view for pool in pools.values() for view in pool.views.values() if view.own]
        view.learner.recall(5.0, {}, view.own, proxy.router.now_s())
        view.rebuild()
        hints = quota(served, tmp_path)
        assert hints.err.count("seem to be one account") == 1
        assert "seems to count over 5 s" in hints.err
        assert "learned" in row(hints, "requests per 5 s, gpt-4o-mini")


def test_watch_shows_it_again_until_it_is_stopped(limited: Sim, tmp_path: Path) -> None:
    with run_proxy(limited.base_url, KEYS) as (served, _):
        process = subprocess.Popen(
            [sys.executable, "-m", "apikeyrouter_proxy.cli", "quota", "--watch", "--every", "0.2"],
            cwd=tmp_path,
            env=clean_environ(tmp_path, {"APIKEYROUTER_URL": served.origin}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            pictures = [line for line in islice(iter(process.stdout.readline, ""), 12) if line.startswith("Quota at ")]
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=WITHIN_S)
    assert len(pictures) >= 2
    assert "every 0.2 s" in pictures[0]
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_what_was_known_is_shown_without_a_proxy_and_after_a_restart(limited: Sim, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'state.db'}"
    with run_proxy(limited.base_url, KEYS, store_url=store) as (served, _):
        for _ in range(10):
            served.post("/v1/chat/completions", CHAT)
    here = {"PROXY_PORT": str(free_port()), "OPENAI_BASE_URL": limited.base_url}
    offline = run_cli("quota", "--store", store, folder=tmp_path, env=here)
    assert "of 60" in row(offline, "openai-1", "requests per minute, gpt-4o-mini")
    assert "not in use" in row(offline, "openai-1", "requests per minute, gpt-4o-mini")
    with run_proxy(limited.base_url, KEYS, store_url=store) as (served, _):
        again = quota(served, tmp_path)
        assert "of 60" in row(again, "openai-1", "requests per minute, gpt-4o-mini")
        assert "header, " in row(again, "openai-1", "requests per minute, gpt-4o-mini")
        # the provider's next word wins
        served.post("/v1/chat/completions", CHAT)
        served.post("/v1/chat/completions", CHAT)
        assert "of 60" in row(quota(served, tmp_path), "openai-1", "requests per minute, gpt-4o-mini")


def test_a_store_without_keys_says_what_to_do(sim: Sim, tmp_path: Path) -> None:
    here = {"PROXY_PORT": str(free_port()), "OPENAI_BASE_URL": sim.base_url}
    ran = run_cli(
        "quota", "--provider", "openai", "--store", f"sqlite:///{tmp_path / 'new.db'}", folder=tmp_path, env=here
    )
    assert "no key is registered" in ran.out
