"""The codec of Messages; see `Codec`."""

from __future__ import annotations

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.answer import read_answer, usage_of, write_answer
from apikeyrouter.wire.messages.errors import error_body, error_event
from apikeyrouter.wire.messages.reader import MessagesReader
from apikeyrouter.wire.messages.request_in import read_request
from apikeyrouter.wire.messages.request_out import write_request
from apikeyrouter.wire.messages.stream_in import MessagesDecoder
from apikeyrouter.wire.messages.stream_out import MessagesEncoder

__all__ = ["MessagesCodec"]


class MessagesCodec:
    """See `Codec`."""

    wire = Wire.Messages

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """A client's request."""
        return read_request(body, losses, model=model, stream=stream)

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """The same for Anthropic."""
        return write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """Anthropic's reply."""
        return read_answer(body)

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The same for a client."""
        return write_answer(answer, ask_model)

    def decoder(self) -> MessagesDecoder:
        """For one stream of Anthropic."""
        return MessagesDecoder()

    def encoder(self, ask_model: str, *, want_usage: bool) -> MessagesEncoder:  # noqa: ARG002 - it always tells it
        """For one stream to a client; the usage is a part of it."""
        return MessagesEncoder(ask_model)

    def write_error(self, error: ErrorFact) -> bytes:
        """The body of an error reply."""
        return error_body(error)

    def write_error_event(self, error: ErrorFact) -> bytes:
        """An error inside a stream."""
        return error_event(error)

    def reader(self, call: Call) -> MessagesReader:  # noqa: ARG002 - the same for all calls
        """For one stream that passes untranslated."""
        return MessagesReader()

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply."""
        return usage_of(body)
