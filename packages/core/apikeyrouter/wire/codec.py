"""A format of conversations as code: between its bytes and the values of `facts.py`, both ways.

`codec_of` finds the one for a `Wire`; each lives in a package of its own beside this module and is imported at first
use. Codecs are stateless and shared; decoders and encoders belong to one stream.

Laws: `write_*(read_*(x))` says what x says, for everything that `facts` can hold; readers of requests raise
`MalformedError` with the member at fault, and never anything else, whatever the bytes; readers of replies raise
ValueError; decoders never raise; what a stream encoder writes is accepted by the official SDK of its format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.provider_adapter import StreamReader
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.wire.facts import Answer, Ask, ErrorFact, Event
from apikeyrouter.wire.losses import Losses

__all__ = ["Codec", "MalformedError", "StreamDecoder", "StreamEncoder", "codec_of"]


class MalformedError(ValueError):
    """A request body that is no request of its format. `param`: the member at fault, such as "messages[2].content", or
    None. The message says what was expected."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class StreamDecoder(Protocol):
    """Reads one event stream of a provider. Framing (SSE with LF or CRLF, comments, events cut anywhere) is its work;
    Bedrock's is binary."""

    done: bool
    """Whether the terminal event came."""

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events in these bytes, together with what earlier ones left unfinished."""
        ...

    def finish(self) -> Sequence[Event]:
        """The provider has ended the stream cleanly: what was unfinished. Closes open parts if the choice finished."""
        ...


class StreamEncoder(Protocol):
    """Writes one event stream for a client. `encode` is called in the order of the events' laws (`facts`)."""

    def encode(self, event: Event) -> bytes:
        """The event as the client's format says it; b"" for what it does not tell. A `Failed` is written as the
        format's in-band error and ends the stream."""
        ...

    def finish(self) -> bytes:
        """The stream's end mark, with the usage if it was told: after the last event, once."""
        ...


class Codec(Protocol):
    """One format. `wire`: its name. `model` in `write_request` is the provider's own model name; formats that have it
    in the path leave it out of the body."""

    wire: Wire

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """A client's request. Members that are unknown, or that no other format has, are told to `losses` by name.
        `model` and `stream` are those of the call (Gemini has them in the path). Raises MalformedError."""
        ...

    def write_request(self, ask: Ask, losses: Losses) -> bytes:
        """The same for a provider; what the format cannot say is told to `losses`."""
        ...

    def read_answer(self, body: bytes) -> Answer:
        """A provider's reply. Raises ValueError when it is none, or an error with status 200."""
        ...

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The same for a client. `ask_model`: what the client called the model, for replies that tell none."""
        ...

    def decoder(self) -> StreamDecoder:
        """For one stream of a provider."""
        ...

    def encoder(self, ask_model: str, *, want_usage: bool) -> StreamEncoder:
        """For one stream to a client. `want_usage`: whether it asked for the usage (formats that always tell it do)."""
        ...

    def write_error(self, error: ErrorFact) -> bytes:
        """The body of an error reply to a client."""
        ...

    def write_error_event(self, error: ErrorFact) -> bytes:
        """An error inside a stream to a client, with whatever ends such a stream. SDKs must raise on it."""
        ...

    def reader(self, call: Call) -> StreamReader:
        """For one stream that passes untranslated: bytes unchanged, whole events only; it knows the format's terminal
        events (`done`), in-band errors (`error`: their JSON) and usage."""
        ...

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage in a provider's whole reply that passes untranslated, without reading the rest; None without.
        Raises ValueError when it is no JSON object, or an error with status 200."""
        ...


_HOMES = {
    Wire.Chat: ("apikeyrouter.wire.chat.codec", "ChatCodec"),
    Wire.Responses: ("apikeyrouter.wire.responses.codec", "ResponsesCodec"),
    Wire.Messages: ("apikeyrouter.wire.messages.codec", "MessagesCodec"),
    Wire.Gemini: ("apikeyrouter.wire.gemini.codec", "GeminiCodec"),
    Wire.Converse: ("apikeyrouter.wire.converse.codec", "ConverseCodec"),
    Wire.Cohere: ("apikeyrouter.wire.cohere.codec", "CohereCodec"),
}
_known: dict[Wire, Codec] = {}


def codec_of(wire: Wire) -> Codec:
    """The codec of a format."""
    found = _known.get(wire)
    if found is None:
        module, name = _HOMES[wire]
        make: Callable[[], Codec] = getattr(import_module(module), name)
        found = _known[wire] = make()
    return found
