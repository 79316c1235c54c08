"""Google's generateContent (https://ai.google.dev/api/generate-content), at the Gemini API and at Vertex AI.

`codec()` makes its codec. The model's name and whether to stream stand in the path, not in the body.
`embeddings` translates OpenAI's embeddings.
"""

from __future__ import annotations

from apikeyrouter.wire.gemini.codec import GeminiCodec

__all__ = ["GeminiCodec", "codec"]


def codec() -> GeminiCodec:
    """The codec of this format."""
    return GeminiCodec()
