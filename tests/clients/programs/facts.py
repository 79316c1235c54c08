"""What all programs share: a dialogue in lines of JSON with the test that started them, so that one process with a slow
import serves many tests.

Main entry: `serve(globals())`. Each line in is `{"step": ..., "origin": ..., "model": ..., "key": ...}`, each line out
`{"facts": {...}}` or `{"raised": {...}}`; the first line out names the steps, which are a program's public functions of
a `place`. Laws: the only thing on standard output is answers, whatever a library prints; a step that raises is told and
the next one is served; nothing here needs anything but Python.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["PERSON", "QUESTION", "RED_DOT", "SCHEMA", "SYSTEM", "Place", "causes", "serve", "weather"]

SYSTEM = "You are brief."
QUESTION = "What is the weather in Paris and in Oslo?"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
"""Arguments of `get_weather`."""
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
"""What structured output is to look like."""
RED_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
"""A picture in base64: PNG, one pixel."""


def weather(city: str) -> str:
    """What the tool says."""
    return f"Sunny in {city}"


@dataclass(frozen=True)
class Place:
    """Where the proxy is, and what one step is to use. `origin`: without a path."""

    origin: str
    key: str
    model: str

    @property
    def base_url(self) -> str:
        """With the path that clients of OpenAI want."""
        return f"{self.origin}/v1"


def serve(names: dict[str, Any]) -> None:
    """Answers until standard input ends. `names`: a program's globals; its public functions of a `place` are steps."""
    steps: dict[str, Callable[[Place], Any]] = {
        name: one
        for name, one in names.items()
        if inspect.isfunction(one) and not name.startswith("_") and [*inspect.signature(one).parameters] == ["place"]
    }
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"steps": sorted(steps)}), file=answers, flush=True)
    runner = asyncio.Runner()  # one loop for all: some libraries keep connections between calls
    for line in sys.stdin:
        asked = json.loads(line)
        place = Place(asked["origin"], asked["key"], asked["model"])
        try:
            told = steps[asked["step"]](place)
            if inspect.isawaitable(told):
                told = runner.run(_whole(told))
            answer = {"facts": told}
        except Exception as error:  # noqa: BLE001 - whatever a library raises is a fact
            traceback.print_exc()
            answer = {"raised": _described(error)}
        print(json.dumps(answer), file=answers, flush=True)
    runner.close()


async def _whole(awaited: Any) -> Any:
    return await awaited


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it: libraries wrap those of the SDKs that they use."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _described(error: Exception) -> dict[str, Any]:
    """Class, bases, status, headers and words of an error, from whichever of its causes has them."""
    told: dict[str, Any] = {
        "type": type(error).__name__,
        "bases": [base.__name__ for base in type(error).__mro__],
        "causes": sorted({base.__name__ for one in causes(error) for base in type(one).__mro__}),
        "message": str(error),
    }
    for one in causes(error):
        status = getattr(one, "status_code", None) or getattr(one, "code", None)
        if isinstance(status, int) and "status" not in told:
            told["status"] = status
        response = getattr(one, "response", None)
        headers = getattr(response, "headers", None)
        if headers is not None and "headers" not in told:
            told["headers"] = {str(name).lower(): str(value) for name, value in dict(headers).items()}
    return told
