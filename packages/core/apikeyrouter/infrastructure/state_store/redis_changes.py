"""What changed since a cursor: the stream of changes of the Redis store.

Main entry: `ChangeFeed.since`. Entry number n of the stream has the id "n-0", so a cursor is a whole number, and a gap
in the numbers is a loss. Law: who goes on from its last cursor misses nothing, or is told `lost`. A server that was
started anew may have forgotten changes and counted on: after a new start everything counts as lost.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.interfaces.shared_ledger import Change, Changes
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink

__all__ = ["ChangeFeed"]

_AT_ONCE = 1_000
"""Changes per answer; the next call has the rest."""

_BLOCK_S = 1.0
"""A wait is cut in pieces of this length: a server that silently vanished is noticed within one and a time limit."""


class ChangeFeed:
    """Reads the stream under `prefix`. It outlives connections, so that it notices another start of the server."""

    def __init__(self, prefix: str) -> None:
        self._stream = f"{prefix}changes"
        self._number = f"{prefix}changes_seq"
        self._run_id = ""

    async def since(self, link: RedisLink, run_id: str, after: int | None, wait_s: float) -> Changes:
        """See `StateStore.changes`. `run_id`: of the server that `link` leads to now."""
        number, found = await self._look(link, after)
        restarted = self._run_id not in ("", run_id)
        self._run_id = run_id
        if after is None:
            return Changes(number)
        if restarted or after > number or (after < number and _number_of(found, number + 1) != after + 1):
            return Changes(number, lost=True)
        left_s = wait_s
        while not found and left_s > 0:
            block_s = min(left_s, _BLOCK_S)
            left_s -= block_s
            block_ms = max(1, round(block_s * 1_000))
            reply = await link.wait(
                block_s, "XREAD", "COUNT", _AT_ONCE, "BLOCK", block_ms, "STREAMS", self._stream, f"{after}-0"
            )
            found = reply[0][1] if reply else []
        return _changes_of(after, found)

    async def _look(self, link: RedisLink, after: int | None) -> tuple[int, list[Any]]:
        """The newest number, and what there is after the cursor, at one moment."""
        if after is None:
            return int(await link.call("GET", self._number) or 0), []
        newest, found = await link.step(
            [("GET", self._number), ("XRANGE", self._stream, f"({after}-0", "+", "COUNT", _AT_ONCE)]
        )
        return int(newest or 0), found


def _changes_of(after: int, found: list[Any]) -> Changes:
    if not found:
        return Changes(after)
    changes = tuple(dict.fromkeys([Change(fields[1].decode(), fields[3].decode()) for _, fields in found]))
    return Changes(_number_of(found[-1:], after), changes, lost=_number_of(found, after) != after + 1)


def _number_of(found: list[Any], otherwise: int) -> int:
    """The number of the first entry, if there is one."""
    return int(found[0][0].split(b"-")[0]) if found else otherwise
