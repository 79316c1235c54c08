"""Scripts in the user's words, which a simulated model plays in every format: one tool call an answer, then words."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apikeyrouter.simulation.script import CALL_WORD, goes_on, has_script, scripted_call
from tests.support.sim import Sim, sim_process

SCRIPT = f"""Please do this.
{CALL_WORD} Write {{"path": "a.txt", "content": "x\\ny"}}
  {CALL_WORD} shell {{"command": "cat a.txt"}}
And then stop."""
STEPS = [("Write", {"path": "a.txt", "content": "x\ny"}), ("shell", {"command": "cat a.txt"})]
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
REMINDER = "<reminder>Remember to be brief.</reminder>"
Answer = tuple[list[tuple[str, Any]], str]
"""What a model said: calls of tools, and words."""
Ask = Callable[[Sim, list[Any], list[str], str], Answer]


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with sim_process() as running:
        yield running


def post(sim: Sim, path: str, body: dict[str, Any]) -> Any:
    origin = sim.base_url.removesuffix("/v1")
    headers = {"authorization": "Bearer sim-key-1", "x-api-key": "sim-key-1", "anthropic-version": "2023-06-01"}
    headers |= {"x-goog-api-key": "sim-key-1", "content-type": "application/json"}
    if not path.startswith("/v1beta"):
        del headers["x-goog-api-key"]
    request = urllib.request.Request(f"{origin}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(error.read().decode()) from None


def chat(sim: Sim, turns: list[Any], tools: list[str], said: str) -> Answer:
    functions = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in tools]
    turns = turns or [{"role": "user", "content": said}]
    body = {"model": "gpt-4o", "messages": turns, "tools": functions}
    message = post(sim, "/v1/chat/completions", body)["choices"][0]["message"]
    turns.append(message)
    calls = message.get("tool_calls") or []
    turns += [{"role": "tool", "tool_call_id": one["id"], "content": "done"} for one in calls]
    if calls:
        turns.append({"role": "user", "content": REMINDER})
    told = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in calls]
    return told, message["content"] or ""


def responses(sim: Sim, turns: list[Any], tools: list[str], said: str) -> Answer:
    functions = [{"type": "function", "name": name, "parameters": SCHEMA} for name in tools]
    turns[:] = turns or [{"role": "user", "content": said}]
    output = post(sim, "/v1/responses", {"model": "gpt-4o", "input": turns, "tools": functions, "store": False})
    turns += output["output"]
    calls = [one for one in output["output"] if one["type"] == "function_call"]
    turns += [{"type": "function_call_output", "call_id": one["call_id"], "output": "done"} for one in calls]
    words = "".join(one["content"][0]["text"] for one in output["output"] if one["type"] == "message")
    return [(one["name"], json.loads(one["arguments"])) for one in calls], words


def messages(sim: Sim, turns: list[Any], tools: list[str], said: str) -> Answer:
    offered = [{"name": name, "input_schema": SCHEMA} for name in tools]
    turns[:] = turns or [{"role": "user", "content": said}]
    body = {"model": "claude-opus-5", "max_tokens": 500, "messages": turns, "tools": offered}
    content = post(sim, "/v1/messages", body)["content"]
    turns.append({"role": "assistant", "content": content})
    calls = [one for one in content if one["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": one["id"], "content": "done"} for one in calls]
    turns.append({"role": "user", "content": [*results, {"type": "text", "text": REMINDER}]})
    return [(one["name"], one["input"]) for one in calls], "".join(one.get("text", "") for one in content)


def gemini(sim: Sim, turns: list[Any], tools: list[str], said: str) -> Answer:
    turns[:] = turns or [{"role": "user", "parts": [{"text": said}]}]
    declared = [{"name": name, "parameters": SCHEMA} for name in tools]
    body = {"contents": turns, "tools": [{"functionDeclarations": declared}]}
    parts = post(sim, "/v1beta/models/gemini-3-pro-preview:generateContent", body)["candidates"][0]["content"]["parts"]
    turns.append({"role": "model", "parts": parts})
    calls = [one["functionCall"] for one in parts if "functionCall" in one]
    results: list[dict[str, Any]] = [
        {"functionResponse": {"name": one["name"], "response": {"output": "done"}}} for one in calls
    ]
    turns.append({"role": "user", "parts": results or [{"text": "Thanks"}]})
    return [(one["name"], one["args"]) for one in calls], "".join(one.get("text", "") for one in parts)


FORMATS = [chat, responses, messages, gemini]


def play(ask: Ask, sim: Sim, tools: list[str], said: str) -> list[Answer]:
    """Answers up to the first one in words."""
    turns: list[Any] = []
    told: list[Answer] = []
    if ask is chat:
        turns.append({"role": "user", "content": said})
    while not told or (told[-1][0] and len(told) < 5):
        told.append(ask(sim, turns, tools, said))
    return told


@pytest.mark.parametrize("ask", FORMATS)
def test_a_script_is_played_step_by_step_and_ends_in_words(ask: Ask, sim: Sim) -> None:
    told = play(ask, sim, ["shell", "Write", "please"], SCRIPT)
    assert [calls for calls, _ in told] == [[STEPS[0]], [STEPS[1]], []]
    assert told[-1][1].startswith("Simulated answer")


@pytest.mark.parametrize("ask", FORMATS)
def test_a_tool_that_is_not_offered_is_not_called(ask: Ask, sim: Sim) -> None:
    ((calls, words),) = play(ask, sim, ["shell", "please"], SCRIPT)
    assert calls == []
    assert words.startswith("Simulated answer")


def test_a_tool_for_free_text_gets_the_text_as_it_stands_in_the_string(sim: Sim) -> None:
    said = f'{CALL_WORD} apply_patch "*** Begin\\n+1"'
    tools = [{"type": "custom", "name": "apply_patch"}]
    body = {"model": "gpt-5", "input": said, "tools": tools, "reasoning": {"effort": "none"}}
    (item,) = post(sim, "/v1/responses", body)["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin\n+1")


def test_tools_that_come_in_the_conversation_are_offered_too(sim: Sim) -> None:
    space = {"type": "namespace", "name": "files", "tools": [{"type": "custom", "name": "apply_patch"}]}
    tools = {"type": "additional_tools", "role": "developer", "tools": [space]}
    items = [tools, {"role": "user", "content": f'{CALL_WORD} apply_patch "+1"'}]
    (item,) = post(sim, "/v1/responses", {"model": "gpt-5", "input": items, "reasoning": {"effort": "none"}})["output"]
    assert (item["type"], item["namespace"], item["name"]) == ("custom_tool_call", "files", "apply_patch")


def test_arguments_that_are_no_json_are_refused_with_the_line(sim: Sim) -> None:
    with pytest.raises(AssertionError, match=r"line 1 of the script, for Write: its arguments are no JSON"):
        chat(sim, [], ["Write"], f"{CALL_WORD} Write {{broken")


def test_the_place_in_a_script_is_the_number_of_results() -> None:
    assert [scripted_call(SCRIPT, at) for at in range(4)] == [*STEPS, None, None]
    assert scripted_call("Write something", 0) is None


def test_words_beside_results_do_not_end_a_script_but_another_script_does() -> None:
    assert has_script(SCRIPT)
    assert not has_script(REMINDER)
    assert goes_on(SCRIPT, REMINDER)
    assert not goes_on(SCRIPT, SCRIPT)
    assert not goes_on(REMINDER, SCRIPT)
    assert not goes_on(REMINDER, REMINDER)
