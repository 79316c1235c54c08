"""Server-sent events cut out of bytes that come in any pieces.

Main entry: `Frames.feed`. Lines end in LF or CRLF; comments and `event:` lines are passed over, since the JSON of this
format names its own type. Law: memory is bounded; what is not JSON is skipped.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["LARGEST_EVENT_BYTES", "Frames"]

LARGEST_EVENT_BYTES = 16 * 1024 * 1024

_decode = msgspec.json.Decoder().decode


class Frames:
    """One stream. `overrun`: an event was larger than 16 MiB; nothing more is read."""

    __slots__ = ("_data", "_pieces", "_size", "overrun")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self.overrun = False

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that are complete now."""
        self._size += len(chunk)
        if self._size > LARGEST_EVENT_BYTES:
            self._overrun()
        if self.overrun:
            return []
        self._pieces.append(chunk)
        if b"\n" not in chunk:
            return []
        lines = b"".join(self._pieces).split(b"\n")
        self._pieces = [lines.pop()]
        found: list[dict[str, Any]] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif (not line or line == b"\r") and self._data:
                self._emit(found)
        self._size = len(self._pieces[0]) + sum(map(len, self._data))
        return found

    def _overrun(self) -> None:
        self.overrun = True
        self._pieces, self._data = [], []

    def finish(self) -> list[dict[str, Any]]:
        """The last event, when its blank line is missing."""
        return self.feed(b"\n\n")

    def _emit(self, found: list[dict[str, Any]]) -> None:
        payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        try:
            event = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if isinstance(event, dict):
            found.append(event)
