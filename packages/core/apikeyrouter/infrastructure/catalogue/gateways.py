"""Gateways that speak OpenAI's format and stand where their owner put them.

Laws: those of `provider_row`. They serve whatever their configuration says, so they claim every model.
"""

from __future__ import annotations

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow

__all__ = ["GATEWAYS"]

_EVERYTHING = {
    operation: operation.value
    for operation in (
        Operation.Chat,
        Operation.Completions,
        Operation.Embeddings,
        Operation.Responses,
        Operation.Messages,
        Operation.Moderations,
        Operation.Images,
        Operation.Speech,
        Operation.Transcriptions,
        Operation.Rerank,
    )
}

GATEWAYS = (
    ProviderRow(
        id="litellm",
        name="LiteLLM proxy",
        aliases=("litellm_proxy", "litellm-proxy"),
        base_url="http://localhost:4000/v1",
        env=("LITELLM_API_KEY", "LITELLM_PROXY_API_KEY"),
        keyless=True,
        operations=_EVERYTHING,
        makes=("",),
        docs="https://docs.litellm.ai/docs/proxy/user_keys",
        checked="2026-11-21",
    ),
    ProviderRow(
        id="apikeyrouter",
        name="Another ApiKeyRouter",
        base_url="http://127.0.0.1:8000/v1",
        keyless=True,
        operations=_EVERYTHING,
        makes=("",),
        docs="docs/how-to/proxy.md",
        checked="2026-11-21",
    ),
)
