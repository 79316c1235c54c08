"""What pictures and sound count as input tokens, at the most, whatever their bytes are.

Main entries: `image_tokens_most`, `audio_tokens_most`, `hidden_tokens_most`. Each figure is the documented rule of a
provider at its dearest setting; where a model is not known, the dearest of all rules holds.

Laws: results are upper bounds; a model is known by its name alone, so a deployment with a name of its own gets the
dearest rule.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = [
    "IMAGE_TOKENS",
    "MESSAGE_OVERHEAD_TOKENS",
    "TOOLS_OVERHEAD_TOKENS",
    "audio_tokens_most",
    "hidden_tokens_most",
    "image_tokens_most",
    "name_of",
    "searches_by_itself",
]

MESSAGE_OVERHEAD_TOKENS = 8
"""Role, separators and name of one message, and the primed reply. OpenAI's cookbook ("How to count tokens") counts 3 to
4 a message, 1 for a name and 3 for the reply; doubled."""

TOOLS_OVERHEAD_TOKENS = 1024
"""A provider's hidden instructions when tools are given: Anthropic documents 264 to 804 tokens, depending on the
model."""

IMAGE_TOKENS = 49_152
"""The dearest image: gpt-4o-mini counts 2,833 + 5,667 a tile, and a picture is scaled to at most 8 tiles (48,169)."""

# OpenAI's "Images and vision": tile models count base + 8 tiles at most (2,048 x 768 in tiles of 512), patch models
# 1,536 patches x 2.46 at most. Anthropic's "Vision": width x height / 750 after scaling, 4,784 at most (Opus 4.7; 1,600
# before). xAI: 256 a tile, 6 tiles and one more. Mistral: 4,096 patches of 16 x 16 and a separator a row.
_IMAGES: tuple[tuple[str, int], ...] = (
    ("gpt-4o-mini", IMAGE_TOKENS),
    ("gpt-4.1-mini", 3_779),
    ("gpt-4.1-nano", 3_779),
    ("gpt-4o", 1_445),
    ("gpt-4.1", 1_445),
    ("gpt-4-turbo", 1_445),
    ("chatgpt-4o", 1_445),
    ("o4-mini", 3_779),
    ("o1", 1_275),
    ("o3", 1_275),
    ("claude", 4_784),
    ("grok", 1_792),
    ("pixtral", 4_160),
)

# Instructions that a provider puts before every request and counts as input. None is documented; measured on recorded
# replies (xAI 680, Cohere 490 without and 1,450 with tools, others up to 29), and doubled.
_HIDDEN: tuple[tuple[str, int], ...] = (
    ("grok", 1_536),
    ("command", 1_536),
    ("gpt-oss", 256),
    ("gpt-4o", 0),  # OpenAI's cookbook counts these to the token, and recorded replies agree
    ("gpt-4.1", 0),
    ("gpt-4-", 0),
    ("gpt-3.5", 0),
    ("gpt-", 64),
    ("chatgpt-", 64),
    ("text-", 0),
    ("o1", 64),
    ("o3", 64),
    ("o4", 64),
    ("claude", 64),
    ("gemini", 64),
)
_HIDDEN_UNKNOWN = 256

_SEARCHING = ("compound", "sonar", "-search-preview", "-search-api", "deep-research", ":online")

_AUDIO_TOKENS_PER_S = 32
"""Gemini ("Audio understanding"); OpenAI counts 10 a second."""

_AUDIO_BYTES_PER_S = {"wav": 4_000, "mp3": 1_000}
"""The fewest bytes a second: 8 kHz of 4 bits, and 8 kbit/s, the lowest rate that MPEG-2.5 knows."""

_REGIONS = ("us.", "eu.", "apac.", "global.")
_MAKERS = ("anthropic.", "amazon.", "meta.", "google.", "cohere.", "mistral.", "openai.", "deepseek.", "qwen.")


@lru_cache(1024)
def name_of(model: str) -> str:
    """The model's own name: lower case, without provider prefixes ("openai/", "us.anthropic.")."""
    name = model.rpartition("/")[2].lower()
    for prefixes in (_REGIONS, _MAKERS):
        for prefix in prefixes:
            if name.startswith(prefix):
                name = name[len(prefix) :]
                break
    return name


def image_tokens_most(name: str) -> int:
    """The most input tokens of one picture. `name`: see `name_of`."""
    for prefix, tokens in _IMAGES:
        if name.startswith(prefix):
            return tokens
    return IMAGE_TOKENS


def audio_tokens_most(data_bytes: int, kind: str) -> int | None:
    """The most input tokens of sound in so many bytes; None where its kind ("wav", "mp3", ...) does not bound how long
    it plays."""
    slowest = _AUDIO_BYTES_PER_S.get(kind)
    return None if slowest is None else -(-data_bytes * _AUDIO_TOKENS_PER_S // slowest)


@lru_cache(1024)
def hidden_tokens_most(name: str) -> int:
    """The most tokens that a provider adds to each request of this model of its own accord, tools apart."""
    for prefix, tokens in _HIDDEN:
        if name.startswith(prefix):
            return tokens
    return _HIDDEN_UNKNOWN


@lru_cache(1024)
def searches_by_itself(name: str) -> bool:
    """Whether the model reads other texts before it answers, and counts them as input."""
    return any(mark in name for mark in _SEARCHING)
