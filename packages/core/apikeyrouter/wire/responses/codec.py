"""The codec of OpenAI's Responses API; see `Codec`."""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.responses.answer_in import read_answer
from apikeyrouter.wire.responses.answer_out import write_answer
from apikeyrouter.wire.responses.errors import error_events, write_error
from apikeyrouter.wire.responses.reader import ResponsesStreamReader
from apikeyrouter.wire.responses.request_in import read_request
from apikeyrouter.wire.responses.request_out import write_request
from apikeyrouter.wire.responses.stream_in import ResponsesDecoder
from apikeyrouter.wire.responses.stream_out import ResponsesEncoder

__all__ = ["ResponsesCodec"]


class _Reply(msgspec.Struct, gc=False):
    background: bool | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_reply = msgspec.json.Decoder(_Reply).decode


class ResponsesCodec:
    """See `Codec`."""

    wire = Wire.Responses

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """A client's request."""
        return read_request(body, losses, model=model, stream=stream)

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """A request for a provider."""
        return write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """A provider's reply."""
        return read_answer(body)

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """A reply for a client."""
        return write_answer(answer, ask_model)

    def decoder(self) -> ResponsesDecoder:
        """For one stream of a provider."""
        return ResponsesDecoder()

    def encoder(self, ask_model: str, *, want_usage: bool) -> ResponsesEncoder:  # noqa: ARG002 - it always tells it
        """For one stream to a client."""
        return ResponsesEncoder(ask_model)

    def write_error(self, error: ErrorFact) -> bytes:
        """The body of an error reply."""
        return write_error(error)

    def write_error_event(self, error: ErrorFact) -> bytes:
        """An error inside a stream, which it ends."""
        return error_events(error)

    def reader(self, call: Call) -> ResponsesStreamReader:  # noqa: ARG002 - all calls are alike
        """For one stream that passes untranslated."""
        return ResponsesStreamReader()

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply. Raises ValueError for a failed one, which may succeed elsewhere; one that ran in
        the background is told to the client as it is."""
        try:
            reply = _decode_reply(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
            raise ValueError(f"the reply is not a JSON object: {fault}") from None
        if reply.error and bytes(reply.error) != b"null" and not reply.background:
            raise ValueError("the reply has status 200 and an error inside")
        return usage_of_openai(body)
