"""The simulated provider as a Gemini client sees it: limits, keys, proofs, faults, both kinds of streams."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.sim import Sim

HELLO = {"contents": [{"parts": [{"text": "Tell me of rivers"}]}]}
FUNCTIONS = {
    "tools": [
        {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object", "properties": {}}}]},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
}


def post(sim: Sim, verb: str, body: Any, *, key: str = "sim-key-a", model: str = "gemini-2.5-flash") -> httpx.Response:
    url = f"{sim.base_url.removesuffix('/v1')}/v1beta/models/{model}:{verb}"
    headers = {"x-goog-api-key": key} if key else {}
    return httpx.post(url, json=body, headers=headers, timeout=10)


def test_a_stream_is_the_whole_reply_in_pieces_as_events_or_as_an_array(sim: Sim) -> None:
    whole = post(sim, "generateContent", HELLO).json()
    raw = post(sim, "streamGenerateContent?alt=sse", HELLO)
    assert raw.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in raw.text.split("\r\n") if line.startswith("data: ")]
    array = post(sim, "streamGenerateContent", HELLO).json()
    for chunks in (events, array):
        text = "".join(part["text"] for one in chunks for part in one["candidates"][0]["content"]["parts"])
        assert text == whole["candidates"][0]["content"]["parts"][0]["text"]
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
        assert chunks[-1]["usageMetadata"] == whole["usageMetadata"]


def test_a_limit_is_told_in_the_body_and_never_in_headers(sim: Sim) -> None:
    sim.add_account("small", "sim-small", limits={"rpm": 1})
    assert post(sim, "generateContent", HELLO, key="sim-small").status_code == 200
    refused = post(sim, "generateContent", HELLO, key="sim-small")
    error = refused.json()["error"]
    assert (refused.status_code, error["status"]) == (429, "RESOURCE_EXHAUSTED")
    quota, retry = error["details"]
    assert quota["violations"][0]["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
    assert quota["violations"][0]["quotaValue"] == "1"
    assert retry["retryDelay"].endswith("s")
    assert not [name for name in refused.headers if "ratelimit" in name or name == "retry-after"]


@pytest.mark.parametrize(("key", "status", "word"), [("", 403, "unregistered"), ("wrong", 400, "API key not valid")])
def test_keys_are_refused_in_googles_words(sim: Sim, key: str, status: int, word: str) -> None:
    refused = post(sim, "generateContent", HELLO, key=key)
    assert refused.status_code == status
    assert word in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "contents is not specified"),
        ({"contents": [], "messages": []}, 'Unknown name "messages"'),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "valid role"),
        ({**HELLO, "generationConfig": {"maxTokens": 4}}, 'Unknown name "maxTokens"'),
        ({**HELLO, "generationConfig": {"stopSequences": list("abcdef")}}, "stop sequences"),
        ({**HELLO, "systemInstruction": "x"}, "Invalid value"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]}, "number of function"),
    ],
)
def test_requests_that_google_refuses_are_refused(sim: Sim, body: Any, word: str) -> None:
    refused = post(sim, "generateContent", body)
    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]


def test_gemini_3_wants_its_proof_back_on_the_very_call(sim: Sim) -> None:
    model = "gemini-3-pro-preview"
    first = post(sim, "generateContent", {**HELLO, **FUNCTIONS}, model=model).json()
    (part,) = first["candidates"][0]["content"]["parts"]
    assert part["thoughtSignature"]
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}}}]}

    def second(call: dict[str, Any]) -> httpx.Response:
        contents = [*HELLO["contents"], {"role": "model", "parts": [call]}, result]
        return post(sim, "generateContent", {"contents": contents}, model=model)

    assert second(part).status_code == 200
    assert second({**part, "thoughtSignature": "skip_thought_signature_validator"}).status_code == 200
    assert "missing a thought_signature" in second({"functionCall": part["functionCall"]}).json()["error"]["message"]
    assert second({**part, "thoughtSignature": "YWJj"}).status_code == 400


def test_thoughts_are_shown_when_asked_for_and_always_counted(sim: Sim) -> None:
    shown = {**HELLO, "generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    parts = post(sim, "generateContent", shown).json()["candidates"][0]["content"]["parts"]
    assert [part.get("thought") for part in parts] == [True, None]
    assert post(sim, "generateContent", HELLO).json()["usageMetadata"]["thoughtsTokenCount"] > 0
    snake = {**HELLO, "generationConfig": {"thinkingConfig": {"include_thoughts": True, "thinking_budget": 2000}}}
    assert post(sim, "generateContent", snake).json()["candidates"][0]["content"]["parts"] == parts
    off = {**HELLO, "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}
    assert "thoughtsTokenCount" not in post(sim, "generateContent", off).json()["usageMetadata"]


def test_tokens_are_counted_and_an_overload_and_a_broken_stream_are_googles(sim: Sim) -> None:
    counted = post(sim, "countTokens", HELLO).json()["totalTokens"]
    assert counted == post(sim, "generateContent", HELLO).json()["usageMetadata"]["promptTokenCount"]
    sim.fault(None, "server_error", status=503, count=1)
    overloaded = post(sim, "generateContent", HELLO)
    assert overloaded.status_code == 503
    assert "overloaded" in overloaded.json()["error"]["message"]
    sim.fault(None, "stream_error", after_chunks=1, count=1)
    last = post(sim, "streamGenerateContent?alt=sse", HELLO).text.strip().split("\r\n")[-1]
    assert json.loads(last[6:])["error"]["code"] == 500
