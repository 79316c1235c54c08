"""Google's SDK for Python (google-genai): content, streams, functions, structured output, counting, embeddings."""

from __future__ import annotations

import base64
import json
from typing import Any

from facts import PERSON, QUESTION, RED_DOT, SCHEMA, SYSTEM, Place, serve, weather
from google import genai
from google.genai import types

HELLO = "Tell me of rivers"
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="get_weather", description="Weather", parameters_json_schema=SCHEMA)
    ]
)
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)
ASK = types.Content(role="user", parts=[types.Part(text=QUESTION)])


def _client_at(place: Place) -> genai.Client:
    return genai.Client(api_key=place.key, http_options=types.HttpOptions(base_url=place.origin, timeout=30_000))


def _usage_of(usage: Any) -> dict[str, int]:
    thought = usage.thoughts_token_count or 0
    output = (usage.candidates_token_count or 0) + thought
    return {"input": usage.prompt_token_count, "output": output, "total": usage.total_token_count}


def plain(place: Place) -> Any:
    client = _client_at(place)
    config = types.GenerateContentConfig(system_instruction=SYSTEM)
    reply = client.models.generate_content(model=place.model, contents=HELLO, config=config)
    return {
        "text": reply.text,
        "finish": reply.candidates[0].finish_reason.value,
        "usage": _usage_of(reply.usage_metadata),
    }


def stream(place: Place) -> Any:
    client = _client_at(place)
    chunks = list(client.models.generate_content_stream(model=place.model, contents=HELLO))
    return {
        "pieces": [chunk.text for chunk in chunks if chunk.text],
        "again": client.models.generate_content(model=place.model, contents=HELLO).text,
        "finish": chunks[-1].candidates[0].finish_reason.value,
        "usage": _usage_of(chunks[-1].usage_metadata),
    }


async def streamed_async(place: Place) -> Any:
    client = _client_at(place)
    chunks = await client.aio.models.generate_content_stream(model=place.model, contents=HELLO)
    return {"pieces": [chunk.text async for chunk in chunks if chunk.text]}


def _after_calls(client: genai.Client, place: Place, content: types.Content) -> Any:
    config = types.GenerateContentConfig(tools=[TOOL], automatic_function_calling=BY_HAND)
    calls = [part.function_call for part in content.parts or [] if part.function_call]
    parts = [
        types.Part(
            function_response=types.FunctionResponse(
                id=call.id, name=call.name, response={"result": weather(call.args["city"])}
            )
        )
        for call in calls
    ]
    turns = [ASK, content, types.Content(role="user", parts=parts)]
    last = client.models.generate_content(model=place.model, contents=turns, config=config)
    cities = [call.args["city"] for call in calls]
    return {"cities": cities, "answer": last.text, "last": weather(cities[-1])}


def tools(place: Place) -> Any:
    client = _client_at(place)
    config = types.GenerateContentConfig(tools=[TOOL], automatic_function_calling=BY_HAND)
    first = client.models.generate_content(model=place.model, contents=[ASK], config=config)
    return _after_calls(client, place, first.candidates[0].content)


def tools_streamed(place: Place) -> Any:
    client = _client_at(place)
    config = types.GenerateContentConfig(tools=[TOOL], automatic_function_calling=BY_HAND)
    chunks = list(client.models.generate_content_stream(model=place.model, contents=[ASK], config=config))
    parts = [part for chunk in chunks for part in (chunk.candidates[0].content.parts if chunk.candidates else []) or []]
    return _after_calls(client, place, types.Content(role="model", parts=parts))


def tools_automatic(place: Place) -> Any:
    """The SDK itself calls a Python function and sends its results."""

    def get_weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return weather(city)

    asked: list[str] = []
    config = types.GenerateContentConfig(tools=[get_weather])
    client = _client_at(place)
    reply = client.models.generate_content(model=place.model, contents=QUESTION, config=config)
    return {"cities": asked, "answer": reply.text, "last": weather(asked[-1])}


def structured(place: Place) -> Any:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=PERSON)
    client = _client_at(place)
    return json.loads(client.models.generate_content(model=place.model, contents=HELLO, config=config).text)


def picture(place: Place) -> Any:
    dot = types.Part.from_bytes(data=base64.b64decode(RED_DOT), mime_type="image/png")
    asked: Any = [dot, "What is this?"]
    client = _client_at(place)
    return {"text": client.models.generate_content(model=place.model, contents=asked).text}


def thinking(place: Place) -> Any:
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000), max_output_tokens=4000
    )
    client = _client_at(place)
    reply = client.models.generate_content(model=place.model, contents=HELLO, config=config)
    parts = reply.candidates[0].content.parts
    thoughts = [part.text for part in parts if part.thought]
    counted = reply.usage_metadata.thoughts_token_count
    return {"native": "gemini", "text": reply.text, "thoughts": thoughts, "reasoning_tokens": counted}


def count(place: Place) -> Any:
    client = _client_at(place)
    counted = client.models.count_tokens(model=place.model, contents=HELLO).total_tokens
    reply = client.models.generate_content(model=place.model, contents=HELLO)
    return {"native": "gemini", "counted": counted, "used": reply.usage_metadata.prompt_token_count}


def embeddings(place: Place) -> Any:
    client = _client_at(place)
    reply = client.models.embed_content(model="gemini-embedding-001", contents=["one", "two"])
    return {"vectors": [len(one.values) for one in reply.embeddings]}


def models(place: Place) -> Any:
    client = _client_at(place)
    names = [model.name for model in client.models.list()]
    return {"names": names, "one": client.models.get(model=names[0]).name == names[0]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return plain(place)


def broken_stream(place: Place) -> Any:
    client = _client_at(place)
    return len(list(client.models.generate_content_stream(model=place.model, contents=HELLO)))


if __name__ == "__main__":
    serve(globals())
