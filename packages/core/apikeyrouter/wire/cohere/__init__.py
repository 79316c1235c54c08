"""Cohere's chat of version 2 (`/v2/chat`), spoken to Cohere only (see `one_way`), and its embeddings.

`codec()` makes its codec. Sources: https://docs.cohere.com/reference/chat, /reference/chat-stream, /reference/embed and
/v2/docs/streaming; what replies and streams look like was checked against recorded exchanges.
"""

from __future__ import annotations

from apikeyrouter.wire.cohere.codec import CohereCodec

__all__ = ["CohereCodec", "codec"]


def codec() -> CohereCodec:
    """The codec of this format."""
    return CohereCodec()
