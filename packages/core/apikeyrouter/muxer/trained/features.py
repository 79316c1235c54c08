"""What the trained predictor sees of a prompt: its form, not its topic, as numbers.

Main entries: `measure` gives one number for each name in `FEATURES`, `word_places` the places of its words in a table
of fixed size. Form carries over to subjects that were never seen: over MMLU subjects held out, words or topics
added made ranking worse (docs/reference/model-routing-evaluation.md); so words are for a user's own traffic only.
Laws: deterministic, independent of hash randomisation; no text makes it raise; `LOOKED_AT` characters are read at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import log1p
from types import MappingProxyType
from zlib import crc32

from apikeyrouter.muxer.word_tables import split, table_of

__all__ = ["FEATURES", "LOOKED_AT", "WORD_PLACES", "measure", "word_places"]

LOOKED_AT = 4_096
"""Characters: of a longer prompt the first and the last half of these are read. Instructions stand at its ends."""

WORD_PLACES = 1 << 14
"""Size of the table of words. A power of two; 16,384 keeps collisions rare for the few thousand words of a log."""

_OPTION = re.compile(r"^\(?([A-Ja-j])[.)]\s*(.*)$", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")
_PLAIN_NUMBER = re.compile(r"[0-9][0-9,]*\.?[0-9]*")
"""The same for ASCII: sets of characters are searched faster than classes."""
# What follows begins with a set of characters and looks back from there: the search then jumps from one of them to the
# next, in a third of the time that `\\b` at the front takes.
_NAME = re.compile(r"[A-Z](?<=[a-z,;] .)[a-z]+")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_YEAR = re.compile(r"[12](?<!\w.)(?:(?<=1)\d{3}|(?<=2)0[0-2]\d)\b")
_ROMAN = re.compile(r"[IV](?<!\w.)(?:(?<=I)(?:I*|V)|(?<=V))\b(?: and|,| only)")
_ROMAN_ITEM = re.compile(r"\(i+\)")
_STATEMENTS = re.compile(r"(?:scenario|statement)s?\b.{0,3}\d")
_LOUD = re.compile(r"\b(?:NOT|EXCEPT|LEAST)\b")
_LETTERS = table_of(lambda letter: letter in "'’" or _WORD.fullmatch(letter) is not None)
_LONG_WORD = 8
_LONG_OPTION_WORD = 5

# Kinds of function words: they say how a question is put, in any subject.
_KINDS = {
    "negations": "not no never none neither nor except cannot without incorrect false least unlikely",
    "first_person": "i my me we our us mine myself",
    "second_person": "you your",
    "third_person": "he she his her him they their them",
    "conditions": "if unless whether assume suppose given when",
    "modals": "would should could might may must will shall can",
    "reasons": "because since therefore thus hence so although however while whereas despite",
    "quantifiers": "all each every some any only both most many few more less",
    "asks_who": "who whom whose when where",
    "asks_why": "why how",
    "asks_what": "what which",
    "superlatives": "best most primarily mainly likely primary chief greatest",
}
_KIND_NAMES = tuple(_KINDS)


def _places_of_kinds() -> Mapping[str, tuple[int, ...]]:
    places: dict[str, tuple[int, ...]] = {}
    for place, words in enumerate(_KINDS.values()):
        for word in words.split():
            places[word] = (*places.get(word, ()), place)
    return MappingProxyType(places)


_KIND_OF = _places_of_kinds()

FEATURES = (
    "characters", "stem_words", "option_words",
    "has_options", "option_length", "option_spread", "option_overlap", "option_numbers", "option_short",
    "option_yes_no", "option_same_start", "option_from_stem", "option_long_words",
    "word_length", "stem_word_length", "long_words", "distinct_words", "sentences", "sentence_length",
    "numbers", "number_share", "signs_of_maths", "brackets", "ends_with_question", "has_blank", "ends_with_colon",
    "names", "name_share", "quotes", "money", "percent", "has_year", "roman_numbers", "numbered_statements",
    "comma_share", "lines", "loud_negation",
    *_KIND_NAMES,
)  # fmt: skip
"""Names of the numbers that `measure` gives, in its order. Counts are log(1 + n), shares are 0..1, signs are 0 or 1."""


def measure(text: str) -> list[float]:
    """The form of a prompt, a number for each of `FEATURES`; about 90 us per KB."""
    text = _looked_at(text)
    content = text.encode("utf-8", "replace")
    options = _OPTION.findall(text) if "\n" in text else ()
    start = _OPTION.search(text) if len(options) >= 2 else None
    stem = text if start is None else text[: start.start()]
    words = _words(text)
    stem_words = words if start is None else _words(stem)
    total, asked = len(words) or 1, len(stem_words) or 1
    lengths = list(map(len, stem_words))
    letters = sum(lengths)
    sentences = len(_SENTENCE_END.findall(stem)) or 1
    known = set(stem_words)
    numbers = len((_PLAIN_NUMBER if text.isascii() else _NUMBER).findall(stem))
    names = len(_NAME.findall(stem))
    ending = stem.rstrip()[-1:]
    return [
        log1p(len(text)),
        log1p(asked),
        log1p(total - asked),
        *(_measure_options([option for _, option in options], known) if start is not None else _NO_OPTIONS),
        (letters if start is None else sum(map(len, words))) / total,
        letters / asked,
        sum(map(_LONG_WORD.__le__, lengths)) / asked,
        len(known) / len(stem_words) if stem_words else 1.0,
        log1p(sentences),
        log1p(asked / sentences),
        log1p(numbers),
        numbers / asked,
        log1p(len(content) - len(content.translate(None, b"=^+*/<>|\\"))),
        log1p(len(content) - len(content.translate(None, b"{}[]();"))),
        float(ending == "?"),
        float("__" in stem),
        float(ending == ":"),
        log1p(names),
        names / asked,
        log1p(sum(map(text.count, '"“”'))),
        log1p(text.count("$")),
        log1p(text.count("%")),
        float(numbers > 0 and _YEAR.search(stem) is not None),
        float(_ROMAN.search(text) is not None or ("(i" in text and _ROMAN_ITEM.search(text) is not None)),
        float(_STATEMENTS.search(text.lower()) is not None),
        stem.count(",") / asked,
        log1p(stem.count("\n")),
        float(("NOT" in stem or "EXCEPT" in stem or "LEAST" in stem) and _LOUD.search(stem) is not None),
        *_count_kinds(stem_words),
    ]


_NO_OPTIONS = (0.0,) * 10


def _measure_options(options: list[str], stem: set[str]) -> list[float]:
    """How alike, how long and how numeric the choices are."""
    split = [_words(option) for option in options]
    sets = [set(words) for words in split]
    distinct = set().union(*sets)
    together = sum(map(len, sets))
    first = [words[0] for words in split if words]
    lengths = [len(option) for option in options]
    count = len(options)
    return [
        1.0,
        log1p(sum(lengths) / count),
        log1p(max(lengths) - min(lengths)),
        1 - len(distinct) / together if together else 0.0,
        sum([_NUMBER.search(option) is not None for option in options]) / count,
        sum([len(words) <= 1 for words in split]) / count,
        sum([word in ("yes", "no") for word in first]) / count,
        1 - len(set(first)) / len(first) if first else 0.0,
        len(distinct & stem) / (len(distinct) or 1),
        sum([len(word) > _LONG_OPTION_WORD for word in distinct]) / (len(distinct) or 1),
    ]


def _count_kinds(words: list[str]) -> list[float]:
    counts = [0] * len(_KIND_NAMES)
    kind_of = _KIND_OF
    for word in filter(kind_of.__contains__, words):
        for place in kind_of[word]:
            counts[place] += 1
    return [log1p(count) for count in counts]


def _words(text: str) -> list[str]:
    """The words of a text in small letters: letters, with an apostrophe inside; as `_WORD` finds them."""
    found = split(text, _LETTERS)
    if found is None:
        return _WORD.findall(text.lower())
    if "'" not in text and "’" not in text:
        return found
    return [part for word in found for part in ((word,) if word.isalpha() else _WORD.findall(word))]


def word_places(text: str) -> list[int]:
    """Where the prompt's distinct words stand in the table of words, ascending. By CRC-32: the same in every
    process."""
    words = set(_words(_looked_at(text)))
    return sorted({crc32(word.encode("utf-8", "surrogatepass")) % WORD_PLACES for word in words})


def _looked_at(text: str) -> str:
    if len(text) <= LOOKED_AT:
        return text
    half = LOOKED_AT // 2
    return f"{text[:half]}\n{text[-half:]}"
