"""What dashboards and alerts ask for is there: a real Prometheus scrapes a running proxy and answers every query."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.keys.secret import Secret
from tests.support.processes import free_port
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
ADMIN_KEY = "admin-" + "k" * 20
AUTH = {"authorization": f"Bearer {ADMIN_KEY}"}
NAME = re.compile(r"\bapikeyrouter_[a-z_]+")
SERVES_WITHIN_S, SCRAPED_WITHIN_S = 20.0, 30.0

RARE = {"apikeyrouter_quota_alerts_total"}
"""Counters of what this test does not bring about: known to the proxy, without a series until it happens."""


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed; scripts/install dev does that"
    return found


def queries() -> dict[str, list[str]]:
    """Every expression of every panel and alert, by where it is; Grafana's own variables as Grafana would set them."""
    found = {}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            found[f"{path.stem}: {panel['title']}"] = [
                target["expr"].replace("$__rate_interval", "30s").replace("$__range", "1h")
                for target in panel["targets"]
            ]
    text = ALERTS.read_text()
    names = re.findall(r"alert: (\w+)", text)
    expressions = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", text)
    assert len(names) == len(expressions)
    for name, (block, line) in zip(names, expressions, strict=True):
        found[f"alert: {name}"] = [block or line]
    return found


def families(exposition: str) -> set[str]:
    """Every sample name that the proxy may emit."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE):
        names |= {f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


@contextmanager
def prometheus(target: int, folder: Path) -> Iterator[int]:
    """A Prometheus that scrapes the proxy as deploy/prometheus/prometheus.yml says, only sooner; its port."""
    secret = folder / "admin_key"
    secret.write_text(ADMIN_KEY)
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("15s", "1s").replace("proxy:8000", f"127.0.0.1:{target}")
    config = config.replace("/run/secrets/apikeyrouter_admin_key", str(secret))
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(ALERTS, folder)
    port = free_port()
    process = subprocess.Popen(
        [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ready = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            if "Server is ready" in line:
                ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(SERVES_WITHIN_S), "Prometheus did not start"
        yield port
    finally:
        process.terminate()
        process.wait(10)
        reader.join(5)
        if process.stderr:
            process.stderr.close()


def ask(port: int, expression: str) -> list[dict[str, Any]]:
    answer = Served(port).get("/api/v1/query?" + urllib.parse.urlencode({"query": expression})).json
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


@pytest.fixture(scope="module")
def busy(sim_server: Sim) -> Iterator[Served]:
    """A proxy to which all that the panels count has happened."""
    with run_proxy(sim_server.base_url, sim_server.keys, admin_key=Secret(ADMIN_KEY)) as (served, _):
        traffic(served, sim_server)
        yield served


def traffic(served: Served, sim: Sim) -> None:
    def chat(model: str = "gpt-4o-mini") -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
        return served.post("/v1/chat/completions", body, AUTH).status

    sim.fault(sim.keys[0], "server_error", status=500)
    assert [chat() for _ in range(9)] == [200] * 9
    assert chat("no-such-model") >= 400
    sim.fault(None, "server_error", status=500)
    assert all(chat("gpt-4o") >= 500 for _ in range(8))  # its breaker opens, and stays so while nobody asks for it
    sim.clear_faults()
    budget = {"name": "small", "scope": "global", "limit": "0.0000001", "period": "daily", "enforcement_mode": "soft"}
    assert served.post("/api/v1/budgets", budget, AUTH).status == 201
    chat()
    hard = {"name": "none", "scope": "global", "limit": "0.0000001", "period": "daily", "enforcement_mode": "hard"}
    assert served.post("/api/v1/budgets", hard, AUTH).status == 201
    assert chat() == 402


def test_the_rules_are_sound_and_behave_as_their_tests_say() -> None:
    for arguments in (
        ["check", "rules", str(ALERTS)],
        ["test", "rules", str(DEPLOY / "prometheus" / "alerts_test.yml")],
        ["check", "config", "--syntax-only", str(DEPLOY / "prometheus" / "prometheus.yml")],
    ):
        done = subprocess.run(
            [program("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_asked_for_is_one_of_ours(busy: Served) -> None:
    told = busy.get("/metrics", AUTH).body.decode()
    assert 'apikeyrouter_breaker_open{model="gpt-4o",provider="openai"} 1.0' in told
    known = families(told)
    for place, expressions in queries().items():
        for expression in expressions:
            unknown = set(NAME.findall(expression)) - known
            assert not unknown, (place, unknown)


def test_every_query_of_dashboards_and_alerts_has_an_answer(busy: Served, tmp_path: Path) -> None:
    with prometheus(busy.port, tmp_path) as port:
        scraped = threading.Event()
        for _ in range(int(SCRAPED_WITHIN_S * 4)):
            if [one for one in ask(port, 'count_over_time(up{job="apikeyrouter"}[1m])') if float(one["value"][1]) >= 3]:
                break
            scraped.wait(0.25)
        assert ask(port, 'up{job="apikeyrouter"} == 1'), "the proxy is not scraped"
        silent = [
            place
            for place, expressions in queries().items()
            if not place.startswith("alert: ")
            and not any(ask(port, one) for one in expressions)
            and not all(name in RARE for one in expressions for name in NAME.findall(one))
        ]
        assert not silent
        for place, expressions in queries().items():
            if place.startswith("alert: "):
                ask(port, expressions[0])
        firing = {one["metric"]["alertname"] for one in ask(port, "ALERTS")}
        assert "ApiKeyRouterDown" not in firing
        assert "ApiKeyRouterBudgetNearlySpent" in firing
