"""Two codecs joined: a call in one format served by a provider of another.

`translated_request` for the way there, `translated_reply` and `TranslatingReader` (a `StreamReader`) for the way back.
Adapters use them where `call.operation` is not one that their provider speaks itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, Wire
from apikeyrouter.wire.codec import Codec, StreamDecoder, StreamEncoder, codec_of
from apikeyrouter.wire.facts import Answer, Ask, Event, Failed, Finished, PartDelta, PartStarted, Started, UsageTold
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.one_call import FirstCalls, first_call_only, forbids_several

__all__ = ["TranslatingReader", "client_codec", "read_call", "translated_reply", "translated_request"]


def client_codec(operation: Operation) -> Codec:
    """The codec of the caller's format; OpenAI's chat for operations that are no conversation."""
    return codec_of(CONVERSATIONS.get(operation, Wire.Chat))


def translated_request(call: Call, target: Wire) -> tuple[bytes, tuple[str, ...]]:
    """The call's body in the provider's format, and the names of what was dropped.

    Raises MalformedError (the caller's fault) or UntranslatableError (this provider cannot do it).
    """
    ask, losses = read_call(call, target)
    body = codec_of(target).write_request(ask, losses)
    losses.check()
    return body, tuple(losses.dropped)


def read_call(call: Call, target: Wire) -> tuple[Ask, Losses]:
    """The call as neutral values, and what got lost in reading it. `target`: the provider's format, for messages."""
    losses = Losses(target.value, may_drop=call.drop_params)
    ask = client_codec(call.operation).read_request(call.body, losses, model=call.model, stream=call.streams)
    ask.model = call.model
    return ask, losses


def translated_reply(call: Call, source: Wire, body: bytes) -> tuple[bytes, Usage | None]:
    """The reply in the caller's format, and its usage. Raises ValueError when it is no valid reply of `source`."""
    answer: Answer = codec_of(source).read_answer(body)
    if forbids_several(call, source):
        first_call_only(answer)
    answer.created_s = answer.created_s or int(call.at_utc_s)
    return client_codec(call.operation).write_answer(answer, call.model), answer.usage


class TranslatingReader:
    """See `StreamReader`: feeds on the provider's bytes and returns the caller's.

    `deltas` counts pieces of output. `error`: the message of an in-band error as JSON in OpenAI's shape, for the
    classifier.
    """

    __slots__ = (
        "_at_utc_s", "_decoder", "_encoder", "_ended", "_first_calls", "deltas", "done", "error", "finish_reason",
        "model", "usage",
    )  # fmt: skip

    def __init__(self, call: Call, source: Wire) -> None:
        want_usage = call.operation is not Operation.Chat or call.peek.wants_usage
        self._decoder: StreamDecoder = codec_of(source).decoder()
        self._encoder: StreamEncoder = client_codec(call.operation).encoder(call.model, want_usage=want_usage)
        self._ended = False
        self._at_utc_s = int(call.at_utc_s)
        self._first_calls = FirstCalls() if forbids_several(call, source) else None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns bytes for the caller."""
        out = self._encoded(self._decoder.feed(chunk))
        if self._decoder.done and not self._ended and self.error is None:
            out += self._close()
        return out

    def finish(self) -> bytes:
        """What is left when the provider's stream has ended cleanly."""
        if self._ended or self.error is not None:
            return b""
        out = self._encoded(self._decoder.finish())
        if self.error is None and (self._decoder.done or self.finish_reason is not None):
            out += self._close()
        return out

    def _close(self) -> bytes:
        self._ended = self.done = True
        return self._encoder.finish()

    def _encoded(self, events: Sequence[Event]) -> bytes:
        parts = []
        if self._first_calls is not None:
            events = self._first_calls.kept(events)
        for event in events:
            match event:
                case PartDelta() | PartStarted():
                    self.deltas += 1
                case Started():
                    self.model, self.usage = event.model or self.model, event.usage or self.usage
                    event.created_s = event.created_s or self._at_utc_s
                case UsageTold():
                    self.usage = event.usage
                case Finished():
                    self.finish_reason = self.finish_reason or event.stop.value
                case Failed():
                    self.error = codec_of(Wire.Chat).write_error(event.error)
                case _:
                    pass
            parts.append(self._encoder.encode(event))
        return b"".join(parts)
