"""OpenAI's SDK for Python, 2.x and 3.x: chat completions, Responses, embeddings, models, files and batches."""

from __future__ import annotations

import json
from typing import Any

import openai
from facts import QUESTION, RED_DOT, SCHEMA, SYSTEM, Place, serve, weather
from pydantic import BaseModel

TOOL: Any = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
FLAT: Any = {"type": "function", "name": "get_weather", "description": "Weather", "parameters": SCHEMA, "strict": False}
HELLO: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Tell me of rivers"}]
ASK: list[Any] = [{"role": "user", "content": QUESTION}]


class Person(BaseModel):
    name: str
    age: int


def _client_at(place: Place) -> openai.OpenAI:
    return openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0, timeout=30)


def _usage_of(usage: Any) -> dict[str, int]:
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens, "total": usage.total_tokens}


def plain(place: Place) -> Any:
    with _client_at(place) as client:
        reply = client.chat.completions.create(model=place.model, messages=HELLO)
        choice = reply.choices[0]
        told = {"text": choice.message.content, "finish": choice.finish_reason, "usage": _usage_of(reply.usage)}
        return {**told, "request_id": reply._request_id}


def stream(place: Place) -> Any:
    with _client_at(place) as client:
        asked: Any = {"model": place.model, "messages": HELLO}
        quiet = list(client.chat.completions.create(**asked, stream=True))
        loud = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        return {
            "pieces": [c.choices[0].delta.content for c in quiet if c.choices[0].delta.content],
            "again": "".join(c.choices[0].delta.content or "" for c in loud if c.choices),
            "finish": quiet[-1].choices[0].finish_reason,
            "usage": _usage_of(loud[-1].usage),
            "unasked_usage": any(c.usage for c in quiet),
        }


async def streamed_async(place: Place) -> Any:
    async with openai.AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0) as client:
        events = await client.chat.completions.create(model=place.model, messages=HELLO, stream=True)
        return {"pieces": [c.choices[0].delta.content async for c in events if c.choices[0].delta.content]}


def _after_calls(client: openai.OpenAI, place: Place, message: Any) -> Any:
    calls = message.tool_calls
    cities = [json.loads(call.function.arguments)["city"] for call in calls]
    turns = [*ASK, message.model_dump(exclude_none=True, exclude={"parsed"})]
    for call in turns[1]["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    turns += [
        {"role": "tool", "tool_call_id": call.id, "content": weather(city)}
        for call, city in zip(calls, cities, strict=True)
    ]
    last = client.chat.completions.create(model=place.model, messages=turns, tools=[TOOL])
    answer = last.choices[0].message.content
    return {"cities": cities, "ids": [call.id for call in calls], "answer": answer, "last": weather(cities[-1])}


def tools(place: Place) -> Any:
    with _client_at(place) as client:
        first = client.chat.completions.create(model=place.model, messages=ASK, tools=[TOOL])
        return {**_after_calls(client, place, first.choices[0].message), "finish": first.choices[0].finish_reason}


def tools_streamed(place: Place) -> Any:
    with (
        _client_at(place) as client,
        client.chat.completions.stream(model=place.model, messages=ASK, tools=[TOOL]) as events,
    ):
        for _ in events:
            pass
        choice = events.get_final_completion().choices[0]
        return {**_after_calls(client, place, choice.message), "finish": choice.finish_reason}


def structured(place: Place) -> Any:
    with _client_at(place) as client:
        reply = client.chat.completions.parse(model=place.model, messages=HELLO, response_format=Person)
        return reply.choices[0].message.parsed.model_dump()


def picture(place: Place) -> Any:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_DOT}"}},
    ]
    with _client_at(place) as client:
        said: Any = [{"role": "user", "content": content}]
        reply = client.chat.completions.create(model=place.model, messages=said)
        return {"text": reply.choices[0].message.content}


def thinking(place: Place) -> Any:
    with _client_at(place) as client:
        reply = client.chat.completions.create(model=place.model, messages=HELLO, reasoning_effort="low")
        details = reply.usage.completion_tokens_details
        return {"text": reply.choices[0].message.content, "reasoning_tokens": details and details.reasoning_tokens}


def responses(place: Place) -> Any:
    with _client_at(place) as client:
        reply = client.responses.create(model=place.model, input="Tell me of rivers", instructions=SYSTEM)
        told = {"input": reply.usage.input_tokens, "output": reply.usage.output_tokens}
        return {
            "text": reply.output_text,
            "finish": reply.status,
            "usage": {**told, "total": reply.usage.total_tokens},
        }


def responses_stream(place: Place) -> Any:
    with _client_at(place) as client:
        events = list(client.responses.create(model=place.model, input="Tell me", instructions=SYSTEM, stream=True))
        return {
            "pieces": [event.delta for event in events if event.type == "response.output_text.delta"],
            "numbers": [event.sequence_number for event in events],
            "again": events[-1].response.output_text,
            "finish": events[-1].type,
        }


def responses_tools(place: Place) -> Any:
    with _client_at(place) as client:
        with client.responses.stream(model=place.model, input=ASK, tools=[FLAT]) as events:
            for _ in events:
                pass
            first = events.get_final_response()
        calls = [item for item in first.output if item.type == "function_call"]
        cities = [json.loads(call.arguments)["city"] for call in calls]
        turns = [
            *ASK,
            *({"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": c.arguments} for c in calls),
        ]
        turns += [
            {"type": "function_call_output", "call_id": call.call_id, "output": weather(city)}
            for call, city in zip(calls, cities, strict=True)
        ]
        last = client.responses.create(model=place.model, input=turns, tools=[FLAT])
        ids = [call.call_id for call in calls]
        return {"cities": cities, "ids": ids, "answer": last.output_text, "last": weather(cities[-1])}


def responses_structured(place: Place) -> Any:
    with _client_at(place) as client:
        return client.responses.parse(model=place.model, input="Tell me", text_format=Person).output_parsed.model_dump()


def responses_chained(place: Place) -> Any:
    with _client_at(place) as client:
        code = None
        first = client.responses.create(model=place.model, input="I am Ann")
        second = client.responses.create(model=place.model, input="Who?", previous_response_id=first.id)
        kept = client.responses.retrieve(first.id)
        client.responses.delete(first.id)
        try:
            client.responses.retrieve(first.id)
        except openai.NotFoundError as gone:
            code = gone.status_code
        return {"same": kept.id == first.id, "chained": second.previous_response_id == first.id, "gone": code}


def responses_thinking(place: Place) -> Any:
    """Encrypted thoughts travel back."""
    more: Any = {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"], "store": False}
    with _client_at(place) as client:
        first = client.responses.create(model=place.model, input=ASK, tools=[FLAT], **more)
        items: list[Any] = [item.model_dump(exclude_none=True) for item in first.output]
        calls = [item for item in first.output if item.type == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": c.call_id, "output": weather(json.loads(c.arguments)["city"])}
            for c in calls
        ]
        last = client.responses.create(model=place.model, input=[*ASK, *items, *results], tools=[FLAT], **more)
        thought = first.usage.output_tokens_details.reasoning_tokens
        kinds = [item["type"] for item in items]
        return {"kinds": kinds, "reasoning_tokens": thought, "answer": last.output_text}


def images(place: Place) -> Any:
    with _client_at(place) as client:
        made = client.images.generate(model="gpt-image-1", prompt="A red dot")
        return {"picture": made.data[0].b64_json}


def audio(place: Place) -> Any:
    with _client_at(place) as client:
        with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="Hello!") as said:
            sound = said.read()
        heard = client.audio.transcriptions.create(model="whisper-1", file=("hello.mp3", sound))
        return {"bytes": len(sound), "begins": sound[:3].decode(), "heard": heard.text}


def moderation(place: Place) -> Any:
    with _client_at(place) as client:
        return {"flagged": client.moderations.create(model="omni-moderation-latest", input="Hello!").results[0].flagged}


def embeddings(place: Place) -> Any:
    model = "text-embedding-3-small"
    with _client_at(place) as client:
        packed = client.embeddings.create(model=model, input=["one", "two"])
        spelt = client.embeddings.create(model=model, input=["one", "two"], encoding_format="float")
        ids = client.embeddings.create(model=model, input=[[9906, 1917], [40]])
        near = all(
            abs(one - two) < 1e-6 for one, two in zip(packed.data[0].embedding, spelt.data[0].embedding, strict=True)
        )
        return {
            "vectors": [len(vector.embedding) for vector in packed.data],
            "same": near,
            "from_token_ids": len(ids.data),
            "tokens": packed.usage.prompt_tokens,
        }


def models(place: Place) -> Any:
    with _client_at(place) as client:
        names = [model.id for model in client.models.list()]
        return {"names": names, "one": client.models.retrieve(names[0]).id == names[0]}


def batches(place: Place) -> Any:
    body = {"model": place.model.rpartition("/")[2], "messages": [{"role": "user", "content": "Hello"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    with _client_at(place) as client:
        sent = client.files.create(file=("in.jsonl", json.dumps(line).encode() + b"\n"), purpose="batch")
        batch = client.batches.create(input_file_id=sent.id, endpoint="/v1/chat/completions", completion_window="24h")
        for _ in range(100):
            batch = client.batches.retrieve(batch.id)
            if batch.status == "completed":
                break
        said = json.loads(client.files.content(batch.output_file_id).text.splitlines()[0])
        client.files.delete(sent.id)
        return {"status": batch.status, "id": said["custom_id"], "answered": said["response"]["status_code"]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return plain(place)


def bad_request(place: Place) -> Any:
    with _client_at(place) as client:
        client.chat.completions.create(model=place.model, messages=HELLO, temperature=99)


def responses_bad_request(place: Place) -> Any:
    with _client_at(place) as client:
        client.responses.create(model=place.model, input="x", temperature=99)


def broken_stream(place: Place) -> Any:
    with _client_at(place) as client:
        return len(list(client.chat.completions.create(model=place.model, messages=HELLO, stream=True)))


def responses_broken_stream(place: Place) -> Any:
    with _client_at(place) as client:
        return len(list(client.responses.create(model=place.model, input="Tell me", stream=True)))


if __name__ == "__main__":
    serve(globals())
