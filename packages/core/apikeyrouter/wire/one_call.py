"""At most one tool call in a reply, for callers who forbade several at providers that cannot be told.

Gemini, Bedrock's Converse and Cohere have no such switch, and call several functions at once when they want to. Their
replies are cut to the first call here, which is what clients do themselves where they can (LlamaIndex); the model asks
for the others in its next turn. The first call is also the one that carries Gemini's signature of the whole step
(https://ai.google.dev/gemini-api/docs/thought-signatures, read 2026-11-21), so nothing that must come back is lost.
Main entries: `forbids_several`, once per translated call; `first_call_only`, for whole replies; `FirstCalls` for
streams. Law: what is no call passes unchanged, and the parts of a choice are numbered without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Event, PartDelta, PartEnded, PartStarted, ToolCall

__all__ = ["FirstCalls", "first_call_only", "forbids_several"]

_TELLABLE = frozenset({Wire.Chat, Wire.Responses, Wire.Messages})
"""Formats in which a provider is told so itself."""

_NAMES = (b'"parallel_tool_calls"', b'"disable_parallel_tool_use"')


class _Choice(msgspec.Struct, gc=False):
    disable_parallel_tool_use: bool | None = None


class _Said(msgspec.Struct, gc=False):
    parallel_tool_calls: bool | None = None
    tool_choice: _Choice | str | None = None


_decode = msgspec.json.Decoder(_Said).decode


def forbids_several(call: Call, provider: Wire) -> bool:
    """Whether the caller wants one tool call at most, and a provider of this format cannot be told."""
    if provider in _TELLABLE or not any(name in call.body for name in _NAMES):
        return False
    try:
        said = _decode(call.body)
    except msgspec.MsgspecError:  # such a body is refused where it is read as a whole
        return False
    choice = said.tool_choice
    return said.parallel_tool_calls is False or (
        isinstance(choice, _Choice) and choice.disable_parallel_tool_use is True
    )


def first_call_only(answer: Answer) -> None:
    """Takes further calls out of every choice."""
    for choice in answer.choices:
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        if len(calls) > 1:
            choice.parts = [part for part in choice.parts if not isinstance(part, ToolCall) or part is calls[0]]


class FirstCalls:
    """The same for the events of one stream."""

    __slots__ = ("_called", "_skipped")

    def __init__(self) -> None:
        self._called: set[int] = set()
        self._skipped: dict[int, set[int]] = {}

    def kept(self, events: Sequence[Event]) -> Sequence[Event]:
        """The events without those of further calls."""
        return [event for event in events if self._keeps(event)]

    def _keeps(self, event: Event) -> bool:
        if not isinstance(event, PartStarted | PartDelta | PartEnded):
            return True
        skipped = self._skipped.setdefault(event.choice, set())
        if isinstance(event, PartStarted) and isinstance(event.part, ToolCall):
            if event.choice in self._called:
                skipped.add(event.index)
            self._called.add(event.choice)
        if event.index in skipped:
            return False
        event.index -= sum(one < event.index for one in skipped)
        return True
