"""A Responses stream that passes as it is, watched for its end, its errors and its usage.

Main entry: `ResponsesStreamReader`. It looks for a few byte patterns (quotes inside JSON strings are escaped, so text
cannot hold them) and decodes only the events that open, end or break a stream.
Laws: bytes unchanged; only whole events are passed on, so that an error event of ours can follow; 16 MiB for one event.
"""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.wire.chat.errors import error_body
from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.responses.answer_in import failure_of
from apikeyrouter.wire.responses.sse import LARGEST_EVENT_BYTES

__all__ = ["ResponsesStreamReader"]


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    store: bool | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Event).decode
_MARKS = (
    b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"response.cancelled"', b'"error"',
    b'"response.created"',
)  # fmt: skip
_FAILED = ("response.failed", "response.cancelled", "error")


class ResponsesStreamReader:
    """See `StreamReader`. `response_id`: the provider's id of the response, by which clients will ask for it again;
    `stored`: whether the provider keeps it."""

    __slots__ = (
        "_carry", "deltas", "done", "error", "finish_reason", "model", "response_id", "stored", "usage"
    )  # fmt: skip

    def __init__(self) -> None:
        self._carry = b""
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None
        self.response_id: str | None = None
        self.stored = True

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns the same as far as their events are whole."""
        data = self._carry + chunk if self._carry else chunk
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
        if end < 3:  # neither found
            end = 0
        self._carry = data[end:]
        if len(self._carry) > LARGEST_EVENT_BYTES:
            self.error = error_body(ErrorFact(502, "The provider sent an event larger than 16 MiB."))
            self._carry = b""
        whole = data[:end] if end < len(data) else data
        if whole:
            self._watch(whole)
        return whole

    def finish(self) -> bytes:
        """An event without its blank line; half an event is dropped."""
        rest, self._carry = self._carry.rstrip(b"\r\n"), b""
        payload = _payload(rest)
        try:
            msgspec.json.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b""
        rest += b"\n\n"
        self._watch(rest)
        return rest

    def _watch(self, whole: bytes) -> None:
        self.deltas += whole.count(b'.delta"')
        for mark in _MARKS:
            at = whole.find(mark)
            while at >= 0:
                start = max(whole.rfind(b"\n\n", 0, at) + 2, whole.rfind(b"\n\r\n", 0, at) + 3)
                ends = [i for i in (whole.find(b"\n\n", at), whole.find(b"\n\r\n", at)) if i >= 0]
                end = min(ends) if ends else len(whole)
                self._read(_payload(whole[start if start > 2 else 0 : end]))
                at = whole.find(mark, end)

    def _read(self, payload: bytes) -> None:
        try:
            event = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        response = event.response
        if event.type in _FAILED or (event.type is None and b'"error"' in payload):
            self._fail(payload)
            return
        if response is None:
            return
        self.model = response.model or self.model
        if event.type == "response.created":
            self.response_id = response.id
            self.stored = response.store is not False
        elif event.type in ("response.completed", "response.incomplete"):
            self.done = True
            self.response_id = self.response_id or response.id
            self.usage = usage_of_openai(payload) or self.usage
            self.finish_reason = response.status or event.type.removeprefix("response.")

    def _fail(self, payload: bytes) -> None:
        self.usage = usage_of_openai(payload) or self.usage
        if self.error is not None:
            return
        try:
            event = msgspec.json.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        inner = event.get("response")
        if event.get("type") != "error" and not isinstance(inner, dict) and not event.get("error"):
            return
        self.error = error_body(failure_of(inner if isinstance(inner, dict) else event))


def _payload(event: bytes) -> bytes:
    """The JSON of an event's data lines."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
