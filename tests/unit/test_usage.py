"""Reading usage from bodies in OpenAI's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai, usage_of_openai_object


def both(body: dict[str, Any]) -> Usage | None:
    """Reads a body as bytes and as an object; they must agree."""
    from_bytes = usage_of_openai(json.dumps(body).encode())
    assert from_bytes == usage_of_openai_object(body)
    return from_bytes


def test_a_chat_completion_with_every_class() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 5, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 2, "accepted_prediction_tokens": 0},
    }
    assert both({"id": "x", "choices": [], "usage": usage}) == Usage(
        input_tokens=100,
        output_tokens=50,
        cached_input_tokens=30,
        cache_write_tokens=20,
        reasoning_tokens=40,
        audio_input_tokens=5,
        audio_output_tokens=2,
    )


def test_a_responses_body_and_its_last_stream_event() -> None:
    usage = {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 123,
    }
    expected = Usage(input_tokens=36, output_tokens=87, cached_input_tokens=8, reasoning_tokens=64)
    assert both({"object": "response", "usage": usage}) == expected
    assert both({"type": "response.completed", "response": {"usage": usage}}) == expected


def test_embeddings_have_input_only() -> None:
    usage = both({"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}})
    assert usage == Usage(input_tokens=8)


def test_usage_of_a_groq_stream_is_found_where_groq_puts_it() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert both({"choices": [], "x_groq": {"id": "r", "usage": usage}}) == Usage(3, 4)


def test_an_explicit_zero_is_a_value() -> None:
    assert both({"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}) == Usage()


@pytest.mark.parametrize("body", [{}, {"usage": None}, {"usage": {}}, {"usage": {"cost": 3}}, {"response": None}])
def test_no_usage_is_none(body: dict[str, Any]) -> None:
    assert both(body) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"[1]", b'"usage"', b"{", b"\xff\xfe", b"null", b'{"usage":"none"}', b"[" * 100_000],
)
def test_what_is_no_reply_is_none_and_raises_nothing(body: bytes) -> None:
    assert usage_of_openai(body) is None


def test_fields_of_odd_types_count_as_absent_and_the_others_still_count() -> None:
    body = {"usage": {"prompt_tokens": 12.0, "completion_tokens": "7", "total_tokens": 20, "prompt_tokens_details": []}}
    assert both(body) == Usage(input_tokens=12)


def test_a_total_alone_is_taken_as_input() -> None:
    assert both({"usage": {"total_tokens": 9}}) == Usage(input_tokens=9)
    assert both({"usage": {"total_tokens": 9, "completion_tokens": 4}}) == Usage(5, 4)


def test_more_cached_than_input_is_cut_and_flagged() -> None:
    usage = both(
        {"usage": {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 99}}}
    )
    assert usage == Usage(10, 1, cached_input_tokens=10, clamped=True)


def test_negative_and_absurd_counts_are_cut_and_flagged() -> None:
    usage = both({"usage": {"prompt_tokens": -5, "completion_tokens": 10**30}})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.clamped) == (0, 2**53, True)


def test_parts_of_the_input_are_cut_so_that_they_fit_together() -> None:
    details = {"cached_tokens": 6, "cache_write_tokens": 6, "audio_tokens": -1}
    usage = both({"usage": {"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": details}})
    assert usage == Usage(10, cached_input_tokens=6, cache_write_tokens=4, clamped=True)


def test_reasoning_beside_the_completion_is_output_too_when_the_total_says_so() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    assert both({"usage": usage}) == Usage(10, 105, reasoning_tokens=100)


def test_deepseek_reports_cache_hits_at_the_top() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2}
    assert both({"usage": usage}) == Usage(10, 5, cached_input_tokens=8)
