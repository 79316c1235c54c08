"""The half of a codec that formats lack which only providers speak: Bedrock's Converse, Cohere's chat.

`OneWayCodec` is their base. No endpoint of ours takes these formats, so nothing reads requests or writes replies in
them; who tries is told so.
"""

from __future__ import annotations

from typing import NoReturn

from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact
from apikeyrouter.wire.losses import Losses

__all__ = ["OneWayCodec"]


class OneWayCodec:
    """See `Codec`. Everything that concerns clients raises NotImplementedError: no operation of `CONVERSATIONS` leads
    here."""

    wire: Wire

    def _no_client(self) -> NoReturn:
        raise NotImplementedError(f"{self.wire.value} is spoken to providers only: no client format of ours is it")

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()

    def encoder(self, ask_model: str, *, want_usage: bool) -> NoReturn:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()

    def write_error(self, error: ErrorFact) -> bytes:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()

    def write_error_event(self, error: ErrorFact) -> bytes:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()

    def reader(self, call: Call) -> NoReturn:  # noqa: ARG002
        """Raises NotImplementedError."""
        self._no_client()
