"""The replay of recorded exchanges: what it lets pass, and what it calls a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.recordings import data_folder
from bench.replay import Judgement, exchanges, replayed
from bench.replay_reading import Tokens, reading
from bench.replay_server import Framing, framed

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
REPLY = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}],
}  # fmt: skip
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}


def recorded(reply: Any, *, status: int = 200, host: str = "api.openai.com", path: str = "/v1/chat/completions") -> Any:
    is_text = isinstance(reply, str)
    return {
        "source": "test", "index": 0, "host": host, "path": path, "query": "", "status": status,
        "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
        "response_headers": {"content-type": "text/event-stream" if is_text else "application/json"},
        "response_json": None if is_text else reply, "response_text": reply if is_text else None,
    }  # fmt: skip


async def outcomes(one: Any) -> list[Judgement]:
    return (await replayed([one], [0])).judgements


async def test_a_good_reply_is_read_in_every_clients_format() -> None:
    found = await outcomes(recorded(REPLY))
    assert [one.client for one in found] == ["chat/completions", "responses", "messages", "generateContent"]
    assert [(one.outcome, one.faults) for one in found] == [("read", [])] * 4


@pytest.mark.parametrize("framing", Framing)
async def test_a_stream_is_read_in_every_framing(framing: Framing) -> None:
    delta = {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}]}
    end = {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in (delta, end)) + "data: [DONE]\n\n"
    found = await replayed([recorded(text)] * len(Framing), [framing.value])
    assert [(one.outcome, one.faults) for one in found.judgements] == [("read", [])] * 4
    assert framed(text.encode(), framing, is_stream=True)[0]


async def test_a_refusal_is_told_by_its_category() -> None:
    error = {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    found = await outcomes(recorded(error, status=429))
    assert [(one.outcome, one.faults) for one in found] == [("rate_limit_error", [])] * 4


async def test_a_success_that_is_nothing_is_refused_by_name() -> None:
    found = await outcomes(recorded({"hello": "world"}))
    assert [(one.outcome, one.faults) for one in found] == [("provider_error", [])] * 4


async def test_figures_that_nobody_could_carry_on_are_at_fault() -> None:
    """More cached than there was: the product bounds it, the independent reading does not, so they must differ."""
    odd = REPLY | {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 40}}}
    assert all(one.faults for one in await outcomes(recorded(odd)))


def test_the_independent_reading_reads_what_is_written() -> None:
    told = reading("chat", json.dumps(REPLY).encode(), stream=False)
    assert (told.tokens, told.reasons, told.failed) == (Tokens(9, 3, 4), ["length"], False)
    assert reading("chat", b'{"error":{"message":"no"}}', stream=False).failed


@pytest.mark.data
@pytest.mark.skipif(not (data_folder() / "exchanges" / "dev.jsonl").exists(), reason="data not found")
async def test_a_sample_of_real_recordings_is_read_or_refused_by_name() -> None:
    found = exchanges(data_folder() / "exchanges" / "dev.jsonl")
    result = await replayed(found, range(0, len(found), 37))
    assert [one for one in result.judgements if one.faults] == []
    assert result.strangers == []
