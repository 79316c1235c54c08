"""Whether what an SDK understood agrees with the independent reading, in the words of each client format.

Main entry: `agree`. A format can say less than another: a stop sequence is a "stop" in chat completions; formats of one
reply show the first of several choices.
"""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.models.call import Wire
from bench.replay_reading import Reading, Tokens

__all__ = ["agree"]

_WORDS: Mapping[Wire, Mapping[str, tuple[str, ...]]] = {
    Wire.Chat: {
        "end": ("stop",), "length": ("length",), "sequence": ("stop",), "tools": ("tool_calls",), "pause": ("stop",),
        "filter": ("content_filter",), "refusal": ("content_filter", "stop"), "context": ("length",),
    },
    Wire.Messages: {
        "end": ("end_turn",), "length": ("max_tokens",), "sequence": ("stop_sequence",), "tools": ("tool_use",),
        "pause": ("pause_turn",), "filter": ("refusal",), "refusal": ("refusal",),
        "context": ("model_context_window_exceeded",),
    },
    Wire.Responses: {
        "end": ("completed",), "length": ("max_output_tokens",), "sequence": ("completed",), "tools": ("completed",),
        "pause": ("max_output_tokens",), "filter": ("content_filter",), "refusal": ("completed", "content_filter"),
        "context": ("max_output_tokens",),
    },
    Wire.Gemini: {
        "end": ("STOP",), "length": ("MAX_TOKENS",), "sequence": ("STOP",), "tools": ("STOP",), "pause": ("STOP",),
        "filter": ("SAFETY",), "refusal": ("SAFETY",), "context": ("MAX_TOKENS",),
    },
}  # fmt: skip
_ONE_REPLY = (Wire.Messages, Wire.Responses)


def agree(wire: Wire, expected: Reading, seen: Reading, *, native: bool) -> list[str]:
    """What differs, in words. `native`: the provider speaks the client's format, so its own words pass."""
    return [*_reasons(wire, expected, seen, native=native), *_tokens(wire, expected.tokens, seen.tokens, native=native)]


def _reasons(wire: Wire, expected: Reading, seen: Reading, *, native: bool) -> list[str]:
    if native:
        return []
    reasons = expected.reasons[:1] if wire in _ONE_REPLY else expected.reasons
    told = seen.reasons
    if len(told) != len(reasons):
        return [f"{len(told)} choices instead of {len(reasons)}"]
    words = _WORDS[wire]
    return [
        f"ended by {said!r}, which is not {reason!r}"
        for said, reason in zip(told, reasons, strict=True)
        if reason is not None and said not in words[reason]
    ]


def _tokens(wire: Wire, expected: Tokens | None, seen: Tokens | None, *, native: bool) -> list[str]:
    if expected is None:
        return []
    if seen is None and native:  # it was not asked for, or told where the SDK does not look
        return []
    if seen is None:
        return ["the client is not told its usage"]
    wanted = expected if wire in (Wire.Chat, Wire.Messages) else expected._replace(written=seen.written)
    return [] if seen == wanted else [f"the client is told {tuple(seen)}, the provider said {tuple(wanted)}"]
