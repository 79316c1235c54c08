"""`doctor`: each thing that may be wrong is found, named, and answered with what to do."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ran, other_program, run_cli
from tests.support.processes import ProxyProcess, free_port, proxy_process
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


# -- the troubleshooting lists of two projects that used LiteLLM, as this doctor answers them --------------------------

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def provider_of_another_time(ahead: timedelta) -> Iterator[str]:
    """A provider whose clock is not ours; its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"object": "list", "data": []}')

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join(5)


def test_connection_refused_names_the_command_that_starts_the_proxy(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = run_cli("doctor", "--json", folder=tmp_path, env={"APIKEYROUTER_URL": url}, status=1)
    assert the(ran, "Proxy")["meaning"] == f"Nothing listens at {url}."
    assert "apikeyrouter serve" in the(ran, "Proxy")["advice"]
    assert "APIKEYROUTER_URL" in the(ran, "Proxy")["advice"]


def test_401_is_told_for_the_callers_key_and_for_the_admin_key(sim: Sim, tmp_path: Path) -> None:
    admin = "admin-" + "k" * 20
    (tmp_path / "proxy").mkdir()
    settings = {"APIKEYROUTER_ADMIN_KEY": admin, "APIKEYROUTER_REQUIRE_AUTH": "true"}
    with proxy_process(sim, tmp_path / "proxy", env=settings) as proxy:
        env = {"PROXY_PORT": str(proxy.port), "APIKEYROUTER_ADMIN_KEY": admin}
        wrong = run_cli("doctor", "--json", folder=tmp_path, env={**env, "APIKEYROUTER_KEY": sim.keys[0]}, status=1)
        right = run_cli("doctor", "--json", folder=tmp_path, env={**env, "APIKEYROUTER_KEY": admin})
        other = {**env, "APIKEYROUTER_ADMIN_KEY": "admin-" + "x" * 20}
        locked_out = run_cli("doctor", "--json", folder=tmp_path, env=other, status=1)
    assert "does not know the key in APIKEYROUTER_KEY (401)" in the(wrong, "Client key")["meaning"]
    assert "virtual-keys create" in the(wrong, "Client key")["advice"]
    assert sim.keys[0] not in wrong.all
    assert the(right, "Client key")["level"] == "ok"
    assert "APIKEYROUTER_ADMIN_KEY" in the(locked_out, "Providers")["meaning"]


def test_a_model_with_a_providers_prefix_is_found_and_a_wrong_name_gets_the_right_ones(
    proxy_server: ProxyProcess, tmp_path: Path
) -> None:
    env = {"PROXY_PORT": str(proxy_server.port)}
    found = run_cli("doctor", "--json", "--model", "openai/gpt-4o-mini", folder=tmp_path, env=env, status=None)
    assert the(found, "Model")["level"] == "ok"
    missing = run_cli("doctor", "--json", "--model", "gpt-5-turbo-xyz", folder=tmp_path, env=env, status=1)
    assert the(missing, "Model")["level"] == "fail"
    assert the(missing, "Model")["advice"].startswith(("Did you mean", "There are:"))


def test_429_and_other_endings_of_the_last_hour_are_told_with_their_fix(
    fresh: ProxyProcess, sim: Sim, tmp_path: Path
) -> None:
    env = {"PROXY_PORT": str(fresh.port)}
    assert fresh.post("/v1/chat/completions", CHAT)[0] == 200
    well = run_cli("doctor", "--json", folder=tmp_path, env=env)
    assert the(well, "Requests")["meaning"] == "all 1 of the last hour ended well"
    sim.fault(None, "rate_limited", retry_after_s=600)
    answers = [fresh.post("/v1/chat/completions", CHAT, {"x-akr-timeout": "1"}) for _ in range(2)]
    assert {status for status, _ in answers} == {429}, answers
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=None)
    (told,) = findings(ran, "Requests")
    assert told["level"] == "warn"
    assert told["meaning"].startswith("2 of 3 in the last hour ended with rate_limit")
    assert "apikeyrouter quota" in told["advice"]
    shown = told["advice"].rpartition("`apikeyrouter decisions show ")[2].removesuffix("`.")
    assert "Traceback" not in run_cli("decisions", "show", shown, folder=tmp_path, env=env).all


def test_a_provider_that_never_answers_is_told_and_a_short_timeout_is_suspected(
    env: dict[str, str], tmp_path: Path
) -> None:
    with silent_server() as port:
        env |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "REQUEST_TIMEOUT": "2"}
        ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    silent = the(ran, "Provider openai")
    assert "takes connections, and answers nothing" in silent["meaning"]
    assert "raise REQUEST_TIMEOUT" in silent["advice"]
    short = [one for one in findings(ran, "Settings") if one["level"] == "warn"]
    assert "REQUEST_TIMEOUT is 2 s" in short[0]["meaning"]


def test_a_base_url_that_is_the_proxy_itself_is_found(env: dict[str, str], tmp_path: Path) -> None:
    env["OPENAI_BASE_URL"] = f"http://localhost:{env['PROXY_PORT']}/v1"
    ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=1)
    assert any("leads to this proxy itself" in one["meaning"] for one in findings(ran, "Settings"))


@pytest.mark.parametrize(
    ("ahead_s", "level", "told"),
    [(0, "ok", "agrees"), (60, "warn", "behind"), (-3600, "fail", "ahead of")],
)
def test_a_clock_that_goes_wrong_is_told(
    env: dict[str, str], tmp_path: Path, ahead_s: float, level: str, told: str
) -> None:
    with provider_of_another_time(timedelta(seconds=ahead_s)) as base_url:
        env["OPENAI_BASE_URL"] = base_url
        ran = run_cli("doctor", "--json", folder=tmp_path, env=env, status=None)
    clock = the(ran, "Clock")
    assert clock["level"] == level
    assert told in clock["meaning"]
    assert level == "ok" or "timedatectl" in clock["advice"]


def test_a_fault_in_the_configuration_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "apikeyrouter.yaml").write_text("server:\n  prot: 1\nobjective: cheap\n")
    ran = run_cli("doctor", "--json", folder=tmp_path, status=1)
    first, second = findings(ran, "Configuration")
    assert first["meaning"].startswith("apikeyrouter.yaml:2:3: server.prot: there is no such member")
    assert first["advice"].startswith("Did you mean 'port'?")
    assert "apikeyrouter.yaml:3" in second["meaning"]


def test_a_sound_file_that_was_named_is_told_too(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("objective: cost\n")
    ran = run_cli("doctor", "--json", "--config", "mine.yaml", folder=tmp_path, env=env)
    assert the(ran, "Configuration")["meaning"] == "mine.yaml has no fault"
