"""What a provider's table says of others: names that are taken or unknown, and servers that have more than chat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter import OpenAIAdapter
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.wire.losses import UntranslatableError
from apikeyrouter_proxy.config.provider_parts import provider_of
from apikeyrouter_proxy.provider_settings import read_provider

SERVER = "http://127.0.0.1:9/v1"


def faults_of(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_provider(document, {})
    return " ".join(raised.value.faults)


def responses_call(**members: Any) -> Call:
    body = json.dumps({"model": "local", "input": "Hi", **members}).encode()
    return Call("r1", Operation.Responses, "local", body, peek(body), started_s=0.0, deadline_s=60.0)


def test_an_unknown_like_names_the_provider_and_the_nearest_name() -> None:
    fault = faults_of({"id": "acme", "like": "opnai"})
    assert fault.startswith("provider 'acme': like: ")
    assert "Did you mean openai?" in fault


@pytest.mark.parametrize("native", ["anthropic", "gemini", "bedrock", "azure"])
def test_a_like_without_a_row_is_not_called_unknown(native: str) -> None:
    fault = faults_of({"id": "acme", "like": native})
    assert "No provider is known" not in fault
    assert f"like: {native}" in fault


def test_a_server_like_openai_has_all_that_openai_has() -> None:
    found = read_provider({"id": "acme", "like": "openai", "base_url": SERVER, "env": ["ACME_API_KEY"]}, {})
    assert found.row is not None
    assert (found.row.id, found.row.env, found.adapter.base_url) == ("acme", ("ACME_API_KEY",), SERVER)
    assert set(OpenAIAdapter("https://api.openai.com/v1").native) == set(found.row.operations)
    assert found.adapter.passes(Operation.Responses)


@pytest.mark.parametrize("members", [{"base_url": SERVER}, {"like": "groq"}, {"like": "openai", "base_url": SERVER}])
def test_the_simulated_providers_id_is_taken(members: dict[str, str]) -> None:
    assert "built-in provider" in faults_of({"id": "simulated", **members})
    with pytest.raises(ConfigurationError, match="built-in provider"):
        provider_of("simulated", members, {})


def test_what_only_a_server_of_responses_can_do_names_the_setting() -> None:
    adapter = OpenAIAdapter(SERVER)
    with pytest.raises(UntranslatableError) as raised:
        adapter.build_request(responses_call(previous_response_id="resp_1"), Secret("k"))
    assert "previous_response_id" in str(raised.value)
    assert "`operations` of its provider" in str(raised.value)
    with pytest.raises(UntranslatableError) as other:
        adapter.build_request(responses_call(moderation={"x": 1}), Secret("k"))
    assert "`operations`" not in str(other.value)


def test_openais_operations_may_be_named_for_another_server_in_its_place() -> None:
    given = {"base_url": SERVER, "operations": ["chat/completions", "responses"]}
    found = provider_of("openai", given, {"OPENAI_BASE_URL": SERVER})
    request = found.adapter.build_request(responses_call(previous_response_id="resp_1"), Secret("k"))
    assert request.url == f"{SERVER}/responses"
    with pytest.raises(ConfigurationError, match=r"operations: expected a list of some of: .*responses"):
        provider_of("openai", {**given, "operations": ["chats"]}, {})
