"""The codec of chat completions; see `Codec`."""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.chat import answer as replies
from apikeyrouter.wire.chat import request_in, request_out
from apikeyrouter.wire.chat.errors import error_body, error_event
from apikeyrouter.wire.chat.reader import ChatStreamReader
from apikeyrouter.wire.chat.stream_in import ChatDecoder
from apikeyrouter.wire.chat.stream_out import ChatEncoder
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact
from apikeyrouter.wire.losses import Losses

__all__ = ["ChatCodec"]


class _Reply(msgspec.Struct, gc=False):
    error: msgspec.Raw = msgspec.Raw()


_decode_error = msgspec.json.Decoder(_Reply).decode
_NO_ERROR = (b"null", b"", b"{}", b'""', b"false")


class ChatCodec:
    """See `Codec`."""

    wire = Wire.Chat

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """A client's request."""
        return request_in.read_request(body, losses, model=model, stream=stream)

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """The same for a provider."""
        return request_out.write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """A provider's reply."""
        return replies.read_answer(body)

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The same for a client."""
        return replies.write_answer(answer, ask_model)

    def decoder(self) -> ChatDecoder:
        """For one stream of a provider."""
        return ChatDecoder()

    def encoder(self, ask_model: str, *, want_usage: bool) -> ChatEncoder:
        """For one stream to a client."""
        return ChatEncoder(ask_model, want_usage=want_usage)

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
        """The usage of a whole reply. Raises ValueError when it is no JSON object, or an error with status 200."""
        try:
            error = _decode_error(body).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
            raise ValueError(f"the reply is not a JSON object: {fault}") from None
        if error and bytes(error) not in _NO_ERROR:
            raise ValueError("the reply has status 200 and an error inside")
        return usage_of_openai(body)
