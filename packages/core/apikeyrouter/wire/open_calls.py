"""Tool calls that wait for their results, where a format wants an id for each and the client gave none.

Main entries: `OpenCalls.opened` for a call, `OpenCalls.answered` for a result. Law: a result without an id goes to the
oldest open call of its tool's name, else to the oldest one; no call is answered twice.
"""

from __future__ import annotations

__all__ = ["OpenCalls"]


class OpenCalls:
    """Of one request. Ids are given as the format writes them; "" stands for none."""

    __slots__ = ("_count", "_waiting")

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[tuple[str, str]] = []

    def opened(self, given_id: str, name: str) -> str:
        """The id of a call of this tool: its own, or one that is made."""
        self._count += 1
        told = given_id or f"call_{self._count}"
        self._waiting.append((told, name))
        return told

    def answered(self, given_id: str, name: str | None) -> str:
        """The id of the call that a result is for."""
        waiting = self._waiting
        found = next((one for one in waiting if one[0] == given_id), None) if given_id else None
        if not given_id:
            found = next((one for one in waiting if one[1] == name), waiting[0] if waiting else None)
        if found is not None:
            waiting.remove(found)
            return found[0]
        return given_id or f"call_{self._count}"
