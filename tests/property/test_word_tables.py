"""Words by a table of bytes are those that the same rule finds character by character."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.muxer.trained.features import FEATURES, measure
from apikeyrouter.muxer.word_tables import split, table_of

_KEPT = re.compile(r"[^\W\d_]+")
_TABLE = table_of(lambda letter: _KEPT.fullmatch(letter) is not None)
_TEXTS = st.text(st.sampled_from("aZäÖßéŸ’'“–€²½ª_09 .,\n\t\x1c\xa0\x81Жд漢") | st.characters(codec="cp1252"))


@given(_TEXTS)
def test_the_table_finds_what_the_rule_finds(text: str) -> None:
    found = split(text, _TABLE)
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        if not text.isascii():
            assert found is None
            return
    assert found == _KEPT.findall(text.lower())


@given(
    st.sampled_from(["I and", "IV only", "(ii)", "VI and", "II,", "aI and", "1999", "2029", "2030", "x1999", "19990"]),
    st.sampled_from(["", " ", "a", ".", "("]),
    st.sampled_from(["NOT", "EXCEPT", "LEAST", "NOTE", "aNOT", "not"]),
)
def test_numbers_and_loud_words_count_only_as_whole_words(word: str, before: str, loud: str) -> None:
    text = f"{before}{word} and {loud}"
    found = dict(zip(FEATURES, measure(text), strict=True))
    assert found["has_year"] == float(re.search(r"\b(?:1\d{3}|20[0-2]\d)\b", text) is not None)
    assert found["loud_negation"] == float(re.search(r"\b(?:NOT|EXCEPT|LEAST)\b", text) is not None)
    roman = re.search(r"\b(?:I+|IV|V)\b(?: and|,| only)|\(i+\)", text)
    assert found["roman_numbers"] == float(roman is not None)
