"""Bodies that come compressed, unpacked step by step under a cap.

Entry: `decoder_for`. Only one layer of gzip or deflate is undone; any other coding is passed on as it is.
Laws: output comes in pieces of bounded size, and never more than the cap in all, whatever the ratio of the input; a
stream that ends early, goes on after its end, or is not what it claims to be is an error, not a short body.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError

__all__ = ["BodyDecoder", "decoder_for"]

PIECE_BYTES = 256 * 1024
GZIP_WBITS = 16 + zlib.MAX_WBITS


def decoder_for(coding: bytes, limit_bytes: int, source: str) -> BodyDecoder | None:
    """A decoder for the value of Content-Encoding, or None when the body is to be passed as it is."""
    name = coding.lower()
    if name in (b"gzip", b"x-gzip"):
        return BodyDecoder(zlib.decompressobj(GZIP_WBITS), limit_bytes, source)
    if name == b"deflate":
        return BodyDecoder(None, limit_bytes, source)
    return None


class BodyDecoder:
    """Unpacks one body. `source` names the peer in errors. `engine` None: deflate, whose flavour its first bytes tell
    (RFC 9110 says zlib; some servers send it raw)."""

    __slots__ = ("_begun", "_engine", "_held", "_left_bytes", "_limit_bytes", "_source")

    def __init__(self, engine: zlib._Decompress | None, limit_bytes: int, source: str) -> None:
        self._engine = engine
        self._held = b""
        self._begun = False
        self._limit_bytes = self._left_bytes = limit_bytes
        self._source = source

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The next pieces of the unpacked body, none of them empty. Raises TransportError."""
        engine = self._engine
        self._begun = True
        if engine is None:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return
            engine = self._engine = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS)
        while True:
            try:
                piece = engine.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise self._broken("is not the compressed data that its headers announce") from None
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise TransportError(
                    "too_large",
                    SendPhase.MidReply,
                    f"The compressed reply of {self._source} unpacks to more than {self._limit_bytes} bytes.",
                )
            if piece:
                yield piece
            if engine.unused_data:
                raise self._broken("goes on after the end of its compressed data")
            data = engine.unconsumed_tail
            # A full piece may leave output inside zlib although all input is used up.
            if engine.eof or (not data and len(piece) < PIECE_BYTES):
                return

    def finish(self) -> None:
        """Call at the end of the body; an empty body is allowed. Raises TransportError when the data is cut short."""
        if self._begun and (self._engine is None or not self._engine.eof):
            raise self._broken("ends before its compressed data does")

    def _broken(self, how: str) -> TransportError:
        return TransportError("protocol", SendPhase.MidReply, f"The compressed reply of {self._source} {how}.")


def _has_zlib_header(data: bytes) -> bool:
    """RFC 1950: compression method 8, and the first two bytes are a multiple of 31."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
