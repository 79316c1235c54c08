"""Recorded exchanges with real providers, for judging estimates: what was asked, and what the provider counted.

Reads `exchanges/dev.jsonl` below the data folder (`APIKEYROUTER_DATA`, else `../shared/data`). Usage is read here by
simple code of its own, so that it can judge the product's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

__all__ = ["Recording", "data_folder", "recordings"]


@dataclass(frozen=True, slots=True)
class Recording:
    """One answered request. `body`: as a client would have sent it. Tokens are the provider's own figures, all input
    (cached too) and all output (reasoning too); `output_tokens` 0 for embeddings."""

    host: str
    path: str
    model: str
    body: bytes
    request: dict[str, Any]
    input_tokens: int
    output_tokens: int
    line: int
    reply: dict[str, Any] | str


def data_folder() -> Path:
    """Where the recordings lie, if they do."""
    given = os.environ.get("APIKEYROUTER_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"


def recordings(folder: Path) -> Iterator[Recording]:
    """Every exchange that was answered with 2xx and says what it used."""
    with (folder / "exchanges" / "dev.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            exchange = json.loads(line)
            used = _used(exchange)
            request = exchange["request"]
            if isinstance(request, str):
                try:
                    request = json.loads(request)
                except ValueError:
                    continue
            if exchange["status"] // 100 != 2 or used is None or not isinstance(request, dict):
                continue
            path = unquote(exchange["path"])
            body = msgspec.json.encode(request)
            reply = exchange.get("response_json")
            if not isinstance(reply, dict):
                reply = exchange.get("response_text") or json.dumps(reply)
            yield Recording(exchange["host"], path, _model(request, path), body, request, *used, number, reply)


def _model(request: dict[str, Any], path: str) -> str:
    for mark, end in (("/models/", ":"), ("/model/", "/converse"), ("/deployments/", "/")):
        if mark in path and not request.get("model"):
            return path.partition(mark)[2].partition(end)[0]
    return str(request.get("model") or "")


def _used(exchange: dict[str, Any]) -> tuple[int, int] | None:
    """(input, output) tokens: the largest figures that any part of the reply tells."""
    reply = exchange.get("response_json")
    parts = reply if isinstance(reply, list) else [reply]
    if reply is None:
        text = (exchange.get("response_text") or "").replace("\r", "")
        parts = [_json(line[5:]) for line in text.split("\n") if line.startswith("data:")]
    found_in, found_out = [], []
    for part in parts:
        for holder in _holders(part):
            told = _told(holder)
            if told is not None:
                found_in.append(told[0])
                found_out.append(told[1])
    return (max(found_in), max(found_out)) if found_in and max(found_in) > 0 else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _holders(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for name in ("response", "message", "x_groq"):
            if isinstance(part.get(name), dict):
                yield part[name]


def _told(holder: dict[str, Any]) -> tuple[int, int] | None:
    usage = holder.get("usage") or holder.get("usageMetadata")
    if not isinstance(usage, dict):
        return None
    if isinstance(usage.get("tokens"), dict):  # Cohere: what the model read, beside what is billed
        usage = usage["tokens"]

    def first(*names: str) -> int:
        return next((int(usage[name]) for name in names if isinstance(usage.get(name), int | float)), 0)

    read = first("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens")
    read += first("cache_creation_input_tokens", "cacheWriteInputTokens")
    read += first("cache_read_input_tokens", "cacheReadInputTokens") + first("toolUsePromptTokenCount")
    written = first("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens")
    return read, written + first("thoughtsTokenCount")
