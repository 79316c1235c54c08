"""`doctor`: each thing that may be wrong is found, named, and answered with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ran, other_program, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.sim import Sim


@pytest.fixture
def env(sim: Sim) -> dict[str, str]:
    """No proxy runs; two keys in the environment."""
    return {
        "PROXY_PORT": str(free_port()),
        "OPENAI_BASE_URL": sim.base_url,
        "OPENAI_API_KEY": ",".join(sim.keys[:2]),
    }


def findings(ran: Ran, subject: str) -> list[dict[str, Any]]:
    return [one for one in ran.json["findings"] if one["subject"] == subject]


def the(ran: Ran, subject: str) -> dict[str, Any]:
    (found,) = findings(ran, subject)
    return found


def test_all_is_well_beside_a_running_proxy(proxy_server: ProxyProcess, sim: Sim, tmp_path: Path) -> None:
    ran = run_cli("doctor", "--model", "gpt-4o-mini", folder=tmp_path, env={"PROXY_PORT": str(proxy_server.port)})
    assert "fail" not in ran.out
    assert f"ApiKeyRouter 0.1.0 runs at {proxy_server.origin}" in ran.out
    assert "Key openai-3: works at openai" in ran.out
    assert "Model: gpt-4o-mini is to be had" in ran.out


def test_all_is_well_without_a_proxy_and_nothing_is_left_behind(env: dict[str, str], tmp_path: Path) -> None:
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env)
    assert ran.json["ok"]
    assert the(ran, "Port")["meaning"].endswith("is free; no proxy runs there")
    assert {one["subject"] for one in ran.json["findings"]} >= {"Python", "Settings", "Store", "Access", "Key openai-2"}
    assert list(tmp_path.rglob("*")) == []


def test_a_wrong_key_and_an_empty_account_are_told_apart(env: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    sim.fault(sim.keys[0], "revoked")
    sim.fault(sim.keys[1], "billing")
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    wrong, empty = the(ran, "Key openai-1"), the(ran, "Key openai-2")
    assert (wrong["level"], empty["level"]) == ("fail", "fail")
    assert "the provider refuses it" in wrong["meaning"]
    assert "keys rotate openai-1" in wrong["advice"]
    assert "no credit or quota" in empty["meaning"]
    assert all(key not in ran.all for key in sim.keys[:2])


def test_a_rate_limited_key_is_a_warning(env: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    sim.fault(sim.keys[0], "rate_limited", retry_after_s=20)
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env)
    assert the(ran, "Key openai-1")["level"] == "warn"


def test_an_unknown_model_gets_the_nearest_names(env: dict[str, str], tmp_path: Path) -> None:
    ran = run_cli("doctor", "--json", "--model", "gpt-4o-mni", folder=tmp_path, env=env, status=1)
    assert the(ran, "Model")["advice"].startswith("Did you mean gpt-4o-mini")


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("http://127.0.0.1:{closed}/v1", "refuses connections: nothing listens there"),
        ("http://nowhere.invalid/v1", "the name nowhere.invalid is not known (DNS)"),
        ("https://{sim}/v1", "(TLS)"),
    ],
    ids=["refused", "dns", "tls"],
)
def test_a_provider_that_cannot_be_reached_is_told_by_what_failed(
    env: dict[str, str], sim: Sim, tmp_path: Path, base_url: str, told: str
) -> None:
    host = sim.base_url.removeprefix("http://").removesuffix("/v1")
    env["OPENAI_BASE_URL"] = base_url.format(closed=free_port(), sim=host)
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    assert told in the(ran, "Provider openai")["meaning"]
    assert findings(ran, "Key openai-1") == []


def test_a_base_url_without_v1_is_suspected(env: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    env["OPENAI_BASE_URL"] = sim.base_url.removesuffix("/v1") + "/nothing"
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    assert the(ran, "Key openai-1")["advice"] == "Check the base URL; it mostly ends in /v1."


def test_every_fault_of_the_settings_is_a_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PROXY_PORT=eighty\nAPIKEYROUTER_STORE=mysql:x\n")
    ran = run_cli("doctor", "--json", folder=tmp_path, status=1)
    assert [one["level"] for one in findings(ran, "Settings")] == ["fail", "fail"]


def test_a_port_of_another_program_is_a_fault(env: dict[str, str], tmp_path: Path) -> None:
    with other_program() as taken:
        env["PROXY_PORT"] = str(taken)
        ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    port = the(ran, "Port")
    assert "is taken by another program" in port["meaning"]
    assert "--port" in port["advice"]


def test_a_lost_encryption_key_is_found_before_anything_is_overwritten(env: dict[str, str], tmp_path: Path) -> None:
    run_cli("keys", "list", folder=tmp_path, env=env)
    (key_file,) = tmp_path.rglob("*.sqlite.key")
    key_file.rename(tmp_path / "kept.key")
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    assert the(ran, "Encryption key")["level"] == "fail"
    assert not key_file.exists()


def test_a_proxy_that_was_named_and_does_not_run_is_a_fault(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = run_cli("doctor", "--json", "--url", url, folder=tmp_path, status=1)
    assert the(ran, "Proxy")["meaning"] == f"Nothing listens at {url}."
