"""The laws of streams: cut anywhere they say the same, broken off they are not done, and errors inside are seen.

Main entry: `StreamLaws`, a part of `AdapterConformance`.
"""

from __future__ import annotations

import random

from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter, StreamReader
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.testing._adapter_suite import REPLY_TEXT, AdapterSuite, must
from apikeyrouter.wire.facts import Finished, PartDelta
from apikeyrouter.wire.translate import client_codec

__all__ = ["StreamLaws"]

_NOISE_PIECES = (
    b"data: ", b"\n\n", b"\r\n", b"{", b"}", b"[DONE]", b'"choices":[{"delta":5}]', b"event: message_delta\n", b"\xff",
    b"null", b": comment\n", b'data: {"type":"message_start"}\n\n', b'data: {"choices":null}\n\n', b"data: []\n\n",
    b'data: {"usage":{"prompt_tokens":-1}}\n\n', b"0",
)  # fmt: skip
_NOISES = 60


class StreamLaws(AdapterSuite):
    """What comes back in pieces."""

    def test_streams_tell_usage_and_end(self) -> None:
        for operation in self.streamed():
            reader, _ = _read(self.reader(operation), [self.stream_of(operation)])
            must(reader.error is None, f"{operation}: a stream without error has error {reader.error!r}")
            must(reader.done, f"{operation}: the terminal event is not seen")
            must(reader.finish_reason, f"{operation}: no finish_reason")
            must(reader.deltas > 0, f"{operation}: deltas stays 0, so nothing can be estimated")
            expected, usage = self.usage_of(operation), reader.usage
            got = (usage.input_tokens, usage.output_tokens) if usage is not None else ()
            must(got == (expected.input_tokens, expected.output_tokens), f"{operation}: usage {got} of a stream")

    def test_streams_are_in_the_callers_format(self) -> None:
        for operation in self.streamed():
            _, out = _read(self.reader(operation), [self.stream_of(operation)])
            decoder = client_codec(operation).decoder()
            events = [*decoder.feed(out), *decoder.finish()]
            said = "".join(event.text for event in events if isinstance(event, PartDelta))
            must(said == REPLY_TEXT, f"{operation}: the caller reads {said!r}, not {REPLY_TEXT!r}")
            must(any(isinstance(event, Finished) for event in events), f"{operation}: the caller sees no end")

    def test_streams_that_pass_keep_their_bytes(self) -> None:
        for operation in self.streamed():
            if self.adapter().passes(operation):
                stream = self.stream_of(operation)
                _, out = _read(self.reader(operation), [stream])
                must(out == stream, f"{operation}: passes, yet the stream's bytes changed")

    def test_streams_are_the_same_however_they_are_cut(self) -> None:
        for operation in self.streamed():
            stream = self.stream_of(operation)
            adapter = self.adapter()
            whole = self._told(adapter, operation, [stream])
            for at in range(1, len(stream), self.cut_step):
                told = self._told(adapter, operation, [stream[:at], stream[at:]])
                must(told == whole, f"{operation}: cut at byte {at}, the stream says something else")
            told = self._told(adapter, operation, [stream[at : at + 1] for at in range(len(stream))])
            must(told == whole, f"{operation}: byte by byte, the stream says something else")

    def _told(self, adapter: ProviderAdapter, operation: Operation, chunks: list[bytes]) -> tuple[object, ...]:
        reader, out = self._safely(adapter, operation, chunks)
        return out, reader.usage, reader.finish_reason, reader.done, reader.error, reader.model, reader.deltas

    def _safely(
        self, adapter: ProviderAdapter, operation: Operation, chunks: list[bytes]
    ) -> tuple[StreamReader, bytes]:
        try:
            return _read(adapter.open_stream(self.call(operation, stream=True)), chunks)
        except Exception as fault:
            raise AssertionError(f"{operation}: a reader raises {type(fault).__name__}: {fault}") from fault

    def test_a_stream_that_breaks_off_is_not_done(self) -> None:
        for operation in self.streamed():
            adapter, stream = self.adapter(), self.stream_of(operation)
            for end in range(0, len(stream), self.cut_step):
                reader, _ = self._safely(adapter, operation, [stream[:end]])
                must(
                    not reader.done or reader.finish_reason,
                    f"{operation}: done after {end} of {len(stream)} bytes, before any finish_reason",
                )

    def test_errors_inside_a_stream_are_seen(self) -> None:
        for operation in self.streamed():
            stream, fault = self.stream_of(operation), self.stream_error_of(operation)
            begun = stream.index(b"\n\n") + 2 if b"\n\n" in stream else 0
            for before in (b"", stream[:begun]):
                reader, _ = self._safely(self.adapter(), operation, [before, fault] if before else [fault])
                must(reader.error, f"{operation}: an error inside the stream is not seen: {fault[:200]!r}")

    def test_noise_raises_nothing(self) -> None:
        chance = random.Random(20261121)  # the same for everybody
        for operation in self.streamed():
            adapter, stream = self.adapter(), self.stream_of(operation)
            for _ in range(_NOISES):
                noise = b"".join(chance.choices(_NOISE_PIECES, k=chance.randrange(1, 12)))
                at = chance.randrange(len(stream))
                self._safely(adapter, operation, [noise])
                self._safely(adapter, operation, [stream[:at], noise, stream[at:]])

    def test_streams_at_the_same_time_do_not_meet(self) -> None:
        adapter = self.adapter()
        for operation in self.streamed():
            stream = self.stream_of(operation)
            half = len(stream) // 2
            alone = self._told(adapter, operation, [stream[:half], stream[half:]])
            readers = [adapter.open_stream(self.call(operation, stream=True)) for _ in range(2)]
            outs = [reader.feed(stream[:half]) for reader in readers]
            outs = [out + reader.feed(stream[half:]) for out, reader in zip(outs, readers, strict=True)]
            for out, reader in zip(outs, readers, strict=True):
                out += reader.finish()  # noqa: PLW2901 - what is left of it
                told = (out, reader.usage, reader.finish_reason, reader.done, reader.error, reader.model, reader.deltas)
                must(told == alone, f"{operation}: two streams at the same time disturb each other")


def _read(reader: StreamReader, chunks: list[bytes]) -> tuple[StreamReader, bytes]:
    """A stream read to its clean end, and what the caller got."""
    out = b"".join([reader.feed(chunk) for chunk in chunks])
    return reader, out + reader.finish()
