"""Providers of the configuration file, as adapters.

Main entry: `provider_of`. A provider that the catalogue knows takes over its row; others are rows of their own, or APIs
that are no model's (`kind: http`). Law: a member that means nothing for this provider is refused, not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row, provider
from apikeyrouter_proxy.provider_settings import SIMULATED, Configured, operations_of, read_provider
from apikeyrouter_proxy.providers import check_headers

__all__ = ["provider_of"]

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OWN_ADAPTER = {
    "openai": ("base_url", "headers", "dialect", "operations"),
    "anthropic": ("base_url", "headers"),
    "gemini": ("base_url", "headers"),
    "azure": ("base_url", "endpoint", "api_version", "deployment", "deployments", "headers"),
    "litellm": ("base_url",),
}


def provider_of(
    name: str, given: Mapping[str, Any], environ: Mapping[str, str], folder: FilePath | None = None
) -> Configured:
    """The provider of this name. `folder`: where a class of the operator's own may lie; None for texts that came over
    the API, whose classes are never run. Raises ConfigurationError."""
    if not _ID.fullmatch(name):
        raise ConfigurationError(["its name may hold 1 to 64 lower-case letters, digits, dots, dashes, underscores"])
    if name == SIMULATED:
        raise ConfigurationError(["its name is the built-in provider's, which answers while there is no key"])
    check_headers(given.get("headers") or {})
    if "adapter" in given:
        if folder is None:
            raise ConfigurationError(["adapter: classes are not run for texts that come over the API"])
        return read_provider({"id": name, **given}, environ, folder)
    like = str(given.get("like") or name)
    row = find_row(like)
    known = like if like in NATIVE else row.id if row is not None else ""
    if (known in _OWN_ADAPTER or known in NATIVE) and given.get("kind") != "http":
        return Configured(name, _adapter(known, name, given, environ), find_row(known))
    wrong = [f"{member}: means something for Azure OpenAI only" for member in _AZURE if member in given]
    if wrong:
        raise ConfigurationError(wrong)
    fields = {"id": name, **given}
    if row is not None and "like" not in given and given.get("kind") != "http":
        fields["like"] = row.id
    elif row is None and "like" not in given and not given.get("base_url"):
        raise ConfigurationError(["base_url: is required for a provider that is not known"])
    return read_provider(fields, environ)


_AZURE = ("endpoint", "api_version", "deployment", "deployments")


def _adapter(known: str, name: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> ProviderAdapter:
    usable = _OWN_ADAPTER.get(known, ("base_url",))
    wrong = [f"{one}: means nothing for {name}, which takes {', '.join(usable)}" for one in given
             if one not in (*usable, "like", "kind", "name", "docs")]  # fmt: skip
    if wrong:
        raise ConfigurationError(wrong)
    base_url = given.get("base_url")
    headers = given.get("headers")
    if known == "azure":
        from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter

        endpoint = given.get("endpoint") or base_url
        if not endpoint:
            return AzureAdapter.from_environ(environ)
        others = {one: given[one] for one in ("api_version", "deployment", "deployments", "headers") if one in given}
        return AzureAdapter(endpoint, **others)
    if known == "openai":
        from apikeyrouter.infrastructure.adapters.openai_adapter import OPENAI_BASE_URL, OpenAIAdapter

        where = (environ.get("OPENAI_BASE_URL", "").strip() if name == "openai" else "") or base_url
        dialect = given.get("dialect", "openai")
        return OpenAIAdapter(where or OPENAI_BASE_URL, headers=headers, dialect=dialect,
                             claims_all=None if name == "openai" else True,
                             operations=operations_of(given.get("operations")))  # fmt: skip
    if known == "anthropic":
        from apikeyrouter.infrastructure.adapters.anthropic_adapter import ANTHROPIC_BASE_URL, AnthropicAdapter

        where = (environ.get("ANTHROPIC_BASE_URL", "").strip() if name == "anthropic" else "") or base_url
        return AnthropicAdapter(where or ANTHROPIC_BASE_URL, headers=headers)
    if known == "gemini":
        from apikeyrouter.infrastructure.adapters.gemini_adapter import GEMINI_BASE_URL, GeminiAdapter

        where = (environ.get("GOOGLE_GEMINI_BASE_URL", "").strip() if name == "gemini" else "") or base_url
        return GeminiAdapter(where or GEMINI_BASE_URL, headers=headers)
    return provider(known, base_url, environ=environ)
