"""Framing of Google's streams: server-sent events (`alt=sse`), or one JSON array that grows.

Main entry: `Frames`, which is fed bytes cut anywhere and returns whole JSON objects. The first byte tells which of the
two it is. Line ends may be LF, CRLF or both in turn; comments and other fields are passed over.
Laws: linear in the bytes, however they are cut; never raises; what is held back is bounded.
"""

from __future__ import annotations

import re

__all__ = ["LARGEST_FRAME_BYTES", "Frames"]

LARGEST_FRAME_BYTES = 64 * 1024 * 1024
"""Pictures come whole in one event."""

_MARK = re.compile(rb'[{}"]')
_STRING_END = re.compile(rb'\\.|"', re.DOTALL)


class Frames:
    """One stream. `overflowed`: an object was larger than `LARGEST_FRAME_BYTES`; nothing more is read."""

    __slots__ = ("_array", "_at", "_buffer", "_data", "_depth", "_in_string", "_start", "overflowed")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._array: bool | None = None
        self._data: list[bytes] = []
        self._at = 0  # how far the buffer was searched
        self._depth = 0
        self._in_string = False
        self._start = 0
        self.overflowed = False

    @property
    def is_array(self) -> bool:
        """Whether the stream is a JSON array."""
        return self._array is True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that these bytes complete."""
        if self.overflowed:
            return []
        self._buffer += chunk
        if self._array is None:
            begun = self._buffer.lstrip(b"\xef\xbb\xbf \t\r\n")
            if not begun:
                return []
            self._array = begun[:1] == b"[" or begun[:1] == b"{"
        found = self._objects() if self._array else self._events()
        if len(self._buffer) > LARGEST_FRAME_BYTES:
            self.overflowed = True
            self._buffer.clear()
        return found

    def finish(self) -> list[bytes]:
        """What is left when the stream has ended: an event without its blank line."""
        if self._array or self.overflowed:
            return []
        self._buffer += b"\n\n"
        return self._events()

    def _events(self) -> list[bytes]:
        found: list[bytes] = []
        begin = 0
        while (end := self._buffer.find(b"\n", self._at)) >= 0:
            line = bytes(self._buffer[begin:end]).rstrip(b"\r")
            if line.startswith(b"{"):  # an error may come as it is, over several lines
                del self._buffer[:begin]
                self._array, self._at = True, 0
                return found + self._objects()
            begin = self._at = end + 1
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip(b" "))
            elif not line and self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        del self._buffer[:begin]
        self._at = len(self._buffer)
        return found

    def _objects(self) -> list[bytes]:
        """Objects of the array's first level, by their braces; an object alone (an error) counts too."""
        found: list[bytes] = []
        buffer = self._buffer
        while True:
            if self._in_string:
                mark = _STRING_END.search(buffer, self._at)
                if mark is None:
                    self._at = len(buffer) - (1 if buffer.endswith(b"\\") and not self._escaped() else 0)
                    break
                self._at = mark.end()
                self._in_string = mark.group() != b'"'
                continue
            mark = _MARK.search(buffer, self._at)
            if mark is None:
                self._at = len(buffer)
                break
            self._at = mark.end()
            match mark.group():
                case b'"':
                    self._in_string = self._depth > 0
                case b"{":
                    if self._depth == 0:
                        self._start = mark.start()
                    self._depth += 1
                case _ if self._depth > 0:
                    self._depth -= 1
                    if self._depth == 0:
                        found.append(bytes(buffer[self._start : self._at]))
        cut = self._start if self._depth else self._at
        del buffer[:cut]
        self._at -= cut
        self._start = 0
        return found

    def _escaped(self) -> bool:
        """Whether the backslash at the end is itself escaped: it is when it was searched already."""
        return self._at >= len(self._buffer)
