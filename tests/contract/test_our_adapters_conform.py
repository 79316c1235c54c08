"""Our own adapters pass the kit that other people's adapters are given, and the kit finds each way to be wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter, VertexAdapter
from apikeyrouter.infrastructure.adapters.http_adapter import HttpApi, HttpApiAdapter
from apikeyrouter.infrastructure.adapters.litellm_adapter import LiteLLMAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.providers import find_row, rows
from apikeyrouter.testing.adapter_conformance import AdapterConformance

AZURE = "https://kit.openai.azure.com"


class TestOpenAI(AdapterConformance):
    """OpenAI's own API."""

    auth_header, auth_value, cut_step = "authorization", "Bearer {}", 3

    def adapter(self) -> OpenAIAdapter:
        return OpenAIAdapter("https://api.openai.com/v1")


class TestAnthropic(AdapterConformance):
    """Anthropic's own API."""

    auth_header, cut_step = "x-api-key", 3
    spent = (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")

    def adapter(self) -> AnthropicAdapter:
        return AnthropicAdapter("https://api.anthropic.com/v1")


class TestGemini(AdapterConformance):
    """Gemini by key."""

    auth_header, cut_step = "x-goog-api-key", 3

    def adapter(self) -> GeminiAdapter:
        return GeminiAdapter("https://generativelanguage.googleapis.com")


class TestVertex(AdapterConformance):
    """Gemini by bearer token."""

    auth_header, auth_value, cut_step = "authorization", "Bearer {}", 7

    def adapter(self) -> VertexAdapter:
        return VertexAdapter("kit-project", "europe-west4")


class TestAzureV1(AdapterConformance):
    """Azure's endpoint without versions."""

    auth_header, cut_step = "api-key", 7

    def adapter(self) -> AzureAdapter:
        return AzureAdapter(AZURE)


class TestAzureDeployments(AdapterConformance):
    """Azure's deployments, under other names than the models'."""

    auth_header, cut_step, sent_model = "api-key", 7, "our-deployment"

    def adapter(self) -> AzureAdapter:
        return AzureAdapter(AZURE, api_version="2024-10-21", deployments={"kit-model": "our-deployment"})


class TestLiteLLM(AdapterConformance):
    """A LiteLLM proxy."""

    auth_header, auth_value, cut_step = "authorization", "Bearer {}", 7

    def adapter(self) -> LiteLLMAdapter:
        return LiteLLMAdapter("http://127.0.0.1:4000")


class TestHttpApi(AdapterConformance):
    """An API that is no model's, with its key in a header."""

    auth_header = "x-kit-token"

    def adapter(self) -> HttpApiAdapter:
        return HttpApiAdapter(HttpApi(base_url="https://api.example.com/v1", key="header:X-Kit-Token"))

    def models_reply(self) -> tuple[bytes, Sequence[str]]:
        return b"{}", ()


class TestHttpApiByQuery(TestHttpApi):
    """The same with its key in the query, since it knows no other place."""

    secret_in_query = True

    def adapter(self) -> HttpApiAdapter:
        api = HttpApi(base_url="https://api.example.com/v1", key="query:api_key", query_is_fine=True)
        return HttpApiAdapter(api)


@pytest.mark.parametrize("provider_id", rows())
def test_every_known_provider_conforms(provider_id: str) -> None:
    row = find_row(provider_id)
    assert row is not None

    class Suite(AdapterConformance):
        auth_header = row.header
        auth_value = f"{row.scheme} {{}}" if row.scheme else "{}"
        cut_step = 97

        def adapter(self) -> CompatibleAdapter:
            return CompatibleAdapter(row, "https://kit.example/v1")

    assert Suite.failures() == {}
