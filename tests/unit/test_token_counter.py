"""Counting with a published tokenizer: tighter than bytes, never on the network unasked, silent where it cannot."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from apikeyrouter.domain.cost.input_bound import tight_input_bound
from apikeyrouter.infrastructure.tokens.tiktoken_counter import TiktokenCounter, vocabulary_file, vocabulary_of

MESSAGES = [{"role": "user", "content": "one two three four " * 50}]
BODY = msgspec.json.encode({"model": "gpt-4o", "messages": MESSAGES})


class Words:
    """A tokenizer that takes words for tokens, and remembers the threads that it worked in."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def encode_ordinary(self, text: str) -> list[int]:
        self.threads.add(threading.get_ident())
        return [len(word) for word in text.split()]


async def test_a_counted_bound_is_tighter_than_bytes_and_keeps_the_overheads() -> None:
    words = Words()
    found = await TiktokenCounter(load=lambda _: words).bound("openai/gpt-4o-mini", BODY)
    assert found is not None
    assert found.method == "tokenizer"
    assert 200 < found.tokens < 300 < tight_input_bound(BODY, "gpt-4o").tokens
    assert words.threads.isdisjoint({threading.get_ident()})


async def test_a_vocabulary_is_loaded_once_however_many_ask() -> None:
    loaded: list[str] = []

    def load(vocabulary: str) -> Words:
        loaded.append(vocabulary)
        return Words()

    counter = TiktokenCounter(load=load)
    counts = await asyncio.gather(*[counter.exact_input_tokens("gpt-4o", MESSAGES) for _ in range(5)])
    assert len(set(counts)) == 1
    assert isinstance(counts[0], int)
    assert await counter.exact_input_tokens("gpt-4", MESSAGES) is not None
    assert loaded == ["o200k_base", "cl100k_base"]


async def test_what_a_tokenizer_cannot_count_has_no_exact_number() -> None:
    counter = TiktokenCounter(load=lambda _: Words())
    assert await counter.exact_input_tokens("claude-sonnet-4-5", MESSAGES) is None
    assert await counter.exact_input_tokens("gpt-4o", MESSAGES, web_search_options={"a": 1}) is None
    assert [vocabulary_of(name) for name in ("o3-mini", "gpt-4-turbo", "gpt-4.1", "llama")] == [
        "o200k_base",
        "cl100k_base",
        "o200k_base",
        None,
    ]


async def test_without_the_extra_there_is_no_answer_and_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    counter = TiktokenCounter()
    with caplog.at_level(logging.WARNING, "apikeyrouter"):
        assert [await counter.bound("gpt-4o", BODY) for _ in range(3)] == [None, None, None]
    assert len(caplog.records) == 1


async def test_nothing_is_fetched_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "site" / "tiktoken"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class E:\n    def encode_ordinary(self, text):\n        return text.split()\n"
        "def get_encoding(name):\n    return E()\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "tiktoken", raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    try:
        with caplog.at_level(logging.WARNING, "apikeyrouter"):
            assert await TiktokenCounter().bound("gpt-4o", BODY) is None
        assert "not in tiktoken's cache" in caplog.text
        assert await TiktokenCounter(allow_download=True).bound("gpt-4o", BODY) is not None
        cache.mkdir()
        vocabulary_file("o200k_base", {"TIKTOKEN_CACHE_DIR": str(cache)}).touch()
        assert await TiktokenCounter().bound("gpt-4o", BODY) is not None
    finally:
        sys.modules.pop("tiktoken", None)


def test_the_cache_is_where_tiktoken_looks() -> None:
    named = vocabulary_file("cl100k_base", {"TIKTOKEN_CACHE_DIR": "/x"})
    assert named == Path("/x/9b5ad71b2ce5302211f9c61530b329a4922fc6a4")
    assert vocabulary_file("cl100k_base", {}).parent.name == "data-gym-cache"
