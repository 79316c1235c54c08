"""How names of LiteLLM's configuration map to ours.

Source: its documentation of config.yaml (https://docs.litellm.ai/docs/proxy/configs, /docs/proxy/config_settings,
/docs/providers; read 2026-11-21). What stands in no table here is told as not mapped.
"""

from __future__ import annotations

from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row

__all__ = ["LIMITS", "ONLY_TOLD", "STRATEGIES", "TIERS", "environment_name", "provider_id_of", "provider_of_model"]

_PROVIDERS = {
    "azure_text": "azure", "azure_ai": "", "ollama_chat": "ollama", "text-completion-openai": "openai",
    "custom_openai": "openai", "openai_like": "openai", "cohere_chat": "cohere", "google_ai_studio": "gemini",
    "lm_studio": "lmstudio",
}  # fmt: skip
"""Its provider prefixes that are called otherwise here; "": no counterpart."""

_MODEL_STARTS = (
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "dall-e", "whisper", "tts-"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "gemini"),
    (("mistral-", "codestral", "ministral"), "mistral"),
    (("deepseek-",), "deepseek"),
    (("command",), "cohere"),
)

STRATEGIES = {
    "simple-shuffle": "fairness",
    "least-busy": "reliability",
    "usage-based-routing": "reliability",
    "usage-based-routing-v2": "reliability",
    "latency-based-routing": "latency",
    "cost-based-routing": "cost",
}
"""Its routing strategies, as objectives."""

LIMITS = {"rpm": "rpm", "tpm": "tpm", "itpm": "itpm", "otpm": "otpm", "max_parallel_requests": "concurrency"}
"""Its limits of a row, as limits of a key."""

TIERS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
}
"""Its prices, per token."""

ONLY_TOLD = {
    "redis_host": "state that processes share is kept by server.store: redis://... or postgresql://...",
    "redis_port": "see redis_host",
    "redis_password": "see redis_host",
    "redis_url": "state that processes share is kept by server.store: redis://... or postgresql://...",
    "database_url": "state is kept by server.store: a SQLite file by default, or postgresql://...",
    "cooldown_time": "not needed: rests follow the provider's hints and the kind of fault",
    "allowed_fails": "not needed: breakers open on the share of failures",
    "retry_after": "not needed: waits follow the provider's hints",
    "enable_pre_call_checks": "not needed: context windows and limits are always checked first",
    "cache": "replies are not cached",
    "cache_params": "replies are not cached",
    "success_callback": "metrics are at /metrics, decisions at /api/v1/decisions; webhooks send alerts",
    "failure_callback": "metrics are at /metrics, decisions at /api/v1/decisions; webhooks send alerts",
    "callbacks": "metrics are at /metrics, decisions at /api/v1/decisions; webhooks send alerts",
    "alerting": "alerts go to webhook.url",
    "content_policy_fallbacks": "a refusal on policy grounds is the caller's to decide; use fallbacks",
    "order": "targets of a deployment take turns; put those that stand in under fallbacks",
    "store_model_in_db": "objects of the API are always stored",
}
"""What has no member of its own here, and what to do instead."""


def provider_id_of(prefix: str) -> str | None:
    """Our provider for a prefix of LiteLLM's; None when there is none."""
    if prefix in _PROVIDERS:
        return _PROVIDERS[prefix] or None
    if prefix in NATIVE:
        return prefix
    row = find_row(prefix)
    return row.id if row is not None else None


def provider_of_model(model: str) -> str | None:
    """The provider that makes a model that is written without one."""
    return next((provider for starts, provider in _MODEL_STARTS if model.startswith(starts)), None)


def environment_name(provider_id: str) -> str:
    """The variable that usually holds this provider's key."""
    native = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY",
              "azure": "AZURE_API_KEY", "cohere": "COHERE_API_KEY"}  # fmt: skip
    row = find_row(provider_id)
    if provider_id in native:
        return native[provider_id]
    return row.env[0] if row is not None and row.env else f"{provider_id.upper().replace('-', '_')}_API_KEY"
