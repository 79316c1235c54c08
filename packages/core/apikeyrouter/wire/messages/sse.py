"""Server-sent events as Anthropic writes them: where they end, and what they carry.

Main entries: `Lines`, which collects bytes into payloads, and `whole_events`. Lines may end in LF or CRLF, events may
be cut anywhere; the name of an event is not needed, since the payload repeats it as `type`.
"""

from __future__ import annotations

__all__ = ["LARGEST_EVENT_BYTES", "TOO_LARGE", "Lines", "payload_of", "whole_events"]

LARGEST_EVENT_BYTES = 16 * 1024 * 1024
TOO_LARGE = "The provider sent an event larger than 16 MiB."


def whole_events(data: bytes) -> int:
    """Index just behind the last blank line; 0 when no event is whole yet."""
    return max(data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0, data.rfind(b"\n\r\n") + 3 if b"\n\r\n" in data else 0)


def payload_of(event: bytes) -> bytes:
    """The data of one event."""
    at = event.find(b"data:")
    if at < 0:
        return b""
    if event.count(b"data:") == 1 and (at == 0 or event[at - 1] == 10):
        end = event.find(b"\n", at)
        return event[at + 5 : end if end >= 0 else len(event)].strip()
    return b"\n".join([line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")])


class Lines:
    """Bytes in, payloads out. `overflowed`: an event grew beyond all reason and was thrown away."""

    __slots__ = ("_carry", "overflowed")

    def __init__(self) -> None:
        self._carry = b""
        self.overflowed = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of the events that are whole now."""
        data = self._carry + chunk if self._carry else chunk
        end = whole_events(data)
        self._carry = data[end:]
        if len(self._carry) > LARGEST_EVENT_BYTES:
            self._carry, self.overflowed = b"", True
        if not end:
            return []
        whole = data[:end]
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n")
        return [found for event in whole.split(b"\n\n") if event and (found := payload_of(event))]

    def rest(self) -> list[bytes]:
        """What an event without its blank line holds."""
        tail, self._carry = self._carry.strip(), b""
        found = payload_of(tail.replace(b"\r\n", b"\n")) if tail else b""
        return [found] if found else []
