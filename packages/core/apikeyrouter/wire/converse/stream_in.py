"""Streams of ConverseStream read into events.

Main entry: `ConverseDecoder`. Texts and thoughts begin with their first piece, calls of tools with an event of their
own; pictures come in pieces and are told whole; usage comes last, behind the stop. Blocks of tools that Bedrock runs
itself are skipped.
Laws: never raises; every part that started ends before its choice finishes; nothing follows an error.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from apikeyrouter.wire.converse.frames import Frame, Frames
from apikeyrouter.wire.converse.words import CLAUDES, STATUSES, STOPS, annotation_of, cipher_of, usage_read
from apikeyrouter.wire.facts import (
    ErrorFact,
    Event,
    Failed,
    Finished,
    Media,
    MediaKind,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)

__all__ = ["ConverseDecoder"]

_BROKEN = "The provider ended the stream with an error."
_PICTURE_MAX = 32 * 2**20
"""Bytes of a picture; larger ones are left out, since a stream is held in memory only so far."""


class _Thought(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Call(msgspec.Struct, rename="camel", gc=False):
    tool_use_id: str = ""
    name: str = ""
    type: str | None = None
    input: str = ""


class _Source(msgspec.Struct, gc=False):
    bytes: str | None = None


class _Image(msgspec.Struct, gc=False):
    """`format`: with the start; `source`: with each piece, base64 of its own."""

    format: str | None = None
    source: _Source | None = None


class _Piece(msgspec.Struct, rename="camel", gc=False):
    """A start or a delta."""

    text: str | None = None
    tool_use: _Call | None = None
    tool_result: msgspec.Raw = msgspec.Raw()
    reasoning_content: _Thought | None = None
    citation: dict[str, Any] | None = None
    image: _Image | None = None


class _Tier(msgspec.Struct, gc=False):
    type: str | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    """Any event: they share no member with different meanings."""

    content_block_index: int = 0
    start: _Piece | None = None
    delta: _Piece | None = None
    stop_reason: str = ""
    additional_model_response_fields: Any = None
    usage: dict[str, Any] | None = None
    service_tier: _Tier | None = None
    message: str | None = None


_decode = msgspec.json.Decoder(_Event).decode


class ConverseDecoder:
    """See `StreamDecoder`."""

    __slots__ = ("_failed", "_finished", "_frames", "_images", "_next", "_open", "_skipped", "_started", "done")

    def __init__(self) -> None:
        self.done = False
        self._frames = Frames()
        self._open: dict[int, int] = {}
        self._skipped: set[int] = set()
        self._images: dict[int, tuple[str, bytearray]] = {}
        self._next = 0
        self._started = self._finished = self._failed = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events in these bytes."""
        out: list[Event] = []
        for frame in self._frames.feed(chunk):
            self._read(frame, out)
        if self._frames.fault is not None and not self._failed and not self.done:
            self._fail(ErrorFact(502, f"The provider's stream is damaged: {self._frames.fault}."), out)
        return out

    def finish(self) -> Sequence[Event]:
        """Nothing is left: a message that is not whole says nothing, and parts end with the stop."""
        return []

    def _read(self, frame: Frame, out: list[Event]) -> None:
        if self._failed or self.done:
            return
        kind = frame.headers.get(":message-type", "event")
        if kind != "event":
            self._fail(_error_of(frame), out)
            return
        try:
            event = _decode(frame.payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self._fail(ErrorFact(502, "The provider's stream has an event that cannot be read."), out)
            return
        match frame.headers.get(":event-type", ""):
            case "contentBlockDelta" if event.delta is not None:
                self._delta(event.content_block_index, event.delta, out)
            case "contentBlockStart" if event.start is not None:
                self._start(event.content_block_index, event.start, out)
            case "contentBlockStop" if event.content_block_index in self._images:
                self._picture(event.content_block_index, out)
            case "contentBlockStop":
                index = self._open.pop(event.content_block_index, None)
                if index is not None:
                    out.append(PartEnded(index))
            case "messageStart":
                self._begin(out)
            case "messageStop":
                self._stop(event, out)
            case "metadata":
                self._tell(event, out)
            case _:
                pass

    def _begin(self, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            out.append(Started("", ""))

    def _part(self, at: int, part: Text | ToolCall | Reasoning | Media, out: list[Event]) -> int:
        self._begin(out)
        index = self._open[at] = self._next
        self._next += 1
        out.append(PartStarted(index, part))
        return index

    def _start(self, at: int, piece: _Piece, out: list[Event]) -> None:
        call = piece.tool_use
        if piece.tool_result or (call is not None and call.type == "server_tool_use"):
            self._skipped.add(at)
        elif piece.image is not None and at not in self._open and not self._finished:
            self._images[at] = piece.image.format or "png", bytearray()
        elif call is not None and at not in self._open and not self._finished:
            self._part(at, ToolCall(call.tool_use_id, call.name, ""), out)

    def _delta(self, at: int, piece: _Piece, out: list[Event]) -> None:
        if at in self._skipped or self._finished:
            return
        if piece.image is not None:
            self._pixels(at, piece.image)
            return
        index = self._open.get(at)
        if piece.text is not None:
            out.append(PartDelta(self._part(at, Text(""), out) if index is None else index, piece.text))
        elif piece.tool_use is not None:
            if index is not None and piece.tool_use.input:
                out.append(PartDelta(index, piece.tool_use.input))
        elif piece.reasoning_content is not None:
            self._thought(at, index, piece.reasoning_content, out)
        elif piece.citation is not None and (annotation := annotation_of(piece.citation)) is not None:
            index = self._part(at, Text(""), out) if index is None else index
            out.append(PartDelta(index, annotations=[annotation]))

    def _thought(self, at: int, index: int | None, told: _Thought, out: list[Event]) -> None:
        """The origin is told with the beginning, when no proof has come yet: only Claude's are proven in the end."""
        cipher, origin = (None, CLAUDES) if told.redacted_content is None else cipher_of(told.redacted_content)
        if index is None:
            index = self._part(at, Reasoning(origin=origin), out)
        if told.text is not None:
            out.append(PartDelta(index, told.text))
        elif told.signature:
            out.append(PartDelta(index, signature=told.signature))
        elif cipher:
            out.append(PartDelta(index, encrypted=cipher))

    def _pixels(self, at: int, image: _Image) -> None:
        """What is no base64, or beyond the bound, is left out with its picture."""
        _, known = self._images.get(at, ("", bytearray()))
        try:
            known += base64.b64decode((image.source.bytes if image.source is not None else None) or "", validate=True)
        except (binascii.Error, ValueError):
            self._images.pop(at, None)
        if len(known) > _PICTURE_MAX:
            self._images.pop(at, None)

    def _picture(self, at: int, out: list[Event]) -> None:
        kind, pixels = self._images.pop(at)
        if pixels and not self._finished:
            data = base64.b64encode(pixels).decode()
            index = self._part(at, Media(MediaKind.Image, f"image/{kind}", data=data), out)
            del self._open[at]
            out.append(PartEnded(index))

    def _stop(self, event: _Event, out: list[Event]) -> None:
        if self._finished:
            return
        self._begin(out)
        for at in list(self._images):
            self._picture(at, out)
        out.extend([PartEnded(index) for index in self._open.values()])
        self._open.clear()
        self._finished = True
        stop = STOPS.get(event.stop_reason, Stop.End)
        more = event.additional_model_response_fields
        sequence = more.get("stop_sequence") if isinstance(more, dict) and stop is Stop.Sequence else None
        out.append(Finished(stop, sequence if isinstance(sequence, str) else None))

    def _tell(self, event: _Event, out: list[Event]) -> None:
        usage = usage_read(event.usage)
        if usage is not None:
            self._begin(out)
            out.append(UsageTold(usage, event.service_tier.type if event.service_tier is not None else None))
        self.done = self._finished

    def _fail(self, error: ErrorFact, out: list[Event]) -> None:
        self._failed = True
        out.append(Failed(error))


def _error_of(frame: Frame) -> ErrorFact:
    """The error of an exception (`:exception-type`, with a payload) or of an error (`:error-code`, all in headers)."""
    headers = frame.headers
    code = headers.get(":exception-type") or headers.get(":error-code") or "internalServerException"
    message = headers.get(":error-message", "")
    if not message:
        try:
            message = _decode(frame.payload).message or ""
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            message = ""
    return ErrorFact(STATUSES.get(code.lower(), 500), message or _BROKEN, code)
