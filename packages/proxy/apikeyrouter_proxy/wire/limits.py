"""What reply headers tell a caller of its own limits, in OpenAI's names and its way to write durations.

Main entries: `limit_headers`, for every answer; `go_duration`. Requests and tokens are of any 60 seconds; `parallel`,
which OpenAI does not have, of what is under way. Law: these are the limits of our virtual key, never a provider's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from apikeyrouter.domain.components.tenant_limits import Standing

__all__ = ["go_duration", "limit_headers"]

Headers = list[tuple[bytes, bytes]]

_NAMES = {
    which: tuple([f"x-ratelimit-{what}-{which}".encode() for what in ("limit", "remaining", "reset")])
    for which in ("requests", "tokens", "parallel")
}


def limit_headers(standings: Iterable[Standing]) -> Headers:
    """Limit, rest, and the time until all of it is free."""
    headers: Headers = []
    for which, limit, remaining, reset_s in standings:
        of_limit, of_rest, of_reset = _NAMES[which]
        headers.append((of_limit, b"%d" % limit))
        headers.append((of_rest, b"%d" % remaining))
        if which != "parallel":
            headers.append((of_reset, go_duration(reset_s)))
    return headers


def go_duration(seconds: float) -> bytes:
    """`seconds`, rounded up to whole milliseconds, as Go writes durations: 0s, 17ms, 59.5s, 6m0s, 1h0m5s."""
    millis = max(0, math.ceil(seconds * 1000 - 1e-6))
    if 0 < millis < 1000:
        return b"%dms" % millis
    minutes, millis = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{millis / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return (f"{hours}h{text}" if hours else text).encode()
