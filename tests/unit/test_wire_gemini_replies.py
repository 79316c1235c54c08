"""Replies, streams and errors in Gemini's format: read from Google, written for clients."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini
from apikeyrouter.domain.models.call import Call, Operation, Peek, Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)
from apikeyrouter.wire.gemini.usage import UsageWatch, usage_metadata

CODEC = codec_of(Wire.Gemini)
CALL = Call("r", Operation.Gemini, "gemini-2.5-flash", b"{}", Peek(), 0.0, 60.0)
USAGE = {
    "promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 6, "totalTokenCount": 25,
    "toolUsePromptTokenCount": 5, "cachedContentTokenCount": 3,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "IMAGE", "tokenCount": 2}],
}  # fmt: skip


def reply(parts: list[dict[str, Any]], reason: str | int = "STOP", **members: Any) -> bytes:
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}
    body = {"candidates": [candidate], "responseId": "A-b.c/9", "modelVersion": "gemini-2.5-flash", **members}
    return json.dumps(body).encode()


def chunk(parts: list[dict[str, Any]], reason: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "responseId": "id1", "modelVersion": "m", **members}


def as_events(chunks: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in chunks)


def as_array(chunks: Sequence[dict[str, Any]]) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(one, indent=2).encode() for one in chunks) + b"\n]\n"


def decoded(raw: bytes, sizes: Sequence[int] = ()) -> list[Event]:
    decoder = CODEC.decoder()
    events: list[Event] = []
    at = 0
    for size in sizes:
        events += decoder.feed(raw[at : at + size])
        at += size
    events += decoder.feed(raw[at:])
    return [*events, *decoder.finish()]


STREAM = [
    chunk([{"text": "Let me ", "thought": True}], usageMetadata={"promptTokenCount": 9, "thoughtsTokenCount": 2}),
    chunk([{"text": "see \"}{\\", "thought": True}]),
    chunk([{"text": "Há: "}, {"text": "{[\"\\\""}]),
    chunk([{"text": "", "thoughtSignature": "c2ln"}]),
    chunk([{"functionCall": {"name": "f", "args": {"a": "}\""}}, "thoughtSignature": "eA=="},
           {"functionCall": {"name": "f", "args": {}, "id": "own"}}]),
    chunk([{"text": ""}], "STOP", usageMetadata=USAGE),
]  # fmt: skip


# -- whole replies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("STOP", Stop.End), (1, Stop.End), ("MAX_TOKENS", Stop.Length), (2, Stop.Length), ("SAFETY", Stop.Filter),
        ("RECITATION", Stop.Filter), ("BLOCKLIST", Stop.Filter), ("PROHIBITED_CONTENT", Stop.Filter),
        ("SPII", Stop.Filter), ("IMAGE_SAFETY", Stop.Filter), ("LANGUAGE", Stop.Filter), ("MODEL_ARMOR", Stop.Filter),
        ("CONTINUATION", Stop.Pause), ("MALFORMED_FUNCTION_CALL", Stop.End), ("OTHER", Stop.End), ("NEW", Stop.End),
    ],
)  # fmt: skip
def test_every_finish_reason_is_read(reason: str | int, stop: Stop) -> None:
    assert CODEC.read_answer(reply([{"text": "x"}], reason)).choices[0].stop is stop


def test_calls_end_a_reply_as_calls_and_get_ids_that_every_format_takes() -> None:
    parts: list[dict[str, Any]] = [{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "eA=="},
             {"functionCall": {"name": "g"}}, {"functionCall": {"name": "g", "id": "own"}}]  # fmt: skip
    (choice,) = CODEC.read_answer(reply(parts)).choices
    assert choice.stop is Stop.Tools
    assert choice.parts == [
        ToolCall("call_A-bc9_0", "f", '{"a":1}', signature="eA=="),
        ToolCall("call_A-bc9_1", "g", "{}"),
        ToolCall("own", "g", "{}"),
    ]


def test_a_reply_with_everything_says_the_same_when_it_is_written_again() -> None:
    parts: list[dict[str, Any]] = [
        {"text": "hm", "thought": True, "thoughtSignature": "YQ=="},
        {"text": "Ü is a letter.", "thoughtSignature": "Yg=="},
        {"inlineData": {"mimeType": "image/png", "data": "a+/="}},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
    ]
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 5, "text": "is"}, "groundingChunkIndices": [0]},
        ],
    }
    logprobs = {
        "chosenCandidates": [{"token": "Ü", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "Ü", "logProbability": -0.5}]}],
    }
    raw = json.loads(reply(parts, usageMetadata=USAGE))
    raw["candidates"][0] |= {"groundingMetadata": grounding, "logprobsResult": logprobs}
    answer = CODEC.read_answer(json.dumps(raw).encode())
    (choice,) = answer.choices
    text = choice.parts[1]
    assert isinstance(text, Text)
    citation = {"start_index": 2, "end_index": 4, "url": "https://a.example", "title": "A"}
    assert text.annotations == [{"type": "url_citation", "url_citation": citation}]
    assert choice.logprobs is not None
    assert choice.logprobs["content"][0]["bytes"] == [195, 156]
    again = CODEC.read_answer(CODEC.write_answer(answer, "x"))
    assert msgspec.json.encode(again) == msgspec.json.encode(answer)
    assert answer.usage == Usage(15, 10, 3, reasoning_tokens=6, image_input_tokens=2)


def test_a_blocked_prompt_is_a_reply_that_was_withheld() -> None:
    body = b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}'
    answer = CODEC.read_answer(body)
    assert answer.choices == [Choice([Refusal("The prompt was blocked (SAFETY).")], Stop.Filter)]
    assert answer.usage == Usage(3)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"error":{"code":500}}', b'{"candidates":{}}', b'"x"',
                                  b'{"candidates":[1]}', b'{"candidates":[{"content":{"parts":[1]}}]}'])  # fmt: skip
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"reply|part|candidates"):
        CODEC.read_answer(body)


COUNTS = st.integers(0, 10_000)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_is_read_back_as_it_was_written(text: int, cached: int, audio: int, output: int, thoughts: int) -> None:
    usage = Usage(
        text + audio, output + thoughts, min(cached, text), reasoning_tokens=thoughts, audio_input_tokens=audio
    )
    wire = msgspec.json.decode(msgspec.json.encode(usage_metadata(usage)))
    assert usage_of_gemini({"usageMetadata": wire}) == usage


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=6))
def test_watching_a_stream_counts_what_reading_each_chunk_counts(told: list[tuple[int, int, int]]) -> None:
    watch = UsageWatch()
    for prompt, candidates, thoughts in told:
        metadata = {"promptTokenCount": prompt % 3, "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts}
        assert watch.read(metadata)
        assert watch.usage == usage_of_gemini({"usageMetadata": metadata})


# -- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_becomes_the_events_that_the_law_wants() -> None:
    events = [one for one in decoded(as_events(STREAM)) if not isinstance(one, UsageTold)]
    assert events == [
        Started("id1", "m"),
        PartStarted(0, Reasoning(origin="gemini")),
        PartDelta(0, "Let me "),
        PartDelta(0, 'see "}{\\'),
        PartEnded(0),
        PartStarted(1, Text("")),
        PartDelta(1, "Há: "),
        PartDelta(1, '{["\\"'),
        PartEnded(1),
        PartStarted(2, Reasoning(origin="gemini")),
        PartDelta(2, signature="c2ln"),
        PartEnded(2),
        PartStarted(3, ToolCall("call_id1_0", "f", "")),
        PartDelta(3, '{"a":"}\\""}', signature="eA=="),
        PartEnded(3),
        PartStarted(4, ToolCall("own", "f", "")),
        PartDelta(4, "{}"),
        PartEnded(4),
        Finished(Stop.Tools),
    ]


@pytest.mark.parametrize("framing", [as_events, as_array])
def test_however_a_stream_is_cut_its_events_are_the_same(framing: Any) -> None:
    raw = framing(STREAM)
    whole = decoded(as_events(STREAM))
    for seed in range(40):
        rng = random.Random(seed)
        assert decoded(raw, [rng.randint(1, 9) for _ in range(len(raw) // 5)]) == whole
    assert decoded(raw, [1] * len(raw)) == whole
    assert decoded(raw.replace(b"\r\n", b"\n")) == whole


def test_older_models_that_say_stop_with_every_chunk_lose_nothing() -> None:
    events = decoded(as_events([chunk([{"text": "a"}], "STOP"), chunk([{"text": "b"}], "STOP")]))
    assert [one.text for one in events if isinstance(one, PartDelta)] == ["a", "b"]
    assert [one for one in events if isinstance(one, Finished)] == [Finished(Stop.End)]


def test_words_before_a_call_in_the_same_chunk_end_before_the_call_begins() -> None:
    events = decoded(as_events([chunk([{"text": "ok"}, {"functionCall": {"name": "f"}}], "STOP")]))
    assert [type(one) for one in events] == [
        Started, PartStarted, PartDelta, PartEnded, PartStarted, PartDelta, PartEnded, Finished,
    ]  # fmt: skip


def test_candidates_are_not_mixed_up() -> None:
    chunks = [chunk([{"text": "a"}]), chunk([{"text": "x"}], index=1), chunk([{"text": "b"}], "STOP"),
              chunk([{"text": "y"}], "MAX_TOKENS", 1)]  # fmt: skip
    events = decoded(as_events(chunks))
    texts = ["".join(e.text for e in events if isinstance(e, PartDelta) and e.choice == n) for n in (0, 1)]
    assert texts == ["ab", "xy"]
    assert events[-2:] == [Finished(Stop.End), Finished(Stop.Length, choice=1)]


def test_a_stream_without_a_reason_to_end_is_not_done() -> None:
    decoder = CODEC.decoder()
    decoder.feed(as_events([chunk([{"text": "a"}])]))
    assert not [one for one in decoder.finish() if isinstance(one, Finished)]
    assert not decoder.done


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}\r\n\r\n',
        b'{\n "error": {\n "code": 503,\n "message": "busy",\n "status": "UNAVAILABLE"\n }\n}\n',
        b'[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]',
        as_events([chunk([{"text": "a"}])]) + b'{\n"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}\n}\n',
    ],
)
def test_an_error_in_a_stream_is_told_once_and_nothing_follows(raw: bytes) -> None:
    for sizes in ([], [1] * len(raw)):
        events = decoded(raw + as_events([chunk([{"text": "late"}], "STOP")]), sizes)
        failures = [one for one in events if isinstance(one, Failed)]
        assert failures == [Failed(ErrorFact(503, "busy", "UNAVAILABLE"))]
        assert events[-1] == failures[0]


def test_a_prompt_blocked_in_a_stream_finishes_as_filtered() -> None:
    events = decoded(
        as_events([{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 2}}])
    )
    assert Finished(Stop.Filter) in events
    assert events[-1] == UsageTold(Usage(2))


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"data: {", b'"candidates":[', b"}\n\n", b"[{", b"\\"])))
def test_noise_never_raises(pieces: list[bytes]) -> None:
    decoder, reader = CODEC.decoder(), CODEC.reader(CALL)
    for piece in pieces:
        decoder.feed(piece)
        reader.feed(piece)
    decoder.finish()
    reader.finish()


def test_what_the_encoder_writes_reads_as_the_same_events() -> None:
    events = decoded(as_events(STREAM))
    encoder = CODEC.encoder("asked", want_usage=True)
    raw = b"".join(encoder.encode(one) for one in events) + encoder.finish()
    again = decoded(raw)
    assert [one for one in again if not isinstance(one, UsageTold)] == [
        one for one in events if not isinstance(one, UsageTold)
    ]
    assert again[-1] == UsageTold(Usage(15, 10, 3, reasoning_tokens=6, image_input_tokens=2))
    for line in raw.split(b"\r\n\r\n")[:-1]:
        told = json.loads(line.removeprefix(b"data: "))
        assert told["responseId"] == "id1"
        assert told["candidates"][0]["content"]["role"] == "model"


def test_calls_whose_arguments_come_in_turns_are_written_whole_and_apart() -> None:
    encoder = CODEC.encoder("asked", want_usage=True)
    events: list[Event] = [
        Started("x", ""), PartStarted(0, ToolCall("1", "f", "")), PartStarted(1, ToolCall("2", "g", "")),
        PartDelta(0, '{"a":'), PartDelta(1, '{"b":2'), PartDelta(0, "1}"), PartEnded(0), PartDelta(1, "}"),
        PartEnded(1), Finished(Stop.Tools),
    ]  # fmt: skip
    raw = b"".join(encoder.encode(one) for one in events) + encoder.finish()
    parts = [json.loads(line[6:])["candidates"][0]["content"]["parts"][0] for line in raw.split(b"\r\n\r\n")[:-1]]
    assert parts == [
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "1"}},
        {"functionCall": {"name": "g", "args": {"b": 2}, "id": "2"}},
        {"text": ""},
    ]


def test_a_failed_stream_ends_with_the_error_and_has_no_end_mark() -> None:
    encoder = CODEC.encoder("asked", want_usage=True)
    raw = encoder.encode(Started("x", "m")) + encoder.encode(Failed(ErrorFact(429, "slow", "rate_limit_exceeded")))
    assert raw.startswith(b'data: {"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"')
    assert encoder.finish() == b""


def test_errors_have_googles_envelope() -> None:
    fact = ErrorFact(400, "bad", "unsupported", "tools[0]", "req_1", {"wait_s": 3})
    told = json.loads(CODEC.write_error(fact))["error"]
    assert (told["code"], told["status"], told["message"]) == (400, "INVALID_ARGUMENT", "bad")
    kinds = [detail["@type"].rpartition(".")[2] for detail in told["details"]]
    assert kinds == ["ErrorInfo", "BadRequest", "RequestInfo"]
    assert told["details"][0]["metadata"] == {"wait_s": "3"}


# -- passing untranslated -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [as_events, as_array])
def test_a_passing_stream_keeps_its_bytes_and_tells_its_end_and_usage(framing: Any) -> None:
    raw = framing(STREAM)
    for seed in range(10):
        rng = random.Random(seed)
        reader = CODEC.reader(CALL)
        at, out = 0, b""
        while at < len(raw):
            size = rng.randint(1, 30)
            out += reader.feed(raw[at : at + size])
            at += size
        assert out + reader.finish() == raw
        assert (reader.done, reader.finish_reason, reader.model) == (True, "end", "m")
        assert reader.usage == usage_of_gemini({"usageMetadata": USAGE})


def test_half_an_event_is_not_passed_on_and_an_error_is_seen() -> None:
    reader = CODEC.reader(CALL)
    whole = as_events([chunk([{"text": "a"}])])
    assert reader.feed(whole + b'data: {"candidates":[{"con') == whole
    assert reader.finish() == b""
    assert not reader.done
    reader = CODEC.reader(CALL)
    reader.feed(b'data: {"error":{"code":503,"message":"busy"}}\r\n\r\n')
    assert reader.error is not None


def test_a_whole_reply_passes_with_its_usage_and_an_error_inside_is_no_reply() -> None:
    assert CODEC.usage_of(reply([{"text": "x"}], usageMetadata=USAGE)) == usage_of_gemini({"usageMetadata": USAGE})
    assert CODEC.usage_of(b"{}") is None
    with pytest.raises(ValueError, match="error inside"):
        CODEC.usage_of(b'{"error":{"code":500}}')


def test_an_answer_of_another_format_is_written_with_the_name_that_the_client_used() -> None:
    answer = Answer("msg_1", "", [Choice([Reasoning("t", "s", origin="anthropic_messages"), Text("x")], Stop.Sequence)])
    told = json.loads(CODEC.write_answer(answer, "my-alias"))
    assert told["modelVersion"] == "my-alias"
    thought, text = told["candidates"][0]["content"]["parts"]
    assert text == {"text": "x"}
    assert thought["thought"] is True
    assert thought["thoughtSignature"]
    assert told["candidates"][0]["finishReason"] == "STOP"
