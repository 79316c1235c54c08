"""Amazon's binary event streams (`application/vnd.amazon.eventstream`): bytes in, messages out.

Main entry: `Frames.feed`. A message is: its length and that of its headers (4 bytes each, big-endian), the CRC-32 of
these 8 bytes, the headers, the payload, and the CRC-32 of everything before. A header is: length of its name (1 byte),
name, type (1 byte), value; values of types 6 and 7 (bytes, text) begin with their length (2 bytes).
Source: https://smithy.io/2.0/aws/amazon-eventstream.html (specification; headers at most 128 KiB, payload 24 MiB).
Law: never raises; after the first broken message nothing more is read, since nobody knows where the next one begins.
"""

from __future__ import annotations

import struct
from binascii import crc32

import msgspec

__all__ = ["Frame", "Frames"]

_HEADERS_BYTES_MAX = 128 * 1024
_PAYLOAD_BYTES_MAX = 24 * 1024 * 1024
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + _CRC.size
_LENGTH = struct.Struct(">H")
_TEXT = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of the values of other types: true, false, 8 to 64 bits, a time, a UUID."""


class Frame(msgspec.Struct, gc=False):
    """One message. `headers`: those whose values are text."""

    headers: dict[str, str]
    payload: bytes


class Frames:
    """Collects bytes into messages. `fault`: what was wrong with the stream, once something was."""

    __slots__ = ("_carry", "fault")

    def __init__(self) -> None:
        self._carry = b""
        self.fault: str | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the last message is not whole yet."""
        return bool(self._carry)

    def feed(self, chunk: bytes) -> list[Frame]:
        """The messages that are whole now."""
        if self.fault is not None:
            return []
        data = self._carry + chunk if self._carry else chunk
        out: list[Frame] = []
        at = 0
        while len(data) - at >= _PRELUDE.size and self.fault is None:
            length, headers_length, crc = _PRELUDE.unpack_from(data, at)
            if crc32(data[at : at + 8]) != crc:
                self.fault = "the checksum of a message's beginning is wrong"
            elif headers_length > _HEADERS_BYTES_MAX or not 0 <= length - headers_length - _OVERHEAD <= (
                _PAYLOAD_BYTES_MAX
            ):
                self.fault = "the lengths of a message are impossible"
            elif len(data) - at < length:
                break
            else:
                self._read(data, at, length, headers_length, out)
                at += length
        self._carry = b"" if self.fault is not None else data[at:]
        return out

    def _read(self, data: bytes, at: int, length: int, headers_length: int, out: list[Frame]) -> None:
        end = at + length - _CRC.size
        if crc32(data[at:end]) != _CRC.unpack_from(data, end)[0]:
            self.fault = "the checksum of a message is wrong"
            return
        start = at + _PRELUDE.size
        try:
            headers = _headers(data[start : start + headers_length])
        except (struct.error, IndexError, KeyError, UnicodeDecodeError):
            self.fault = "the headers of a message cannot be read"
            return
        out.append(Frame(headers, data[start + headers_length : end]))


def _headers(data: bytes) -> dict[str, str]:
    out: dict[str, str] = {}
    at = 0
    while at < len(data):
        start = at + 1
        at = start + data[at]
        name, kind = data[start:at].decode(), data[at]
        at += 1
        if kind in (6, _TEXT):
            size = _LENGTH.unpack_from(data, at)[0]
            at += 2
        else:
            size = _SIZES[kind]
        if at + size > len(data):
            raise IndexError(name)
        if kind == _TEXT:
            out[name] = data[at : at + size].decode()
        at += size
    return out
