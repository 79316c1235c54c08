"""Anthropic's Messages (https://platform.claude.com/docs/en/api/messages). `codec()` makes its codec; `models`
says what each Claude model takes; `reader.MessagesReader` watches a stream that passes as it is."""

from __future__ import annotations

from apikeyrouter.wire.messages.codec import MessagesCodec

__all__ = ["MessagesCodec", "codec"]


def codec() -> MessagesCodec:
    """The codec of this format."""
    return MessagesCodec()
