"""What a reply to a question with numbers shows of its own correctness: sums done again, numbers left out, an end.

Main entry: `read_reply`, one number for each of `SIGNS`. They look at what any model writes, not at one benchmark's
marks: a final number is what follows "answer is", `####` or `\\boxed{`, else the last number.
Laws: deterministic, no text makes it raise; `REPLY_CHARACTERS_MAX` characters of each text are read.
"""

from __future__ import annotations

import re
from math import log1p

from apikeyrouter.muxer.sums import Step, number_in, numbers_in, steps_of

__all__ = ["REPLY_CHARACTERS_MAX", "SIGNS", "hedges", "is_ended", "read_reply"]

REPLY_CHARACTERS_MAX = 16_384

_MARK = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"####|\\boxed\{|answer\s*(?:is|:|=)", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:however|mistake|not possible|cannot|can't|assum\w+|unclear|impossible|missing|unknown|approx\w+|sorry)\b",
    re.IGNORECASE,
)
_ENDED = re.compile(r"[.!?)\]}*`\"”’。！？]\s*$")
_DECIMAL = re.compile(r"\d\.\d")
_LONG_DECIMAL = re.compile(r"\.\d{3}")
_ALGEBRA = re.compile(r"\b\d*[a-z]\s*[=+*]\s|\blet\b")
_FRACTION = re.compile(r"\b(?:half|twice|third|double|triple|quarter|times)\b")

# Numbers that need no source: small counts, and how the world is divided.
_COMMON = frozenset((0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 12.0, 24.0, 30.0, 52.0, 60.0, 100.0, 365.0, 1000.0))
_SPELLED = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100, "half": 0.5,
    "twice": 2, "double": 2, "triple": 3, "third": 3, "quarter": 4, "dozen": 12,
}  # fmt: skip

SIGNS = (
    "some_step_wrong", "wrong_steps", "right_steps", "no_steps", "no_number", "whole", "positive",
    "final_was_computed", "final_is_last_step", "ended", "numbers_unused", "numbers_from_nowhere", "idle_results",
    "hedges", "decimals", "long_decimals", "algebra", "prompt_length", "prompt_numbers", "reply_length", "percent",
    "fractions", "final_is_in_prompt", "negative_step", "numbers_per_step", "final_size",
)  # fmt: skip
"""Names of the numbers that `read_reply` gives, in its order."""


def read_reply(prompt: str, reply: str) -> list[float]:
    """The signs of one reply, a number for each of `SIGNS`."""
    prompt, reply = prompt[:REPLY_CHARACTERS_MAX].lower(), reply[:REPLY_CHARACTERS_MAX].strip()
    steps = steps_of(reply)
    plain = _MARK.sub("", reply)
    final = _final_number(plain)
    asked = numbers_in(prompt)
    wrong = sum([not step.right for step in steps])
    said = [step.said for step in steps]
    mentioned = set(numbers_in(reply))
    different = set(asked)
    return [
        float(wrong > 0),
        log1p(wrong),
        log1p(len(steps) - wrong),
        float(not steps),
        float(final is None),
        float(final is not None and final.is_integer()),
        float(final is not None and final > 0),
        float(final in said),
        float(bool(said) and final == said[-1]),
        float(is_ended(plain)),
        len(different - mentioned) / (len(different) or 1),
        log1p(_from_nowhere(steps, prompt, asked)),
        log1p(_idle(steps, final)),
        float(hedges(plain)),
        log1p(len(_DECIMAL.findall(plain))),
        float(_LONG_DECIMAL.search(plain) is not None),
        float(_ALGEBRA.search(plain.lower()) is not None),
        log1p(len(prompt)),
        log1p(len(asked)),
        log1p(len(plain)),
        float("%" in prompt),
        log1p(len(_FRACTION.findall(prompt))),
        float(final in different),
        float(any(value < 0 for value in said)),
        log1p(len(asked) / (len(steps) or 1)),
        log1p(abs(final or 0.0)),
    ]


def hedges(reply: str) -> bool:
    """Whether the reply doubts the question or itself."""
    return _HEDGE.search(reply) is not None


def is_ended(reply: str) -> bool:
    """Whether the reply came to its end: a closing sign, or a number after the mark of a final answer."""
    if _ENDED.search(reply):
        return True
    marks = list(_FINAL.finditer(reply))
    return bool(marks) and number_in(reply[marks[-1].end() :]) is not None


def _final_number(plain: str) -> float | None:
    marks = list(_FINAL.finditer(plain))
    marked = number_in(plain[marks[-1].end() :]) if marks else None
    if marked is not None:
        return marked
    numbers = numbers_in(plain)
    return numbers[-1] if numbers else None


def _from_nowhere(steps: list[Step], prompt: str, asked: list[float]) -> int:
    """How many operands are neither asked about, nor computed before, nor common."""
    known = {*asked, *_COMMON, *(float(value) for word, value in _SPELLED.items() if word in prompt)}
    found = 0
    for step in steps:
        for operand in step.operands:
            # a percentage may stand as 20, 0.2 or 20 %
            if not known & {operand, round(operand * 100, 6), round(operand / 100, 6)}:
                found += 1
        known.add(step.said)
    return found


def _idle(steps: list[Step], final: float | None) -> int:
    """How many results but the last are neither used nor the answer."""
    used = {operand for step in steps for operand in step.operands}
    return sum([step.said not in used and step.said != final for step in steps[:-1]])
