"""The codec of chat completions; see `Codec`."""

from __future__ import annotations

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.chat.errors import error_body, error_event
from apikeyrouter.wire.chat.reader import ChatStreamReader
from apikeyrouter.wire.facts import ErrorFact

__all__ = ["ChatCodec"]


class ChatCodec:
    """See `Codec`."""

    wire = Wire.Chat

    def write_error(self, error: ErrorFact) -> bytes:
        """The body of an error reply."""
        return error_body(error)

    def write_error_event(self, error: ErrorFact) -> bytes:
        """An error inside a stream, with its end mark."""
        return error_event(error)

    def reader(self, call: Call) -> ChatStreamReader:
        """For one stream that passes untranslated; without the usage chunk if the caller did not ask for it."""
        return ChatStreamReader(strip_usage=not call.peek.wants_usage)

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply."""
        return usage_of_openai(body)
