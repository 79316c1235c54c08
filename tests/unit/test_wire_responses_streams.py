"""Streams of the Responses API: written as OpenAI's SDK expects them, read however a server cuts or shortens them."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest
from openai.types.responses.response_stream_event import ResponseStreamEvent
from pydantic import TypeAdapter

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Call, Operation, Peek, Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import (
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

CODEC = codec_of(Wire.Responses)
OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALL = Call("r", Operation.Responses, "m", b"{}", Peek(), 0.0, 1.0)


def payloads(stream: bytes) -> list[dict[str, Any]]:
    """The events; each has its `event:` line, and there is no `[DONE]`."""
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def encoded(*events: Event) -> bytes:
    encoder = CODEC.encoder("ask-model", want_usage=True)
    return b"".join([encoder.encode(event) for event in events] + [encoder.finish()])


EVERYTHING: tuple[Event, ...] = (
    Started("x1", "m-1", created_s=5),
    PartStarted(0, Reasoning(origin="anthropic_messages")),
    PartDelta(0, "Let me "),
    PartDelta(0, "think."),
    PartDelta(0, signature="sig"),
    PartEnded(0),
    PartStarted(1, Text("")),
    PartDelta(1, "Hé "),
    PartDelta(1, "you", logprobs={"content": [{"token": "you", "logprob": -0.1, "bytes": [121], "top_logprobs": []}]}),
    PartDelta(1, annotations=[{"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}]),
    PartEnded(1),
    PartStarted(2, ToolCall("c1", "f", "")),
    PartStarted(3, ToolCall("c2", "files-_-read", "")),
    PartDelta(2, '{"a"'),
    PartDelta(3, "{}"),
    PartDelta(2, ": 1}"),
    PartEnded(2),
    PartEnded(3),
    PartStarted(4, ToolCall("c3", "patch-_-", "")),
    PartDelta(4, '{"input":'),
    PartDelta(4, '"x\\ny"}'),
    PartEnded(4),
    Finished(Stop.Tools),
    UsageTold(Usage(10, 5, 3, 1, 2)),
)


def test_every_event_is_one_that_the_official_sdk_knows_and_they_are_counted() -> None:
    events = payloads(encoded(*EVERYTHING))
    for event in events:
        OFFICIAL.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events][:2] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last["type"] == "response.completed"
    kinds = ["reasoning", "message", "function_call", "function_call", "custom_tool_call"]
    assert [item["type"] for item in last["response"]["output"]] == kinds
    assert last["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    assert last["response"]["output"][3]["namespace"] == "files"
    assert last["response"]["output"][4]["input"] == "x\ny"


def test_items_and_parts_are_added_and_done_in_pairs_under_their_own_index() -> None:
    events = payloads(encoded(*EVERYTHING))
    added = {e["output_index"]: e["item"]["id"] for e in events if e["type"] == "response.output_item.added"}
    done = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    assert added == {at: item["id"] for at, item in done.items()}
    assert sorted(added) == list(range(5))
    assert list(done.values()) == events[-1]["response"]["output"] or sorted(done) == list(range(5))
    for event in events:
        if "item_id" in event:
            assert added[event["output_index"]] == event["item_id"]
    for at in (2, 3):
        pieces = [e["delta"] for e in events if e["type"].endswith("arguments.delta") and e["output_index"] == at]
        assert "".join(pieces) == done[at]["arguments"]


def test_what_is_written_reads_back_as_it_was() -> None:
    decoder = CODEC.decoder()
    events = [*decoder.feed(encoded(*EVERYTHING)), *decoder.finish()]
    assert decoder.done
    assert _said(events) == _said(EVERYTHING)
    assert events[-1] == UsageTold(Usage(10, 5, 3, 1, 2, service_tier=""), "default")
    assert events[-2] == Finished(Stop.Tools)


def _said(events: Any) -> list[Any]:
    """Parts with all that was told of them, in order."""
    parts: dict[int, list[Any]] = {}
    for event in events:
        if isinstance(event, PartStarted):
            name = event.part.name if isinstance(event.part, ToolCall) else ""
            parts[event.index] = [type(event.part).__name__, name, "", 0]
        elif isinstance(event, PartDelta):
            parts[event.index][2] += event.text
            parts[event.index][3] += len(event.annotations or ())
        elif isinstance(event, PartEnded):
            parts[event.index].append("ended")
    for one in parts.values():
        one[2] = one[2].replace('{"input":"', '{"input": "')
    return [parts[at] for at in sorted(parts)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_stream_may_be_cut_anywhere(newline: bytes) -> None:
    whole = encoded(*EVERYTHING).replace(b"\n", newline)
    want = CODEC.decoder().feed(whole)
    rng = random.Random(5)
    for _ in range(60):
        cuts = sorted(rng.sample(range(1, len(whole)), 12))
        decoder, reader = CODEC.decoder(), CODEC.reader(CALL)
        events: list[Event] = []
        passed = b""
        for start, end in itertools.pairwise([0, *cuts, len(whole)]):
            events += decoder.feed(whole[start:end])
            passed += reader.feed(whole[start:end])
        assert events == want
        assert passed + reader.finish() == whole
        assert (reader.done, reader.usage, reader.finish_reason) == (True, Usage(10, 5, 3, 1, 2), "completed")
        assert reader.model == "m-1"


def test_a_reply_that_comes_only_at_the_end_is_told_whole() -> None:
    final = payloads(encoded(*EVERYTHING))[-1]
    stream = b"data: " + msgspec.json.encode(final) + b"\n\n"
    events = CODEC.decoder().feed(stream)
    assert isinstance(events[0], Started)
    assert [part[2] for part in _said(events)] == [part[2] for part in _said(EVERYTHING)]


def test_a_stream_without_words_still_has_its_frame() -> None:
    kinds = [event["type"] for event in payloads(encoded(Started("a", "b"), Finished(Stop.End)))]
    assert kinds == ["response.created", "response.in_progress", "response.completed"]
    assert payloads(encoded())[-1]["response"]["model"] == "ask-model"


def test_a_stream_that_was_cut_short_is_incomplete_with_its_reason() -> None:
    started: list[Event] = [Started("a", "b"), PartStarted(0, Text("")), PartDelta(0, "Hi"), PartEnded(0)]
    last = payloads(encoded(*started, Finished(Stop.Length)))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    decoder = CODEC.decoder()
    assert Finished(Stop.Length) in decoder.feed(encoded(*started, Finished(Stop.Length)))


def test_a_refusal_has_events_of_its_own() -> None:
    events = payloads(
        encoded(
            Started("a", "b"), PartStarted(0, Refusal("")), PartDelta(0, "No"), PartEnded(0), Finished(Stop.Refusal)
        )
    )
    assert [e["delta"] for e in events if e["type"] == "response.refusal.delta"] == ["No"]
    assert events[-1]["type"] == "response.completed"
    for event in events:
        OFFICIAL.validate_python(event)


def test_a_signature_of_a_tool_call_follows_it_as_an_item_that_comes_back() -> None:
    call = ToolCall("c1", "f", "", signature="sig")
    events = payloads(encoded(Started("a", "b"), PartStarted(0, call), PartEnded(0), Finished(Stop.Tools)))
    items = events[-1]["response"]["output"]
    assert [item["type"] for item in items] == ["function_call", "reasoning"]
    assert items[0]["arguments"] == "{}"
    assert items[1]["encrypted_content"].startswith("akr1.")


def test_a_failure_ends_the_stream_with_an_error_and_a_failed_response() -> None:
    error = ErrorFact(429, "Slow down", "rate_limit_exceeded")
    events = payloads(encoded(Started("a", "b"), PartStarted(0, Text("")), PartDelta(0, "Hi"), Failed(error)))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["error"]["message"] == "Slow down"
    assert events[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Slow down"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    alone = payloads(CODEC.write_error_event(error))
    assert [event["type"] for event in alone] == ["error", "response.failed"]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m", "sequence_number": 1}, 429),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, 400),
        ({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "m"}}}, 500),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, 429),
    ],
)
def test_failures_of_providers_are_told_once_and_end_the_stream(event: dict[str, Any], status: int) -> None:
    stream = b"event: x\ndata: " + msgspec.json.encode(event) + b"\n\n"
    decoder, reader = CODEC.decoder(), CODEC.reader(CALL)
    (failed,) = [one for one in decoder.feed(stream + stream) if isinstance(one, Failed)]
    assert (failed.error.status, failed.error.message) == (status, "m")
    assert reader.feed(stream) == stream
    assert reader.error is not None
    assert b'"m"' in reader.error
    assert not reader.done


def test_a_summary_and_the_thoughts_themselves_are_not_told_twice() -> None:
    def thought(kind: str, text: str, at: int = 0) -> bytes:
        name = "summary_index" if "summary" in kind else "content_index"
        event = {"type": kind, "item_id": "rs", "output_index": 0, name: at, "delta": text}
        return b"data: " + msgspec.json.encode(event) + b"\n\n"

    stream = thought("response.reasoning_summary_text.delta", "A") + thought("response.reasoning_text.delta", "raw")
    stream += thought("response.reasoning_summary_text.delta", "B", 1)
    events = CODEC.decoder().feed(stream)
    assert "".join(event.text for event in events if isinstance(event, PartDelta)) == "A\n\nB"


def test_a_stream_that_breaks_off_is_not_done() -> None:
    whole = encoded(*EVERYTHING)
    cut = whole[: whole.index(b"event: response.completed")]
    decoder, reader = CODEC.decoder(), CODEC.reader(CALL)
    decoder.feed(cut + b'event: response.completed\ndata: {"type":')
    decoder.finish()
    reader.feed(cut + b'event: response.completed\ndata: {"type":')
    assert reader.finish() == b""
    assert not decoder.done
    assert not reader.done


def test_noise_never_raises() -> None:
    rng = random.Random(9)
    whole = encoded(*EVERYTHING)
    for _ in range(300):
        noisy = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            noisy[rng.randrange(len(noisy))] = rng.randrange(256)
        decoder, reader = CODEC.decoder(), CODEC.reader(CALL)
        encoder = CODEC.encoder("m", want_usage=True)
        for event in [*decoder.feed(bytes(noisy)), *decoder.finish()]:
            encoder.encode(event)
        encoder.finish()
        reader.feed(bytes(noisy))
        reader.finish()


def test_text_that_looks_like_an_end_is_no_end() -> None:
    stream = encoded(
        Started("a", "b"), PartStarted(0, Text("")), PartDelta(0, 'response.completed"'), PartDelta(0, "error")
    )
    reader = CODEC.reader(CALL)
    reader.feed(stream[: stream.index(b"event: response.output_text.done")])
    assert not reader.done
    assert reader.error is None
    assert reader.deltas == 2
