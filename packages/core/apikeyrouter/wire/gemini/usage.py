"""Usage in Google's words: `usageMetadata`, written, and read cheaply while a stream tells it with every chunk.

Main entries: `usage_metadata` and `UsageWatch`. The reading itself is `domain.cost`'s.
Law: what is written is read back as the same usage, but for classes that Google has no member for (cache writes).
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini

__all__ = ["UsageWatch", "usage_metadata"]

_GROWING = ("candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")


class UsageWatch:
    """Reads the usage of chunk after chunk; most differ from the one before in the length of the output alone.

    `usage`: the latest, None as long as none was told.
    """

    __slots__ = ("_steady", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._steady: dict[str, Any] = {}

    def read(self, metadata: dict[str, Any]) -> bool:
        """Whether the chunk told a usage."""
        steady = {name: value for name, value in metadata.items() if name not in _GROWING}
        candidates, thoughts = metadata.get("candidatesTokenCount", 0), metadata.get("thoughtsTokenCount", 0)
        same = steady == self._steady and "candidatesTokensDetails" not in steady
        if self.usage is not None and same and _are_counts(candidates, thoughts):
            self.usage = _longer(self.usage, candidates, thoughts)
            return True
        found = usage_of_gemini({"usageMetadata": metadata})
        if found is None:
            return False
        self.usage, self._steady = found, steady
        return True


def _are_counts(candidates: object, thoughts: object) -> bool:
    return type(candidates) is int and type(thoughts) is int and candidates >= 0 and thoughts >= 0


def _longer(usage: Usage, candidates: int, thoughts: int) -> Usage:
    return Usage(
        usage.input_tokens,
        candidates + thoughts,
        usage.cached_input_tokens,
        reasoning_tokens=thoughts,
        audio_input_tokens=usage.audio_input_tokens,
        clamped=usage.clamped,
        cached_audio_tokens=usage.cached_audio_tokens,
        image_input_tokens=usage.image_input_tokens,
        cached_image_tokens=usage.cached_image_tokens,
        video_input_tokens=usage.video_input_tokens,
        counts=usage.counts,
        service_tier=usage.service_tier,
    )


_TIERS = ("flex", "priority")
"""Google's own words; other providers' would mean nothing to its SDK."""


class _Modality(msgspec.Struct, gc=False):
    modality: str
    tokenCount: int  # noqa: N815 - Google's name


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    prompt_token_count: int
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    cached_content_token_count: int = 0
    prompt_tokens_details: list[_Modality] = []
    cache_tokens_details: list[_Modality] = []
    candidates_tokens_details: list[_Modality] = []
    thoughts_token_count: int = 0
    service_tier: str = ""


def usage_metadata(usage: Usage) -> _Metadata:
    """The `usageMetadata` of a reply. Tool-use prompts count as prompt."""
    candidates = usage.output_tokens - usage.reasoning_tokens
    told = _Metadata(
        usage.input_tokens,
        candidates,
        usage.total_tokens,
        usage.cached_input_tokens,
        thoughts_token_count=usage.reasoning_tokens,
        service_tier=usage.service_tier if usage.service_tier in _TIERS else "",
    )
    if usage.input_tokens:
        told.prompt_tokens_details = _details(
            usage.input_tokens, usage.audio_input_tokens, usage.image_input_tokens, usage.video_input_tokens
        )
    if usage.cached_audio_tokens or usage.cached_image_tokens:
        told.cache_tokens_details = _details(
            usage.cached_input_tokens, usage.cached_audio_tokens, usage.cached_image_tokens, 0
        )
    if usage.audio_output_tokens or usage.image_output_tokens or usage.video_output_tokens:
        told.candidates_tokens_details = _details(
            candidates, usage.audio_output_tokens, usage.image_output_tokens, usage.video_output_tokens
        )
    return told


def _details(total: int, audio: int, image: int, video: int) -> list[_Modality]:
    parts = (("TEXT", total - audio - image - video), ("AUDIO", audio), ("IMAGE", image), ("VIDEO", video))
    return [_Modality(name, count) for name, count in parts if count > 0]
