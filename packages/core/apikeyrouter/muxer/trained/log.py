"""Reads a log of outcomes: JSON lines with a prompt and how well the weak and the strong model answered it.

    {"prompt": "...", "weak": 0, "strong": 1, "group": "support"}

`weak`, `strong`: true or false, or a score 0..1 (both may be absent where only thresholds are wanted). `group`: prompts
that belong together (a subject, a customer); training never judges a group by itself. `weak_correct`, `strong_correct`
and `subject` are understood as well, as RouteLLM's evaluation data has them. Other fields are not looked at.
Main entry: `read_log`. Law: a line that cannot be used is refused with its number; none is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.errors import RouterError

__all__ = ["Example", "LogError", "read_log"]

_LINE_BYTES_MAX = 4 * 1024 * 1024


class LogError(RouterError):
    """A line of the log cannot be used: the message says which, why, and what belongs there."""


class Example(msgspec.Struct, frozen=True, gc=False):
    """A prompt and what became of it. `weak`, `strong`: 0..1, or None where it is not known."""

    prompt: str
    weak: float | None
    strong: float | None
    group: str = ""


def read_log(lines: Iterable[bytes], *, outcomes: bool = True) -> Iterator[Example]:
    """The examples of a log, one by one. `outcomes`: whether every line must have both. Raises LogError."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _example(number, line, outcomes)


def _example(number: int, line: bytes, outcomes: bool) -> Example:
    if len(line) > _LINE_BYTES_MAX:
        raise LogError(f"line {number}: longer than {_LINE_BYTES_MAX // 1024**2} MB; leave the replies out of the log.")
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise LogError(f"line {number}: not JSON ({fault}). Each line is one JSON object.") from None
    if not isinstance(row, dict):
        raise LogError(f"line {number}: not a JSON object. Each line is one object with prompt, weak and strong.")
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise LogError(f'line {number}: "prompt" is missing or empty. It is the text that was asked.')
    weak = _outcome(number, row, ("weak", "weak_correct"))
    strong = _outcome(number, row, ("strong", "strong_correct"))
    if outcomes and (weak is None or strong is None):
        name = "weak" if weak is None else "strong"
        raise LogError(f'line {number}: "{name}" is missing: how well the {name} model answered, true/false or 0..1.')
    if (weak is None) != (strong is None):
        raise LogError(f"line {number}: has the outcome of one model only; give both, or neither.")
    group = row.get("group", row.get("subject", ""))
    if not isinstance(group, str | int):
        raise LogError(f'line {number}: "group" must be a text.')
    return Example(prompt, weak, strong, str(group))


def _outcome(number: int, row: Mapping[str, Any], names: Sequence[str]) -> float | None:
    for name in names:
        value = row.get(name)
        if value is None:
            continue
        # True and False are numbers in Python, which is what is wanted here.
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise LogError(f'line {number}: "{name}" is {value!r}; it must be true, false, or a number from 0 to 1.')
        return float(value)
    return None
