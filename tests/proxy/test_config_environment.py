"""The environment of a program that talks to a gateway, and the way back to OpenAI itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from apikeyrouter import EnvSettings
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.adapters.openai_adapter import OPENAI_BASE_URL
from apikeyrouter_proxy.settings import ProxySettings
from tests.support.command import run_cli
from tests.support.processes import proxy_process
from tests.support.sim import Sim

ROOT = Path(__file__).parents[2]
GATEWAY = "https://litellm.example.com/v1"
DOTENV = f"""\
DEBUG=false
OPENAI_API_KEY=the-key-of-a-gateway-0001
OPENAI_BASE_URL={GATEWAY}
MODEL=gpt-4o
TEMPERATURE=0.03
DETAILED_ERROR=true
REQUEST_TIMEOUT=300
MAX_ITERATIONS=12
MAX_RETRY=3
SCALEBOX_API_KEY=
"""


def proxy_settings(folder: Path, dotenv: str) -> ProxySettings:
    (folder / ".env").write_text(dotenv, encoding="utf-8")
    return ProxySettings.from_environ({"HOME": str(folder)}, folder / ".env")


def test_the_proxy_reads_the_file_of_such_a_program(tmp_path: Path) -> None:
    settings = proxy_settings(tmp_path, DOTENV)
    assert settings.openai_base_url == GATEWAY
    assert settings.router_config == {"request_timeout_s": "300", "attempts_max": "4"}
    assert [(key.variable, key.provider_id) for key in settings.env_keys] == [("OPENAI_API_KEY", "openai")]


@pytest.mark.parametrize("line", ["OPENAI_BASE_URL=", "# OPENAI_BASE_URL=  # Comment out or remove this line", ""])
def test_without_its_base_url_everything_goes_to_openai_again(tmp_path: Path, line: str) -> None:
    back = DOTENV.replace(f"OPENAI_BASE_URL={GATEWAY}", line)
    assert proxy_settings(tmp_path, back).openai_base_url == OPENAI_BASE_URL
    environ = {name: value or "" for name, value in dotenv_values(tmp_path / ".env").items()}
    settings = EnvSettings.from_env(environ)
    assert (settings.provider_id, settings.model, settings.max_retry) == ("openai", "gpt-4o", 3)


def test_a_model_is_switched_by_its_variable_alone(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    with proxy_process(sim, tmp_path / "proxy") as proxy:
        for model in ("gpt-4-turbo", "gpt-4o"):
            env = {"MODEL": model, "APIKEYROUTER_URL": proxy.origin}
            told = run_cli("chat", "Hello!", "--json", folder=tmp_path, env=env).json
            assert model in str(told)


def test_retries_that_are_no_number_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        proxy_settings(tmp_path, DOTENV.replace("MAX_RETRY=3", "MAX_RETRY=often"))
    assert len(error.value.faults) == 1
    assert "ATTEMPTS_MAX" in error.value.faults[0]


def test_the_example_file_runs_when_its_comments_are_taken_away(tmp_path: Path) -> None:
    kept = []
    for line in (ROOT / "env.example").read_text(encoding="utf-8").splitlines():
        bare = line.removeprefix("# ")
        name, equals, value = bare.partition("=")
        if equals and name.isupper() and " " not in name and value and name != "APIKEYROUTER_CONFIG":
            kept.append(bare)
    settings = proxy_settings(tmp_path, "\n".join(kept) + "\nOPENAI_API_KEY=the-key-of-somebody-01\n")
    assert settings.openai_base_url == GATEWAY
    assert settings.router_config["attempts_max"] == "4"
