"""The codec of Converse; see `Codec`."""

from __future__ import annotations

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.converse.answer import read_answer, usage_of
from apikeyrouter.wire.converse.request_out import write_request
from apikeyrouter.wire.converse.stream_in import ConverseDecoder
from apikeyrouter.wire.facts import Answer, Ask
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.one_way import OneWayCodec

__all__ = ["ConverseCodec"]


class ConverseCodec(OneWayCodec):
    """See `Codec`. For clients it has nothing, see `OneWayCodec`."""

    wire = Wire.Converse

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """A request for Bedrock."""
        return write_request(ask, losses)

    def read_answer(self, body: bytes) -> Answer:
        """Bedrock's reply."""
        return read_answer(body)

    def decoder(self) -> ConverseDecoder:
        """For one stream of Bedrock."""
        return ConverseDecoder()

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage of a whole reply."""
        return usage_of(body)
