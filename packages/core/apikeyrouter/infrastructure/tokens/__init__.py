"""Tokenizers that providers publish, as an extra: `pip install apikeyrouter-core[tokens]`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apikeyrouter.infrastructure.tokens.tiktoken_counter import TiktokenCounter

__all__ = ["tokenizer"]


def tokenizer(*, allow_download: bool) -> TiktokenCounter | None:
    """The exact tokenizer, or None when the extra is not installed."""
    if importlib.util.find_spec("tiktoken") is None:
        return None
    from apikeyrouter.infrastructure.tokens.tiktoken_counter import TiktokenCounter

    return TiktokenCounter(allow_download=allow_download)
