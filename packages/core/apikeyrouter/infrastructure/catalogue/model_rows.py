"""Facts about models that the price list does not tell: longest output, abilities, ends of life; and their other names.

Main entries: `MODELS`, `ALIASES`, `SUCCESSORS`. Prices, and context windows of all models that are not here, come from
genai-prices. Each maker's rows name the page that they were checked against; figures were compared with two public
collections (LiteLLM's model map 1.106.2 and genai-prices) on the same day, and left out where those disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import msgspec

__all__ = ["ALIASES", "CHECKED", "MODELS", "SOURCES", "SUCCESSORS", "ModelRow"]

CHECKED = date(2026, 11, 21)

SOURCES: Mapping[str, str] = {
    "openai": "https://platform.openai.com/docs/models",
    "anthropic": "https://platform.claude.com/docs/en/about-claude/models/overview",
    "gemini": "https://ai.google.dev/gemini-api/docs/models",
    "mistral": "https://docs.mistral.ai/getting-started/models/",
    "deepseek": "https://api-docs.deepseek.com/quick_start/pricing",
    "xai": "https://docs.x.ai/docs/models",
    "cohere": "https://docs.cohere.com/docs/models",
    "moonshot": "https://platform.moonshot.ai/docs/pricing/chat",
    "zai": "https://docs.z.ai/guides/overview/pricing",
    "perplexity": "https://docs.perplexity.ai/getting-started/models",
    "open": "https://huggingface.co/openai/gpt-oss-120b",
}


class ModelRow(msgspec.Struct, frozen=True, gc=False):
    """`context`: tokens of prompt and reply together (of the prompt where makers count so); `output`: the longest reply
    in tokens, None: not told. `abilities`: of "tools", "vision", "json" (schemas) and "reasoning". `ends`: the day on
    which the maker stops serving it, or stopped."""

    maker: str
    context: int | None
    output: int | None
    abilities: frozenset[str]
    ends: date | None = None


_SHORT = {"t": "tools", "v": "vision", "j": "json", "r": "reasoning"}


def _row(maker: str, context: int | None, output: int | None, abilities: str, ends: str = "") -> ModelRow:
    can = frozenset(_SHORT[letter] for letter in abilities)
    return ModelRow(maker, context, output, can, date.fromisoformat(ends) if ends else None)


_M = 1_000_000

MODELS: Mapping[str, ModelRow] = {
    **{f"gpt-6{name}": _row("openai", 1_050_000, 128_000, "tvjr") for name in (".1-sol", "-sol", "-luna", "-astra")},
    **{f"gpt-5.6-{name}": _row("openai", 1_050_000, 128_000, "tvjr") for name in ("sol", "terra", "luna")},
    "gpt-5.5": _row("openai", 1_000_000, 128_000, "tvjr"),
    "gpt-5.4": _row("openai", 1_050_000, 128_000, "tvjr"),
    "gpt-5.4-mini": _row("openai", 400_000, 128_000, "tvjr"),
    "gpt-5.4-nano": _row("openai", 400_000, 128_000, "tvjr", "2027-04-01"),
    "gpt-5.2": _row("openai", 400_000, 128_000, "tvjr"),
    "gpt-5.1": _row("openai", 400_000, 128_000, "tvjr", "2027-04-01"),
    **{f"gpt-5{name}": _row("openai", 400_000, 128_000, "tvjr") for name in ("", "-mini", "-nano")},
    "gpt-4.1": _row("openai", 1_047_576, 32_768, "tvj"),
    "gpt-4.1-mini": _row("openai", 1_047_576, 32_768, "tvj"),
    "gpt-4.1-nano": _row("openai", 1_047_576, 32_768, "tvj", "2026-10-23"),
    "gpt-4o": _row("openai", 128_000, 16_384, "tvj"),
    "gpt-4o-mini": _row("openai", 128_000, 16_384, "tvj"),
    "gpt-4-turbo": _row("openai", 128_000, 4_096, "tv", "2026-10-23"),
    "gpt-4": _row("openai", 8_192, 4_096, "t", "2026-10-23"),
    "gpt-3.5-turbo": _row("openai", 16_385, 4_096, "t", "2026-10-23"),
    "o1": _row("openai", 200_000, 100_000, "tvjr", "2026-10-23"),
    "o3": _row("openai", 200_000, 100_000, "tvjr"),
    "o3-mini": _row("openai", 200_000, 100_000, "tjr", "2026-10-23"),
    "o4-mini": _row("openai", 200_000, 100_000, "tvjr", "2026-10-23"),
    "text-embedding-3-large": _row("openai", 8_191, None, ""),
    "text-embedding-3-small": _row("openai", 8_191, None, ""),
    **{
        f"claude-{name}": _row("anthropic", _M, 128_000, "tvjr")
        for name in (
            "opus-5-5", "sonnet-5-5", "haiku-5-5", "opus-5", "sonnet-5", "opus-4-8", "opus-4-7", "opus-4-6",
            "sonnet-4-6",
        )
    },
    "claude-opus-4-5": _row("anthropic", 200_000, 64_000, "tvjr"),
    "claude-sonnet-4-5": _row("anthropic", 200_000, 64_000, "tvjr", "2026-11-30"),
    "claude-haiku-4-5": _row("anthropic", 200_000, 64_000, "tvjr"),
    "claude-3-opus-20240229": _row("anthropic", 200_000, 4_096, "tv", "2026-01-05"),
    "claude-3-sonnet-20240229": _row("anthropic", 200_000, 4_096, "tv", "2025-07-21"),
    "claude-3-haiku-20240307": _row("anthropic", 200_000, 4_096, "tv", "2026-04-20"),
    **{
        f"gemini-{name}": _row("gemini", 1_048_576, 65_536, "tvjr")
        for name in (
            "3.8-flash", "3.7-flash", "3.6-flash", "3.5-flash", "3.5-flash-lite", "3.1-pro-preview", "2.5-pro",
            "2.5-flash", "2.5-flash-lite", "pro-latest", "flash-latest",
        )
    },
    "gemini-3.1-flash-lite": _row("gemini", 1_048_576, 65_536, "tvjr", "2027-05-07"),
    "mistral-large-latest": _row("mistral", 262_144, None, "tvj"),
    "mistral-large-2512": _row("mistral", 262_144, None, "tvj"),
    "mistral-large-4": _row("mistral", 1_048_576, None, "tvjr"),
    "mistral-medium-latest": _row("mistral", 262_144, None, "tvjr"),
    "mistral-small-latest": _row("mistral", 262_144, None, "tvjr"),
    "ministral-8b-latest": _row("mistral", 262_144, None, "tvj"),
    "codestral-latest": _row("mistral", 256_000, None, "tj"),
    "mistral-embed": _row("mistral", 8_192, None, ""),
    "deepseek-v4-pro": _row("deepseek", _M, 393_216, "tr"),
    "deepseek-v4-flash": _row("deepseek", _M, 393_216, "tvr"),
    "deepseek-flash": _row("deepseek", _M, 393_216, "tvr"),
    "deepseek-chat": _row("deepseek", 131_072, 8_192, "t", "2026-07-24"),
    "deepseek-reasoner": _row("deepseek", 131_072, 65_536, "r", "2026-07-24"),
    **{f"grok-4.{n}": _row("xai", 500_000, None, "tvjr") for n in (5, 6, 7)},
    "grok-4.3": _row("xai", _M, None, "tvjr"),
    "grok-code-fast-1": _row("xai", 256_000, None, "tjr"),
    "command-a-03-2025": _row("cohere", 256_000, 8_000, "tj"),
    "command-r-plus-08-2024": _row("cohere", 128_000, 4_096, "tj"),
    "command-r-08-2024": _row("cohere", 128_000, 4_096, "tj"),
    "kimi-k3": _row("moonshot", 1_048_576, None, "tvjr"),
    "kimi-k2.7-code": _row("moonshot", 262_144, None, "tvjr"),
    "kimi-k2.6": _row("moonshot", 262_144, None, "tvjr"),
    **{f"glm-5.{n}": _row("zai", _M, 128_000, "tr") for n in (2, 3)},
    "glm-4.7": _row("zai", 200_000, 128_000, "tr"),
    "glm-4.6": _row("zai", 200_000, 128_000, "tr"),
    "sonar": _row("perplexity", 128_000, None, "j"),
    "sonar-pro": _row("perplexity", 200_000, 8_000, "j"),
    "sonar-reasoning-pro": _row("perplexity", 128_000, None, "jr"),
    "gpt-oss-120b": _row("open", 131_072, None, "tjr"),
    "gpt-oss-20b": _row("open", 131_072, None, "tjr"),
    "llama-3.3-70b": _row("open", 128_000, None, "tj"),
    "llama-3-70b": _row("open", 8_192, None, ""),
    "llama-3-8b": _row("open", 8_192, None, ""),
}  # fmt: skip

_LLAMA_3_3 = "meta-llama/Llama-3.3-70B-Instruct"

ALIASES: Mapping[str, Mapping[str, str]] = {
    "claude-3-opus": {"anthropic": "claude-3-opus-20240229"},
    "claude-3-sonnet": {"anthropic": "claude-3-sonnet-20240229"},
    "claude-3-haiku": {"anthropic": "claude-3-haiku-20240307"},
    "gemini-pro": {"gemini": "gemini-pro-latest", "gemini-openai": "gemini-pro-latest"},
    "gemini-pro-vision": {"gemini": "gemini-pro-latest", "gemini-openai": "gemini-pro-latest"},
    "gemini-flash": {"gemini": "gemini-flash-latest", "gemini-openai": "gemini-flash-latest"},
    "mistral-large": {"mistral": "mistral-large-latest"},
    "mistral-medium": {"mistral": "mistral-medium-latest"},
    "mistral-small": {"mistral": "mistral-small-latest"},
    "codestral": {"mistral": "codestral-latest"},
    "command-r-plus": {"cohere": "command-r-plus-08-2024"},
    "command-r": {"cohere": "command-r-08-2024"},
    "command-a": {"cohere": "command-a-03-2025"},
    "llama-3-70b": {
        "groq": "llama3-70b-8192",
        "together": "meta-llama/Llama-3-70b-chat-hf",
        "fireworks": "accounts/fireworks/models/llama-v3-70b-instruct",
        "openrouter": "meta-llama/llama-3-70b-instruct",
        "deepinfra": "meta-llama/Meta-Llama-3-70B-Instruct",
        "huggingface": "meta-llama/Meta-Llama-3-70B-Instruct",
        "nvidia": "meta/llama3-70b-instruct",
        "ollama": "llama3:70b",
    },
    "llama-3-8b": {
        "groq": "llama3-8b-8192",
        "together": "meta-llama/Llama-3-8b-chat-hf",
        "openrouter": "meta-llama/llama-3-8b-instruct",
        "deepinfra": "meta-llama/Meta-Llama-3-8B-Instruct",
        "huggingface": "meta-llama/Meta-Llama-3-8B-Instruct",
        "nvidia": "meta/llama3-8b-instruct",
        "ollama": "llama3:8b",
    },
    "llama-3.3-70b": {
        "groq": "llama-3.3-70b-versatile",
        "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "fireworks": "accounts/fireworks/models/llama-v3p3-70b-instruct",
        "openrouter": "meta-llama/llama-3.3-70b-instruct",
        "deepinfra": _LLAMA_3_3,
        "huggingface": _LLAMA_3_3,
        "nebius": _LLAMA_3_3,
        "novita": "meta-llama/llama-3.3-70b-instruct",
        "nvidia": "meta/llama-3.3-70b-instruct",
        "sambanova": "Meta-Llama-3.3-70B-Instruct",
        "ollama": "llama3.3:70b",
    },
    "gpt-oss-120b": {
        "groq": "openai/gpt-oss-120b",
        "together": "openai/gpt-oss-120b",
        "fireworks": "accounts/fireworks/models/gpt-oss-120b",
        "openrouter": "openai/gpt-oss-120b",
        "deepinfra": "openai/gpt-oss-120b",
        "huggingface": "openai/gpt-oss-120b",
        "nvidia": "openai/gpt-oss-120b",
        "ollama": "gpt-oss:120b",
        "ollama-cloud": "gpt-oss:120b",
    },
    "gpt-oss-20b": {
        "groq": "openai/gpt-oss-20b",
        "together": "openai/gpt-oss-20b",
        "fireworks": "accounts/fireworks/models/gpt-oss-20b",
        "openrouter": "openai/gpt-oss-20b",
        "deepinfra": "openai/gpt-oss-20b",
        "huggingface": "openai/gpt-oss-20b",
        "nvidia": "openai/gpt-oss-20b",
        "ollama": "gpt-oss:20b",
        "ollama-cloud": "gpt-oss:20b",
    },
}
"""Family names, and what each provider calls that model. A name stands for one model, or for what its maker itself
calls the latest of the family; never for another model that is merely like it. Providers that are not here are given
the family name as it is."""

SUCCESSORS: Mapping[str, str] = {
    "claude-3-opus": "claude-opus-5-5",
    "claude-3-sonnet": "claude-sonnet-5-5",
    "claude-3-haiku": "claude-haiku-5-5",
    "claude-sonnet-4-5": "claude-sonnet-5-5",
    "gpt-4-turbo": "gpt-4.1",
    "gpt-4": "gpt-4.1",
    "gpt-3.5-turbo": "gpt-4o-mini",
    "gpt-4.1-nano": "gpt-5-nano",
    "o1": "gpt-5",
    "o3-mini": "gpt-5-mini",
    "o4-mini": "gpt-5-mini",
    "deepseek-chat": "deepseek-v4-flash",
    "deepseek-reasoner": "deepseek-v4-pro",
}
"""What to ask for instead of a model whose end is near or past: advice, never done unasked."""
