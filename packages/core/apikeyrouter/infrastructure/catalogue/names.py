"""Whose model a name stands for, by its shape alone: no list, no file, no network.

Main entries: `makers_of` for names that only one maker gives (gpt-4o, claude-..., gemini-...), `is_open_model` for
models whose weights are published, so that many hosts serve them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["is_open_model", "makers_of"]

_CLOSED: Mapping[str, str] = {
    "openai": r"gpt-(?!oss)|chatgpt-|o[1345](-|$)|text-embedding-|text-davinci|davinci|babbage|omni-mod|dall-e"
    r"|whisper-1$|tts-|codex-|computer-use-|ft:gpt-|ft:o|sora",
    "anthropic": r"claude",
    "gemini": r"gemini|models/gemini|imagen|veo",
    "mistral": r"mistral-(large|medium|small|tiny|embed|saba|ocr|moderation)|codestral|ministral-\d+b-(latest|\d{4}$)"
    r"|magistral-(medium|small)-|devstral-(medium|small)-|pixtral-large|voxtral-.*-latest|open-mi[sx]tral",
    "xai": r"grok",
    "perplexity": r"sonar",
    "cohere": r"command|embed-(v|english|multilingual)|rerank-(v|english|multilingual)|c4ai",
    "deepseek": r"deepseek-(chat|reasoner|flash)$",
    "voyage": r"voyage",
    "jina": r"jina-",
    "writer": r"palmyra",
    "inception": r"mercury",
    "upstage": r"solar-(pro|mini)",
}
"""Beginnings of names that no other host gives to a model. Makers' own lists of models, read 2026-11."""

_closed = [(maker, re.compile(shape)) for maker, shape in _CLOSED.items()]

_OPEN = re.compile(
    r"llama|meta-llama|codellama|qwen|qwq|qvq|gpt-oss|mi[sx]tral|gemma|deepseek|kimi|moonshotai|glm|zai-org|phi-?\d"
    r"|nemotron|hermes|minimax|yi-|falcon|olmo|granite|internlm|baichuan|starcoder|bge-|e5-|nomic-embed|all-minilm"
    r"|mxbai-embed|whisper-large|flux|stable-diffusion|smollm|vicuna|wizardlm|dolphin|zephyr|step-\d|aya|devstral|magistral",
    re.IGNORECASE,
)


def makers_of(model: str) -> str | None:
    """The id of the only provider that gives this name to a model of its own, or None."""
    return next((maker for maker, shape in _closed if shape.match(model)), None)


def is_open_model(model: str) -> bool:
    """Whether the name looks like that of a model with open weights, or like an organisation's: `org/model`."""
    return "/" in model or _OPEN.match(model) is not None
