"""Names that the file and the API both define: told, with what counts, before and after the file is taken in."""

from __future__ import annotations

from pathlib import Path

from tests.support.command import run_cli
from tests.support.config_files import ADMIN, configured
from tests.support.sim import Sim

EMPTY = """
server: {admin_key: "${ADMIN_KEY}"}
providers: {openai: {base_url: "${SIM_URL}"}}
"""
FULL = """
server: {admin_key: "${ADMIN_KEY}"}
providers:
  openai: {base_url: "${SIM_URL}"}
  acme: {base_url: "http://127.0.0.1:9/v1"}
keys:
  team-a: {provider: openai, secret: "${SIM_KEY_1}"}
  taken-over: {provider: openai, secret: "${SIM_KEY_2}"}
  alone: {provider: openai, secret: "${SIM_KEY_3}"}
budgets: {daily: {limit: 5}, weekly: {limit: 7, period: weekly}, alone: {limit: 7}}
virtual_keys: {client: {secret: sk-client-of-the-tests-05}}
deployments: {fast: {targets: [openai/gpt-4o-mini]}}
policies: {no-four: {blocked_models: [gpt-4]}}
prices: {openai/gpt-4o-mini: {unit: per_1m, input: 1, output: 2}}
"""
COUNTS = {
    "key 'team-a'": "both serve",
    "budget 'daily'": "the file takes it over",
    "budget 'weekly'": "both limit",
    "virtual key 'client'": "both are let in",
    "deployment 'fast'": "the file's counts",
    "policy 'no-four'": "the file's counts",
    "price 'openai/gpt-4o-mini'": "the one of the API counts",
    "provider 'acme'": "the file's counts",
}


def check_told(text: str) -> None:
    told = [line for line in text.splitlines() if "was set through the management API as well" in line]
    assert len(told) == len(COUNTS), text
    for what, wins in COUNTS.items():
        (line,) = [one for one in told if what in one]
        assert wins in line


def test_clashes_are_told_by_check_diff_and_reload(sim: Sim, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text(FULL)
    keys = {f"SIM_KEY_{number}": key for number, key in enumerate(sim.keys, start=1)}
    env = {"ADMIN_KEY": ADMIN, "SIM_URL": sim.base_url, **keys}
    made = [
        ("POST", "/api/v1/keys", {"key_material": "sim-other-key-0001", "label": "team-a"}),
        ("POST", "/api/v1/keys", {"key_material": sim.keys[1], "label": "taken-over"}),
        ("POST", "/api/v1/budgets", {"limit": "7", "name": "daily"}),
        ("POST", "/api/v1/budgets", {"limit": "7", "name": "weekly"}),
        ("POST", "/api/v1/virtual-keys", {"name": "client"}),
        ("POST", "/api/v1/providers", {"id": "acme", "base_url": "http://127.0.0.1:9/v1"}),
        ("PUT", "/api/v1/deployments/fast", {"targets": ["openai/gpt-4o"]}),
        ("PUT", "/api/v1/policies/no-four", {"blocked_models": ["o3"]}),
        ("PUT", "/api/v1/prices/openai/gpt-4o-mini", {"unit": "per_1m", "input": "1", "output": "2"}),
    ]
    store = f"sqlite:///{tmp_path}/store.sqlite"
    with configured(sim, tmp_path, EMPTY, {"APIKEYROUTER_STORE": store}) as running:
        for method, path, body in made:
            assert running.ask(method, path, body)[0] in (200, 201), path
        where = {**env, "APIKEYROUTER_URL": running.proxy.origin, "APIKEYROUTER_ADMIN_KEY": ADMIN}
        differs = run_cli("config", "diff", "wanted.yaml", folder=tmp_path, env=where, status=1)
        assert "keys.alone: added" in differs.out
        assert "as well" not in differs.out
        # Over the API no reference is followed, so whether `taken-over` has the same secret is not known there.
        told = "\n".join(line for line in differs.err.splitlines() if "taken-over" not in line)
        check_told(told)
        running.write(FULL)
        status, reloaded = running.reload()
        assert status == 200
        assert "key taken-over taken over" in reloaded["done"]
        check_told("\n".join(reloaded["notes"]))
        assert "budget weekly added" in reloaded["done"]
        assert "budget daily changed" in reloaded["done"]
        assert not [one for one in running.reload()[1]["notes"] if "'daily'" in one], "it is the file's own now"
    checked = run_cli("config", "check", "apikeyrouter.yaml", folder=tmp_path, env={**env, "APIKEYROUTER_STORE": store})
    assert "key 'team-a'" in checked.err
    assert "both serve" in checked.err
    assert "'daily'" not in checked.err


def test_a_store_that_is_not_there_is_not_made_and_none_that_is_down_stops_a_check(tmp_path: Path) -> None:
    (tmp_path / "apikeyrouter.yaml").write_text("budgets: {daily: {limit: 5}}\n")
    env = {"APIKEYROUTER_STORE": f"sqlite:///{tmp_path}/none.sqlite"}
    assert run_cli("config", "check", "--json", folder=tmp_path, env=env).json["warnings"] == []
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "broken.sqlite").write_text("this is no database, only some text that stands in its place")
    env = {"APIKEYROUTER_STORE": f"sqlite:///{tmp_path}/broken.sqlite"}
    (warning,) = run_cli("config", "check", "--json", folder=tmp_path, env=env).json["warnings"]
    assert "Whether the API has set objects of these names is not known" in warning
