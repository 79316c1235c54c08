"""Usage of recorded exchanges with real providers, beside an independent reading of the same bytes.

The other reading shares nothing with ours: it goes by the request's path, takes the last number that the stream gave
for each name, and adds up by the provider's documentation. It is as short as it can be, to be checked by eye.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage_replies import UsageReader, usage_of_reply

pytestmark = pytest.mark.data

Numbers = tuple[int, int, int, int, int]
"""Input, output, cached input, cache writes, reasoning."""


def exchanges() -> Iterator[dict[str, Any]]:
    shared = os.environ.get("APIKEYROUTER_DATA") or str(Path(__file__).parents[3] / "shared" / "data")
    path = Path(shared) / "exchanges" / "dev.jsonl"
    if not path.exists():
        pytest.skip("data not found, skipped")
    with path.open() as lines:
        yield from map(json.loads, lines)


def objects(exchange: dict[str, Any]) -> list[Any]:
    """Everything in the reply that is JSON, in order."""
    if exchange.get("response_json") is not None:
        return [exchange["response_json"]]
    text = exchange.get("response_text") or ""
    try:
        whole = json.loads(text)
        return list(whole) if isinstance(whole, list) else [whole]
    except ValueError:
        pass
    found = []
    for line in text.splitlines():
        start = line.find("{")
        if start >= 0:
            try:
                found.append(json.loads(line[start:]))
            except ValueError:
                continue
    return found


def latest(found: list[Any], *paths: str) -> dict[str, Any]:
    """The members of the objects at these paths; later ones replace earlier ones."""
    merged: dict[str, Any] = {}
    for one in found:
        for path in paths:
            at = one
            for step in path.split("."):
                at = at.get(step) if isinstance(at, dict) else None
            if isinstance(at, dict):
                merged.update({name: value for name, value in at.items() if value is not None})
    return merged


def independent(exchange: dict[str, Any]) -> Numbers | None:
    found = objects(exchange)
    path = exchange["path"]
    if "/messages" in path or "-v2/invoke" in path:
        use = latest(found, "message.usage", "usage")
        written, read = use.get("cache_creation_input_tokens", 0), use.get("cache_read_input_tokens", 0)
        thought = use.get("output_tokens_details", {}).get("thinking_tokens", 0)
        return some(
            use, use.get("input_tokens", 0) + written + read, use.get("output_tokens", 0), read, written, thought
        )
    if "enerateContent" in path or "mbedContent" in path:
        use = {name: value for name, value in latest(found, "usageMetadata").items() if name.endswith("Count")}
        went_in = use.get("promptTokenCount", 0) + use.get("toolUsePromptTokenCount", 0)
        thought = use.get("thoughtsTokenCount", 0)
        came_out = use.get("candidatesTokenCount", 0) + thought
        return some(use, went_in, came_out, use.get("cachedContentTokenCount", 0), 0, thought)
    if "/converse" in path:
        use = latest(found, "usage", "metadata.usage")
        read, written = use.get("cacheReadInputTokens", 0), use.get("cacheWriteInputTokens", 0)
        return some(use, use.get("inputTokens", 0) + read + written, use.get("outputTokens", 0), read, written, 0)
    if "cohere" in exchange["host"]:
        places = ("usage", "meta", "delta.usage", "response.meta")
        use = latest(found, *[f"{place}.billed_units" for place in places])
        return some(use, use.get("input_tokens", 0) + use.get("image_tokens", 0), use.get("output_tokens", 0), 0, 0, 0)
    if path == "/api/chat":
        use = {name: one[name] for one in found for name in ("prompt_eval_count", "eval_count") if name in one}
        return some(use, use.get("prompt_eval_count", 0), use.get("eval_count", 0), 0, 0, 0)
    return of_openai(latest(found, "x_groq.usage", "response.usage", "usage"))


def of_openai(use: dict[str, Any]) -> Numbers | None:
    went_in = use.get("prompt_tokens", use.get("input_tokens"))
    came_out = use.get("completion_tokens", use.get("output_tokens", 0))
    if went_in is None:
        return None
    more_in = (
        use.get("prompt_tokens_details") or use.get("input_tokens_details") or use.get("prompt_token_details") or {}
    )
    more_out = (
        use.get("completion_tokens_details")
        or use.get("output_tokens_details")
        or use.get("completion_token_details")
        or {}
    )
    read = more_in.get("cached_tokens")
    if read is None:
        read = use.get("prompt_cache_hit_tokens", use.get("cached_tokens", use.get("cache_read_input_tokens", 0)))
    thought = more_out.get("reasoning_tokens") or 0
    if thought and use.get("total_tokens") == went_in + came_out + thought:
        came_out += thought
    return went_in, came_out, read, more_in.get("cache_write_tokens") or 0, thought


def some(use: dict[str, Any], *numbers: int) -> Numbers | None:
    went_in, came_out, read, written, thought = numbers
    return (int(went_in), int(came_out), read, written, thought) if use else None


def test_usage_of_every_recorded_exchange_equals_the_independent_reading(capsys: pytest.CaptureFixture[str]) -> None:
    by_host: Counter[str] = Counter()
    total = without = 0
    for exchange in exchanges():
        expected = independent(exchange)
        body = (
            exchange["response_json"] if exchange.get("response_json") is not None else exchange["response_text"] or ""
        )
        usage = usage_of_reply(exchange["host"], body if isinstance(body, dict | str) else json.dumps(body))
        read = usage and (
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        )
        assert read == expected, (exchange["host"], exchange["path"], body)
        assert usage is None or not usage.clamped
        total += 1
        without += usage is None
        by_host[exchange["host"].partition(":")[0]] += usage is not None
    with capsys.disabled():
        print(
            f"\n{total} of {total} exchanges equal: usage at {sum(map(bool, by_host.values()))} hosts, "
            f"{without} replies without usage"
        )
    assert total == 1134
    assert without < 120


def test_streams_cut_into_pieces_have_the_same_usage() -> None:
    compared = 0
    for exchange in exchanges():
        text = exchange.get("response_text")
        if not text or not text.startswith(("data:", "event:", ":")):
            continue
        data = text.encode()
        reader = UsageReader(exchange["host"])
        for start in range(0, len(data), 113):
            reader.feed(data[start : start + 113])
        reader.feed(b"\n\n")
        assert reader.usage == usage_of_reply(exchange["host"], data)
        compared += 1
    assert compared >= 200
