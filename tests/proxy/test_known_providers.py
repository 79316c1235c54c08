"""Known providers in the proxy: by a variable alone, by a file, over the API and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.catalogue import KEYLESS
from apikeyrouter_proxy.app import create_app
from apikeyrouter_proxy.cli import main
from apikeyrouter_proxy.env_keys import read_env_keys
from apikeyrouter_proxy.settings import ProxySettings
from tests.support.server import Served, run_app
from tests.support.sim import Sim

SETTINGS = {"APIKEYROUTER_STORE": "memory:", "LOG_LEVEL": "WARNING"}
ASKED = {"messages": [{"role": "user", "content": "Hello!"}]}


def settings_of(**environ: str) -> ProxySettings:
    return ProxySettings.from_environ({**SETTINGS, **environ})


@pytest.fixture
def groq(sim: Sim) -> Iterator[Served]:
    """A proxy that knows nothing but a key and the address of Groq."""
    with run_app(create_app(settings_of(GROQ_API_KEY=sim.keys[0], GROQ_BASE_URL=sim.base_url))) as served:
        yield served


def test_a_variable_alone_registers_the_provider_and_its_key(groq: Served, sim: Sim) -> None:
    answer = groq.ask("POST", "/v1/chat/completions", {"model": "groq/gpt-4o-mini", **ASKED})
    assert answer.status == 200, answer.json
    assert sim.requests()[-1]["json"]["model"] == "gpt-4o-mini"
    listed = groq.get("/api/v1/providers").json["data"]
    assert {(row["id"], row["source"], row["keys"]) for row in listed} == {
        ("openai", "built-in", 0),
        ("groq", "configured", 1),
    }
    assert any(one["id"] == "gpt-4o-mini" for one in groq.get("/v1/models").json["data"])


def test_variables_are_read_for_every_known_provider_in_order() -> None:
    environ = {
        "GROQ_API_KEY_2": "g2", "GROQ_API_KEY": "g0, g1", "ANTHROPIC_API_KEY": "a", "OPENAI_API_KEYS": "o",
        "OLLAMA_BASE_URL": "http://127.0.0.1:11434/v1", "GITHUB_TOKEN": "not-ours", "HF_TOKEN": "not-ours",
        "UNRELATED_API_KEY": "x", "MISTRAL_API_KEY": "your-api-key-here",
    }  # fmt: skip
    keys, warnings, faults = read_env_keys(environ)
    assert [(key.provider_id, key.material.reveal()) for key in keys] == [
        ("openai", "o"), ("anthropic", "a"), ("groq", "g0"), ("groq", "g1"), ("groq", "g2"), ("ollama", KEYLESS),
    ]  # fmt: skip
    assert faults == []
    assert len(warnings) == 1
    assert warnings[0].startswith("MISTRAL_API_KEY")


def test_a_server_of_ones_own_needs_no_key_and_costs_nothing(sim: Sim) -> None:
    sim.add_account("open", "keyless")
    with run_app(create_app(settings_of(OLLAMA_BASE_URL=sim.base_url))) as served:
        (key,) = served.get("/api/v1/keys").json["data"]
        assert (key["provider_id"], key["metadata"]["cost_per_1k"]) == ("ollama", "0")
        asked = served.ask("POST", "/v1/chat/completions", {"model": "ollama/gpt-4o-mini", **ASKED})
        assert asked.status == 401 or "authorization" not in {name.lower() for name in sim.requests()[-1]["headers"]}


def test_azure_goes_first_when_its_set_is_whole_and_is_told_about_when_not() -> None:
    part = {"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://a.openai.azure.com", "OPENAI_API_KEY": "o"}
    keys, warnings, _ = read_env_keys(part)
    assert [key.provider_id for key in keys] == ["openai"]
    assert "Azure OpenAI is not used: AZURE_OPENAI_API_VERSION and AZURE_OPENAI_DEPLOYMENT" in warnings[0]
    whole = {**part, "AZURE_API_VERSION": "2024-10-21", "AZURE_DEPLOYMENT_NAME": "gpt-4o", "ANTHROPIC_API_KEY": "a"}
    keys, warnings, _ = read_env_keys(whole)
    assert [key.provider_id for key in keys] == ["azure", "openai", "anthropic"]
    assert warnings == []
    assert [one.id for one in settings_of(**whole).providers] == ["azure", "anthropic"]


def test_a_key_whose_address_lacks_a_variable_is_a_fault_that_names_it() -> None:
    with pytest.raises(
        ConfigurationError, match="CLOUDFLARE_AI_API_KEY: provider 'cloudflare': set CLOUDFLARE_ACCOUNT"
    ):
        settings_of(CLOUDFLARE_AI_API_KEY="k")


def test_a_secret_may_stand_in_a_file_for_any_known_provider(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("g-from-file\n")
    (key,) = settings_of(GROQ_API_KEY_FILE=str(tmp_path / "key")).env_keys
    assert key.material.reveal() == "g-from-file"


def test_a_provider_of_your_own_is_five_lines_of_a_file(sim: Sim, tmp_path: Path) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(
        f'[providers.acme]\nbase_url = "{sim.base_url}"\nenv = ["ACME_API_KEY"]\nquirks = ["no_stream_options"]\n'
    )
    found = settings_of(APIKEYROUTER_PROVIDERS_FILE=str(file), ACME_API_KEY=sim.keys[0])
    with run_app(create_app(found)) as served:
        streamed = served.ask("POST", "/v1/chat/completions", {"model": "acme/gpt-4o-mini", "stream": True, **ASKED})
        assert streamed.status == 200
        assert b"[DONE]" in streamed.body
        assert "stream_options" not in sim.requests()[-1]["json"]
        (request,) = served.get("/api/v1/decisions").json["data"]
        assert request["model"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[providers.acme]\n", "base_url"),
        ('[providers.acme]\nbase_url = "https://a.example"\nqirks = []\n', "qirks"),
        ('[providers.acme]\nlike = "groqq"\n', "Did you mean groq"),
        ('[providers.acme]\nkind = "odd"\n', "kind"),
        ('[providers.acme]\nkind = "http"\nbase_url = "https://a.example"\nkey = "query:k"\n', "query_is_fine"),
        ("providers = 3\n", "expected tables"),
        ("[[[", "neither TOML nor JSON"),
    ],
)
def test_faults_of_the_file_are_told_with_the_provider(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        settings_of(APIKEYROUTER_PROVIDERS_FILE=str(tmp_path / "p.toml"))
    with pytest.raises(ConfigurationError, match="cannot read"):
        settings_of(APIKEYROUTER_PROVIDERS_FILE=str(tmp_path / "none.toml"))


def test_a_json_file_may_hold_a_list_and_other_apis(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "eu", "like": "mistral", "base_url": "https://eu.example/v1", "env": ["EU_KEY"]},
        {"id": "search", "kind": "http", "base_url": "https://s.example", "key": "header:X-Key", "env": ["S_API_KEY"]},
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    found = settings_of(APIKEYROUTER_PROVIDERS_FILE=str(tmp_path / "p.json"), S_API_KEY="s", EU_KEY="e")
    assert [one.id for one in found.providers] == ["eu", "search"]
    assert {key.provider_id for key in found.env_keys} == {"eu", "search"}


def test_a_known_provider_is_added_over_the_api_by_its_name(groq: Served) -> None:
    made = groq.ask("POST", "/api/v1/providers", {"id": "mistral", "known": "mistral"})
    assert made.status == 201, made.json
    assert (made.json["base_url"], made.json["dialect"]) == ("https://api.mistral.ai/v1", "mistral")
    unknown = groq.ask("POST", "/api/v1/providers", {"id": "x", "known": "mistrall"})
    assert unknown.status == 400
    assert "Did you mean mistral" in unknown.json["error"]["message"]
    nothing = groq.ask("POST", "/api/v1/providers", {"id": "x"})
    assert nothing.status == 400
    assert "base_url" in nothing.json["error"]["message"]


def test_the_command_line_lists_shows_and_adds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = ["--store", f"sqlite:///{tmp_path}/s.db"]
    assert main(["providers", "list", "--known"]) == 0
    assert "https://api.groq.com/openai/v1" in capsys.readouterr().out
    assert main(["providers", "show", "x-ai"]) == 0
    assert "XAI_API_KEY" in capsys.readouterr().out
    assert main(["providers", "show", "groqq"]) == 1
    assert "Did you mean groq" in capsys.readouterr().err
    assert main(["providers", "add", "together_ai", *store]) == 0
    assert "Added provider together at https://api.together.xyz/v1" in capsys.readouterr().out
    assert main(["providers", "add", "acme", "--base-url", "http://127.0.0.1:9/v1", *store]) == 0
    capsys.readouterr()
    assert main(["providers", "list", *store, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["id"] for row in rows} >= {"openai", "together", "acme"}
    assert main(["providers", "remove", "acme", *store]) == 0


def test_the_command_line_tells_what_is_known_about_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "openai/gpt-4o"]) == 0
    assert "128,000 tokens" in capsys.readouterr().out
    assert main(["models", "gpt4o"]) == 1
    assert "Did you mean gpt-4o" in capsys.readouterr().err
    assert main(["models", "--provider", "groq", "--json"]) == 0
    assert "openai/gpt-oss-120b" in json.loads(capsys.readouterr().out)
    assert main(["models", "--contains", "zzzz"]) == 1
