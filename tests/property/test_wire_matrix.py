"""Any client format to any provider format and back keeps what both can say: requests, whole replies, streams."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeyrouter import wire as wire_package
from apikeyrouter.domain.models.call import CONVERSATIONS, Wire
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.facts import (
    AnswerShape,
    Ask,
    Media,
    MediaKind,
    ReasoningWish,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)  # fmt: skip
from apikeyrouter.wire.losses import Losses
from tests.support.wire_grammar import check_stream
from tests.support.wire_sides import NAMELESS, side_of
from tests.support.wire_values import MODELS, PICTURE, answer_of, answers, asks, events_of, said_in_answer, said_in_ask

_PACKAGES = {
    Wire.Chat: "chat", Wire.Responses: "responses", Wire.Messages: "messages", Wire.Gemini: "gemini",
    Wire.Converse: "converse", Wire.Cohere: "cohere",
}  # fmt: skip
_HOME = Path(wire_package.__file__).parent
PROVIDERS = [wire for wire in Wire if (_HOME / _PACKAGES[wire] / "codec.py").exists()]
CLIENTS = [wire for wire in PROVIDERS if wire in CONVERSATIONS.values()]
PAIRS = list(itertools.product(CLIENTS, PROVIDERS))
THINKERS = {
    Wire.Chat: "gpt-5.1",
    Wire.Responses: "gpt-5.1",
    Wire.Messages: "claude-sonnet-4-5",
    Wire.Gemini: "gemini-2.5-pro",
    Wire.Converse: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    Wire.Cohere: "command-a-reasoning-08-2025",
}
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
cuts = st.lists(st.integers(1, 400), min_size=1, max_size=20)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return found
        found.append(data[at : at + size])
        at += size
    return found


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@few
@given(data=st.data())
def test_a_request_says_the_same_in_the_providers_format(client: Wire, provider: Wire, data: st.DataObject) -> None:
    ask = data.draw(asks(MODELS[client]))
    if Wire.Responses in (client, provider):  # which has no such parameter
        ask.stop = []
    if provider is Wire.Cohere:
        as_cohere_can(ask)
    losses = Losses("test", may_drop=False)
    body = codec_of(client).write_request(ask, losses)
    read = codec_of(client).read_request(body, losses, model=MODELS[provider], stream=ask.stream)
    sent = codec_of(provider).write_request(read, losses)
    losses.check()
    understood = side_of(provider).read_request(sent, losses, model=MODELS[provider], stream=ask.stream)
    losses.check()
    assert said_in_ask(understood) == said_in_ask(ask)


def as_cohere_can(ask: Ask) -> None:
    """Its models read no files; a certain tool is demanded by leaving out the others, which reads differently."""
    for turn in ask.turns:
        turn.parts = [one for one in turn.parts if not (isinstance(one, Media) and one.kind is MediaKind.Document)]
    if ask.tool_choice is not None and ask.tool_choice.mode == "named":
        ask.tool_choice.mode, ask.tool_choice.name = "required", None


def understood_by(provider: Wire, client: Wire, ask: Ask) -> Ask:
    """The request as the provider reads it, between models that think."""
    losses = Losses("test", may_drop=False)
    ask.model = THINKERS[client]
    body = codec_of(client).write_request(ask, losses)
    read = codec_of(client).read_request(body, losses, model=THINKERS[provider], stream=False)
    sent = codec_of(provider).write_request(read, losses)
    losses.check()
    return side_of(provider).read_request(sent, losses, model=THINKERS[provider], stream=False)


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_pictures_that_tools_return_are_not_lost(client: Wire, provider: Wire) -> None:
    picture = Media(MediaKind.Image, "image/png", data=PICTURE)
    turns = [
        Turn(Role.User, [Text("see")]),
        Turn(Role.Assistant, [ToolCall("call_1", "look", "{}")]),
        Turn(Role.Tool, [ToolResult("call_1", [Text("seen"), picture], "look")]),
        Turn(Role.User, [Text("so?")]),
    ]
    understood = understood_by(provider, client, Ask("", turns, tools=[Tool("look")], max_tokens=100))
    media = [
        part
        for turn in understood.turns
        for holder in turn.parts
        for part in (holder.parts if isinstance(holder, ToolResult) else [holder])
        if isinstance(part, Media)
    ]
    assert [(one.kind, one.mime, one.data) for one in media] == [(MediaKind.Image, "image/png", PICTURE)]


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_the_shape_of_the_reply_is_kept(client: Wire, provider: Wire) -> None:
    schema = {
        "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False,
    }  # fmt: skip
    ask = Ask("", [Turn(Role.User, [Text("so?")])], shape=AnswerShape("schema", "thing", schema, True), max_tokens=100)
    shape = understood_by(provider, client, ask).shape
    assert shape is not None
    assert shape.kind == "schema"
    assert shape.schema is not None
    assert shape.schema["properties"] == {"a": {"type": "string"}}


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@pytest.mark.parametrize(("effort", "max_tokens"), [("low", 5_000), ("high", 60_000)])
def test_how_much_to_think_is_kept(client: Wire, provider: Wire, effort: str, max_tokens: int) -> None:
    ask = Ask("", [Turn(Role.User, [Text("so?")])], reasoning=ReasoningWish(effort), max_tokens=max_tokens)
    wish = understood_by(provider, client, ask).reasoning
    assert wish is not None
    if wish.effort is None:
        assert wish.budget_tokens is not None
        assert (wish.budget_tokens > 8_192) == (effort == "high")
    else:
        assert wish.effort == effort


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@few
@given(data=st.data())
def test_a_reply_says_the_same_in_the_clients_format(client: Wire, provider: Wire, data: st.DataObject) -> None:
    answer = data.draw(answers(provider))
    came = codec_of(provider).read_answer(side_of(provider).write_answer(answer, "asked"))
    assert said_in_answer(came, {provider}) == said_in_answer(answer, {provider})
    understood = codec_of(client).read_answer(codec_of(client).write_answer(came, "asked"))
    assert said_in_answer(understood, {client, provider}) == said_in_answer(answer, {client, provider})
    assert understood.model == ("asked" if provider in NAMELESS else answer.model)


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@few
@given(data=st.data())
def test_a_stream_says_the_same_in_the_clients_format(client: Wire, provider: Wire, data: st.DataObject) -> None:
    answer = data.draw(answers(provider))
    first = side_of(provider).encoder("asked", want_usage=True)
    sent = b"".join(map(first.encode, events_of(answer, data.draw(st.integers(1, 5))))) + first.finish()
    decoder = codec_of(provider).decoder()
    events = [event for piece in pieces(sent, data.draw(cuts)) for event in decoder.feed(piece)]
    events += decoder.finish()
    assert decoder.done
    assert said_in_answer(answer_of(events), {provider}) == said_in_answer(answer, {provider})
    second = codec_of(client).encoder("asked", want_usage=True)
    out = b"".join(map(second.encode, events)) + second.finish()
    check_stream(client, out)
    understood = codec_of(client).decoder()
    again = answer_of([*understood.feed(out), *understood.finish()])
    assert understood.done
    assert said_in_answer(again, {client, provider}) == said_in_answer(answer, {client, provider})


@pytest.mark.parametrize("wire", PROVIDERS)
@few
@given(data=st.data())
def test_a_stream_reads_the_same_however_the_network_cuts_it(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(answers(wire))
    encoder = side_of(wire).encoder("asked", want_usage=True)
    sent = b"".join(map(encoder.encode, events_of(answer))) + encoder.finish()
    whole, cut = codec_of(wire).decoder(), codec_of(wire).decoder()
    at_once = [*whole.feed(sent), *whole.finish()]
    bit_by_bit = [event for piece in pieces(sent, data.draw(cuts)) for event in cut.feed(piece)]
    bit_by_bit += cut.finish()
    assert bit_by_bit == at_once
    assert cut.done == whole.done


@pytest.mark.parametrize("wire", PROVIDERS)
@few
@given(data=st.data())
def test_no_bytes_break_a_reader(wire: Wire, data: st.DataObject) -> None:
    codec, side = codec_of(wire), side_of(wire)
    losses = Losses("test", may_drop=True)
    good = data.draw(
        st.one_of(
            asks(MODELS[wire]).map(lambda ask: codec.write_request(ask, losses)),
            answers(wire).map(lambda answer: side.write_answer(answer, "asked")),
            st.binary(max_size=60),
        )
    )
    body = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            body[at : at + data.draw(st.integers(0, 6))] = data.draw(
                st.sampled_from([b"", b"null", b'"', b"{}", b"[]", b"1e999", b"\xff", b"\\ud800", b"true", b",", b":"])
            )
    try:
        ask = side.read_request(bytes(body), losses, model="m", stream=True)
    except MalformedError:
        pass
    else:
        codec.write_request(ask, losses)
    try:
        answer = codec.read_answer(bytes(body))
    except ValueError:
        pass
    else:
        side.write_answer(answer, "asked")
    decoder = codec.decoder()
    encoder = side.encoder("asked", want_usage=True)
    for event in [*decoder.feed(b"data: " + bytes(body) + b"\n\n"), *decoder.finish()]:
        encoder.encode(event)
