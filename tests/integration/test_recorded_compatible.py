"""Recorded exchanges with providers that are rows of the catalogue: every request can be made, every reply read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.infrastructure.catalogue import provider

DATA = Path(os.environ.get("APIKEYROUTER_DATA") or Path(__file__).parents[3] / "shared/data") / "exchanges/dev.jsonl"
HOSTS = {
    "api.cerebras.ai": "cerebras", "api.deepseek.com": "deepseek", "api.groq.com": "groq", "api.mistral.ai": "mistral",
    "api.together.xyz": "together", "api.writer.com": "writer", "api.z.ai": "zai", "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface", "ollama.com": "ollama-cloud", "localhost:11434": "ollama",
    "api.inference.crusoecloud.com": "crusoe", "us.inference.heroku.com": "heroku", "localhost:8000": "vllm",
}  # fmt: skip
PATHS = {"chat/completions": Operation.Chat, "v1/chat": Operation.Chat, "responses": Operation.Responses}


@pytest.mark.skipif(not DATA.exists(), reason="the recorded exchanges are not on this machine")
def test_recorded_replies_of_known_providers_are_read_with_their_usage() -> None:
    read: Counter[str] = Counter()
    for line in DATA.read_text().splitlines():
        exchange = json.loads(line)
        row_id = HOSTS.get(exchange["host"])
        operation = next((o for end, o in PATHS.items() if exchange["path"].split("?")[0].endswith(end)), None)
        if row_id is None or operation is None or not isinstance(exchange["request"], dict):
            continue
        adapter = provider(row_id, environ={})
        body = json.dumps(exchange["request"]).encode()
        call = Call("r", operation, exchange["request"]["model"], body, peek(body), 0.0, 60.0, drop_params=True)
        assert adapter.build_request(call, Secret("k")).body
        text = exchange.get("response_text") or ""
        if exchange["status"] != 200 or not (exchange.get("response_json") or "data:" in text):
            continue
        if exchange.get("response_json"):
            _, usage = adapter.read_reply(call, json.dumps(exchange["response_json"]).encode())
            assert usage is not None
            assert usage.total_tokens > 0
        else:
            reader = adapter.open_stream(call)
            reader.feed(text.encode())
            reader.finish()
            assert reader.done or reader.error is not None
        read[row_id] += 1
    assert sum(read.values()) >= 100
    assert len(read) >= 12
