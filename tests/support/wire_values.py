"""Conversations by chance, and what they say once formats are left aside: for tests of translation.

`asks`, `answers`: hypothesis strategies of values that every format can say. `said_in_ask`, `said_in_answer`: what
must survive any pair of formats, as plain data. `events_of`, `answer_of`: an answer as a stream's events and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import (
    Answer,
    Ask,
    Choice,
    Event,
    Finished,
    Media,
    MediaKind,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Refusal,
    Role,
    Started,
    Stop,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    UsageTold,
)  # fmt: skip

MODELS = {
    Wire.Chat: "gpt-4o",
    Wire.Responses: "gpt-4o",
    Wire.Messages: "claude-3-5-sonnet-latest",
    Wire.Gemini: "gemini-2.5-pro",
    Wire.Converse: "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
    Wire.Cohere: "command-a-03-2025",
}
"""A model of each format's own, which reads pictures, calls tools and takes all sampling parameters."""

words = st.text(st.sampled_from('abcdefgh äöé中🙂"\\\n<>&'), min_size=1, max_size=12).map(lambda text: f"w{text}w")
names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
_values = st.one_of(st.integers(-1000, 1000), st.booleans(), words, st.lists(words, max_size=2), st.none())
arguments = st.dictionaries(names, _values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="

tools = st.lists(names, min_size=1, max_size=3, unique=True).map(
    lambda found: [
        Tool(name, f"does {name}", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
        for name in found
    ]
)


@st.composite
def asks(draw: st.DrawFn, model: str = "gpt-4o") -> Ask:
    """A conversation with instructions, pictures, calls and results; each call answered in the next turn."""
    known = draw(tools)
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn(Role.System, [Text(text) for text in draw(st.lists(words, min_size=1, max_size=2))]))
    calls = 0
    for _ in range(draw(st.integers(0, 3))):
        turns.append(Turn(Role.User, _user_parts(draw)))
        said: list[Part] = [Text(text) for text in draw(st.lists(words, max_size=1))]
        asked = draw(st.integers(0, 3)) if draw(st.booleans()) else 0
        made = [
            ToolCall(f"call_{calls + n}x", draw(st.sampled_from(known)).name, draw(arguments)) for n in range(asked)
        ]
        calls += asked
        if not made and not said:
            said = [Text("yes")]
        turns.append(Turn(Role.Assistant, [*said, *made]))
        turns += [Turn(Role.Tool, [ToolResult(one.id, [Text(draw(words))], one.name)]) for one in made]
    turns.append(Turn(Role.User, _user_parts(draw)))
    return Ask(
        model,
        turns,
        tools=known,
        tool_choice=draw(_choices(known)),
        max_tokens=draw(st.integers(1, 8000)),
        temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
        top_p=draw(st.sampled_from([None, 0.5])),
        stop=draw(st.lists(names, max_size=2, unique=True)),
        stream=draw(st.booleans()),
    )


def _user_parts(draw: st.DrawFn) -> list[Part]:
    parts: list[Part] = [Text(text) for text in draw(st.lists(words, min_size=1, max_size=2))]
    if draw(st.integers(0, 3)) == 0:
        parts.append(Media(MediaKind.Image, "image/png", data=PICTURE))
    if draw(st.integers(0, 5)) == 0:
        parts.append(Media(MediaKind.Document, "application/pdf", data="JVBERi0xLjQ=", name="a.pdf"))
    return parts


def _choices(known: list[Tool]) -> st.SearchStrategy[ToolChoice | None]:
    return st.one_of(
        st.none(),
        st.sampled_from(["auto", "required"]).map(ToolChoice),
        st.just(ToolChoice("named", known[0].name)),
    )


@st.composite
def answers(draw: st.DrawFn, wire: Wire = Wire.Chat) -> Answer:
    """One reply: thoughts, text, calls, as a provider of `wire` would give it."""
    parts: list[Part] = []
    if draw(st.booleans()):
        signature = draw(st.sampled_from([None, "c2lnbmF0dXJl"]))
        parts.append(Reasoning(draw(words), signature, origin=wire.value))
    if draw(st.booleans()):
        parts.append(Text(draw(words)))
    made = draw(st.integers(0, 3))
    parts += [ToolCall(f"call_{n}y", draw(names), draw(arguments)) for n in range(made)]
    if not any(isinstance(part, Text | ToolCall) for part in parts):
        parts.append(Text("nothing"))
    stop = Stop.Tools if made else draw(st.sampled_from([Stop.End, Stop.Length, Stop.Filter]))
    if not made and wire in (Wire.Chat, Wire.Responses) and draw(st.integers(0, 3)) == 0:
        parts, stop = [Refusal(draw(words))], Stop.Refusal
    cached = draw(st.integers(0, 50))
    stored = draw(st.integers(0, 50)) if "cache_write_tokens" in CLASSES[wire] else 0
    reasoning = draw(st.integers(0, 20)) if any(isinstance(part, Reasoning) for part in parts) else 0
    usage = Usage(
        input_tokens=cached + stored + draw(st.integers(1, 500)),
        output_tokens=reasoning + draw(st.integers(1, 500)),
        cached_input_tokens=cached,
        cache_write_tokens=stored,
        reasoning_tokens=reasoning,
    )
    return Answer("reply123", MODELS[wire], [Choice(parts, stop)], usage, 1_790_000_000)


# -- what they say --------------------------------------------------------------------------------------------------


def _squeezed(text: str) -> str:
    return "".join(text.split())


def said_in_ask(ask: Ask) -> dict[str, Any]:
    """Everything that all formats can say. Texts without white space, since boundaries of parts may become such;
    calls and results by the order of calls, since one format has no ids."""
    place: dict[str, int] = {}
    told: list[list[Any]] = []

    def tell(kind: str, *more: Any) -> None:
        if kind.endswith("text") and told and told[-1][0] == kind:
            told[-1][1] += more[0]
        else:
            told.append([kind, *more])

    for turn in ask.turns:
        role = "system" if turn.role is Role.Developer else turn.role.value
        for part in turn.parts:
            match part:
                case Text() if part.text:
                    tell(f"{role} text", _squeezed(part.text))
                case Media():
                    tell(f"{role} media", part.kind, part.mime, part.data)  # names are told by some formats only
                case ToolCall():
                    place[part.id] = len(place)
                    tell("call", place[part.id], part.name, json.loads(part.arguments or "{}"))
                case ToolResult():
                    texts = "".join(one.text for one in part.parts if isinstance(one, Text))
                    tell("result", place.get(part.call_id), _squeezed(texts))
                case _:
                    pass
    choice = ask.tool_choice
    return {
        "told": told,
        "tools": [(tool.name, tool.description, tool.schema) for tool in ask.tools],
        "choice": (choice.mode, choice.name) if choice is not None and choice.mode != "auto" else ("auto", None),
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "stop": ask.stop,
    }


_STOPS = {
    Stop.Sequence: "end", Stop.End: "end", Stop.Pause: "end", Stop.Length: "length", Stop.Context: "length",
    Stop.Filter: "withheld", Stop.Refusal: "withheld", Stop.Tools: "tools",
}  # fmt: skip

CLASSES = {
    Wire.Chat: {"cached_input_tokens", "cache_write_tokens", "reasoning_tokens"},
    Wire.Responses: {"cached_input_tokens", "reasoning_tokens"},
    Wire.Messages: {"cached_input_tokens", "cache_write_tokens"},
    Wire.Gemini: {"cached_input_tokens", "reasoning_tokens"},
    Wire.Converse: {"cached_input_tokens", "cache_write_tokens"},
    Wire.Cohere: set(),
}
"""Classes of tokens that each format tells, besides all input and all output."""


def said_in_answer(answer: Answer, formats: Iterable[Wire]) -> list[Any]:
    """Everything that all of these formats can say of a reply."""
    told: list[Any] = []
    for choice in answer.choices:
        texts = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
        thoughts = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
        calls = [
            (part.id if Wire.Gemini not in formats else "", part.name, json.loads(part.arguments or "{}"))
            for part in choice.parts
            if isinstance(part, ToolCall)
        ]
        stop = _STOPS.get(choice.stop) if choice.stop is not None else None
        told.append((_squeezed(texts), _squeezed(thoughts), calls, stop))
    if answer.usage is not None:
        classes = set.intersection(*(CLASSES[one] for one in formats))
        told.append({name: getattr(answer.usage, name) for name in ["input_tokens", "output_tokens", *sorted(classes)]})
    return told


# -- streams --------------------------------------------------------------------------------------------------------


def events_of(answer: Answer, pieces: int = 3) -> Iterator[Event]:
    """The answer as a stream: texts and arguments in a few pieces."""
    yield Started(answer.id, answer.model, answer.usage, answer.created_s)
    for number, choice in enumerate(answer.choices):
        for index, part in enumerate(choice.parts):
            yield from _events_of_part(part, index, number, pieces)
        yield Finished(choice.stop or Stop.End, choice.stop_sequence, number)
    if answer.usage is not None:
        yield UsageTold(answer.usage)


def _events_of_part(part: Part, index: int, number: int, pieces: int) -> Iterator[Event]:
    empty: Part
    match part:
        case Text():
            empty, text = Text(""), part.text
        case Reasoning():
            empty, text = Reasoning(id=part.id, origin=part.origin), part.text
        case Refusal():
            empty, text = Refusal(""), part.text
        case ToolCall():
            empty, text = ToolCall(part.id, part.name, ""), part.arguments
        case _:
            yield PartStarted(index, part, number)
            yield PartEnded(index, number)
            return
    yield PartStarted(index, empty, number)
    size = max(1, len(text) // pieces)
    for at in range(0, len(text), size):
        yield PartDelta(index, text[at : at + size], number)
    if isinstance(part, Text) and part.annotations:
        yield PartDelta(index, "", number, annotations=part.annotations)
    if isinstance(part, Reasoning | ToolCall) and part.signature:
        yield PartDelta(index, "", number, signature=part.signature)
    if isinstance(part, Reasoning) and part.encrypted:
        yield PartDelta(index, "", number, encrypted=part.encrypted)
    yield PartEnded(index, number)


def answer_of(events: Iterable[Event]) -> Answer:
    """The stream as an answer. Asserts the laws of events on the way."""
    answer = Answer("", "", [])
    choices: dict[int, Choice] = {}
    running: dict[tuple[int, int], Part] = {}
    counts: dict[int, int] = {}
    finished: set[int] = set()
    for place, event in enumerate(events):
        assert (place == 0) == isinstance(event, Started), f"event {place}: {event}"
        match event:
            case Started():
                answer.id, answer.model, answer.usage = event.id, event.model, event.usage
                answer.created_s = event.created_s
            case PartStarted():
                assert event.choice not in finished
                assert event.index == counts.get(event.choice, 0), "parts are counted in order"
                counts[event.choice] = event.index + 1
                assert not [key for key in running if key[0] == event.choice], "one part at a time"
                part = _copied(event.part)
                choices.setdefault(event.choice, Choice([], None)).parts.append(part)
                running[event.choice, event.index] = part
            case PartDelta():
                _add(running[event.choice, event.index], event)
            case PartEnded():
                del running[event.choice, event.index]
            case Finished():
                assert not [key for key in running if key[0] == event.choice], "parts end before their choice"
                finished.add(event.choice)
                choice = choices.setdefault(event.choice, Choice([], None))
                assert choice.stop is None, "a choice ends once"
                choice.stop, choice.stop_sequence = event.stop, event.stop_sequence
            case UsageTold():
                answer.usage = event.usage
            case _:
                raise AssertionError(f"the stream failed: {event}")
    assert not running
    answer.choices = [choices[number] for number in sorted(choices)]
    return answer


def _copied(part: Part) -> Part:
    match part:
        case Text():
            return Text(part.text, annotations=part.annotations)
        case Reasoning():
            return Reasoning(part.text, part.signature, part.encrypted, part.id, part.origin)
        case ToolCall():
            return ToolCall(part.id, part.name, part.arguments, signature=part.signature)
        case Refusal():
            return Refusal(part.text)
        case _:
            return part


def _add(part: Part, event: PartDelta) -> None:
    match part:
        case Text():
            part.text += event.text
            if event.annotations:
                part.annotations = [*(part.annotations or []), *event.annotations]
        case Refusal():
            part.text += event.text
        case Reasoning():
            part.text += event.text
            part.signature = event.signature or part.signature
            part.encrypted = event.encrypted or part.encrypted
        case ToolCall():
            part.arguments += event.text
            part.signature = event.signature or part.signature
        case _:
            raise AssertionError("a whole part has no deltas")
