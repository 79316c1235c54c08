"""LiteLLM as a client library: chat through its OpenAI route, Messages through its Anthropic route, embeddings."""

from __future__ import annotations

import json
from typing import Any

import litellm
from facts import QUESTION, SCHEMA, SYSTEM, Place, serve, weather
from pydantic import BaseModel

TOOL: Any = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
HELLO: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Tell me of rivers"}]
ASK: list[Any] = [{"role": "user", "content": QUESTION}]


class Person(BaseModel):
    name: str
    age: int


def _as_openai(place: Place) -> dict[str, Any]:
    return {"model": f"openai/{place.model}", "api_base": place.base_url, "api_key": place.key, "num_retries": 0}


def _as_anthropic(place: Place) -> dict[str, Any]:
    return {"model": f"anthropic/{place.model}", "api_base": place.origin, "api_key": place.key, "num_retries": 0}


def _usage_of(usage: Any) -> dict[str, int]:
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens, "total": usage.total_tokens}


def _plain(where: dict[str, Any]) -> Any:
    reply = litellm.completion(messages=HELLO, **where)
    choice = reply.choices[0]
    return {"text": choice.message.content, "finish": choice.finish_reason, "usage": _usage_of(reply.usage)}


def _stream(where: dict[str, Any]) -> Any:
    chunks = list(litellm.completion(messages=HELLO, stream=True, stream_options={"include_usage": True}, **where))
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    (usage,) = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    finish = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    again = litellm.completion(messages=HELLO, **where).choices[0].message.content
    return {"pieces": pieces, "again": again, "finish": finish[-1], "usage": _usage_of(usage)}


def _tools(where: dict[str, Any], *, streamed: bool) -> Any:
    first = litellm.completion(messages=ASK, tools=[TOOL], stream=streamed, **where)
    if streamed:
        first = litellm.stream_chunk_builder(list(first), messages=ASK)
    message = first.choices[0].message
    cities = [json.loads(call.function.arguments)["city"] for call in message.tool_calls]
    turns = [*ASK, message.model_dump(exclude_none=True)]
    turns += [
        {"role": "tool", "tool_call_id": call.id, "content": weather(city)}
        for call, city in zip(message.tool_calls, cities, strict=True)
    ]
    last = litellm.completion(messages=turns, tools=[TOOL], **where).choices[0].message.content
    ids = [call.id for call in message.tool_calls]
    return {"cities": cities, "ids": ids, "answer": last, "last": weather(cities[-1])}


def plain(place: Place) -> Any:
    return _plain(_as_openai(place))


def stream(place: Place) -> Any:
    return _stream(_as_openai(place))


async def streamed_async(place: Place) -> Any:
    events = await litellm.acompletion(messages=HELLO, stream=True, **_as_openai(place))
    return {"pieces": [c.choices[0].delta.content async for c in events if c.choices[0].delta.content]}


def tools(place: Place) -> Any:
    return _tools(_as_openai(place), streamed=False)


def tools_streamed(place: Place) -> Any:
    return _tools(_as_openai(place), streamed=True)


def structured(place: Place) -> Any:
    reply = litellm.completion(messages=HELLO, response_format=Person, **_as_openai(place))
    return json.loads(reply.choices[0].message.content)


def responses(place: Place) -> Any:
    reply = litellm.responses(input="Tell me of rivers", **_as_openai(place))
    text = "".join(part.text for item in reply.output if item.type == "message" for part in item.content)
    usage = reply.usage
    counts = {"input": usage.input_tokens, "output": usage.output_tokens, "total": usage.total_tokens}
    return {"text": text, "finish": reply.status, "usage": counts}


def messages(place: Place) -> Any:
    return _plain(_as_anthropic(place))


def messages_stream(place: Place) -> Any:
    return _stream(_as_anthropic(place))


def messages_tools(place: Place) -> Any:
    return _tools(_as_anthropic(place), streamed=False)


def messages_tools_streamed(place: Place) -> Any:
    return _tools(_as_anthropic(place), streamed=True)


def embeddings(place: Place) -> Any:
    where = {**_as_openai(place), "model": "openai/text-embedding-3-small"}
    reply = litellm.embedding(input=["one", "two"], encoding_format="float", **where)
    return {"vectors": [len(one["embedding"]) for one in reply.data]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return plain(place)


def messages_fails(place: Place) -> Any:
    """The same, as Anthropic's client."""
    return messages(place)


def broken_stream(place: Place) -> Any:
    return len(list(litellm.completion(messages=HELLO, stream=True, **_as_openai(place))))


if __name__ == "__main__":
    serve(globals())
