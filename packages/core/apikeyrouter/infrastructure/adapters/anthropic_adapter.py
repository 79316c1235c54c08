"""Anthropic, by way of the endpoint where it speaks OpenAI's format.

Chat completions, streaming and tools work there; what Anthropic documents as ignored is declared as unsupported, so
that nobody relies on it (https://platform.claude.com/docs/en/api/openai-sdk, read 2026-11-21). The native Messages
format, with prompt caching, documents and thinking blocks, is another adapter's work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter

__all__ = ["ANTHROPIC_BASE_URL", "AnthropicAdapter"]

ANTHROPIC_BASE_URL = "https://api.anthropic.com/v1"


class AnthropicAdapter(OpenAIAdapter):
    """Serves models whose names begin with "claude".

    `base_url`: default `ANTHROPIC_BASE_URL` from the environment (with or without `/v1`, as Anthropic's SDKs take it
    without), else Anthropic itself. `headers`: sent with each request. Raises ConfigurationError for a malformed URL.
    """

    def __init__(self, base_url: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        given = base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_BASE_URL
        super().__init__(
            given if given.rstrip("/").endswith("/v1") else given.rstrip("/") + "/v1",
            headers=headers,
            dialect="anthropic",
            claims_all=False,
            operations=(Operation.Chat,),
            capabilities=ProviderCapabilities(supports_structured_output=False, operations=(Operation.Chat,)),
        )

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of Anthropic's."""
        return model.startswith("claude")
