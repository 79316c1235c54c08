"""See `app`."""

from apikeyrouter.muxer.documents import ChatMessage

__all__ = ["ChatMessage"]
