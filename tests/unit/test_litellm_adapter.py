"""A LiteLLM proxy: its address, and what its list of models says about prices and limits."""

from __future__ import annotations

import json

import pytest

from apikeyrouter.domain.cost.overrides import read_override
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.litellm_adapter import LiteLLMAdapter, read_model_info
from apikeyrouter.infrastructure.catalogue import KEYLESS

INFO = {
    "data": [
        {
            "model_name": "gpt-4",
            "litellm_params": {"model": "openai/gpt-4", "rpm": 20, "tpm": 20000},
            "model_info": {
                "id": "a", "key": "gpt-4", "max_tokens": 4096, "max_input_tokens": 8192, "max_output_tokens": 4096,
                "input_cost_per_token": 3e-05, "output_cost_per_token": 6e-05, "rpm": None,
            },
        },
        {"model_name": "gpt-4", "litellm_params": {"model": "azure/gpt-4"}, "model_info": {}},
        {
            "model_name": "house-llama",
            "litellm_params": {"model": "ollama/llama3", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
            "model_info": {"input_cost_per_token": 9, "max_input_tokens": True},
        },
        {"model_name": "half", "model_info": {"input_cost_per_token": 1e-06, "output_cost_per_token": None}},
        {"model_name": 7}, "odd", None,
    ]
}  # fmt: skip


def test_an_address_is_taken_with_and_without_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITELLM_BASE_URL", raising=False)
    assert LiteLLMAdapter().base_url == "http://localhost:4000/v1"
    monkeypatch.setenv("LITELLM_BASE_URL", "http://127.0.0.1:4001")
    assert LiteLLMAdapter().base_url == LiteLLMAdapter("http://127.0.0.1:4001/v1/").base_url
    adapter = LiteLLMAdapter()
    assert adapter.build_health_request().url == "http://127.0.0.1:4001/health/liveliness"
    assert adapter.build_info_request(Secret("k")).url == "http://127.0.0.1:4001/model/info"
    assert (b"authorization", b"Bearer k") in adapter.build_info_request(Secret("k")).headers
    assert adapter.build_info_request(Secret(KEYLESS)).headers == []
    assert not adapter.build_health_request().headers


def test_it_serves_any_model_and_the_formats_that_it_speaks_itself() -> None:
    adapter = LiteLLMAdapter("http://127.0.0.1:4000")
    assert adapter.claims("whatever")
    assert adapter.passes(Operation.Messages)
    assert not adapter.passes(Operation.Gemini)


def test_prices_and_limits_are_read_as_configured_there() -> None:
    gpt, llama, half = read_model_info(json.dumps(INFO).encode())
    assert (gpt.name, gpt.behind, gpt.context_tokens, gpt.output_tokens_max) == ("gpt-4", "openai/gpt-4", 8192, 4096)
    assert gpt.limits == {"rpm": 20, "tpm": 20000}
    assert gpt.price == {"provider": "litellm", "model": "gpt-4", "unit": "per_1m", "input": "30", "output": "60"}
    assert llama.price["input"] == llama.price["output"] == "0"
    assert llama.context_tokens is None
    assert half.price == {}


def test_prices_are_documents_that_the_router_takes() -> None:
    for model in read_model_info(json.dumps(INFO).encode()):
        if model.price:
            override = read_override(dict(model.price))
            assert override.price is not None
            assert override.price.input == int(float(model.price["input"]) * 10**9)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 1}', b"<html>"])
def test_what_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="the reply"):
        read_model_info(body)
