"""What each Claude model takes: how it thinks, whether it may be sampled, how much it writes.

Main entry: `claude`, by name. Facts go by the version in the name, so that a new model of a known generation is right
on its first day; a name without a version gets what the newest take, but little output.
Sources (read 2026-11-21): https://platform.claude.com/docs/en/about-claude/models/overview (output),
/en/build-with-claude/adaptive-thinking, /effort, /structured-outputs, /mid-conversation-system-messages,
/en/about-claude/models/migration-guide (sampling), whats-new-opus-5 (thinking by default).
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

__all__ = ["UNKNOWN_OUTPUT_TOKENS", "Claude", "claude"]

UNKNOWN_OUTPUT_TOKENS = 4096
"""`max_tokens` is required; this is written where neither the caller nor the model's name tells one. Every Claude model
takes it."""

_NUMBER = re.compile(r"(?<![a-z0-9])(\d{1,2})(?=$|[-.@:_])")
_FAMILY = re.compile(r"opus|sonnet|haiku|fable|mythos")
_ALWAYS_THINK = frozenset({"fable", "mythos"})


class Claude(msgspec.Struct, frozen=True, gc=False):
    """`version`: (major, minor), (99, 0) where the name tells none. `output_tokens`: the most it writes. `budgets`:
    thinking is switched on with a budget of tokens; `adaptive`: the model decides, guided by the effort. `efforts`: the
    levels it knows, rising; empty: it takes none. `thinks_anyway`: without being asked. `may_not_think`: it can be told
    not to. `samples`: takes temperature, top_p and top_k; `samples_one`: not temperature and top_p together. `shapes`:
    structured output and strict tools. `system_turns`: system messages after user turns."""

    version: tuple[int, int]
    output_tokens: int
    budgets: bool
    adaptive: bool
    efforts: tuple[str, ...]
    thinks_anyway: bool
    may_not_think: bool
    samples: bool
    samples_one: bool
    shapes: bool
    system_turns: bool


@lru_cache(maxsize=1024)
def claude(model: str) -> Claude:
    """The facts of a model, with or without a hoster's prefix and a date."""
    name = model.lower()
    start = name.find("claude")
    name = name[start + 6 :] if start >= 0 else name
    numbers = [int(one) for one in _NUMBER.findall(name)][:2]
    found = _FAMILY.search(name)
    family = found.group() if found else ""
    version = (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers and start >= 0 else (99, 0)
    always = family in _ALWAYS_THINK or (version >= (5, 5) and family == "opus")
    return Claude(
        version=version,
        output_tokens=_output_tokens(version, family),
        budgets=version <= (4, 6),
        adaptive=version >= (4, 6) or family in _ALWAYS_THINK,
        efforts=_efforts(version, family),
        thinks_anyway=always or version >= (5, 0),
        may_not_think=not always and not (version == (5, 5) and family == "sonnet"),
        samples=version <= (4, 6) and family not in _ALWAYS_THINK,
        samples_one=version >= (4, 1),
        shapes=version >= (4, 5) or (version == (4, 1) and family == "opus"),
        system_turns=version >= (4, 8),
    )


def _output_tokens(version: tuple[int, int], family: str) -> int:
    if version == (99, 0):
        return UNKNOWN_OUTPUT_TOKENS
    if version >= (4, 7) or (version == (4, 6) and family == "opus"):
        return 128_000
    if version < (3, 7):
        return 8_192 if version == (3, 5) else 4_096
    return 32_000 if family == "opus" and version < (4, 5) else 64_000


def _efforts(version: tuple[int, int], family: str) -> tuple[str, ...]:
    if version >= (4, 7):
        return ("low", "medium", "high", "xhigh", "max")
    if version == (4, 6):
        return ("low", "medium", "high", "max")
    return ("low", "medium", "high") if version == (4, 5) and family == "opus" else ()
