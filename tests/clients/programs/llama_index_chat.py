"""LlamaIndex: OpenAILike on chat completions, and embeddings."""

from __future__ import annotations

import asyncio
from typing import Any

from facts import QUESTION, SYSTEM, Place, serve, weather
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

HELLO = [ChatMessage(role="system", content=SYSTEM), ChatMessage(role="user", content="Tell me of rivers")]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """Weather of a city."""
    return weather(city)


def _model(place: Place, **more: Any) -> OpenAILike:
    return OpenAILike(
        model=place.model, api_base=place.base_url, api_key=place.key, is_chat_model=True,
        is_function_calling_model=True, max_retries=0, timeout=30, **more,
    )  # fmt: skip


def _plain(model: OpenAILike) -> Any:
    reply = model.chat(HELLO)
    usage = reply.raw.usage
    counts = {"input": usage.prompt_tokens, "output": usage.completion_tokens, "total": usage.total_tokens}
    return {"text": reply.message.content, "finish": reply.raw.choices[0].finish_reason, "usage": counts}


def plain(place: Place) -> Any:
    return _plain(_model(place))


def stream(place: Place) -> Any:
    pieces = [chunk.delta for chunk in _model(place).stream_chat(HELLO) if chunk.delta]
    return {"pieces": pieces, "again": _model(place).chat(HELLO).message.content}


async def streamed_async(place: Place) -> Any:
    events = await _model(place).astream_chat(HELLO)
    return {"pieces": [chunk.delta async for chunk in events if chunk.delta]}


def completion(place: Place) -> Any:
    """`complete` of a chat model is a chat."""
    return {"text": _model(place).complete("Tell me of rivers").text}


def _after_calls(model: OpenAILike, first: Any) -> Any:
    tool = FunctionTool.from_defaults(get_weather)
    calls = model.get_tool_calls_from_response(first)
    turns = [ChatMessage(role="user", content=QUESTION), first.message]
    turns += [
        ChatMessage(
            role=MessageRole.TOOL,
            content=get_weather(**call.tool_kwargs),
            additional_kwargs={"tool_call_id": call.tool_id},
        )
        for call in calls
    ]
    last = model.chat_with_tools([tool], chat_history=turns, allow_parallel_tool_calls=True)
    cities = [call.tool_kwargs["city"] for call in calls]
    ids = [call.tool_id for call in calls]
    return {"cities": cities, "ids": ids, "answer": last.message.content, "last": weather(cities[-1])}


def tools(place: Place) -> Any:
    model, tool = _model(place), FunctionTool.from_defaults(get_weather)
    return _after_calls(model, model.chat_with_tools([tool], user_msg=QUESTION, allow_parallel_tool_calls=True))


def tools_streamed(place: Place) -> Any:
    model, tool = _model(place), FunctionTool.from_defaults(get_weather)
    chunks = list(model.stream_chat_with_tools([tool], user_msg=QUESTION, allow_parallel_tool_calls=True))
    return _after_calls(model, chunks[-1])


def tool_alone(place: Place) -> Any:
    """LlamaIndex forbids parallel calls unless told otherwise."""
    model, tool = _model(place), FunctionTool.from_defaults(get_weather)
    return {"calls": len(model.get_tool_calls_from_response(model.chat_with_tools([tool], user_msg=QUESTION)))}


def structured(place: Place) -> Any:
    prompt = PromptTemplate("Tell me of rivers")
    return _model(place).structured_predict(Person, prompt).model_dump()


def embeddings(place: Place) -> Any:
    model = OpenAILikeEmbedding(model_name="text-embedding-3-small", api_base=place.base_url, api_key=place.key)
    both = [model.get_text_embedding("one"), asyncio.run(model.aget_text_embedding("two"))]
    return {"vectors": [len(vector) for vector in both]}


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails. The temperature, which LlamaIndex always sends, is not
    why: an unknown model at Anthropic counts as a new one, and those take none."""
    return _plain(_model(place, default_headers={"x-akr-drop-params": "true"}))


def broken_stream(place: Place) -> Any:
    return len(list(_model(place).stream_chat(HELLO)))


if __name__ == "__main__":
    serve(globals())
