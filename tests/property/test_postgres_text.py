"""Any text comes back from PostgreSQL as it went in, and stays different from every other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.infrastructure.state_store.postgres_text import escaped, frozen, plain, thawed

awkward = st.text(alphabet="\x00\\\\0ab", max_size=12) | st.text(max_size=40)


@given(awkward)
def test_text_reads_back_and_is_kept_without_nul(text: str) -> None:
    assert plain(escaped(text)) == text
    assert "\x00" not in escaped(text)


@given(awkward, awkward)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


@given(st.lists(awkward | st.integers() | st.binary() | st.none(), max_size=6), st.integers(-1, 5))
def test_rows_read_back_and_documents_are_left_alone(row: list[object], document: int) -> None:
    kept = frozen(row, document)
    assert thawed(kept, document) == tuple(row)
    if 0 <= document < len(row):
        assert kept[document] is row[document]
