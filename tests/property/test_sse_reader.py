"""The stream reader, under any cutting of the bytes: what is passed on never depends on how the network cut it."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.wire.chat.reader import ChatStreamReader

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(payload: object, newline: str = "\n") -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    return f"data: {text}{newline}{newline}".encode()


def chat_stream(texts: list[str], *, newline: str, usage: bool, comments: bool) -> list[bytes]:
    events = []
    for text in texts:
        if comments:
            events.append(f": keep-alive{newline}{newline}".encode())
        events.append(
            event({"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}, newline)
        )
    events.append(event({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, newline))
    if usage:
        events.append(event({"model": "m", "choices": [], "usage": USAGE}, newline))
    events.append(event("[DONE]", newline))
    return events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(at) if b > a]


def run(reader: ChatStreamReader, pieces: list[bytes]) -> bytes:
    return b"".join(reader.feed(p) for p in pieces) + reader.finish()


texts = st.lists(
    st.text(max_size=20) | st.sampled_from(['"usage":{', "data: [x]", '"error":', "\n\n", "\r\n\r\n"]), max_size=6
)
newlines = st.sampled_from(["\n", "\r\n"])
places = st.lists(st.integers(0, 10_000), max_size=30)


@settings(max_examples=150, deadline=None)
@given(texts, newlines, st.booleans(), st.booleans(), places)
def test_without_stripping_every_byte_passes_and_usage_is_read(
    said: list[str], newline: str, usage: bool, comments: bool, where: list[int]
) -> None:
    data = b"".join(chat_stream(said, newline=newline, usage=usage, comments=comments))
    reader = ChatStreamReader(strip_usage=False)
    assert run(reader, cut(data, where)) == data
    assert reader.done
    assert reader.error is None
    assert reader.finish_reason == "stop"
    assert (reader.usage is not None) == usage
    if reader.usage is not None:
        assert (reader.usage.input_tokens, reader.usage.output_tokens) == (7, 3)


@settings(max_examples=150, deadline=None)
@given(texts, newlines, st.booleans(), places)
def test_stripping_removes_the_usage_event_and_nothing_else(
    said: list[str], newline: str, comments: bool, where: list[int]
) -> None:
    wanted = b"".join(chat_stream(said, newline=newline, usage=False, comments=comments))
    data = b"".join(chat_stream(said, newline=newline, usage=True, comments=comments))
    reader = ChatStreamReader(strip_usage=True)
    assert run(reader, cut(data, where)) == wanted
    assert reader.usage is not None
    assert reader.usage.output_tokens == 3


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_garbage_never_raises(pieces: list[bytes], strip: bool) -> None:
    reader = ChatStreamReader(strip_usage=strip)
    for piece in pieces:
        reader.feed(piece)
    reader.finish()


def test_a_forgotten_done_is_added_after_a_finish_reason() -> None:
    data = b"".join(chat_stream(["hi"], newline="\n", usage=False, comments=False)[:-1])
    reader = ChatStreamReader(strip_usage=False)
    assert run(reader, [data]) == data + b"data: [DONE]\n\n"
    assert reader.done


def test_a_cut_stream_is_not_done() -> None:
    data = b"".join(chat_stream(["hi", "there"], newline="\n", usage=False, comments=False)[:2])
    reader = ChatStreamReader(strip_usage=False)
    run(reader, [data])
    assert not reader.done
    assert reader.deltas == 2


@settings(max_examples=150, deadline=None)
@given(texts, newlines, st.booleans(), st.booleans(), st.integers(0, 10_000), places)
def test_of_a_stream_cut_anywhere_only_whole_events_pass(
    said: list[str], newline: str, usage: bool, strip: bool, at: int, where: list[int]
) -> None:
    events = chat_stream([*said, "[DONE]"], newline=newline, usage=usage, comments=False)
    data = b"".join(events)[: at % len(b"".join(events))]
    reader = ChatStreamReader(strip_usage=strip)
    passed = run(reader, cut(data, where))
    *pieces, rest = passed.replace(b"\r\n", b"\n").split(b"\n\n")
    assert rest == b""
    payloads = [piece.removeprefix(b"data: ") for piece in pieces]
    assert all(payload == b"[DONE]" or json.loads(payload) for payload in payloads)
    assert reader.done == (b"[DONE]" in payloads)


def test_a_model_that_writes_the_end_mark_does_not_end_the_stream() -> None:
    data = b"".join(chat_stream(["data: [DONE]\n\n"], newline="\n", usage=False, comments=False)[:1])
    reader = ChatStreamReader(strip_usage=False)
    assert run(reader, [data]) == data
    assert not reader.done


def test_an_error_event_is_recognised_and_text_about_errors_is_not() -> None:
    reader = ChatStreamReader(strip_usage=False)
    reader.feed(event({"choices": [{"index": 0, "delta": {"content": 'an "error": {"a": 1}'}}]}))
    assert reader.error is None
    reader.feed(event({"error": {"message": "overloaded", "code": 529}}))
    assert reader.error is not None
