"""A stream that passes as it is, of a format that we need not know: only its usage is looked for.

Main entry: `PassingReader`, for raw pass-through. Conversations have readers of their own, which also know their
formats' end marks and errors.
Law: every byte is passed on, at once.
"""

from __future__ import annotations

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_replies import UsageReader

__all__ = ["PassingReader"]


class PassingReader:
    """See `StreamReader`. `host`: the provider's name or host, for what its usage means. A clean end is the end."""

    __slots__ = ("_reader", "deltas", "done", "error", "finish_reason", "model", "usage")

    def __init__(self, host: str = "") -> None:
        self._reader = UsageReader(host)
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.deltas = 0
        self.done = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes from the provider, returns the same."""
        self._reader.feed(chunk)
        self.usage = self._reader.usage
        self.deltas += 1
        return chunk

    def finish(self) -> bytes:
        """The provider has ended."""
        self._reader.feed(b"\n\n")
        self.usage = self._reader.usage
        self.done = True
        return b""
