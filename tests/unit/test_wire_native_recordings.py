"""Recorded exchanges with Bedrock and Cohere: every reply is read, its content, end and usage are what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import Finished, PartDelta, Reasoning, Stop, Text, ToolCall, UsageTold
from apikeyrouter.wire.losses import Losses
from tests.support.wire_sides import side_of

FOLDER = Path(os.environ.get("APIKEYROUTER_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
RECORDINGS = FOLDER / "exchanges" / "dev.jsonl"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not RECORDINGS.is_file(), reason="data not found, skipped"),
]
STOPS = {"end_turn": Stop.End, "max_tokens": Stop.Length, "tool_use": Stop.Tools, "guardrail_intervened": Stop.Filter,
         "COMPLETE": Stop.End, "TOOL_CALL": Stop.Tools}  # fmt: skip


def recordings(wire: Wire) -> Iterator[dict[str, Any]]:
    host, end = {Wire.Converse: ("bedrock-runtime", "/converse"), Wire.Cohere: ("api.cohere.com", "/v2/chat")}[wire]
    with RECORDINGS.open() as lines:
        for line in lines:
            if host in line and (row := json.loads(line))["host"].startswith(host) and row["path"].endswith(end):
                yield row


def said(wire: Wire, reply: dict[str, Any]) -> list[tuple[str, ...]]:
    """The reply's content, by an independent reading."""
    found: list[tuple[str, ...]] = []
    message = reply["output"]["message"] if wire is Wire.Converse else reply["message"]
    for block in message.get("content") or []:
        if "thinking" in block:
            found.append(("thought", block["thinking"]))
        elif "text" in block:
            found.append(("text", block["text"]))
        elif "reasoningContent" in block and "reasoningText" in block["reasoningContent"]:
            found.append(("thought", block["reasoningContent"]["reasoningText"]["text"]))
        elif "toolUse" in block and block["toolUse"].get("type") != "server_tool_use":
            call = block["toolUse"]
            found.append(("call", call["toolUseId"], call["name"], json.dumps(call["input"], sort_keys=True)))
    if message.get("tool_plan"):
        found.append(("text", message["tool_plan"]))
    for call in message.get("tool_calls") or []:
        arguments = json.dumps(json.loads(call["function"]["arguments"]), sort_keys=True)
        found.append(("call", call["id"], call["function"]["name"], arguments))
    return found


@pytest.mark.parametrize(("wire", "least"), [(Wire.Converse, 100), (Wire.Cohere, 9)])
def test_recorded_replies_keep_content_end_and_usage(wire: Wire, least: int) -> None:
    seen = 0
    for row in recordings(wire):
        text = row.get("response_text") or json.dumps(row["response_json"])
        if row["status"] >= 400 or text.startswith("event:"):
            continue
        reply = json.loads(text)
        answer = CODECS[wire].read_answer(text.encode())
        told: list[tuple[str, ...]] = []
        for part in answer.choices[0].parts:
            match part:
                case Text():
                    told.append(("text", part.text))
                case Reasoning():
                    told.append(("thought", part.text))
                case ToolCall():
                    told.append(("call", part.id, part.name, json.dumps(json.loads(part.arguments), sort_keys=True)))
                case _:
                    raise AssertionError(part)
        assert [one for one in told if one[1]] == [one for one in said(wire, reply) if one[1]]
        assert answer.choices[0].stop is STOPS[reply.get("stopReason") or reply["finish_reason"]]
        usage = reply["usage"]
        counts = usage.get("billed_units") or {
            "input_tokens": usage["inputTokens"] + usage.get("cacheReadInputTokens", 0)
            + usage.get("cacheWriteInputTokens", 0),
            "output_tokens": usage["outputTokens"],
        }  # fmt: skip
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (
            counts["input_tokens"], counts["output_tokens"],
        )  # fmt: skip
        seen += 1
    assert seen >= least


def test_recorded_streams_of_cohere_tell_text_end_and_what_is_billed() -> None:
    seen = 0
    for row in recordings(Wire.Cohere):
        text = row.get("response_text") or ""
        if not text.startswith("event:"):
            continue
        payloads = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        decoder = CODECS[Wire.Cohere].decoder()
        events = [*decoder.feed(text.encode()), *decoder.finish()]
        assert decoder.done
        deltas = "".join(one.text for one in events if isinstance(one, PartDelta))
        expected = ""
        for one in payloads:
            message = one.get("delta", {}).get("message", {})
            if one["type"] == "content-delta":
                expected += message["content"]["text"]
            elif one["type"] == "tool-plan-delta":
                expected += message["tool_plan"]
            elif one["type"] == "tool-call-delta":
                expected += message["tool_calls"]["function"]["arguments"]
        assert deltas == expected
        end = payloads[-1]["delta"]
        usage = next(one.usage for one in events if isinstance(one, UsageTold))
        assert usage.output_tokens == end["usage"]["billed_units"]["output_tokens"]
        assert [one.stop for one in events if isinstance(one, Finished)] == [STOPS[end["finish_reason"]]]
        seen += 1
    assert seen >= 4


@pytest.mark.parametrize(("wire", "least"), [(Wire.Cohere, 13), (Wire.Converse, 60)])
def test_recorded_requests_of_others_are_said_again_in_our_words(wire: Wire, least: int) -> None:
    """What another client sent is read by the side for tests, written by our codec, and says the same."""
    same = 0
    for row in recordings(wire):
        request = row["request"]
        body = request.encode() if isinstance(request, str) else json.dumps(request).encode()
        try:
            ask = side_of(wire).read_request(body, Losses("", may_drop=True), model="m", stream=False)
        except ValueError:  # uses what no other format has
            continue
        if wire is Wire.Converse:
            ask.model = row["path"].split("/")[2].replace("%3A", ":")
        written = json.loads(CODECS[wire].write_request(ask, Losses("", may_drop=True)))
        both = [json.dumps(one["messages"], sort_keys=True) for one in (written, json.loads(body))]
        plain = [one.replace('"status": "success", ', "") for one in both]
        same += plain[0] == plain[1]
    assert same >= least


CODECS = {wire: codec_of(wire) for wire in (Wire.Converse, Wire.Cohere)}
