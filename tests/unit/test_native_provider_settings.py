"""Providers with adapters of their own: found by name, keys from the environment, what Google's configs say."""

from __future__ import annotations

import json

import pytest

from apikeyrouter import BedrockAdapter, CohereAdapter, GeminiAdapter, VertexAdapter
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.call import peek
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, provider
from apikeyrouter_proxy.cli.__main__ import main
from apikeyrouter_proxy.env_keys import read_env_keys

PAIR = {"AWS_ACCESS_KEY_ID": "AKIA" + "A" * 16, "AWS_SECRET_ACCESS_KEY": "s" * 40}


def test_each_name_leads_to_its_adapter() -> None:
    environ = {"AWS_REGION": "eu-west-1", "GOOGLE_CLOUD_PROJECT": "p1"}
    assert isinstance(provider("bedrock", environ=environ), BedrockAdapter)
    assert isinstance(provider("cohere", environ=environ), CohereAdapter)
    assert isinstance(provider("vertex", environ=environ), VertexAdapter)
    assert isinstance(provider("gemini", environ=environ), GeminiAdapter)
    assert isinstance(provider("cohere-compatible", environ=environ), CompatibleAdapter)
    for name in ("bedrock", "vertex"):
        with pytest.raises(ConfigurationError, match="set "):
            provider(name, environ={})


def test_an_address_that_was_kept_makes_the_same_adapter_again() -> None:
    environ = {"AWS_REGION": "eu-west-1", "GOOGLE_CLOUD_PROJECT": "p1", "GOOGLE_CLOUD_LOCATION": "us-east5"}
    for name in ("bedrock", "vertex", "cohere"):
        made = provider(name, environ=environ)
        again = provider(name, made.base_url, environ={})
        assert again.base_url == made.base_url
    kept = provider("vertex", provider("vertex", environ=environ).base_url, environ={})
    assert isinstance(kept, VertexAdapter)
    assert (kept.project, kept.location) == ("p1", "us-east5")


def test_keys_of_the_environment_are_taken_only_when_they_are_meant() -> None:
    keys, warnings, faults = read_env_keys({**PAIR, "AWS_REGION": "eu-west-1"})
    assert (keys, warnings, faults) == ([], [], [])
    (key,), warnings, _ = read_env_keys({**PAIR, "BEDROCK_REGION": "eu-west-1"})
    assert (key.provider_id, key.variable, warnings) == ("bedrock", "AWS_ACCESS_KEY_ID", [])
    assert key.material.reveal() == ":".join(PAIR.values())
    _, (warning,), _ = read_env_keys({"BEDROCK_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": PAIR["AWS_ACCESS_KEY_ID"]})
    assert "AWS_SECRET_ACCESS_KEY" in warning
    found, _, _ = read_env_keys({"AWS_BEARER_TOKEN_BEDROCK": "b" * 30, "CO_API_KEY": "c" * 30, "BEDROCK_REGION": "x"})
    assert {(one.provider_id, one.variable) for one in found} == {
        ("bedrock", "AWS_BEARER_TOKEN_BEDROCK"),
        ("cohere", "CO_API_KEY"),
    }


def test_the_command_line_knows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "list", "--known"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NATIVE)
    assert main(["providers", "show", "bedrock"]) == 0
    assert "AWS_BEARER_TOKEN_BEDROCK" in capsys.readouterr().out
    assert main(["providers", "show", "cohere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == "COHERE_API_KEY, CO_API_KEY"


@pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("member", ["maxOutputTokens", "max_output_tokens"])
def test_googles_cap_counts_in_either_spelling(config: str, member: str) -> None:
    assert peek(json.dumps({config: {member: 77}}).encode()).output_limit_tokens == 77
    assert peek(json.dumps({config: {}}).encode()).output_limit_tokens is None
