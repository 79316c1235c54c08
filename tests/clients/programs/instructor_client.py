"""Instructor: typed output by tools, by JSON schema and in a stream, over OpenAI's SDK."""

from __future__ import annotations

from typing import Any

import instructor
import openai
from facts import Place, serve
from pydantic import BaseModel

HELLO: list[Any] = [{"role": "user", "content": "Tell me of rivers"}]


class Person(BaseModel):
    name: str
    age: int


def _client_at(place: Place, mode: instructor.Mode) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0), mode=mode)


def _made(place: Place, mode: instructor.Mode) -> Any:
    person, reply = _client_at(place, mode).chat.completions.create_with_completion(
        model=place.model, messages=HELLO, response_model=Person, max_retries=0
    )
    assert reply.usage.total_tokens > 0
    return person.model_dump()


def structured_by_tool(place: Place) -> Any:
    return _made(place, instructor.Mode.TOOLS)


def structured(place: Place) -> Any:
    return _made(place, instructor.Mode.JSON_SCHEMA)


def structured_by_stream(place: Place) -> Any:
    parts = _client_at(place, instructor.Mode.TOOLS).chat.completions.create_partial(
        model=place.model, messages=HELLO, response_model=Person, max_retries=0
    )
    return list(parts)[-1].model_dump()


def fails(place: Place) -> Any:
    """Asks plainly; the test has seen to it that this fails."""
    return structured_by_tool(place)


def broken_stream(place: Place) -> Any:
    return structured_by_stream(place)


if __name__ == "__main__":
    serve(globals())
