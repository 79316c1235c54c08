"""OpenAI's event streams, watched as they pass.

`ChatStreamReader` never re-frames: it looks for a few byte patterns (C-speed finds) and decodes only the rare event
that carries usage, an error or a finish reason. When the caller did not ask for usage, the extra usage chunk that we
asked the provider for is cut out.
Law: only whole events are passed on, so that whatever follows a stream that broke off (an error event) can be read.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.wire.chat.errors import DONE_EVENT

__all__ = ["ChatStreamReader"]

_END_MARK = b"[DONE]"
_LARGEST_EVENT_BYTES = 16 * 1024 * 1024


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class ChatStreamReader:
    """See `StreamReader`. `strip_usage`: cut out the usage chunk, which the caller did not ask for."""

    __slots__ = ("_carry", "_strip_usage", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self, *, strip_usage: bool) -> None:
        self._strip_usage = strip_usage
        self._carry = b""
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns bytes for the caller."""
        data = self._carry + chunk if self._carry else chunk
        end = _end_of_last_event(data)
        self._carry = data[end:]
        if len(self._carry) > _LARGEST_EVENT_BYTES:
            self.error = b'{"error":{"message":"The provider sent an event larger than 16 MiB.","type":"api_error"}}'
            self._carry = b""
        whole = data[:end] if self._carry else data
        if not whole:
            return b""
        cuts = self._watch(whole)
        return _without(whole, cuts) if cuts else whole

    def finish(self) -> bytes:
        """What is left when the provider has ended: an event without its blank line, and [DONE] if it was forgotten.
        Half an event is dropped."""
        rest = b""
        if self._carry:
            tail = self._carry.rstrip(b"\r\n") + b"\n\n"
            self._carry = b""
            if _is_whole(_payload(tail)) and not self._watch(tail):
                rest = tail
        if not self.done and self.finish_reason is not None and self.error is None:
            self.done = True
            rest += DONE_EVENT
        return rest

    def _watch(self, whole: bytes) -> list[tuple[int, int]]:
        """Updates the fields from whole events; returns the (start, end) of those that must not be passed on."""
        self.deltas += whole.count(b'"delta"') + whole.count(b'"text":')
        if _says_done(whole):
            self.done = True
        cuts: list[tuple[int, int]] = []
        for pattern, read in _WATCHED:
            at = whole.find(pattern)
            while at >= 0:
                start, end = _event_around(whole, at)
                if read(self, _payload(whole[start:end])):
                    cuts.append((start, end))
                at = whole.find(pattern, end)
        return cuts

    def read_usage(self, payload: bytes) -> bool:
        """Keeps the usage; says whether the event exists only for the usage and must be cut out."""
        usage = usage_of_openai(payload)
        if usage is None:
            return False
        self.usage = usage
        chunk = self._read_chunk(payload)
        return self._strip_usage and chunk is not None and not chunk.choices

    def read_finish(self, payload: bytes) -> bool:
        """Keeps the first finish reason; never cuts the event."""
        chunk = self._read_chunk(payload)
        if chunk is not None and self.finish_reason is None:
            self.finish_reason = next((c.finish_reason for c in chunk.choices or () if c.finish_reason), None)
        return False

    def read_error(self, payload: bytes) -> bool:
        """Keeps the first error; never cuts the event."""
        if self.error is None and _is_error(payload):
            self.error = payload
        return False

    def _read_chunk(self, payload: bytes) -> _Chunk | None:
        try:
            chunk = _decode_chunk(payload)
        except msgspec.MsgspecError:
            return None
        self.model = chunk.model or self.model
        return chunk


# Quotes inside a JSON string are escaped, so none of these can match text that a model wrote.
_WATCHED: tuple[tuple[bytes, Callable[[ChatStreamReader, bytes], bool]], ...] = (
    (b'"usage":{', ChatStreamReader.read_usage),
    (b'"usage": {', ChatStreamReader.read_usage),
    (b'"finish_reason":"', ChatStreamReader.read_finish),
    (b'"finish_reason": "', ChatStreamReader.read_finish),
    (b'"error":', ChatStreamReader.read_error),
)


def _end_of_last_event(data: bytes) -> int:
    """Index just behind the last blank line; 0 when no event is whole yet."""
    if data.endswith(b"\n\n"):  # as nearly always: providers write whole events
        return len(data)
    return max(data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0, data.rfind(b"\n\r\n") + 3 if b"\n\r\n" in data else 0)


def _event_around(whole: bytes, at: int) -> tuple[int, int]:
    """(start, end) of the event that holds index `at`, its blank line included. Lines may end in LF or CRLF."""
    start = whole.rfind(b"\n\n", 0, at) + 2
    if start == 1:
        start = 0
    # Blank lines that end in CRLF are looked for only where they would be nearer: most streams have none at all.
    nearer = whole.rfind(b"\n\r\n", max(0, start - 1), at)
    end = whole.find(b"\n\n", at)
    end = len(whole) if end < 0 else end + 2
    sooner = whole.find(b"\n\r\n", at, end)
    return (start if nearer < 0 else nearer + 3), (end if sooner < 0 else sooner + 3)


def _payload(event: bytes) -> bytes:
    """The JSON of an event's data lines."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)


def _says_done(whole: bytes) -> bool:
    """Whether one of the events is the end mark, and not text about it."""
    at = whole.find(_END_MARK)
    while at >= 0:
        start = max(whole.rfind(b"\n", 0, at), whole.rfind(b"\r", 0, at)) + 1
        line = whole[start:].splitlines()[0] if whole[start:at].rstrip() == b"data:" else b""
        if line[5:].strip() == _END_MARK:
            return True
        at = whole.find(_END_MARK, at + 1)
    return False


def _is_whole(payload: bytes) -> bool:
    """Whether an event's data was not broken off."""
    if payload == _END_MARK:
        return True
    try:
        return bool(msgspec.json.decode(payload))
    except msgspec.MsgspecError:
        return False


def _is_error(payload: bytes) -> bool:
    """Whether the event *is* an error, not a chunk that talks about one."""
    try:
        decoded = msgspec.json.decode(payload)
    except msgspec.MsgspecError:
        return False
    return isinstance(decoded, dict) and bool(decoded.get("error"))


def _without(whole: bytes, cuts: list[tuple[int, int]]) -> bytes:
    kept = []
    at = 0
    for start, end in sorted(cuts):
        kept.append(whole[at:start])
        at = max(at, end)
    kept.append(whole[at:])
    return b"".join(kept)
