"""The official OpenAI client against the simulated provider in a process of its own, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.support.sim import Sim, SimControlError, sim_process

ASK: list[Any] = [{"role": "user", "content": "What is the weather in Oslo and Lima?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Stop(pydantic.BaseModel):
    """A place on the way."""

    name: str
    minutes: int = pydantic.Field(ge=1, le=30)


class Trip(pydantic.BaseModel):
    """What the model is asked to fill in."""

    stops: list[Stop]
    mode: pydantic.JsonValue | None
    is_return: bool


@pytest.fixture(scope="module")
def running() -> Iterator[Sim]:
    with sim_process({"seed": 5}) as sim:
        yield sim


@pytest.fixture
def sim(running: Sim) -> Sim:
    running.reset(5)
    return running


@pytest.fixture
def client(sim: Sim) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sim.base_url, api_key="sim-key-1", max_retries=0) as made:
        yield made


def test_a_chat_is_answered_with_usage_and_rate_limit_headers(client: openai.OpenAI, sim: Sim) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK, max_tokens=20)
    reply = raw.parse()
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 20
    assert raw.headers["x-ratelimit-remaining-requests"] == "499"
    assert raw.headers["x-request-id"].startswith("req_")
    assert reply._request_id == raw.headers["x-request-id"]
    assert sim.key("sim-key-1")["by_status"] == {"200": 1}


def test_a_stream_spells_the_whole_reply_and_reports_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=ASK)
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_tools_are_called_and_their_stream_accumulates(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=ASK, tools=[WEATHER])
    calls: Any = whole.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Oslo"}, {"city": "Lima"}]
    with client.chat.completions.stream(model="gpt-4o", messages=ASK, tools=[WEATHER]) as stream:
        streamed: Any = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.arguments for call in streamed] == [call.function.arguments for call in calls]


def test_structured_output_parses_into_its_model(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(model="gpt-4o", messages=ASK, response_format=Trip)
    trip = reply.choices[0].message.parsed
    assert trip is not None
    assert all(1 <= stop.minutes <= 30 for stop in trip.stops)


def test_embeddings_come_as_base64_unless_asked_otherwise(client: openai.OpenAI) -> None:
    default = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=8)
    numbers = client.embeddings.create(
        model="text-embedding-3-small", input=["a", "b"], dimensions=8, encoding_format="float"
    )
    assert [len(item.embedding) for item in default.data] == [8, 8]
    for packed, plain in zip(default.data, numbers.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, rel=1e-6)
    ids = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2], [3]])
    assert ids.usage.prompt_tokens == 3


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert "gpt-4o-mini" in {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"


def test_legacy_completions_are_served_whole_and_streamed(client: openai.OpenAI) -> None:
    model = "gpt-3.5-turbo-instruct"
    whole = client.completions.create(model=model, prompt="Once upon", max_tokens=8)
    parts = client.completions.create(model=model, prompt="Once upon", max_tokens=8, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ({"kind": "revoked"}, openai.AuthenticationError, "invalid_api_key"),
        ({"kind": "rate_limited", "retry_after_s": 20}, openai.RateLimitError, "rate_limit_exceeded"),
        ({"kind": "billing"}, openai.RateLimitError, "insufficient_quota"),
        ({"kind": "server_error"}, openai.InternalServerError, None),
        ({"kind": "server_error", "status": 503, "body": "html"}, openai.InternalServerError, None),
        ({"kind": "client_error"}, openai.BadRequestError, None),
        ({"kind": "client_error", "status": 403}, openai.PermissionDeniedError, None),
        ({"kind": "client_error", "status": 409}, openai.ConflictError, None),
        ({"kind": "client_error", "status": 422}, openai.UnprocessableEntityError, None),
        ({"kind": "reset"}, openai.APIConnectionError, None),
        ({"kind": "close"}, openai.APIConnectionError, None),
        ({"kind": "cut_stream"}, openai.APIConnectionError, None),
    ],
)
def test_every_error_class_of_the_client_is_met(
    client: openai.OpenAI, sim: Sim, fault: dict[str, Any], error: type[openai.OpenAIError], code: str | None
) -> None:
    sim.faults({"key": "sim-key-1", "count": 1, **fault})
    with pytest.raises(error) as caught:
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert getattr(caught.value, "code", None) == code
    if fault["kind"] == "rate_limited":
        assert isinstance(caught.value, openai.RateLimitError)
        assert caught.value.response.headers["retry-after"] == "20"
    assert client.chat.completions.create(model="gpt-4o", messages=ASK).choices  # once only


def test_the_clients_own_mistakes_come_back_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="gpt-4o", messages=ASK, temperature=3)
    assert (bad.value.param, bad.value.code) == ("temperature", "decimal_above_max_value")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=ASK)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="undefined").models.list()


def test_an_account_over_its_limit_answers_429_with_a_true_hint(client: openai.OpenAI, sim: Sim) -> None:
    sim.add_account("small", "sim-small", limits={"rpm": 60})
    small = client.with_options(api_key="sim-small")
    error = None
    for _ in range(80):
        try:
            small.chat.completions.create(model="gpt-4o", messages=ASK)
        except openai.RateLimitError as caught:
            error = caught
            break
    assert error is not None
    assert 0 < int(error.response.headers["retry-after-ms"]) <= 1000
    small.with_options(max_retries=3).chat.completions.create(model="gpt-4o", messages=ASK)  # the client heeds the hint


def test_a_hang_meets_the_clients_timeout_and_is_counted(client: openai.OpenAI, sim: Sim) -> None:
    sim.fault("sim-key-1", "hang", count=1)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="gpt-4o", messages=ASK)
    sim.until("sim-key-1", disconnected=1, in_flight=0)


@pytest.mark.parametrize("rst", [False, True])
def test_a_cut_stream_delivers_its_beginning_and_then_breaks(client: openai.OpenAI, sim: Sim, rst: bool) -> None:
    sim.fault("sim-key-1", "cut_stream", after_chunks=4, rst=rst)
    seen: list[object] = []
    with pytest.raises(openai.APIConnectionError):
        seen.extend(client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True))
    assert len(seen) == 4
    assert sim.key("sim-key-1")["cut"] == 1


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_inside_a_stream_reaches_the_client(client: openai.OpenAI, sim: Sim, after: int) -> None:
    sim.fault("sim-key-1", "stream_error", after_chunks=after, code="overloaded", message="too much")
    seen: list[object] = []
    with pytest.raises(openai.APIError, match="too much"):
        seen.extend(client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True))
    assert len(seen) == after


def test_a_client_that_closes_a_stream_is_counted(client: openai.OpenAI, sim: Sim) -> None:
    sim.fault("sim-key-1", "slow_tokens", delay_s=0.05)
    stream = client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
    next(iter(stream))
    stream.close()
    sim.until("sim-key-1", disconnected=1, in_flight=0)


def test_bad_json_and_huge_replies_arrive_as_made(client: openai.OpenAI, sim: Sim) -> None:
    sim.fault("sim-key-1", "bad_json", count=1)
    with pytest.raises((ValueError, openai.APIResponseValidationError)):
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    sim.fault("sim-key-1", "huge", count=1, size_bytes=3_000_000)
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK)
    assert len(raw.http_response.content) > 3_000_000


async def test_the_asynchronous_client_streams_and_cancels(sim: Sim) -> None:
    await sim.aio.fault("sim-key-2", "slow_tokens", delay_s=0.05)
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="sim-key-2", max_retries=0) as client:
        replies = await asyncio.gather(
            *(client.chat.completions.create(model="gpt-4o", messages=ASK, max_tokens=1) for _ in range(3))
        )
        assert len({reply.id for reply in replies}) == 3
        assert len({reply.choices[0].message.content for reply in replies}) == 1
        stream = await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()
    await sim.aio.until("sim-key-2", disconnected=1, in_flight=0)
    assert (await sim.aio.state())["requests"] == 4


def test_what_reached_the_provider_can_be_asserted(client: openai.OpenAI, sim: Sim) -> None:
    client.chat.completions.create(
        model="gpt-4o", messages=ASK, extra_body={"made_up": 7}, extra_headers={"x-mine": "1"}
    )
    (request,) = sim.requests(key="sim-key-1")
    assert (request["method"], request["path"], request["json"]["made_up"]) == ("POST", "/v1/chat/completions", 7)
    assert request["headers"]["x-mine"] == "1"
    assert "authorization" not in request["headers"]
    assert sim.seen() == sim.seen("sim-key-1") == 1
    assert sim.seen("sim-key-3") == 0


def test_the_remote_control_says_why_it_refuses(sim: Sim) -> None:
    with pytest.raises(SimControlError, match="sulk"):
        sim.fault(None, "sulk")
    first, second = sim.faults({"kind": "hang"}, {"kind": "billing", "key": "sim-key-1"})
    assert sim.faults() == [second, first]  # those of one key come first
    assert (sim.clear_faults(fault_id=first), sim.clear_faults("sim-key-1"), sim.faults()) == (1, 1, [])


def test_two_processes_with_one_seed_give_the_same_replies() -> None:
    def run() -> list[str]:
        with (
            sim_process(None, "--seed", "11", "--no-limits") as own,
            openai.OpenAI(base_url=own.base_url, api_key=own.keys[0]) as client,
        ):
            made = client.chat.completions.create(model="gpt-4o", messages=ASK, n=2)
            return [made.id, *(choice.message.content or "" for choice in made.choices)]

    assert run() == run()


def test_a_wrong_configuration_ends_the_process_with_words(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="exit code 1"), sim_process({"sede": 1}):
        pass
    assert "sede" in capfd.readouterr().err
