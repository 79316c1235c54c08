"""OpenAI's Agents SDK: runs on Responses and on chat completions, streams, tools, typed output."""

from __future__ import annotations

from typing import Any

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from facts import QUESTION, SYSTEM, Place, serve, weather
from pydantic import BaseModel

HELLO = "Tell me of rivers"
set_tracing_disabled(True)


class Person(BaseModel):
    name: str
    age: int


def _chat(place: Place) -> Any:
    client = openai.AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0)
    return OpenAIChatCompletionsModel(model=place.model, openai_client=client)


def _responses(place: Place) -> Any:
    client = openai.AsyncOpenAI(base_url=place.base_url, api_key=place.key, max_retries=0)
    return OpenAIResponsesModel(model=place.model, openai_client=client)


def _agent(model: Any, **more: Any) -> Any:
    settings = ModelSettings(include_usage=True)
    return Agent(name="Helper", instructions=SYSTEM, model=model, model_settings=settings, **more)


def _usage_of(run: Any) -> dict[str, int]:
    usage = run.context_wrapper.usage
    return {"input": usage.input_tokens, "output": usage.output_tokens, "total": usage.total_tokens}


async def _plain(model: Any) -> Any:
    run = await Runner.run(_agent(model), HELLO)
    return {"text": run.final_output, "usage": _usage_of(run)}


async def _stream(model: Any) -> Any:
    run = Runner.run_streamed(_agent(model), HELLO)
    events = [event.data async for event in run.stream_events() if event.type == "raw_response_event"]
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    return {"pieces": pieces, "again": run.final_output, "usage": _usage_of(run)}


async def _tools(model: Any, *, streamed: bool) -> Any:
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return weather(city)

    agent = _agent(model, tools=[get_weather])
    if streamed:
        run: Any = Runner.run_streamed(agent, QUESTION)
        async for _ in run.stream_events():
            pass
    else:
        run = await Runner.run(agent, QUESTION)
    return {"cities": asked, "answer": run.final_output, "last": None}


async def plain(place: Place) -> Any:
    return await _plain(_chat(place))


async def stream(place: Place) -> Any:
    return await _stream(_chat(place))


async def tools(place: Place) -> Any:
    return await _tools(_chat(place), streamed=False)


async def tools_streamed(place: Place) -> Any:
    return await _tools(_chat(place), streamed=True)


async def structured(place: Place) -> Any:
    return (await Runner.run(_agent(_chat(place), output_type=Person), HELLO)).final_output.model_dump()


async def responses(place: Place) -> Any:
    return await _plain(_responses(place))


async def responses_stream(place: Place) -> Any:
    return await _stream(_responses(place))


async def responses_tools(place: Place) -> Any:
    return await _tools(_responses(place), streamed=False)


async def responses_tools_streamed(place: Place) -> Any:
    return await _tools(_responses(place), streamed=True)


async def responses_structured(place: Place) -> Any:
    return (await Runner.run(_agent(_responses(place), output_type=Person), HELLO)).final_output.model_dump()


async def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return await plain(place)


async def responses_fails(place: Place) -> Any:
    """The same on Responses."""
    return await responses(place)


async def broken_stream(place: Place) -> Any:
    return await stream(place)


if __name__ == "__main__":
    serve(globals())
