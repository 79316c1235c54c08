"""Every object of the management API says in one way where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run_cli
from tests.support.config_files import ADMIN, Configured, configured
from tests.support.sim import Sim

TEXT = """\
include: more.yaml
server: {admin_key: "${ADMIN_KEY}"}
providers:
  openai: {base_url: "${SIM_URL}"}
  acme: {base_url: "http://127.0.0.1:9/v1"}
keys:
  first: {provider: openai, secret: "${SIM_KEY_1}"}
budgets:
  daily: {limit: 5}
deployments:
  fast: {targets: [openai/gpt-4o-mini]}
aliases: {quick: fast}
policies:
  no-four: {blocked_models: [gpt-4]}
prices:
  openai/gpt-4o-mini: {unit: per_1m, input: 1, output: 2}
virtual_keys:
  client: {secret: sk-client-of-the-tests-04}
webhook: {url: "http://127.0.0.1:9/hook", secret: "${HOOK_SECRET}"}
"""
MORE = """\

teams:
  research: {budget: {limit: 300}, policy: {allowed_models: [gpt-4o*]}}
"""
API = {"source": "api", "at": ""}


def at(line: int, file: str = "apikeyrouter.yaml") -> dict[str, str]:
    return {"source": "file", "at": f"{file}:{line}"}


@pytest.fixture(scope="module")
def running(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    folder = tmp_path_factory.mktemp("defined")
    (folder / "more.yaml").write_text(MORE)
    env = {
        "OPENAI_API_KEY": sim_server.keys[1],
        "GROQ_API_KEY": "gsk-of-the-tests-" + "0" * 20,
        "APIKEYROUTER_DEPLOYMENTS": json.dumps([{"name": "slow", "targets": ["openai/gpt-4o"]}]),
        "APIKEYROUTER_POLICIES": json.dumps([{"id": "of-env", "blocked_models": ["o1"]}]),
        "APIKEYROUTER_PRICES": json.dumps(
            [{"provider": "openai", "model": "gpt-4o", "unit": "per_1m", "input": "1", "output": "2"}]
        ),
        "HOOK_SECRET": "whsec_" + "QUJD" * 10,
    }
    with configured(sim_server, folder, TEXT, env) as proxy:
        made = [
            ("POST", "/api/v1/keys", {"key_material": sim_server.keys[2], "label": "by-api"}),
            ("POST", "/api/v1/budgets", {"limit": "7", "name": "by-api"}),
            ("POST", "/api/v1/virtual-keys", {"name": "by-api"}),
            ("POST", "/api/v1/providers", {"id": "by-api", "base_url": "http://127.0.0.1:9/v1"}),
            ("PUT", "/api/v1/deployments/by-api", {"targets": ["openai/gpt-4o"]}),
            ("PUT", "/api/v1/policies/by-api", {"blocked_models": ["o3"]}),
            ("PUT", "/api/v1/prices/openai/o3", {"unit": "per_1m", "input": "1", "output": "2"}),
        ]
        for method, path, body in made:
            status, told = proxy.ask(method, path, body)
            assert status in (200, 201), told
            assert told["defined"] == API, path
        yield proxy


def defined(running: Configured, kind: str) -> dict[str, Any]:
    return {name: row["defined"] for name, row in running.rows(kind).items()}


def test_keys(running: Configured) -> None:
    assert defined(running, "keys") == {
        "first": at(7),
        "openai-1": {"source": "environment", "at": "OPENAI_API_KEY"},
        "groq-1": {"source": "environment", "at": "GROQ_API_KEY"},
        "by-api": API,
    }
    one = running.rows("keys")["first"]
    assert running.ask("GET", f"/api/v1/keys/{one['id']}")[1]["defined"] == at(7)


def test_budgets_and_virtual_keys(running: Configured) -> None:
    assert defined(running, "budgets") == {"daily": at(9), "team-research": at(3, "more.yaml"), "by-api": API}
    assert defined(running, "virtual-keys") == {"client": at(18), "by-api": API}
    budget = running.rows("budgets")["daily"]["id"]
    assert running.ask("GET", f"/api/v1/budgets/{budget}")[1]["defined"] == at(9)


def test_deployments_policies_and_prices(running: Configured) -> None:
    assert defined(running, "deployments") == {
        "fast": at(11),
        "quick": at(12),
        "slow": {"source": "environment", "at": "APIKEYROUTER_DEPLOYMENTS"},
        "by-api": API,
    }
    assert defined(running, "policies") == {
        "no-four": at(14),
        "team-research": at(3, "more.yaml"),
        "of-env": {"source": "environment", "at": "APIKEYROUTER_POLICIES"},
        "by-api": API,
    }
    prices = {row["model"]: row["defined"] for row in running.ask("GET", "/api/v1/prices/overrides")[1]["data"]}
    assert prices == {
        "gpt-4o-mini": at(16),
        "gpt-4o": {"source": "environment", "at": "APIKEYROUTER_PRICES"},
        "o3": API,
    }
    assert running.ask("GET", "/api/v1/prices/openai/gpt-4o-mini")[1]["defined"] == at(16)
    assert running.ask("GET", "/api/v1/prices/openai/gpt-4.1")[1]["defined"] == {"source": "built-in", "at": ""}


def test_providers_and_the_webhook(running: Configured) -> None:
    told = defined(running, "providers")
    assert told["openai"] == at(4)
    assert told["acme"] == at(5)
    assert told["groq"]["source"] == "environment"
    assert told["by-api"] == API
    assert running.ask("GET", "/api/v1/webhooks")[1]["defined"] == at(19)


def test_what_a_reload_adds_comes_from_the_file(running: Configured) -> None:
    running.write(TEXT.replace("  acme: {", "  late: {base_url: 'http://127.0.0.1:9/v2'}\n  acme: {"))
    assert running.reload()[0] == 200
    try:
        told = running.rows("providers")
        assert (told["late"]["source"], told["late"]["defined"]) == ("configured", at(5))
        assert told["acme"]["defined"] == at(6)
    finally:
        running.write(TEXT)
        assert running.reload()[0] == 200


@pytest.mark.parametrize(
    ("kind", "place"),
    [("keys", 7), ("budgets", 9), ("virtual-keys", 18), ("deployments", 11), ("policies", 14), ("providers", 5)],
)
def test_the_command_line_shows_it(running: Configured, kind: str, place: int, tmp_path: Path) -> None:
    env = {"APIKEYROUTER_URL": running.proxy.origin, "APIKEYROUTER_ADMIN_KEY": ADMIN}
    told = run_cli(kind, "list", folder=tmp_path, env=env).out
    assert f"apikeyrouter.yaml:{place}" in told
    assert "api" in told
