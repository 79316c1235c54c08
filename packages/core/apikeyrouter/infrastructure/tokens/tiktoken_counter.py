"""The input of OpenAI's models, counted by OpenAI's own tokenizer: tighter than bytes, about 4 times.

`TiktokenCounter.bound` counts a request in a thread of its own, for `Demand.improve` and `quote`; `exact_input_tokens`
is the same for a list of messages. Needs the extra `tokens` (tiktoken) and its vocabularies, which tiktoken fetches
from OpenAI's storage unless they lie in its cache (`TIKTOKEN_CACHE_DIR`): nothing is fetched unless that is allowed.

Laws: no answer (None) rather than an error or a wait for the network; why is logged once per vocabulary. Texts are
counted as they are; frames, tools and media keep the documented overheads of `input_bound`, so the sum is a bound.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.media_tokens import name_of

__all__ = ["Encoding", "TiktokenCounter", "vocabulary_file", "vocabulary_of"]

_log = logging.getLogger("apikeyrouter")

_STORAGE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"

# OpenAI's models by vocabulary (tiktoken, model.py, 0.14). The longest prefix that fits counts.
_VOCABULARIES = (
    ("gpt-3.5", "cl100k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-4o", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
    ("text-embedding-3", "cl100k_base"),
    ("text-embedding-ada", "cl100k_base"),
)


class Encoding(Protocol):
    """What is used of a tokenizer."""

    def encode_ordinary(self, text: str) -> Sequence[int]:
        """The tokens of a text, in which special tokens are ordinary text."""
        ...


def vocabulary_of(model: str) -> str | None:
    """The vocabulary of one of OpenAI's models; None for everybody else's."""
    name = name_of(model)
    return next((vocabulary for prefix, vocabulary in _VOCABULARIES if name.startswith(prefix)), None)


def vocabulary_file(vocabulary: str, environ: Mapping[str, str]) -> Path:
    """Where tiktoken keeps a vocabulary that it has fetched (`tiktoken.load.read_file_cached`)."""
    folder = environ.get("TIKTOKEN_CACHE_DIR") or environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(_STORAGE.format(vocabulary).encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name


class TiktokenCounter:
    """Counts with tiktoken, off the event loop.

    `allow_download`: lets tiktoken fetch a vocabulary that is not in its cache (about 2 MB, once). `load`: makes the
    tokenizer of a vocabulary; by default tiktoken's, which must be installed and allowed. It may raise ImportError,
    OSError or ValueError, which is logged and makes every later answer for that vocabulary None.
    """

    def __init__(self, *, allow_download: bool = False, load: Callable[[str], Encoding] | None = None) -> None:
        self._allow_download = allow_download
        self._load = load or self._load_tiktoken
        self._encodings: dict[str, Encoding | None] = {}
        self._loading = threading.Lock()

    async def bound(self, model: str, body: bytes) -> InputBound | None:
        """The most input tokens of a request body; None for models and vocabularies that are not at hand."""
        vocabulary = vocabulary_of(model)
        if vocabulary is None or self._encodings.get(vocabulary, self) is None:
            return None
        return await asyncio.to_thread(self._bound, vocabulary, model, body)

    async def exact_input_tokens(
        self, model: str, messages: Sequence[Mapping[str, Any]], **members: object
    ) -> int | None:
        """The same for messages, with other members of the request (such as `tools`); the number alone."""
        body = msgspec.json.encode({"model": model, "messages": messages, **members})
        found = await self.bound(model, body)
        return None if found is None or found.unbounded else found.tokens

    def _bound(self, vocabulary: str, model: str, body: bytes) -> InputBound | None:
        encoding = self._encoding(vocabulary)
        if encoding is None:
            return None
        return tight_input_bound(body, model, lambda text: len(encoding.encode_ordinary(text)))

    def _encoding(self, vocabulary: str) -> Encoding | None:
        with self._loading:
            if vocabulary not in self._encodings:
                try:
                    self._encodings[vocabulary] = self._load(vocabulary)
                except (ImportError, OSError, ValueError) as fault:
                    self._encodings[vocabulary] = None
                    _log.warning("Input tokens are bounded by bytes, not counted with %s: %s", vocabulary, fault)
            return self._encodings[vocabulary]

    def _load_tiktoken(self, vocabulary: str) -> Encoding:
        tiktoken = importlib.import_module("tiktoken")
        file = vocabulary_file(vocabulary, os.environ)
        if not self._allow_download and not file.is_file():
            raise FileNotFoundError(
                f"the vocabulary is not in tiktoken's cache ({file}). Put it there, or allow it to be downloaded"
            )
        encoding: Encoding = tiktoken.get_encoding(vocabulary)
        return encoding
