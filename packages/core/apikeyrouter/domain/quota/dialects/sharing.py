"""Which models draw on the same limits.

Main entries: `claude_class`, `without_date`, `free_variants`, `whole_account`. A group drawn too wide makes two limits
of the provider fight over one window; one drawn too narrow lets us send a little too much until a header corrects it.
So in doubt the narrower group is chosen.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["ACCOUNT", "FREE_MODELS", "claude_class", "free_variants", "plain_name", "whole_account", "without_date"]

ACCOUNT = "*"
FREE_MODELS = "free-models"

_FAMILY = re.compile(r"\b(opus|sonnet|haiku|fable|instant)\b")
_VERSION = re.compile(r"(?<![\d])(\d{1,2})(?:[-.](\d{1,2}))?(?![\d])")
_DATE = re.compile(r"-(?:20\d{2}-\d{2}-\d{2}|20\d{6})$")
_POOLED_BY_MAJOR = frozenset({("opus", "4"), ("sonnet", "4"), ("haiku", "4"), ("fable", "5")})


@lru_cache(maxsize=1024)
def claude_class(model: str) -> str:
    """The pool of a Claude model: "claude-opus-4" for Opus 4.0 to 4.8, "claude-sonnet-5.5" for Sonnet 5.5.

    Generation 4 shares one limit per family and so does Fable 5; 5 and 5.5 of the other families have limits of their
    own. Source: platform.claude.com/docs/en/api/rate-limits, tables as of 2026-10-17 (read in a copy).
    """
    name = model.lower().rpartition("/")[2].partition("@")[0]
    family = _FAMILY.search(name)
    if family is None:
        return model
    version = _VERSION.search(_DATE.sub("", name.replace(family[1], "")).replace("--", "-"))
    if version is None:
        return f"claude-{family[1]}"
    major, minor = version.groups()
    if minor is None or (family[1], major) in _POOLED_BY_MAJOR:
        return f"claude-{family[1]}-{major}"
    return f"claude-{family[1]}-{major}.{minor}"


@lru_cache(maxsize=1024)
def without_date(model: str) -> str:
    """The alias of a dated snapshot ("gpt-4o-2024-08-06" -> "gpt-4o"): OpenAI's refusals name the alias for both."""
    return _DATE.sub("", model)


def plain_name(model: str) -> str:
    """The model without Google's "models/" in front."""
    return model.removeprefix("models/")


def free_variants(model: str) -> str:
    """OpenRouter's free variants share the account's limits; a paid model has only what the provider behind it sets."""
    return FREE_MODELS if model.endswith(":free") or model == "openrouter/free" else model


def whole_account(_model: str) -> str:
    """Every model draws on the same limits."""
    return ACCOUNT
