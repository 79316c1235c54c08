"""What models take, told by their names, where servers of chat completions differ and refuse what they do not know.

Everything here is about members that some servers reject with 400 (OpenAI does with any that it does not know) while
others need them. A name that says nothing gets the plain form that all take.
Sources: OpenAI's API reference and model pages; openrouter.ai/docs/use-cases/reasoning-tokens; api-docs.deepseek.com
(guides/thinking_mode); platform.moonshot.ai (kimi-k2-thinking): thoughts between tool calls must be sent back
(all read 2026-11).
"""

from __future__ import annotations

import re

from apikeyrouter.domain.cost.fit import cap_member
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.effort import effort_of
from apikeyrouter.wire.facts import ReasoningWish

__all__ = [
    "effort_word", "is_openai", "keeps_thoughts", "takes_cache_marks", "takes_details", "takes_developer", "text_only",
]  # fmt: skip

_OPENAI = re.compile(r"(?:openai/)?(?:gpt-(?!oss)|chatgpt-|o\d|codex|computer-use|ft:)")
_THINKS_ALOUD = re.compile(r"deepseek|kimi|glm|qwen|minimax|mimo", re.IGNORECASE)
_CACHE_MARKS = re.compile(r"claude|gemini", re.IGNORECASE)
_THOUGHTLESS = re.compile(
    r"(?:.*/)?(?:gpt-3|gpt-4|chatgpt-4o|(?:meta-)?llama|mi[xs]tral-|open-mi|codestral|gemma-?[123]|command-r|phi-[34])",
    re.IGNORECASE,
)
_OLDEST_WITH_NONE = re.compile(r"(?:.*/)?gpt-(?:5\.[1-9]|[6-9]|\d\d)")
_OWN_DETAILS = {
    Wire.Messages.value: "anthropic/",
    Wire.Gemini.value: "google/",
    Wire.Responses.value: "openai/",
}


def is_openai(model: str) -> bool:
    """Whether the name is one of OpenAI's hosted models, whose server refuses members that it does not know."""
    return _OPENAI.match(model) is not None


def takes_developer(model: str) -> bool:
    """Whether turns of the developer may be called so. Elsewhere they are the system's, which means the same."""
    return cap_member(model) == "max_completion_tokens"


def keeps_thoughts(model: str) -> bool:
    """Whether thoughts of earlier turns are sent back as `reasoning_content`."""
    return _THINKS_ALOUD.search(model) is not None


def takes_details(model: str, origin: str) -> bool:
    """Whether signed thoughts of `origin` go to their own maker through a gateway that hands them on (OpenRouter's
    names are vendor/model)."""
    vendor = _OWN_DETAILS.get(origin)
    return vendor is not None and model.startswith(vendor) and "gpt-oss" not in model


def takes_cache_marks(model: str) -> bool:
    """Whether `cache_control` in parts is understood: models of Anthropic and Google behind gateways."""
    return _CACHE_MARKS.search(model) is not None


def text_only(model: str) -> bool:
    """Whether contents must be strings, not lists of parts (DeepSeek's own server)."""
    return model.startswith("deepseek")


def effort_word(model: str, wish: ReasoningWish) -> str | None:
    """The `reasoning_effort` for a wish, None when the model gets none: it does not think, or nothing was wished.

    Budgets become words by their size (`effort.py`).
    "none" is turned into the least that the model knows, where it is known.
    """
    word = wish.effort
    if word is None and wish.budget_tokens is not None:
        word = effort_of(wish.budget_tokens)
    if word is None or _THOUGHTLESS.match(model):
        return None
    if word == "none" and cap_member(model) == "max_completion_tokens" and not _OLDEST_WITH_NONE.match(model):
        return "minimal" if "gpt-5" in model else "low"
    if word == "none" and "gpt-oss" in model:
        return "low"
    return word
