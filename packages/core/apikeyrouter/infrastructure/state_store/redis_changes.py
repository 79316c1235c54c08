"""What changed since a cursor: the stream of changes of the Redis store.

Main entry: `changes_since`. Entry number n of the stream has the id "n-0", so a cursor is a whole number, and a gap in
the numbers is a loss. Law: who goes on from its last cursor misses nothing, or is told `lost`; also when the server was
started anew and has forgotten changes (`lua/greet.lua` leaves a gap then).
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.interfaces.shared_ledger import Change, Changes
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink

__all__ = ["changes_since"]

_AT_ONCE = 1_000
"""Changes per answer; the next call has the rest."""

_BLOCK_S = 1.0
"""A wait is cut in pieces of this length: a server that silently vanished is noticed within one and a time limit."""


async def changes_since(link: RedisLink, prefix: str, after: int | None, wait_s: float) -> Changes:
    """See `StateStore.changes`."""
    stream, number = f"{prefix}changes", f"{prefix}changes_seq"
    if after is None:
        return Changes(int(await link.call("GET", number) or 0))
    newest, found = await link.step([("GET", number), ("XRANGE", stream, f"({after}-0", "+", "COUNT", _AT_ONCE)])
    left_s = wait_s
    while not found and after == int(newest or 0) and left_s > 0:
        block_s = min(left_s, _BLOCK_S)
        left_s -= block_s
        block_ms = max(1, round(block_s * 1_000))
        reply = await link.wait(block_s, "XREAD", "COUNT", _AT_ONCE, "BLOCK", block_ms, "STREAMS", stream, f"{after}-0")
        found = reply[0][1] if reply else []
        newest = _number_of(found[-1]) if found else newest
    if not found and after == int(newest or 0):
        return Changes(after)
    if not found or _number_of(found[0]) != after + 1:
        return Changes(int(newest or 0), lost=True)
    changes = [Change(fields[1].decode(), fields[3].decode()) for _, fields in found]
    return Changes(_number_of(found[-1]), tuple(dict.fromkeys(changes)))


def _number_of(entry: Any) -> int:
    return int(entry[0].split(b"-")[0])
