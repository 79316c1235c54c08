"""Finds the arithmetic that a text shows and does it again.

    [step.right for step in steps_of("so 3 + 4 = 7 and 7 * 12 = 86")]     # [True, False]

Main entries: `steps_of` (every `expression = number`, also inside the `<<...>>` marks of calculators) and `value_of`.
Laws: no text makes it raise, none is evaluated as code; at most `STEPS_MAX` steps are looked at, each in linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

__all__ = ["STEPS_MAX", "Step", "number_in", "numbers_in", "steps_of", "value_of"]

STEPS_MAX = 64

_CHARACTERS_MAX = 120
"""A longer expression is no step that somebody wrote down."""

_DEPTH_MAX = 8
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
_TOKEN = re.compile(r"\s*(?:(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\s*(%?)|([-+*/()]))")
_STEP = re.compile(
    r"(?<![\w.])([(\d$€£.][\d\s$€£.,%()+*/x×·÷−–-]{0,110}?)"  # an expression, from its first digit or bracket
    r"\s*=\s*[$€£]?\s*(-?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+))(?![\d/*x×÷])"  # and what it is said to be
)
_SIGNS = str.maketrans({"x": "*", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": " ", "€": " ", "£": " "})
_ROUNDED_TO = 0.005
"""Results are often given to the cent, or with three digits: so far from the result, or absolutely, is still right."""


@dataclass(frozen=True, slots=True)
class Step:
    """One calculation. `said`: its result by the text; `operands`: the numbers in it; `right`: whether it adds up."""

    operands: tuple[float, ...]
    said: float
    right: bool


def steps_of(text: str) -> list[Step]:
    """The calculations in a text, in its order; what only names a number (`x = 5`) is none."""
    found = []
    for match in _STEP.finditer(text):
        # A comma before a space ends what stood before; one inside a number does not.
        expression = match.group(1).translate(_SIGNS).rsplit(", ", 1)[-1]
        operands = numbers_in(expression)
        said = number_in(match.group(2))
        if len(operands) < 2 or said is None:
            continue
        value = value_of(expression)
        if value is None:
            continue
        found.append(Step(tuple(operands), said, abs(value - said) <= _ROUNDED_TO * max(1.0, abs(value)) + 1e-9))
        if len(found) == STEPS_MAX:
            break
    return found


def numbers_in(text: str) -> list[float]:
    """Every number in a text, without signs, in its order."""
    return [float(match.group().replace(",", "")) for match in _NUMBER.finditer(text)]


def number_in(text: str) -> float | None:
    """The first number of a text with its sign, None where it has none."""
    match = _NUMBER.search(text)
    if match is None:
        return None
    value = float(match.group().replace(",", ""))
    return -value if text[: match.start()].rstrip().endswith("-") else value


def value_of(expression: str) -> float | None:
    """What an expression of numbers, percent, + - * / and brackets comes to; None where it is none, or divides by 0."""
    if len(expression) > _CHARACTERS_MAX:
        return None
    tokens: list[float | str] = []
    place = 0
    text = expression.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            return None
        number, percent, sign = match.groups()
        tokens.append(sign or float(number.replace(",", "")) * (0.01 if percent else 1.0))
        place = match.end()
    reader = _Reader(tokens)
    value = reader.sum(0)
    return value if value is not None and reader.place == len(tokens) and isfinite(value) else None


class _Reader:
    """Recursive descent over tokens; None for anything that is no expression."""

    def __init__(self, tokens: list[float | str]) -> None:
        self.tokens = tokens
        self.place = 0

    def sum(self, depth: int) -> float | None:
        """Terms with + and - between them."""
        total = self._product(depth)
        while total is not None and (sign := self._taken("+-")):
            term = self._product(depth)
            if term is None:
                return None
            total = total + term if sign == "+" else total - term
        return total

    def _product(self, depth: int) -> float | None:
        total = self._factor(depth)
        while total is not None and (sign := self._taken("*/")):
            factor = self._factor(depth)
            if factor is None or (sign == "/" and factor == 0.0):
                return None
            total = total * factor if sign == "*" else total / factor
        return total

    def _factor(self, depth: int) -> float | None:
        if depth > _DEPTH_MAX:
            return None
        if self._taken("-"):
            value = self._factor(depth + 1)
            return None if value is None else -value
        if self._taken("("):
            value = self.sum(depth + 1)
            return value if self._taken(")") else None
        if self.place < len(self.tokens) and isinstance(self.tokens[self.place], float):
            self.place += 1
            return float(self.tokens[self.place - 1])
        return None

    def _taken(self, signs: str) -> str:
        """The next token where it is one of the signs, taken; else "" and nothing is taken."""
        if self.place < len(self.tokens):
            token = self.tokens[self.place]
            if isinstance(token, str) and token in signs:
                self.place += 1
                return token
        return ""
