"""LangChain: ChatOpenAI on chat completions and on Responses, ChatAnthropic, OpenAIEmbeddings."""

from __future__ import annotations

from typing import Any

from facts import QUESTION, SYSTEM, Place, serve, weather
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

HELLO: list[Any] = [("system", SYSTEM), ("human", "Tell me of rivers")]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return weather(city)


def _openai(place: Place, **more: Any) -> Any:
    return ChatOpenAI(base_url=place.base_url, api_key=place.key, model=place.model, max_retries=0, **more)


def _anthropic(place: Place) -> Any:
    return ChatAnthropic(base_url=place.origin, api_key=place.key, model=place.model, max_retries=0, max_tokens=500)


def _plain(model: Any) -> Any:
    reply = model.invoke(HELLO)
    usage = reply.usage_metadata
    counts = {"input": usage["input_tokens"], "output": usage["output_tokens"], "total": usage["total_tokens"]}
    finish = reply.response_metadata.get("finish_reason") or reply.response_metadata.get("stop_reason")
    return {"text": reply.text, "finish": finish or reply.response_metadata.get("status"), "usage": counts}


def _stream(model: Any) -> Any:
    chunks = list(model.stream(HELLO))
    whole = sum(chunks[1:], chunks[0])
    usage = whole.usage_metadata
    counts = {"input": usage["input_tokens"], "output": usage["output_tokens"], "total": usage["total_tokens"]}
    pieces = [chunk.text for chunk in chunks if chunk.text]
    return {"pieces": pieces, "again": model.invoke(HELLO).text, "usage": counts}


def _tools(model: Any, *, streamed: bool) -> Any:
    bound = model.bind_tools([get_weather])
    turns: list[Any] = [HumanMessage(QUESTION)]
    if streamed:
        chunks = list(bound.stream(turns))
        first = sum(chunks[1:], chunks[0])
    else:
        first = bound.invoke(turns)
    turns.append(first)
    turns += [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    cities = [call["args"]["city"] for call in first.tool_calls]
    ids = [call["id"] for call in first.tool_calls]
    return {"cities": cities, "ids": ids, "answer": bound.invoke(turns).text, "last": weather(cities[-1])}


def plain(place: Place) -> Any:
    return _plain(_openai(place))


def stream(place: Place) -> Any:
    return _stream(_openai(place, stream_usage=True))


def stream_without_usage(place: Place) -> Any:
    chunks = list(_openai(place, stream_usage=False).stream(HELLO))
    return {"pieces": [chunk.text for chunk in chunks if chunk.text], "told": any(c.usage_metadata for c in chunks)}


async def streamed_async(place: Place) -> Any:
    return {"pieces": [chunk.text async for chunk in _openai(place).astream(HELLO) if chunk.text]}


def tools(place: Place) -> Any:
    return _tools(_openai(place), streamed=False)


def tools_streamed(place: Place) -> Any:
    return _tools(_openai(place), streamed=True)


def structured(place: Place) -> Any:
    return _openai(place).with_structured_output(Person, method="json_schema").invoke(HELLO).model_dump()


def structured_by_tool(place: Place) -> Any:
    return _openai(place).with_structured_output(Person, method="function_calling").invoke(HELLO).model_dump()


def responses(place: Place) -> Any:
    return _plain(_openai(place, use_responses_api=True))


def responses_tools(place: Place) -> Any:
    return _tools(_openai(place, use_responses_api=True), streamed=True)


def messages(place: Place) -> Any:
    return _plain(_anthropic(place))


def messages_stream(place: Place) -> Any:
    return _stream(_anthropic(place))


def messages_tools(place: Place) -> Any:
    return _tools(_anthropic(place), streamed=False)


def messages_tools_streamed(place: Place) -> Any:
    return _tools(_anthropic(place), streamed=True)


def embeddings(place: Place) -> Any:
    model = OpenAIEmbeddings(
        base_url=place.base_url, api_key=place.key, model="text-embedding-3-small", check_embedding_ctx_length=False
    )
    return {"vectors": [len(vector) for vector in model.embed_documents(["one", "two"])]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return plain(place)


def messages_fails(place: Place) -> Any:
    """The same, as Anthropic's client."""
    return messages(place)


def broken_stream(place: Place) -> Any:
    return len(list(_openai(place).stream(HELLO)))


def messages_broken_stream(place: Place) -> Any:
    return len(list(_anthropic(place).stream(HELLO)))


if __name__ == "__main__":
    serve(globals())
