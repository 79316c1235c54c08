"""Usage as each provider words it: whole replies, streams cut anywhere, and nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.cost.usage_dialects import Dialect, usage_of
from apikeyrouter.domain.cost.usage_replies import UsageReader, dialect_of, usage_of_reply

SAMPLES: list[tuple[str, str, dict[str, Any], Usage]] = [
    (
        "OpenAI chat",
        "api.openai.com",
        {
            "service_tier": "flex",
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 5},
            },
        },
        Usage(100, 50, 30, 0, 20, 10, 5, service_tier="flex"),
    ),
    (
        "OpenAI Responses",
        "api.openai.com",
        {
            "object": "response",
            "service_tier": "default",
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 5},
                "output_tokens": 50,
                "output_tokens_details": {"reasoning_tokens": 20},
                "total_tokens": 150,
            },
        },
        Usage(100, 50, 40, 5, 20),
    ),
    ("OpenAI embeddings", "api.openai.com", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(9)),
    (
        "OpenAI realtime",
        "api.openai.com",
        {
            "type": "response.done",
            "response": {
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 60,
                    "input_token_details": {
                        "audio_tokens": 70,
                        "image_tokens": 3,
                        "cached_tokens": 20,
                        "cached_tokens_details": {"audio_tokens": 15, "image_tokens": 2},
                    },
                    "output_token_details": {"audio_tokens": 40},
                }
            },
        },
        Usage(100, 60, 20, 0, 0, 70, 40, cached_audio_tokens=15, image_input_tokens=3, cached_image_tokens=2),
    ),
    (
        "OpenAI images",
        "api.openai.com",
        {
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 1056,
                "output_tokens_details": {"image_tokens": 1056},
                "total_tokens": 1106,
            }
        },
        Usage(50, 1056, image_input_tokens=40, image_output_tokens=1056),
    ),
    (
        "OpenAI transcription",
        "api.openai.com",
        {"text": "hi", "usage": {"type": "duration", "seconds": 2.5}},
        Usage(counts={"audio_seconds": Decimal("2.5")}),
    ),
    (
        "Anthropic",
        "api.anthropic.com",
        {
            "type": "message",
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 300,
                "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
                "cache_read_input_tokens": 1000,
                "output_tokens": 60,
                "output_tokens_details": {"thinking_tokens": 25},
                "server_tool_use": {"web_search_requests": 2},
                "service_tier": "batch",
            },
        },
        Usage(
            1310, 60, 1000, 300, 25, cache_write_1h_tokens=100, counts={"web_searches": 2}, service_tier="batch"
        ),
    ),
    (
        "Gemini",
        "generativelanguage.googleapis.com",
        {
            "usageMetadata": {
                "promptTokenCount": 100,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 70,
                "toolUsePromptTokenCount": 8,
                "cachedContentTokenCount": 40,
                "totalTokenCount": 198,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 30},
                    {"modality": "AUDIO", "tokenCount": 50},
                    {"modality": "IMAGE", "tokenCount": 15},
                    {"modality": "DOCUMENT", "tokenCount": 5},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 12}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 20}],
                "serviceTier": "flex",
            },
            "modelVersion": "gemini",
        },
        Usage(
            108,
            90,
            40,
            0,
            70,
            50,
            cached_audio_tokens=12,
            image_input_tokens=20,
            image_output_tokens=20,
            service_tier="flex",
        ),
    ),
    (
        "Vertex, thoughts only",
        "aiplatform.googleapis.com",
        {"usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 7, "trafficType": "ON_DEMAND_PRIORITY"}},
        Usage(5, 7, reasoning_tokens=7, service_tier="priority"),
    ),
    (
        "Bedrock Converse",
        "bedrock-runtime.us-east-1.amazonaws.com",
        {
            "usage": {
                "inputTokens": 3,
                "outputTokens": 61,
                "cacheReadInputTokens": 2074,
                "cacheReadInputTokenCount": 2074,
                "cacheWriteInputTokens": 297,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 97}],
                "totalTokens": 2435,
            }
        },
        Usage(2374, 61, 2074, 297, cache_write_1h_tokens=97),
    ),
    (
        "Bedrock Titan",
        "bedrock-runtime.us-east-1.amazonaws.com",
        {"inputTextTokenCount": 5, "results": [{"tokenCount": 11, "outputText": "x"}, {"tokenCount": 2}]},
        Usage(5, 13),
    ),
    (
        "Bedrock Llama",
        "bedrock-runtime.us-east-1.amazonaws.com",
        {"generation": "x", "prompt_token_count": 5, "generation_token_count": 11},
        Usage(5, 11),
    ),
    (
        "Cohere v2",
        "api.cohere.com",
        {
            "usage": {
                "billed_units": {"input_tokens": 5, "output_tokens": 6.0},
                "tokens": {"input_tokens": 500, "output_tokens": 8},
                "cached_tokens": 16,
            }
        },
        Usage(5, 6),
    ),
    ("Cohere embeddings", "api.cohere.com", {"meta": {"billed_units": {"input_tokens": 7, "image_tokens": 3}}},
     Usage(10, image_input_tokens=3)),
    ("Cohere rerank", "api.cohere.com", {"meta": {"billed_units": {"search_units": 1}}},
     Usage(counts={"rerank_searches": 1})),
    (
        "DeepSeek",
        "api.deepseek.com",
        {
            "usage": {
                "prompt_tokens": 90,
                "completion_tokens": 10,
                "total_tokens": 100,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 26,
            }
        },
        Usage(90, 10, 64),
    ),
    (
        "xAI, reasoning beside the completion",
        "api.x.ai",
        {
            "usage": {
                "prompt_tokens": 50,
                "completion_tokens": 10,
                "total_tokens": 160,
                "completion_tokens_details": {"reasoning_tokens": 100},
            }
        },
        Usage(50, 110, reasoning_tokens=100),
    ),
    (
        "xAI without a total",
        "api.x.ai",
        {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "reasoning_tokens": 9, "cached_prompt_text_tokens": 4}},
        Usage(5, 10, 4, reasoning_tokens=9),
    ),
    (
        "Perplexity",
        "api.perplexity.ai",
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 70,
                "total_tokens": 100,
                "citation_tokens": 200,
                "reasoning_tokens": 900,
                "num_search_queries": 3,
            }
        },
        Usage(30, 1170, reasoning_tokens=900, citation_tokens=200, counts={"web_searches": 3}),
    ),
    (
        "OpenRouter",
        "openrouter.ai",
        {"usage": {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37, "cost": 0.0000123456}},
        Usage(30, 7, billed_nano_usd=12_346),
    ),
    ("Moonshot", "api.moonshot.ai", {"usage": {"prompt_tokens": 30, "completion_tokens": 7, "cached_tokens": 20}},
     Usage(30, 7, 20)),
    ("Mistral", "api.mistral.ai", {"usage": {"prompt_tokens": 30, "completion_tokens": 7, "num_cached_tokens": 20}},
     Usage(30, 7)),
    ("Mistral OCR", "api.mistral.ai", {"usage_info": {"pages_processed": 4}},
     Usage(counts={"input_document_pages": 4})),
    (
        "Writer",
        "api.writer.com",
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 7,
                "prompt_token_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 2},
            }
        },
        Usage(30, 7, 5, reasoning_tokens=2),
    ),
    ("Ollama", "localhost", {"done": True, "prompt_eval_count": 17, "eval_count": 88}, Usage(17, 88)),
    ("an explicit zero", "", {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, Usage(0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("host", "body", "expected"), [row[1:] for row in SAMPLES], ids=[row[0] for row in SAMPLES])
def test_each_provider_is_read_in_its_own_words(host: str, body: dict[str, Any], expected: Usage) -> None:
    assert usage_of_reply(host, body) == expected
    assert usage_of_reply(host, json.dumps(body)) == expected
    assert usage_of_reply(f"{host}:443", json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usage": None},
        {"usage": []},
        {"usage": {}},
        {"usage": {"prompt_tokens": "many"}},
        {"usageMetadata": {"trafficType": "ON_DEMAND"}},
        {"error": {"message": "no"}},
        {"type": "message_delta", "usage": {"server": 1}},
    ],
)
def test_absent_usage_is_none_and_not_zero(body: dict[str, Any]) -> None:
    assert usage_of_reply("", body) is None
    for dialect in Dialect:
        assert usage_of(dialect, body) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"data: {\n\n", b"[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")],
)
def test_what_is_no_json_holds_no_usage(body: bytes) -> None:
    assert usage_of_reply("", body) is None


def test_a_named_dialect_is_believed_against_the_shape() -> None:
    body = {"usage": {"input_tokens": 5, "cache_read_input_tokens": 90, "output_tokens": 2}}
    assert usage_of_reply("", body) == Usage(95, 2, 90)
    assert usage_of_reply(Dialect.OpenAI, body) == Usage(5, 2)
    assert usage_of_reply(Dialect.Embeddings, {"usage": {"prompt_tokens": 5, "completion_tokens": 9}}) == Usage(5)
    cohere = {"usage": {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 9}, "cached_tokens": 4}}
    assert usage_of_reply(Dialect.CohereTokens, cohere) == Usage(9, 0, 4)
    pages = {"usage_info": {"pages_processed": 2}}
    both = {"input_document_pages": 2, "input_annotated_document_pages": 2}
    assert usage_of_reply(Dialect.AnnotatedPages, pages) == Usage(counts=both)


def test_impossible_counts_are_cut_and_marked() -> None:
    usage = usage_of_reply("", {"usageMetadata": {"promptTokenCount": 5, "cachedContentTokenCount": 9}})
    assert usage == Usage(5, 0, 5, clamped=True)
    usage = usage_of_reply("", {"usage": {"inputTokens": -3, "outputTokens": 10**40}})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.clamped) == (0, 2**53, True)
    usage = usage_of_reply("", {"usage": {"inputTokens": 3, "cacheDetails": [{"ttl": "1h", "inputTokens": 9}]}})
    assert usage == Usage(3, clamped=True)
    many = {"modality": "IMAGE", "tokenCount": 50}
    usage = usage_of_reply("", {"usageMetadata": {"promptTokenCount": 5, "promptTokensDetails": [many, many, None]}})
    assert usage == Usage(5, image_input_tokens=5, clamped=True)


def test_a_providers_bill_must_make_sense() -> None:
    for cost in ("1", -1, True, 1e300, None):
        body = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": cost}}
        usage = usage_of_reply("openrouter.ai", body)
        assert usage is not None
        assert usage.billed_nano_usd is None
        assert usage_of_openai(json.dumps(body).encode()) == usage


def sse(events: list[Mapping[str, Any]]) -> bytes:
    return b"".join(b"event: x\ndata: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


STREAMS: list[tuple[str, str, bytes, Usage]] = [
    (
        "Anthropic: input at the start, output as a running total",
        "api.anthropic.com",
        sse(
            [
                {
                    "type": "message_start",
                    "message": {
                        "usage": {
                            "input_tokens": 10,
                            "cache_read_input_tokens": 90,
                            "cache_creation_input_tokens": 0,
                            "output_tokens": 1,
                            "service_tier": "priority",
                        }
                    },
                },
                {"type": "content_block_delta", "delta": {"text": "usage"}},
                {"type": "message_delta", "usage": {"output_tokens": 20}},
                {"type": "message_delta", "usage": {"output_tokens": 45, "cache_read_input_tokens": None}},
            ]
        ),
        Usage(100, 45, 90, service_tier="priority"),
    ),
    (
        "OpenAI chat",
        "api.openai.com",
        sse([{"choices": [], "usage": None}, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}]),
        Usage(9, 3),
    ),
    (
        "OpenAI Responses",
        "api.openai.com",
        sse(
            [
                {"type": "response.created", "response": {"usage": None}},
                {
                    "type": "response.completed",
                    "response": {
                        "service_tier": "priority",
                        "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
                    },
                },
            ]
        ),
        Usage(9, 3, service_tier="priority"),
    ),
    (
        "Groq",
        "api.groq.com",
        sse([{"x_groq": {"id": "r"}}, {"x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}}]),
        Usage(9, 3),
    ),
    (
        "Gemini: every event has the running total",
        "generativelanguage.googleapis.com",
        sse(
            [
                {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 5}},
                {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 5, "candidatesTokenCount": 8}},
            ]
        ),
        Usage(9, 13, reasoning_tokens=5),
    ),
    (
        "Cohere v2",
        "api.cohere.com",
        sse([{"type": "message-end", "delta": {"usage": {"billed_units": {"input_tokens": 4, "output_tokens": 2}}}}]),
        Usage(4, 2),
    ),
    (
        "Bedrock",
        "bedrock-runtime.us-east-1.amazonaws.com",
        sse([{"metadata": {"usage": {"inputTokens": 4, "outputTokens": 2}}}]),
        Usage(4, 2),
    ),
    (
        "Ollama: one object a line",
        "localhost",
        b'{"message":{},"done":false}\n{"done":true,"prompt_eval_count":17,"eval_count":88}\n',
        Usage(17, 88),
    ),
]


@pytest.mark.parametrize(("host", "stream", "expected"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_streams_are_read_wherever_they_are_cut(host: str, stream: bytes, expected: Usage) -> None:
    assert usage_of_reply(host, stream) == expected
    for size in (1, 2, 7, 64):
        reader = UsageReader(host)
        for piece in pieces(stream, size):
            reader.feed(piece)
        assert reader.usage == expected


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(stream), size):
        yield stream[start : start + size]


def test_a_line_that_is_too_long_is_skipped_and_does_not_fill_the_memory() -> None:
    reader = UsageReader("api.openai.com")
    reader.feed(b'{"a":"')
    for _ in range(17):
        reader.feed(b"x" * 1024 * 1024)
    reader.feed(b'","usage":{"prompt_tokens":1}}\n')
    assert reader.usage is None
    reader.feed(b'data: {"usage":{"prompt_tokens":7}}\n\n')
    assert reader.usage == Usage(7)


def test_gemini_streams_as_one_list_too() -> None:
    parts = [
        {"usageMetadata": {"promptTokenCount": 3}},
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}},
    ]
    assert usage_of_reply("generativelanguage.googleapis.com", json.dumps(parts)) == Usage(3, 4)


WORDS = (
    "usage", "usageMetadata", "response", "message", "delta", "meta", "metadata", "billed_units", "tokens", "x_groq",
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "promptTokenCount",
    "candidatesTokenCount", "cachedContentTokenCount", "promptTokensDetails", "inputTokens", "cacheReadInputTokens",
    "prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens", "seconds", "cost",
    "num_search_queries", "citation_tokens", "input_token_details", "service_tier", "usage_info", "tokenUsage",
)  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(WORDS), JSON, max_size=4), st.sampled_from(["", "api.x.ai", "api.perplexity.ai"])
)
def test_nothing_raises_and_every_usage_is_possible(body: dict[str, Any], host: str) -> None:
    dialect_of(body, host)
    reader = UsageReader(host)
    reader.read(body)
    for usage in (usage_of_reply(host, body), reader.usage, *[usage_of(dialect, body) for dialect in Dialect]):
        if usage is None:
            continue
        assert 0 <= usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens <= 2**53
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens <= 2**53
        assert 0 <= usage.cached_audio_tokens + usage.cached_image_tokens <= usage.cached_input_tokens
        assert all(count >= 0 for count in (usage.counts or {}).values())
