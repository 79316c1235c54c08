"""What is told of losses stays short and printable; budgets and efforts mean the same in every format."""

from __future__ import annotations

import json

import pytest

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.effort import BUDGETS, effort_of
from apikeyrouter.wire.facts import Ask, Finished, PartDelta, ReasoningWish, Role, Text, Turn
from apikeyrouter.wire.losses import Losses, UntranslatableError


def test_names_of_clients_are_printable_and_short_where_losses_are_told() -> None:
    losses = Losses("chat", may_drop=True)
    losses.parameter("x" * 5_000, "unknown")
    losses.harmless("set-cookie: a\r\nb\x00\u2028é\ud800")
    losses.harmless("seed")
    long, odd, plain = losses.dropped
    assert plain == "seed"
    assert len(long) == 100
    assert long.endswith("...")
    assert odd.isascii()
    assert odd.isprintable()
    assert odd.startswith("set-cookie: a\\x0d\\x0ab\\x00")


def test_no_more_than_fifty_losses_are_told() -> None:
    losses = Losses("chat", may_drop=True)
    for number in range(1_000):
        losses.parameter(f"member{number}", "unknown")
    assert losses.dropped == [f"member{number}" for number in range(50)]


def test_refusals_name_what_clients_wrote_in_bounds() -> None:
    losses = Losses("chat", may_drop=False)
    for number in range(100):
        losses.content(f"member{number}\n" + "y" * 9_000, "nobody\rknows\x1b it " + "z" * 9_000)
    with pytest.raises(UntranslatableError) as caught:
        losses.check()
    assert len(caught.value.faults) == 20
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 15_000


@pytest.mark.parametrize("word", ["none", "low", "medium", "high"])
def test_an_effort_survives_the_way_to_a_budget_and_back(word: str) -> None:
    assert effort_of(BUDGETS[word]) == word


def test_a_budget_becomes_the_least_effort_that_covers_it() -> None:
    told = [effort_of(budget) for budget in (-1, 0, 1, 1_024, 1_025, 8_192, 8_193, 10**9)]
    assert told == [None, "none", "low", "low", "medium", "medium", "high", "high"]


@pytest.mark.parametrize("budget", [1_024, 1_025, 2_048, 8_192, 8_193])
def test_every_format_reads_a_budget_as_the_same_effort(budget: int) -> None:
    def written(wire: Wire, model: str) -> dict[str, dict[str, str]]:
        ask = Ask(model, [Turn(Role.User, [Text("Hi")])], reasoning=ReasoningWish(budget_tokens=budget))
        body: dict[str, dict[str, str]] = json.loads(codec_of(wire).write_request(ask, Losses("x", may_drop=False)))
        return body

    told = {
        str(written(Wire.Chat, "gpt-5")["reasoning_effort"]),
        written(Wire.Responses, "gpt-5")["reasoning"]["effort"],
        written(Wire.Messages, "claude-opus-4-6")["output_config"]["effort"],
    }
    assert told == {effort_of(budget)}


@pytest.mark.parametrize("role", [[], {}, ["user"], 5, True])
def test_a_role_of_gemini_that_is_no_word_is_refused_by_its_place(role: object) -> None:
    body = json.dumps({"contents": [{"role": role, "parts": [{"text": "Hi"}]}]}).encode()
    if not role:  # absent, in a way
        codec_of(Wire.Gemini).read_request(body, Losses("x", may_drop=False), model="m", stream=False)
        return
    with pytest.raises(MalformedError, match=r"contents\[0\]\.role"):
        codec_of(Wire.Gemini).read_request(body, Losses("x", may_drop=False), model="m", stream=False)


def test_only_objects_count_as_annotations_of_a_streamed_response() -> None:
    note = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    words = {"type": "output_text", "text": "Hi", "annotations": [None, 7, "x", ["y"], note]}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [words]}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}
    decoder = codec_of(Wire.Responses).decoder()
    told = decoder.feed(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (done, end)))
    assert [event.annotations for event in told if isinstance(event, PartDelta) and event.annotations] == [[note]]
    assert isinstance(told[-1], Finished)
    for client in (Wire.Chat, Wire.Messages, Wire.Gemini, Wire.Responses):
        encoder = codec_of(client).encoder("asked", want_usage=True)
        assert b"a.example" in b"".join(map(encoder.encode, told)) + encoder.finish()


def test_only_objects_count_as_annotations_of_a_whole_response() -> None:
    words = {"type": "output_text", "text": "Hi", "annotations": [None, 7]}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [words]}
    body = json.dumps({"id": "r", "object": "response", "status": "completed", "output": [item]}).encode()
    (choice,) = codec_of(Wire.Responses).read_answer(body).choices
    assert choice.parts == [Text("Hi")]
