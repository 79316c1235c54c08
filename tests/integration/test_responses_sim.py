"""The simulated provider's `/v1/responses`, `/v1/files` and `/v1/batches`, seen through OpenAI's own SDK over HTTP."""

from __future__ import annotations

import json

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.sim import Sim

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def client(sim: Sim, name: str = "a") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=sim.base_url, api_key=f"sim-key-{name}", max_retries=0)


async def test_a_stored_response_is_found_continued_and_deleted_in_its_own_account_alone(sim: Sim) -> None:
    async with client(sim) as mine, client(sim, "b") as other:
        first = await mine.responses.create(model="gpt-4o", input="My name is Ann", instructions="Be brief")
        assert first.status == "completed"
        assert first.output_text
        assert (await mine.responses.retrieve(first.id)).output_text == first.output_text
        items = await mine.responses.input_items.list(first.id)
        assert len(items.data) == 1
        second = await mine.responses.create(model="gpt-4o", input="Who am I?", previous_response_id=first.id)
        assert second.usage is not None
        assert first.usage is not None
        assert second.usage.input_tokens > first.usage.input_tokens
        with pytest.raises(openai.BadRequestError) as raised:
            await other.responses.create(model="gpt-4o", input="Who?", previous_response_id=first.id)
        assert raised.value.code == "previous_response_not_found"
        with pytest.raises(openai.NotFoundError):
            await other.responses.retrieve(first.id)
        await mine.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await mine.responses.retrieve(first.id)


async def test_what_is_not_stored_is_not_found(sim: Sim) -> None:
    async with client(sim) as mine:
        reply = await mine.responses.create(model="gpt-4o", input="x", store=False)
        with pytest.raises(openai.NotFoundError):
            await mine.responses.retrieve(reply.id)


async def test_a_stream_says_what_the_whole_reply_says(sim: Sim) -> None:
    async with client(sim) as mine:
        whole = await mine.responses.create(model="gpt-4o", input="Tell me")
        text, kinds, numbers = "", [], []
        async for event in await mine.responses.create(model="gpt-4o", input="Tell me", stream=True):
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.completed":
                assert event.response.usage == whole.usage
        assert text == whole.output_text
        assert numbers == list(range(len(kinds)))
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_tools_thoughts_and_shapes_work_as_in_chat(sim: Sim) -> None:
    async with client(sim) as mine, client(sim, "b") as other:
        asked = await mine.responses.create(
            model="gpt-5",
            input="What is the weather in Paris?",
            tools=[WEATHER],
            reasoning={"effort": "low", "summary": "auto"},
            include=["reasoning.encrypted_content"],
            store=False,
        )
        thought, call = asked.output[0], asked.output[-1]
        assert thought.type == "reasoning"
        assert thought.summary
        assert call.type == "function_call"
        assert "Paris" in json.loads(call.arguments)["city"]
        told = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        question = {"role": "user", "content": "What is the weather in Paris?"}
        conversation = [question, *(item.model_dump(exclude_none=True) for item in asked.output), told]
        answered = await mine.responses.create(model="gpt-5", input=conversation, tools=[WEATHER], store=False)
        assert "sunny" in answered.output_text
        with pytest.raises(openai.BadRequestError) as raised:
            await other.responses.create(model="gpt-5", input=conversation, tools=[WEATHER])
        assert raised.value.code == "invalid_encrypted_content"
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
        shaped = await mine.responses.create(
            model="gpt-4o", input="x", text={"format": {"type": "json_schema", "name": "n", "schema": schema}}
        )
        assert isinstance(json.loads(shaped.output_text), dict)
        cut = await mine.responses.create(model="gpt-4o", input="x", max_output_tokens=3)
        assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == (
            "incomplete",
            "max_output_tokens",
        )


async def test_a_batch_is_worked_off_and_its_files_stay_in_its_account(sim: Sim) -> None:
    lines = [
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}},
        {"custom_id": "2", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o"}},
    ]  # fmt: skip
    data = "\n".join(json.dumps(line) for line in lines).encode()
    async with client(sim) as mine, client(sim, "b") as other:
        file = await mine.files.create(file=("in.jsonl", data), purpose="batch")
        assert (file.bytes, file.filename, file.purpose) == (len(data), "in.jsonl", "batch")
        batch = await mine.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert batch.status == "completed"
        assert batch.output_file_id is not None
        done = json.loads((await mine.files.content(batch.output_file_id)).text)
        assert done["custom_id"] == "1"
        assert done["response"]["body"]["choices"]
        assert batch.error_file_id is not None
        assert json.loads((await mine.files.content(batch.error_file_id)).text)["response"]["status_code"] == 400
        with pytest.raises(openai.NotFoundError):
            await other.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            await other.files.retrieve(file.id)
        with pytest.raises(openai.BadRequestError):
            await other.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        later = await mine.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"sim_delay_s": "3600"},
        )
        assert (later.status, later.output_file_id) == ("in_progress", None)
        assert (await mine.batches.cancel(later.id)).status == "cancelled"
        assert len((await mine.files.list()).data) >= 3
        await mine.files.delete(file.id)


async def test_the_same_faults_and_limits_hold_as_in_chat(sim: Sim) -> None:
    async with client(sim) as mine:
        sim.fault(kind="rate_limited", key="sim-key-a", count=1, retry_after_s=7)
        with pytest.raises(openai.RateLimitError) as limited:
            await mine.responses.create(model="gpt-4o", input="x")
        assert limited.value.response.headers["retry-after"] == "7"
        sim.fault(kind="stream_error", key="sim-key-a", count=1, after_chunks=4)
        stream = await mine.responses.create(model="gpt-4o", input="x", stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        with pytest.raises(openai.NotFoundError):
            await mine.responses.create(model="no-such", input="x")
