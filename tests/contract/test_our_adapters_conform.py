"""Our own adapters pass the kit that other people's adapters are given, and the kit finds each way to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.json import encode

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter
from apikeyrouter.infrastructure.adapters.bedrock_adapter import BedrockAdapter
from apikeyrouter.infrastructure.adapters.cohere_adapter import CohereAdapter
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter, VertexAdapter
from apikeyrouter.infrastructure.adapters.http_adapter import HttpApi, HttpApiAdapter
from apikeyrouter.infrastructure.adapters.library_adapter import LibraryAdapter
from apikeyrouter.infrastructure.adapters.litellm_adapter import LiteLLMAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.providers import find_row, rows
from apikeyrouter.testing.adapter_conformance import REPLY_TEXT, AdapterConformance
from apikeyrouter.wire.losses import UntranslatableError
from tests.support.converse_side import ConverseSide, exception

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
    other_models = frozenset({Operation.CountTokens})  # Anthropic's

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


class TestCohere(AdapterConformance):
    """Cohere's own API: a format of which we have the provider's half only, so the samples are written here."""

    auth_header, auth_value, cut_step = "authorization", "Bearer {}", 3
    spent = (429, "", "You are using a Trial key, which is limited to 1000 API calls / month.")

    def adapter(self) -> CohereAdapter:
        return CohereAdapter("https://api.cohere.com")

    def reply_of(self, operation: Operation) -> bytes:
        content = [{"type": "text", "text": REPLY_TEXT}]
        message = {"role": "assistant", "content": content}
        return encode({"id": "kit", "finish_reason": "COMPLETE", "message": message, "usage": self.counted(operation)})

    def counted(self, operation: Operation) -> dict[str, dict[str, int]]:
        used = self.usage_of(operation)
        return {"tokens": {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}}

    def stream_of(self, operation: Operation) -> bytes:
        text = {"type": "text", "text": ""}
        deltas = [{"message": {"content": {"text": piece}}} for piece in (REPLY_TEXT[:8], REPLY_TEXT[8:])]
        events: list[dict[str, object]] = [
            {"type": "message-start", "id": "kit", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": text}}},
            *({"type": "content-delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": self.counted(operation)}},
        ]
        return b"".join(b"event: %b\ndata: %b\n\n" % (str(one["type"]).encode(), encode(one)) for one in events)

    def stream_error_of(self, operation: Operation) -> bytes:
        fault = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "overloaded"}}
        return b"event: message-end\ndata: %b\n\n" % encode(fault)

    def error_of(self, status: int, code: str, message: str) -> bytes:
        return encode({"id": "kit", "message": message})

    def models_reply(self) -> tuple[bytes, Sequence[str]]:
        return encode({"models": [{"name": "command-kit"}, {"name": "embed-kit"}]}), ("command-kit", "embed-kit")


class TestBedrock(AdapterConformance):
    """Bedrock by bearer: a format of which we have the provider's half only, and streams of binary frames."""

    auth_header, auth_value, cut_step = "authorization", "Bearer {}", 3
    model = "anthropic.claude-kit-v1:0"
    spent = (429, "", "Too many tokens per day, please wait before trying again.")

    def adapter(self) -> BedrockAdapter:
        return BedrockAdapter("us-east-1", environ={}, base_url="https://bedrock-runtime.us-east-1.amazonaws.com")

    def reply_of(self, operation: Operation) -> bytes:
        return ConverseSide().write_answer(self.answer_of(operation), self.model)

    def stream_of(self, operation: Operation) -> bytes:
        writer = ConverseSide().encoder(self.model, want_usage=True)
        return b"".join([*map(writer.encode, self.events_of(operation)), writer.finish()])

    def stream_error_of(self, operation: Operation) -> bytes:
        return exception("serviceUnavailableException", "The model is overloaded.")

    def error_of(self, status: int, code: str, message: str) -> bytes:
        return encode({"message": message})

    def models_reply(self) -> tuple[bytes, Sequence[str]]:
        return encode({"modelSummaries": [{"modelId": "amazon.kit-v1:0"}]}), ["amazon.kit-v1:0"]


class TestLibrary(AdapterConformance):
    """A provider behind an installed library, of which nothing but its presence is looked at here."""

    auth_header, auth_value, cut_step, sent_model = "authorization", "Bearer {}", 7, "kit:kit-model"

    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "any_llm").mkdir()
        (tmp_path / "any_llm" / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path))

    def adapter(self) -> LibraryAdapter:
        return LibraryAdapter("any-llm", prefix="kit:")

    def test_bodies_that_need_no_change_keep_their_bytes(self) -> None:
        """Here they do not: the library's own parameters must not be reached, so unknown members are refused."""
        body = b'{"kit_unknown":1,' + self.call(Operation.Chat).body[1:]
        with pytest.raises(UntranslatableError, match="kit_unknown"):
            self.request(self.call(Operation.Chat, body=body))


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
