"""Another product's configuration, pasted: what comes back, and that no secret and nothing of this machine does."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run_cli
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

IMPORT = "/api/v1/config/import"
ADMIN = "admin-" + "i" * 20
AS_ADMIN = {"x-api-key": ADMIN}
CANARY = "sk-" + "canary" * 6
OF_THIS_MACHINE = "of-this-machine-" + secrets.token_hex(8)

LITELLM = """
model_list:
  - model_name: fast
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/OPENAI_KEY_A
      rpm: 60
  - model_name: fast
    litellm_params: {model: azure/gpt-4o-mini, api_base: https://acme.openai.azure.com, api_key: %s}
  - model_name: local
    litellm_params: {model: openai/llama, api_base: "https://joe:%s@llm.example.com/v1"}
router_settings:
  routing_strategy: cost-based-routing
  redis_password: %s
general_settings:
  master_key: %s
  database_url: postgresql://joe:%s@db/litellm
"""
DOTENV = """
OPENAI_API_KEY_1=%s
OPENAI_API_KEY_2="%s2"
ACME_API_BASE=https://acme.example.com/v1
ACME_API_KEY=%s
PROXY_API_KEY=%s
ENABLE_REQUEST_LOGGING=true
"""
SCRIPT = """
module.exports = {
  port: 9000,
  keys: [
    { key: "%s", provider: "openai" },
    { key: process.env.SECOND_KEY, provider: "anthropic" },
  ],
  routing: "round-robin",
};
"""


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture(scope="module")
def proxy(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN, "OPENAI_KEY_A": OF_THIS_MACHINE}
    with proxy_process(sim, tmp_path_factory.mktemp("import"), env=env) as proxy:
        yield proxy


def told_of(proxy: ProxyProcess, text: str, **more: Any) -> dict[str, Any]:
    status, told, _ = proxy.ask("POST", IMPORT, {"text": text, **more}, AS_ADMIN)
    assert status == 200, told
    assert CANARY not in json.dumps(told), "a secret of the text came back"
    assert OF_THIS_MACHINE not in json.dumps(told), "a variable of this machine was told"
    found: dict[str, Any] = told
    return found


def usable(text: str, folder: Path, variables: list[dict[str, Any]]) -> None:
    """`config check` takes the document when its variables are set."""
    (folder / "apikeyrouter.yaml").write_text(text)
    env = {one["name"]: f"value-{secrets.token_hex(16)}" for one in variables}
    run_cli("config", "check", "apikeyrouter.yaml", folder=folder, env=env)


def test_a_litellm_file_becomes_ours_and_what_is_left_out_is_named(proxy: ProxyProcess, tmp_path: Path) -> None:
    told = told_of(proxy, LITELLM % ((CANARY,) * 5))
    assert (told["ok"], told["kind"], told["faults"]) == (True, "litellm", [])
    assert told["counts"]["keys"] == 3
    assert told["counts"]["deployments"] == 2
    assert "${OPENAI_KEY_A}" in told["text"]
    assert "objective: cost" in told["text"]
    unmapped = "\n".join(told["unmapped"])
    assert "database_url" in unmapped
    assert "redis_password" in unmapped
    assert "config.yaml:" in unmapped, "each line says where"
    named = {one["name"]: one for one in told["variables"]}
    assert named["OPENAI_KEY_A"]["replaced"] is False
    assert named["APIKEYROUTER_ADMIN_KEY"]["replaced"] is True
    assert sum(one["replaced"] for one in told["variables"]) == 2, "the azure key and the master key"
    assert "https://llm.example.com/v1" in told["text"]
    assert "before the @" in unmapped
    usable(told["text"], tmp_path, told["variables"])


def test_an_env_file_of_the_key_proxy_becomes_ours(proxy: ProxyProcess, tmp_path: Path) -> None:
    told = told_of(proxy, DOTENV % ((CANARY,) * 4))
    assert (told["ok"], told["kind"]) == (True, "llm-api-key-proxy")
    assert told["counts"] == {"providers": 1, "keys": 3}
    assert {"OPENAI_API_KEY_1", "OPENAI_API_KEY_2", "ACME_API_KEY"} <= {one["name"] for one in told["variables"]}
    assert any("ENABLE_REQUEST_LOGGING" in line for line in told["unmapped"])
    usable(told["text"], tmp_path, told["variables"])


def test_a_script_is_read_and_never_run(proxy: ProxyProcess, tmp_path: Path) -> None:
    told = told_of(proxy, SCRIPT % CANARY)
    assert (told["ok"], told["kind"], told["counts"]) == (True, "llm-api-key-proxy-js", {"keys": 2})
    assert "${SECOND_KEY}" in told["text"]
    usable(told["text"], tmp_path, told["variables"])


@pytest.mark.parametrize("hidden", ["x${%s}", "${PATH:-%s}", "$${%s", "%s"])
def test_a_secret_that_looks_like_a_reference_does_not_come_back(proxy: ProxyProcess, hidden: str) -> None:
    text = json.dumps({"model_list": [
        {"model_name": "a", "litellm_params": {"model": "openai/gpt-4o", "api_key": hidden % CANARY}}
    ]})  # fmt: skip
    assert "keys:" in told_of(proxy, text, kind="litellm")["text"]


@pytest.mark.parametrize(
    "reference", ["os.environ/OPENAI_KEY_A", "${OPENAI_KEY_A}", "${file:/etc/hostname}", "!include /etc/hosts"]
)
def test_references_are_not_followed(proxy: ProxyProcess, reference: str) -> None:
    host = Path("/etc/hostname").read_text().strip()
    text = f"model_list:\n  - model_name: a\n    litellm_params:\n      model: openai/x\n      api_base: {reference}\n"
    status, told, _ = proxy.ask("POST", IMPORT, {"text": text + "include: [/etc/passwd]\n"}, AS_ADMIN)
    assert status == 200
    assert OF_THIS_MACHINE not in json.dumps(told)
    assert f"base_url: {host}" not in told["text"]
    assert "root:" not in json.dumps(told)


_ROW = "model_list:\n  - model_name: a\n    litellm_params: {model: openai/gpt-4o, %s}\n"


@pytest.mark.parametrize(
    "text",
    [
        _ROW % 'api_base: "https://llm.example.com/v1?key=%s"',
        _ROW % "rpm: %s",
        _ROW % "litellm_credential_name: %s",
        _ROW % "%s: 1",
        (_ROW % "rpm: 1") + "router_settings: {routing_strategy: %s}\n",
        (_ROW % "rpm: 1") + "general_settings: {%s: 1, budget_duration: %s, max_budget: 1}\n",
        "OPENAI_API_BASE=https://llm.example.com/v1?api_key=%s\nOPENAI_API_KEY_1=a\n",
        "OPENAI_API_KEY_1=-----BEGIN\n%s==\nPORT=%s\n",
        'module.exports = {keys: [{key: "a", provider: "%s"}]}',
    ],
)
def test_a_secret_in_a_place_for_something_else_does_not_come_back(proxy: ProxyProcess, text: str) -> None:
    told_of(proxy, text.replace("%s", CANARY))


def test_a_line_of_an_env_file_that_is_no_assignment_of_a_variable_is_not_repeated(proxy: ProxyProcess) -> None:
    told = told_of(proxy, "OPENAI_API_KEY_1=abcdefgh\nMIIEvgIBADANBgkqh/kiG==\n")
    assert "MIIEvg" not in json.dumps(told)
    assert any(line.startswith(".env:2: ") for line in told["unmapped"])


def test_what_leads_to_itself_or_is_no_address_is_told_and_breaks_nothing(proxy: ProxyProcess) -> None:
    told = told_of(
        proxy, _ROW % "api_key: os.environ/A" + "environment_variables: {A: os.environ/B, B: os.environ/A}\n"
    )
    assert "secret: ${A}" in told["text"]
    for address in ("http://[::1", "https://llm.example.com:port/v1"):
        assert any("no address" in line for line in told_of(proxy, _ROW % f'api_base: "{address}"')["unmapped"])


def test_a_text_that_is_broken_says_where_and_repeats_nothing(proxy: ProxyProcess) -> None:
    told = told_of(proxy, f"model_list:\n  - model_name: a\n   litellm_params: {{api_key: {CANARY}}}\n")
    assert (told["ok"], told["text"]) == (False, "")
    assert [(one["line"], one["column"]) for one in told["faults"]] == [(3, 4)]
    told = told_of(proxy, f"model_list: [*{CANARY}]\n")
    assert told["faults"][0]["line"] == 1
    assert "model_list" in told_of(proxy, "keys: {}\n", kind="litellm")["faults"][0]["message"]


def test_what_is_nothing_known_is_told_and_only_admins_may_ask(proxy: ProxyProcess) -> None:
    status, told, _ = proxy.ask("POST", IMPORT, {"text": f"hello {CANARY}"}, AS_ADMIN)
    assert (status, "model_list" in told["error"]["message"], CANARY in json.dumps(told)) == (400, True, False)
    assert proxy.ask("POST", IMPORT, {"text": ""}, AS_ADMIN)[0] == 400
    assert proxy.ask("POST", IMPORT, {"text": "x" * (1024 * 1024 + 1)}, AS_ADMIN)[0] == 400
    assert proxy.ask("POST", IMPORT, {"text": "A_API_KEY=1"})[0] == 401
    client = proxy.post("/api/v1/virtual-keys", {"name": "client"}, AS_ADMIN)[1]["key"]
    assert proxy.ask("POST", IMPORT, {"text": "A_API_KEY=1"}, {"authorization": f"Bearer {client}"})[0] == 403


def test_nothing_of_it_is_logged_or_kept(proxy: ProxyProcess) -> None:
    told_of(proxy, LITELLM % ((CANARY,) * 5))
    assert CANARY not in proxy.log
    assert CANARY not in json.dumps(proxy.get("/api/v1/events", AS_ADMIN)[1])
    for path in proxy.folder.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
