"""See `app`."""

from apikeyrouter.muxer.documents import LiteLLMProvider

__all__ = ["LiteLLMProvider"]
