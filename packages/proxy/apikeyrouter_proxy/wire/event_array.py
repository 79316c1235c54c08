"""Gemini's other way to stream: one JSON array that grows, for clients that do not ask for `alt=sse`.

Main entry: `EventArray`, from the bytes of server-sent events to those of the array. Law: the array is closed whatever
came, so that a client's JSON parser ends where the stream does.
"""

from __future__ import annotations

__all__ = ["EventArray"]


class EventArray:
    """One stream. `feed` whole or cut events; `finish` once."""

    __slots__ = ("_began", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._began = False

    def feed(self, chunk: bytes) -> bytes:
        """The elements that these bytes complete."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        return b"".join([self._element(line) for line in lines])

    def finish(self) -> bytes:
        """The end of the array."""
        last = self._element(self._rest.rstrip(b"\r"))
        self._rest = b""
        return last + (b"\n]\n" if self._began else b"[]\n")

    def _element(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return b""
        data = line[5:].strip()
        if not data or data == b"[DONE]":
            return b""
        start, self._began = b",\n" if self._began else b"[", True
        return start + data
