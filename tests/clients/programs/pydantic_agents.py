"""Pydantic AI: agents on chat completions, on Responses and on Messages, streams, tools, typed output."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
from facts import QUESTION, SYSTEM, Place, serve, weather
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

HELLO = "Tell me of rivers"


class Person(BaseModel):
    name: str
    age: int


def _openai(place: Place) -> OpenAIProvider:
    client = openai.AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0)
    return OpenAIProvider(openai_client=client)


def _chat(place: Place) -> Any:
    return OpenAIChatModel(place.model, provider=_openai(place))


def _responses(place: Place) -> Any:
    return OpenAIResponsesModel(place.model, provider=_openai(place))


def _messages(place: Place) -> Any:
    client = anthropic.AsyncAnthropic(base_url=place.origin, api_key=place.key, max_retries=0)
    return AnthropicModel(place.model, provider=AnthropicProvider(anthropic_client=client))


def _usage_of(usage: Any) -> dict[str, int]:
    return {"input": usage.input_tokens, "output": usage.output_tokens, "total": usage.total_tokens}


def _run_usage(run: Any) -> dict[str, int]:
    usage = run.usage
    return _usage_of(usage() if callable(usage) else usage)


async def _plain(model: Any) -> Any:
    run = await Agent(model, instructions=SYSTEM).run(HELLO)
    return {"text": run.output, "finish": run.all_messages()[-1].finish_reason, "usage": _run_usage(run)}


async def _stream(model: Any) -> Any:
    agent = Agent(model, instructions=SYSTEM)
    async with agent.run_stream(HELLO) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        usage = _run_usage(run)
    return {"pieces": pieces, "again": (await agent.run(HELLO)).output, "usage": usage}


async def _tools(model: Any) -> Any:
    agent = Agent(model)
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return weather(city)

    run = await agent.run(QUESTION)
    parts = [part for message in run.all_messages() for part in message.parts]
    ids = [part.tool_call_id for part in parts if part.part_kind == "tool-call"]
    return {"cities": asked, "ids": ids, "answer": run.output, "last": None}


async def _tools_streamed(model: Any) -> Any:
    agent = Agent(model)
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return weather(city)

    async with agent.run_stream(QUESTION) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    return {"cities": asked, "answer": "".join(pieces), "last": None}


async def plain(place: Place) -> Any:
    return await _plain(_chat(place))


async def stream(place: Place) -> Any:
    return await _stream(_chat(place))


async def tools(place: Place) -> Any:
    return await _tools(_chat(place))


async def tools_streamed(place: Place) -> Any:
    return await _tools_streamed(_chat(place))


async def structured(place: Place) -> Any:
    return (await Agent(_chat(place), output_type=NativeOutput(Person)).run(HELLO)).output.model_dump()


async def structured_by_tool(place: Place) -> Any:
    return (await Agent(_chat(place), output_type=Person).run(HELLO)).output.model_dump()


async def responses(place: Place) -> Any:
    return await _plain(_responses(place))


async def responses_stream(place: Place) -> Any:
    return await _stream(_responses(place))


async def responses_tools(place: Place) -> Any:
    return await _tools(_responses(place))


async def messages(place: Place) -> Any:
    return await _plain(_messages(place))


async def messages_stream(place: Place) -> Any:
    return await _stream(_messages(place))


async def messages_tools(place: Place) -> Any:
    return await _tools(_messages(place))


async def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return await plain(place)


async def messages_fails(place: Place) -> Any:
    """The same, as Anthropic's client."""
    return await messages(place)


async def broken_stream(place: Place) -> Any:
    async with Agent(_chat(place)).run_stream(HELLO) as run:
        return len([piece async for piece in run.stream_text(delta=True, debounce_by=None)])


if __name__ == "__main__":
    serve(globals())
