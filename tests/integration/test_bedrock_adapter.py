"""Clients of every format at Bedrock, over HTTP: signatures that botocore accepts, binary streams, tools, errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, SystemError
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.infrastructure.adapters.bedrock_adapter import BedrockAdapter, UnsignableError, bedrock_settings
from tests.support.native_servers import BROKEN_STREAM, CITIES, ODD_STREAM, THROTTLED, FakeBedrock
from tests.support.server import run_app

MODEL = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
ONE, TWO = "AKIA" + "A" * 16, "ASIA" + "B" * 16
SECRETS = {ONE: "s" * 30 + "/+1", TWO: "t" * 32}
TOKEN = "bedrock-token-" + "x" * 20
TOOL = {"name": "get_weather", "description": "The weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def bedrock() -> Iterator[tuple[FakeBedrock, str]]:
    app = FakeBedrock(SECRETS, (TOKEN,))
    with run_app(app) as served:
        yield app, served.origin


async def router_at(origin: str, *keys: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("bedrock", BedrockAdapter("us-east-1", base_url=origin, environ={}))
    for key in keys or (f"{ONE}:{SECRETS[ONE]}",):
        await router.register_key(key, "bedrock")
    return router


def intent(text: str, model: str = MODEL, **parameters: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "parameters": parameters}


@pytest.mark.parametrize("key", [f"{ONE}:{SECRETS[ONE]}", f"{TWO}:{SECRETS[TWO]}:session+token/==", TOKEN])
async def test_each_kind_of_key_is_accepted_and_every_class_of_usage_told(
    bedrock: tuple[FakeBedrock, str], key: str
) -> None:
    app, origin = bedrock
    async with await router_at(origin, key) as router:
        response = await router.route(intent("Hello", max_tokens=50))
    assert response.content == "You said: Hello"
    assert app.seen[-1].target == "/model/us.anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse"
    assert app.seen[-1].json["inferenceConfig"] == {"maxTokens": 50}
    used = response.metadata.tokens_used
    assert (used.input_tokens, used.output_tokens) == (100, 20)
    assert SECRETS[ONE] not in str(app.seen[-1])


@pytest.mark.parametrize("model", ["arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
                                   "eu.amazon.nova-lite-v1:0"])  # fmt: skip
async def test_names_of_models_are_one_segment_of_the_path_and_signed_as_sent(
    bedrock: tuple[FakeBedrock, str], model: str
) -> None:
    app, origin = bedrock
    async with await router_at(origin) as router:
        assert (await router.route(intent("Hello", model))).content
    assert len(app.seen[-1].target.split("/")) == 4


async def test_chat_clients_stream_and_call_tools(bedrock: tuple[FakeBedrock, str]) -> None:
    _, origin = bedrock
    async with await router_at(origin) as router, router.openai_client() as client:
        messages: list[Any] = [{"role": "user", "content": "weather in Paris and in Rome"}]
        tools: Any = [{"type": "function", "function": TOOL}]
        reply = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        calls: Any = reply.choices[0].message.tool_calls
        assert reply.choices[0].finish_reason == "tool_calls"
        assert [json.loads(one.function.arguments)["city"] for one in calls] == list(CITIES)
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details is not None
        assert reply.usage.prompt_tokens_details.cached_tokens == 30
        streamed: dict[int, list[str]] = {}
        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=messages, tools=tools, stream=True
        ):
            for delta in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                slot = streamed.setdefault(delta.index, ["", ""])
                slot[0] += delta.id or ""
                slot[1] += (delta.function and delta.function.arguments) or ""
        assert [tuple(one) for one in streamed.values()] == [(one.id, one.function.arguments) for one in calls]
        messages.append(reply.choices[0].message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": one.id, "content": "mild"} for one in calls]
        final = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert final.choices[0].message.content == "It is mild and mild."


@pytest.mark.parametrize("stream", [False, True])
async def test_messages_clients_get_thoughts_with_their_proof_and_send_them_back(
    bedrock: tuple[FakeBedrock, str], stream: bool
) -> None:
    app, origin = bedrock
    async with await router_at(origin) as router, router.anthropic_client() as client:
        asked: Any = {
            "model": MODEL,
            "max_tokens": 4000,
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "messages": [{"role": "user", "content": "think"}],
        }
        if stream:
            async with client.messages.stream(**asked) as running:
                message = await running.get_final_message()
        else:
            message = await client.messages.create(**asked)
        thought, text = message.content
        assert (thought.type, text.type) == ("thinking", "text")
        assert thought.model_dump()["signature"] == "c2lnbmF0dXJl"
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (60, 30, 10)
        asked["messages"] += [
            {"role": "assistant", "content": [one.model_dump() for one in message.content]},
            {"role": "user", "content": "go on"},
        ]
        await client.messages.create(**asked)
    sent = app.seen[-1].json
    assert sent["additionalModelRequestFields"]["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    back = {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "c2lnbmF0dXJl"}}}
    assert sent["messages"][1]["content"][0] == back


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_and_gemini_clients_are_answered(bedrock: tuple[FakeBedrock, str], stream: bool) -> None:
    _, origin = bedrock
    async with await router_at(origin) as router, router.openai_client() as client:
        if stream:
            seen = [one async for one in await client.responses.create(model=MODEL, input="Hello", stream=True)]
            assert seen[-1].type == "response.completed"
            assert seen[-1].response.output_text == "You said: Hello"
        else:
            told = await client.responses.create(model=MODEL, input="Hello")
            assert told.output_text == "You said: Hello"
        body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}).encode()
        seen_by = peek(body)
        seen_by.stream = stream
        call = router.new_call(Operation.Gemini, body, seen_by, provider_id="bedrock")
        call.model = MODEL
        reply = await router.serve(call, router.objective(None))
        whole = reply.body if reply.stream is None else b"".join([one async for one in reply.stream.chunks()])
    assert "".join(re.findall(r'"text":"([^"]*)"', whole.decode())) == "You said: Hello"


async def test_a_throttled_account_is_left_for_another_and_rested(bedrock: tuple[FakeBedrock, str]) -> None:
    app, origin = bedrock
    app.fails[ONE] = THROTTLED
    keys = [f"{ONE}:{SECRETS[ONE]}", f"{TWO}:{SECRETS[TWO]}"]
    async with await router_at(origin, *keys) as router:
        for _ in range(4):
            assert (await router.route(intent("Hello"))).content
    asked = [app.key_of(seen) for seen in app.seen]
    assert asked.count(ONE) <= 1
    assert asked.count(TWO) == 4


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (400, "ValidationException", "The provided model identifier is invalid.", 400),
        (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.", None),
        (404, "ResourceNotFoundException", "Model use case details have not been submitted.", 404),
        (424, "ModelErrorException", "The model failed.", None),
    ],
)
async def test_refusals_reach_the_caller_as_what_they_are(
    bedrock: tuple[FakeBedrock, str], status: int, code: str, message: str, expected: int | None
) -> None:
    app, origin = bedrock
    app.fails[ONE] = (status, {"x-amzn-ErrorType": f"{code}:http://internal/"}, {"message": message})
    async with await router_at(origin) as router:
        with pytest.raises(SystemError) as refused:
            await router.route(intent("Hello"))
    assert message.rstrip(".") in str(refused.value)
    if expected is not None:
        assert refused.value.status == expected
        assert len(app.seen) == 1


async def test_a_pair_that_is_wrong_is_told_as_a_refused_key(bedrock: tuple[FakeBedrock, str]) -> None:
    _, origin = bedrock
    async with await router_at(origin, f"{ONE}:{'w' * 32}") as router:
        with pytest.raises(SystemError) as refused:
            await router.route(intent("Hello"))
    assert refused.value.provider_code == "upstream_auth"
    assert refused.value.category.value == "authentication_error"


@pytest.mark.parametrize("end", [BROKEN_STREAM, ODD_STREAM, b""])
async def test_a_stream_that_breaks_ends_with_an_error_in_the_clients_words(
    bedrock: tuple[FakeBedrock, str], end: bytes
) -> None:
    app, origin = bedrock
    app.breaks[ONE] = end
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
    async with await router_at(origin) as router:
        call = router.new_call(Operation.Chat, body, peek(body), provider_id="bedrock")
        reply = await router.serve(call, router.objective(None))
        assert reply.stream is not None
        whole = b"".join([one async for one in reply.stream.chunks()])
        assert reply.stream.failure is not None
        assert router.ledger.open_holds == 0
    assert whole.startswith(b"data: {")
    assert b'"error":{"message":"' in whole
    assert whole.endswith(b"data: [DONE]\n\n")


async def test_models_are_listed_by_the_control_plane(bedrock: tuple[FakeBedrock, str]) -> None:
    app, origin = bedrock
    async with await router_at(origin) as router:
        models = await router.list_models()
    assert {one["id"] for one in models} == {
        "amazon.nova-lite-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "meta.llama2-13b-v1:0:4k",
    }  # fmt: skip
    assert app.seen[-1].target == "/foundation-models?byOutputModality=TEXT"


async def test_raw_paths_are_signed_and_their_usage_is_read(bedrock: tuple[FakeBedrock, str]) -> None:
    app, origin = bedrock
    async with await router_at(origin) as router:
        body = json.dumps({"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}).encode()
        call = router.new_call(Operation.Raw, body, peek(body), provider_id="bedrock")
        call.model = ""
        call.path = "model/amazon.nova-lite-v1%3A0/converse"
        reply = await router.serve(call, router.objective(None))
    assert reply.status == 200
    assert app.seen[-1].body == body
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.cached_input_tokens) == (100, 30)


def call_of(model: str = MODEL) -> Call:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
    return Call("req_1", Operation.Chat, model, body, peek(body), started_s=0.0, deadline_s=1.0)


def test_without_botocore_a_pair_cannot_sign_and_a_token_needs_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    adapter = BedrockAdapter("us-east-1", environ={})
    with pytest.raises(UnsignableError, match=r"apikeyrouter-core\[bedrock\]"):
        adapter.build_request(call_of(), Secret(f"{ONE}:{SECRETS[ONE]}"))
    request = adapter.build_request(call_of(), Secret(TOKEN))
    assert (b"authorization", f"Bearer {TOKEN}".encode()) in request.headers
    assert request.url.startswith("https://bedrock-runtime.us-east-1.amazonaws.com/model/")


def test_half_a_pair_is_refused_by_its_form_alone() -> None:
    adapter = BedrockAdapter("us-east-1", environ={})
    with pytest.raises(UnsignableError, match="ACCESS_KEY_ID:SECRET_ACCESS_KEY") as refused:
        adapter.build_request(call_of(), Secret(f"{ONE}:"))
    assert ONE not in str(refused.value)


def test_a_key_in_another_region_is_signed_for_that_region() -> None:
    adapter = BedrockAdapter("us-east-1", environ={})
    elsewhere = "https://bedrock-runtime.eu-west-1.amazonaws.com"
    request = adapter.build_request(call_of(), Secret(f"{ONE}:{SECRETS[ONE]}"), base_url=elsewhere)
    signature = dict(request.headers)[b"authorization"]
    assert b"/eu-west-1/bedrock/aws4_request" in signature
    models = adapter.build_models_request(Secret(TOKEN))
    assert models.url == "https://bedrock.us-east-1.amazonaws.com/foundation-models?byOutputModality=TEXT"


def test_settings_take_a_pair_only_when_it_is_meant_for_bedrock() -> None:
    pair = {"AWS_ACCESS_KEY_ID": ONE, "AWS_SECRET_ACCESS_KEY": SECRETS[ONE], "AWS_REGION": "eu-west-1"}
    assert bedrock_settings(pair).pair == ""
    meant = bedrock_settings({**pair, "BEDROCK_REGION": "us-west-2", "AWS_SESSION_TOKEN": "tok"})
    assert (meant.region, meant.pair, meant.missing) == ("us-west-2", f"{ONE}:{SECRETS[ONE]}:tok", ())
    half = bedrock_settings({"BEDROCK_REGION": "us-west-2", "AWS_ACCESS_KEY_ID": ONE})
    assert (half.pair, half.missing) == ("", ("AWS_SECRET_ACCESS_KEY",))
    assert BedrockAdapter(environ=pair).base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    with pytest.raises(ConfigurationError, match="BEDROCK_REGION"):
        BedrockAdapter(environ={})


def test_bedrocks_names_are_claimed_and_others_are_not() -> None:
    adapter = BedrockAdapter("us-east-1", environ={})
    for name in (
        MODEL,
        "amazon.nova-lite-v1:0",
        "arn:aws:bedrock:us-east-1:1:inference-profile/x",
        "openai.gpt-oss-20b-1:0",
    ):
        assert adapter.claims(name), name
    for name in ("claude-sonnet-4-5", "gpt-4o", "openai/gpt-4o", "meta-llama/Llama-3"):
        assert not adapter.claims(name), name
