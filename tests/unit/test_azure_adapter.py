"""Azure OpenAI: paths with deployments and versions, the v1 endpoint, keys and tokens, and its variables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.resilience.classify import classify_reply
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter, azure_settings

RESOURCE = "https://acme.openai.azure.com"


def call_of(operation: Operation = Operation.Chat, *, model: str = "gpt-4o", **members: Any) -> Call:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}
    body = json.dumps(asked).encode()
    return Call("r1", operation, model, body, peek(body), started_s=0.0, deadline_s=60.0)


def test_a_version_puts_the_deployment_into_the_path_and_leaves_the_body_alone() -> None:
    adapter = AzureAdapter(RESOURCE, api_version="2024-10-21", deployments={"gpt-4o": "our 4o"})
    call = call_of()
    request = adapter.build_request(call, Secret("k"))
    assert request.url == f"{RESOURCE}/openai/deployments/our%204o/chat/completions?api-version=2024-10-21"
    assert json.loads(request.body)["messages"] == json.loads(call.body)["messages"]
    assert (b"api-key", b"k") in request.headers
    assert b"authorization" not in dict(request.headers)


def test_responses_are_beside_the_deployments() -> None:
    adapter = AzureAdapter(RESOURCE, api_version="2025-04-01-preview")
    body = b'{"model":"gpt-5","input":"Hi"}'
    call = Call("r1", Operation.Responses, "gpt-5", body, peek(body), started_s=0.0, deadline_s=60.0)
    request = adapter.build_request(call, Secret("k"))
    assert request.url == f"{RESOURCE}/openai/responses?api-version=2025-04-01-preview"


def test_the_v1_endpoint_names_the_deployment_in_the_body() -> None:
    adapter = AzureAdapter(RESOURCE, deployment="our-5")
    request = adapter.build_request(call_of(model="gpt-5"), Secret("k"))
    assert request.url == f"{RESOURCE}/openai/v1/chat/completions"
    assert json.loads(request.body)["model"] == "our-5"
    preview = AzureAdapter(RESOURCE, api_version="preview").build_request(call_of(), Secret("k"))
    assert preview.url == f"{RESOURCE}/openai/v1/chat/completions?api-version=preview"


@pytest.mark.parametrize(
    "given",
    [RESOURCE, RESOURCE + "/", RESOURCE + "/openai", RESOURCE + "/openai/v1/", RESOURCE + "/openai/deployments/x"],
)
def test_an_endpoint_is_understood_however_much_of_it_is_given(given: str) -> None:
    assert AzureAdapter(given).base_url == f"{RESOURCE}/openai/v1"
    assert AzureAdapter(given, api_version="2024-10-21").base_url == f"{RESOURCE}/openai"


def test_a_key_may_have_a_resource_of_its_own() -> None:
    adapter = AzureAdapter(RESOURCE, api_version="2024-10-21")
    request = adapter.build_request(call_of(), Secret("k"), base_url="https://eu.openai.azure.com/")
    assert request.url.startswith("https://eu.openai.azure.com/openai/deployments/gpt-4o/")
    assert adapter.build_models_request(Secret("k"), base_url="https://eu.openai.azure.com").url == (
        "https://eu.openai.azure.com/openai/models?api-version=2024-10-21"
    )


def test_tokens_of_entra_travel_as_bearers() -> None:
    token = "ey" + "Jhbg.e30.sig"
    assert (b"authorization", b"Bearer " + token.encode()) in AzureAdapter(RESOURCE).credentials(Secret(token))


def test_old_versions_are_not_asked_for_the_usage_of_streams() -> None:
    for version, asked in (("2024-06-01", False), ("2024-10-21", True), (None, True)):
        request = AzureAdapter(RESOURCE, api_version=version).build_request(call_of(stream=True), Secret("k"))
        assert ("stream_options" in json.loads(request.body)) is asked, version


def test_other_formats_are_translated_and_keep_the_callers_name_of_the_model() -> None:
    adapter = AzureAdapter(RESOURCE, api_version="2024-10-21", deployments={"gpt-4o": "ours"})
    body = b'{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}'
    call = Call("r1", Operation.Messages, "gpt-4o", body, peek(body), started_s=0.0, deadline_s=60.0)
    assert "/deployments/ours/chat/completions?" in adapter.build_request(call, Secret("k")).url
    reply = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"},
                     "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    written, usage = adapter.read_reply(call, json.dumps(reply).encode())
    assert json.loads(written)["content"][0]["text"] == "Hello"
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 2)


def test_the_chunk_with_the_filters_verdict_passes_and_the_one_with_usage_is_taken_out() -> None:
    adapter = AzureAdapter(RESOURCE, api_version="2024-10-21")
    reader = adapter.open_stream(call_of(stream=True))
    verdict = b'data: {"choices":[],"created":0,"id":"","model":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
    word = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"model":"gpt-4o"}\n\n'
    usage = (
        b'data: {"choices":[],"model":"gpt-4o","usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
    )
    passed = reader.feed(verdict + word + usage + b"data: [DONE]\n\n") + reader.finish()
    assert verdict in passed
    assert usage not in passed
    assert reader.done
    assert reader.usage is not None
    assert reader.usage.output_tokens == 1


def test_a_filtered_prompt_is_the_callers_and_a_missing_deployment_too() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    filtered = (
        b'{"error":{"code":"content_filter","message":"filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}}}'
    )
    assert classify_reply("azure", 400, [], filtered, utc_now=now).failure_class is FailureClass.Policy
    missing = b'{"error":{"type":"invalid_request_error","code":"DeploymentNotFound","message":"does not exist"}}'
    assert not classify_reply("azure", 404, [], missing, utc_now=now).failure_class.value.startswith("auth")


def test_azure_counts_only_when_its_whole_set_is_there() -> None:
    assert azure_settings({"OPENAI_API_KEY": "x"}) is None
    part = azure_settings({"AZURE_OPENAI_API_KEY": "x", "AZURE_OPENAI_ENDPOINT": RESOURCE})
    assert part is not None
    assert part.missing == ("AZURE_OPENAI_API_VERSION", "AZURE_OPENAI_DEPLOYMENT")
    for names in (
        ("AZURE_API_KEY", "AZURE_API_BASE", "AZURE_API_VERSION", "AZURE_DEPLOYMENT_NAME"),
        ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_VERSION", "AZURE_OPENAI_DEPLOYMENT"),
    ):
        whole = azure_settings(dict(zip(names, ("k", RESOURCE, "2024-10-21", "gpt-4o"), strict=True)))
        assert whole is not None
        assert whole.missing == ()
        assert whole.key_variable == names[0]
    named = azure_settings({"AZURE_OPENAI_API_INSTANCE_NAME": "acme"})
    assert named is not None
    assert named.endpoint == RESOURCE
    with pytest.raises(ConfigurationError, match="AZURE_OPENAI_ENDPOINT"):
        AzureAdapter.from_environ({})


def test_models_are_claimed_by_deployment_and_without_any_by_name() -> None:
    assert AzureAdapter(RESOURCE).claims("gpt-4o")
    assert not AzureAdapter(RESOURCE).claims("claude-opus-5")
    ours = AzureAdapter(RESOURCE, deployments={"gpt-4o": "a"}, deployment="b")
    assert ours.claims("gpt-4o")
    assert ours.claims("b")
    assert not ours.claims("gpt-5")
