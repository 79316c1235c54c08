"""Anthropic's SDK for Python, before 1.0 and 2.x: messages, streams, tools, thinking, counting, models."""

from __future__ import annotations

import json
from typing import Any

import anthropic
from facts import PERSON, QUESTION, RED_DOT, SCHEMA, SYSTEM, Place, serve, weather

TOOL: Any = {"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}
HELLO: list[Any] = [{"role": "user", "content": "Tell me of rivers"}]
ASK: list[Any] = [{"role": "user", "content": QUESTION}]


def _client_at(place: Place) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=place.origin, api_key=place.key, max_retries=0, timeout=30)


def _usage_of(usage: Any) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "total": usage.input_tokens + usage.output_tokens,
    }


def _text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def plain(place: Place) -> Any:
    with _client_at(place) as client:
        said = client.messages.create(model=place.model, max_tokens=200, system=SYSTEM, messages=HELLO)
        told = {"text": _text_of(said), "finish": said.stop_reason, "usage": _usage_of(said.usage)}
        return {**told, "request_id": said._request_id}


def stream(place: Place) -> Any:
    with _client_at(place) as client:
        asked: Any = {"model": place.model, "max_tokens": 200, "messages": HELLO}
        with client.messages.stream(**asked) as events:
            pieces = list(events.text_stream)
            last = events.get_final_message()
        return {
            "pieces": pieces,
            "again": _text_of(client.messages.create(**asked)),
            "finish": last.stop_reason,
            "usage": _usage_of(last.usage),
        }


async def streamed_async(place: Place) -> Any:
    async with anthropic.AsyncAnthropic(base_url=place.origin, api_key=place.key, max_retries=0) as client:
        asked: Any = {"model": place.model, "max_tokens": 200, "messages": HELLO}
        events = await client.messages.create(**asked, stream=True)
        deltas = [event.delta async for event in events if event.type == "content_block_delta"]
        return {"pieces": [delta.text for delta in deltas if delta.type == "text_delta"]}


def _after_calls(client: anthropic.Anthropic, place: Place, first: Any, **more: Any) -> Any:
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": weather(call.input["city"])} for call in calls
    ]
    blocks = [block.model_dump(exclude_none=True) for block in first.content]
    for block in blocks:
        block.pop("parsed_output", None)
    turns: list[Any] = [*ASK, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    last = client.messages.create(model=place.model, max_tokens=4000, messages=turns, tools=[TOOL], **more)
    cities = [call.input["city"] for call in calls]
    ids = [call.id for call in calls]
    return {"cities": cities, "ids": ids, "answer": _text_of(last), "last": weather(cities[-1])}


def tools(place: Place) -> Any:
    with _client_at(place) as client:
        first = client.messages.create(model=place.model, max_tokens=200, messages=ASK, tools=[TOOL])
        return {**_after_calls(client, place, first), "finish": first.stop_reason}


def tools_streamed(place: Place) -> Any:
    with _client_at(place) as client:
        with client.messages.stream(model=place.model, max_tokens=200, messages=ASK, tools=[TOOL]) as events:
            first = events.get_final_message()
        return {**_after_calls(client, place, first), "finish": first.stop_reason}


def tool_alone(place: Place) -> Any:
    """Parallel calls are forbidden."""
    with _client_at(place) as client:
        choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
        said = client.messages.create(model=place.model, max_tokens=200, messages=ASK, tools=[TOOL], tool_choice=choice)
        return {"calls": len([block for block in said.content if block.type == "tool_use"])}


def structured(place: Place) -> Any:
    with _client_at(place) as client:
        config = {"format": {"type": "json_schema", "schema": {**PERSON, "additionalProperties": False}}}
        asked: Any = {"model": place.model, "max_tokens": 200, "messages": HELLO}
        said = client.messages.create(**asked, extra_body={"output_config": config})
        return json.loads(_text_of(said))


def picture(place: Place) -> Any:
    source = {"type": "base64", "media_type": "image/png", "data": RED_DOT}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    with _client_at(place) as client:
        said: Any = [{"role": "user", "content": content}]
        return {"text": _text_of(client.messages.create(model=place.model, max_tokens=200, messages=said))}


def thinking(place: Place) -> Any:
    """Thoughts travel back with the results of tools, in a stream and whole."""
    budget: Any = {"type": "enabled", "budget_tokens": 2000}
    with _client_at(place) as client:
        asked: Any = {"model": place.model, "max_tokens": 4000, "thinking": budget}
        with client.messages.stream(**asked, messages=ASK, tools=[TOOL]) as events:
            first = events.get_final_message()
        said = client.messages.create(**asked, messages=HELLO)
        thoughts = [block.thinking for block in said.content if block.type == "thinking"]
        told = _after_calls(client, place, first, thinking=budget)
        return {**told, "text": _text_of(said), "thoughts": thoughts, "kinds": [b.type for b in first.content]}


def count(place: Place) -> Any:
    with _client_at(place) as client:
        counted = client.messages.count_tokens(model=place.model, messages=HELLO).input_tokens
        said = client.messages.create(model=place.model, max_tokens=20, messages=HELLO)
        return {"native": "anthropic", "counted": counted, "used": said.usage.input_tokens}


def models(place: Place) -> Any:
    with _client_at(place) as client:
        names = [model.id for model in client.models.list(limit=5)]
        return {"names": names, "one": client.models.retrieve(names[0]).id == names[0]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return plain(place)


def broken_stream(place: Place) -> Any:
    with _client_at(place) as client:
        return len(list(client.messages.create(model=place.model, max_tokens=200, messages=HELLO, stream=True)))


if __name__ == "__main__":
    serve(globals())
