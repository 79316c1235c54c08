"""Ids of tool calls where a provider gave none: made up, the same for the call and its result.

`CallIds` for requests, whose calls and results are paired by name and order; `made_up_id` for replies.
Laws: the same conversation gives the same ids each time (prompt caches live by that); an id that is there is kept.
"""

from __future__ import annotations

from apikeyrouter.wire.facts import ToolCall, ToolResult

__all__ = ["CallIds", "made_up_id"]


def made_up_id(reply_id: str, number: int) -> str:
    """For the call `number` of a reply: unique in its conversation, since replies' ids are; 40 characters at most."""
    own = "".join(one for one in reply_id[-28:] if one.isascii() and one.isalnum())
    return f"call_{own}_{number}"


class CallIds:
    """Goes through a conversation in order."""

    __slots__ = ("_count", "_open")

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []

    def of_call(self, call: ToolCall) -> str:
        """The call's id."""
        if call.id:
            return call.id
        self._count += 1
        made = f"call_{self._count}"
        self._open.append((call.name, made))
        return made

    def of_result(self, result: ToolResult) -> str:
        """The id of the call that it answers: of the same name if the result says one, else the oldest."""
        if result.call_id or not self._open:
            return result.call_id or "call_0"
        at = next((n for n, (name, _) in enumerate(self._open) if name == result.name), 0)
        return self._open.pop(at)[1]
