"""Recorded exchanges with Anthropic: each request, reply and stream is read, and written with the same content."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import Event, UsageTold
from apikeyrouter.wire.losses import Losses, UntranslatableError
from apikeyrouter.wire.messages.reader import MessagesReader
from tests.unit.test_wire_messages_replies import message_of, told

FOLDER = Path(os.environ.get("APIKEYROUTER_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
RECORDINGS = FOLDER / "exchanges" / "dev.jsonl"
CODEC = codec_of(Wire.Messages)
KNOWN = ("text", "tool_use", "thinking", "redacted_thinking")
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not RECORDINGS.is_file(), reason="data not found, skipped"),
]


def recordings() -> Iterator[dict[str, Any]]:
    with RECORDINGS.open() as lines:
        for line in lines:
            if '/v1/messages"' in line and (row := json.loads(line))["path"].endswith("/v1/messages"):
                yield row


def content_of(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What both sides must agree on, empty texts aside."""
    found = []
    for block in message["content"]:
        said = [block.get(name) for name in ("text", "thinking", "signature", "data", "id", "name", "input")]
        if block["type"] in KNOWN and block.get("text") != "":
            found.append((block["type"], *(said[:4] if block["type"] != "tool_use" else said[4:])))
    return found


def usage_of(message: dict[str, Any]) -> list[int]:
    return [message["usage"].get(name) or 0 for name in COUNTS]


def test_recorded_requests_are_read_and_what_they_say_is_written_again() -> None:
    read = same = 0
    for row in recordings():
        body = json.dumps(row["request"]).encode()
        losses = Losses("elsewhere", may_drop=True)
        ask = CODEC.read_request(body, losses, model=row["request"]["model"], stream=bool(row["request"].get("stream")))
        read += 1
        try:
            losses.check()
        except UntranslatableError as refused:
            assert all(": " in fault for fault in refused.faults)
            continue
        written = CODEC.write_request(ask, Losses("anthropic_messages", may_drop=True))
        again = CODEC.read_request(written, Losses("elsewhere", may_drop=True), model=ask.model, stream=ask.stream)
        same += again == ask
    assert read >= 150
    assert same >= 0.6 * read


def test_recorded_replies_keep_their_content_their_end_and_their_usage() -> None:
    seen = 0
    for row in recordings():
        reply = row.get("response_json")
        if reply is None:
            continue
        answer = CODEC.read_answer(json.dumps(reply).encode())
        written = CODEC.write_answer(answer, "asked")
        Message.model_validate_json(written)
        message = json.loads(written)
        assert content_of(message) == content_of(reply)
        assert (message["stop_reason"], message["stop_sequence"]) == (reply["stop_reason"], reply["stop_sequence"])
        assert usage_of(message) == usage_of(reply)
        seen += 1
    assert seen >= 100


def test_recorded_streams_say_the_same_when_written_and_pass_unchanged() -> None:
    rng = random.Random(3)
    seen = 0
    for row in recordings():
        text = row.get("response_text")
        if text is None:
            continue
        raw = text.encode()
        decoder, encoder, reader = CODEC.decoder(), CODEC.encoder("asked", want_usage=True), MessagesReader()
        events: list[Event] = []
        passed, at = b"", 0
        while at < len(raw):
            size = rng.randint(1, 300)
            events += decoder.feed(raw[at : at + size])
            passed += reader.feed(raw[at : at + size])
            at += size
        events += decoder.finish()
        passed += reader.finish()
        written = b"".join([encoder.encode(event) for event in events]) + encoder.finish()
        assert passed == raw
        assert decoder.done
        assert (reader.done, reader.error) == (True, None)
        usages = [event.usage for event in events if isinstance(event, UsageTold)]
        assert usages[-1] == reader.usage
        message, recorded = message_of(told(written)), message_of(_kept(told(raw)))
        assert content_of(message) == content_of(recorded)
        assert message["stop_reason"] == recorded["stop_reason"]
        assert usage_of(message) == usage_of(recorded)
        seen += 1
    assert seen >= 20


def _kept(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without blocks that nobody else knows, numbered anew."""
    skipped: set[int] = set()
    numbers: dict[int, int] = {}
    out = []
    for event in events:
        index = event.get("index")
        if event["type"] == "content_block_start" and event["content_block"]["type"] not in KNOWN:
            skipped.add(event["index"])
        if index is None:
            out.append(event)
        elif index not in skipped:
            out.append({**event, "index": numbers.setdefault(index, len(numbers))})
    return out
