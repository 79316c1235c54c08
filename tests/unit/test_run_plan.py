"""What `apikeyrouter run` sets and takes out, for each coding agent and for other programs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from apikeyrouter_proxy.cli.agents import OPEN_KEY, Limits, Plan, Target, agent_of, plan

ORIGIN = "http://127.0.0.1:8123"
TARGET = Target(ORIGIN, "akr-key-of-a-client", "gpt-4o", ["gpt-4o", "mystery"], {"gpt-4o": Limits(128_000, 16_384)})
BARE = Target(ORIGIN, OPEN_KEY)


def options(planned: Plan) -> dict[str, Any]:
    """What Codex reads from its `-c` options: paths and TOML values."""
    words = list(planned.command[1:])
    found: dict[str, Any] = {}
    while words[:1] == ["-c"]:
        path, _, value = words[1].partition("=")
        found[path] = tomllib.loads(f"value = {value}")["value"]
        del words[:2]
    return found


def test_agents_are_known_by_name_wherever_they_are_installed() -> None:
    for program in ("claude", "/usr/bin/claude", r"C:\npm\claude.cmd", "Claude.exe"):
        assert agent_of(program) == "claude"
    assert agent_of("/opt/codex") == "codex"
    assert agent_of("opencode.ps1") == "opencode"
    for program in ("claude2", "python", "claude.py", ""):
        assert agent_of(program) == ""


def test_claude_code_gets_an_address_a_key_and_the_model_for_every_family() -> None:
    planned = plan(["claude", "-p", "Hello"], {"PATH": "/bin"}, TARGET)
    assert planned.command == ("claude", "-p", "Hello")
    assert planned.environ["PATH"] == "/bin"
    assert planned.environ["ANTHROPIC_BASE_URL"] == ORIGIN
    assert planned.environ["ANTHROPIC_AUTH_TOKEN"] == TARGET.key
    for family in ("MODEL", "DEFAULT_OPUS_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_HAIKU_MODEL"):
        assert planned.environ[f"ANTHROPIC_{family}"] == "gpt-4o"
    assert planned.environ["ANTHROPIC_CUSTOM_HEADERS"] == "x-akr-drop-params: true"


def test_claude_code_keeps_its_own_models_and_headers_when_nothing_else_is_asked_for() -> None:
    before = {"ANTHROPIC_MODEL": "opus", "ANTHROPIC_CUSTOM_HEADERS": "x-team: red\n"}
    planned = plan(["claude"], before, BARE)
    assert planned.environ["ANTHROPIC_MODEL"] == "opus"
    assert planned.environ["ANTHROPIC_CUSTOM_HEADERS"] == "x-team: red\nx-akr-drop-params: true"
    strict = plan(["claude"], before, replace(BARE, drop_params=False))
    assert strict.environ["ANTHROPIC_CUSTOM_HEADERS"] == "x-team: red\n"


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_claude_code_has_no_other_way_to_go(name: str) -> None:
    planned = plan(["claude"], {name: "1"}, BARE)
    assert name not in planned.environ
    assert planned.taken_names == (name,)


def test_claude_code_asks_a_model_for_no_more_than_it_writes() -> None:
    name = "CLAUDE_CODE_MAX_OUTPUT_TOKENS"
    assert plan(["claude"], {}, TARGET).environ[name] == "16384"
    assert plan(["claude"], {name: "9000"}, TARGET).environ[name] == "9000"
    assert name not in plan(["claude"], {}, replace(TARGET, model="mystery")).environ
    assert name not in plan(["claude"], {}, replace(TARGET, limits={"gpt-4o": Limits(400_000, 128_000)})).environ


def test_codex_gets_a_provider_on_its_command_line_and_the_key_in_a_variable() -> None:
    planned = plan(["codex", "exec", "Hello"], {}, TARGET)
    assert planned.command[-2:] == ("exec", "Hello")
    assert options(planned) == {
        "model_provider": "apikeyrouter",
        "model_providers.apikeyrouter.name": "ApiKeyRouter",
        "model_providers.apikeyrouter.base_url": f"{ORIGIN}/v1",
        "model_providers.apikeyrouter.env_key": "APIKEYROUTER_KEY",
        "model_providers.apikeyrouter.wire_api": "responses",
        "model_providers.apikeyrouter.http_headers": {"x-akr-drop-params": "true"},
        "model": "gpt-4o",
        "model_context_window": 128_000,
    }
    assert planned.options == tuple(options(planned))
    assert planned.environ["APIKEYROUTER_KEY"] == TARGET.key
    assert TARGET.key not in " ".join(planned.command)


def test_codex_keeps_its_own_model_when_none_is_asked_for() -> None:
    found = options(plan(["codex"], {}, replace(BARE, drop_params=False)))
    assert not {"model", "model_context_window", "model_providers.apikeyrouter.http_headers"} & found.keys()


def test_opencode_gets_a_configuration_with_our_models_and_their_limits() -> None:
    planned = plan(["opencode", "run"], {}, TARGET)
    told = json.loads(planned.environ["OPENCODE_CONFIG_CONTENT"])
    ours = told["provider"]["apikeyrouter"]
    assert told["enabled_providers"] == ["apikeyrouter"]
    assert told["model"] == told["small_model"] == "apikeyrouter/gpt-4o"
    assert ours["npm"] == "@ai-sdk/openai-compatible"
    assert ours["models"] == {"gpt-4o": {"limit": {"context": 128_000, "output": 16_384}}, "mystery": {}}
    assert ours["options"]["baseURL"] == f"{ORIGIN}/v1"
    assert ours["options"]["apiKey"] == "{env:APIKEYROUTER_KEY}"
    assert TARGET.key not in planned.environ["OPENCODE_CONFIG_CONTENT"]
    assert planned.environ["APIKEYROUTER_KEY"] == TARGET.key


def test_opencode_keeps_what_the_users_own_variable_says() -> None:
    own = {"theme": "dark", "provider": {"other": {"name": "Other"}}, "model": "other/big"}
    told = json.loads(
        plan(["opencode"], {"OPENCODE_CONFIG_CONTENT": json.dumps(own)}, BARE).environ["OPENCODE_CONFIG_CONTENT"]
    )
    assert (told["theme"], told["model"]) == ("dark", "other/big")
    assert set(told["provider"]) == {"other", "apikeyrouter"}
    for broken in ("{broken", "[]", ""):
        planned = plan(["opencode"], {"OPENCODE_CONFIG_CONTENT": broken}, BARE)
        assert "apikeyrouter" in json.loads(planned.environ["OPENCODE_CONFIG_CONTENT"])["provider"]


def test_any_other_program_gets_what_the_sdks_read() -> None:
    planned = plan(["python", "program.py"], {}, TARGET)
    assert planned.command == ("python", "program.py")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        assert planned.environ[name] == TARGET.key
    assert planned.environ["OPENAI_BASE_URL"] == f"{ORIGIN}/v1"
    for name in ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "APIKEYROUTER_URL"):
        assert planned.environ[name] == ORIGIN


def test_keys_of_providers_and_of_the_operator_are_taken_out() -> None:
    before = dict.fromkeys(("GROQ_API_KEY", "GROQ_API_KEY_FILE", "APIKEYROUTER_ADMIN_KEY", "OTHER"), "secret")
    planned = plan(["codex"], before, BARE, ["GROQ_API_KEY", "MISTRAL_API_KEY"])
    assert planned.taken_names == ("APIKEYROUTER_ADMIN_KEY", "GROQ_API_KEY", "GROQ_API_KEY_FILE")
    assert planned.environ["OTHER"] == "secret"
    assert not set(planned.taken_names) & planned.environ.keys()


def test_a_web_proxy_is_not_on_the_way_to_a_proxy_on_this_machine() -> None:
    through = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "intranet"}
    planned = plan(["codex"], through, BARE)
    assert planned.environ["NO_PROXY"] == "intranet,127.0.0.1"
    assert planned.environ["no_proxy"] == "127.0.0.1"
    assert "NO_PROXY" not in plan(["codex"], {}, BARE).environ
    far = Target("https://router.example", OPEN_KEY)
    assert plan(["codex"], through, far).environ["NO_PROXY"] == "intranet"


def test_a_plan_does_not_show_its_secrets() -> None:
    planned = plan(["claude"], {"SOMETHING": "very-secret"}, TARGET)
    assert TARGET.key not in repr(TARGET)
    assert TARGET.key not in repr(planned)
    assert "very-secret" not in repr(planned)
