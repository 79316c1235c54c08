"""Sealing: how secrets are made safe to store."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Sealer"]


class Sealer(Protocol):
    """Turns secrets into bytes that are worth nothing without the encryption key, and back.

    Laws: `open(seal(p, c), c) == p`. Sealing the same plaintext twice gives different bytes. `open` with another
    context, or of bytes that were altered, raises SealError: rows cannot be swapped. No error quotes a plaintext.
    """

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Seals under the newest key. `context` says which row it belongs to; it is authenticated and not stored."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext. Raises SealError."""
        ...

    def reseal(self, sealed: bytes, context: bytes) -> bytes:
        """The same secret under the newest key; the same bytes when it is under it already. Raises SealError."""
        ...

    def fingerprint(self, material: bytes) -> bytes:
        """A keyed hash: equal for equal material, useless without the key. It changes with the newest key."""
        ...
