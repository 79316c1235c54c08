"""Signs that an answer is not good enough, without asking anybody: what a cascade looks at first.

Main entries: `plainly_wrong` (no answer, cut off, refused), `agreement` (how many answers say the same as the first)
and `final_words` (what an answer comes down to). Laws: pure; they judge form, never truth; about 20 us an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["agreement", "final_words", "plainly_wrong"]

_ENDED_BADLY = frozenset(
    {"length", "content_filter", "filter", "refusal", "context", "max_tokens", "max_output_tokens"}
)
_DECLINES = re.compile(
    r"^(?:i(?:'|’)?m sorry|i am sorry|sorry,|i can(?:'|’)?t |i cannot|i(?:'|’)?m unable|i am unable|as an ai"
    r"|i don(?:'|’)?t know|unfortunately, i|es tut mir leid|ich kann (?:das|ihnen|dir)? ?nicht|je ne peux pas"
    r"|je suis désolé|lo siento|no puedo|mi dispiace|desculpe|извините|я не могу|对不起|抱歉|我无法|申し訳)",
    re.IGNORECASE,
)
_SHORT_DECLINE = 400
_BOXED = re.compile(
    r"\\boxed\{([^{}]*)\}|####\s*(\S+)|(?:answer|antwort|réponse|respuesta|答案)\s*(?:ist|is|est|es|:|：|是)+\s*([^\n.]+)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_WORDS = re.compile(r"\w+")


def plainly_wrong(answer: str, finish: str | None = None) -> str:
    """Why an answer cannot be accepted, in words; "" where nothing speaks against it. `finish`: why it ended."""
    if finish in _ENDED_BADLY:
        return f"it ended early ({finish})"
    text = answer.strip()
    if not text:
        return "it is empty"
    if len(text) < _SHORT_DECLINE and _DECLINES.match(text):
        return "it declines to answer"
    return ""


def final_words(answer: str) -> str:
    """What an answer comes down to: a marked result, else the last number of a text with numbers, else the whole text's
    words."""
    marked = None
    for found in _BOXED.finditer(answer):
        marked = next(part for part in found.groups() if part is not None)
    if marked is not None:
        numbers = _NUMBER.findall(marked)
        return _plain(numbers[-1]) if numbers else " ".join(_WORDS.findall(marked.lower()))
    numbers = _NUMBER.findall(answer)
    if numbers:
        return _plain(numbers[-1])
    return " ".join(_WORDS.findall(answer.lower()))


def agreement(answers: Sequence[str]) -> float:
    """The share of answers (the first included) that say the same as the first, 0..1. Results are compared whole; free
    texts by the words that they share."""
    if not answers:
        return 0.0
    ends = [final_words(answer) for answer in answers]
    first = ends[0]
    return sum(_same(first, other) for other in ends) / len(ends)


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    words, others = set(one.split()), set(other.split())
    if min(len(words), len(others)) < 4:
        return False
    return len(words & others) >= 0.6 * min(len(words), len(others))


def _plain(number: str) -> str:
    text = number.replace(",", "")
    return text.rstrip("0").rstrip(".") if "." in text else text
