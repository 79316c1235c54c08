"""From a name to an adapter: the providers that the catalogue knows.

    adapter = provider("groq")
    adapter = provider("databricks", environ={"DATABRICKS_HOST": "https://acme.cloud.databricks.com"})

Main entries: `provider`, `find_row`, `rows`. Besides the rows there are providers with an adapter of their own: OpenAI,
Anthropic, Gemini, Vertex AI, Amazon Bedrock, Cohere, Azure OpenAI and a LiteLLM proxy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.infrastructure.catalogue.likeness import alike
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow

__all__ = ["NATIVE", "find_row", "provider", "rows", "unknown_provider"]

NATIVE: Mapping[str, tuple[str, str, str]] = {
    "openai": ("OpenAI", "OPENAI_API_KEY", "https://platform.openai.com/docs/api-reference"),
    "anthropic": ("Anthropic", "ANTHROPIC_API_KEY", "https://platform.claude.com/docs/en/api/overview"),
    "gemini": ("Google Gemini", "GEMINI_API_KEY, GOOGLE_API_KEY", "https://ai.google.dev/api"),
    "vertex": (
        "Google Vertex AI: Gemini and Claude",
        "a credential; GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION say where",
        "https://cloud.google.com/vertex-ai/docs/reference/rest",
    ),
    "bedrock": (
        "Amazon Bedrock",
        "AWS_BEARER_TOKEN_BEDROCK; AWS_ACCESS_KEY_ID and its kin when BEDROCK_REGION is set",
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    ),
    "cohere": ("Cohere", "COHERE_API_KEY, CO_API_KEY", "https://docs.cohere.com/reference/about"),
    "azure": (
        "Azure OpenAI",
        "AZURE_OPENAI_API_KEY and its kin",
        "https://learn.microsoft.com/azure/ai-foundry/openai",
    ),
}
"""Providers that are no rows, since their adapters know their addresses and keys themselves: name, where keys come
from, documentation."""


@cache
def rows() -> Mapping[str, ProviderRow]:
    """Every row by its id, in order."""
    from apikeyrouter.infrastructure.catalogue.gateways import GATEWAYS
    from apikeyrouter.infrastructure.catalogue.hosts import HOSTS
    from apikeyrouter.infrastructure.catalogue.labs import LABS
    from apikeyrouter.infrastructure.catalogue.local import LOCAL
    from apikeyrouter.infrastructure.catalogue.more_hosts import MORE_HOSTS

    return {row.id: row for row in (*LABS, *HOSTS, *MORE_HOSTS, *GATEWAYS, *LOCAL)}


@cache
def _by_name() -> Mapping[str, ProviderRow]:
    found = {alias: row for row in rows().values() for alias in row.aliases}
    return {**found, **rows()}


def find_row(name: str) -> ProviderRow | None:
    """The row of that id or alias, or None."""
    return _by_name().get(name.strip().lower())


def provider(
    name: str, base_url: str | None = None, *, environ: Mapping[str, str] | None = None, claims_all: bool | None = None
) -> ProviderAdapter:
    """The adapter of a provider that is known by this name.

    `base_url`: somewhere else than the row says. `environ`: where variables of base URLs are looked up, default the
    process's environment. `claims_all`: serve any model when a request names no provider; None: as the row says. Raises
    ConfigurationError for an unknown name (with the nearest known ones), or a base URL that lacks a variable.
    """
    env = os.environ if environ is None else environ
    named = name.strip().lower()
    if named in NATIVE:
        return _native(named, base_url, env)
    row = find_row(named)
    if row is None:
        raise ConfigurationError([unknown_provider(name)])
    where = base_url or row.address(env)
    if row.id == "litellm":
        from apikeyrouter.infrastructure.adapters.litellm_adapter import LiteLLMAdapter

        return LiteLLMAdapter(where)
    from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter

    return CompatibleAdapter(row, where, claims_all=claims_all)


def unknown_provider(name: str) -> str:
    """A sentence about a name that is not known, with the nearest that are."""
    near = alike(name, known_names())
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"No provider is known as {name!r}.{hint} `apikeyrouter providers list` shows those that are; any server that "
        "speaks OpenAI's format can be added with its base URL."
    )


def known_names() -> Sequence[str]:
    """Ids and aliases of everything that `provider` knows."""
    return [*NATIVE, *_by_name()]


def _native(name: str, base_url: str | None, environ: Mapping[str, str]) -> ProviderAdapter:
    if name == "azure":
        from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter

        return AzureAdapter.from_environ(environ, endpoint=base_url)
    if name == "anthropic":
        from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter

        return AnthropicAdapter(base_url or environ.get("ANTHROPIC_BASE_URL", "").strip() or None)
    if name == "bedrock":
        from apikeyrouter.infrastructure.adapters.bedrock_adapter import BedrockAdapter

        return BedrockAdapter(base_url=base_url, environ=environ)
    if name == "cohere":
        from apikeyrouter.infrastructure.adapters.cohere_adapter import CohereAdapter

        return CohereAdapter(base_url or environ.get("COHERE_BASE_URL", "").strip() or None)
    if name == "vertex":
        from apikeyrouter.infrastructure.adapters.gemini_adapter import VertexAdapter

        return VertexAdapter.from_environ(environ, base_url=base_url)
    if name == "gemini":
        from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter

        return GeminiAdapter(base_url)
    from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter

    return OpenAIAdapter(base_url or environ.get("OPENAI_BASE_URL", "").strip() or None)
