"""The codec of Cohere's chat; see `Codec`."""

from __future__ import annotations

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.cohere.answer import read_answer, usage_of
from apikeyrouter.wire.cohere.request_out import write_request
from apikeyrouter.wire.cohere.stream_in import CohereDecoder
from apikeyrouter.wire.facts import Answer, Ask
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.one_way import OneWayCodec

__all__ = ["CohereCodec"]


class CohereCodec(OneWayCodec):
    """See `Codec`. For clients it has nothing, see `OneWayCodec`."""

    wire = Wire.Cohere

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """A request for Cohere."""
        return write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """Cohere's reply."""
        return read_answer(body)

    def decoder(self) -> CohereDecoder:
        """For one stream of Cohere."""
        return CohereDecoder()

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply."""
        return usage_of(body)
