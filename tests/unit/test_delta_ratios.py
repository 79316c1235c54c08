"""Output of streams that broke off, estimated from their chunks."""

from __future__ import annotations

from apikeyrouter.domain.cost.deltas import DeltaRatios


def test_a_chunk_is_a_token_until_more_is_known() -> None:
    assert DeltaRatios().tokens("openai", "gpt-4o", 7) == 7


def test_whole_streams_teach_how_many_tokens_a_chunk_carries() -> None:
    ratios = DeltaRatios()
    for _ in range(5):
        ratios.record("google", "gemini", 10, 350)
    assert ratios.tokens("google", "gemini", 4) == 140
    assert ratios.tokens("openai", "gemini", 4) == 4


def test_habits_fade_and_streams_without_chunks_teach_nothing() -> None:
    ratios = DeltaRatios()
    for _ in range(50):
        ratios.record("p", "m", 10, 10)
    ratios.record("p", "m", 0, 500)
    assert ratios.tokens("p", "m", 10) == 10
    for _ in range(200):
        ratios.record("p", "m", 10, 30)
    assert ratios.tokens("p", "m", 10) == 30


def test_memory_is_bounded() -> None:
    ratios = DeltaRatios()
    for number in range(3000):
        ratios.record("p", f"m{number}", 1, 2)
    assert ratios.tokens("p", "m0", 5) == 5
    assert ratios.tokens("p", "m2999", 5) == 10
