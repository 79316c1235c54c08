"""Server-sent events, taken apart (https://html.spec.whatwg.org/multipage/server-sent-events.html, read 2026-11).

`EventSplitter` turns bytes, cut anywhere, into the data of whole events. Comments, ids and names of events are skipped,
except for the name "error", which some servers use instead of saying it in the data.
Law: the events do not depend on how the bytes were cut; nothing raises, an event beyond 16 MiB is an error.
"""

from __future__ import annotations

__all__ = ["LARGEST_EVENT_BYTES", "EventSplitter"]

LARGEST_EVENT_BYTES = 16 * 1024 * 1024
"""No provider's event is larger; whoever sends more is broken or means harm."""

_TOO_LARGE = b'{"error":{"message":"The provider sent an event larger than 16 MiB.","type":"api_error"}}'


class EventSplitter:
    """Feeds on the bytes of one stream. `errors`: how many of the events so far were named "error"; the data of those
    is returned like others."""

    __slots__ = ("_data", "_data_bytes", "_event", "_line", "_line_bytes", "errors")

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self.errors = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in these bytes."""
        if b"\n" not in chunk:
            return self._hold(chunk)
        found: list[bytes] = []
        lines = chunk.split(b"\n")
        if self._line:
            lines[0] = b"".join(self._line) + lines[0]
            self._line.clear()
            self._line_bytes = 0
        rest = lines.pop()
        for line in lines:
            self._take(line, found)
        if rest:
            found += self._hold(rest)
        return found

    def finish(self) -> list[bytes]:
        """The data of an event whose blank line is missing at the end of the stream, if there is one."""
        found: list[bytes] = []
        last = b"".join(self._line)
        self._line.clear()
        self._take(last, found)
        self._take(b"", found)
        return found

    def _hold(self, piece: bytes) -> list[bytes]:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes <= LARGEST_EVENT_BYTES:
            return []
        self._line.clear()
        self._line_bytes = 0
        return [_TOO_LARGE]

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if line[-1:] == b"\r":
            line = line[:-1]
        if not line:
            if self._data:
                if self._event == b"error":
                    self.errors += 1
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
            self._event = b""
        elif line[:5] == b"data:":
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._data_bytes += len(line)
            if self._data_bytes > LARGEST_EVENT_BYTES:
                self._data.clear()
                self._data_bytes = 0
                found.append(_TOO_LARGE)
        elif line[:6] == b"event:":
            self._event = line[6:].strip()
