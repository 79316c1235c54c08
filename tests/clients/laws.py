"""What must hold of the facts that a client library gave back, whichever library it was: a law for each kind of step.

Main entry: `law_of(step)`. A step's name says its kind: `messages_tools_streamed` is `tools_streamed` by way of another
format. Laws judge what the library's user sees, in the library's own types, and know what the simulated provider says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ROUTES", "kind_of", "law_of"]

ROUTES = ("responses", "messages")
"""Beginnings of steps that take another endpoint than the program's first."""
_ENDS = {"stop", "end_turn", "STOP", "completed", "response.completed"}
_CALLED = {"tool_calls", "tool_use"}
Law = Callable[[Any, str], None]
"""Facts and the provider's format."""


def kind_of(step: str) -> str:
    """The kind of a step: its name without the endpoint; the endpoint alone is `plain`."""
    route, _, rest = step.partition("_")
    return (rest or "plain") if route in ROUTES else step


def law_of(step: str) -> Law:
    """Raises KeyError for a kind that has no law."""
    return _LAWS[kind_of(step)]


def _usage(told: dict[str, int]) -> None:
    assert told["input"] > 0
    assert told["output"] > 0
    assert told["total"] == told["input"] + told["output"]


def _plain(facts: Any, _provider: str) -> None:
    assert facts["text"].startswith('Simulated answer to "Tell me of rivers"')
    assert facts.get("finish", "stop") in _ENDS
    if "usage" in facts:
        _usage(facts["usage"])
    if "request_id" in facts:
        assert facts["request_id"]


def _stream(facts: Any, _provider: str) -> None:
    assert len(facts["pieces"]) > 2, "it came in one piece"
    assert "".join(facts["pieces"]) == facts["again"], "a stream says what the whole reply says"
    assert facts.get("finish", "stop") in _ENDS
    assert facts.get("unasked_usage", False) is False
    if "usage" in facts:
        _usage(facts["usage"])
    if "numbers" in facts:
        assert facts["numbers"] == list(range(len(facts["numbers"])))


def _pieces(facts: Any, _provider: str) -> None:
    assert len(facts["pieces"]) > 2
    assert "".join(facts["pieces"]).startswith("Simulated answer to ")
    assert facts.get("told", False) is False, "usage that nobody asked for"


def _tools(facts: Any, _provider: str) -> None:
    assert sorted(facts["cities"]) == ["Oslo", "Paris"], "both calls came, each with its own arguments"
    if "ids" in facts:
        assert all(facts["ids"])
        assert len(set(facts["ids"])) == 2
    assert facts.get("finish", "tool_use") in _CALLED
    assert "Sunny in " in facts["answer"], "the model has the results"
    assert (facts["last"] or "Sunny in ") in facts["answer"], "in their order"


def _structured(facts: Any, _provider: str) -> None:
    assert set(facts) == {"name", "age"}
    assert isinstance(facts["name"], str)
    assert type(facts["age"]) is int


def _picture(facts: Any, _provider: str) -> None:
    assert "What is this?" in facts["text"]


def _thinking(facts: Any, provider: str) -> None:
    if "cities" in facts:
        _tools(facts, provider)
    if "kinds" in facts and provider in ("anthropic", "stateful"):
        assert facts["kinds"][0] in ("thinking", "reasoning")
        assert len(facts["kinds"]) == 3
    if facts.get("native") == provider or ("thoughts" in facts and provider == "anthropic"):
        assert facts["thoughts"]
    if "reasoning_tokens" in facts and provider != "openai":  # its model there does not think
        assert facts["reasoning_tokens"] > 0
    assert "Simulated answer to" in facts.get("text", facts.get("answer"))


def _count(facts: Any, provider: str) -> None:
    assert facts["counted"] > 0
    if facts.get("native") == provider:
        assert facts["counted"] == facts["used"]


def _embeddings(facts: Any, _provider: str) -> None:
    first, second = facts["vectors"]
    assert first == second > 100
    assert facts.get("same", True), "packed as base64 or spelt out, it is one vector"
    assert facts.get("from_token_ids", 2) == 2


def _models(facts: Any, _provider: str) -> None:
    assert facts["one"]
    if len(facts["names"]) > 5:
        ends = {name.rpartition("/")[2] for name in facts["names"]}
        assert {"gpt-4o-mini", "claude-opus-5", "gemini-2.5-flash"} <= ends


def _equal(wanted: Any) -> Law:
    def law(facts: Any, _provider: str) -> None:
        assert facts == wanted

    return law


_LAWS: dict[str, Law] = {
    "plain": _plain,
    "completion": _plain,
    "stream": _stream,
    "streamed_async": _pieces,
    "stream_without_usage": _pieces,
    "tools": _tools,
    "tools_streamed": _tools,
    "tools_automatic": _tools,
    "tool_alone": _equal({"calls": 1}),
    "structured": _structured,
    "structured_by_tool": _structured,
    "structured_by_stream": _structured,
    "picture": _picture,
    "thinking": _thinking,
    "count": _count,
    "embeddings": _embeddings,
    "models": _models,
    "chained": _equal({"same": True, "chained": True, "gone": 404}),
    "batches": _equal({"status": "completed", "id": "a", "answered": 200}),
    "images": _equal({"picture": "aGVsbG8="}),
    "audio": _equal({"bytes": 259, "begins": "ID3", "heard": "Hello!"}),
    "moderation": _equal({"flagged": False}),
}
