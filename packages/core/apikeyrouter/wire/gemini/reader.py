"""Google's streams, watched as they pass.

Main entry: `GeminiStreamReader`, for server-sent events and JSON arrays alike. Only the members that tell usage, errors
and the end are decoded.
Laws: bytes are passed on as they came; of server-sent events only whole ones.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.gemini.frames import Frames
from apikeyrouter.wire.gemini.usage import UsageWatch
from apikeyrouter.wire.gemini.words import stop_of

__all__ = ["GeminiStreamReader"]


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    finish_reason: str | int | None = None


class _Chunk(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    prompt_feedback: dict[str, Any] | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode


class GeminiStreamReader:
    """See `StreamReader`. `done`: every candidate that was seen told why it ended, or the prompt was blocked."""

    __slots__ = ("_carry", "_frames", "_watch", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self) -> None:
        self._frames = Frames()
        self._watch = UsageWatch()
        self._carry = b""
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns those of whole events."""
        for frame in self._frames.feed(chunk):
            self._read(frame)
        if self._frames.overflowed and self.error is None:
            self.error = b'{"error":{"code":502,"message":"The provider sent an event larger than 64 MiB."}}'
        if self._frames.is_array:
            whole, self._carry = self._carry + chunk, b""
        else:
            whole, self._carry = _whole(self._carry, chunk)
        return whole

    def finish(self) -> bytes:
        """What is left: an event without its blank line. Half an event is dropped."""
        found = self._frames.finish()
        for frame in found:
            self._read(frame)
        rest, self._carry = self._carry, b""
        return rest.rstrip(b"\r\n") + b"\r\n\r\n" if any(_is_object(one) for one in found) else b""

    def _read(self, frame: bytes) -> None:
        try:
            chunk = _decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if chunk.error and bytes(chunk.error) != b"null":
            self.error = self.error or frame
            return
        self.model = chunk.model_version or self.model
        if chunk.usage_metadata is not None and self._watch.read(chunk.usage_metadata):
            self.usage = self._watch.usage
        if chunk.candidates:
            self.deltas += 1
        for one in chunk.candidates or ():
            stop = stop_of(one.finish_reason, calls=b'"functionCall"' in frame)
            if stop is not None:
                self.finish_reason = self.finish_reason or stop.value
                self.done = True
        if not chunk.candidates and chunk.prompt_feedback and chunk.prompt_feedback.get("blockReason"):
            self.finish_reason, self.done = "filter", True


def _is_object(frame: bytes) -> bool:
    """Whether an event was not broken off."""
    try:
        return isinstance(msgspec.json.decode(frame), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _whole(carry: bytes, chunk: bytes) -> tuple[bytes, bytes]:
    """(bytes up to the end of the last whole event, the rest): blank lines end events."""
    data = carry + chunk if carry else chunk
    end = max(_behind(data, b"\n\n"), _behind(data, b"\n\r\n"))
    return data[:end], data[end:]


def _behind(data: bytes, mark: bytes) -> int:
    at = data.rfind(mark)
    return at + len(mark) if at >= 0 else 0
