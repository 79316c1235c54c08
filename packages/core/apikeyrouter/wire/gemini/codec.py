"""The codec of generateContent; see `Codec`."""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact
from apikeyrouter.wire.gemini.answer import read_answer, write_answer
from apikeyrouter.wire.gemini.errors import error_body, error_event
from apikeyrouter.wire.gemini.reader import GeminiStreamReader
from apikeyrouter.wire.gemini.request_in import read_request
from apikeyrouter.wire.gemini.request_out import write_request
from apikeyrouter.wire.gemini.stream_in import GeminiDecoder
from apikeyrouter.wire.gemini.stream_out import GeminiEncoder
from apikeyrouter.wire.losses import Losses

__all__ = ["GeminiCodec"]


class _Reply(msgspec.Struct, rename="camel", gc=False):
    usage_metadata: dict[str, object] | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Reply).decode


class GeminiCodec:
    """See `Codec`."""

    wire = Wire.Gemini

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """A client's request."""
        return read_request(body, losses, model=model, stream=stream)

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """The same for a provider."""
        return write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """A provider's reply."""
        return read_answer(body)

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The same for a client."""
        return write_answer(answer, ask_model)

    def decoder(self) -> GeminiDecoder:
        """For one stream of a provider."""
        return GeminiDecoder()

    def encoder(self, ask_model: str, *, want_usage: bool) -> GeminiEncoder:  # noqa: ARG002 - Google always tells it
        """For one stream to a client."""
        return GeminiEncoder(ask_model)

    def write_error(self, error: ErrorFact) -> bytes:
        """The body of an error reply."""
        return error_body(error)

    def write_error_event(self, error: ErrorFact) -> bytes:
        """An error inside a stream; nothing follows."""
        return error_event(error)

    def reader(self, call: Call) -> GeminiStreamReader:  # noqa: ARG002 - all are read alike
        """For one stream that passes untranslated."""
        return GeminiStreamReader()

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply."""
        try:
            reply = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            raise ValueError(f"the reply is not a JSON object: {fault}") from None
        if reply.error and bytes(reply.error) != b"null":
            raise ValueError("the reply has status 200 and an error inside")
        return usage_of_gemini({"usageMetadata": reply.usage_metadata}) if reply.usage_metadata is not None else None
