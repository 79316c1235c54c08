"""Whether what real providers sent survives translation.

Entries: `replayed`, which tests run too; `recordings` prints it (`python -m bench translation --recordings`).
Law: the judge reads the usage and the reasons to end of chat completions by itself (`_told_by_chat`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import Answer, Finished, Stop, ToolCall, UsageTold
from bench import report
from bench.recordings import data_folder
from bench.translation import CLIENTS, PROVIDERS


def exchanges() -> list[dict[str, Any]]:
    """Those that were answered with 200; none where the data is not."""
    path = data_folder() / "exchanges" / "dev.jsonl"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [exchange for exchange in map(json.loads, lines) if exchange["status"] == 200]


def wire_of(exchange: dict[str, Any]) -> Wire | None:
    """The format of an exchange by its path; None for others than conversations."""
    path, host = exchange["path"], exchange["host"]
    if path.endswith("/chat/completions") or (host.startswith("api.writer.com") and path == "/v1/chat"):
        return Wire.Chat
    if path.endswith("/responses"):
        return Wire.Responses
    if path.endswith("/messages"):
        return Wire.Messages
    if "enerateContent" in path:
        return Wire.Gemini
    if path.endswith("/converse"):
        return Wire.Converse
    return Wire.Cohere if path == "/v2/chat" else None


@dataclass(slots=True)
class Replayed:
    """What became of recorded replies: `read` and `refused` by format and host, `wrong` by sentence."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def replayed() -> Replayed:
    """Reads every recorded reply and writes it in every client's format; judges those of chat in detail."""
    result = Replayed()
    for number, exchange in enumerate(exchanges()):
        wire = wire_of(exchange)
        if wire is None or wire not in PROVIDERS:
            continue
        where = f"{wire.value} {exchange['host']}"
        try:
            told = _translated(wire, exchange)
        except (ValueError, _FailedStreamError) as fault:
            result.refused[f"{where}: {str(fault)[:90]}"] += 1
            continue
        result.read[where] += 1
        expected = _told_by_chat(exchange) if wire is Wire.Chat else None
        if expected is not None and told != expected:
            result.wrong.append(f"{number} {where}: {told} instead of {expected}")
    return result


def recordings() -> int:
    """Prints `replayed`; 1 when something was read wrongly."""
    found = replayed()
    if not found.read:
        print("data not found, skipped")
        return 0
    rows = [[name, f"{times:,}"] for name, times in sorted(found.read.items())]
    print(report.columns(["format and host", "read"], rows))
    print(f"\n{sum(found.read.values()):,} replies read, and written in {len(CLIENTS)} formats")
    print(f"{sum(found.refused.values())} refused:")
    for what, times in found.refused.items():
        print(f"  {times}  {what}")
    print(f"{len(found.wrong)} with other usage or another reason to end than an independent reading")
    for what in found.wrong:
        print(f"  {what}")
    return 1 if found.wrong else 0


class _FailedStreamError(Exception):
    pass


def _translated(wire: Wire, exchange: dict[str, Any]) -> tuple[tuple[int, int] | None, list[str]]:
    """Reads and rewrites one reply; its tokens and reasons to end."""
    codec = codec_of(wire)
    reply = exchange.get("response_json")
    if reply is not None:
        found: Answer = codec.read_answer(msgspec.json.encode(reply))
        for client in CLIENTS:
            codec_of(client).read_answer(codec_of(client).write_answer(found, "asked"))
        usage = found.usage
        reasons = [_word(choice.stop, choice.parts) for choice in found.choices]
    else:
        decoder = codec.decoder()
        told = [*decoder.feed(exchange["response_text"].encode()), *decoder.finish()]
        if not decoder.done:
            raise _FailedStreamError(f"the stream has no end: {str(told[-1:])[:80]}")
        for client in CLIENTS:
            encoder = codec_of(client).encoder("asked", want_usage=True)
            again = codec_of(client).decoder()
            again.feed(b"".join(map(encoder.encode, told)) + encoder.finish())
            again.finish()
            if not again.done:
                raise AssertionError(f"written for {client.value}, the stream has no end")
        usage = next((event.usage for event in reversed(told) if isinstance(event, UsageTold)), None)
        reasons = [event.stop.value for event in told if isinstance(event, Finished)]
    return (usage.input_tokens, usage.output_tokens) if usage is not None else None, reasons


def _word(stop: Stop | None, parts: Sequence[object]) -> str:
    if stop is None:
        return "tools" if any(isinstance(part, ToolCall) for part in parts) else "end"
    return stop.value


_WORDS = {"stop": "end", "length": "length", "tool_calls": "tools", "content_filter": "filter"}


def _told_by_chat(exchange: dict[str, Any]) -> tuple[tuple[int, int] | None, list[str]]:
    """The same by plain reading of JSON."""
    lines = (exchange.get("response_text") or "").replace("\r", "").split("\n")
    chunks = [exchange["response_json"]] if exchange.get("response_json") else []
    chunks += [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    usage: tuple[int, int] | None = None
    reasons: dict[int, str] = {}
    calls: set[int] = set()
    refused: set[int] = set()
    for chunk in chunks:
        told = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        if told:
            usage = (told["prompt_tokens"], told.get("completion_tokens", 0))
        for choice in chunk.get("choices") or []:
            message = choice.get("message") or choice.get("delta") or {}
            number = choice.get("index", 0)
            if message.get("tool_calls") or (message.get("function_call") or {}).get("name"):
                calls.add(number)
            if message.get("refusal"):
                refused.add(number)
            if choice.get("finish_reason") or number not in reasons:  # a server may forget to tell it
                reasons[number] = _WORDS.get(choice.get("finish_reason") or "", "end")
    for number, word in reasons.items():
        if word == "end":
            reasons[number] = "tools" if number in calls else "refusal" if number in refused else "end"
    return usage, list(reasons.values())
